//! `device`: the access list from the command line.

use std::ffi::OsString;

use super::arguments::Arguments;
use super::site::fresh_key;
use super::{Failure, output};
use crate::hub::access_file::{self, AccessFileError, key_to_hex};
use crate::router::access::AccessFault;
use crate::service::config::{Config, nearest};
use crate::wire::{AclItem, AuthKey, GroupName, Uid};

pub(super) const SUMMARY: &str = "adds, removes, rotates and lists the objects of the access list";
pub(super) const HELP: &str = "\
Usage: iotsocketd device add UID --group GROUP [--config FILE]
       iotsocketd device remove UID [--config FILE]
       iotsocketd device rotate UID [--config FILE]
       iotsocketd device list [--config FILE]

Edits the access list; a running concentrator takes it up within two seconds.
  add     adds an object and prints its fresh key, once, as 32 hex digits
  remove  takes an object out; its session and tokens end
  rotate  gives an object a fresh key and prints it, once; its session and tokens end
  list    prints UID and group of every object, never a key

Options:
  --group GROUP  one of the configuration's groups
  --config FILE  the configuration [default: /etc/iotsocketd/iotsocketd.toml]

Example:
  iotsocketd device add pump-7 --group Devices
";

impl From<AccessFileError> for Failure {
    fn from(error: AccessFileError) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 2, &["config", "group"])?;
    let mut words = arguments.words.iter();
    let action = words.next().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let word = words.next();
    let group = arguments.option("group");
    if group.is_some() && action != "add" {
        return Err(Failure::Usage("`--group` belongs to `add`".to_owned()));
    }
    match (action.as_str(), word, group) {
        ("add", Some(uid), Some(group)) => add(&arguments.config()?, uid, group),
        ("add", Some(_), None) => Err(Failure::Usage("`add` needs `--group GROUP`".to_owned())),
        ("remove", Some(uid), _) => remove(&arguments.config()?, uid),
        ("rotate", Some(uid), _) => rotate(&arguments.config()?, uid),
        ("list", None, _) => list(&arguments.config()?),
        ("list", Some(_), _) => Err(Failure::Usage("`list` takes no UID".to_owned())),
        ("add" | "remove" | "rotate", None, _) => Err(Failure::Usage(format!("`{action}` needs a UID"))),
        _ => Err(Failure::Usage("device needs one of add, remove, rotate or list".to_owned())),
    }
}

fn add(config: &Config, uid: &OsString, group: &OsString) -> Result<(), Failure> {
    let item = AclItem { group: parse_group(config, group)?, uid: parse_uid(uid)?, key: fresh_key()? };
    access_file::edit(&config.access.file, known(config), |list| {
        list.add(item, known(config)).map_err(|fault| match fault {
            AccessFault::RepeatedUid(uid) => {
                Failure::Failed(format!("`{uid}` is in the access list already; `rotate` gives it a new key"))
            }
            fault => Failure::Failed(fault.to_string()),
        })
    })?;
    tell_key(&item.uid, &item.key)
}

fn remove(config: &Config, uid: &OsString) -> Result<(), Failure> {
    let uid = parse_uid(uid)?;
    access_file::edit(&config.access.file, known(config), |list| {
        list.remove(&uid).map(|_| ()).ok_or_else(|| unknown_uid(&uid))
    })
}

fn rotate(config: &Config, uid: &OsString) -> Result<(), Failure> {
    let (uid, key) = (parse_uid(uid)?, fresh_key()?);
    access_file::edit(&config.access.file, known(config), |list| {
        if list.rotate(&uid, key) { Ok(()) } else { Err(unknown_uid(&uid)) }
    })?;
    tell_key(&uid, &key)
}

fn list(config: &Config) -> Result<(), Failure> {
    let list = access_file::load(&config.access.file, known(config))?;
    let mut entries: Vec<_> = list.iter().collect();
    entries.sort_by_key(|(uid, _)| uid.as_str());
    entries.into_iter().try_for_each(|(uid, entry)| output::answer(&format!("{uid}\t{}", entry.group)))
}

/// Prints a fresh key. It is nowhere else to be read.
fn tell_key(uid: &Uid, key: &AuthKey) -> Result<(), Failure> {
    output::answer(&key_to_hex(key)).map_err(|_| {
        Failure::Failed(format!(
            "the key of `{uid}` is in force, but cannot be written here; `iotsocketd device rotate {uid}` gives it another"
        ))
    })
}

fn known(config: &Config) -> impl Fn(&GroupName) -> bool {
    |group| config.groups.contains_key(group)
}

fn parse_uid(word: &OsString) -> Result<Uid, Failure> {
    let text = word.to_str().ok_or_else(|| Failure::Failed("the UID is not UTF-8".to_owned()))?;
    let uid = Uid::parse(text)
        .map_err(|error| Failure::Failed(format!("UID `{}` {error}", text.escape_debug())))?;
    match uid.is_central() {
        true => Err(Failure::Failed(AccessFault::EmptyUid.to_string())),
        false => Ok(uid),
    }
}

fn parse_group(config: &Config, word: &OsString) -> Result<GroupName, Failure> {
    let text = word.to_string_lossy();
    let group = GroupName::parse(&text).ok().filter(|group| config.groups.contains_key(group));
    group.ok_or_else(|| {
        let meant = nearest(&text, config.groups.keys().map(GroupName::as_str));
        let hint = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        Failure::Failed(format!("group `{}` is not configured{hint}", text.escape_debug()))
    })
}

fn unknown_uid(uid: &Uid) -> Failure {
    Failure::Failed(format!("`{uid}` is not in the access list"))
}
