//! What a writer does while nobody waits: sealing, the spare segment, deleting.

use std::sync::Arc;

use super::{Health, Writer};
use crate::journal::catalog::{SegmentInfo, tail_block};
use crate::journal::error::JournalError;
use crate::journal::index::IndexBuilder;
use crate::journal::medium::{FileId, Medium, MediumError};
use crate::journal::record::Record;
use crate::journal::retention::{Plan, Thinning};
use crate::journal::segment::{self, TAIL_LEN};
use crate::journal::stamp::Stamp;

impl<M: Medium> Writer<M> {
    /// Seals what can be sealed, deletes what is superfluous, and makes sure of a spare segment. Nothing that was
    /// acknowledged depends on it; call it after a start and after each commit that turned a segment over.
    ///
    /// `Full` if there is no room for a spare segment; any other error is the first that came up, after all was tried.
    pub fn upkeep(&mut self) -> Result<(), JournalError> {
        if let Health::ReadOnly(error) = &self.health {
            return Err(JournalError::ReadOnly(error.clone()));
        }
        let mut result = Ok(());
        // While the last batch is still where it was, its segment must stay as it is.
        if self.carry.is_none() {
            while let Some((number, index)) = self.unsealed.pop_first() {
                result = result.and(self.seal(number, &index));
            }
            let superfluous = std::mem::take(&mut self.superfluous);
            result = result.and(self.delete(superfluous));
        }
        if self.spare.is_none() {
            result = match self.reserve() {
                Err(MediumError::NoSpace) => return Err(JournalError::Full),
                reserved => result.and(reserved),
            };
        }
        result.map_err(JournalError::Medium)
    }

    /// Does what was planned: writes off what goes undelivered, then deletes. Interrupted anywhere, the next start goes
    /// on with it. Of a segment that is thinned nobody reads what is gone from now on; its bytes are given back by
    /// and by, see [`Self::reclaim`].
    pub fn retire(&mut self, now: Stamp, plan: &Plan) -> Result<(), JournalError> {
        let current = self.current.as_ref().map(|current| current.info.number());
        let known = |number: &u64| self.segments.iter().any(|segment| segment.number() == *number);
        let numbers: Vec<_> = plan.segments.iter().copied().filter(known).collect();
        let thinned: Vec<_> = plan.thinned.iter().filter(|thinning| known(&thinning.segment)).collect();
        if numbers.is_empty() && thinned.is_empty() || numbers.contains(&current.unwrap_or(0)) {
            return Ok(());
        }
        let mut records = plan.dropped.clone();
        for Thinning { segment, group, .. } in &thinned {
            records.push(Record::Thinned { segment: *segment, group: *group });
        }
        if !numbers.is_empty() {
            records.push(Record::Retired { segments: numbers.clone() });
        }
        // First the record, so that files that are left are no surprise, then the files.
        self.note(now, &records)?;
        for Thinning { segment: number, group, .. } in thinned {
            if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number() == *number) {
                Arc::make_mut(segment).thinned.insert(*group);
            }
        }
        self.segments.retain(|segment| !numbers.contains(&segment.number()));
        self.unsealed.retain(|number, _| !numbers.contains(number));
        let oldest = self.oldest().unwrap_or(0);
        self.small.forget_retired(oldest);
        self.delete(numbers.into_iter().map(segment::name).collect()).map_err(JournalError::Medium)
    }

    fn delete(&mut self, names: Vec<String>) -> Result<(), MediumError> {
        let mut result = Ok(());
        let any = !names.is_empty();
        for name in names {
            match self.medium.remove(&name) {
                Ok(()) | Err(MediumError::NotFound) => {}
                Err(error) => {
                    result = Err(error);
                    self.superfluous.push(name);
                }
            }
        }
        if any { result.and(self.medium.sync_folder()) } else { result }
    }

    fn seal(&mut self, number: u64, index: &IndexBuilder) -> Result<(), MediumError> {
        let Some(place) = self.segments.iter().position(|segment| segment.number() == number) else {
            return Ok(());
        };
        let Some(info) = self.segments.get(place).cloned() else { return Ok(()) };
        let file = self.medium.open(&info.name())?;
        let sealed = self.write_footer(file, &info, index);
        self.medium.close(file);
        if let (Some(slot), Ok(sealed)) = (self.segments.get_mut(place), &sealed) {
            *slot = Arc::new(sealed.clone());
        }
        sealed.map(|_| ())
    }

    /// A failure leaves the segment without a footer, as good as before: it is read through instead.
    fn write_footer(
        &mut self,
        file: FileId,
        info: &SegmentInfo,
        index: &IndexBuilder,
    ) -> Result<SegmentInfo, MediumError> {
        let (mut bytes, trailer) = index.footer(info.end.offset, info.end.crc);
        bytes.extend(tail_block(&info.header.encode(), Some(trailer.encode(info.header.epoch))));
        let file_len = info.end.offset + bytes.len() as u64;
        self.medium.write_at(file, info.end.offset, &bytes)?;
        self.medium.sync(file)?;
        if file_len < info.file_len {
            self.medium.shrink(file, file_len)?;
            self.medium.sync(file)?;
        }
        Ok(SegmentInfo { file_len, trailer: Some(trailer), ..info.clone() })
    }

    fn reserve(&mut self) -> Result<(), MediumError> {
        let file = self.make_spare(self.segment_len)?;
        // Synced now, so that its space is ours when no other is left.
        let durable = self.medium.sync(file).and_then(|()| self.medium.sync_folder());
        if durable.is_err() {
            self.medium.close(file);
            _ = self.medium.remove(segment::SPARE_NAME);
        } else {
            self.spare = Some(file);
        }
        durable
    }
}

const _: () = assert!(TAIL_LEN > segment::HEADER_LEN + segment::TRAILER_LEN);
