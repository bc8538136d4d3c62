//! What becomes of an element of a body.

use std::borrow::Cow;
use std::fmt;

use super::shape::Shape;
use crate::wire::{Format, Uid};

/// What an element of a body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A message of an object.
    Message(Mapped),
    /// More about a message that came before, by the same [`Mapped::dedup`]. If none came, it is that message itself,
    /// if [`Mapped::has_data`].
    Merge(Mapped),
    /// An event of the network that carries no data of an object; its name.
    Ignored(&'static str),
    /// JSON, or whatever the format takes, of which no message can be made: for the quarantine.
    Unmapped(Unmapped),
}

impl Outcome {
    /// The message, if there is one, and whether it is more about one that came before.
    pub fn mapped(&self) -> Option<(&Mapped, bool)> {
        match self {
            Self::Message(mapped) => Some((mapped, false)),
            Self::Merge(mapped) => Some((mapped, true)),
            Self::Ignored(_) | Self::Unmapped(_) => None,
        }
    }
}

/// A message as a network brought it.
#[derive(Clone, PartialEq, Eq)]
pub struct Mapped {
    /// Whose it is.
    pub uid: Uid,
    /// How the payload is meant.
    pub format: Format,
    /// What the device sent, at most 65,535 bytes.
    pub payload: Vec<u8>,
    /// Whether the network gave a payload at all, even an empty one.
    pub has_data: bool,
    /// What the network says about it, as JSON; what of it there is: `device` (its identity there, if it is not the UID),
    /// `port`, `counter`, `time`, `radio`, `settings`, `decoded`, `flags`, `dedup`.
    pub network: String,
    /// The network's own time, microseconds since 1970.
    pub time_us: Option<i64>,
    /// What is unusual.
    pub flags: Vec<Flag>,
    /// The same for every delivery of this message by this source, and for no other message; `None`: nothing tells.
    pub dedup: Option<String>,
    /// Whether the device waits for an answer, which the network takes from ours.
    pub wants_downlink: bool,
}

/// Shows how long the payload is and none of it, nor of what the network decoded or tells two messages apart by.
impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapped")
            .field("uid", &self.uid)
            .field("format", &self.format)
            .field("payload_len", &self.payload.len())
            .field("time_us", &self.time_us)
            .field("flags", &self.flags)
            .field("has_dedup", &self.dedup.is_some())
            .finish_non_exhaustive()
    }
}

/// What is unusual about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// Its network held it for long.
    Backfill,
    /// The network's time lies ahead of ours.
    FutureTime,
    /// The network's time is from before its kind of network was there: a clock that was never set.
    UnsetTime,
    /// The network made it up for a test.
    Simulated,
    /// The network could not decrypt it.
    Encrypted,
    /// What the network says was too much to keep, and is cut.
    Cut,
}

impl Flag {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backfill => "backfill",
            Self::FutureTime => "future-time",
            Self::UnsetTime => "unset-time",
            Self::Simulated => "simulated",
            Self::Encrypted => "encrypted",
            Self::Cut => "cut",
        }
    }
}

/// An element of which no message can be made.
#[derive(Clone, PartialEq, Eq)]
pub struct Unmapped {
    /// What is wrong with it.
    pub fault: Fault,
    /// The same for people; names the field, holds no payload.
    pub sentence: Cow<'static, str>,
    /// What it looks like.
    pub shape: Shape,
    /// The element itself.
    pub raw: Vec<u8>,
    /// Whether that is JSON.
    pub is_json: bool,
}

/// Shows how long the element is and none of it.
impl fmt::Debug for Unmapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unmapped")
            .field("fault", &self.fault)
            .field("sentence", &self.sentence)
            .field("shape", &self.shape)
            .field("raw_len", &self.raw.len())
            .finish()
    }
}

/// What can be wrong with an element; the names are for counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A field that has to be there is not.
    Missing,
    /// The identity is too long, or no name.
    Identity,
    /// The payload is not hex, base64 or whatever it should be, or too long.
    Payload,
    /// A field is of another type than it should be.
    Type,
    /// A number is out of its range.
    Range,
    /// A time is none.
    Time,
    /// An event or a version that is not known.
    Kind,
    /// The source takes only objects of the access list, and this is none.
    NotListed,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 8] = [
        Self::Missing,
        Self::Identity,
        Self::Payload,
        Self::Type,
        Self::Range,
        Self::Time,
        Self::Kind,
        Self::NotListed,
    ];

    /// Its name in status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Identity => "identity",
            Self::Payload => "payload",
            Self::Type => "type",
            Self::Range => "range",
            Self::Time => "time",
            Self::Kind => "kind",
            Self::NotListed => "not_listed",
        }
    }
}

/// Why a body cannot be read at all; a sentence for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub Cow<'static, str>);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// An [`Unmapped`] before it has its element.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unmappable {
    pub fault: Fault,
    pub sentence: Cow<'static, str>,
}

impl Unmappable {
    pub fn new(fault: Fault, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self { fault, sentence: sentence.into() }
    }

    pub fn missing(name: &str) -> Self {
        Self::new(Fault::Missing, format!("\"{name}\" is missing"))
    }
}
