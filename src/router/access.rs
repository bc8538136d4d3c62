//! stand-in
use crate::wire::{AuthKey, GroupName, Uid};
use std::collections::HashMap;
/// x
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessEntry {
    /// x
    pub group: GroupName,
    /// x
    pub key: AuthKey,
}
/// x
#[derive(Debug, Clone, Default)]
pub struct AccessList(pub HashMap<Uid, AccessEntry>);
impl AccessList {
    /// x
    pub fn get(&self, uid: &Uid) -> Option<&AccessEntry> {
        self.0.get(uid)
    }
    /// x
    pub fn iter(&self) -> impl Iterator<Item = (&Uid, &AccessEntry)> {
        self.0.iter()
    }
}
