//! How far a destination is: a number, and what it still has to get below it.

use std::collections::BTreeSet;

use crate::journal::Seq;
use crate::journal::record::Record;
use crate::journal::state::{CursorState, Small};
use crate::wire::GroupName;

/// A destination's place in the journal.
#[derive(Debug)]
pub struct Cursor {
    destination: String,
    /// Everything up to here arrived or need not, but for the holes.
    up_to: Seq,
    holes: BTreeSet<Seq>,
    /// First and last numbers of what was written off and may still lie in the journal for a moment, in order.
    written_off: Vec<(Seq, Seq)>,
    /// The same of single groups.
    thinned: Thinned,
    has_moved: bool,
}

impl Cursor {
    /// The cursor as the journal knows it; at the start if it does not.
    pub fn of(destination: &str, small: &Small) -> Self {
        let CursorState { up_to, holes } = small.cursors.get(destination).cloned().unwrap_or_default();
        Self {
            destination: destination.to_owned(),
            up_to,
            holes: holes.into_iter().collect(),
            // What was written off left the journal by the same record.
            written_off: Vec::new(),
            thinned: Thinned::default(),
            has_moved: false,
        }
    }

    /// Whether this message of a group, if it is for the destination at all, has still to arrive.
    pub fn is_missing(&self, seq: Seq, group: GroupName) -> bool {
        let is_open = seq > self.up_to || self.holes.contains(&seq);
        is_open && !self.is_written_off(seq) && !self.thinned.has(seq, group)
    }

    /// The number of the first message that has to arrive, or one before it.
    pub fn first_missing(&self) -> Seq {
        self.holes.first().copied().unwrap_or(self.up_to.saturating_add(1))
    }

    /// Numbers below which everything arrived but for the holes.
    pub fn behind(&self) -> Seq {
        self.up_to.saturating_add(1)
    }

    /// A message was handed over and may arrive out of turn: everything before it counts as passed, but for it and the
    /// other holes.
    pub fn hand_over(&mut self, seq: Seq) {
        self.holes.insert(seq);
        self.up_to = self.up_to.max(seq);
        self.has_moved = true;
    }

    /// A message arrived out of turn.
    pub fn arrived(&mut self, seq: Seq) {
        self.has_moved |= self.holes.remove(&seq);
    }

    /// Everything up to here arrived or need not, but for the holes, to which these are added.
    pub fn pass(&mut self, up_to: Seq, left_out: impl IntoIterator<Item = Seq>) {
        self.holes.extend(left_out);
        self.up_to = self.up_to.max(up_to);
        self.has_moved = true;
    }

    /// Messages from `first` to `last` are leaving the journal, arrived or not.
    pub fn write_off(&mut self, first: Seq, last: Seq) {
        self.holes.retain(|hole| !(first..=last).contains(hole));
        self.add_written_off(first, last);
        self.has_moved = true;
    }

    /// The messages of a group from `first` to `last` are leaving the journal; of those these did not arrive.
    pub fn thin(&mut self, first: Seq, last: Seq, group: GroupName, lost: impl Iterator<Item = Seq>) {
        lost.for_each(|seq| _ = self.holes.remove(&seq));
        self.thinned.add(first, last, group);
        self.thinned.forget_below(self.first_missing());
        self.has_moved = true;
    }

    fn add_written_off(&mut self, first: Seq, last: Seq) {
        self.written_off.push((first, last));
        self.written_off.sort_unstable();
        self.written_off.dedup_by(|later, earlier| {
            let touches = later.0 <= earlier.1.saturating_add(1);
            if touches {
                earlier.1 = earlier.1.max(later.1);
            }
            touches
        });
    }

    fn is_written_off(&self, seq: Seq) -> bool {
        let at = self.written_off.partition_point(|(_, last)| *last < seq);
        self.written_off.get(at).is_some_and(|(first, _)| *first <= seq)
    }

    /// How many messages below the place have still to arrive.
    pub fn holes(&self) -> usize {
        self.holes.len()
    }

    /// Whether there is something to record.
    pub fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// It moved, and that is not recorded.
    pub fn set_moved(&mut self) {
        self.has_moved = true;
    }

    /// Its place as far as there is nothing from `end` on.
    pub fn before(&self, end: Seq) -> CursorState {
        let up_to = self.up_to.min(end.saturating_sub(1));
        CursorState { up_to, holes: self.holes.range(..end).copied().collect() }
    }

    /// Its place, to be recorded: as far as there is nothing from `end` on.
    pub fn take_record(&mut self, end: Seq) -> Record<'static> {
        self.has_moved = self.up_to >= end;
        let CursorState { up_to, holes } = self.before(end);
        Record::Cursor { destination: self.destination.clone(), up_to, holes }
    }
}

/// What single groups lost of stretches of the journal, as long as it may still lie in memory.
#[derive(Debug, Default)]
pub struct Thinned(Vec<(Seq, Seq, GroupName)>);

impl Thinned {
    /// The messages of a group from `first` to `last` are leaving the journal.
    pub fn add(&mut self, first: Seq, last: Seq, group: GroupName) {
        self.0.push((first, last, group));
    }

    /// Whether the message with this number, of this group, is one of them.
    pub fn has(&self, seq: Seq, group: GroupName) -> bool {
        self.0.iter().any(|(first, last, name)| (first..=last).contains(&&seq) && *name == group)
    }

    /// Nothing is asked about what lies below any more.
    pub fn forget_below(&mut self, seq: Seq) {
        self.0.retain(|(_, last, _)| *last >= seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::Cause;

    fn missing(cursor: &Cursor) -> Vec<Seq> {
        (1..12).filter(|seq| cursor.is_missing(*seq, GroupName::NONE)).collect()
    }

    #[test]
    fn what_is_missing_survives_a_restart() {
        let mut small = Small::default();
        let mut cursor = Cursor::of("x", &small);
        assert_eq!((cursor.first_missing(), cursor.has_moved()), (1, false));
        cursor.pass(4, [2]);
        cursor.hand_over(6);
        cursor.hand_over(8);
        cursor.arrived(6);
        assert_eq!(missing(&cursor), [2, 8, 9, 10, 11]);
        small.apply(cursor.take_record(Seq::MAX));
        assert!(!cursor.has_moved());
        let again = Cursor::of("x", &small);
        assert_eq!(missing(&again), [2, 8, 9, 10, 11]);
        cursor.write_off(1, 9);
        assert_eq!((missing(&cursor), cursor.holes()), (vec![10, 11], 0));
    }

    /// Ranges of drops are remembered roughly: none of what lies between them is lost for it.
    #[test]
    fn what_was_dropped_once_says_nothing_of_what_is_there() {
        let mut small = Small::default();
        for from in (0..2000).step_by(4) {
            small.apply(Record::Dropped { from, to: from, count: 1, cause: Cause::Full });
        }
        assert_eq!(missing(&Cursor::of("x", &small)), (1..12).collect::<Vec<_>>());
    }

    #[test]
    fn what_lies_ahead_is_recorded_later() {
        let mut cursor = Cursor::of("x", &Small::default());
        cursor.pass(9, [2, 7]);
        let mut small = Small::default();
        small.apply(cursor.take_record(7));
        assert!(cursor.has_moved());
        assert_eq!(missing(&Cursor::of("x", &small)), [2, 7, 8, 9, 10, 11]);
        small.apply(cursor.take_record(10));
        assert!(!cursor.has_moved());
        assert_eq!(missing(&Cursor::of("x", &small)), [2, 7, 10, 11]);
    }
}
