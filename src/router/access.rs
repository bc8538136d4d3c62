//! The access list: which objects exist, in which group, with which key.
//!
//! A list replaces the one in force as a whole, or not at all; [`AccessRefusal`] says why not.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use crate::limits::ACL_ITEMS_MAX;
use crate::wire::{AclItem, AuthKey, GroupName, Uid};

/// What the access list says of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessEntry {
    /// Whose rights it has.
    pub group: GroupName,
    /// Its secret.
    pub key: AuthKey,
}

/// The access list: at most [`ACL_ITEMS_MAX`] objects, none of them the central.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessList {
    entries: BTreeMap<Uid, AccessEntry>,
}

/// Objects whose keys everybody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeakObjects {
    /// How many.
    pub count: usize,
    /// The first of them.
    pub first: Option<Uid>,
}

/// Why a list is refused: the item (counted from 0) and what is wrong with it, never its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessRefusal {
    /// Index of the item.
    pub item: usize,
    /// What is wrong with it.
    pub fault: AccessFault,
}

/// What is wrong with one item of an access list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessFault {
    /// The group is not configured.
    UnknownGroup(GroupName),
    /// The empty UID is the central's.
    EmptyUid,
    /// Another item has the same UID.
    RepeatedUid(Uid),
    /// The list is full.
    TooMany,
}

impl AccessFault {
    /// The field that is wrong, as the specification calls it; `None` if it is the list.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::UnknownGroup(_) => Some("GroupName"),
            Self::EmptyUid | Self::RepeatedUid(_) => Some("UID"),
            Self::TooMany => None,
        }
    }
}

impl fmt::Display for AccessFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownGroup(group) => write!(f, "GroupName `{group}` is not a configured group"),
            Self::EmptyUid => f.write_str("UID `` is the central's, no object can have it"),
            Self::RepeatedUid(uid) => write!(f, "UID `{uid}` stands in the list twice"),
            Self::TooMany => write!(f, "the list has more than {ACL_ITEMS_MAX} items"),
        }
    }
}

impl std::error::Error for AccessFault {}

impl fmt::Display for AccessRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            AccessFault::TooMany => self.fault.fmt(f),
            fault => write!(f, "item {}: {fault}", self.item),
        }
    }
}

impl std::error::Error for AccessRefusal {}

impl AccessList {
    /// Builds a list of items whose groups are all `known`, stopping at the first that is refused.
    pub fn build(
        items: impl IntoIterator<Item = AclItem>,
        known: impl Fn(&GroupName) -> bool,
    ) -> Result<Self, AccessRefusal> {
        let mut list = Self::default();
        for (item, entry) in items.into_iter().enumerate() {
            list.add(entry, &known).map_err(|fault| AccessRefusal { item, fault })?;
        }
        Ok(list)
    }

    /// Adds one object that is not in the list yet.
    pub fn add(&mut self, item: AclItem, known: impl Fn(&GroupName) -> bool) -> Result<(), AccessFault> {
        if self.entries.len() >= ACL_ITEMS_MAX {
            return Err(AccessFault::TooMany);
        }
        if item.uid.is_central() {
            return Err(AccessFault::EmptyUid);
        }
        if !known(&item.group) {
            return Err(AccessFault::UnknownGroup(item.group));
        }
        if self.entries.contains_key(&item.uid) {
            return Err(AccessFault::RepeatedUid(item.uid));
        }
        self.entries.insert(item.uid, AccessEntry { group: item.group, key: item.key });
        Ok(())
    }

    /// Takes an object out of the list.
    pub fn remove(&mut self, uid: &Uid) -> Option<AccessEntry> {
        self.entries.remove(uid)
    }

    /// Gives an object of the list another key; `false` if it is not in the list.
    pub fn rotate(&mut self, uid: &Uid, key: AuthKey) -> bool {
        match self.entries.get_mut(uid) {
            Some(entry) => {
                entry.key = key;
                true
            }
            None => false,
        }
    }

