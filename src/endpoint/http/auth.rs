//! Who calls: bearer tokens, their rights, their groups.

use std::fmt;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use super::error::{ApiError, Cause};
use crate::net::AllowFrom;
use crate::wire::{AuthKey, GroupName};

/// The longest bearer token that is looked at, in bytes.
const TOKEN_MAX: usize = 256;
/// What a token begins with that says which environment it was made for: `iotsocketd-staging-` and digits.
const MARK: &str = "iotsocketd-";
/// Bytes of chance in such a token.
const RANDOM_LEN: usize = 32;
/// The longest name of an environment that is looked at, in bytes.
const ENVIRONMENT_MAX: usize = 16;

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
pub struct Keys {
    environment: &'static str,
    all: Vec<Arc<ApiKey>>,
}

impl Keys {
    /// The central's key and these, in an environment of this name.
    pub fn new(environment: &'static str, central: &AuthKey, keys: impl IntoIterator<Item = ApiKey>) -> Self {
        let central = ApiKey::unlimited("central", sha256(hex(&central.0).as_bytes()));
        Self { environment, all: std::iter::once(central).chain(keys).map(Arc::new).collect() }
    }

    /// The key of an `Authorization` header's value. Takes the same time for every token of one length.
    ///
    /// A token that is marked for another environment is refused whatever is configured: a configuration may have been
    /// copied. The refusal depends on the text of the token alone, so it tells nothing of the keys.
    pub fn find(&self, authorization: &[u8]) -> Result<Option<&Arc<ApiKey>>, ApiError> {
        let Some(token) = bearer(authorization) else { return Ok(None) };
        let token = token.to_ascii_lowercase();
        if let Some(theirs) = environment_of(&token).filter(|theirs| *theirs != self.environment) {
            let sentence = format!(
                "this API key was made for environment \"{theirs}\", and this concentrator is of \"{}\": use a key that was made for it",
                self.environment
            );
            return Err(ApiError::new(Cause::Key, 401, sentence).with_header("www-authenticate", "Bearer"));
        }
        let presented = sha256(&token);
        let mut found = None;
        // All are compared: how many keys there are may be seen, which one matched may not.
        for key in &self.all {
            if bool::from(presented.ct_eq(&key.sha256)) {
                found = Some(key);
            }
        }
        Ok(found)
    }
}

/// A token for an environment of this name, and what the configuration has of it: SHA-256 as hex digits.
pub fn make_token(environment: &str, random: &[u8; RANDOM_LEN]) -> (String, String) {
    let token = format!("{MARK}{environment}-{}", hex(random));
    let hash = hex(&sha256(token.as_bytes()));
    (token, hash)
}

/// The environment that a token in lower case is marked for. One that was made elsewhere has no mark, and belongs anywhere.
fn environment_of(token: &[u8]) -> Option<&str> {
    let (environment, digits) = str::from_utf8(token).ok()?.strip_prefix(MARK)?.split_once('-')?;
    let is_word = (1..=ENVIRONMENT_MAX).contains(&environment.len())
        && environment.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_whole = digits.len() == 2 * RANDOM_LEN && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_word && is_whole).then_some(environment)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
        Keys::new("test", &AuthKey::parse("20112233445566778899aabbccddeeff").unwrap(), [reader])
    }

    fn name(authorization: &str) -> Option<String> {
        keys().find(authorization.as_bytes()).unwrap().map(|key| key.name.clone())
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
        assert_eq!(keys().find(b"Bearer t0ken-ab").unwrap().unwrap().rights, [Right::Read]);
    }

    #[test]
    fn anything_else_is_nobody() {
        let long = format!("Bearer {}", "a".repeat(TOKEN_MAX + 1));
        for text in
            ["", "Bearer", "Bearer ", "Basic dDprCg==", "Bearer t0ken-a", "t0ken-ab", "Bearert0ken-ab", &long]
        {
            assert_eq!(name(text), None, "{text}");
        }
        assert!(keys().find(b"Bearer \xff\xfe").unwrap().is_none());
    }

    #[test]
    fn a_key_of_another_environment_is_told_so_though_it_is_configured() {
        let random = [0xab; RANDOM_LEN];
        let both = ["test", "staging"].map(|environment| {
            let (token, _) = make_token(environment, &random);
            (ApiKey::unlimited(environment, sha256(token.as_bytes())), format!("Bearer {token}"))
        });
        let [(ours, our_token), (theirs, their_token)] = both;
        let central = AuthKey::parse("20112233445566778899aabbccddeeff").unwrap();
        let keys = Keys::new("test", &central, [ours, theirs]);
        assert_eq!(keys.find(our_token.as_bytes()).unwrap().unwrap().name, "test");
        for token in [&their_token, &their_token.to_uppercase()] {
            let refused = keys.find(token.as_bytes()).unwrap_err();
            assert_eq!((refused.status, refused.cause), (401, Cause::Key));
            assert!(refused.sentence.contains("\"staging\"") && refused.sentence.contains("\"test\""));
            assert!(!refused.sentence.contains("abab"), "{}", refused.sentence);
        }
        // What is no whole token with a mark is just unknown.
        let long = their_token.replace("staging", &"s".repeat(ENVIRONMENT_MAX + 1));
        for text in [&their_token[..their_token.len() - 1], &their_token.replace("staging", "a b"), &long] {
            assert!(keys.find(text.as_bytes()).unwrap().is_none(), "{text}");
        }
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
