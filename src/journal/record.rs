//! What is recorded: one enum of plain fields, and its bytes.
//!
//! # Layout
//!
//! A record is its length (varint, bytes behind it), microseconds since its batch began (varint), and the [`Record`] in
//! postcard. Because of the length a reader skips a variant that it does not know, and fields behind those it knows: the
//! enums and the internal variants grow at their end only, and nothing is ever taken out or moved.
//!
//! A message is read back as it was given; its number and its id are not stored, they follow from its place.

mod gone;
mod raw;
mod shown;

use std::borrow::Cow;
use std::fmt;

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use super::Seq;
use super::codec;
use crate::wire::{Format, GroupName, Uid};
pub use gone::{Cause, Gone, Moment, Tried};
pub use raw::{Raw, Records, encode_gone};

/// A record with all its bytes at most. The largest payload of the protocol, its names, and what a network says fit.
pub const RECORD_MAX: usize = 256 * 1024;
const _: () = assert!(RECORD_MAX > 2 * crate::wire::TRANSMISSION_MAX);

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Data of an object that nobody answers.
    Telemetry,
    /// A call, with its outcome.
    Request,
    /// A queued command.
    Command,
    /// A change of the access list.
    Access,
    /// Who did what to the concentrator.
    Audit,
    /// Something that operators should know.
    Event,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Telemetry, Self::Request, Self::Command, Self::Access, Self::Audit, Self::Event];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Request => "request",
            Self::Command => "command",
            Self::Access => "access",
            Self::Audit => "audit",
            Self::Event => "event",
        }
    }

    /// Whether it goes when its group's messages do. The chain of audit records holds whatever single groups may have.
    pub fn goes_with_group(self) -> bool {
        self != Self::Audit
    }
}

/// Which way a message came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Via {
    /// A session.
    Tcp,
    /// A datagram.
    Udp,
    /// The API.
    Https,
    /// A partner's network.
    Ingest,
    /// The concentrator itself.
    Local,
}

impl Via {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Https => "https",
            Self::Ingest => "ingest",
            Self::Local => "local",
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It is kept; nobody has to get it.
    Stored,
    /// It is to be delivered.
    Waiting,
    /// Its destination has it.
    Delivered,
    /// Its destination, or the policy, did not want it.
    Refused,
    /// Its time was up.
    Expired,
    /// It had to make room.
    Dropped,
    /// Given up after all attempts.
    Dead,
}

impl State {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
            Self::Dead => "dead",
        }
    }
}

/// A message. Borrowed while it is appended, owned where it is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message<'a> {
    /// Whose it is. First, so that a search needs to read no further.
    #[serde(with = "codec::uid")]
    pub uid: Uid,
    /// Its group when it came in.
    #[serde(with = "codec::group")]
    pub group: GroupName,
    /// What kind of message it is.
    pub kind: Kind,
    /// Which way it came in.
    pub via: Via,
    /// How its payload is meant.
    #[serde(with = "codec::format")]
    pub format: Format,
    /// Its state at insertion.
    pub state: State,
    /// The partner that it came from.
    #[serde(borrow, with = "codec::optional_text")]
    pub source: Option<Cow<'a, str>>,
    /// What the partner's network says about it, as it is shown.
    #[serde(borrow, with = "codec::optional_bytes")]
    pub network: Option<Cow<'a, [u8]>>,
    /// Its data.
    #[serde(borrow, with = "codec::bytes")]
    pub payload: Cow<'a, [u8]>,
}

impl Message<'_> {
    /// The same, independent of what it was borrowed from.
    pub fn into_owned(self) -> Message<'static> {
        Message {
            source: self.source.map(|source| Cow::Owned(source.into_owned())),
            network: self.network.map(|network| Cow::Owned(network.into_owned())),
            payload: Cow::Owned(self.payload.into_owned()),
            ..self
        }
    }
}

