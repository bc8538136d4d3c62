//! Who calls: bearer tokens, their rights, their groups.

use std::fmt;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use crate::net::AllowFrom;
use crate::wire::{AuthKey, GroupName};

/// The longest bearer token that is looked at, in bytes.
const TOKEN_MAX: usize = 256;

/// What a key may do; none implies another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Look.
    Read,
    /// Call objects.
    Request,
    /// Post messages of partner networks.
    Ingest,
    /// Replace the access list, and operations.
    Admin,
}

impl Right {
    /// Every right.
    pub const ALL: [Self; 4] = [Self::Read, Self::Request, Self::Ingest, Self::Admin];

    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Request => "request",
            Self::Ingest => "ingest",
            Self::Admin => "admin",
        }
    }
}

/// One key of the API.
#[derive(Clone)]
pub struct ApiKey {
    /// What logs call it.
    pub name: String,
    /// SHA-256 of the token's text in lower case.
    pub sha256: [u8; 32],
    /// What it may do.
    pub rights: Vec<Right>,
    /// The groups whose objects it sees; empty: all.
    pub groups: Vec<GroupName>,
    /// Where it may be used from.
    pub allow_from: AllowFrom,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("name", &self.name)
            .field("rights", &self.rights)
            .field("groups", &self.groups)
            .finish_non_exhaustive()
    }
}

impl ApiKey {
    /// Every right, every group, from everywhere: the central's key, and whoever may open the local socket.
    pub fn unlimited(name: &str, sha256: [u8; 32]) -> Self {
        Self {
            name: name.to_owned(),
            sha256,
            rights: Right::ALL.to_vec(),
            groups: Vec::new(),
            allow_from: AllowFrom::default(),
        }
    }

    /// Whether the key sees objects of this group.
    pub fn sees(&self, group: GroupName) -> bool {
        self.groups.is_empty() || self.groups.contains(&group)
    }
}

/// Every key that is accepted. Keys of objects are not among them.
#[derive(Debug, Clone)]
pub struct Keys(Vec<Arc<ApiKey>>);

impl Keys {
    /// The central's key and these.
    pub fn new(central: &AuthKey, keys: impl IntoIterator<Item = ApiKey>) -> Self {
        let text: String = central.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let central = ApiKey::unlimited("central", sha256(text.as_bytes()));
        Self(std::iter::once(central).chain(keys).map(Arc::new).collect())
    }

    /// The key of an `Authorization` header's value. Takes the same time for every token of one length.
    pub fn find(&self, authorization: &[u8]) -> Option<&Arc<ApiKey>> {
        let token = bearer(authorization)?;
        let presented = sha256(&token.to_ascii_lowercase());
        let mut found = None;
        // All are compared: how many keys there are may be seen, which one matched may not.
        for key in &self.0 {
            if bool::from(presented.ct_eq(&key.sha256)) {
                found = Some(key);
            }
        }
        found
    }
}

fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = authorization.split_at_checked("bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty() && token.len() <= TOKEN_MAX)
        .then_some(token)
}

pub(super) fn sha256(text: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let reader =
            ApiKey { rights: vec![Right::Read], ..ApiKey::unlimited("grafana", sha256(b"t0ken-ab")) };
        Keys::new(&AuthKey::parse("20112233445566778899aabbccddeeff").unwrap(), [reader])
    }

    fn name(authorization: &str) -> Option<String> {
        keys().find(authorization.as_bytes()).map(|key| key.name.clone())
    }

    #[test]
    fn the_central_s_key_is_accepted_in_either_case() {
        for token in ["20112233445566778899aabbccddeeff", "20112233445566778899AABBccDDeeff"] {
            assert_eq!(name(&format!("Bearer {token}")).as_deref(), Some("central"));
            assert_eq!(name(&format!("bearer   {token} ")).as_deref(), Some("central"));
        }
    }

    #[test]
    fn other_keys_are_known_by_their_hash() {
        assert_eq!(name("Bearer t0ken-AB").as_deref(), Some("grafana"));
        assert_eq!(keys().find(b"Bearer t0ken-ab").unwrap().rights, [Right::Read]);
    }

    #[test]
    fn anything_else_is_nobody() {
        let long = format!("Bearer {}", "a".repeat(TOKEN_MAX + 1));
        for text in
            ["", "Bearer", "Bearer ", "Basic dDprCg==", "Bearer t0ken-a", "t0ken-ab", "Bearert0ken-ab", &long]
        {
            assert_eq!(name(text), None, "{text}");
        }
        assert!(keys().find(b"Bearer \xff\xfe").is_none());
    }

    #[test]
    fn a_key_without_groups_sees_all_and_any_other_its_own() {
        let [a, b] = ["a", "b"].map(|name| GroupName::parse(name).unwrap());
        let mut key = ApiKey::unlimited("x", [0; 32]);
        assert!(key.sees(a) && key.sees(b));
        key.groups = vec![a];
        assert!(key.sees(a) && !key.sees(b));
    }

    #[test]
    fn hashes_stay_out_of_debug_output() {
        assert!(!format!("{:?}", keys()).contains("sha256"));
    }
}
