//! What a subscriber's place is on flash, what of it is recorded, and what is asked of the medium.

use std::collections::{BTreeMap, BTreeSet};

use super::lane::Way;
use super::{Counters, Filter, LastFailure, Subscriber};
use crate::delivery::books::Books;
use crate::journal::Seq;
use crate::journal::dead::DeadLetters;
use crate::journal::record::{Cause, Kind, Message, Record};
use crate::journal::state::CursorState;
use crate::wire::GroupName;

/// So many numbers may be passed over before that is recorded: after a restart they are looked at once more.
const PASSED_MAX: Seq = 10_000;

/// A part of the journal that is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadWanted {
    /// For which way.
    pub way: Way,
    /// Under which conditions it was asked.
    pub epoch: u64,
    /// The first number.
    pub from: Seq,
    /// The number behind the last.
    pub below: Seq,
    /// What is wanted of it.
    pub filter: Filter,
}

/// What is to be counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountWanted {
    /// Which count it is.
    pub id: u64,
    /// First and last numbers.
    pub ranges: Vec<(Seq, Seq)>,
    /// What of it counts.
    pub filter: Filter,
}

impl Subscriber {
    /// What the medium must be read for, said once.
    pub fn take_read(&mut self, tail_start: Seq) -> Option<ReadWanted> {
        for way in [Way::Main, Way::Behind] {
            let Some(from) = self.lane(way).feed.take_read() else { continue };
            let below = match way {
                Way::Main => tail_start,
                Way::Behind => {
                    let stretch = self.backlog.first().or(self.again.first());
                    stretch.map_or(tail_start, |(_, to)| tail_start.min(to.saturating_add(1)))
                }
            };
            let filter = self.settings.filter.clone();
            return Some(ReadWanted { way, epoch: self.epoch, from, below, filter });
        }
        None
    }

    /// What waits is to be counted from the journal.
    pub(super) fn begin_count(&mut self) {
        self.books.begin_count();
        self.count_id += 1;
        let last = self.durable.saturating_sub(1);
        let rest = (self.up_to < last).then_some((self.up_to + 1, last));
        let ranges: Vec<_> = self.backlog.as_slice().iter().copied().chain(rest).collect();
        let filter = self.settings.filter.clone();
        self.counting = (!ranges.is_empty()).then_some(self.count_id);
        self.count = self.counting.map(|id| CountWanted { id, ranges, filter });
    }

    /// What is to be counted, said once.
    pub fn take_count(&mut self) -> Option<CountWanted> {
        self.count.take()
    }

    /// How many of each group wait by count.
    pub fn counted(&mut self, id: u64, found: &BTreeMap<GroupName, u64>) {
        if self.counting == Some(id) {
            self.counting = None;
            found.iter().for_each(|(group, count)| self.books.add_waiting(*group, *count));
        }
    }