/// Shows how long the payload is and none of it.
impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("uid", &self.uid)
            .field("group", &self.group)
            .field("kind", &self.kind)
            .field("payload_len", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// Why numbers were left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JumpReason {
    /// The journal was restored from a copy, behind which others may have been given away already.
    Restore,
    /// The newest segment was lost, and with it numbers that may have been given away.
    Damage,
}

/// What is kept of a session so that it survives a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionRecord {
    /// It is live.
    Live,
    /// It is kept until then, by the wall clock, in microseconds.
    Kept {
        /// Microseconds since 1970.
        until_us: i64,
    },
    /// It is over.
    Ended,
}

/// Everything that is recorded. Only [`Record::Message`] gets a sequence number.
///
/// Variants, and fields of their structs, are added at the end only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record<'a> {
    /// A message.
    #[serde(borrow)]
    Message(Message<'a>),
    /// A destination has everything up to this number, but for the holes.
    Cursor {
        /// The destination's name.
        destination: String,
        /// The last number that it has, or need not have.
        up_to: Seq,
        /// Numbers up to there that it still has to get.
        holes: Vec<Seq>,
    },
    /// Messages are gone, undelivered or not; those of other causes are not among them. [`Record::Gone`] says more.
    Dropped {
        /// The first number.
        from: Seq,
        /// The last number.
        to: Seq,
        /// How many of them.
        count: u64,
        /// Why.
        cause: Cause,
    },
    /// What time it was when that boot's monotonic clock was at zero; known since its clock was set.
    BootTime {
        /// Which boot, as batches count them.
        boot: u32,
        /// Microseconds since 1970.
        wall_at_zero_us: i64,
    },
    /// A telemetry token was given out.
    Token {
        /// Whose.
        #[serde(with = "codec::uid")]
        uid: Uid,
        /// The token.
        token: [u8; 8],
        /// Its end by the wall clock, microseconds since 1970.
        expires_us: i64,
    },
    /// All tokens of an object ended.
    TokensEnded {
        /// Whose.
        #[serde(with = "codec::uid")]
        uid: Uid,
    },
    /// What became of an object's session.
    Session {
        /// Whose.
        #[serde(with = "codec::uid")]
        uid: Uid,
        /// What is known of it.
        session: SessionRecord,
    },
    /// A call waits for an absent peer.
    Waiting {
        /// Its number, chosen by whoever records it.
        id: u64,
        /// What that one needs to go on with it.
        #[serde(with = "codec::vec")]
        data: Vec<u8>,
    },
    /// The call waits no longer.
    Settled {
        /// Its number.
        id: u64,
    },
    /// A queued command came to another state.
    Command {
        /// The command's number.
        seq: Seq,
        /// Its state.
        state: State,
        /// What else there is to keep, the answer for instance.
        #[serde(with = "codec::vec")]
        data: Vec<u8>,
    },
    /// The numbers between were left out, once.
    Jump {
        /// The first number that was left out.
        from: Seq,
        /// The number that comes next.
        to: Seq,
        /// Why.
        reason: JumpReason,
    },
    /// Everything small that the records before add up to: a [`super::state::Small`] in postcard. The first record of a
    /// segment, so that no older segment is needed to start.
    Snapshot {
        /// The bytes.
        #[serde(with = "codec::vec")]
        data: Vec<u8>,
    },
    /// Segments are deleted, or about to be.
    Retired {
        /// Their numbers.
        segments: Vec<u64>,
    },
    /// The books of a group and destination change by this.
    Tally {
        /// The group.
        #[serde(with = "codec::group")]
        group: GroupName,
        /// The destination's name; empty: none.
        destination: String,
        /// What happened to the messages.
        cause: Cause,
        /// How many more.
        add: u64,
    },
    /// A command was accepted under this key of its sender: for a day, the same key means the same command.
    Idempotency {
        /// The sender and its key, as a digest.
        key: [u8; 16],
        /// What was asked, as a digest.
        body: [u8; 16],
        /// The command.
        seq: Seq,
        /// When, by the wall clock, microseconds since 1970.
        at_us: i64,
    },
    /// Something small that the program keeps for itself under this name, in the place of what it kept there before.
    Kept {
        /// One of a few names: see [`super::state::KEPT_MAX`].
        name: String,
        /// The bytes.
        #[serde(with = "codec::vec")]
        data: Vec<u8>,
    },
    /// Messages are gone that a destination did not get.
    Gone(Gone),
    /// What an object's token and session were given for from now on. Since version 2.
    Rights {
        /// Whose.
        #[serde(with = "codec::uid")]
        uid: Uid,
        /// Its key and group, as a digest.
        rights: RightsDigest,
    },
    /// Messages came in of which nothing else is known: the medium lost them. Since version 2.
    Received {
        /// Their group.
        #[serde(with = "codec::group")]
        group: GroupName,
        /// Their kind.
        kind: Kind,
        /// How many.
        add: u64,
    },
    /// What a destination still has to get of what its cursor has passed; in place of what was said before.
    Behind {
        /// The destination's name.
        destination: String,
        /// First and last numbers of what it did not get yet.
        backlog: Vec<(Seq, Seq)>,
        /// First and last numbers of what it is to get once more.
        again: Vec<(Seq, Seq)>,
    },
    /// Messages had their end at a destination.
    Tried {
        /// The destination's name.
        destination: String,
        /// What was tried.
        tried: Tried,
    },
    /// Messages are no longer dead at a destination: they go out once more, or nobody wants them.
    DeadSettled {
        /// The destination's name.
        destination: String,
        /// The first number.
        from: Seq,
        /// The last number.
        to: Seq,
    },
    /// There is no such destination any more: nothing is known of it.
    Forgotten {
        /// The destination's name.
        destination: String,
    },
    /// What a segment has of this group is not there any more. What others have in it is.
    Thinned {
        /// The segment's number.
        segment: u64,
        /// The group.
        #[serde(with = "codec::group")]
        group: GroupName,
    },
}

