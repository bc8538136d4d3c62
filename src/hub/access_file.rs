//! The file of the access list: `{"UID": {"GroupName": "...", "AuthKey": "32 hex digits"}}`.
//!
//! It is read whole or not at all, and replaced in one step: a crash leaves the old file or the new one.
//! Whoever changes it holds a lock on a file beside it, so that commands and a running concentrator do not
//! lose each other's changes.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, fchown};
use std::path::{Path, PathBuf};

use super::own_file;
use crate::limits::ACL_FILE_MAX;
use crate::router::access::{AccessEntry, AccessList};
use crate::wire::{AclItem, AuthKey, GroupName, Uid};

mod json;

use json::Node;

/// How many mistakes of a file are told; a file that is something else altogether has thousands.
const MISTAKES_MAX: usize = 20;

/// Why the file of the access list cannot be used.
#[derive(Debug)]
pub struct AccessFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub cause: AccessFileCause,
}

/// What is wrong with the file of the access list.
#[derive(Debug)]
pub enum AccessFileCause {
    /// It cannot be read or written.
    Io(io::Error),
    /// It was there, and is not any more.
    Gone,
    /// It is larger than any list can be.
    TooLarge,
    /// It is not JSON of the right shape; the text has line and column.
    Json(String),
    /// Objects of it are wrong, one sentence each.
    Objects(Vec<String>),
}

impl fmt::Display for AccessFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "access list {}: ", self.path.display())?;
        match &self.cause {
            AccessFileCause::Io(error) => error.fmt(f),
            AccessFileCause::Gone => f.write_str(
                "is gone; the list in force stays: put the file back, or write {} to let nobody in",
            ),
            AccessFileCause::TooLarge => write!(f, "is larger than {ACL_FILE_MAX} bytes"),
            AccessFileCause::Json(sentence) => f.write_str(sentence),
            AccessFileCause::Objects(sentences) => f.write_str(&sentences.join("; ")),
        }
    }
}

impl std::error::Error for AccessFileError {}

/// Reads the file; a missing one is the empty list.
pub fn load(path: &Path, known: impl Fn(&GroupName) -> bool) -> Result<AccessList, AccessFileError> {
    let fail = |cause| AccessFileError { path: path.to_path_buf(), cause };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(AccessList::default()),
        Err(error) => return Err(fail(AccessFileCause::Io(error))),
    };
    let mut bytes = Vec::new();
    let limit = ACL_FILE_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|error| fail(AccessFileCause::Io(error)))?;
    if bytes.len() > ACL_FILE_MAX {
        return Err(fail(AccessFileCause::TooLarge));
    }
    parse(&bytes, known).map_err(fail)
}

/// Replaces the file. When this returns, the list is on disk.
pub fn store(path: &Path, list: &AccessList) -> Result<(), AccessFileError> {
    let stored = lock(path).and_then(|_lock| replace(path, list));
    stored.map_err(|error| AccessFileError { path: path.to_path_buf(), cause: AccessFileCause::Io(error) })
}

/// Reads the file, lets `change` work on the list, and stores it; nobody else changes it meanwhile.
///
/// Nothing is stored if `change` fails.
pub fn edit<T, E: From<AccessFileError>>(
    path: &Path,
    known: impl Fn(&GroupName) -> bool,
    change: impl FnOnce(&mut AccessList) -> Result<T, E>,
) -> Result<T, E> {
    let io = |error| AccessFileError { path: path.to_path_buf(), cause: AccessFileCause::Io(error) };
    let _lock = lock(path).map_err(io)?;
    let mut list = load(path, known)?;
    let outcome = change(&mut list)?;
    replace(path, &list).map_err(io)?;
    Ok(outcome)
}

