//! Reading the batches of a segment one after the other, and past damage to the next whole one.

use super::medium::{FileId, Medium, MediumError};
use super::segment::{BATCH_HEAD_LEN, BatchHead};

/// Bytes that are read at a time at least.
const CHUNK: usize = 256 * 1024;
/// Bytes that are read at a time where reading fails.
const PIECE: usize = 4096;
/// A batch with all its bytes at most; what claims to be larger is none.
pub const BATCH_MAX: u64 = 16 * 1024 * 1024;

/// What lies at a place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A whole batch.
    Batch {
        /// Where it starts.
        offset: u64,
        /// Its header.
        head: BatchHead,
        /// All its bytes, header and records.
        bytes: &'a [u8],
    },
    /// Something that is no batch, with a whole one behind it.
    Gap {
        /// Where it starts.
        from: u64,
        /// Where the next batch starts.
        to: u64,
    },
    /// No batch from here on.
    End {
        /// Where the batches end.
        offset: u64,
    },
}

impl<'a> Found<'a> {
    /// The records of a batch.
    pub fn records(&self) -> &'a [u8] {
        match self {
            Self::Batch { bytes, .. } => bytes.get(BATCH_HEAD_LEN..).unwrap_or_default(),
            Self::Gap { .. } | Self::End { .. } => &[],
        }
    }
}

/// Walks over the batches of one file.
#[derive(Debug)]
pub struct Scanner {
    file: FileId,
    epoch: u64,
    at: u64,
    end: u64,
    window_at: u64,
    window: Vec<u8>,
    unreadable: bool,
}

impl Scanner {
    /// From the batch at `at`, and not beyond `end`.
    pub fn new(file: FileId, epoch: u64, at: u64, end: u64) -> Self {
        Self { file, epoch, at, end, window_at: at, window: Vec::new(), unreadable: false }
    }