    /// A batch with the messages from `first` to below `next` is on flash; whether the subscriber gets any of them.
    pub fn committed<'a>(
        &mut self,
        first: Seq,
        next: Seq,
        messages: impl Iterator<Item = &'a Message<'static>>,
    ) -> bool {
        self.durable = self.durable.max(next);
        let mut has_some = false;
        for message in messages.filter(|message| self.settings.filter.takes(message)) {
            self.books.add_waiting(message.group, 1);
            has_some = true;
        }
        let is_under_way = self.in_flight.as_ref().is_some_and(|call| call.way == Way::Main);
        let is_up_to_date = self.main.messages.is_empty() && self.main.feed.position() == first;
        if !has_some && is_up_to_date && !is_under_way {
            self.main.go_to(next);
            self.up_to = next.saturating_sub(1);
        }
        has_some
    }

    /// Whether it still has to get this message.
    pub fn lacks(&self, seq: Seq, group: GroupName, kind: Kind) -> bool {
        let is_missing = seq > self.up_to || self.backlog.contains(seq);
        let has_left =
            self.written_off.contains(seq) || self.thinned.has(seq, group) && kind.goes_with_group();
        is_missing && self.settings.filter.takes_of(group, kind) && !has_left
    }

    /// The messages from `first` to `last` are leaving the journal: these. What it lacks of them goes to the books under
    /// this cause, and is given back.
    pub fn write_off(
        &mut self,
        first: Seq,
        last: Seq,
        messages: &[(Seq, GroupName, Kind)],
        cause: Cause,
    ) -> Vec<(Seq, GroupName)> {
        let lacking = messages.iter().filter(|(seq, group, kind)| self.lacks(*seq, *group, *kind));
        let lost: Vec<_> = lacking.map(|(seq, group, _)| (*seq, *group)).collect();
        lost.iter().for_each(|(_, group)| self.books.settle(*group, cause));
        if let Some(call) = &mut self.in_flight {
            call.messages.retain(|(seq, _)| !(first..=last).contains(seq));
        }
        self.main.write_off(first, last);
        self.behind.write_off(first, last);
        self.backlog.remove(first, last);
        self.again.remove(first, last);
        if first <= self.up_to.saturating_add(1) {
            self.up_to = self.up_to.max(last);
        } else {
            self.written_off.insert(first, last);
        }
        self.written_off.remove(0, self.up_to);
        if self.main.messages.is_empty() && self.main.feed.position() <= self.up_to {
            self.main.go_to(self.up_to.saturating_add(1));
        }
        (self.has_moved, self.behind_moved) = (true, true);
        self.count_again();
        lost
    }

    /// The messages of a group from `first` to `last` are leaving the journal, and no others: these. What it lacks of
    /// them goes to the books under this cause, and is given back.
    pub fn thin(
        &mut self,
        first: Seq,
        last: Seq,
        group: GroupName,
        messages: &[(Seq, Kind)],
        cause: Cause,
    ) -> Vec<(Seq, GroupName)> {
        let lacking = messages.iter().filter(|(seq, kind)| self.lacks(*seq, group, *kind));
        let lost: Vec<_> = lacking.map(|(seq, _)| (*seq, group)).collect();
        lost.iter().for_each(|(_, group)| self.books.settle(*group, cause));
        self.thinned.add(first, last, group);
        let gone: BTreeSet<Seq> = messages.iter().map(|(seq, _)| *seq).collect();
        if let Some(call) = &mut self.in_flight {
            call.messages.retain(|(seq, _)| !gone.contains(seq));
        }
        self.main.retain(|stored| !gone.contains(&stored.seq));
        self.behind.retain(|stored| !gone.contains(&stored.seq));
        self.thinned.forget_below(self.place_before(Seq::MAX).up_to.saturating_add(1));
        (self.has_moved, self.behind_moved) = (true, true);
        self.count_again();
        lost
    }

    /// What was counted of it before something went is not known.
    fn count_again(&mut self) {
        if self.counting.is_some() {
            self.begin_count();
        }
    }

    /// How far it is, by what is before `end`: it lacks nothing up to there.
    pub fn place_before(&self, end: Seq) -> CursorState {
        let lacks = self.backlog.first().map_or(self.up_to.saturating_add(1), |(from, _)| from);
        CursorState { up_to: lacks.min(end).saturating_sub(1), holes: Vec::new() }
    }

    /// Whether there is something to record.
    pub fn has_progress(&self) -> bool {
        let has_passed = self.up_to.saturating_sub(self.recorded_up_to) >= PASSED_MAX;
        let has_news = self.has_moved || self.behind_moved || !self.fresh.is_empty();
        has_passed || has_news || self.books.has_changed()
    }

    /// How far it is, what became of messages and what the books say, to be recorded in one batch.
    pub fn take_progress(&mut self) -> Vec<Record<'static>> {
        let destination = || self.name.clone();
        let mut records =
            vec![Record::Cursor { destination: destination(), up_to: self.up_to, holes: Vec::new() }];
        if self.behind_moved {
            let (backlog, again) = (self.backlog.as_slice().to_vec(), self.again.as_slice().to_vec());
            records.push(Record::Behind { destination: destination(), backlog, again });
        }
        self.recorded_up_to = self.up_to;
        (self.has_moved, self.behind_moved) = (false, false);
        self.delivers = None;
        records.append(&mut self.fresh);
        records.extend(self.books.take_records(&BTreeMap::new()));
        records
    }

    /// A record that was taken is not going to be written: what it says is to be recorded again.
    pub fn take_back(&mut self, record: &Record<'_>) {
        match record {
            Record::Cursor { .. } => self.has_moved = true,
            Record::Behind { .. } => self.behind_moved = true,
            Record::Tally { .. } => self.books.take_back(record),
            Record::Tried { destination, tried } => {
                let (destination, tried) = (destination.clone(), tried.clone());
                self.fresh.push(Record::Tried { destination, tried });
            }
            Record::DeadSettled { destination, from, to } => {
                let destination = destination.clone();
                self.fresh.push(Record::DeadSettled { destination, from: *from, to: *to });
            }
            _ => {}
        }
    }

    /// Sends messages once more that it got, or gave up, or passed: those from `from` to `to` that it gets at all. What is
    /// still to come comes anyway.
    pub fn replay(&mut self, from: Seq, to: Seq) {
        self.again.insert(from, to.min(self.up_to));
        self.behind_moved = true;
        self.resume();
    }

    /// Takes the dead from `from` to `to` off the list, and sends them once more if `again`; how many there were.
    pub fn settle_dead(&mut self, from: Seq, to: Seq, again: bool) -> u64 {
        let before = self.dead.count();
        if again {
            for tried in self.dead.ranges().to_vec() {
                let (first, last) = (tried.from.max(from), tried.to.min(to));
                if first <= last {
                    self.replay(first, last);
                }
            }
        }
        self.dead.settle(from, to);
        let count = before.saturating_sub(self.dead.count());
        if count > 0 {
            self.fresh.push(Record::DeadSettled { destination: self.name.clone(), from, to });
        }
        count
    }

    /// Nothing below this number is in the journal: what is dead of it cannot be sent any more.
    pub fn left_below(&mut self, oldest: Seq) {
        if self.dead.ranges().first().is_some_and(|tried| tried.from < oldest) {
            self.settle_dead(0, oldest - 1, false);
        }
    }

    /// What it never took.
    pub fn dead(&self) -> &DeadLetters {
        &self.dead
    }

    /// The books: what came in for it and what became of it.
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The last call that failed, since the start.
    pub fn last_failure(&self) -> Option<&LastFailure> {
        self.last_failure.as_ref()
    }

    /// What it gets.
    pub fn filter(&self) -> &Filter {
        &self.settings.filter
    }
}