    /// What the list says of an object.
    pub fn get(&self, uid: &Uid) -> Option<&AccessEntry> {
        self.entries.get(uid)
    }

    /// Every object, in an order that depends on nothing but the UIDs.
    pub fn iter(&self) -> impl Iterator<Item = (&Uid, &AccessEntry)> {
        self.entries.iter()
    }

    /// The objects from a UID on, in order.
    pub fn range(&self, start: Bound<Uid>) -> impl Iterator<Item = (&Uid, &AccessEntry)> {
        self.entries.range((start, Bound::Unbounded))
    }

    /// The objects whose keys everybody knows.
    pub fn weak_objects(&self) -> WeakObjects {
        let mut weak = self.iter().filter(|(_, entry)| entry.key.is_weak()).map(|(uid, _)| *uid);
        let first = weak.next();
        WeakObjects { count: weak.count() + usize::from(first.is_some()), first }
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(uid: &str, group: &str) -> AclItem {
        AclItem {
            group: GroupName::parse(group).unwrap(),
            uid: Uid::parse(uid).unwrap(),
            key: AuthKey([0x5e; 16]),
        }
    }

    fn known(group: &GroupName) -> bool {
        group.as_str() == "Devices"
    }

    fn refusal(items: &[AclItem]) -> String {
        AccessList::build(items.iter().copied(), known).unwrap_err().to_string()
    }

    #[test]
    fn a_list_knows_its_objects() {
        let list = AccessList::build([item("b", "Devices"), item("a", "Devices")], known).unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(list.get(&Uid::parse("a").unwrap()).unwrap().group.as_str(), "Devices");
        assert_eq!(list.get(&Uid::parse("c").unwrap()), None);
        assert!(AccessList::build([], known).unwrap().is_empty());
    }

    #[test]
    fn refusals_name_item_field_and_value_and_never_the_key() {
        let good = item("a", "Devices");
        let unknown = refusal(&[good, item("b", "Nobody")]);
        assert_eq!(unknown, "item 1: GroupName `Nobody` is not a configured group");
        assert_eq!(refusal(&[item("", "Devices")]), "item 0: UID `` is the central's, no object can have it");
        assert_eq!(refusal(&[good, good]), "item 1: UID `a` stands in the list twice");
        assert!(!format!("{:?}", item("a", "Devices")).contains("5e"));
        assert_eq!(AccessFault::EmptyUid.field(), Some("UID"));
        assert_eq!(AccessFault::UnknownGroup(good.group).field(), Some("GroupName"));
    }

    #[test]
    fn padding_does_not_make_another_uid() {
        assert_eq!(
            refusal(&[item("a", "Devices"), item("\0a", "Devices")]),
            "item 1: UID `a` stands in the list twice"
        );
        assert!(refusal(&[item("\0\0", "Devices")]).contains("central"));
    }

    #[test]
    fn twenty_thousand_items_fit_and_one_more_does_not() {
        let items = |count: usize| (0..count).map(|number| item(&format!("{number}"), "Devices"));
        assert_eq!(AccessList::build(items(ACL_ITEMS_MAX), known).unwrap().len(), ACL_ITEMS_MAX);
        let refused = AccessList::build(items(ACL_ITEMS_MAX + 1), known).unwrap_err();
        assert_eq!(refused, AccessRefusal { item: ACL_ITEMS_MAX, fault: AccessFault::TooMany });
        assert_eq!(refused.to_string(), "the list has more than 20000 items");
    }

    #[test]
    fn keys_are_rotated_and_objects_removed() {
        let mut list = AccessList::build([item("a", "Devices")], known).unwrap();
        let uid = Uid::parse("a").unwrap();
        assert!(list.rotate(&uid, AuthKey([1; 16])));
        assert_eq!(list.get(&uid).unwrap().key, AuthKey([1; 16]));
        assert!(list.remove(&uid).is_some());
        assert!(list.remove(&uid).is_none());
        assert!(!list.rotate(&uid, AuthKey([2; 16])));
    }
}
