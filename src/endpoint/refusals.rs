//! Refusals, counted by cause and told in the log, at most one line a cause and ten seconds.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::logfmt::Quoted;

/// Between two log lines of one cause.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The causes that one listener knows: an enum whose variants count from 0.
pub trait Cause: Copy + Send + Sync + 'static {
    /// Every cause with its name as status, metrics and the log give it, in the order of the variants.
    const NAMES: &'static [&'static str];
    /// The variant's number.
    fn index(self) -> usize;
}

/// Counters of one listener.
#[derive(Debug)]
pub struct Refusals<C> {
    listener: &'static str,
    slots: Box<[Slot]>,
    causes: std::marker::PhantomData<C>,
}

#[derive(Debug, Default)]
struct Slot {
    count: AtomicU64,
    /// When the last line was written, and the count it told.
    told: Mutex<Option<(Instant, u64)>>,
}

impl<C: Cause> Refusals<C> {
    /// Counters at zero.
    pub fn new(listener: &'static str) -> Self {
        let slots = C::NAMES.iter().map(|_| Slot::default()).collect();
        Self { listener, slots, causes: std::marker::PhantomData }
    }

    /// Counts one refusal; writes a log line unless this cause had one shortly before.
    pub fn note(&self, cause: C, peer: &dyn fmt::Display, detail: &dyn fmt::Display) {
        let Some((slot, name)) = self.slots.get(cause.index()).zip(C::NAMES.get(cause.index())) else {
            return;
        };
        let count = slot.count.fetch_add(1, Ordering::Relaxed) + 1;
        // Whoever finds the slot busy knows that a line is being written.
        let Ok(mut told) = slot.told.try_lock() else {
            return;
        };
        let now = Instant::now();
        let since = match *told {
            Some((at, _)) if now.saturating_duration_since(at) < LOG_INTERVAL => return,
            Some((_, before)) => count - before,
            None => count,
        };
        *told = Some((now, count));
        drop(told);
        let listener = self.listener;
        log::warn!(
            "event=refused listener={listener} cause={name} peer={peer} count={since} detail={}",
            Quoted(detail)
        );
    }

    /// Counts one refusal without a word.
    pub fn count(&self, cause: C) {
        if let Some(slot) = self.slots.get(cause.index()) {
            slot.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds what was counted, as "listener.cause".
    pub fn add_to(&self, all: &mut BTreeMap<String, u64>) {
        for (slot, name) in self.slots.iter().zip(C::NAMES) {
            all.insert(format!("{}.{name}", self.listener), slot.count.load(Ordering::Relaxed));
        }
    }

    /// How often this cause was met.
    pub fn get(&self, cause: C) -> u64 {
        self.slots.get(cause.index()).map_or(0, |slot| slot.count.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Colour {
        Red,
        Blue,
    }

    impl Cause for Colour {
        const NAMES: &'static [&'static str] = &["red", "blue"];
        fn index(self) -> usize {
            self as usize
        }
    }

    #[test]
    fn each_cause_has_its_own_count_under_the_listener_s_name() {
        let refusals = Refusals::new("door");
        refusals.note(Colour::Blue, &"192.0.2.1", &"no");
        refusals.note(Colour::Blue, &"192.0.2.1", &"no");
        refusals.count(Colour::Red);
        let mut all = BTreeMap::new();
        refusals.add_to(&mut all);
        assert_eq!(all, BTreeMap::from([("door.red".to_owned(), 1), ("door.blue".to_owned(), 2)]));
        assert_eq!(refusals.get(Colour::Blue), 2);
    }
}
