//! Where messages of partner networks go: recorded, told from second tries, handed on.
//!
//! [`Intake`] is what the API asks; whoever keeps the records answers. An answer means that everything is on flash.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::backend::Pending;
use super::durable::NeverDurable;
use crate::ingest::{Kept, Mapped, Source};
use crate::journal::stamp::MessageId;
use crate::wire::GroupName;

/// What takes messages. Nothing in here blocks: the futures are driven by whoever asked. Dropping one forgets the answer,
/// not what was given.
pub trait Intake: Send + Sync + 'static {
    /// Takes what a source brought in one call, in this order, and resolves when all of it is on flash: with a receipt
    /// for each. On an error nothing of it was taken, or it is not known: the network will try again.
    fn take(&self, source: &str, arrivals: Vec<Arrival>) -> Pending<Result<Vec<Receipt>, IntakeError>>;
    /// Microseconds since 1970, `None` while the machine does not know the time.
    fn now_us(&self) -> Option<i64>;
    /// Maps what is in quarantine of a source as the source is now, and takes what can be mapped under its first id and
    /// time. Resolves when that is on flash. May take long; what was done before it was given up stays done.
    fn remap(&self, source: &Source) -> Pending<Result<Remapped, RemapError>>;
}

/// What a source brought.
#[derive(Clone, PartialEq, Eq)]
pub enum Arrival {
    /// A message of an object of this group, unless [`Mapped::dedup`] says that it came before.
    Message {
        /// The object's group.
        group: GroupName,
        /// The message.
        mapped: Mapped,
    },
    /// More about a message that came before by [`Mapped::dedup`]; if none did and [`Mapped::has_data`], a message.
    Merge {
        /// The object's group.
        group: GroupName,
        /// The message.
        mapped: Mapped,
    },
    /// What cannot be mapped, to be kept.
    Quarantine {
        /// The group of the source's objects, if it has one.
        group: Option<GroupName>,
        /// What has to be known to map it later.
        kept: Kept,
        /// The element itself, at most [`QUARANTINE_MAX`] bytes.
        raw: Vec<u8>,
    },
}

impl Arrival {
    /// The message, if it could be mapped, and whether it is more about one that came before.
    pub fn mapped(&self) -> Option<(&Mapped, bool)> {
        match self {
            Self::Message { mapped, .. } => Some((mapped, false)),
            Self::Merge { mapped, .. } => Some((mapped, true)),
            Self::Quarantine { .. } => None,
        }
    }
}

/// Shows nothing of what a device sent.
impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { mapped, .. } => f.debug_tuple("Message").field(mapped).finish(),
            Self::Merge { mapped, .. } => f.debug_tuple("Merge").field(mapped).finish(),
            Self::Quarantine { kept, .. } => f.debug_tuple("Quarantine").field(kept).finish(),
        }
    }
}

/// Bytes of an element that is kept in quarantine: with its headers it must fit a record of the journal.
pub const QUARANTINE_MAX: usize = 128 * 1024;
const _: () = assert!(QUARANTINE_MAX <= crate::journal::record::RECORD_MAX / 2);

/// What became of an arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// It is a new message.
    Taken(MessageId),
    /// It came before, as this one.
    Duplicate(MessageId),
    /// It is kept beside this one.
    Merged(MessageId),
    /// It is in quarantine.
    Quarantined(MessageId),
    /// The rules of its object's group are against it; why, as a sentence for the sender.
    Refused(Cow<'static, str>),
    /// Its object sends more than its group's rate: it may be tried again; as a sentence for the sender.
    TooFast(Cow<'static, str>),
}

/// What became of a source's quarantine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Remapped {
    /// Elements that are messages now.
    pub mapped: u64,
    /// Elements that came before, or belong to a message that did.
    pub duplicates: u64,
    /// Elements that carry nothing.
    pub ignored: u64,
    /// Elements that stay.
    pub remaining: u64,
    /// Why they do, with how many there are of each; at most [`REASONS_MAX`].
    pub reasons: BTreeMap<String, u64>,
}

/// Reasons that are told one by one.
pub const REASONS_MAX: usize = 20;

/// Why a quarantine is not mapped, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemapError {
    /// Another is under way.
    UnderWay,
    /// Nothing can be taken.
    Intake(IntakeError),
    /// The journal cannot be read; what the medium said.
    Storage(String),
    /// The concentrator is stopping.
    Stopping,
}

impl fmt::Display for RemapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnderWay => f.write_str("a quarantine is being mapped already: wait for its end"),
            Self::Intake(error) => error.fmt(f),
            Self::Storage(said) => write!(f, "the journal cannot be read ({said}): see the log"),
            Self::Stopping => f.write_str("the concentrator is stopping: go on when it runs again"),
        }
    }
}

impl std::error::Error for RemapError {}

/// Why nothing was taken. The network should try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntakeError {
    /// It is still being read what came before the start.
    Starting,
    /// Too many that may have come before are looked for in the journal.
    Searching,
    /// Too much waits to be written.
    Busy,
    /// The journal is full, and new messages are refused.
    Full,
    /// The medium failed: nothing is written until somebody looks.
    ReadOnly,
}

impl fmt::Display for IntakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "it is not known yet what came before the start: try again",
            Self::Searching => "it is being looked up whether messages came before: try again",
            Self::Busy => "too many messages wait to be written: try again",
            Self::Full => "the journal is full: try again when something was delivered",
            Self::ReadOnly => "the journal cannot be written: try again when it was repaired",
        })
    }
}

impl std::error::Error for IntakeError {}

impl From<NeverDurable> for IntakeError {
    fn from(never: NeverDurable) -> Self {
        match never {
            NeverDurable::ReadOnly => Self::ReadOnly,
            NeverDurable::Full => Self::Full,
            NeverDurable::Late => Self::Busy,
        }
    }
}
