//! What is deleted, and when: whole segments, by age and by bytes.
//!
//! A segment goes when all its messages are older than their groups are kept. It goes early when each of its groups has
//! more than it may have, or is out of time in it: a group's limit never takes another group's messages along, so what it
//! has in segments that it shares stays as long as theirs. When there are too many bytes, segments
//! that every destination has go first, oldest first; then, by policy, the oldest others are dropped, with a record of
//! what and why, or new input is refused. Nothing goes by age while the clock is not right, nor by a time that is not.

use std::collections::BTreeSet;

use super::OnFull;
use super::Seq;
use super::catalog::{Catalog, SegmentInfo};
use super::record::{Cause, Record};
use super::stamp::Stamp;
use super::state::CursorState;
use super::stored::{ShownClock, shown_time};
use crate::wire::GroupName;

/// How much is kept, and how long.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of all files at most; the segment that is written to is never deleted.
    pub bytes_max: u64,
    /// How long messages are kept, in microseconds.
    pub keep_us: i64,
    /// How long those of some groups are kept instead.
    pub groups_us: Vec<(GroupName, i64)>,
    /// Bytes of records that some groups may have, in whole segments: the segment that is written to counts, and stays.
    pub groups_bytes: Vec<(GroupName, u64)>,
    /// Segments that do not go for their age yet, see [`super::archive::Archiver::held`]. To make room they do.
    pub held: BTreeSet<u64>,
    /// What gives way when that is not enough.
    pub on_full: OnFull,
}

/// What every destination has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    below: Seq,
    holes: Vec<Seq>,
}

impl Delivered {
    /// What all cursors have passed. Without a cursor nothing has to be delivered: a destination that got nothing yet
    /// must be among them.
    pub fn of<'a>(cursors: impl Iterator<Item = &'a CursorState> + Clone) -> Self {
        let below = cursors.clone().map(|cursor| cursor.up_to.saturating_add(1)).min();
        let mut holes: Vec<_> = cursors.flat_map(|cursor| &cursor.holes).copied().collect();
        holes.sort_unstable();
        holes.dedup();
        Self { below: below.unwrap_or(Seq::MAX), holes }
    }

    /// How many messages of a segment somebody still has to get, and their first and last number.
    fn missing(&self, segment: &SegmentInfo) -> Option<(Seq, Seq, u64)> {
        let summary = &segment.summary;
        let from = summary.first_seq.max(self.below);
        let behind = summary.next_seq.saturating_sub(from).min(summary.messages);
        let holes = self.holes.iter().filter(|hole| (summary.first_seq..from).contains(hole));
        let first = holes.clone().next().copied().unwrap_or(from);
        let last = if behind > 0 { summary.next_seq - 1 } else { holes.clone().next_back().copied()? };
        let count = behind + holes.count() as u64;
        (count > 0).then_some((first, last, count))
    }
}

/// What is to be done; see `Writer::retire`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Segments to be deleted.
    pub segments: Vec<u64>,
    /// What is written off with them.
    pub dropped: Vec<Record<'static>>,
    /// There is no more to delete, and the policy is to refuse new input.
    pub refuse: bool,
}

impl Plan {
    fn add(&mut self, segment: &SegmentInfo, delivered: &Delivered, cause: Cause) {
        self.segments.push(segment.number());
        if let Some((from, to, count)) = delivered.missing(segment) {
            self.dropped.push(Record::Dropped { from, to, count, cause });
        }
    }
}

