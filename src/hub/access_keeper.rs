//! Access lists from outside: checked as a whole, put on disk, then in force, one at a time.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::access_file::{self, AccessFileCause, AccessFileError};
use super::alerts::Rule;
use super::file_stamp::{Stamp, stamp};
use super::{Hub, lock};
use crate::router::access::{AccessList, AccessRefusal};
use crate::wire::{ACL_ITEM_LEN, AclItem, GroupName};

/// Ways on which a list comes, for the audit log.
const FILE: &str = "file";
const TCP: &str = "tcp";

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
    /// The file could not be read. That may pass and leave no trace on the file, so it is tried again.
    is_unread: AtomicBool,
}

/// A file that was read and is not in force yet.
#[derive(Debug)]
pub struct NextFile<'a> {
    keeper: &'a AccessKeeper,
    path: PathBuf,
    seen: Stamp,
    list: AccessList,
    _turn: smol::lock::MutexGuard<'a, ()>,
}

impl NextFile<'_> {
    /// From now on this file and what it says.
    pub fn put_in_force(self) {
        *lock(&self.keeper.seen) = self.seen;
        *lock(&self.keeper.path) = self.path;
        self.keeper.is_well();
        if self.keeper.hub.with_router(|router| *router.access() != self.list) {
            self.keeper.hub.replace_access(self.list, FILE);
        }
    }
}

impl AccessKeeper {
    /// A keeper of this file, whose content is in force already; `seen` is its stamp from before it was read.
    pub fn new(hub: Arc<Hub>, path: PathBuf, seen: Stamp) -> Self {
        Self {
            hub,
            path: Mutex::new(path),
            turn: smol::lock::Mutex::new(()),
            seen: Mutex::new(seen),
            is_unread: AtomicBool::new(false),
        }
    }

    /// Where the list is.
    pub fn path(&self) -> PathBuf {
        lock(&self.path).clone()
    }