/// A key and a group, as a digest.
pub type RightsDigest = [u8; 8];

impl Record<'_> {
    /// Whether it gets a sequence number.
    pub fn is_numbered(&self) -> bool {
        matches!(self, Self::Message(_))
    }
}

/// A record is larger than [`RECORD_MAX`], or than what a segment takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

/// Appends the bytes of a record; `since_us` is its distance from the start of its batch. Leaves `into` as it was if the
/// record is too large.
pub fn encode(record: &Record<'_>, since_us: u32, into: &mut Vec<u8>) -> Result<(), TooLarge> {
    let start = into.len();
    // Most records are shorter than 128 bytes; a longer one is moved by as much as its length takes more.
    into.push(0);
    codec::put_varint(since_us.into(), into);
    let written = postcard::serialize_with_flavor(record, Append(into)).is_ok();
    let len = into.len().saturating_sub(start + 1);
    if !written || len > RECORD_MAX {
        into.truncate(start);
        return Err(TooLarge);
    }
    let mut prefix = heapless::Vec::<u8, 10>::new();
    // Ten bytes are the longest varint.
    codec::varint(len as u64, |byte| _ = prefix.push(byte));
    into.splice(start..=start, prefix);
    Ok(())
}

/// Appends a snapshot, which may be larger than what is taken from outside.
pub fn encode_snapshot(data: Vec<u8>, into: &mut Vec<u8>) {
    let mut body = vec![0];
    // Only running out of memory could fail here; a snapshot that is cut is not believed.
    _ = postcard::serialize_with_flavor(&Record::Snapshot { data }, Append(&mut body));
    codec::put_varint(body.len() as u64, into);
    into.extend(body);
}

/// Behind what is there, texts and payloads in one piece: `postcard`'s own wants to own it, and goes byte by byte.
struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
