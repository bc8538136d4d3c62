//! What happens when time passes, in order of its moment.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::wire::{Token, Uid};

/// Something that is due at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// An object's answer is overdue.
    Call {
        /// The object that was asked.
        uid: Uid,
        /// The number on its side.
        number: u16,
    },
    /// The answer to an object is overdue.
    Asked {
        /// The object that asked.
        uid: Uid,
        /// Its number.
        number: u16,
    },
    /// A kept session is given up.
    KeepEnd(Uid),
    /// A telemetry token ends.
    TokenExpiry(Token),
    /// A connected object gets a new token.
    TokenRenewal(Uid),
}

/// Pending timers. Each is removed when what it watches is settled, so there are no more than live things.
#[derive(Debug, Default)]
pub struct Timers(BTreeSet<(Instant, Timer)>);

impl Timers {
    /// Adds a timer.
    pub fn add(&mut self, at: Instant, timer: Timer) {
        self.0.insert((at, timer));
    }

    /// Removes a timer, added for that moment.
    pub fn remove(&mut self, at: Instant, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    /// Takes out the earliest timer that is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }

    /// The earliest moment.
    pub fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
