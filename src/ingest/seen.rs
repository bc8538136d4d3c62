//! Which messages of partner networks came before: what tells a network's second try from a new message.
//!
//! A key is a source and a [`super::Mapped::dedup`]. Keys are kept as 64 bits of a keyed hash, with what the first message is
//! called by whoever asks, in generations: the newest is a map, those before are sorted arrays, and a generation goes as
//! a whole when its newest key is older than the window. Age is measured by the keys' times, but between two of them at
//! most an hour passes: a clock that is set from 1970 to today forgets nothing. That two keys have the same 64 bits is as likely as one in
//! 10^13 for each message at the most keys that there can be; nobody can make it happen, since the hash is keyed.
//!
//! Generations for which there is no room become a [`BloomFilters`]: of a key in there it is only known where its message would be,
//! and whoever keeps the messages has to look.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use super::bloom::{Between, BloomFilters, around};
use super::fields::Fields;

/// Networks have given up trying after so long: no key is forgotten earlier, unless there are too many.
pub const SEEN_US: i64 = 24 * 3_600 * 1_000_000;
/// Who looks for them in the journal looks so much further: clocks are not all the same.
pub const SEEN_MARGIN_US: i64 = 3_600 * 1_000_000;
/// Keys that are known by heart: 24 hours at 11 messages a second, and at most 24 MB.
const KNOWN_MAX: usize = 1_000_000;
/// Keys of a generation, and how long it takes new ones.
const GENERATION_MAX: usize = 50_000;
const GENERATION_US: i64 = 3_600 * 1_000_000;
/// Keys of one filter of them, which takes 2 MB, and how many there are. With more keys than [`KNOWN_MAX`] and these,
/// 24 hours at 196 messages a second, the window gets shorter.
const FILTER_MAX: usize = 1_000_000;
const FILTERS_MAX: usize = 16;
const _: () = assert!(KNOWN_MAX.is_multiple_of(GENERATION_MAX) && FILTER_MAX.is_multiple_of(GENERATION_MAX));

/// The keys of the newest messages, each with what stands for the message.
#[derive(Debug)]
pub struct Seen<T> {
    hasher: RandomState,
    newest: HashMap<u64, T>,
    newest_between: Option<Between>,
    newest_since_us: i64,
    /// The time that passed so far, as it is counted here, and the last key's time.
    passed_us: i64,
    last_us: Option<i64>,
    older: VecDeque<Generation<T>>,
    forgotten: BloomFilters,
    /// Keys that went for want of room, and when the last of them came, by the time as it is counted here.
    crowded_out: u64,
    crowded_us: Option<i64>,
    known_max: usize,
    generation_max: usize,
}

#[derive(Debug)]
struct Generation<T> {
    /// Sorted by their hashes.
    keys: Box<[(u64, T)]>,
    between: Between,
    until_us: i64,
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recalled<T> {
    /// It came first with this message.
    First(T),
    /// If it came, then with a message whose record has a number between these, both included.
    Perhaps(Between),
    /// It did not come within the window.
    Never,
}

impl<T: Copy> Default for Seen<T> {
    fn default() -> Self {
        Self::with_bounds(KNOWN_MAX, GENERATION_MAX, BloomFilters::with_bounds(FILTERS_MAX, FILTER_MAX))
    }
}

impl<T: Copy> Seen<T> {
    fn with_bounds(known_max: usize, generation_max: usize, forgotten: BloomFilters) -> Self {
        Self {
            hasher: RandomState::new(),
            newest: HashMap::new(),
            newest_between: None,
            newest_since_us: 0,
            passed_us: 0,
            last_us: None,
            older: VecDeque::new(),
            forgotten,
            crowded_out: 0,
            crowded_us: None,
            known_max,
            generation_max,
        }
    }

