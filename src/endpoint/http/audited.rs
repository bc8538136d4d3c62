//! What of the API's use is in the audit log: every key, every refusal for want of a key or a right, and what operators do
//! over the maintenance socket.

use super::api::{Api, Decision, Head, Source};
use super::auth::ApiKey;
use super::error::{ApiError, Cause};
use crate::hub::auditing::{Deed, What};

/// Bytes of a path that are recorded.
const PATH_MAX: usize = 64;

impl Api {
    /// Records what a request's head led to.
    pub(super) fn audit(
        &self,
        head: &Head<'_>,
        source: Source,
        key: Option<&ApiKey>,
        outcome: &Result<Decision, ApiError>,
    ) {
        let Source::Network(address) = source else {
            if let Ok(Decision::Act(_)) = outcome {
                self.audit_operator(head.method, head.path);
            }
            return;
        };
        let limited = key.is_some_and(|key| !key.groups.is_empty());
        let refused = outcome.as_ref().err().map(|error| (error.cause, error.sentence.as_ref()));
        let path = plain(head.path);
        let used = format!("{} {path}", head.method);
        let (what, detail) = match (key, refused) {
            (Some(_), None) => (What::KeyUsed, used.as_str()),
            (Some(_), Some((Cause::SourceNetwork | Cause::Right, why))) => (What::KeyRefused, why),
            (Some(_), Some((Cause::Object, why))) if limited => (What::KeyRefused, why),
            (None, Some((Cause::SourceNetwork | Cause::Key, why))) => (What::Refused, why),
            _ => return,
        };
        let who = key.map_or("", |key| &key.name);
        self.backend.audit(Deed { what, who, uid: None, from: Some(address.to_canonical()), detail });
    }

    /// Records that a key was used for an object that it may not see.
    pub(super) fn audit_unseen(&self, key: &ApiKey) {
        let detail = "an object of a group that this key does not see";
        self.backend.audit(Deed { who: &key.name, ..Deed::own(What::KeyRefused, detail) });
    }

    /// Records what was asked for over the maintenance socket.
    pub fn audit_operator(&self, method: &str, path: &str) {
        let detail = format!("{method} {}", plain(path));
        self.backend.audit(Deed::own(What::Operator, &detail));
    }
}

/// The start of a path, without what nobody should read in a log.
fn plain(path: &str) -> String {
    path.chars().take(PATH_MAX).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
