//! What is deleted, and when: whole segments, or what single groups have in them, by age and by bytes.
//!
//! A segment goes when all its messages are older than their groups are kept. What one group has in it goes before the
//! others' when that is out of time, or when the group has more than it may have: the segment is thinned. A group's limit
//! never takes another group's messages along, and the concentrator's own records, which belong to no group, go with
//! whole segments only. When there are too many bytes, segments that every destination has go first, oldest first; then,
//! by policy, the oldest others are dropped, with a record of what and why, or new input is refused; a group's bytes are
//! treated the same. Nothing goes by age while the clock is not right, nor by a time that is not.

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
    /// Of which segments which groups do not go yet, see [`super::archive::Archiver::held`]. To make room they do.
    pub held: BTreeSet<(u64, GroupName)>,
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

/// What a group has in a segment, and why it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thinning {
    /// The segment.
    pub segment: u64,
    /// The group.
    pub group: GroupName,
    /// Why.
    pub cause: Cause,
    /// Whether somebody still has to get something of the segment.
    pub is_needed: bool,
}

impl Thinning {
    fn of(segment: &SegmentInfo, group: GroupName, delivered: &Delivered, cause: Cause) -> Self {
        let is_needed = delivered.missing(segment).is_some();
        Self { segment: segment.number(), group, cause, is_needed }
    }
}

/// What is to be done; see `Writer::retire`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Segments to be deleted.
    pub segments: Vec<u64>,
    /// What single groups lose of others.
    pub thinned: Vec<Thinning>,
    /// What is written off with the segments.
    pub dropped: Vec<Record<'static>>,
    /// There is no more to delete, and the policy is to refuse new input.
    pub refuse: bool,
    /// The same of these groups alone.
    pub refused: BTreeSet<GroupName>,
}

impl Plan {
    /// Whether nothing is to be deleted.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.thinned.is_empty()
    }

    /// As much of it as takes that so many segments are looked through, oldest first, since everybody waits for that; and
    /// whether there is more.
    pub fn first_part(mut self, catalog: &Catalog, looked_through_max: usize) -> (Self, bool) {
        let needed = catalog.segments.iter().filter(|segment| self.is_needed(segment));
        let later: Vec<_> = needed.skip(looked_through_max).map(|segment| &**segment).collect();
        let is_later = |number: u64| later.iter().any(|segment| segment.number() == number);
        self.segments.retain(|number| !is_later(*number));
        self.thinned.retain(|thinning| !is_later(thinning.segment));
        self.dropped.retain(|record| !later.iter().any(|segment| is_of(record, segment)));
        let is_part = !later.is_empty();
        (self, is_part)
    }

    /// Whether something that was not delivered goes with a segment or out of it.
    fn is_needed(&self, segment: &SegmentInfo) -> bool {
        let is_thinned = |thinning: &Thinning| thinning.segment == segment.number() && thinning.is_needed;
        self.why_dropped(segment).is_some() || self.thinned.iter().any(is_thinned)
    }

    /// Why what was not delivered goes with a segment; `None`: nothing does.
    pub fn why_dropped(&self, segment: &SegmentInfo) -> Option<Cause> {
        self.dropped.iter().find_map(|record| match record {
            Record::Dropped { cause, .. } if is_of(record, segment) => Some(*cause),
            _ => None,
        })
    }

    fn add(&mut self, segment: &SegmentInfo, delivered: &Delivered, cause: Cause) {
        self.segments.push(segment.number());
        self.thinned.retain(|thinning| thinning.segment != segment.number());
        if let Some((from, to, count)) = delivered.missing(segment) {
            self.dropped.push(Record::Dropped { from, to, count, cause });
        }
    }

    /// Whether a group's messages in a segment go.
    pub fn takes(&self, segment: &SegmentInfo, group: GroupName) -> bool {
        let number = segment.number();
        self.thinned.iter().any(|thinning| (thinning.segment, thinning.group) == (number, group))
    }
}

/// Whether this is what is written off with a segment.
fn is_of(record: &Record<'_>, segment: &SegmentInfo) -> bool {
    let numbers = segment.summary.first_seq..segment.summary.next_seq;
    matches!(record, Record::Dropped { from, .. } if numbers.contains(from))
}

/// What is to be deleted now. `now_us` is the wall clock in microseconds, if it is right.
pub fn plan(catalog: &Catalog, delivered: &Delivered, limits: &Limits, now_us: Option<i64>) -> Plan {
    let mut plan = Plan::default();
    let Some((current, old)) = catalog.segments.split_last() else { return plan };
    let mut bytes = catalog.bytes();
    let mut rest = Vec::new();
    for segment in old {
        let newest = newest_time(segment, catalog);
        let is_over = |keep_us: i64| now_us.is_some_and(|now| newest.saturating_add(keep_us) <= now);
        if is_over(keep_us(segment, limits)) && !limits.holds(segment) {
            plan.add(segment, delivered, Cause::Expired);
            bytes = bytes.saturating_sub(segment.file_len);
            continue;
        }
        for group in segment.groups().map(|count| count.group) {
            let is_held = limits.held.contains(&(segment.number(), group));
            if is_over(limits.keep_us_of(group)) && !is_held && group != GroupName::NONE {
                plan.thinned.push(Thinning::of(segment, group, delivered, Cause::Expired));
            }
        }
        rest.push(&**segment);
    }
    let (mut had, mut needed): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|segment| delivered.missing(segment).is_none());
    // What lies in the archive goes before what does not yet.
    had.sort_by_key(|segment| limits.holds(segment));
    // What is needed is dropped by that policy only.
    let may_drop = limits.on_full == OnFull::DropOldest;
    for (group, max) in &limits.groups_bytes {
        let stays = |segment: &&SegmentInfo| !plan.takes(segment, *group);
        let left = had.iter().chain(&needed).copied().filter(stays);
        let mut share: u64 = left.chain([&**current]).map(|segment| segment.bytes_of(*group)).sum();
        for segment in had.iter().chain(needed.iter().filter(|_| may_drop)) {
            let own = segment.bytes_of(*group);
            if share <= *max {
                break;
            }
            if own > 0 && !plan.takes(segment, *group) {
                plan.thinned.push(Thinning::of(segment, *group, delivered, Cause::Full));
                share = share.saturating_sub(own);
            }
        }
        if share > *max && !may_drop {
            plan.refused.insert(*group);
        }
    }
    for segments in [&mut had, &mut needed] {
        segments.retain(|segment| {
            let is_left = segment.groups().any(|count| !plan.takes(segment, count.group));
            let has_lost_all = segment.groups().next().is_some() && !is_left;
            if has_lost_all {
                plan.add(segment, delivered, Cause::Full);
                bytes = bytes.saturating_sub(segment.file_len);
            }
            !has_lost_all
        });
    }
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

impl Limits {
    /// How long messages of a group are kept, in microseconds.
    pub(super) fn keep_us_of(&self, group: GroupName) -> i64 {
        let own = self.groups_us.iter().find(|(name, _)| *name == group);
        own.map_or(self.keep_us, |(_, keep_us)| *keep_us)
    }

    /// Whether there is something in a segment that does not go yet.
    fn holds(&self, segment: &SegmentInfo) -> bool {
        segment.groups().any(|count| self.held.contains(&(segment.number(), count.group)))
    }
}

/// How long a segment is kept: as long as the group in it that is kept longest.
fn keep_us(segment: &SegmentInfo, limits: &Limits) -> i64 {
    let groups = segment.groups().map(|count| limits.keep_us_of(count.group));
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