    /// What is known of a key.
    pub fn recall(&self, source: &str, dedup: &str) -> Recalled<T> {
        let hash = self.hasher.hash_one((source, dedup));
        let in_generation = |generation: &Generation<T>| {
            let at = generation.keys.binary_search_by_key(&hash, |(hash, _)| *hash).ok()?;
            generation.keys.get(at).map(|(_, first)| *first)
        };
        let newest = self.newest.get(&hash).copied();
        let known = newest.or_else(|| self.older.iter().rev().find_map(in_generation));
        let perhaps = || self.forgotten.may_hold(hash).map_or(Recalled::Never, Recalled::Perhaps);
        known.map_or_else(perhaps, Recalled::First)
    }

    /// Remembers the first message of a key, whose record has the number `at`, and forgets what is older than [`SEEN_US`].
    /// Times are microseconds since 1970 as the machine believes.
    pub fn note(&mut self, source: &str, dedup: &str, first: T, at: u64, now_us: i64) {
        let since_last = now_us.saturating_sub(self.last_us.replace(now_us).unwrap_or(now_us));
        self.passed_us += since_last.clamp(0, GENERATION_US);
        let is_old = self.passed_us - self.newest_since_us >= GENERATION_US;
        if is_old || self.newest.len() >= self.generation_max {
            self.seal();
        }
        // One hour more, for the clock that was set in between.
        let kept_from_us = self.passed_us - SEEN_US - GENERATION_US;
        while self.older.front().is_some_and(|generation| generation.until_us < kept_from_us) {
            self.older.pop_front();
        }
        self.forgotten.forget_before(kept_from_us);
        self.newest.insert(self.hasher.hash_one((source, dedup)), first);
        self.newest_between = Some(around(self.newest_between.unwrap_or((at, at)), (at, at)));
        while self.known() > self.known_max
            && let Some(Generation { keys, between, until_us }) = self.older.pop_front()
        {
            let hashes = keys.iter().map(|(hash, _)| *hash);
            if let Some(gone) = self.forgotten.put(hashes, between, until_us) {
                self.crowded_out += gone.keys as u64;
                self.crowded_us = Some(gone.until_us);
            }
        }
    }

    /// Knows a key by heart again, which is in the filters.
    pub fn remember(&mut self, source: &str, dedup: &str, first: T) {
        self.newest.insert(self.hasher.hash_one((source, dedup)), first);
    }

    /// Whether no key is [`Recalled::Perhaps`].
    pub fn knows_all(&self) -> bool {
        self.forgotten.len() == 0
    }

    /// How many keys went before their time for want of room.
    pub fn crowded_out(&self) -> u64 {
        self.crowded_out
    }

    /// Keys are told for so long, in microseconds.
    pub fn window_us(&self) -> i64 {
        self.crowded_us.map_or(SEEN_US, |gone| (self.passed_us - gone).min(SEEN_US))
    }

    /// How many keys can be told.
    pub fn len(&self) -> usize {
        self.known() + self.forgotten.len()
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn known(&self) -> usize {
        self.newest.len() + self.older.iter().map(|generation| generation.keys.len()).sum::<usize>()
    }

    fn seal(&mut self) {
        let mut keys: Box<[_]> = std::mem::take(&mut self.newest).into_iter().collect();
        keys.sort_unstable_by_key(|(hash, _)| *hash);
        if let Some(between) = self.newest_between.take() {
            self.older.push_back(Generation { keys, between, until_us: self.passed_us });
        }
        self.newest_since_us = self.passed_us;
    }
}

/// The key of a message that is stored, from what is kept of the network beside it; see [`super::Mapped::dedup`].
pub fn dedup_of_stored(network: &[u8]) -> Option<String> {
    let fields = Fields::read(std::str::from_utf8(network).ok()?).ok()?;
    fields.string("dedup").ok()?.map(|dedup| dedup.into_owned())
}

#[cfg(test)]
mod tests {
    use super::Recalled::{First, Never, Perhaps};
    use super::*;

    const HOUR: i64 = 3_600 * 1_000_000;

