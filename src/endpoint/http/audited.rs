//! What of the API's use is in the audit log: every key, every refusal for want of a key or a right, and what operators do
//! over the maintenance socket.

use std::borrow::Cow;

use super::api::{Api, Awaited, Decision, Expected, Head, Source};
use super::auth::ApiKey;
use super::error::{ApiError, Cause};
use super::ingest::Visit;
use super::routes::Route;
use crate::hub::auditing::{Deed, What};

/// Bytes of a path that are recorded.
const PATH_MAX: usize = 64;

impl Api {
    /// Records what a request's head led to.
    pub(super) fn audit(
        &self,
        head: &Head<'_>,
        source: Source,
        route: Option<Route<'_>>,
        key: Option<&ApiKey>,
        outcome: &Result<Decision, ApiError>,
    ) {
        let Source::Network(address) = source else {
            if let Ok(Decision::Act(_)) = outcome {
                self.audit_operator(head.method, head.path);
            }
            return;
        };
        let brought_by = match route {
            Some(Route::Ingest(name, _)) => Some(name),
            _ => None,
        };
        let limited = brought_by.is_some() || key.is_some_and(|key| !key.groups.is_empty());
        let refused = outcome.as_ref().err().map(|error| (error.cause, error.sentence.as_ref()));
        let used;
        let (what, detail) = match (key, refused) {
            (Some(_), None) => {
                used = format!("{} {}", head.method, plain(head.path));
                (What::KeyUsed, used.as_str())
            }
            (Some(_), Some((Cause::SourceNetwork | Cause::Right, why))) => (What::KeyRefused, why),
            (Some(_), Some((Cause::Object, why))) if limited => (What::KeyRefused, why),
            (None, Some((Cause::SourceNetwork | Cause::Key, why))) => (What::Refused, why),
            (Some(_), Some((Cause::MediaType | Cause::NoBody | Cause::TooLarge, why))) => {
                return brought_by.into_iter().for_each(|name| self.audit_brought(name, source, why));
            }
            _ => return,
        };
        let who = key.map_or("", |key| &key.name);
        self.backend.audit(Deed { what, who, uid: None, from: Some(address.to_canonical()), detail });
    }

    /// Records that a body was refused before all of it was there.
    pub fn audit_body(&self, expected: &Expected, error: &ApiError) {
        if let Awaited::Ingest(visit) = &expected.route {
            self.audit_brought(&visit.door.source.name, expected.source, &error.sentence);
        }
    }

    /// Records that what a source brought was refused. What is against the rules of an object's group is recorded of the
    /// object, and what finds no room was not refused.
    pub(super) fn audit_visit(&self, visit: &Visit, source: Source, error: &ApiError) {
        if !matches!(error.cause, Cause::Group | Cause::Storage) {
            self.audit_brought(&visit.door.source.name, source, &error.sentence);
        }
    }

    fn audit_brought(&self, by: &str, source: Source, why: &str) {
        let from = match source {
            Source::Network(address) => Some(address.to_canonical()),
            Source::Local => None,
        };
        self.backend.audit(Deed { who: by, from, ..Deed::own(What::IngestRefused, why) });
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
fn plain(path: &str) -> Cow<'_, str> {
    if path.len() <= PATH_MAX && path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Cow::Borrowed(path);
    }
    path.chars().take(PATH_MAX).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
