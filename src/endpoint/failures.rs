//! The price of failed logins. Successful ones have none.
//!
//! Past [`FREE_FAILURES`] without a pause of [`FAILURE_MEMORY`], the *refusal* of a source is told later and later,
//! up to [`REFUSAL_DELAY_MAX`]. Nobody is locked out, so one misconfigured device behind a site's NAT cannot keep the
//! others out, and no address needs an exemption. A guesser is held to (places of one source) / (longest delay)
//! tries a second, and what waits for its refusal is the first to be pushed out.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Failed logins of one source that are refused without delay.
pub const FREE_FAILURES: u32 = 20;
/// By so much each further failure delays its refusal more than the one before.
pub const REFUSAL_DELAY_STEP: Duration = Duration::from_millis(5);
/// The longest delay of a refusal.
pub const REFUSAL_DELAY_MAX: Duration = Duration::from_millis(250);
/// So long after its last failure a source starts afresh.
pub const FAILURE_MEMORY: Duration = Duration::from_secs(60);
/// Sources whose failures are remembered; the one whose last failure is oldest makes room.
pub const FAILING_SOURCES: usize = 1024;

/// Failures by source, in bounded memory.
#[derive(Debug)]
pub struct Failures<S> {
    sources: HashMap<S, Recent>,
    by_age: BTreeSet<(Instant, S)>,
}

#[derive(Debug, Clone, Copy)]
struct Recent {
    count: u32,
    last: Instant,
}

impl<S> Default for Failures<S> {
    fn default() -> Self {
        Self { sources: HashMap::new(), by_age: BTreeSet::new() }
    }
}

impl<S: Copy + Eq + Hash + Ord> Failures<S> {
    /// Notes a failure and says how long to wait before telling the refusal.
    pub fn add(&mut self, source: S, now: Instant) -> Duration {
        let before = self.forget(source);
        let recent = before.filter(|(_, last)| now.saturating_duration_since(*last) < FAILURE_MEMORY);
        let count = recent.map_or(0, |(count, _)| count).saturating_add(1);
        if self.sources.len() >= FAILING_SOURCES
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.sources.remove(&oldest);
        }
        self.sources.insert(source, Recent { count, last: now });
        self.by_age.insert((now, source));
        REFUSAL_DELAY_STEP.saturating_mul(count.saturating_sub(FREE_FAILURES)).min(REFUSAL_DELAY_MAX)
    }

    /// Forgets a source; how many failures it had, and when the last was.
    pub fn forget(&mut self, source: S) -> Option<(u32, Instant)> {
        let Recent { count, last } = self.sources.remove(&source)?;
        self.by_age.remove(&(last, source));
        Some((count, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_come_later_and_later_up_to_a_bound_and_success_clears() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        for _ in 0..FREE_FAILURES {
            assert_eq!(failures.add("a", start), Duration::ZERO);
        }
        assert_eq!(failures.add("a", start), REFUSAL_DELAY_STEP);
        assert_eq!(failures.add("a", start), REFUSAL_DELAY_STEP * 2);
        assert_eq!(failures.add("b", start), Duration::ZERO, "another source");
        let longest = (0..1000).map(|_| failures.add("a", start)).max();
        assert_eq!(longest, Some(REFUSAL_DELAY_MAX));
        failures.forget("a");
        assert_eq!(failures.add("a", start), Duration::ZERO);
    }

    #[test]
    fn failures_are_forgotten_after_a_quiet_minute_but_not_before() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        for _ in 0..=FREE_FAILURES {
            failures.add("a", start);
        }
        let edge = start + FAILURE_MEMORY;
        assert_eq!(failures.add("a", edge - Duration::from_nanos(1)), REFUSAL_DELAY_STEP * 2);
        assert_eq!(failures.add("a", edge + FAILURE_MEMORY), Duration::ZERO);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        for source in 0..=FAILING_SOURCES {
            for _ in 0..FREE_FAILURES {
                failures.add(source, start + Duration::from_millis(source as u64));
            }
        }
        let later = start + Duration::from_secs(10);
        assert!(failures.add(FAILING_SOURCES, later) > Duration::ZERO);
        assert_eq!(failures.add(0, later), Duration::ZERO, "it made room");
        assert!(failures.sources.len() <= FAILING_SOURCES);
        assert_eq!(failures.sources.len(), failures.by_age.len());
    }
}
