//! What the HTTP side asks of the hub.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;

use super::status::Status;
use crate::wire::{AclItem, Format, GroupName, Uid};

/// A future that may be dropped at any time: what it stood for is then abandoned.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The hub, as the API and the maintenance socket see it.
pub trait Backend: Send + Sync + 'static {
    /// Asks an object. Resolves with its answer, or with one made here: at the latest after `timeout`,
    /// at once with code 0xA0 if the object has no session. Dropping the future abandons the call.
    fn call(&self, uid: Uid, format: Format, payload: Vec<u8>, timeout: Duration) -> Pending<Answer>;
    /// The group that the access list gives the object; `None`: it is not in the list.
    fn group_of(&self, uid: Uid) -> Option<GroupName>;
    /// Puts this list in place of the one in force; resolves when it is on disk and in force.
    fn replace_access(&self, items: Vec<AclItem>) -> Pending<Result<(), AclError>>;
    /// At most `limit` objects of the access list in order of their UIDs, behind `after`, of these groups only
    /// (none: of all).
    fn objects(&self, after: Option<Uid>, limit: usize, groups: &[GroupName]) -> Vec<ObjectView>;
    /// One object of the access list.
    fn object(&self, uid: Uid) -> Option<ObjectView>;
    /// What the concentrator is doing.
    fn status(&self) -> Status;
    /// Whether it takes work; if not, one word why.
    fn ready(&self) -> Result<(), &'static str>;
}

/// The answer to a call.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The response code.
    pub code: u8,
    /// What the payload is said to be.
    pub format: Format,
    /// At most 65,535 bytes.
    pub payload: Vec<u8>,
    /// Whether the concentrator made it, not the object.
    pub made_here: bool,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("code", &self.code)
            .field("format", &self.format)
            .field("bytes", &self.payload.len())
            .field("made_here", &self.made_here)
            .finish()
    }
}

/// Why an access list did not take the place of the one in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AclError {
    /// An item is wrong: its index, the field's name, and the value with what is wrong about it (never a key).
    Refused {
        /// Counted from 0.
        item: usize,
        /// "GroupName" or "UID".
        field: &'static str,
        /// The value and what is wrong about it: `"Nowhere" is not a configured group`.
        value: String,
    },
    /// It could not be written; the sentence says who must act.
    Storage(String),
}

/// Where an object's session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// Connected.
    Live,
    /// Disconnected, and awaited back.
    Kept,
    /// No session.
    Absent,
}

/// One object of the access list, without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectView {
    /// Its UID.
    pub uid: String,
    /// Its group.
    pub group: String,
    /// Its session.
    pub state: Presence,
    /// Since when the session stands so, RFC 3339; absent if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}
