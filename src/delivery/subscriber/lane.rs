//! One of a subscriber's two ways through the journal: what comes in now, and what is behind.

use std::time::Instant;

use super::super::feed::{Feed, Judgement, Source};
use crate::journal::Seq;
use crate::journal::stored::Stored;
use crate::wire::GroupName;

/// Bytes of the payloads of one call, roughly: it ends with the message that would bring them above, and has one at least.
pub const BATCH_BYTES_MAX: usize = 128 * 1024;
/// Messages that are looked at or copied in one go: everybody waits while that happens.
pub const LOOK_MAX: usize = 256;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// What comes in, in its order.
    Main,
    /// What was left behind, and what is to go out once more.
    Behind,
}

/// A way, and the messages that go out next by it.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) feed: Feed,
    pub(super) messages: Vec<Stored>,
    bytes: usize,
    /// When the first of them was taken.
    pub(super) since: Option<Instant>,
    /// The last number of what is tried again: the same messages make the same call.
    pub(super) limit: Option<Seq>,
    /// Fewer messages than usual: a call with more of them was refused.
    pub(super) cap: Option<usize>,
    /// Attempts of what comes next that failed.
    pub(super) attempts: u32,
    /// No attempt before.
    pub(super) not_before: Option<Instant>,
}

/// How far gathering came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gathered {
    /// There is no room for more.
    Full,
    /// That is all until `end`.
    All,
    /// A part of the journal must be read first.
    Unread,
    /// So much was looked at that others should have their turn.
    Enough,
}

impl Lane {
    /// Takes messages that are `wanted`, as long as there is room for them. `given_up` is told of those in front of the
    /// first that are too old, and says whether they are.
    pub(super) fn gather(
        &mut self,
        source: Source<'_>,
        batch_max: usize,
        now: Instant,
        wanted: impl Fn(&Stored) -> bool,
        mut given_up: impl FnMut(&Stored) -> bool,
    ) -> Gathered {
        let batch_max = self.cap.unwrap_or(batch_max).min(batch_max);
        let mut looked = 0;
        loop {
            if self.messages.len() >= batch_max || self.bytes >= BATCH_BYTES_MAX {
                return Gathered::Full;
            }
            let (is_first, bytes) = (self.messages.is_empty(), self.bytes);
            let (mut is_full, mut is_enough) = (false, false);
            let found = self.feed.next(source, |stored| {
                looked += 1;
                is_enough = looked > LOOK_MAX;
                is_full = !is_first && bytes + stored.message.payload.len() > BATCH_BYTES_MAX;
                if is_enough {
                    Judgement::Stop
                } else if !wanted(stored) || is_first && given_up(stored) {
                    Judgement::Pass
                } else if is_full {
                    Judgement::Stop
                } else {
                    Judgement::Take
                }
            });
            if let Some(found) = found {
                self.bytes += found.message.payload.len();
                self.messages.push(found.clone());
                self.since.get_or_insert(now);
                continue;
            }
            return match (is_full, is_enough) {
                (_, true) => Gathered::Enough,
                (true, _) => Gathered::Full,
                _ if self.feed.position() < source.end => Gathered::Unread,
                _ => Gathered::All,
            };
        }
    }

    /// Takes the messages to be sent.
    pub(super) fn take(&mut self) -> Vec<Stored> {
        self.bytes = 0;
        self.since = None;
        std::mem::take(&mut self.messages)
    }

    /// Lets go of what is gathered and goes on at this number.
    pub(super) fn go_to(&mut self, seq: Seq) {
        let _dropped = self.take();
        self.feed.go_to(seq);
    }

    /// The number below which nothing is gathered, and nothing left.
    pub(super) fn start(&self) -> Seq {
        self.messages.first().map_or(self.feed.position(), |first| first.seq)
    }

    /// Its next attempt may be made at once, as a first one.
    pub(super) fn forget_failures(&mut self) {
        (self.limit, self.cap, self.attempts, self.not_before) = (None, None, 0, None);
    }

    /// Messages from `first` to `last` are leaving the journal.
    pub(super) fn write_off(&mut self, first: Seq, last: Seq) {
        self.retain(|stored| !(first..=last).contains(&stored.seq));
    }

    /// All others are leaving the journal.
    pub(super) fn retain(&mut self, stays: impl FnMut(&Stored) -> bool) {
        self.messages.retain(stays);
        self.bytes = self.messages.iter().map(|stored| stored.message.payload.len()).sum();
        if self.messages.is_empty() {
            self.since = None;
        }
    }
}

/// A call that is under way.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) ticket: u64,
    pub(super) way: Way,
    /// Whether they go out once more: the books have them already.
    pub(super) is_again: bool,
    /// What it brings that is still there.
    pub(super) messages: Vec<(Seq, GroupName)>,
    /// The first and last number that it stands for; those that the subscriber does not get lie between.
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) count: usize,
}