    /// Whether parts of the file could not be read. They count as damage, and may be readable another time.
    pub fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// The next batch, or why there is none here. After a gap comes a batch; after the end comes the end.
    pub fn next<M: Medium + ?Sized>(&mut self, medium: &mut M) -> Result<Found<'_>, MediumError> {
        let from = self.at;
        if let Some(head) = self.batch_at(medium, from)? {
            self.at = from.saturating_add(head.total_len());
            let bytes = self.held(from, head.total_len());
            return Ok(Found::Batch { offset: from, head, bytes });
        }
        match self.find_behind(medium, from)? {
            Some(to) => {
                self.at = to;
                Ok(Found::Gap { from, to })
            }
            None => Ok(Found::End { offset: from }),
        }
    }

    fn batch_at<M: Medium + ?Sized>(
        &mut self,
        medium: &mut M,
        at: u64,
    ) -> Result<Option<BatchHead>, MediumError> {
        let epoch = self.epoch;
        let Some(head) = BatchHead::decode(self.fill(medium, at, BATCH_HEAD_LEN as u64)?, epoch) else {
            return Ok(None);
        };
        if head.total_len() > BATCH_MAX || at.saturating_add(head.total_len()) > self.end {
            return Ok(None);
        }
        let batch = self.fill(medium, at, head.total_len())?;
        Ok(head.is_intact(batch, epoch, at).then_some(head))
    }

    /// Where the next whole batch starts.
    fn find_behind<M: Medium + ?Sized>(
        &mut self,
        medium: &mut M,
        from: u64,
    ) -> Result<Option<u64>, MediumError> {
        let mut at = from + 1;
        while at + (BATCH_HEAD_LEN as u64) <= self.end {
            self.fill(medium, at, BATCH_HEAD_LEN as u64)?;
            let skip = usize::try_from(at - self.window_at).unwrap_or(usize::MAX);
            let rest = self.window.get(skip..).unwrap_or_default();
            if rest.len() < BATCH_HEAD_LEN {
                break;
            }
            match BatchHead::find(rest) {
                Some(distance) => {
                    at += distance as u64;
                    if self.batch_at(medium, at)?.is_some() {
                        return Ok(Some(at));
                    }
                    at += 1;
                }
                // A batch may start in the last bytes of what is held.
                None => at += (rest.len() - 3) as u64,
            }
        }
        Ok(None)
    }

    /// `len` bytes from `at`, fewer at the end of the file.
    fn fill<M: Medium + ?Sized>(&mut self, medium: &mut M, at: u64, len: u64) -> Result<&[u8], MediumError> {
        let len = len.min(self.end.saturating_sub(at));
        let held = self.window_at <= at && at + len <= self.window_at + self.window.len() as u64;
        if !held {
            let wanted = len.max(CHUNK as u64).min(self.end.saturating_sub(at));
            self.window.resize(usize::try_from(wanted).unwrap_or(CHUNK), 0);
            self.window_at = at;
            match medium.read_at(self.file, at, &mut self.window) {
                Ok(read) => self.window.truncate(read),
                Err(_) => self.fill_in_pieces(medium, at)?,
            }
        }
        Ok(self.held(at, len))
    }

    /// Reads what can be read of the window. The rest is zeros, which are no batch.
    fn fill_in_pieces<M: Medium + ?Sized>(&mut self, medium: &mut M, at: u64) -> Result<(), MediumError> {
        let (mut at, mut any, mut filled, mut last) = (at, false, 0, Ok(()));
        for piece in self.window.chunks_mut(PIECE) {
            // A single failure may have been that.
            match medium.read_at(self.file, at, piece).or_else(|_| medium.read_at(self.file, at, piece)) {
                Ok(read) => {
                    any = true;
                    filled += read;
                    if read < piece.len() {
                        break;
                    }
                }
                Err(error) => {
                    self.unreadable = true;
                    last = Err(error);
                    piece.fill(0);
                    filled += piece.len();
                }
            }
            at += piece.len() as u64;
        }
        self.window.truncate(if any { filled } else { 0 });
        if any { Ok(()) } else { last }
    }

    fn held(&self, at: u64, len: u64) -> &[u8] {
        let rest = at
            .checked_sub(self.window_at)
            .and_then(|skip| self.window.get(usize::try_from(skip).ok()?..))
            .unwrap_or_default();
        rest.get(..usize::try_from(len).unwrap_or(usize::MAX)).unwrap_or(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::stamp::{Clock, Stamp};
    use crate::journal::tests::Memory;

    const EPOCH: u64 = 5;

    /// Batches with so many bytes of records each, from offset 0.
    fn file(lens: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for len in lens {
            let start = Stamp { mono_us: 0, wall_us: 0, clock: Clock::Synced };
            let head =
                BatchHead { len: 0, crc: 0, chain: 0, first_seq: 1, numbered: 0, records: 1, start, boot: 1 };
            let offset = bytes.len() as u64;
            head.encode(&vec![0xb7; *len], EPOCH, offset, &mut bytes);
        }
        bytes
    }

    /// What is found: lengths of batches, `0` for a gap.
    fn walk(bytes: &[u8]) -> (Vec<u32>, u64) {
        let mut medium = Memory::default();
        let file = medium.create("f", 0).unwrap();
        medium.write_at(file, 0, bytes).unwrap();
        let mut scanner = Scanner::new(file, EPOCH, 0, bytes.len() as u64);
        let mut found = Vec::new();
        loop {
            match scanner.next(&mut medium).unwrap() {
                Found::Batch { head, bytes, .. } => {
                    assert_eq!(bytes.len() as u64, head.total_len());
                    found.push(head.len);
                }
                Found::Gap { .. } => found.push(0),
                Found::End { offset } => return (found, offset),
            }
        }
    }

    #[test]
    fn batches_one_after_the_other_up_to_where_they_end() {
        let mut bytes = file(&[10, 20, 300_000, 30]);
        let end = bytes.len() as u64;
        bytes.resize(bytes.len() + 1_000, 0);
        assert_eq!(walk(&bytes), (vec![10, 20, 300_000, 30], end));
        assert_eq!(walk(&[]), (vec![], 0));
    }

    #[test]
    fn every_truncation_leaves_a_prefix() {
        let bytes = file(&[5, 6, 7]);
        let ends = [61, 61 + 62, 61 + 62 + 63];
        for cut in 0..bytes.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let (found, end) = walk(&bytes[..cut]);
            assert_eq!(found, [5, 6, 7][..whole]);
            assert_eq!(end as usize, if whole == 0 { 0 } else { ends[whole - 1] });
        }
    }

    #[test]
    fn every_flipped_bit_costs_its_batch_only() {
        let good = file(&[5, 6, 7]);
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let expected: &[u32] = match bit / 8 {
                ..61 => &[0, 6, 7],
                61..123 => &[5, 0, 7],
                _ => &[5, 6],
            };
            assert_eq!(walk(&bytes).0, expected, "bit {bit}");
        }
    }

    #[test]
    fn a_batch_behind_a_long_gap_is_found() {
        for gap in [1, 3, 4, 100, CHUNK - 30, CHUNK - 2, CHUNK, 3 * CHUNK + 7] {
            let mut bytes = file(&[5]);
            let start = bytes.len() + gap;
            bytes.resize(start, 0xb7);
            let stamp = Stamp { mono_us: 0, wall_us: 0, clock: Clock::Synced };
            let head = BatchHead {
                len: 0,
                crc: 0,
                chain: 0,
                first_seq: 1,
                numbered: 0,
                records: 1,
                start: stamp,
                boot: 1,
            };
            head.encode(&[1; 9], EPOCH, start as u64, &mut bytes);
            assert_eq!(walk(&bytes).0, [5, 0, 9], "gap of {gap}");
        }
    }
}
