//! What is deleted, and when: whole segments, by age and by bytes.
//!
//! A segment goes when all its messages are older than their groups are kept. When there are too many bytes, segments
//! that every destination has go first, oldest first; then, by policy, the oldest others are dropped, with a record of
//! what and why, or new input is refused. Nothing goes by age while the clock is not right, nor by a time that is not.

use super::OnFull;
use super::Seq;
use super::catalog::{Catalog, SegmentInfo};
use super::record::{Cause, Record};
use super::stamp::Stamp;
use super::state::Small;
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
    /// What all cursors have passed. Without a cursor nothing has to be delivered.
    pub fn from_cursors(small: &Small) -> Self {
        let below = small.cursors.values().map(|cursor| cursor.up_to.saturating_add(1)).min();
        let mut holes: Vec<_> = small.cursors.values().flat_map(|cursor| &cursor.holes).copied().collect();
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
    let mut rest = Vec::new();
    for segment in old {
        if now_us.is_some_and(|now| is_expired(segment, catalog, limits, now)) {
            plan.add(segment, delivered, Cause::Expired);
            bytes = bytes.saturating_sub(segment.file_len);
        } else {
            rest.push(segment);
        }
    }
    let (had, needed): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|segment| delivered.missing(segment).is_none());
    for segment in had {
        if bytes <= limits.bytes_max {
            return plan;
        }
        plan.add(segment, delivered, Cause::Full);
        bytes = bytes.saturating_sub(segment.file_len);
    }
    for segment in needed {
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

/// Whether all messages of a segment are older than they are kept.
fn is_expired(segment: &SegmentInfo, catalog: &Catalog, limits: &Limits, now_us: i64) -> bool {
    let of_group = |group: GroupName| {
        let own = limits.groups_us.iter().find(|(name, _)| *name == group);
        own.map_or(limits.keep_us, |(_, keep_us)| *keep_us)
    };
    let groups = segment.summary.groups.iter().map(|count| of_group(count.group));
    let keep_us = groups.max().unwrap_or(limits.keep_us);
    let newest = segment.summary.spans.iter().map(|span| {
        let stamp = Stamp { mono_us: span.mono_us.1, wall_us: span.wall_us.1, clock: span.clock };
        match shown_time(&stamp, span.boot, &catalog.boots) {
            (_, ShownClock::Unsynced) => i64::MAX,
            (time, ShownClock::Corrected | ShownClock::Synced) => time,
        }
    });
    // One without messages holds nothing but what later snapshots hold too.
    let newest = newest.max().unwrap_or(segment.header.created_us);
    newest.saturating_add(keep_us) <= now_us
}
