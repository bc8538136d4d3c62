//! What the journal must hold: a vector of all that was handed to it, and how much of that it acknowledged.

use std::collections::BTreeMap;

use crate::subject::{Found, Record, Seq, THINNED};

/// A destination of the workload.
pub type Destination = u16;

/// What was acknowledged at some moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    /// Operations of the medium that were done by then.
    pub ops: usize,
    /// The records 1 to this are acknowledged.
    pub records: usize,
    /// Of each destination's moves, how many.
    pub moves: BTreeMap<Destination, usize>,
    /// The records 1 to this may have been deleted to make room.
    pub may_go: Seq,
    /// Of one group, the records 1 to this may be gone, and those 1 to that are.
    pub may_thin: Seq,
    pub thinned: Seq,
}

/// All that was ever handed to the journal, in order.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// Number 1 is the first of them.
    pub records: Vec<Record>,
    /// Where each destination's cursor was moved to.
    pub moves: BTreeMap<Destination, Vec<Seq>>,
    /// What was acknowledged, one for each time that something was.
    marks: Vec<Mark>,
    /// Operations of the medium that were done when the last start showed what there is.
    pub settled: usize,
}

impl Model {
    /// Remembers that all handed over so far is acknowledged.
    pub fn acknowledge_all(&mut self, ops: usize) {
        let moves = self.moves.iter().map(|(to, moves)| (*to, moves.len())).collect();
        self.marks.push(Mark { ops, records: self.records.len(), moves, ..self.last() });
    }

    /// Allows that from now on the records up to a number are deleted, and those of one group up to another.
    pub fn let_go(&mut self, ops: usize, up_to: Seq, thin_to: Seq) {
        let last = self.last();
        let (may_go, may_thin) = (up_to.max(last.may_go), thin_to.max(last.may_thin));
        self.marks.push(Mark { ops, may_go, may_thin, ..last });
    }

    /// From now on none of one group's records up to a number is there.
    pub fn gone(&mut self, ops: usize, thin_to: Seq) {
        let last = self.last();
        self.marks.push(Mark { ops, thinned: thin_to.max(last.thinned), ..last });
    }

    /// Takes what was found after a start for what is there: the rest was never acknowledged, its numbers are given to
    /// others, and from now on it has to stay.
    pub fn settle(&mut self, ops: usize, found: &Found) {
        self.records.truncate(found.next as usize - 1);
        self.moves.retain(|to, _| found.cursors.contains_key(to));
        for (to, moves) in &mut self.moves {
            moves.retain(|seq| *seq <= found.cursors[to]);
        }
        self.acknowledge_all(ops);
        self.settled = ops;
    }

    /// What was acknowledged last.
    pub fn last(&self) -> Mark {
        self.marks.last().cloned().unwrap_or_default()
    }

    /// What was acknowledged before more than that many operations were done.
    pub fn mark_at(&self, ops: usize) -> Mark {
        let marks = &self.marks[..self.marks.partition_point(|mark| mark.ops <= ops)];
        marks.last().cloned().unwrap_or_default()
    }

    /// The model of a journal that started and showed this, which from now on has to stay.
    /// `before` says what may go, still.
    pub fn goes_on(&self, before: &Mark, found: &Found) -> Self {
        let mut model = self.clone();
        let Mark { may_go, may_thin, thinned, .. } = *before;
        model.marks = vec![Mark { may_go, may_thin, thinned, ..Mark::default() }];
        model.settle(0, found);
        model
    }

    /// Whether all that was handed over is acknowledged.
    pub fn is_acknowledged(&self) -> bool {
        let last = self.last();
        let moved = self.moves.iter().all(|(to, moves)| last.moves.get(to) == Some(&moves.len()));
        last.records == self.records.len() && moved
    }

    /// Where the cursors are.
    pub fn places(&self) -> BTreeMap<Destination, Seq> {
        self.moves.iter().filter_map(|(to, moves)| Some((*to, *moves.last()?))).collect()
    }

    /// First and last number of what was acknowledged at once.
    pub fn batches(&self) -> Vec<(Seq, Seq)> {
        let ends: Vec<Seq> = self.marks.iter().map(|mark| mark.records as Seq).collect();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts
            .zip(&ends)
            .filter(|(before, end)| before < end)
            .map(|(before, end)| (before + 1, *end))
            .collect()
    }

    /// Whether a record is of the group that may have little, and is one of those that may be gone for it.
    pub fn may_be_thinned(&self, seq: Seq, mark: &Mark) -> bool {
        seq <= mark.may_thin && self.is_of_thinned_group(seq)
    }

    fn is_of_thinned_group(&self, seq: Seq) -> bool {
        let record = self.records.get(seq as usize - 1);
        record.is_some_and(|record| record.group.as_str() == THINNED && record.kind.goes_with_group())
    }

    /// Holds what was found against what must and what may be there.
    pub fn check(&self, mark: &Mark, found: &Found) -> Result<(), String> {
        let there = found.next - 1;
        if there < mark.records as Seq {
            return Err(format!("{} records are acknowledged, {there} are there", mark.records));
        }
        if there > self.records.len() as Seq {
            return Err(format!("{} records were sent, {there} are there", self.records.len()));
        }
        let first = found.records.first().map_or(found.next, |(seq, _)| *seq);
        let mut records = found.records.iter().peekable();
        for expected in first.min(mark.may_go + 1)..found.next {
            let sent = &self.records[expected as usize - 1];
            let Some((seq, found)) = records.next_if(|(seq, _)| *seq == expected) else {
                if self.may_be_thinned(expected, mark) || (expected < first && expected <= mark.may_go) {
                    continue;
                }
                return Err(format!("record {expected} had to stay, the next is {:?}", records.peek()));
            };
            if expected <= mark.thinned && self.is_of_thinned_group(expected) {
                return Err(format!("record {seq} was gone and is there again"));
            }
            if found != sent {
                return Err(format!("record {seq} is not what was sent: {found:?}, not {sent:?}"));
            }
        }
        if let Some((seq, _)) = records.next() {
            return Err(format!("record {seq} is there, the next number is {}", found.next));
        }
        if found.received != there {
            return Err(format!("{} messages in the books, {there} were given numbers", found.received));
        }
        for (to, moves) in &self.moves {
            let acknowledged = mark.moves.get(to).copied().unwrap_or(0);
            let place = found.cursors.get(to);
            let at_least = &moves[acknowledged.saturating_sub(1)..];
            let holds = place.map_or(acknowledged == 0, |place| at_least.contains(place));
            if !holds {
                return Err(format!("the cursor {to} is at {place:?}, it was moved to {at_least:?}"));
            }
        }
        match found.cursors.keys().find(|to| !self.moves.contains_key(to)) {
            Some(to) => Err(format!("a cursor {to} that nobody moved")),
            None => Ok(()),
        }
    }
}
