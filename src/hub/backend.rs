//! What the HTTP side asks of the hub.

use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;

use super::CallAnswer;
use super::access_keeper::ReplaceError;
use super::commands::{CommandRefusal, NewCommand};
use super::heartbeats::Heartbeats;
use super::status::Status;
use crate::journal::stamp::MessageId;
use crate::wire::{AclItem, Format, GroupName, Uid};

/// A future that may be dropped at any time: what it stood for is then abandoned.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The hub, as the API and the maintenance socket see it.
pub trait Backend: Send + Sync + 'static {
    /// Asks an object. Resolves with its answer, or with one made here: at the latest after `timeout`,
    /// at once with code 0xA0 if the object has no session. Dropping the future abandons the call.
    fn call(&self, uid: Uid, format: Format, payload: Vec<u8>, timeout: Duration) -> Pending<CallAnswer>;
    /// Queues a command. Resolves with its id once it is on flash.
    fn queue_command(&self, command: NewCommand) -> Pending<Result<MessageId, CommandRefusal>>;
    /// The group that the access list gives the object; `None`: it is not in the list.
    fn group_of(&self, uid: Uid) -> Option<GroupName>;
    /// Puts this list in place of the one in force; resolves when it is on disk and in force.
    fn replace_access(&self, items: Vec<AclItem>) -> Pending<Result<(), ReplaceError>>;
    /// At most `limit` objects of the access list in order of their UIDs, behind `after`, of these groups only
    /// (none: of all).
    fn objects(&self, after: Option<Uid>, limit: usize, groups: &[GroupName]) -> Vec<ObjectView>;
    /// One object of the access list.
    fn object(&self, uid: Uid) -> Option<ObjectView>;
    /// What the concentrator is doing.
    fn status(&self) -> Status;
    /// Whether it takes work; if not, one word why.
    fn ready(&self) -> Result<(), &'static str>;
    /// Where the beats of the API's loop are counted, if anywhere.
    fn heartbeats(&self) -> Option<&Heartbeats> {
        None
    }
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
    /// When its last connection began, or ended if it is gone, RFC 3339; absent if there was none since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// When it was heard of last; absent if it was not since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
}
