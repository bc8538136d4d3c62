//! The one writer of a journal: commits batches, turns segments over, seals them, and goes on after a failure.
//!
//! A commit is one write and one sync. If either fails, that file is never written or synced again, and the same batch
//! goes to a new segment, whose header says that the old one ends before it. If that fails too the journal is read-only.

mod reclaim;
mod start;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reclaim::Reclaiming;
pub use start::{JUMP, Settings, Start};

use super::Seq;
use super::catalog::{Catalog, SegmentInfo, tail_block};
use super::error::JournalError;
use super::index::IndexBuilder;
use super::medium::{FileId, Medium, MediumError};
use super::record::{self, Record, Records};
use super::segment::{
    self, BATCH_HEAD_LEN, Batch, BatchHead, DATA_START, ENVIRONMENT_LEN, End, Header, SPARE_NAME, TAIL_LEN,
};
use super::stamp::{Clock, JournalId, Stamp};
use super::state::Small;

/// The share of a segment that messages leave free while none is in reserve behind it.
const RECORDS_SHARE: u64 = 8;

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The number behind the last message that is on the medium.
    pub next_seq: Seq,
    /// A new segment was begun, so [`Writer::upkeep`] has something to do.
    pub turned: bool,
    /// The first attempt failed: the medium needs a look.
    pub recovered: bool,
}

/// Whether batches can be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Good,
    /// No, until a restart.
    ReadOnly(MediumError),
}

/// The segment that is written to.
#[derive(Debug)]
struct Current {
    file: FileId,
    info: SegmentInfo,
    index: IndexBuilder,
}

/// The writer.
#[derive(Debug)]
pub struct Writer<M> {
    medium: M,
    segment_len: u64,
    seed: u64,
    journal: JournalId,
    environment: [u8; ENVIRONMENT_LEN],
    boot: u32,
    boot_id: [u8; 16],
    health: Health,
    current: Option<Current>,
    segments: Vec<Arc<SegmentInfo>>,
    /// Segments that are to be sealed.
    unsealed: BTreeMap<u64, IndexBuilder>,
    /// A preallocated file for the next segment, open and synced.
    spare: Option<FileId>,
    small: Small,
    /// Where the last segment ends.
    end: End,
    next_seq: Seq,
    /// The last batch before the start: not known to be flushed, so it is written again first of all.
    carry: Option<Batch>,
    /// The last segment with that batch where it was found, until it is written again.
    carried: Option<Arc<SegmentInfo>>,
    highest: u64,
    newest_us: i64,
    superfluous: Vec<String>,
    /// A segment that is being written once more, how many were, and those that cannot be.
    reclaiming: Option<Reclaiming>,
    reclaims: u64,
    unreclaimable: BTreeSet<u64>,
    buffer: Vec<u8>,
}

impl<M: Medium> Writer<M> {
    /// Puts a batch on the medium. After `Ok` it stays; after an error it was not acknowledged and may be committed
    /// again: on [`JournalError::Full`] once there is room.
    pub fn commit(&mut self, batch: &Batch) -> Result<Committed, JournalError> {
        if let Health::ReadOnly(error) = &self.health {
            return Err(JournalError::ReadOnly(error.clone()));
        }
        if batch.head.first_seq != self.next_seq {
            return Err(JournalError::OutOfStep);
        }
        let mut failed = false;
        if self.fits(batch) {
            match self.append(batch) {
                Ok(()) => return Ok(self.committed(false, false)),
                Err(_) => {
                    failed = true;
                    self.abandon();
                }
            }
        }
        match self.turn(Some(batch)) {
            Ok(()) => return Ok(self.committed(true, failed)),
            Err(MediumError::NoSpace) => return Err(JournalError::Full),
            Err(error) if failed => return Err(self.give_up(error)),
            Err(_) => {}
        }
        match self.turn(Some(batch)) {
            Ok(()) => Ok(self.committed(true, true)),
            Err(MediumError::NoSpace) => Err(JournalError::Full),
            Err(error) => Err(self.give_up(error)),
        }
    }

