//! The side of the journal where things are appended: in memory, bounded, never waiting.
//!
//! What is appended gets its number at once and goes into a batch; the writer's thread takes batches, commits them, and
//! says so here. The newest messages stay in memory, so that whoever keeps up reads none from the medium.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

use super::Seq;
use super::record::{self, Message, Record};
use super::segment::{Batch, BatchHead};
use super::stamp::{Clock, JournalId, Stamp};
use super::stored::Stored;
use super::writer::Start;
use crate::wire::GroupName;

/// What is kept of a message in memory besides its data, roughly, in bytes.
const STORED_OVERHEAD: usize = size_of::<Stored>() + 32;

/// Bytes that a batch has room for to begin with: most messages.
const BATCH_ROOM: usize = 512;

/// Times may lie so far ahead of the clock, in microseconds, and still pass for right: clocks are set back a little now and
/// then.
const AHEAD_MAX_US: i64 = 1_000_000;

/// Bounds of what is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of records that are not on the medium yet. Records without a number may take as much again: they are few,
    /// and what runs depends on them.
    pub pending_max: usize,
    /// Bytes of messages that are kept after they are.
    pub tail_max: usize,
}

/// Why something is not appended. The caller counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The medium is slower than the input: too much waits already.
    Behind,
    /// The medium is full, and what is left is for what is needed to run.
    Full,
    /// Nothing is written any more: the medium needs repair.
    ReadOnly,
    /// It is larger than the journal takes.
    TooLarge,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Behind => "the medium is slower than the input: send less, or wait",
            Self::Full => "the journal is full: wait for room, or give it more",
            Self::ReadOnly => "the journal is read-only: its medium needs repair",
            Self::TooLarge => "the message is larger than the journal takes",
        })
    }
}

impl std::error::Error for Refused {}

/// What is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Takes {
    /// Everything.
    Everything,
    /// Records without a number, and messages that the concentrator makes itself.
    Essentials,
    /// Nothing.
    Nothing,
}

/// The place of a record among all that were appended since the start, numbered or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ticket(u64);

/// The side where things are appended.
#[derive(Debug)]
pub struct Front {
    start: Start,
    bounds: Bounds,
    takes: Takes,
    /// Groups that have all that they may have: the sender is told, as if the journal were full.
    full_groups: BTreeSet<GroupName>,
    next_seq: Seq,
    appended: Ticket,
    pending: VecDeque<Batch>,
    pending_bytes: usize,
    /// Records that the writer has, in bytes.
    taken_bytes: usize,
    durable_seq: Seq,
    durable: Ticket,
    tail: VecDeque<Stored>,
    tail_bytes: usize,
    payload_bytes: u64,
    last: Option<Stamp>,
}

