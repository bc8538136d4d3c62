//! Which messages of partner networks came before: what tells a network's second try from a new message.
//!
//! A key is a source and a [`super::Mapped::dedup`]. Keys are kept as 64 bits of a keyed hash, with what the first message is
//! called by whoever asks, in generations: the newest is a map, those before are sorted arrays, and a generation goes as
//! a whole when its newest key is older than the window. Age is measured by the keys' times, but between two of them at
//! most an hour passes: a clock that is set from 1970 to today forgets nothing. That two keys have the same 64 bits is as likely as one in
//! 10^13 for each message at the most keys that there can be; nobody can make it happen, since the hash is keyed.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use super::fields::Fields;

/// Networks have given up trying after so long: no key is forgotten earlier, unless there are too many.
pub const SEEN_US: i64 = 24 * 3_600 * 1_000_000;
/// Keys that are kept: 24 hours at 11 messages a second, and at most 24 MB. With more the window gets shorter.
pub const SEEN_MAX: usize = 1_000_000;
/// Keys of a generation, and how long it takes new ones.
const GENERATION_MAX: usize = 50_000;
const GENERATION_US: i64 = 3_600 * 1_000_000;
const _: () = assert!(SEEN_MAX.is_multiple_of(GENERATION_MAX));

/// The keys of the newest messages, each with what stands for the message.
#[derive(Debug)]
pub struct Seen<T> {
    hasher: RandomState,
    newest: HashMap<u64, T>,
    newest_since_us: i64,
    /// The time that passed so far, as it is counted here, and the last key's time.
    passed_us: i64,
    last_us: Option<i64>,
    older: VecDeque<Generation<T>>,
    /// Keys that went for want of room, and when the last of them came, by the time as it is counted here.
    crowded_out: u64,
    crowded_us: Option<i64>,
    max: usize,
    generation_max: usize,
}

#[derive(Debug)]
struct Generation<T> {
    /// Sorted by their hashes.
    keys: Box<[(u64, T)]>,
    until_us: i64,
}

impl<T: Copy> Default for Seen<T> {
    fn default() -> Self {
        Self::with_bounds(SEEN_MAX, GENERATION_MAX)
    }
}

impl<T: Copy> Seen<T> {
    fn with_bounds(max: usize, generation_max: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            newest: HashMap::new(),
            newest_since_us: 0,
            passed_us: 0,
            last_us: None,
            older: VecDeque::new(),
            crowded_out: 0,
            crowded_us: None,
            max,
            generation_max,
        }
    }

    /// The message that came first with this key.
    pub fn find(&self, source: &str, dedup: &str) -> Option<T> {
        let hash = self.hasher.hash_one((source, dedup));
        let in_generation = |generation: &Generation<T>| {
            let at = generation.keys.binary_search_by_key(&hash, |(hash, _)| *hash).ok()?;
            generation.keys.get(at).map(|(_, first)| *first)
        };
        let newest = self.newest.get(&hash).copied();
        newest.or_else(|| self.older.iter().rev().find_map(in_generation))
    }

    /// Remembers the first message of a key, and forgets what is older than [`SEEN_US`]. Times are microseconds since 1970
    /// as the machine believes.
    pub fn note(&mut self, source: &str, dedup: &str, first: T, now_us: i64) {
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
        self.newest.insert(self.hasher.hash_one((source, dedup)), first);
        while self.len() > self.max
            && let Some(gone) = self.older.pop_front()
        {
            self.crowded_out += gone.keys.len() as u64;
            self.crowded_us = Some(gone.until_us);
        }
    }

    /// How many keys went before their time for want of room.
    pub fn crowded_out(&self) -> u64 {
        self.crowded_out
    }

    /// Keys are known for so long, in microseconds.
    pub fn window_us(&self) -> i64 {
        self.crowded_us.map_or(SEEN_US, |gone| (self.passed_us - gone).min(SEEN_US))
    }

    /// How many keys are kept.
    pub fn len(&self) -> usize {
        self.newest.len() + self.older.iter().map(|generation| generation.keys.len()).sum::<usize>()
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn seal(&mut self) {
        let mut keys: Box<[_]> = std::mem::take(&mut self.newest).into_iter().collect();
        keys.sort_unstable_by_key(|(hash, _)| *hash);
        self.older.push_back(Generation { keys, until_us: self.passed_us });
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
    use super::*;

    const HOUR: i64 = 3_600 * 1_000_000;

    #[test]
    fn the_first_is_found_for_24_hours() {
        let mut seen = Seen::default();
        seen.note("net", "a", 1_u64, 0);
        assert_eq!(seen.find("net", "a"), Some(1));
        assert_eq!(seen.find("other", "a"), None);
        assert_eq!(seen.find("ne", "ta"), None);
        for quarter in 1..=4 * 24 {
            seen.note("net", &format!("q{quarter}"), 100, quarter * HOUR / 4);
            assert_eq!(seen.find("net", "a"), Some(1), "quarter {quarter}");
        }
        for quarter in 4 * 24..=4 * 27 {
            seen.note("net", &format!("q{quarter}"), 100, quarter * HOUR / 4);
        }
        assert_eq!(seen.find("net", "a"), None, "27 hours");
        assert_eq!(seen.find("net", "q20"), Some(100));
    }

    #[test]
    fn a_clock_that_is_set_forgets_nothing() {
        let mut seen = Seen::default();
        let today = 500_000 * HOUR;
        seen.note("net", "before the restart", 1_u64, today);
        seen.note("net", "unsynced", 2, 0);
        seen.note("net", "set", 3, today);
        for quarter in 1..=4 * 23 {
            seen.note("net", &quarter.to_string(), 9, today + quarter * HOUR / 4);
        }
        for (key, first) in [("before the restart", 1), ("unsynced", 2), ("set", 3)] {
            assert_eq!(seen.find("net", key), Some(first), "{key}");
        }
        assert!(seen.older.len() < 30);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let mut seen = Seen::with_bounds(100, 10);
        for n in 0..100_u64 {
            seen.note("net", &n.to_string(), n, 0);
        }
        assert!((0..100).all(|n| seen.find("net", &n.to_string()) == Some(n)), "as many as there may be");
        assert_eq!((seen.crowded_out(), seen.window_us()), (0, SEEN_US));
        seen.note("net", "more", 7, HOUR / 4);
        assert_eq!(seen.len(), 91);
        assert_eq!((seen.crowded_out(), seen.window_us()), (10, HOUR / 4), "and it is told");
        assert_eq!(seen.find("net", "9"), None);
        assert!((10..100).all(|n| seen.find("net", &n.to_string()) == Some(n)));
    }

    #[test]
    fn the_key_is_read_back_from_what_is_stored() {
        assert_eq!(dedup_of_stored(br#"{"port":2,"dedup":"a\"b"}"#).as_deref(), Some("a\"b"));
        for none in [&b"{}"[..], b"", b"[]", br#"{"dedup":1}"#, b"\xff"] {
            assert_eq!(dedup_of_stored(none), None);
        }
    }
}
