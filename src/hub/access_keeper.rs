//! Access lists from outside: checked as a whole, put on disk, then in force, one at a time.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::access_file::{self, AccessFileError};
use super::file_stamp::{Stamp, stamp};
use super::{Hub, lock};
use crate::router::access::{AccessList, AccessRefusal};
use crate::wire::{ACL_ITEM_LEN, AclItem, GroupName};

/// Why a list did not take effect. The one in force stays.
#[derive(Debug)]
pub enum ReplaceError {
    /// An item is wrong: who sent the list must act.
    Refused(AccessRefusal),
    /// An item has a group name or UID that is not UTF-8; its index.
    NotUtf8(usize),
    /// The list could not be put on disk.
    Storage(AccessFileError),
}

impl fmt::Display for ReplaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::NotUtf8(item) => write!(f, "item {item}: GroupName or UID is not UTF-8"),
            Self::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReplaceError {}

/// Keeps the access list's file and the list in force the same.
#[derive(Debug)]
pub struct AccessKeeper {
    hub: Arc<Hub>,
    path: Mutex<PathBuf>,
    /// One list at a time; so disk work never takes more than one thread, whatever comes in.
    turn: smol::lock::Mutex<()>,
    seen: Mutex<Stamp>,
}

impl AccessKeeper {
    /// A keeper of this file, whose content is in force already.
    pub fn new(hub: Arc<Hub>, path: PathBuf) -> Self {
        let seen = stamp(&path);
        Self { hub, path: Mutex::new(path), turn: smol::lock::Mutex::new(()), seen: Mutex::new(seen) }
    }

    /// The file is another one now; its content is in force already.
    pub fn use_file(&self, path: PathBuf) {
        *lock(&self.seen) = stamp(&path);
        *lock(&self.path) = path;
    }

    /// Takes a list as TCP brings it; the number of objects in it.
    pub async fn replace_wire(&self, items: Vec<[u8; ACL_ITEM_LEN]>) -> Result<usize, ReplaceError> {
        let decoded: Result<Vec<_>, _> = items
            .iter()
            .enumerate()
            .map(|(index, item)| AclItem::decode(item).map_err(|_| ReplaceError::NotUtf8(index)))
            .collect();
        self.replace(decoded?).await
    }

    /// Takes a list; when this returns it is on disk and in force. The number of objects in it.
    pub async fn replace(&self, items: Vec<AclItem>) -> Result<usize, ReplaceError> {
        let _turn = self.turn.lock().await;
        let groups = self.groups();
        let known = |group: &GroupName| groups.contains(group);
        let list = AccessList::build(items, known).map_err(ReplaceError::Refused)?;
        let path = lock(&self.path).clone();
        let stored = smol::unblock(move || {
            let stored = access_file::store(&path, &list);
            (stored.map(|()| list), stamp(&path))
        });
        let (stored, seen) = stored.await;
        let list = stored.map_err(ReplaceError::Storage)?;
        *lock(&self.seen) = seen;
        let count = list.len();
        self.hub.replace_access(list);
        Ok(count)
    }

    /// Takes up the file if somebody changed it; to be called every second. `Some`: how many objects it has now.
    /// A file that cannot be used changes nothing and is told once for each change.
    pub async fn reload_if_changed(&self) -> Result<Option<usize>, AccessFileError> {
        let now = stamp(&lock(&self.path));
        if *lock(&self.seen) == now {
            return Ok(None);
        }
        let _turn = self.turn.lock().await;
        if std::mem::replace(&mut *lock(&self.seen), now) == now {
            return Ok(None);
        }
        let groups = self.groups();
        let path = lock(&self.path).clone();
        let list = smol::unblock(move || access_file::load(&path, |group| groups.contains(group))).await?;
        let count = list.len();
        if self.hub.with_router(|router| *router.access() == list) {
            return Ok(None);
        }
        self.hub.replace_access(list);
        Ok(Some(count))
    }

    fn groups(&self) -> Vec<GroupName> {
        self.hub.with_router(|router| router.groups().collect())
    }
}
