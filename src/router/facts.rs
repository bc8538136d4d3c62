//! What of the router outlives the process: facts that are told when they happen, and calls that wait.
//!
//! A fact is told through [`Effects::remember`](super::Effects::remember). Calls are asked for with
//! [`Router::take_call_changes`](super::Router::take_call_changes) before the journal is written, so that one that is
//! over by then costs nothing. Both are given back to [`Router::restore`](super::Router::restore).
//!
//! The order on flash: the call changes of a turn stand ahead of its [session facts](Fact::is_of_session). A record
//! that is cut anywhere then never gives the calls of a session that ended to the next session of the same peer.

use std::fmt;
use std::time::Instant;

use super::Serial;
use crate::wire::{Format, Token, Uid};

/// Something that a restart must not forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// A telemetry token was made. It must be on flash before the object gets it.
    TokenIssued {
        /// Whose.
        uid: Uid,
        /// The token.
        token: Token,
        /// Its end.
        expires: Instant,
    },
    /// All tokens of an object ended.
    TokensEnded {
        /// Whose.
        uid: Uid,
    },
    /// A session is live.
    SessionLive {
        /// Whose; the empty UID: the central's.
        uid: Uid,
    },
    /// A session waits for its peer.
    SessionKept {
        /// Whose.
        uid: Uid,
        /// Its end, if nobody comes.
        until: Instant,
    },
    /// A session is over.
    SessionEnded {
        /// Whose.
        uid: Uid,
    },
}

impl Fact {
    /// Whether the call changes of the same moment have to stand ahead of it.
    pub fn is_of_session(&self) -> bool {
        match self {
            Self::SessionLive { .. } | Self::SessionKept { .. } | Self::SessionEnded { .. } => true,
            Self::TokenIssued { .. } | Self::TokensEnded { .. } => false,
        }
    }
}

/// Which way an object's request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the central's session.
    Session,
    /// To the request webhook.
    Webhook,
}

/// A transmission in the queue of a session whose peer is away.
#[derive(Clone, PartialEq, Eq)]
pub struct Waits {
    /// Its place: smaller ones are sent first.
    pub position: Serial,
    /// Its bytes on the wire.
    pub bytes: Box<[u8]>,
}

/// Shows how long it is and none of it.
impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waits({}, {} bytes)", self.position, self.bytes.len())
    }
}

/// What is known of any call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// When it was asked.
    pub started: Instant,
    /// When its asker stops waiting.
    pub deadline: Instant,
    /// The format of what was asked.
    pub format: Format,
}

/// A call, or an answer, that must survive a restart. Calls of HTTP callers are not among them: their connections end
/// with the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingCall {
    /// The central's session asked an object.
    ToObject {
        /// The object.
        object: Uid,
        /// The number on the object's side.
        number: u16,
        /// The central's number.
        central_number: u16,
        /// What else is known.
        about: About,
        /// Where it waits; `None`: it was handed over.
        waits: Option<Waits>,
    },
    /// An object asked the central.
    ToCentral {
        /// The object.
        object: Uid,
        /// Its number.
        number: u16,
        /// Which way.
        way: Way,
        /// What else is known.
        about: About,
        /// Where it waits; `None`: it was handed over.
        waits: Option<Waits>,
    },
    /// An answer was given while its asker was away.
    Answer {
        /// Who gets it.
        to: Uid,
        /// The answer.
        waits: Waits,
    },
}

/// What the journal must know of calls, and does not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallChange {
    /// It is pending: new, or not as it was recorded.
    Waiting {
        /// Names it, over restarts too.
        id: Serial,
        /// As it is now.
        call: PendingCall,
    },
    /// It was recorded, and is over.
    Settled {
        /// Which.
        id: Serial,
    },
}

/// How a session stood when the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoredSession {
    /// Live.
    Live,
    /// Kept.
    Kept {
        /// Until then.
        until: Instant,
    },
}

/// A token that was valid when the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoredToken {
    /// Whose.
    pub uid: Uid,
    /// The token.
    pub token: Token,
    /// Its end.
    pub expires: Instant,
}

/// What the facts and calls of earlier processes add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Serials begin above. Not one that an earlier process used: numbers of HTTP calls at the objects come of them,
    /// and a late answer to an earlier call must not meet a new one. The wall clock in microseconds will do.
    pub serial_floor: Serial,
    /// Tokens, the oldest of an object first.
    pub tokens: Vec<RestoredToken>,
    /// Sessions, the central's too.
    pub sessions: Vec<(Uid, RestoredSession)>,
    /// Calls by their id.
    pub calls: Vec<(Serial, PendingCall)>,
}
