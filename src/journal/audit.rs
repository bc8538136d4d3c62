//! Whether the books are right: what they say is waiting, against what is there behind a destination's place.
//!
//! The books are sums, kept by adding up; this counts. It goes on in steps, so that it can be spread over time; what is
//! deleted meanwhile makes it void.

use std::collections::{BTreeMap, BTreeSet};

use super::Seq;
use super::catalog::{Catalog, SegmentInfo};
use super::error::JournalError;
use super::medium::Medium;
use super::reader::{Query, Reader};
use super::record::{Cause, Kind, Message};
use super::recovery::Damage;
use super::state::{CursorState, Small};
use crate::wire::GroupName;

/// Messages of a step at most.
const STEP_MESSAGES: usize = 1000;

/// A count of what a destination still has to get.
#[derive(Debug)]
pub struct Audit {
    catalog: Catalog,
    kind: Kind,
    up_to: Seq,
    holes: BTreeSet<Seq>,
    next: Seq,
    lines: BTreeMap<GroupName, Line>,
    damaged: Vec<Damage>,
}

/// What waits of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Line {
    /// By the books. Less than nothing would be a mistake, too.
    pub by_books: i128,
    /// By counting.
    pub found: i128,
}

impl Audit {
    /// Of a destination that gets every message of one kind that says so, as of a commit: both of the same.
    pub fn new(catalog: Catalog, small: &Small, destination: &str, kind: Kind) -> Self {
        let CursorState { up_to, holes } = small.cursors.get(destination).cloned().unwrap_or_default();
        let mut lines: BTreeMap<GroupName, Line> = BTreeMap::new();
        for (group, _, count) in small.received().filter(|(_, received, _)| *received == kind) {
            lines.entry(group).or_default().by_books += i128::from(count);
        }
        let tallies = small.tallies().filter(|(_, name, cause, _)| {
            // What was refused was never received.
            *name == destination && *cause != Cause::Refused
        });
        for (group, _, _, count) in tallies {
            lines.entry(group).or_default().by_books -= i128::from(count);
        }
        let next = holes.first().map_or(up_to.saturating_add(1), |hole| *hole);
        Self { catalog, kind, up_to, holes: holes.into_iter().collect(), next, lines, damaged: Vec::new() }
    }

    /// Counts on; whether that was all. `is_for_it`: whether the destination gets a message.
    pub fn step<M: Medium>(
        &mut self,
        reader: &mut Reader<M>,
        is_for_it: impl Fn(&Message<'_>) -> bool,
    ) -> Result<bool, JournalError> {
        let query = Query { kinds: vec![self.kind], limit: STEP_MESSAGES, ..Query::from(self.next) };
        let page = reader.read(&self.catalog, &query)?;
        for stored in &page.messages {
            let is_missing = stored.seq > self.up_to || self.holes.contains(&stored.seq);
            if is_missing && is_for_it(&stored.message) {
                self.lines.entry(stored.message.group).or_default().found += 1;
            }
        }
        self.next = page.next.unwrap_or(self.catalog.next_seq);
        self.damaged.extend(page.damaged);
        Ok(page.next.is_none())
    }

    /// Whether everything that it counts is still there.
    pub fn is_valid(&self, now: &Catalog) -> bool {
        let is_there = |counted: &SegmentInfo| {
            let found = now.segments.iter().find(|segment| segment.number() == counted.number());
            found.is_some_and(|segment| segment.thinned == counted.thinned)
        };
        self.catalog.segments.iter().all(|segment| is_there(segment))
    }

    /// What could not be counted because it is damaged.
    pub fn damaged(&self) -> &[Damage] {
        &self.damaged
    }

    /// The groups for which the two are not the same.
    pub fn differences(&self) -> impl Iterator<Item = (GroupName, Line)> {
        let lines = self.lines.iter().filter(|(_, line)| line.by_books != line.found);
        lines.map(|(group, line)| (*group, *line))
    }
}
