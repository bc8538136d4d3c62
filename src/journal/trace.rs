//! What happened to a message later: found among the records that have no number.
//!
//! Those records are in the order of their moments, and each segment begins with a snapshot of what all before it add up
//! to. So the segment in which something came about is found by halving, from a few snapshots, and only that one is read.

use super::Seq;
use super::catalog::{Catalog, SegmentInfo};
use super::error::JournalError;
use super::medium::Medium;
use super::reader::Reader;
use super::record::{Record, Records};
use super::scan::{Found, Scanner};
use super::segment::DATA_START;
use super::stamp::Stamp;
use super::state::Small;
use super::stored::{Stored, shown_time};

impl<M: Medium> Reader<M> {
    /// The first record behind this message of which `wanted` makes something, and its shown time in microseconds since
    /// 1970. `is_over` says of a snapshot whether that record lies before it; once it does, it does for all later ones.
    pub fn first_note<T>(
        &mut self,
        catalog: &Catalog,
        seq: Seq,
        is_over: impl Fn(&Small) -> bool,
        wanted: impl Fn(Record<'_>) -> Option<T>,
    ) -> Result<Option<(T, i64)>, JournalError> {
        let own = catalog.segments.partition_point(|segment| segment.summary.first_seq <= seq);
        let Some(from) = own.checked_sub(1) else { return Ok(None) };
        let later = catalog.segments.get(own..).unwrap_or_default();
        let (mut low, mut high) = (0, later.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let over = match later.get(middle) {
                // Without its snapshot nothing is known of it: look further back.
                Some(segment) => self.snapshot(segment)?.is_none_or(|small| is_over(&small)),
                None => true,
            };
            if over {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        // `low` is the first later segment that begins after it; it happened in the one before.
        let Some(segment) = catalog.segments.get(from + low) else { return Ok(None) };
        self.scan_notes(catalog, segment, wanted)
    }

    /// What all before this segment add up to; `None`: that cannot be read.
    pub fn snapshot(&mut self, segment: &SegmentInfo) -> Result<Option<Small>, JournalError> {
        let file = self.medium().open(&segment.name())?;
        let mut scanner = Scanner::new(file, segment.header.epoch, DATA_START, segment.end.offset);
        let found = scanner.next(self.medium()).map(|found| {
            Records::new(found.records()).find_map(|raw| match raw.decode() {
                Some(Record::Snapshot { data }) => Small::decode(&data),
                _ => None,
            })
        });
        self.medium().close(file);
        Ok(found?)
    }

    fn scan_notes<T>(
        &mut self,
        catalog: &Catalog,
        segment: &SegmentInfo,
        wanted: impl Fn(Record<'_>) -> Option<T>,
    ) -> Result<Option<(T, i64)>, JournalError> {
        let file = self.medium().open(&segment.name())?;
        let mut scanner = Scanner::new(file, segment.header.epoch, DATA_START, segment.end.offset);
        let found = loop {
            match scanner.next(self.medium()) {
                Ok(found @ Found::Batch { head, .. }) => {
                    let notes = Records::new(found.records()).filter(|raw| !raw.is_numbered());
                    let mut notes = notes.filter_map(|raw| Some((wanted(raw.decode()?)?, raw.since_us)));
                    if let Some((made, since_us)) = notes.next() {
                        let stamp: Stamp = Stored::stamp_of(&head, since_us);
                        break Ok(Some((made, shown_time(&stamp, head.boot, &catalog.boots).0)));
                    }
                }
                Ok(Found::Gap { .. }) => {}
                Ok(Found::End { .. }) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        self.medium().close(file);
        Ok(found?)
    }
}
