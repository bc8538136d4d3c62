//! Keys for which memory has no room: whether one may be among them, and between which numbers its message would lie.
//!
//! Bloom filters (Burton H. Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970): a key sets some bits,
//! and one whose bits are not all set was never put in. With [`BITS_PER_KEY`] and [`PROBES`] one of two thousand other keys
//! finds its bits set by chance; for those the journal is asked in vain.

use std::collections::VecDeque;

/// An eighth of what a key takes that is known by heart.
const BITS_PER_KEY: usize = 16;
const PROBES: u64 = 11;

/// Numbers of records in the journal, both included.
pub type Between = (u64, u64);

/// The smallest span that holds both.
pub fn around(a: Between, b: Between) -> Between {
    (a.0.min(b.0), a.1.max(b.1))
}

/// Keys by the thousands of thousands, the oldest first.
#[derive(Debug)]
pub struct BloomFilters {
    filters: VecDeque<Filter>,
    keys_max: usize,
    filters_max: usize,
}

#[derive(Debug)]
struct Filter {
    bits: Box<[u64]>,
    keys: usize,
    between: Between,
    until_us: i64,
}

/// What had to go.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone {
    /// So many keys.
    pub keys: usize,
    /// The newest of them was put in then.
    pub until_us: i64,
}

impl BloomFilters {
    /// At most so many filters of so many keys each.
    pub fn with_bounds(filters_max: usize, keys_max: usize) -> Self {
        Self { filters: VecDeque::new(), keys_max, filters_max }
    }

    /// Takes keys by their hashes. Their messages lie between these numbers, and the newest came then. What went for them
    /// is told.
    pub fn put(
        &mut self,
        hashes: impl ExactSizeIterator<Item = u64>,
        between: Between,
        until_us: i64,
    ) -> Option<Gone> {
        let is_full = |filter: &Filter| filter.keys + hashes.len() > self.keys_max;
        if self.filters.back().is_none_or(is_full) {
            self.filters.push_back(Filter::for_keys(self.keys_max, between));
        }
        if let Some(newest) = self.filters.back_mut() {
            newest.keys += hashes.len();
            newest.between = around(newest.between, between);
            newest.until_us = until_us;
            hashes.for_each(|hash| newest.set(hash));
        }
        let is_over = self.filters.len() > self.filters_max;
        let gone = if is_over { self.filters.pop_front() } else { None };
        gone.map(|gone| Gone { keys: gone.keys, until_us: gone.until_us })
    }

    /// Where the message of this key lies if there is one.
    pub fn may_hold(&self, hash: u64) -> Option<Between> {
        let holding = self.filters.iter().filter(|filter| filter.may_hold(hash));
        holding.map(|filter| filter.between).reduce(around)
    }

    /// Forgets the filters whose newest key is older than this.
    pub fn forget_before(&mut self, from_us: i64) {
        while self.filters.front().is_some_and(|filter| filter.until_us < from_us) {
            self.filters.pop_front();
        }
    }

    /// How many keys were put in and did not go.
    pub fn len(&self) -> usize {
        self.filters.iter().map(|filter| filter.keys).sum()
    }
}

impl Filter {
    fn for_keys(keys_max: usize, between: Between) -> Self {
        let words = (keys_max * BITS_PER_KEY).div_ceil(64);
        Self { bits: vec![0; words].into(), keys: 0, between, until_us: 0 }
    }

    fn set(&mut self, hash: u64) {
        for (word, bit) in places(self.bits.len(), hash) {
            if let Some(word) = self.bits.get_mut(word) {
                *word |= bit;
            }
        }
    }

    fn may_hold(&self, hash: u64) -> bool {
        places(self.bits.len(), hash)
            .all(|(word, bit)| self.bits.get(word).is_some_and(|word| word & bit != 0))
    }
}

/// Words and the bit in each, by double hashing (Kirsch and Mitzenmacher, "Less hashing, same performance", 2006).
fn places(words: usize, hash: u64) -> impl Iterator<Item = (usize, u64)> {
    let (mut at, step) = (hash, hash.rotate_left(32) | 1);
    (0..PROBES).map(move |_| {
        at = at.wrapping_add(step);
        // The upper half chooses the word, the lower six bits the bit.
        let word = (at >> 32).wrapping_mul(words as u64) >> 32;
        (usize::try_from(word).unwrap_or_default(), 1 << (at & 63))
    })
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    #[test]
    fn a_key_is_found_where_it_was_put_and_few_others_are() {
        let hasher = RandomState::new();
        let hash = |n: usize| hasher.hash_one(n);
        let mut filters = BloomFilters::with_bounds(4, 10_000);
        for part in 0..8 {
            let between = (part as u64 * 100, part as u64 * 100 + 99);
            let keys = part * 5_000..(part + 1) * 5_000;
            assert_eq!(filters.put(keys.map(hash), between, part as i64), None, "there is room for all");
        }
        assert_eq!(filters.len(), 40_000);
        for n in 0..40_000 {
            let (first, last) = filters.may_hold(hash(n)).expect("what was put in is found");
            let at = n as u64 / 5_000 * 100;
            assert!(first <= at && at + 99 <= last, "{n} between {first} and {last}");
        }
        let chance = (100_000..200_000).filter(|n| filters.may_hold(hash(*n)).is_some()).count();
        // Four filters, 0.046 % each by the formula: 184 of 100,000.
        assert!(chance < 400, "{chance} of 100,000 others");
    }

    #[test]
    fn the_oldest_go_for_want_of_room_and_with_time() {
        let mut filters = BloomFilters::with_bounds(2, 10);
        let ten = |from: u32| (from..from + 10).map(|n| u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        assert_eq!(filters.put(ten(0), (0, 9), 5), None);
        assert_eq!(filters.put(ten(10), (10, 19), 6), None);
        assert_eq!(filters.put(ten(20), (20, 29), 7), Some(Gone { keys: 10, until_us: 5 }));
        assert_eq!(filters.len(), 20);
        filters.forget_before(7);
        assert_eq!(filters.len(), 10);
        assert!(ten(20).all(|hash| filters.may_hold(hash) == Some((20, 29))));
        filters.forget_before(8);
        assert_eq!((filters.len(), ten(20).find_map(|hash| filters.may_hold(hash))), (0, None));
    }
}