    /// Reads the file that is to be used from now on, which may be the same; waits for a list that is under way.
    /// Until what it gives is dropped, no other list takes effect. Not for tasks: it blocks.
    pub fn read_next(
        &self,
        path: &Path,
        known: impl Fn(&GroupName) -> bool,
    ) -> Result<NextFile<'_>, AccessFileError> {
        let turn = self.turn.lock_blocking();
        let seen = stamp(path);
        let list = access_file::load(path, known)?;
        Ok(NextFile { keeper: self, path: path.to_owned(), seen, list, _turn: turn })
    }

    /// Takes a list as TCP brings it; the number of objects in it.
    pub async fn replace_wire(&self, items: Vec<[u8; ACL_ITEM_LEN]>) -> Result<usize, ReplaceError> {
        let decoded: Result<Vec<_>, _> = items
            .iter()
            .enumerate()
            .map(|(index, item)| AclItem::decode(item).map_err(|_| ReplaceError::NotUtf8(index)))
            .collect();
        self.replace(decoded?, TCP).await
    }

    /// Takes a list that came this way; when this returns it is on disk and in force. The number of objects in it.
    pub async fn replace(&self, items: Vec<AclItem>, by: &str) -> Result<usize, ReplaceError> {
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
        self.is_well();
        let count = list.len();
        self.hub.replace_access(list, by);
        // What ended with the old list must not come back with a restart. A journal that takes nothing keeps nobody out.
        let _never = self.hub.all_recorded().await;
        Ok(count)
    }

    /// Takes up the file if somebody changed it; to be called every second. `Some`: how many objects it has now.
    /// A file that cannot be used changes nothing, is an alert until it can, and is told once for each change.
    pub async fn reload_if_changed(&self) -> Result<Option<usize>, AccessFileError> {
        let is_new = |seen: Stamp, now| seen != now || self.is_unread.load(Ordering::Relaxed);
        let now = stamp(&lock(&self.path));
        if !is_new(*lock(&self.seen), now) {
            return Ok(None);
        }
        let _turn = self.turn.lock().await;
        let before = std::mem::replace(&mut *lock(&self.seen), now);
        if !is_new(before, now) {
            return Ok(None);
        }
        let list = match self.read(now).await {
            Ok(list) => list,
            Err(error) => {
                let sentence = format!("the list before stays in force until this is mended: {error}");
                self.hub.alerts.raise(Rule::AccessList, "", sentence);
                let is_unread = matches!(error.cause, AccessFileCause::Io(_));
                let was_unread = self.is_unread.swap(is_unread, Ordering::Relaxed);
                let is_told = before == now && is_unread && was_unread;
                return if is_told { Ok(None) } else { Err(error) };
            }
        };
        self.is_well();
        if self.hub.with_router(|router| *router.access() == list) {
            return Ok(None);
        }
        let count = list.len();
        self.hub.replace_access(list, FILE);
        let _never = self.hub.all_recorded().await;
        Ok(Some(count))
    }

    /// Reads the file, which was like this just now.
    async fn read(&self, now: Stamp) -> Result<AccessList, AccessFileError> {
        let groups = self.groups();
        let path = lock(&self.path).clone();
        let load = {
            let path = path.clone();
            move || access_file::load(&path, |group| groups.contains(group))
        };
        let list = smol::unblock(load).await?;
        // That nobody is let in any more is said by an empty list, not by a file that got lost.
        let is_gone = now.is_none() && list.is_empty();
        if is_gone && self.hub.with_router(|router| *router.access() != list) {
            return Err(AccessFileError { path, cause: AccessFileCause::Gone });
        }
        Ok(list)
    }

    /// The file and the list in force are the same.
    fn is_well(&self) {
        self.is_unread.store(false, Ordering::Relaxed);
        self.hub.alerts.clear(Rule::AccessList, "");
    }

    fn groups(&self) -> Vec<GroupName> {
        self.hub.with_router(|router| router.groups().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::pin::pin;
    use std::time::Duration;

    use smol::future::{block_on, poll_once};

    use super::*;
    use crate::hub::testing;
    use crate::net::AllowFrom;
    use crate::router::{Group, Settings};
    use crate::wire::{AuthKey, KEY_LEN, Uid};

    fn hub(group: GroupName) -> Arc<Hub> {
        let rights = Group {
            telemetry: false,
            token_ttl: Duration::from_secs(60),
            validate: false,
            max_payload: 100,
            rate: 0,
            allow_from: AllowFrom::default(),
        };
        let groups = HashMap::from([(group, rights)]);
        let settings = Settings { groups, ..testing::settings() };
        testing::hub(settings, AccessList::default())
    }

    #[test]
    fn a_list_that_comes_during_a_reload_is_not_lost() {
        let group = GroupName::parse("Devices").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acl.json");
        let hub = hub(group);
        let keeper = AccessKeeper::new(Arc::clone(&hub), path.clone(), stamp(&path));
        let item = AclItem { group, uid: Uid::parse("pump").unwrap(), key: AuthKey([7; KEY_LEN]) };

        let next = keeper.read_next(&path, |known| *known == group).unwrap();
        let mut replaced = pin!(keeper.replace(vec![item], TCP));
        assert!(block_on(poll_once(&mut replaced)).is_none(), "its turn is to come");
        next.put_in_force();
        assert_eq!(block_on(replaced).unwrap(), 1);
        assert_eq!(hub.with_router(|router| router.access().len()), 1);
        assert!(path.exists() && block_on(keeper.reload_if_changed()).unwrap().is_none());
    }

    #[test]
    fn a_change_between_reading_and_use_is_taken_up() {
        let group = GroupName::parse("Devices").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acl.json");
        let keeper = AccessKeeper::new(hub(group), path.clone(), stamp(&path));
        let next = keeper.read_next(&path, |known| *known == group).unwrap();
        let key = "8f3c1d5e7a9b0c2d4e6f8091a2b3c4d5";
        std::fs::write(&path, format!(r#"{{"pump": {{"GroupName": "Devices", "AuthKey": "{key}"}}}}"#))
            .unwrap();
        next.put_in_force();
        assert_eq!(block_on(keeper.reload_if_changed()).unwrap(), Some(1));
    }
}
