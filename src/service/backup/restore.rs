//! From a copy back to a state folder, or to one that only shows that the copy is good.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, lchown};
use std::path::{Path, PathBuf};

use super::ACCESS;
use crate::hub::access_file;
use crate::journal::backup::{self, Contents, Other};
use crate::service::archive::with_cause;
use crate::service::config::Config;
use crate::service::disk::Disk;
use crate::service::journal::{FOLDER, jump};
use crate::service::state::{ENVIRONMENT, LOCK};

/// What a copy holds that was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Good {
    /// Of the journal.
    pub journal: Contents,
    /// Objects of the access list.
    pub objects: usize,
    /// Whose state it is; empty if it does not say.
    pub environment: String,
}

/// A folder that goes when this does, unless it was given its name.
struct Scratch(Option<PathBuf>);

impl Scratch {
    /// An empty folder for its owner only. What an interrupted one left is taken away.
    fn new(path: PathBuf) -> io::Result<Self> {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(Some(path)))
    }

    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The next one takes it away.
            let _left = fs::remove_dir_all(path);
        }
    }
}

/// Reads all of a copy, from where it was written to, and compares its checksums; nothing is restored.
pub fn check(file: &Path) -> Result<Good, String> {
    let (folder, name) = split(file)?;
    let (journal, others) = backup::check(&mut Disk::uncached(&folder), &name)
        .map_err(|error| format!("{}: {}", file.display(), with_cause(&error)))?;
    good(journal, &others).map_err(|sentence| format!("{}: {sentence}", file.display()))
}

/// Restores a copy into a folder beside it, reads all of it, and takes the folder away again.
pub fn verify(file: &Path) -> Result<Good, String> {
    let (folder, name) = split(file)?;
    let scratch = Scratch::new(beside(file, ".verify"))
        // What it lies on may be read-only.
        .or_else(|_| {
            Scratch::new(std::env::temp_dir().join(format!("iotsocketd-verify-{}", std::process::id())))
        })
        .map_err(|error| format!("{}: no folder to restore into can be made: {error}", file.display()))?;
    let verified = backup::verify(&mut Disk::new(&folder), &name, &mut Disk::uncached(scratch.path()));
    let (journal, others) =
        verified.map_err(|error| format!("{}: {}", file.display(), with_cause(&error)))?;
    good(journal, &others).map_err(|sentence| format!("{}: {sentence}", file.display()))
}

/// Restores a copy as the state folder of this configuration, which is to be missing or empty.
pub fn restore(file: &Path, config: &Config) -> Result<Good, String> {
    let state_dir = &config.state_dir;
    let name = state_dir.display();
    let owner = match fs::read_dir(state_dir) {
        Ok(mut entries) => {
            if entries.next().is_none() {
                fs::metadata(state_dir).ok()
            } else {
                return Err(format!(
                    "state_dir {name}: is not empty; move away what is in it, or stop what runs on it"
                ));
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(format!("state_dir {name}: cannot be read: {error}")),
    };
    let failed = |error: io::Error| format!("state_dir {name}: cannot be made: {error}");
    let parent = state_dir.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed)?;
    let mut scratch = Scratch::new(beside(state_dir, ".restore")).map_err(failed)?;
    let (folder, copy) = split(file)?;
    let journal = scratch.path().join(FOLDER);
    DirBuilder::new().mode(0o700).create(&journal).map_err(failed)?;
    let restored = backup::restore(&mut Disk::new(&folder), &copy, &mut Disk::new(&journal));
    let (contents, others) =
        restored.map_err(|error| format!("{}: {}", file.display(), with_cause(&error)))?;
    let good = good(contents, &others).map_err(|sentence| format!("{}: {sentence}", file.display()))?;
    if !good.environment.is_empty() && good.environment != config.environment.name() {
        return Err(format!(
            "{}: is of environment \"{}\", the configuration says \"{}\"; restore it there, or take a copy of this one",
            file.display(),
            good.environment.escape_debug(),
            config.environment.name()
        ));
    }
    let outside = place_others(&others, scratch.path(), config)?;
    jump(&journal, config)?;
    write(&scratch.path().join(LOCK), b"").map_err(failed)?;
    if let Some(owner) = owner {
        give_to(scratch.path(), owner.uid(), owner.gid()).map_err(failed)?;
    }
    sync(scratch.path()).map_err(failed)?;
    // A list elsewhere first: a state without it would let nobody in, and it without a state harms nobody.
    if let Some((path, bytes)) = outside {
        write(&path, bytes)
            .map_err(|error| format!("access list {}: cannot be written: {error}", path.display()))?;
    }
    fs::rename(scratch.path(), state_dir).map_err(|error| match error.kind() {
        ErrorKind::ResourceBusy | ErrorKind::CrossesDevices => {
            format!("state_dir {name}: is where a medium is mounted; use a folder on that medium")
        }
        _ => failed(error),
    })?;
    scratch.0 = None;
    sync(parent).map_err(failed)?;
    Ok(good)
}

/// Puts the files beside the journal into the folder; what belongs elsewhere is given back with its place.
fn place_others<'a>(
    others: &'a [Other],
    folder: &Path,
    config: &Config,
) -> Result<Option<(PathBuf, &'a [u8])>, String> {
    let mut outside = None;
    for Other { name, bytes } in others {
        let path = match name.as_str() {
            ENVIRONMENT => folder.join(ENVIRONMENT),
            ACCESS => match config.access.file.strip_prefix(&config.state_dir) {
                Ok(inside) => folder.join(inside),
                Err(_) if config.access.file.symlink_metadata().is_ok() => {
                    return Err(format!(
                        "access list {}: exists already; move it away",
                        config.access.file.display()
                    ));
                }
                Err(_) => {
                    outside = Some((config.access.file.clone(), bytes.as_slice()));
                    continue;
                }
            },
            // Of a later version.
            _ => continue,
        };
        write(&path, bytes).map_err(|error| format!("{}: cannot be written: {error}", path.display()))?;
    }
    Ok(outside)
}

/// What is known of a copy whose bytes are all right.
fn good(journal: Contents, others: &[Other]) -> Result<Good, String> {
    let other = |wanted: &str| others.iter().find(|other| other.name == wanted);
    let objects = match other(ACCESS) {
        // Which groups there are is a matter of the configuration.
        Some(list) => access_file::parse(&list.bytes, |_| true)
            .map_err(|_| "the access list in it is none: take another copy".to_owned())?
            .len(),
        None => 0,
    };
    let environment = other(ENVIRONMENT).map(|mark| String::from_utf8_lossy(&mark.bytes).trim().to_owned());
    Ok(Good { journal, objects, environment: environment.unwrap_or_default() })
}

/// A path beside another one.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// The folder of a file, and its name in there.
fn split(file: &Path) -> Result<(PathBuf, String), String> {
    let folder = match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let name = file.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| format!("{}: is no name of a file in UTF-8", file.display()))?;
    Ok((folder, name.to_owned()))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives a folder and all that is in it to somebody; of a link the link itself, never what it leads to.
fn give_to(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let metadata = path.symlink_metadata()?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            give_to(&entry?.path(), uid, gid)?;
        }
    }
    if (metadata.uid(), metadata.gid()) == (uid, gid) { Ok(()) } else { lchown(path, Some(uid), Some(gid)) }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