/// A key as it stands in files and bearer tokens: 32 hex digits in lower case.
pub fn key_to_hex(key: &AuthKey) -> String {
    key.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the bytes of the file; every wrong object gets its sentence, none shows a key.
pub fn parse(bytes: &[u8], known: impl Fn(&GroupName) -> bool) -> Result<AccessList, AccessFileCause> {
    // Only serde_json's syntax errors reach the user: they have a place and no text of the file.
    let root: Node = serde_json::from_slice(bytes)
        .map_err(|error| AccessFileCause::Json(format!("is not JSON: {error}")))?;
    let Node::Object(objects) = root else {
        let shape = "must be an object {\"UID\": {\"GroupName\": \"...\", \"AuthKey\": \"...\"}}";
        return Err(AccessFileCause::Json(shape.to_owned()));
    };
    let mut list = AccessList::default();
    let mut sentences = Vec::new();
    for (uid, fields) in objects {
        let added = read_object(&uid, fields)
            .and_then(|item| list.add(item, &known).map_err(|fault| fault.to_string()));
        if let Err(sentence) = added {
            let uid: String = uid.chars().take(64).collect();
            sentences.push(format!("object {uid:?}: {sentence}"));
        }
        if sentences.len() == MISTAKES_MAX {
            sentences.push("and perhaps more".to_owned());
            break;
        }
    }
    if sentences.is_empty() { Ok(list) } else { Err(AccessFileCause::Objects(sentences)) }
}

/// One object of the file.
fn read_object(uid: &str, fields: Node) -> Result<AclItem, String> {
    let uid = Uid::parse(uid).map_err(|error| format!("UID {error}"))?;
    let Node::Object(fields) = fields else {
        return Err("must be an object with GroupName and AuthKey".to_owned());
    };
    let (mut group, mut key) = (None, None);
    for (name, value) in fields {
        let slot = match name.as_str() {
            "GroupName" => &mut group,
            "AuthKey" => &mut key,
            _ => return Err(format!("`{}` is neither GroupName nor AuthKey", name.escape_debug())),
        };
        let Node::Text(text) = value else {
            return Err(format!("{name} must be a text"));
        };
        if slot.replace(text).is_some() {
            return Err(format!("{name} stands there twice"));
        }
    }
    let group = group.ok_or("GroupName is missing")?;
    let group =
        GroupName::parse(&group).map_err(|error| format!("GroupName `{}` {error}", group.escape_debug()))?;
    let key = key.ok_or("AuthKey is missing")?;
    let key = AuthKey::parse(&key).ok_or("AuthKey must be 32 hex digits")?;
    Ok(AclItem { group, uid, key })
}

/// The text of a list: sorted by UID, one line an object, the same bytes for the same list.
fn print(list: &AccessList) -> io::Result<String> {
    let mut entries: Vec<(&Uid, &AccessEntry)> = list.iter().collect();
    entries.sort_by_key(|(uid, _)| uid.as_str());
    let mut text = String::from("{");
    for (index, (uid, entry)) in entries.into_iter().enumerate() {
        text.push_str(if index == 0 { "\n  " } else { ",\n  " });
        text.push_str(&serde_json::to_string(uid.as_str())?);
        text.push_str(": {\"GroupName\": ");
        text.push_str(&serde_json::to_string(entry.group.as_str())?);
        text.push_str(", \"AuthKey\": \"");
        text.push_str(&key_to_hex(&entry.key));
        text.push_str("\"}");
    }
    text.push_str("\n}\n");
    Ok(text)
}

/// Writes beside the file, then renames: readers see the old list or the new one. What a crash leaves
/// beside it is replaced by the next writer, as the lock allows only one.
fn replace(path: &Path, list: &AccessList) -> io::Result<()> {
    let folder = parent(path);
    let temporary = beside(path, ".tmp");
    let mut file = own_file::create(&temporary)?;
    give_to_owner(&file, folder)?;
    file.write_all(print(list)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

/// Takes the lock of the file; it is given back when the value is dropped, or the process ends.
fn lock(path: &Path) -> io::Result<File> {
    let folder = parent(path);
    // As `run` makes the state folder: its content is nobody else's business.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let lock =
        own_file::open(&beside(path, ".lock"), OpenOptions::new().write(true).create(true).truncate(false))?;
    give_to_owner(&lock, folder)?;
    lock.lock()?;
    Ok(lock)
}

/// What root makes in the service's folder belongs to the service, which has to read it.
fn give_to_owner(file: &File, folder: &Path) -> io::Result<()> {
    let (owner, own) = (fs::metadata(folder)?, file.metadata()?);
    if own.uid() == owner.uid() {
        return Ok(());
    }
    match fchown(file, Some(owner.uid()), Some(owner.gid())) {
        // Only root can; another user who may write here keeps what is theirs.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        outcome => outcome,
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests;