impl Front {
    /// Goes on where the writer's start says.
    pub fn new(start: Start, bounds: Bounds) -> Self {
        Self {
            start,
            bounds,
            takes: Takes::Everything,
            full_groups: BTreeSet::new(),
            next_seq: start.next_seq,
            appended: Ticket::default(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            taken_bytes: 0,
            durable_seq: start.next_seq,
            durable: Ticket::default(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            payload_bytes: 0,
            last: None,
        }
    }

    /// Changes what is taken from now on.
    pub fn set_takes(&mut self, takes: Takes) {
        self.takes = takes;
    }

    /// Messages of these groups are refused from now on, and of no others.
    pub fn set_full_groups(&mut self, groups: &BTreeSet<GroupName>) {
        self.full_groups.clone_from(groups);
    }

    /// Bytes of payload of all messages that were appended since the start.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// What is taken now.
    pub fn takes(&self) -> Takes {
        self.takes
    }

    /// Appends a message and gives its number.
    pub fn append(&mut self, message: Message<'_>, now: Stamp) -> Result<Seq, Refused> {
        self.append_within(message, now, self.bounds.pending_max, self.start.batch_max)
    }

    /// Appends a message and, committed together with it, one more: both or none. Gives the number of the first.
    pub fn append_with(
        &mut self,
        message: Message<'_>,
        beside: Message<'_>,
        now: Stamp,
    ) -> Result<Seq, Refused> {
        let seq = self.append(message, now)?;
        // Small, and in the batch that was just appended to, however full that is.
        self.append_within(beside, now, usize::MAX, usize::MAX)?;
        Ok(seq)
    }

    fn append_within(
        &mut self,
        message: Message<'_>,
        now: Stamp,
        pending_max: usize,
        batch_max: usize,
    ) -> Result<Seq, Refused> {
        match self.takes {
            Takes::Everything if !self.full_groups.contains(&message.group) => {}
            Takes::Everything | Takes::Essentials if message.via == record::Via::Local => {}
            Takes::Everything | Takes::Essentials => return Err(Refused::Full),
            Takes::Nothing => return Err(Refused::ReadOnly),
        }
        let record = Record::Message(message);
        let stamp = self.push(&record, now, pending_max, batch_max)?;
        let seq = self.next_seq;
        self.next_seq += 1;
        if let Record::Message(message) = record {
            let stored = Stored { seq, boot: self.start.boot, stamp, message: message.into_owned() };
            self.tail_bytes += size(&stored);
            self.payload_bytes += stored.message.payload.len() as u64;
            self.tail.push_back(stored);
        }
        Ok(seq)
    }

    /// Appends a record without a number, and gives its place: see [`Self::is_durable`].
    pub fn note(&mut self, record: &Record<'_>, now: Stamp) -> Result<Ticket, Refused> {
        self.note_together(std::slice::from_ref(record), now)
    }

    /// Appends records without a number that are committed together: all of them or none. Gives the last one's place.
    pub fn note_together(&mut self, records: &[Record<'_>], now: Stamp) -> Result<Ticket, Refused> {
        if self.takes == Takes::Nothing {
            return Err(Refused::ReadOnly);
        }
        if records.iter().any(Record::is_numbered) {
            return Err(Refused::TooLarge);
        }
        let pending_max = self.bounds.pending_max.saturating_mul(2);
        let mut batch_max = self.start.batch_max;
        for record in records {
            self.push(record, now, pending_max, batch_max)?;
            batch_max = usize::MAX;
        }
        Ok(self.appended)
    }

    /// Puts the bytes of a record into the last batch, or a new one.
    fn push(
        &mut self,
        record: &Record<'_>,
        now: Stamp,
        pending_max: usize,
        batch_max: usize,
    ) -> Result<Stamp, Refused> {
        if self.waiting_bytes() >= pending_max {
            return Err(Refused::Behind);
        }
        let start = self.not_backwards(now);
        let open = self.pending.back().filter(|batch| {
            let since = start.mono_us.saturating_sub(batch.head.start.mono_us);
            batch.head.start.clock == start.clock
                && batch.records.len() < batch_max
                && since < u32::MAX.into()
        });
        if open.is_none() {
            let records = Vec::with_capacity(BATCH_ROOM);
            self.pending.push_back(Batch { head: self.head(start), records });
        }
        let Some(batch) = self.pending.back_mut() else { return Err(Refused::Behind) };
        let since = u32::try_from(start.mono_us - batch.head.start.mono_us).unwrap_or(u32::MAX);
        let before = batch.records.len();
        let encoded = record::encode(record, since, &mut batch.records);
        let stamp = Stored::stamp_of(&batch.head, since.into());
        if encoded.is_err() {
            if batch.head.records == 0 {
                self.pending.pop_back();
            }
            return Err(Refused::TooLarge);
        }
        batch.head.records += 1;
        batch.head.numbered += u32::from(record.is_numbered());
        self.pending_bytes += batch.records.len() - before;
        self.appended.0 += 1;
        self.last = Some(stamp);
        Ok(stamp)
    }

    /// Both clocks, neither of them behind the record before. Where that makes a right clock wrong, because an earlier one
    /// ran ahead, it is told as such, and the time of the boot says what time it was.
    fn not_backwards(&self, now: Stamp) -> Stamp {
        let floor = self.last.map_or(self.start.floor_us, |last| last.wall_us);
        let is_ahead = floor > now.wall_us.saturating_add(AHEAD_MAX_US);
        Stamp {
            mono_us: now.mono_us.max(self.last.map_or(0, |last| last.mono_us)),
            wall_us: now.wall_us.max(floor),
            clock: if is_ahead { Clock::Unsynced } else { now.clock },
        }
    }

    fn head(&self, start: Stamp) -> BatchHead {
        BatchHead {
            len: 0,
            crc: 0,
            chain: 0,
            first_seq: self.next_seq,
            numbered: 0,
            records: 0,
            start,
            boot: self.start.boot,
        }
    }

    /// Takes the oldest batch to be committed. Whoever takes it commits it, as often as it needs, before the next.
    pub fn take_batch(&mut self) -> Option<Batch> {
        let batch = self.pending.pop_front()?;
        self.pending_bytes -= batch.records.len();
        self.taken_bytes += batch.records.len();
        Some(batch)
    }

    /// The place that the next record gets.
    pub fn next_place(&self) -> Ticket {
        Ticket(self.appended.0 + 1)
    }

    /// A batch with nothing in it, behind all that was taken.
    pub fn empty_batch(&self, now: Stamp) -> Batch {
        Batch { head: self.head(self.not_backwards(now)), records: Vec::new() }
    }

    /// Messages in memory from this number on.
    pub fn from(&self, seq: Seq) -> impl Iterator<Item = &Stored> {
        let first = self.tail.front().map_or(seq, |oldest| oldest.seq);
        let skipped = usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX);
        self.tail.iter().skip(skipped)
    }

    /// Whether a record without a number would be taken now.
    pub fn takes_notes(&self) -> bool {
        self.takes != Takes::Nothing && self.waiting_bytes() < self.bounds.pending_max.saturating_mul(2)
    }

    /// Batches that can be taken.
    pub fn pending_batches(&self) -> usize {
        self.pending.len()
    }

    /// The batch that was taken last is on the medium.
    pub fn committed(&mut self, batch: &Batch) {
        self.taken_bytes = self.taken_bytes.saturating_sub(batch.records.len());
        self.durable_seq = self.durable_seq.max(batch.head.next_seq());
        self.durable.0 += u64::from(batch.head.records);
        while self.tail_bytes > self.bounds.tail_max
            && self.tail.front().is_some_and(|oldest| oldest.seq < self.durable_seq)
            && let Some(oldest) = self.tail.pop_front()
        {
            self.tail_bytes -= size(&oldest);
        }
    }

    /// Which journal this is.
    pub fn journal(&self) -> JournalId {
        self.start.journal
    }

    /// Which boot this is.
    pub fn boot(&self) -> u32 {
        self.start.boot
    }

    /// The number behind the last message that is on the medium.
    pub fn durable(&self) -> Seq {
        self.durable_seq
    }

    /// The place of the last record that is on the medium.
    pub fn durable_place(&self) -> Ticket {
        self.durable
    }

    /// Whether the record of this place is on the medium.
    pub fn is_durable(&self, ticket: Ticket) -> bool {
        ticket <= self.durable
    }

    /// The place of the newest record: once it is durable, all before are.
    pub fn newest(&self) -> Ticket {
        self.appended
    }

    /// The number that the next message gets.
    pub fn next_seq(&self) -> Seq {
        self.next_seq
    }

    /// Bytes of records that are not on the medium.
    pub fn waiting_bytes(&self) -> usize {
        self.pending_bytes + self.taken_bytes
    }

    /// Whether so much waits that it should not wait for more.
    pub fn is_filling(&self) -> bool {
        self.waiting_bytes() >= self.bounds.pending_max / 4
    }

    /// The first number that is in memory; what the next message gets if there is none.
    pub fn tail_start(&self) -> Seq {
        self.tail.front().map_or(self.next_seq, |oldest| oldest.seq)
    }

    /// The message with this number, if it is in memory. On the medium or not: see [`Self::durable`].
    pub fn get(&self, seq: Seq) -> Option<&Stored> {
        let at = seq.checked_sub(self.tail.front()?.seq)?;
        self.tail.get(usize::try_from(at).ok()?)
    }
}

fn size(stored: &Stored) -> usize {
    let message = &stored.message;
    let network = message.network.as_ref().map_or(0, |network| network.len());
    let source = message.source.as_ref().map_or(0, |source| source.len());
    STORED_OVERHEAD + message.payload.len() + network + source
}

#[cfg(test)]
mod tests;
