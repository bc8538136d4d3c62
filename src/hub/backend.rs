//! What the HTTP side asks of the hub.

use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;

use super::CallAnswer;
use super::access_keeper::ReplaceError;
use super::auditing::Deed;
use super::commands::{CommandRefusal, NewCommand};
use super::durable::NeverDurable;
use super::heartbeats::Heartbeats;
use super::seen::Expectation;
use super::status::Status;
use crate::journal::Seq;
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
    /// Records in the audit log what was done.
    fn audit(&self, deed: Deed<'_>);
    /// Whether it takes work; if not, one word why.
    fn ready(&self) -> Result<(), &'static str>;
    /// What subscribers never took.
    fn dead_letters(&self) -> DeadLetterList {
        DeadLetterList::default()
    }
    /// Does something with a subscriber's messages of these numbers; `None`: there is none of this name. Resolves, with how
    /// many messages were dead, when it is on flash.
    fn steer(
        &self,
        _subscriber: &str,
        _from: Seq,
        _to: Seq,
        _work: Steered,
    ) -> Option<Pending<Result<u64, NeverDurable>>> {
        None
    }
    /// Where the beats of the API's loop are counted, if anywhere.
    fn heartbeats(&self) -> Option<&Heartbeats> {
        None
    }
}

/// What is done with a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steered {
    /// Messages go out once more.
    Replay,
    /// Dead letters go out once more.
    ReplayDead,
    /// Nobody wants these dead letters any more.
    DropDead,
}

/// The dead letters of all subscribers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeadLetterList {
    /// Ranges of them, by subscriber and number.
    pub dead_letters: Vec<DeadLetterRange>,
}

/// Messages that a subscriber never took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetterRange {
    /// Whose.
    pub subscriber: String,
    /// The first number.
    pub from: Seq,
    /// The last number; of those between not all need to be for this subscriber.
    pub to: Seq,
    /// How many.
    pub messages: u64,
    /// Attempts in a row that failed.
    pub attempts: u32,
    /// When they were given up, RFC 3339.
    pub time: String,
    /// Why the last attempt failed.
    pub reason: String,
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
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// When it was heard of last, by what is known over restarts; absent if that is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    /// The interval at which it usually sends something; absent until that is learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usual_seconds: Option<f64>,
    /// Whether it does as usual; absent likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expectation: Option<Expectation>,
}