    #[test]
    fn the_first_is_found_for_24_hours() {
        let mut seen = Seen::default();
        seen.note("net", "a", 1_u64, 0, 0);
        assert_eq!(seen.recall("net", "a"), First(1));
        assert_eq!(seen.recall("other", "a"), Never);
        assert_eq!(seen.recall("ne", "ta"), Never);
        for quarter in 1..=4 * 24 {
            seen.note("net", &format!("q{quarter}"), 100, 0, quarter * HOUR / 4);
            assert_eq!(seen.recall("net", "a"), First(1), "quarter {quarter}");
        }
        for quarter in 4 * 24..=4 * 27 {
            seen.note("net", &format!("q{quarter}"), 100, 0, quarter * HOUR / 4);
        }
        assert_eq!(seen.recall("net", "a"), Never, "27 hours");
        assert_eq!(seen.recall("net", "q20"), First(100));
    }

    #[test]
    fn a_clock_that_is_set_forgets_nothing() {
        let mut seen = Seen::default();
        let today = 500_000 * HOUR;
        seen.note("net", "before the restart", 1_u64, 0, today);
        seen.note("net", "unsynced", 2, 0, 0);
        seen.note("net", "set", 3, 0, today);
        for quarter in 1..=4 * 23 {
            seen.note("net", &quarter.to_string(), 9, 0, today + quarter * HOUR / 4);
        }
        for (key, first) in [("before the restart", 1), ("unsynced", 2), ("set", 3)] {
            assert_eq!(seen.recall("net", key), First(first), "{key}");
        }
        assert!(seen.older.len() < 30);
    }

    #[test]
    fn memory_is_bounded_and_what_goes_is_looked_for_first() {
        let mut seen = Seen::with_bounds(100, 10, BloomFilters::with_bounds(2, 50));
        let recall = |seen: &Seen<u64>, n: u64| seen.recall("net", &n.to_string());
        let is_perhaps = |recalled, n: u64| match recalled {
            Perhaps((first, last)) => first <= 1_000 + n && 1_000 + n <= last,
            _ => false,
        };
        for n in 0..100 {
            seen.note("net", &n.to_string(), n, 1_000 + n, 0);
        }
        assert!((0..100).all(|n| recall(&seen, n) == First(n)), "as many as are known by heart");
        for n in 100..200 {
            seen.note("net", &n.to_string(), n, 1_000 + n, HOUR / 4);
        }
        assert_eq!(
            (seen.len(), seen.crowded_out(), seen.window_us()),
            (200, 0, SEEN_US),
            "as many as there may be"
        );
        for n in 0..100 {
            assert!(is_perhaps(recall(&seen, n), n), "{n}");
        }
        assert!((100..200).all(|n| recall(&seen, n) == First(n)));
        seen.note("net", "200", 200, 1_200, HOUR / 2);
        assert_eq!((seen.len(), seen.crowded_out(), seen.window_us()), (151, 50, HOUR / 2), "and it is told");
        for n in 50..110 {
            assert!(is_perhaps(recall(&seen, n), n), "{n}");
        }
        assert!((110..=200).all(|n| recall(&seen, n) == First(n)));
    }

    #[test]
    fn the_filters_go_with_time() {
        let mut seen = Seen::with_bounds(10, 10, BloomFilters::with_bounds(9, 10));
        for n in 0..30_u64 {
            seen.note("net", &n.to_string(), n, n, 0);
        }
        assert_eq!(seen.len(), 30);
        for quarter in 1..=4 * 25 {
            seen.note("net", "again", 7, 30, quarter * HOUR / 4);
        }
        assert!(seen.recall("net", "15") != Never, "25 hours");
        for quarter in 4 * 25..=4 * 27 {
            seen.note("net", "again", 7, 30, quarter * HOUR / 4);
        }
        assert_eq!((seen.recall("net", "15"), seen.crowded_out()), (Never, 0), "27 hours");
    }

    #[test]
    fn the_key_is_read_back_from_what_is_stored() {
        assert_eq!(dedup_of_stored(br#"{"port":2,"dedup":"a\"b"}"#).as_deref(), Some("a\"b"));
        for none in [&b"{}"[..], b"", b"[]", br#"{"dedup":1}"#, b"\xff"] {
            assert_eq!(dedup_of_stored(none), None);
        }
    }
}
