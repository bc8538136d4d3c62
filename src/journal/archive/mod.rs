//! The archive: what leaves the journal because its time is over, as gzipped NDJSON that anyone can read (`zcat`).
//!
//! One file holds the messages of one UTC day and group, one JSON object a line, as the API gives them. Beside it lies a
//! manifest: how many they are, their first and last number, SHA-256 of the file and of its content, and of which segment
//! they came. Segments of a day that come later make a further part; a file that has its manifest is never touched again.
//!
//! ```text
//! 2026-11-21.Devices.ndjson.gz      2026-11-21.Devices.json
//! 2026-11-21.Devices.2.ndjson.gz    2026-11-21.Devices.2.json
//! ```
//!
//! A file is written under another name, synced, renamed, and then read back and compared with what the journal has, line
//! by line. Only then it gets its manifest, and only a segment whose messages all have one may go: interrupted anywhere,
//! the next start goes on with what has none. This module says what is to be archived; [`Archiver`] does it.

mod driver;
mod manifest;
mod part;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

pub use driver::{Archiver, Step};

use super::Seq;
use super::catalog::{Catalog, SegmentInfo};
use super::error::JournalError;
use super::medium::MediumError;
use super::retention::{Limits, keep_us, newest_time};
use super::stamp::Stamp;
use super::stored::shown_time;
use crate::wire::GroupName;

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// Which messages are archived when their time is over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Those of groups that are not named.
    pub usual: bool,
    /// Those of these groups, or not.
    pub groups: Vec<(GroupName, bool)>,
}

impl Policy {
    /// Whether messages of this group are archived.
    pub fn takes(&self, group: GroupName) -> bool {
        self.groups.iter().find(|(name, _)| *name == group).map_or(self.usual, |(_, takes)| *takes)
    }
}

/// Why something could not be archived. Nothing is deleted for it; it is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveError {
    /// The archive's folder.
    Medium(MediumError),
    /// The journal.
    Journal(JournalError),
    /// What was read back is not what was written: this file.
    Differs(String),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Medium(_) => f.write_str("the archive's folder cannot be used"),
            Self::Journal(_) => f.write_str("what is to be archived cannot be read"),
            Self::Differs(file) => {
                write!(f, "{file} in the archive was not written as it was meant: check its medium")
            }
        }
    }
}

impl std::error::Error for ArchiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Medium(error) => Some(error),
            Self::Journal(error) => Some(error),
            Self::Differs(_) => None,
        }
    }
}

impl From<MediumError> for ArchiveError {
    fn from(error: MediumError) -> Self {
        Self::Medium(error)
    }
}

impl From<JournalError> for ArchiveError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

/// What the archive holds of segments that are still there: messages by segment, group, and day.
#[derive(Debug, Default)]
struct Archived(BTreeMap<(u64, GroupName, i64), u64>);

impl Archived {
    fn add(&mut self, segment: u64, group: GroupName, day: i64, messages: u64) {
        self.0.insert((segment, group, day), messages);
    }

    fn has(&self, segment: u64, group: GroupName, day: i64) -> bool {
        self.0.contains_key(&(segment, group, day))
    }

    /// Whether every message of the segment that is to be archived is.
    fn has_all(&self, segment: &SegmentInfo, policy: &Policy) -> bool {
        let number = segment.number();
        let mut wanted = segment.summary.groups.iter().filter(|count| policy.takes(count.group));
        wanted.all(|count| {
            let days = self.0.range((number, count.group, i64::MIN)..=(number, count.group, i64::MAX));
            days.map(|(_, messages)| messages).sum::<u64>() == count.messages
        })
    }

    fn forget_all_but(&mut self, catalog: &Catalog) {
        let known: BTreeSet<u64> = catalog.segments.iter().map(|segment| segment.number()).collect();
        self.0.retain(|(segment, _, _), _| known.contains(segment));
    }
}

/// The next file: a day of a group, out of some segments.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    day: i64,
    group: GroupName,
    segments: Vec<Source>,
}

/// A segment, and the numbers in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Source {
    segment: u64,
    from: Seq,
    below: Seq,
}

/// Segments whose turn it is: their time is over, or they are the next to make room. Those of a day together, unless
/// messages are kept for less than two days, so that there are few files.
fn due<'a>(
    catalog: &'a Catalog,
    limits: &'a Limits,
    now_us: i64,
) -> impl Iterator<Item = &'a Arc<SegmentInfo>> {
    let old = catalog.segments.split_last().map_or(&[][..], |(_current, old)| old);
    let mut bytes = catalog.bytes();
    old.iter().filter(move |segment| {
        let is_next_to_go = bytes > limits.bytes_max / 4 * 3;
        bytes = bytes.saturating_sub(segment.file_len);
        let keep_us = keep_us(segment, limits);
        let today = now_us - now_us.rem_euclid(DAY_US);
        let until = if keep_us >= 2 * DAY_US { today } else { now_us };
        is_next_to_go || newest_time(segment, catalog).saturating_add(keep_us) <= until
    })
}

/// The first file that is to be made, by day and group.
fn next(
    catalog: &Catalog,
    limits: &Limits,
    policy: &Policy,
    archived: &Archived,
    now_us: i64,
) -> Option<Wanted> {
    let mut wanted: Option<Wanted> = None;
    for segment in due(catalog, limits, now_us).filter(|segment| !archived.has_all(segment, policy)) {
        let (number, summary) = (segment.number(), &segment.summary);
        let source = Source { segment: number, from: summary.first_seq, below: summary.next_seq };
        for day in days(segment, catalog) {
            for group in summary.groups.iter().map(|count| count.group) {
                if !policy.takes(group) || archived.has(number, group, day) {
                    continue;
                }
                match &mut wanted {
                    Some(wanted) if (wanted.day, wanted.group) == (day, group) => {
                        wanted.segments.push(source)
                    }
                    Some(wanted) if (wanted.day, wanted.group) < (day, group) => {}
                    _ => wanted = Some(Wanted { day, group, segments: vec![source] }),
                }
            }
        }
    }
    wanted
}

/// The days that messages of a segment may be of.
fn days(segment: &SegmentInfo, catalog: &Catalog) -> BTreeSet<i64> {
    let days = segment.summary.spans.iter().flat_map(|span| {
        let day = |mono_us, wall_us| {
            let stamp = Stamp { mono_us, wall_us, clock: span.clock };
            shown_time(&stamp, span.boot, &catalog.boots).0.div_euclid(DAY_US)
        };
        day(span.mono_us.0, span.wall_us.0)..=day(span.mono_us.1, span.wall_us.1)
    });
    days.collect()
}
