//! Messages that left the journal before a destination had them: which, when, and why.

use serde::{Deserialize, Serialize};

use super::State;
use crate::journal::Seq;
use crate::journal::stamp::Stamp;

/// Why messages left the journal undelivered, or what else a number in the books stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// A destination has them.
    Delivered,
    /// Their time of keeping was over.
    Expired,
    /// The journal was full, and the oldest made room.
    Full,
    /// The journal was full, and the new ones were refused.
    Refused,
    /// The medium lost them.
    Damaged,
    /// Their object lost its right.
    Revoked,
    /// A destination did not take them for so long that they were given up.
    Dead,
}

impl Cause {
    /// What it says of one message, and what became of that.
    pub fn says(self) -> (State, &'static str) {
        match self {
            Self::Delivered => (State::Delivered, "it was delivered"),
            Self::Expired => (State::Expired, "its time of keeping was over"),
            Self::Full => (State::Dropped, "the journal was full"),
            Self::Refused => (State::Refused, "there was no room for it"),
            Self::Damaged => (State::Dropped, "the medium lost it"),
            Self::Revoked => (State::Dropped, "its object lost its right"),
            Self::Dead => (State::Dead, "it was not taken for too long"),
        }
    }
}

/// How attempts came to an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The first number; those of messages that are not for the destination may lie between.
    pub from: Seq,
    /// The last number.
    pub to: Seq,
    /// How many messages.
    pub count: u64,
    /// Attempts in all.
    pub attempts: u32,
    /// Whether they are dead; else the last attempt succeeded.
    pub is_dead: bool,
    /// When, by the wall clock, microseconds since 1970.
    pub at_us: i64,
    /// Why the attempt failed that failed last; empty if none did.
    pub reason: String,
}

/// A moment that can be told when the clock was not set then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// In which boot.
    pub boot: u32,
    /// When.
    pub stamp: Stamp,
}

/// Messages that are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// The first number.
    pub from: Seq,
    /// The last number.
    pub to: Seq,
    /// How many of them.
    pub count: u64,
    /// Why.
    pub cause: Cause,
    /// Who did not get them.
    pub destination: String,
    /// When, if that is known.
    pub at: Option<Moment>,
}