    /// Commits records of the journal's own that have no number.
    pub fn note(&mut self, now: Stamp, records: &[Record<'_>]) -> Result<Committed, JournalError> {
        let batch = self.own_batch(now, records)?;
        self.commit(&batch)
    }

    /// What there is, for readers.
    pub fn catalog(&self) -> Catalog {
        let mut segments = self.segments.clone();
        if let (Some(carried), Some(last)) = (&self.carried, segments.last_mut()) {
            *last = Arc::clone(carried);
        }
        segments.extend(self.current.as_ref().map(|current| {
            Arc::new(SegmentInfo { summary: current.index.summary(), ..current.info.clone() })
        }));
        let next_seq = segments.last().map_or(self.next_seq, |segment| segment.summary.next_seq);
        Catalog { journal: self.journal, segments, next_seq, boots: Catalog::boots_of(&self.small) }
    }

    /// The small state as of the last commit.
    pub fn small(&self) -> &Small {
        &self.small
    }

    /// Whether batches can be committed.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Whether a segment is in reserve. Without one the medium is as good as full: what is not needed to run should be
    /// refused, so that the rest of the current segment is left for alerts and cursors.
    pub fn has_spare(&self) -> bool {
        self.spare.is_some()
    }

    /// The medium; what is done with it behind the writer's back is not the journal's.
    pub fn medium(&mut self) -> &mut M {
        &mut self.medium
    }

    fn committed(&self, turned: bool, recovered: bool) -> Committed {
        Committed { next_seq: self.next_seq, turned, recovered }
    }

    fn give_up(&mut self, error: MediumError) -> JournalError {
        self.health = Health::ReadOnly(error.clone());
        JournalError::ReadOnly(error)
    }

    fn own_batch(&self, now: Stamp, records: &[Record<'_>]) -> Result<Batch, JournalError> {
        let mut bytes = Vec::new();
        for record in records {
            record::encode(record, 0, &mut bytes).map_err(|_| JournalError::TooLarge)?;
        }
        let start = Stamp { wall_us: now.wall_us.max(self.newest_us), ..now };
        Ok(Batch { head: self.own_head(start, records.len()), records: bytes })
    }

    fn own_head(&self, start: Stamp, records: usize) -> BatchHead {
        BatchHead {
            len: 0,
            crc: 0,
            chain: 0,
            first_seq: self.next_seq,
            numbered: 0,
            records: u32::try_from(records).unwrap_or(u32::MAX),
            start,
            boot: self.boot,
        }
    }

    fn fits(&self, batch: &Batch) -> bool {
        self.current.as_ref().is_some_and(|current| {
            let batch_len = (BATCH_HEAD_LEN + batch.records.len()) as u64;
            let footer = current.index.footer_len_max(batch.head.numbered);
            let end = current.info.end.offset + batch_len;
            // The first message of a segment always fits, so that no size of batch turns over forever.
            let footer = if current.index.messages() == 0 { 0 } else { footer };
            // Without a spare segment the last of the room is for records: what runs, and what makes room, needs them.
            let needs_room = batch.head.numbered > 0 && self.spare.is_none();
            let kept = if needs_room { self.segment_len / RECORDS_SHARE } else { 0 };
            end + footer + kept + TAIL_LEN as u64 <= current.info.file_len
        })
    }

    fn append(&mut self, batch: &Batch) -> Result<(), MediumError> {
        let Some(current) = &mut self.current else { return Err(MediumError::NotFound) };
        let at = current.info.end;
        self.buffer.clear();
        let head = BatchHead { chain: at.crc, ..batch.head };
        let crc = head.encode(&batch.records, current.info.header.epoch, at.offset, &mut self.buffer);
        self.medium.write_at(current.file, at.offset, &self.buffer)?;
        self.medium.sync(current.file)?;
        let bytes = std::mem::take(&mut self.buffer);
        self.took(batch, at.offset, crc, &bytes);
        self.buffer = bytes;
        Ok(())
    }

    /// Takes a committed batch up into what is known.
    fn took(&mut self, batch: &Batch, offset: u64, crc: u32, bytes: &[u8]) {
        let head =
            BatchHead { crc, len: u32::try_from(batch.records.len()).unwrap_or(u32::MAX), ..batch.head };
        if let Some(current) = &mut self.current {
            current.index.begin(offset, &head, bytes);
            current.info.end.offset = offset + bytes.len() as u64;
            current.info.end.crc = crc;
            self.end = current.info.end;
        }
        let mut last_us = 0;
        for raw in Records::new(&batch.records) {
            last_us = raw.since_us;
            // A record from the future changes nothing that this version knows of.
            let Some(record) = raw.decode() else { continue };
            if let (Record::Message(message), Some(current)) = (&record, &mut self.current) {
                current.index.add_message(&head, &raw, message);
            }
            self.small.apply(record);
        }
        self.newest_us = self.newest_us.max(head.start.later(last_us).1);
        self.next_seq = self.next_seq.max(head.next_seq());
    }

    /// The current file failed: it is served as far as it was acknowledged, and never touched again.
    fn abandon(&mut self) {
        if let Some(current) = self.current.take() {
            self.medium.close(current.file);
            let summary = current.index.summary();
            self.segments.push(Arc::new(SegmentInfo { summary, ..current.info }));
        }
    }

    /// The current segment is complete: it can be sealed.
    fn leave_current(&mut self) {
        if let Some(old) = self.current.take() {
            self.medium.close(old.file);
            let info = SegmentInfo { summary: old.index.summary(), ..old.info };
            self.unsealed.insert(info.number(), old.index);
            self.segments.push(Arc::new(info));
        }
    }

    /// Begins a new segment with the snapshot, what is carried over and this batch in it. After an error nothing is
    /// changed but the number of the next attempt.
    fn turn(&mut self, batch: Option<&Batch>) -> Result<(), MediumError> {
        self.highest += 1;
        let number = self.highest;
        let epoch = mix(self.seed, number);
        let carry = self.carry.clone();
        let batches: Vec<&Batch> = carry.iter().chain(batch).collect();
        let Some(start) = batches.last().map(|batch| batch.head.start) else { return Ok(()) };
        let first_seq = batches.first().map_or(self.next_seq, |batch| batch.head.first_seq);
        let header = Header {
            version: segment::VERSION,
            number,
            epoch,
            journal: self.journal,
            boot: self.boot,
            boot_id: self.boot_id,
            first_seq,
            created_us: start.wall_us.max(self.newest_us),
            previous: self.end,
            oldest: self.oldest().unwrap_or(number),
            environment: self.environment,
            once_more: None,
        };
        if start.clock == Clock::Synced {
            self.small.expire(start.wall_us);
        }
        let snapshot = self.snapshot(start, first_seq);
        let mut bytes = header.encode().to_vec();
        let mut places = Vec::new();
        let mut chain = self.end.crc;
        for batch in std::iter::once(&snapshot).chain(batches.iter().copied()) {
            let offset = bytes.len() as u64;
            chain = BatchHead { chain, ..batch.head }.encode(&batch.records, epoch, offset, &mut bytes);
            places.push((batch, offset, chain));
        }
        let kept = self.segment_len / RECORDS_SHARE;
        let file_len = self.segment_len.max((bytes.len() + TAIL_LEN) as u64 + kept);
        let file = self.activate(&header, &bytes, file_len)?;
        self.leave_current();
        let end = End { number, offset: DATA_START, crc: self.end.crc };
        let summary = Default::default();
        let thinned = BTreeSet::new();
        let info = SegmentInfo { header, end, file_len, trailer: None, summary, thinned };
        self.current = Some(Current { file, info, index: IndexBuilder::default() });
        let places: Vec<_> =
            places.into_iter().map(|(batch, offset, crc)| (batch.clone(), offset, crc)).collect();
        for (batch, offset, crc) in places {
            let start = usize::try_from(offset).unwrap_or(0);
            let len = BATCH_HEAD_LEN + batch.records.len();
            self.took(&batch, offset, crc, bytes.get(start..start + len).unwrap_or_default());
        }
        self.carried = None;
        self.carry = None;
        Ok(())
    }

    fn oldest(&self) -> Option<u64> {
        let current = self.current.as_ref().map(|current| current.info.number());
        self.segments.first().map(|segment| segment.number()).or(current)
    }

    fn snapshot(&self, start: Stamp, first_seq: Seq) -> Batch {
        let mut records = Vec::new();
        let data = self.small.encode();
        // Not `encode`: a snapshot may be larger than what is taken from outside.
        record::encode_snapshot(data, &mut records);
        Batch { head: BatchHead { first_seq, ..self.own_head(start, 1) }, records }
    }

    /// Writes a file, makes it durable, and only then gives it its name.
    fn activate(&mut self, header: &Header, bytes: &[u8], file_len: u64) -> Result<FileId, MediumError> {
        let file = match self.spare.take() {
            Some(file) if file_len == self.segment_len => file,
            other => {
                other.into_iter().for_each(|file| self.medium.close(file));
                self.make_spare(file_len)?
            }
        };
        let mut name_it = || {
            self.medium.write_at(file, 0, bytes)?;
            let tail = tail_block(&header.encode(), None);
            self.medium.write_at(file, file_len - TAIL_LEN as u64, &tail)?;
            self.medium.sync(file)?;
            self.medium.rename(SPARE_NAME, &segment::name(header.number))?;
            self.medium.sync_folder()
        };
        let named = name_it();
        if named.is_err() {
            self.medium.close(file);
            _ = self.medium.remove(SPARE_NAME);
            // If it has its name already, what is written next does not lead to it.
            self.superfluous.push(segment::name(header.number));
            // If that name is durable nothing behind the end that it tells of is believed: no more of it, then.
            self.leave_current();
        }
        named.map(|()| file)
    }

    /// A new file of zeros under the name of the spare.
    fn make_spare(&mut self, len: u64) -> Result<FileId, MediumError> {
        match self.medium.create(SPARE_NAME, len) {
            Err(MediumError::Exists) => {
                self.medium.remove(SPARE_NAME)?;
                self.medium.create(SPARE_NAME, len)
            }
            other => other,
        }
    }
}

/// A number for each segment that nobody can guess from another (splitmix64).
fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