/// What is to be deleted now. `now_us` is the wall clock in microseconds, if it is right.
pub fn plan(catalog: &Catalog, delivered: &Delivered, limits: &Limits, now_us: Option<i64>) -> Plan {
    let mut plan = Plan::default();
    let Some((_current, old)) = catalog.segments.split_last() else { return plan };
    let mut bytes = catalog.bytes();
    let mut shares = Shares::new(catalog, limits);
    let mut rest = Vec::new();
    for segment in old {
        let newest = newest_time(segment, catalog);
        let is_over = move |keep_us: i64| now_us.is_some_and(|now| newest.saturating_add(keep_us) <= now);
        if is_over(keep_us(segment, limits)) && !limits.held.contains(&segment.number()) {
            plan.add(segment, delivered, Cause::Expired);
            bytes = bytes.saturating_sub(segment.file_len);
            shares.give_up(segment);
        } else {
            rest.push((segment, is_over));
        }
    }
    let (mut had, mut needed): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|(segment, _)| delivered.missing(segment).is_none());
    // What is needed is dropped by that policy only.
    let may_drop = limits.on_full == OnFull::DropOldest;
    for some in [Some(&mut had), Some(&mut needed).filter(|_| may_drop)].into_iter().flatten() {
        some.retain(|(segment, is_over)| {
            let gives_way = |group| shares.is_too_much(group) || is_over(limits.keep_us_of(group));
            let goes = !limits.held.contains(&segment.number())
                && !segment.summary.groups.is_empty()
                && segment.summary.groups.iter().all(|count| gives_way(count.group));
            if goes {
                plan.add(segment, delivered, Cause::Full);
                bytes = bytes.saturating_sub(segment.file_len);
                shares.give_up(segment);
            }
            !goes
        });
    }
    // What lies in the archive goes before what does not yet.
    had.sort_by_key(|(segment, _)| limits.held.contains(&segment.number()));
    for (segment, _) in had {
        if bytes <= limits.bytes_max {
            return plan;
        }
        plan.add(segment, delivered, Cause::Full);
        bytes = bytes.saturating_sub(segment.file_len);
    }
    for (segment, _) in needed {
        if bytes <= limits.bytes_max {
            return plan;
        }
        if limits.on_full == OnFull::RefuseNew {
            plan.refuse = true;
            return plan;
        }
        plan.add(segment, delivered, Cause::Full);
        bytes = bytes.saturating_sub(segment.file_len);
    }
    plan.refuse = bytes > limits.bytes_max && limits.on_full == OnFull::RefuseNew;
    plan
}

impl Limits {
    fn keep_us_of(&self, group: GroupName) -> i64 {
        let own = self.groups_us.iter().find(|(name, _)| *name == group);
        own.map_or(self.keep_us, |(_, keep_us)| *keep_us)
    }
}

/// How long a segment is kept: as long as the group in it that is kept longest.
pub(super) fn keep_us(segment: &SegmentInfo, limits: &Limits) -> i64 {
    let groups = segment.summary.groups.iter().map(|count| limits.keep_us_of(count.group));
    groups.max().unwrap_or(limits.keep_us)
}

/// The time of the newest message of a segment; of one whose time is not known, the end of all time.
pub(super) fn newest_time(segment: &SegmentInfo, catalog: &Catalog) -> i64 {
    let newest = segment.summary.spans.iter().map(|span| {
        let stamp = Stamp { mono_us: span.mono_us.1, wall_us: span.wall_us.1, clock: span.clock };
        match shown_time(&stamp, span.boot, &catalog.boots) {
            (_, ShownClock::Unsynced) => i64::MAX,
            (time, ShownClock::Corrected | ShownClock::Synced) => time,
        }
    });
    // One without messages holds nothing but what later snapshots hold too.
    newest.max().unwrap_or(segment.header.created_us)
}

/// What the groups with a limit have, and may have.
struct Shares(Vec<(GroupName, u64, u64)>);

impl Shares {
    fn new(catalog: &Catalog, limits: &Limits) -> Self {
        let bytes_of = |group: GroupName| {
            let counts = catalog.segments.iter().flat_map(|segment| &segment.summary.groups);
            counts.filter(|count| count.group == group).map(|count| count.bytes).sum()
        };
        Self(limits.groups_bytes.iter().map(|(group, max)| (*group, bytes_of(*group), *max)).collect())
    }

    fn is_too_much(&self, group: GroupName) -> bool {
        self.0.iter().any(|(name, bytes, max)| *name == group && bytes > max)
    }

    fn give_up(&mut self, segment: &SegmentInfo) {
        for (group, bytes, _) in &mut self.0 {
            let counts = segment.summary.groups.iter().filter(|count| count.group == *group);
            *bytes = bytes.saturating_sub(counts.map(|count| count.bytes).sum());
        }
    }
}
