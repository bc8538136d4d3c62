//! The access list as the central uploads it over TCP: u32 count, then count × (group name 16, UID 16, auth key 16).

use super::{AuthKey, GroupName, KEY_LEN, NAME_LEN, Uid, WireError, array_at};

/// Bytes of the count.
pub const ACL_COUNT_LEN: usize = 4;
/// Bytes of one item.
pub const ACL_ITEM_LEN: usize = 2 * NAME_LEN + KEY_LEN;

/// One object of the access list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AclItem {
    /// The group whose rights the object has.
    pub group: GroupName,
    /// The object.
    pub uid: Uid,
    /// Its secret.
    pub key: AuthKey,
}

impl AclItem {
    /// Reads one item.
    pub fn decode(bytes: &[u8; ACL_ITEM_LEN]) -> Result<Self, WireError> {
        Ok(Self {
            group: GroupName::from_wire(array_at(bytes, 0).unwrap_or_default())?,
            uid: Uid::from_wire(array_at(bytes, NAME_LEN).unwrap_or_default())?,
            key: AuthKey(array_at(bytes, 2 * NAME_LEN).unwrap_or_default()),
        })
    }

    /// Writes one item.
    pub fn encode(&self) -> [u8; ACL_ITEM_LEN] {
        let mut bytes = [0; ACL_ITEM_LEN];
        let (group, rest) = bytes.split_at_mut(NAME_LEN);
        let (uid, key) = rest.split_at_mut(NAME_LEN);
        group.copy_from_slice(&self.group.to_wire());
        uid.copy_from_slice(&self.uid.to_wire());
        key.copy_from_slice(&self.key.0);
        bytes
    }
}

/// Reads how many items follow. The number is the sender's word: reserve nothing by it.
pub fn decode_acl_count(bytes: [u8; ACL_COUNT_LEN]) -> u32 {
    u32::from_be_bytes(bytes)
}

/// Writes how many items follow.
pub fn encode_acl_count(count: u32) -> [u8; ACL_COUNT_LEN] {
    count.to_be_bytes()
}
