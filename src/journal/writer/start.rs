//! From a folder to a writer.

use std::sync::Arc;

use super::{Health, Writer};
use crate::journal::Seq;
use crate::journal::catalog::SegmentInfo;
use crate::journal::error::JournalError;
use crate::journal::medium::Medium;
use crate::journal::record::{JumpReason, Record, Records};
use crate::journal::recovery::{Report, recover};
use crate::journal::segment::{Batch, BatchHead, ENVIRONMENT_LEN, End, SEGMENT_LEN_MAX, SEGMENT_LEN_MIN};
use crate::journal::stamp::{JournalId, Stamp};
use crate::journal::state::Small;

/// Numbers that are left out where numbers may have been given away that are not known here.
pub const JUMP: u64 = 1 << 20;

/// What the journal is opened with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bytes of a segment; brought into bounds.
    pub segment_len: u64,
    /// Sixteen random bytes; become the journal's own number if it is new.
    pub fresh_id: [u8; 16],
    /// A random number of this start, from which the epochs of segments follow.
    pub seed: u64,
    /// The operating system's name for this boot.
    pub boot_id: [u8; 16],
    /// Which environment this is.
    pub environment: [u8; ENVIRONMENT_LEN],
    /// What time it is.
    pub now: Stamp,
    /// It was just restored from a copy: numbers jump once.
    pub restored: bool,
}

/// Where appending goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The journal.
    pub journal: JournalId,
    /// The number that the next message gets.
    pub next_seq: Seq,
    /// Which boot this is, counted from 1.
    pub boot: u32,
    /// No wall clock may be before this one, in microseconds.
    pub floor_us: i64,
    /// Bytes of a batch at most, so that segments are used well.
    pub batch_max: usize,
}

/// The number behind a batch: behind its last message, or where it jumps to.
fn behind(batch: &Batch) -> Seq {
    let mut small = Small::default();
    Records::new(&batch.records).filter_map(|raw| raw.decode()).for_each(|record| small.apply(record));
    small.seq_floor.max(batch.head.next_seq())
}

impl<M: Medium> Writer<M> {
    /// Opens what is there, or begins a new journal. Reading errors and a full or broken medium do not keep it from
    /// starting; only a folder that cannot be listed, or one of a newer format or of another environment does.
    pub fn open(mut medium: M, settings: &Settings) -> Result<(Self, Report), JournalError> {
        let found = recover(&mut medium)?;
        if let Some(newest) =
            found.newest.as_ref().filter(|newest| newest.environment != settings.environment)
        {
            let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
            return Err(JournalError::OtherEnvironment {
                found: name(&newest.environment),
                wanted: name(&settings.environment),
            });
        }
        // What was found may have got its name without a flush, and what is written next counts on it.
        let named = match found.newest {
            Some(_) => medium.sync_folder().or_else(|_| medium.sync_folder()),
            None => Ok(()),
        };
        let newest = found.newest.as_ref();
        let same_boot = newest.is_some_and(|newest| newest.boot_id == settings.boot_id);
        let boot = newest.map_or(1, |newest| newest.boot + u32::from(!same_boot));
        let next_seq = found.next_seq().max(found.small.seq_floor);
        // What could not be read now may be readable again: the next segment says that there is something before it.
        let end = match found.segments.last() {
            Some(segment) if !found.end_lost => segment.end,
            _ => End { number: found.highest, offset: 0, crc: 0 },
        };
        let damaged: Vec<_> = found.report.damaged.iter().map(|damage| damage.segment).collect();
        let mut writer = Self {
            medium,
            segment_len: settings.segment_len.clamp(SEGMENT_LEN_MIN, SEGMENT_LEN_MAX),
            seed: settings.seed,
            journal: newest.map_or(JournalId(settings.fresh_id), |newest| newest.journal),
            environment: settings.environment,
            boot,
            boot_id: settings.boot_id,
            health: named.map_or_else(Health::ReadOnly, |()| Health::Good),
            current: None,
            segments: found.segments.into_iter().map(Arc::new).collect(),
            // A damaged one is left as it is: a copy may mend it, and each start reports it again.
            unsealed: found.unsealed.into_iter().filter(|(number, _)| !damaged.contains(number)).collect(),
            spare: None,
            small: found.small,
            end,
            next_seq,
            carry: found.last,
            carried: None,
            highest: found.highest,
            newest_us: found.newest_us,
            superfluous: found.superfluous,
            reclaiming: None,
            reclaims: 0,
            unreclaimable: damaged.iter().copied().collect(),
            buffer: Vec::new(),
        };
        let behind_carry = writer.carry.as_ref().map_or(next_seq, behind);
        if writer.carry.is_some() && writer.health == Health::Good {
            // Failing here is no reason not to start: it is tried again with the first commit.
            _ = writer.turn(None);
        }
        writer.carried = writer.serve_carry();
        writer.next_seq = writer.next_seq.max(behind_carry);
        if settings.restored {
            writer.jump(settings.now, JumpReason::Restore);
        } else if found.end_lost {
            writer.jump(settings.now, JumpReason::Damage);
        }
        Ok((writer, found.report))
    }

    /// The last segment with the batch that could not be written again yet: it is read where it is.
    fn serve_carry(&self) -> Option<Arc<SegmentInfo>> {
        let (carry, last) = (self.carry.as_ref()?, self.segments.last()?);
        let mut index = self.unsealed.get(&last.number())?.clone();
        let mut bytes = Vec::new();
        let head = BatchHead { chain: last.end.crc, ..carry.head };
        let crc = head.encode(&carry.records, last.header.epoch, last.end.offset, &mut bytes);
        let len = u32::try_from(carry.records.len()).unwrap_or(u32::MAX);
        index.add(last.end.offset, &BatchHead { crc, len, ..head }, &bytes, &carry.records);
        let end = End { offset: last.end.offset + bytes.len() as u64, crc, ..last.end };
        Some(Arc::new(SegmentInfo { end, summary: index.summary(), ..SegmentInfo::clone(last) }))
    }

    /// Everything small, with the batch of before the start that could not be written again yet.
    pub fn small_with_carry(&self) -> Small {
        let mut small = self.small.clone();
        let records = self.carry.iter().flat_map(|carry| Records::new(&carry.records));
        records.filter_map(|raw| raw.decode()).for_each(|record| small.apply(record));
        small
    }

    fn jump(&mut self, now: Stamp, reason: JumpReason) {
        let from = self.next_seq;
        let to = from.saturating_add(JUMP);
        // If it cannot be recorded now, the numbers are left out all the same.
        _ = self.note(now, &[Record::Jump { from, to, reason }]);
        self.next_seq = to;
    }

    /// Where appending goes on.
    pub fn start(&self) -> Start {
        Start {
            journal: self.journal,
            next_seq: self.next_seq,
            boot: self.boot,
            floor_us: self.newest_us,
            batch_max: usize::try_from(self.segment_len / 4).unwrap_or(usize::MAX),
        }
    }
}
