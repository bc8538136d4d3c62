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
use super::retention::{Limits, newest_time};
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

    /// The groups of a segment with messages that are to be archived and are not.
    fn missing(&self, segment: &SegmentInfo, policy: &Policy) -> impl Iterator<Item = GroupName> {
        let number = segment.number();
        let wanted = segment.groups().filter(|count| policy.takes(count.group));
        let missing = wanted.filter(move |count| {
            let days = self.0.range((number, count.group, i64::MIN)..=(number, count.group, i64::MAX));
            days.map(|(_, messages)| messages).sum::<u64>() != count.messages
        });
        missing.map(|count| count.group)
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

/// Segments with the groups in them whose turn it is: their time is over, or they are the next to make room, for all or
/// for their group. Those of a day together, unless messages are kept for less than two days, so that there are few files.
fn due(
    catalog: &Catalog,
    limits: &Limits,
    policy: &Policy,
    archived: &Archived,
    now_us: i64,
) -> Vec<(Arc<SegmentInfo>, GroupName)> {
    let old = catalog.segments.split_last().map_or(&[][..], |(_current, old)| old);
    let today = now_us - now_us.rem_euclid(DAY_US);
    let mut bytes = catalog.bytes();
    let share = |(group, max): &(GroupName, u64)| {
        let shares = catalog.segments.iter().map(|segment| segment.bytes_of(*group));
        (*group, (shares.sum::<u64>(), *max))
    };
    let mut shares: BTreeMap<_, _> = limits.groups_bytes.iter().map(share).collect();
    let is_near = |bytes: u64, max: u64| bytes > max / 4 * 3;
    let mut due = Vec::new();
    for segment in old {
        let is_next_to_go = is_near(bytes, limits.bytes_max);
        bytes = bytes.saturating_sub(segment.file_len);
        let newest = newest_time(segment, catalog);
        let mut is_due = |group: &GroupName| {
            let is_next_of_group = shares.get_mut(group).is_some_and(|(share, max)| {
                let is_near = is_near(*share, *max);
                *share = share.saturating_sub(segment.bytes_of(*group));
                is_near
            });
            let keep_us = limits.keep_us_of(*group);
            let until = if keep_us >= 2 * DAY_US { today } else { now_us };
            is_next_to_go || is_next_of_group || newest.saturating_add(keep_us) <= until
        };
        let groups = archived.missing(segment, policy).filter(&mut is_due);
        due.extend(groups.map(|group| (Arc::clone(segment), group)));
    }
    due
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
    for (segment, group) in due(catalog, limits, policy, archived, now_us) {
        let (number, summary) = (segment.number(), &segment.summary);
        let source = Source { segment: number, from: summary.first_seq, below: summary.next_seq };
        for day in days(&segment, catalog).into_iter().filter(|day| !archived.has(number, group, *day)) {
            match &mut wanted {
                Some(wanted) if (wanted.day, wanted.group) == (day, group) => wanted.segments.push(source),
                Some(wanted) if (wanted.day, wanted.group) < (day, group) => {}
                _ => wanted = Some(Wanted { day, group, segments: vec![source] }),
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
