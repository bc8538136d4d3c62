//! Giving back the room of what single groups lost: a segment is written once more without it.
//!
//! The copy is made batch by batch; of a message that is gone a byte stays, so that all others keep their numbers. It is
//! written and synced under the name `reclaim.tmp`, a slice at a time, and takes the place of the old file by a rename:
//! whatever happens meanwhile, one of the two is there whole, and both say the same to whoever reads. The segment behind
//! it tells where the old one ended, so the new one says that itself ([`Header::once_more`]). What was recorded when the
//! messages went is all that counts for a start; the copy is for the room alone, and can be made at any time.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Health, Writer, mix};
use crate::journal::catalog::{SegmentInfo, tail_block};
use crate::journal::error::JournalError;
use crate::journal::index::IndexBuilder;
use crate::journal::medium::{FileId, Medium, MediumError};
use crate::journal::record::{self, Record, Records};
use crate::journal::scan::{Found, Scanner};
use crate::journal::segment::{self, BatchHead, DATA_START, End, Header, OnceMore, RECLAIM_NAME};
use crate::wire::GroupName;

/// Bytes of the old file that are read in one slice, at least.
const SLICE: u64 = 512 * 1024;

/// A segment that is being written once more.
#[derive(Debug)]
pub struct Reclaiming {
    /// As it is now.
    info: SegmentInfo,
    from: FileId,
    scanner: Scanner,
    to: FileId,
    header: Header,
    at: u64,
    chain: u32,
    index: IndexBuilder,
}

impl<M: Medium> Writer<M> {
    /// Does a slice of giving back what thinned segments hold for nothing; whether there is more to do. After an error
    /// what was begun is given up, and the next call begins it again; without room it is not worth asking before there
    /// is some.
    pub fn reclaim(&mut self) -> Result<bool, JournalError> {
        if self.health != Health::Good {
            return Ok(false);
        }
        let done = match self.reclaiming.take() {
            Some(work) if self.is_as_it_was(&work.info) => self.go_on(work),
            stale => {
                stale.into_iter().for_each(|work| self.give_up_reclaiming(&work));
                self.begin_reclaiming()
            }
        };
        done.map_err(|error| match error {
            MediumError::NoSpace => JournalError::Full,
            error => JournalError::Medium(error),
        })
    }

    fn is_as_it_was(&self, info: &SegmentInfo) -> bool {
        let now = self.segments.iter().find(|segment| segment.number() == info.number());
        now.is_some_and(|now| now.thinned == info.thinned)
    }

    fn begin_reclaiming(&mut self) -> Result<bool, MediumError> {
        let holds_for_nothing = |segment: &&Arc<SegmentInfo>| {
            // One that is not sealed will be; one that is damaged stays as it is: a copy may mend it.
            let can_be = segment.trailer.is_some() && !self.unreclaimable.contains(&segment.number());
            let without = segment.header.once_more.map(|once_more| once_more.without);
            can_be && !segment.thinned.is_empty() && without != Some(sum_of(&segment.thinned))
        };
        let Some(info) = self.segments.iter().find(holds_for_nothing) else { return Ok(false) };
        let info = SegmentInfo::clone(info);
        let from = self.medium.open(&info.name())?;
        let to = match self.medium.create(RECLAIM_NAME, 0) {
            Err(MediumError::Exists) => {
                self.medium.remove(RECLAIM_NAME).and_then(|()| self.medium.create(RECLAIM_NAME, 0))
            }
            created => created,
        };
        let to = to.inspect_err(|_| self.medium.close(from))?;
        self.reclaims += 1;
        let header = Header {
            version: segment::VERSION_RECLAIMED,
            // Counted from the other end than those of new segments.
            epoch: mix(self.seed, u64::MAX - self.reclaims),
            ..info.header.clone()
        };
        let scanner = Scanner::new(from, info.header.epoch, DATA_START, info.end.offset);
        let (chain, index) = (info.header.previous.crc, IndexBuilder::default());
        self.reclaiming = Some(Reclaiming { info, from, scanner, to, header, at: DATA_START, chain, index });
        Ok(true)
    }

