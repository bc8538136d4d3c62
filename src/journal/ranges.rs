//! Sets of numbers that lie together, as first and last numbers.

use serde::{Deserialize, Serialize};

use super::Seq;

/// A set of numbers, in order; ranges that touch are one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges(Vec<(Seq, Seq)>);

impl Ranges {
    /// These ranges, in any order, overlapping or not.
    pub fn of(ranges: impl IntoIterator<Item = (Seq, Seq)>) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|(from, to)| set.insert(from, to));
        set
    }

    /// The ranges.
    pub fn as_slice(&self) -> &[(Seq, Seq)] {
        &self.0
    }

    /// The first range.
    pub fn first(&self) -> Option<(Seq, Seq)> {
        self.0.first().copied()
    }

    /// Whether there is no number in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this number is in it.
    pub fn contains(&self, seq: Seq) -> bool {
        let at = self.0.partition_point(|(_, to)| *to < seq);
        self.0.get(at).is_some_and(|(from, _)| *from <= seq)
    }

    /// Adds the numbers from `from` to `to`; none if `to` lies before.
    pub fn insert(&mut self, from: Seq, to: Seq) {
        if to < from {
            return;
        }
        let start = self.0.partition_point(|(_, end)| end.saturating_add(1) < from);
        let end = self.0.partition_point(|(begin, _)| *begin <= to.saturating_add(1));
        let touched = self.0.get(start..end).unwrap_or_default();
        let from = touched.first().map_or(from, |(first, _)| from.min(*first));
        let to = touched.last().map_or(to, |(_, last)| to.max(*last));
        self.0.splice(start..end.max(start), [(from, to)]);
    }

    /// Takes the numbers from `from` to `to` out; whether that changed anything.
    pub fn remove(&mut self, from: Seq, to: Seq) -> bool {
        let before = self.0.len();
        let mut has_changed = false;
        let mut left = Vec::with_capacity(before + 1);
        for (first, last) in self.0.drain(..) {
            if last < from || first > to {
                left.push((first, last));
                continue;
            }
            has_changed = true;
            if first < from {
                left.push((first, from - 1));
            }
            if last > to {
                left.push((to + 1, last));
            }
        }
        self.0 = left;
        has_changed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        let mut set = Ranges::of([(5, 6), (1, 2), (8, 9)]);
        assert_eq!(set.as_slice(), [(1, 2), (5, 6), (8, 9)]);
        set.insert(3, 4);
        assert_eq!(set.as_slice(), [(1, 6), (8, 9)]);
        set.insert(2, 1);
        set.insert(7, 20);
        assert_eq!(set.as_slice(), [(1, 20)]);
        assert!(!set.remove(0, 0) && set.remove(4, 5));
        assert_eq!((set.as_slice(), set.first()), (&[(1, 3), (6, 20)][..], Some((1, 3))));
        assert!(set.contains(3) && !set.contains(4) && set.contains(20) && !set.contains(21));
        assert!(set.remove(0, Seq::MAX) && set.is_empty());
        set.insert(Seq::MAX, Seq::MAX);
        assert!(set.contains(Seq::MAX));
    }

    #[test]
    fn it_is_a_set_of_numbers() {
        let (mut set, mut model, mut seed) = (Ranges::default(), BTreeSet::new(), 42_u64);
        for round in 0..2000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let from = (seed >> 33) % 60 + 1;
            let to = from + (seed >> 50) % 7;
            if seed >> 63 == 0 {
                set.insert(from, to);
                model.extend(from..=to);
            } else {
                let had = (from..=to).filter(|seq| model.remove(seq)).count() > 0;
                assert_eq!(set.remove(from, to), had, "round {round}");
            }
            assert!((0..80).all(|seq| set.contains(seq) == model.contains(&seq)), "round {round}");
            assert!(set.as_slice().windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "round {round}");
        }
    }
}
