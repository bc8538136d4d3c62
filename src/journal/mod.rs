//! What has to arrive, some time: the one way from input to output for messages.
//!
//! A message gets a sequence number and stays until every destination has it, or until it has to make room. What is
//! acknowledged is on the medium; nothing unacknowledged is said to be; the journal always starts.
//!
//! [`front`] takes what is appended and keeps the newest in memory; [`writer`] commits it, in [`record`]s, in batches, in
//! [`segment`]s (their bytes are described there), over a [`medium`]; [`recovery`] reads what there is at a start;
//! [`state`] is everything small that it adds up to. [`reader`] reads back by any condition from the [`catalog`] of a
//! commit, [`scrub`] all of it; [`retention`] says what goes; [`backup`] copies. All of it is synchronous and knows no
//! clock, no file, no thread: those are arguments.
//!
//! The hub is not joined to it yet: until then messages for the central wait in [`MemoryLog`], in bounded memory and
//! for one run, whose sum holds at any moment: `appended = released + dropped + stored`.

pub mod backup;
pub mod catalog;
mod codec;
pub mod error;
pub mod front;
pub mod index;
pub mod medium;
pub mod reader;
pub mod record;
pub mod recovery;
pub mod retention;
pub mod scan;
pub mod scrub;
pub mod segment;
pub mod stamp;
pub mod state;
pub mod stored;
pub mod writer;

use std::collections::BTreeMap;

use crate::wire::{Format, GroupName, Uid};

/// The position of a message: first 1, one more for each, never reused.
pub type Seq = u64;

/// What is kept of a message besides its payload, roughly, in bytes: the record, its place in the queue and the
/// allocator's share.
const RECORD_OVERHEAD: usize = 96;

/// What happens to a new message when the log is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// The oldest message makes room, and is counted.
    DropOldest,
    /// The new message is refused, and counted.
    RefuseNew,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub uid: Uid,
    /// The sender's group when it came in.
    pub group: GroupName,
    /// How its data is meant.
    pub format: Format,
    /// Its data.
    pub data: Box<[u8]>,
}

impl Message {
    fn size(&self) -> usize {
        RECORD_OVERHEAD + self.data.len()
    }
}

/// The log is full and the policy is to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// How full the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Messages that are stored.
    pub messages: usize,
    /// Bytes that they take, overhead included.
    pub bytes: usize,
    /// Bytes that they may take.
    pub limit: usize,
}

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages taken.
    pub appended: u64,
    /// Messages let go of because every destination has them.
    pub released: u64,
    /// Messages that had to make room.
    pub dropped: u64,
    /// Messages refused because the log was full; not among `appended`.
    pub refused: u64,
}

/// Messages in order, in bounded memory.
#[derive(Debug)]
pub struct MemoryLog {
    messages: BTreeMap<Seq, Message>,
    next: Seq,
    bytes: usize,
    limit: usize,
    on_full: OnFull,
    totals: Totals,
}

impl MemoryLog {
    /// An empty log of at most `limit` bytes.
    pub fn new(limit: usize, on_full: OnFull) -> Self {
        Self { messages: BTreeMap::new(), next: 1, bytes: 0, limit, on_full, totals: Totals::default() }
    }

    /// Changes what happens when the log is full.
    pub fn set_on_full(&mut self, on_full: OnFull) {
        self.on_full = on_full;
    }

    /// Appends a message and gives its number.
    pub fn append(&mut self, message: Message) -> Result<Seq, Full> {
        let size = message.size();
        while self.bytes + size > self.limit {
            let oldest = match self.on_full {
                OnFull::DropOldest => self.messages.pop_first(),
                OnFull::RefuseNew => None,
            };
            let Some((_, oldest)) = oldest else {
                self.totals.refused += 1;
                return Err(Full);
            };
            self.bytes -= oldest.size();
            self.totals.dropped += 1;
        }
        let seq = self.next;
        self.next += 1;
        self.bytes += size;
        self.totals.appended += 1;
        self.messages.insert(seq, message);
        Ok(seq)
    }

    /// The number that the next message gets.
    pub fn next_seq(&self) -> Seq {
        self.next
    }

    /// The first stored message at or behind this number.
    pub fn from(&self, seq: Seq) -> Option<(Seq, &Message)> {
        self.messages.range(seq..).next().map(|(seq, message)| (*seq, message))
    }

    /// Lets go of one message, because every destination has it; whether it was still stored.
    pub fn release(&mut self, seq: Seq) -> bool {
        match self.messages.remove(&seq) {
            Some(message) => {
                self.bytes -= message.size();
                self.totals.released += 1;
                true
            }
            None => false,
        }
    }

    /// How full the log is.
    pub fn usage(&self) -> Usage {
        Usage { messages: self.messages.len(), bytes: self.bytes, limit: self.limit }
    }

    /// Totals since the start.
    pub fn totals(&self) -> Totals {
        self.totals
    }
}

#[cfg(test)]
mod tests;
