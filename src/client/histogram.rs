//! Durations in log-linear buckets: 64 to each power of two, so a value read back is within 1/64 of the one recorded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets of one power of two, as a power of two.
const SUB_BITS: u32 = 6;
/// Nanoseconds from here on, about 18 minutes, count as this many.
const NANOS_MAX: u64 = (1 << 40) - 1;
const BUCKETS: usize = bucket(NANOS_MAX) + 1;

/// Where many threads record durations, without allocation or lock.
pub struct Histogram {
    counts: Box<[AtomicU64]>,
    max: AtomicU64,
}

/// What a [`Histogram`] held at one moment.
#[derive(Debug, Clone)]
pub struct Distribution {
    counts: Box<[u64]>,
    max: u64,
}

/// Linear below 128 ns, then 64 buckets to each power of two.
const fn bucket(nanos: u64) -> usize {
    let top = u64::BITS - (nanos >> SUB_BITS).leading_zeros();
    let shift = top.saturating_sub(1);
    ((shift as usize) << SUB_BITS) + (nanos >> shift) as usize
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let sub = 1 << SUB_BITS;
    let shift = (bucket / sub).saturating_sub(1);
    let mantissa = (bucket - shift * sub) as u64;
    ((mantissa + 1) << shift) - 1
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), max: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Records one duration.
    pub fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(NANOS_MAX).min(NANOS_MAX);
        if let Some(count) = self.counts.get(bucket(nanos)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.max.fetch_max(nanos, Ordering::Relaxed);
    }

    /// What was recorded so far.
    pub fn distribution(&self) -> Distribution {
        Distribution {
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            max: self.max.load(Ordering::Relaxed),
        }
    }
}

impl Distribution {
    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The duration that this share (0.5: half, 1.0: all) of the recorded ones does not exceed; zero if there is
    /// none.
    pub fn percentile(&self, share: f64) -> Duration {
        let rank = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper(bucket).min(self.max));
            }
        }
        Duration::ZERO
    }

    /// The longest duration: exact over all time, within 1/64 in a difference.
    pub fn max(&self) -> Duration {
        self.percentile(1.0)
    }

    /// What was recorded after `earlier`, a former state of the same histogram.
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts);
        Self { counts: counts.map(|(now, then)| now.saturating_sub(*then)).collect(), max: self.max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_touch() {
        for bits in 0..40 {
            for nanos in [(1_u64 << bits) - 1, 1 << bits, (1 << bits) + 1, (1 << bits) * 3 / 2] {
                let index = bucket(nanos);
                assert!(upper(index) >= nanos, "{nanos}");
                assert!(index == 0 || upper(index - 1) < nanos, "{nanos}");
            }
        }
        assert!((1..BUCKETS).all(|index| bucket(upper(index - 1) + 1) == index));
    }

    #[test]
    fn percentiles_are_within_a_sixty_fourth() {
        let histogram = Histogram::default();
        for micros in 1..=10_000 {
            histogram.record(Duration::from_micros(micros));
        }
        let seen = histogram.distribution();
        assert_eq!(seen.count(), 10_000);
        for share in [0.001, 0.25, 0.5, 0.9, 0.99, 0.999] {
            let exact = 10_000.0 * share;
            let read = seen.percentile(share).as_nanos() as f64 / 1000.0;
            assert!(read >= exact && read <= exact * (1.0 + 1.0 / 64.0), "{share}: {read} for {exact}");
        }
        assert_eq!(seen.max(), Duration::from_millis(10));
    }

    #[test]
    fn empty_is_zero_and_too_long_is_the_longest() {
        let histogram = Histogram::default();
        assert_eq!(histogram.distribution().percentile(0.99), Duration::ZERO);
        assert_eq!(histogram.distribution().max(), Duration::ZERO);
        histogram.record(Duration::from_secs(1_000_000));
        assert_eq!(histogram.distribution().max(), Duration::from_nanos(NANOS_MAX));
    }

    #[test]
    fn a_difference_holds_only_what_came_after() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_secs(1));
        let before = histogram.distribution();
        histogram.record(Duration::from_nanos(100));
        let difference = histogram.distribution().since(&before);
        assert_eq!(difference.count(), 1);
        assert_eq!(difference.max(), Duration::from_nanos(100));
    }
}