    fn go_on(&mut self, mut work: Reclaiming) -> Result<bool, MediumError> {
        match self.copy_slice(&mut work) {
            Ok(true) => {
                self.reclaiming = Some(work);
                Ok(true)
            }
            Ok(false) => {
                self.medium.close(work.from);
                self.medium.close(work.to);
                Ok(true)
            }
            Err(error) => {
                self.give_up_reclaiming(&work);
                Err(error)
            }
        }
    }

    fn give_up_reclaiming(&mut self, work: &Reclaiming) {
        self.medium.close(work.from);
        self.medium.close(work.to);
        // What is left is taken away by the next attempt, or the next start.
        _ = self.medium.remove(RECLAIM_NAME);
    }

    /// Copies some batches, durably; whether it is still under way.
    fn copy_slice(&mut self, work: &mut Reclaiming) -> Result<bool, MediumError> {
        let mut bytes = Vec::new();
        let start = work.at;
        let mut read = 0;
        let mut is_whole = false;
        while read < SLICE && !is_whole {
            let found = work.scanner.next(&mut self.medium)?;
            match &found {
                Found::Batch { head, .. } => {
                    read += head.total_len();
                    let records = without_gone(found.records(), &work.info);
                    let from = bytes.len();
                    let head = BatchHead { chain: work.chain, ..*head };
                    work.chain = head.encode(&records, work.header.epoch, work.at, &mut bytes);
                    let batch = bytes.get(from..).unwrap_or_default();
                    work.index.add(work.at, &head, batch, &records);
                    work.at = start + bytes.len() as u64;
                }
                Found::End { offset } if *offset == work.info.end.offset => is_whole = true,
                Found::End { .. } | Found::Gap { .. } => {
                    self.unreclaimable.insert(work.info.number());
                    _ = self.medium.remove(RECLAIM_NAME);
                    return Ok(false);
                }
            }
        }
        self.medium.write_at(work.to, start, &bytes)?;
        if !is_whole {
            self.medium.sync(work.to)?;
            return Ok(true);
        }
        let info = self.finish_copy(work)?;
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number() == info.number()) {
            *segment = Arc::new(info);
        }
        Ok(false)
    }

    /// Footer, tail and header; then it takes the old one's place.
    fn finish_copy(&mut self, work: &mut Reclaiming) -> Result<SegmentInfo, MediumError> {
        let end = End { number: work.info.number(), offset: work.at, crc: work.chain };
        work.header.once_more = Some(OnceMore { end, without: sum_of(&work.info.thinned) });
        let header = work.header.encode();
        let (mut behind, trailer) = work.index.footer(end.offset, end.crc);
        behind.extend(tail_block(&header, Some(trailer.encode(work.header.epoch))));
        self.medium.write_at(work.to, end.offset, &behind)?;
        self.medium.write_at(work.to, 0, &header)?;
        self.medium.sync(work.to)?;
        self.medium.rename(RECLAIM_NAME, &work.info.name())?;
        // If the folder cannot be flushed, the old one may be back after a power cut: it says the same.
        _ = self.medium.sync_folder();
        Ok(SegmentInfo {
            header: work.header.clone(),
            end,
            file_len: end.offset + behind.len() as u64,
            trailer: Some(trailer),
            summary: work.index.summary(),
            thinned: work.info.thinned.clone(),
        })
    }
}

/// A checksum that says which groups these are.
fn sum_of(groups: &BTreeSet<GroupName>) -> u32 {
    groups.iter().fold(0, |sum, group| crc32c::crc32c_append(sum, &group.to_wire()))
}

/// Records without the messages that are gone: of each its place stays.
fn without_gone(records: &[u8], info: &SegmentInfo) -> Vec<u8> {
    let mut left = Vec::with_capacity(records.len());
    for raw in Records::new(records) {
        match raw.decode() {
            Some(Record::Message(message)) if info.has_lost(&message) => {
                record::encode_gone(raw.since_us, &mut left);
            }
            _ => left.extend(raw.bytes),
        }
    }
    left
}
