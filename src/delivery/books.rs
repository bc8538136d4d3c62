//! Where every message of a destination went, by group: received = delivered + waiting + dropped by cause.
//!
//! The sums are those of the journal (`Tally` records and the count of what was appended), so they hold over restarts:
//! each change is recorded together with the cursor that it belongs to, or not at all.

use std::collections::BTreeMap;

use crate::journal::record::{Cause, Kind, Record};
use crate::journal::state::Small;
use crate::wire::GroupName;

/// One group's line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Line {
    /// Messages that came in, refused ones included.
    pub received: u64,
    /// The destination has them.
    pub delivered: u64,
    /// Their time of keeping was over first.
    pub expired: u64,
    /// They made room for newer ones.
    pub made_room: u64,
    /// There was no room for them.
    pub refused: u64,
    /// The medium lost them.
    pub damaged: u64,
    /// The destination did not take them for so long that they were given up.
    pub dead: u64,
}

impl Line {
    /// What is still to be delivered.
    pub fn waiting(&self) -> u64 {
        self.received.saturating_sub(self.gone())
    }

    fn gone(&self) -> u64 {
        self.delivered + self.expired + self.made_room + self.refused + self.damaged + self.dead
    }

    fn count(&mut self, cause: Cause, add: u64) {
        let entry = match cause {
            Cause::Delivered => &mut self.delivered,
            Cause::Expired => &mut self.expired,
            Cause::Full => &mut self.made_room,
            Cause::Refused => {
                self.received += add;
                &mut self.refused
            }
            Cause::Damaged | Cause::Revoked => &mut self.damaged,
            Cause::Dead => &mut self.dead,
        };
        *entry += add;
    }
}

/// The books of one destination.
#[derive(Debug)]
pub struct Books {
    destination: String,
    lines: BTreeMap<GroupName, Line>,
    /// What is not recorded yet.
    fresh: BTreeMap<(GroupName, Cause), u64>,
}

impl Books {
    /// The books of a destination that gets every message of one kind, as the journal has them.
    pub fn of(destination: &str, kind: Kind, small: &Small) -> Self {
        let mut lines: BTreeMap<GroupName, Line> = BTreeMap::new();
        for (group, _, count) in small.received().filter(|(_, received, _)| *received == kind) {
            lines.entry(group).or_default().received += count;
        }
        for (group, _, cause, count) in small.tallies().filter(|(_, name, ..)| *name == destination) {
            lines.entry(group).or_default().count(cause, count);
        }
        Self { destination: destination.to_owned(), lines, fresh: BTreeMap::new() }
    }

    /// The books of a destination whose messages are counted: what came to their end as the journal has it, and nothing
    /// waits until [`Books::add_waiting`] says so.
    pub fn counted(destination: &str, small: &Small) -> Self {
        let lines = BTreeMap::new();
        let mut books = Self { destination: destination.to_owned(), lines, fresh: BTreeMap::new() };
        for (group, _, cause, count) in small.tallies().filter(|(_, name, ..)| *name == destination) {
            books.lines.entry(group).or_default().count(cause, count);
        }
        books.begin_count();
        books
    }

    /// What waits is counted anew: until then, nothing does.
    pub fn begin_count(&mut self) {
        self.lines.values_mut().for_each(|line| line.received = line.gone());
    }

    /// So many more wait than was known.
    pub fn add_waiting(&mut self, group: GroupName, count: u64) {
        self.lines.entry(group).or_default().received += count;
    }

    /// One more came in and is in the journal, which counts it itself.
    pub fn received(&mut self, group: GroupName) {
        self.lines.entry(group).or_default().received += 1;
    }

    /// One went this way.
    pub fn settle(&mut self, group: GroupName, cause: Cause) {
        self.lines.entry(group).or_default().count(cause, 1);
        *self.fresh.entry((group, cause)).or_default() += 1;
    }

    /// Each group's line.
    pub fn lines(&self) -> &BTreeMap<GroupName, Line> {
        &self.lines
    }

    /// All lines together.
    pub fn sum(&self) -> Line {
        self.lines.values().fold(Line::default(), |sum, line| Line {
            received: sum.received + line.received,
            delivered: sum.delivered + line.delivered,
            expired: sum.expired + line.expired,
            made_room: sum.made_room + line.made_room,
            refused: sum.refused + line.refused,
            damaged: sum.damaged + line.damaged,
            dead: sum.dead + line.dead,
        })
    }

    /// Whether there is something to record.
    pub fn has_changed(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// What changed since the last time, to be recorded; but for so many that were delivered of each group, which are
    /// left for the next time.
    pub fn take_records(&mut self, but: &BTreeMap<GroupName, u64>) -> Vec<Record<'static>> {
        let mut records = Vec::new();
        for ((group, cause), add) in std::mem::take(&mut self.fresh) {
            let left = but.get(&group).filter(|_| cause == Cause::Delivered).map_or(0, |but| add.min(*but));
            if left > 0 {
                self.fresh.insert((group, cause), left);
            }
            if add > left {
                let destination = self.destination.clone();
                records.push(Record::Tally { group, destination, cause, add: add - left });
            }
        }
        records
    }

    /// A record that was taken is not going to be written.
    pub fn take_back(&mut self, record: &Record<'_>) {
        if let Record::Tally { group, cause, add, .. } = record {
            *self.fresh.entry((*group, *cause)).or_default() += add;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::{Message, State, Via};
    use crate::wire::{Format, Uid};

    fn message(group: GroupName, kind: Kind) -> Record<'static> {
        Record::Message(Message {
            uid: Uid::parse("o").unwrap(),
            group,
            kind,
            via: Via::Udp,
            format: Format::Binary,
            state: State::Waiting,
            source: None,
            network: None,
            payload: b"x"[..].into(),
        })
    }

    #[test]
    fn the_sums_hold_over_a_restart() {
        let (a, b) = (GroupName::parse("a").unwrap(), GroupName::parse("b").unwrap());
        let mut small = Small::default();
        let mut books = Books::of("central", Kind::Telemetry, &small);
        for group in [a, a, a, b] {
            small.apply(message(group, Kind::Telemetry));
            books.received(group);
        }
        small.apply(message(a, Kind::Event));
        books.settle(a, Cause::Delivered);
        books.settle(a, Cause::Full);
        books.settle(b, Cause::Refused);
        assert!(books.has_changed());
        let records = books.take_records(&BTreeMap::from([(a, 1)]));
        assert!(books.has_changed(), "one is left");
        records.iter().for_each(|record| books.take_back(record));
        let records = books.take_records(&BTreeMap::new());
        assert!(!books.has_changed());
        records.into_iter().for_each(|record| small.apply(record));
        let again = Books::of("central", Kind::Telemetry, &small);
        assert_eq!(again.lines(), books.lines());
        assert_eq!(again.lines()[&a].waiting(), 1);
        assert_eq!((again.lines()[&b].received, again.lines()[&b].waiting()), (2, 1));
        assert_eq!((again.sum().received, again.sum().waiting()), (5, 2));
        assert_eq!(Books::of("other", Kind::Telemetry, &small).sum().delivered, 0);
    }
}
