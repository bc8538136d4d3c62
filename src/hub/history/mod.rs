//! What was recorded, as the API, the stream, the commands and subscribers see it.
//!
//! [`History`] is what they ask; whoever keeps the records answers. Only what is on flash is ever told. The JSON of a
//! message is made here, so that it is the same wherever it appears.

mod json;
mod recorded;

use std::fmt;

use serde::Serialize;

use super::backend::Pending;
use crate::journal::Seq;
use crate::wire::{Format, GroupName, Uid};

pub use crate::journal::record::{Kind, State, Via};
pub use crate::journal::stamp::MessageId;
pub use crate::journal::stored::ShownClock as Clock;

/// What is kept. Nothing in here blocks: the futures are driven by whoever asked, and may be dropped at any time.
pub trait History: Send + Sync + 'static {
    /// The messages that match, in order of insertion. The page is empty only if none does.
    fn messages(&self, query: MessageQuery) -> Pending<Result<Page, HistoryError>>;
    /// One message with its trace, or what is known of it if it is gone.
    fn message(&self, which: Which) -> Pending<Result<Found, HistoryError>>;
    /// Whether the chain of audit records holds.
    fn verify_audit(&self) -> Pending<Result<AuditReport, HistoryError>>;
    /// Resolves when there is something behind this number, whatever it is; at once if there is.
    fn wait_beyond(&self, seq: Seq) -> Pending<()>;
}

/// Which message is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one with this id.
    Id(MessageId),
    /// The one with this number.
    Seq(Seq),
}

/// What there is of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It.
    Message(Box<MessageView>),
    /// It left the journal before its destination had it.
    Gone(Gone),
    /// It left the journal, and no more is known of it.
    Left,
    /// There never was one.
    Nothing,
    /// The id was given by another journal.
    Foreign,
}

/// What is known of a message that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Its id, if it was asked for by that.
    pub id: Option<MessageId>,
    /// Its number.
    pub seq: Seq,
    /// What became of it.
    pub state: State,
    /// What happened to it: when it came in if its id says so, how it ended.
    pub trace: Vec<TraceEvent>,
}

/// What was found of the chain of audit records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// Records that are there.
    pub records: u64,
    /// The number of the last record that is gone with its time; 0: none is.
    pub after: u64,
    /// The number of the last record.
    pub last: u64,
    /// How often the chain is broken.
    pub faults: u64,
    /// What is wrong, the first of it.
    pub sentences: Vec<String>,
}

/// Which messages are asked for; what is `None` does not limit them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageQuery {
    /// Only what has a larger number. May lie behind everything that there is.
    pub after: Seq,
    /// Messages at most.
    pub limit: usize,
    /// The page ends early with the message that brings its payloads to so many bytes.
    pub bytes: usize,
    /// Gives the last ones that match instead of the first, still in order of insertion.
    pub newest: bool,
    /// Only of this object.
    pub uid: Option<Uid>,
    /// Only of these groups; of an empty list of groups there is nothing. What the asking key may not see is not among
    /// them, and a message without a group is in none of them.
    pub groups: Option<Vec<GroupName>>,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only from this moment on, in microseconds since 1970; by the corrected time.
    pub from_us: Option<i64>,
    /// Only before this moment, in microseconds since 1970; by the corrected time.
    pub to_us: Option<i64>,
}

impl MessageQuery {
    /// Everything that there is, so much at a time.
    pub fn all(limit: usize, bytes: usize) -> Self {
        Self {
            after: 0,
            limit,
            bytes,
            newest: false,
            uid: None,
            groups: None,
            kind: None,
            from_us: None,
            to_us: None,
        }
    }
}

/// Some of the messages that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// In order of insertion.
    pub messages: Vec<MessageView>,
    /// Up to here nothing that matches was left out: where the next page goes on. The number of the last message if the
    /// page was full, else the last number that is on flash, wherever `after` lies.
    pub next: Seq,
}

/// A message.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageView {
    /// A UUIDv7 by its first time.
    pub id: MessageId,
    /// Its place in the order of insertion.
    pub seq: Seq,
    /// Microseconds since 1970 in UTC; corrected, if its machine learnt the time later.
    pub time_us: i64,
    /// What that time is worth.
    pub clock: Clock,
    /// What kind of message it is.
    pub kind: Kind,
    /// Whose it is.
    pub uid: Uid,
    /// Its group when it came in.
    pub group: GroupName,
    /// Which way it came in.
    pub via: Via,
    /// What its payload claims to be.
    pub format: Format,
    /// What it carried.
    pub payload: Vec<u8>,
    /// What became of it so far.
    pub state: State,
    /// The partner that it came from.
    pub source: Option<String>,
    /// What the partner's network says about it: JSON.
    pub network: Option<Vec<u8>>,
    /// What happened to it, if that was asked for.
    pub trace: Option<Vec<TraceEvent>>,
}

/// Shows how long the payload is and none of it.
impl fmt::Debug for MessageView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageView")
            .field("id", &self.id)
            .field("seq", &self.seq)
            .field("kind", &self.kind)
            .field("uid", &self.uid)
            .field("group", &self.group)
            .field("payload_len", &self.payload.len())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It came in.
    Received,
    /// It is on flash.
    Stored,
    /// It was handed to a destination.
    Sent,
    /// A destination has it.
    Delivered,
    /// A destination, or the policy, did not want it.
    Refused,
    /// Its time was up.
    Expired,
    /// It had to make room.
    Dropped,
    /// Its network delivered it once more.
    Duplicate,
    /// Its network said more about it.
    Merged,
    /// It left the quarantine.
    Remapped,
    /// A destination takes nothing now, and it waits for its turn.
    Stopped,
}

impl Outcome {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Stored => "stored",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
            Self::Duplicate => "duplicate",
            Self::Merged => "merged",
            Self::Remapped => "remapped",
            Self::Stopped => "stopped",
        }
    }
}

/// Something that happened to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceEvent {
    /// Microseconds since 1970 in UTC.
    pub time_us: i64,
    /// What happened.
    pub event: Outcome,
    /// The destination.
    pub to: Option<String>,
    /// Which attempt it was, from 1.
    pub attempt: Option<u32>,
    /// Why.
    pub reason: Option<String>,
    /// What the object answered to a queued command.
    pub answer: Option<Answer>,
    /// The record that was made of it.
    pub beside: Option<Beside>,
}

impl TraceEvent {
    /// Something that happened, and no more to say about it.
    pub fn new(event: Outcome, time_us: i64) -> Self {
        Self { time_us, event, to: None, attempt: None, reason: None, answer: None, beside: None }
    }
}

/// A record of something that happened to another message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// Its id.
    pub id: MessageId,
    /// What the partner's network says: JSON.
    pub network: Option<Vec<u8>>,
}

/// An object's answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its response code.
    pub code: u8,
    /// What its payload claims to be.
    pub format: Format,
    /// What it carried.
    pub data: Vec<u8>,
}

/// Shows how long the payload is and none of it.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.code, self.data.len())
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryError {
    /// Too many questions wait already: ask again.
    Busy,
    /// The medium gives nothing; what it said.
    Storage(String),
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("too many read the journal at the moment: ask again"),
            Self::Storage(said) => write!(f, "the journal cannot be read ({said}): see the log"),
        }
    }
}

impl std::error::Error for HistoryError {}
