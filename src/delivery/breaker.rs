//! When to try again: growing delays with jitter, and the breaker of one destination.

use std::time::{Duration, Instant};

/// Delay after the first failure; each further one doubles it.
pub(super) const DELAY_FIRST: Duration = Duration::from_secs(1);
/// Consecutive failures that open a breaker. Early: each one may have held a thread for a whole timeout.
pub(super) const OPEN_AFTER: u32 = 3;

/// A small generator (splitmix64) for jitter: it only has to differ between concentrators.
#[derive(Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The delay after so many failures in a row: between half and all of 1 s, 2 s, 4 s … `longest`.
    pub(super) fn delay(&mut self, failures: u32, longest: Duration) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let full = DELAY_FIRST.saturating_mul(1 << doublings).min(longest);
        let half_ms = u64::try_from(full.as_millis() / 2).unwrap_or(u64::MAX);
        Duration::from_millis(half_ms + self.next() % (half_ms + 1))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// What a breaker lets through now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Everything.
    Open,
    /// One job, to find out.
    Probe,
    /// Nothing until the probe in flight has ended.
    Probing,
    /// Nothing before this instant.
    ShutUntil(Instant),
}

/// Keeps a destination that fails from holding threads: after [`OPEN_AFTER`] failures in a row only one
/// probe at a time goes there, after a growing delay.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// In a row, while it lets everything through.
    failures: u32,
    /// In a row, since it last let everything through.
    trips: u32,
    shut_until: Option<Instant>,
    probing: bool,
}

impl Breaker {
    pub(super) fn gate(&self, now: Instant) -> Gate {
        match self.shut_until {
            None => Gate::Open,
            Some(_) if self.probing => Gate::Probing,
            Some(until) if now < until => Gate::ShutUntil(until),
            Some(_) => Gate::Probe,
        }
    }

    /// Whether it keeps jobs back, probes apart.
    pub(super) fn is_tripped(&self) -> bool {
        self.shut_until.is_some()
    }

    /// A job starts; says whether it is the probe.
    pub(super) fn start(&mut self) -> bool {
        self.probing |= self.is_tripped();
        self.probing
    }

    /// The destination answered; says whether that lets the others through again.
    pub(super) fn succeed(&mut self) -> bool {
        let was_tripped = self.is_tripped();
        *self = Self::default();
        was_tripped
    }

    /// The destination failed. `asked_for` is how long it asked to be left alone.
    pub(super) fn fail(
        &mut self,
        was_probe: bool,
        asked_for: Option<Duration>,
        longest: Duration,
        jitter: &mut Jitter,
        now: Instant,
    ) {
        // A job that started before the breaker tripped says nothing new; a probe that another's success
        // has overtaken is a failure like any other.
        let probe_failed = was_probe && self.probing;
        if self.is_tripped() && !probe_failed {
            return;
        }
        self.probing = false;
        self.failures = self.failures.saturating_add(1);
        if probe_failed || asked_for.is_some() || self.failures >= OPEN_AFTER {
            self.trips = self.trips.saturating_add(1);
            let delay = jitter.delay(self.trips, longest).max(asked_for.unwrap_or_default());
            self.shut_until = Some(now + delay);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_vary_by_half() {
        let mut jitter = Jitter::new(7);
        for (failures, full) in [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (40, 30), (u32::MAX, 30)] {
            let full = Duration::from_secs(full);
            let delays: Vec<_> = (0..50).map(|_| jitter.delay(failures, Duration::from_secs(30))).collect();
            assert!(delays.iter().all(|delay| *delay >= full / 2 && *delay <= full), "{delays:?}");
            assert!(delays.iter().any(|delay| *delay != delays[0]), "no jitter after {failures}");
        }
    }

    #[test]
    fn a_breaker_trips_probes_once_and_recovers() {
        let (mut breaker, mut jitter, start) = (Breaker::default(), Jitter::new(1), Instant::now());
        let longest = Duration::from_secs(30);
        for _ in 0..OPEN_AFTER {
            assert_eq!(breaker.gate(start), Gate::Open);
            assert!(!breaker.start());
            breaker.fail(false, None, longest, &mut jitter, start);
        }
        let Gate::ShutUntil(until) = breaker.gate(start) else { panic!("still open") };
        assert_eq!(breaker.gate(until), Gate::Probe);
        assert!(breaker.start());
        assert_eq!(breaker.gate(until), Gate::Probing);
        breaker.fail(true, None, longest, &mut jitter, until);
        assert!(matches!(breaker.gate(until), Gate::ShutUntil(later) if later > until));
        assert!(breaker.succeed());
        assert_eq!(breaker.gate(until), Gate::Open);
    }

    #[test]
    fn one_that_asks_to_be_left_alone_trips_at_once() {
        let (mut breaker, mut jitter, now) = (Breaker::default(), Jitter::new(1), Instant::now());
        let asked = Duration::from_secs(600);
        breaker.fail(false, Some(asked), Duration::from_secs(30), &mut jitter, now);
        assert_eq!(breaker.gate(now), Gate::ShutUntil(now + asked));
    }
}
