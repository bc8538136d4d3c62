//! Where transmissions for a peer go: to its connection, into the queue of its kept session, or nowhere.

use std::collections::VecDeque;
use std::time::Instant;

use super::{ConnectionId, Effects, Login, Noted, Serial};
use crate::limits::OUTGOING_MAX;
use crate::wire::{Payload, RESPONSE_NOT_VALID, Transmission};

/// What a queued transmission is, for when it could not be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// A request; the serial tells its call from a later one of the same number.
    Request(Serial),
    /// An answer.
    Response,
    /// A telemetry token: not worth keeping, each login brings a new one.
    Token,
}

/// A transmission that waits, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// What it is.
    pub tag: Tag,
    /// Its bytes on the wire.
    pub bytes: Box<[u8]>,
}

/// A place in the queue of a session whose peer is away.
#[derive(Debug)]
pub struct Entry {
    /// What waits.
    pub queued: Queued,
    /// Names an answer in the journal; a request has its call's serial for that.
    pub id: Serial,
    /// Grows along the queue.
    pub position: Serial,
    /// What the journal knows of it.
    pub noted: Noted,
}

/// Why a peer's session is without a connection.
#[derive(Debug)]
pub enum Why {
    /// Its peer is expected back until then.
    Kept(Instant),
    /// A new login waits until the old connection has said what it did not hand over.
    Replaced {
        /// The connection that ends.
        old: ConnectionId,
        /// The login that takes over; `None` if it went away again.
        next: Option<Login>,
    },
}

/// A session whose peer is away, and what waits for it.
#[derive(Debug)]
pub struct Waiting {
    /// Until when, or for whom.
    pub why: Why,
    /// What waits, in order.
    pub queue: VecDeque<Entry>,
    /// Bytes of what waits.
    pub bytes: usize,
    /// The journal is to be told of its end.
    pub is_listed: bool,
}

/// How a peer can be reached.
#[derive(Debug, Default)]
pub enum Presence {
    /// Not at all.
    #[default]
    Absent,
    /// By its connection.
    Live {
        /// Which.
        connection: ConnectionId,
        /// Largest transmission it takes, in bytes.
        largest: usize,
    },
    /// Later.
    Waiting(Waiting),
}

/// Why a request was not taken for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// No session.
    Absent,
    /// Larger than what the peer stated.
    TooLarge,
    /// Its queue is full.
    Full,
}

impl Entry {
    /// What a connection did not hand over; it gets its place when it waits again.
    pub fn unsent(queued: Queued) -> Self {
        Self { queued, id: 0, position: 0, noted: Noted::New }
    }
}

impl Waiting {
    /// An empty queue.
    pub fn new(why: Why) -> Self {
        Self { why, queue: VecDeque::new(), bytes: 0, is_listed: false }
    }

    /// Appends what waits.
    pub fn push(&mut self, entry: Entry) {
        self.bytes += entry.queued.bytes.len();
        self.queue.push_back(entry);
    }

    /// Takes back a request that is settled, so that it is not delivered late. The oldest time out first, so the
    /// search from the front ends soon.
    pub fn withdraw(&mut self, serial: Serial) {
        if let Some(at) = self.queue.iter().position(|entry| entry.queued.tag == Tag::Request(serial))
            && let Some(entry) = self.queue.remove(at)
        {
            self.bytes -= entry.queued.bytes.len();
        }
    }
}

impl Presence {
    /// Whether the connection belongs to this session, live or just being replaced.
    pub fn is_of(&self, connection: ConnectionId) -> bool {
        match self {
            Self::Live { connection: live, .. } => *live == connection,
            Self::Waiting(Waiting { why: Why::Replaced { old, .. }, .. }) => *old == connection,
            Self::Waiting(_) | Self::Absent => false,
        }
    }

    /// Offers a request; its serial is the newest.
    pub fn ask(
        &mut self,
        serial: Serial,
        request: Transmission<'_>,
        effects: &mut impl Effects,
    ) -> Result<(), NotTaken> {
        match self {
            Self::Absent => Err(NotTaken::Absent),
            Self::Live { largest, .. } if request.wire_len() > *largest => Err(NotTaken::TooLarge),
            Self::Live { connection, .. } => {
                if effects.send(*connection, Tag::Request(serial), request) {
                    Ok(())
                } else {
                    Err(NotTaken::Full)
                }
            }
            Self::Waiting(waiting) if waiting.bytes + request.wire_len() > OUTGOING_MAX => {
                Err(NotTaken::Full)
            }
            Self::Waiting(waiting) => {
                let queued = Queued { tag: Tag::Request(serial), bytes: encode(request) };
                waiting.push(Entry { queued, id: serial, position: serial, noted: Noted::New });
                Ok(())
            }
        }
    }

    /// Hands over an answer. One that does not fit its receiver, by size or by room, becomes "not valid" and empty.
    /// One that waits gets the next serial.
    pub fn answer(
        &mut self,
        response: Transmission<'_>,
        last_serial: &mut Serial,
        effects: &mut impl Effects,
    ) -> Answered {
        match self {
            Self::Absent => Answered::Orphaned,
            Self::Live { connection, largest } => {
                if response.wire_len() <= *largest && effects.send(*connection, Tag::Response, response) {
                    return Answered::Whole;
                }
                effects.reply(*connection, Tag::Response, shrink(response));
                if response.body().is_empty() { Answered::Whole } else { Answered::Shrunk }
            }
            Self::Waiting(waiting) => {
                let fits = waiting.bytes + response.wire_len() <= OUTGOING_MAX;
                let kept = if fits { response } else { shrink(response) };
                let queued = Queued { tag: Tag::Response, bytes: encode(kept) };
                *last_serial += 1;
                let serial = *last_serial;
                waiting.push(Entry { queued, id: serial, position: serial, noted: Noted::New });
                if fits || response.body().is_empty() { Answered::Whole } else { Answered::Shrunk }
            }
        }
    }
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// Handed over as it is.
    Whole,
    /// Handed over as "not valid".
    Shrunk,
    /// Its receiver is gone.
    Orphaned,
}

/// The bytes of a transmission.
pub fn encode(transmission: Transmission<'_>) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(transmission.wire_len());
    transmission.encode(&mut bytes);
    bytes.into_boxed_slice()
}

/// The answer that stands for one that does not fit. One without a payload is small enough as it is.
pub fn shrink(response: Transmission<'_>) -> Transmission<'_> {
    match response {
        Transmission::Response { uid, number, payload, .. } if !payload.data().is_empty() => {
            Transmission::Response { uid, number, code: RESPONSE_NOT_VALID, payload: Payload::EMPTY }
        }
        other => other,
    }
}
