//! The dead-letter list of a destination: which messages were given up, by ranges of their numbers.

use serde::{Deserialize, Serialize};

use super::Seq;
use super::record::Tried;

/// Ranges that are remembered; of more, the two oldest become one, and what lies between them counts as dead, too.
pub const RANGES_MAX: usize = 1024;

/// Messages that were given up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetters(Vec<Tried>);

impl DeadLetters {
    /// The ranges, in the order of their numbers.
    pub fn ranges(&self) -> &[Tried] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many messages there are; exact as long as ranges end as they were made.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|tried| tried.count).sum()
    }

    /// Whether the message with this number is one.
    pub fn contains(&self, seq: Seq) -> bool {
        self.0.iter().any(|tried| (tried.from..=tried.to).contains(&seq))
    }

    /// Messages were given up.
    pub fn add(&mut self, tried: Tried) {
        let at = self.0.partition_point(|other| other.from < tried.from);
        match at.checked_sub(1).and_then(|before| self.0.get_mut(before)) {
            // One outage is one range, however many attempts it had.
            Some(before) if before.to.saturating_add(1) >= tried.from && before.reason == tried.reason => {
                before.to = before.to.max(tried.to);
                before.count += tried.count;
                before.attempts = before.attempts.max(tried.attempts);
            }
            _ => self.0.insert(at, tried),
        }
        if self.0.len() > RANGES_MAX {
            let oldest = self.0.remove(0);
            if let Some(next) = self.0.first_mut() {
                next.from = oldest.from;
                next.to = next.to.max(oldest.to);
                next.count += oldest.count;
            }
        }
    }

    /// Messages are no longer dead. Of a range that is cut the count is what its share of the numbers is.
    pub fn settle(&mut self, from: Seq, to: Seq) {
        let mut left = Vec::with_capacity(self.0.len());
        for tried in self.0.drain(..) {
            if tried.to < from || tried.from > to {
                left.push(tried);
                continue;
            }
            let mut keep = |first: Seq, last: Seq| {
                let share = (last - first + 1) as f64 / (tried.to - tried.from + 1) as f64;
                let count = ((tried.count as f64 * share).round() as u64).min(last - first + 1);
                left.push(Tried { from: first, to: last, count, ..tried.clone() });
            };
            if tried.from < from {
                keep(tried.from, from - 1);
            }
            if tried.to > to {
                keep(to + 1, tried.to);
            }
        }
        self.0 = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(from: Seq, to: Seq, reason: &str) -> Tried {
        Tried { from, to, count: to - from + 1, attempts: 1, is_dead: true, at_us: 0, reason: reason.into() }
    }

    fn spans(dead: &DeadLetters) -> Vec<(Seq, Seq, u64)> {
        dead.ranges().iter().map(|tried| (tried.from, tried.to, tried.count)).collect()
    }

    #[test]
    fn an_outage_is_one_range_and_parts_of_it_can_be_settled() {
        let mut dead = DeadLetters::default();
        for (from, to, reason) in [(1, 4, "a"), (5, 8, "a"), (9, 9, "b"), (20, 29, "b")] {
            dead.add(tried(from, to, reason));
        }
        assert_eq!(spans(&dead), [(1, 8, 8), (9, 9, 1), (20, 29, 10)]);
        dead.settle(3, 22);
        assert_eq!(spans(&dead), [(1, 2, 2), (23, 29, 7)]);
        assert!(dead.contains(2) && !dead.contains(3) && dead.contains(29));
        assert_eq!(dead.count(), 9);
        dead.settle(0, Seq::MAX);
        assert!(dead.is_empty());
    }

    #[test]
    fn only_so_many_ranges_are_remembered_and_no_message_is_lost_of_them() {
        let mut dead = DeadLetters::default();
        let all = RANGES_MAX as u64 + 10;
        (0..all).for_each(|number| dead.add(tried(number * 3, number * 3, "x")));
        assert_eq!((dead.ranges().len(), dead.count()), (RANGES_MAX, all));
        assert!((0..all).all(|number| dead.contains(number * 3)));
    }
}
