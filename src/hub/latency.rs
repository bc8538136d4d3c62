//! How long things take: durations counted in buckets of powers of two, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::keeping::Log;
use super::status::{Bucket, Latencies, Latency};
use crate::delivery::central::Taken;

/// The first bucket reaches to 2^-13 s, about 122 µs.
const FIRST_POWER: i32 = -13;
/// The last one that is bounded reaches to 2^12 s, a little more than an hour. One second is a bound.
const LAST_POWER: i32 = 12;
const BOUNDS: usize = (LAST_POWER - FIRST_POWER + 1) as usize;
const NANOS: u64 = 1_000_000_000;

/// Where many threads count durations.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Durations of each bucket; the last one has no upper bound.
    counts: [AtomicU64; BOUNDS + 1],
    sum_nanos: AtomicU64,
}

/// What the hub measures.
#[derive(Debug, Default)]
pub struct Meters {
    /// From the moment a request is taken, of the central or of an object, to its answer by who was asked.
    pub calls: Histogram,
    /// From the moment a datagram is taken to its acknowledgement by the central.
    pub telemetry: Histogram,
}

impl Meters {
    /// Messages arrived that were taken then. How long ago another boot of the machine was, nobody knows.
    pub(super) fn arrived(&self, taken: Vec<Taken>, log: &mut Log) {
        if taken.is_empty() {
            return;
        }
        let (now, boot) = (log.stamp().mono_us, log.front.boot());
        for taken in taken.into_iter().filter(|taken| taken.boot == boot) {
            self.telemetry.record(Duration::from_micros(now.saturating_sub(taken.mono_us)));
        }
    }

    /// What was measured since the start.
    pub fn read(&self) -> Latencies {
        Latencies { calls: self.calls.read(), telemetry: self.telemetry.read() }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get(bucket(nanos)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was counted since the start. The sum may be a duration ahead of the counts, never the counts of each other.
    pub fn read(&self) -> Latency {
        let mut total = 0;
        let mut buckets: Vec<Bucket> = Vec::with_capacity(BOUNDS);
        for (power, count) in (FIRST_POWER..=LAST_POWER).zip(&self.counts) {
            total += count.load(Ordering::Relaxed);
            buckets.push(Bucket { le: f64::from(power).exp2(), count: total });
        }
        total += self.counts.last().map_or(0, |count| count.load(Ordering::Relaxed));
        let sum_seconds = self.sum_nanos.load(Ordering::Relaxed) as f64 / NANOS as f64;
        let share = |share| percentile(&buckets, total, share);
        Latency { count: total, sum_seconds, p50_seconds: share(0.5), p99_seconds: share(0.99), buckets }
    }
}

/// The bucket of a duration: the first whose bound it does not exceed.
fn bucket(nanos: u64) -> usize {
    let bound = |power: i32| {
        let shift = power.unsigned_abs();
        if power < 0 { NANOS >> shift } else { NANOS << shift }
    };
    (FIRST_POWER..=LAST_POWER).take_while(|power| nanos > bound(*power)).count()
}

/// The duration that this share does not exceed, as if durations lay evenly in their bucket. What lies behind the last
/// bound counts as the bound.
fn percentile(buckets: &[Bucket], total: u64, share: f64) -> Option<f64> {
    if total == 0 {
        return None;
    }
    let rank = total as f64 * share;
    let (mut lower, mut below) = (0.0, 0);
    for bucket in buckets {
        if bucket.count as f64 >= rank && bucket.count > below {
            let inside = (rank - below as f64) / (bucket.count - below) as f64;
            return Some(lower + (bucket.le - lower) * inside);
        }
        (lower, below) = (bucket.le, bucket.count);
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(durations: &[Duration]) -> Latency {
        let histogram = Histogram::default();
        durations.iter().for_each(|duration| histogram.record(*duration));
        histogram.read()
    }

    /// The bound of the bucket that took a single duration.
    fn bound_of(duration: Duration) -> Option<f64> {
        read(&[duration]).buckets.iter().find(|bucket| bucket.count == 1).map(|bucket| bucket.le)
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        assert_eq!(bound_of(Duration::ZERO), Some(2_f64.powi(-13)));
        assert_eq!(bound_of(Duration::from_secs(1)), Some(1.0));
        assert_eq!(bound_of(Duration::from_nanos(NANOS + 1)), Some(2.0));
        assert_eq!(bound_of(Duration::from_secs(4096)), Some(4096.0));
        assert_eq!(bound_of(Duration::from_secs(4097)), None);
        assert_eq!(bound_of(Duration::MAX), None, "counted, behind every bound");
    }

    #[test]
    fn buckets_add_up_to_the_count_and_hold_the_sum() {
        let latency =
            read(&[Duration::from_millis(3), Duration::from_millis(300), Duration::from_secs(9_000)]);
        assert_eq!(latency.count, 3);
        assert!((latency.sum_seconds - 9_000.303).abs() < 1e-6);
        assert!(latency.buckets.is_sorted_by(|a, b| a.le < b.le && a.count <= b.count));
        assert_eq!((latency.buckets.len(), latency.buckets[BOUNDS - 1].count), (BOUNDS, 2));
    }

    #[test]
    fn percentiles_lie_in_the_bucket_of_what_they_name() {
        let mut durations = vec![Duration::from_millis(3); 98];
        durations.extend([Duration::from_millis(300); 2]);
        let latency = read(&durations);
        let (p50, p99) = (latency.p50_seconds.unwrap(), latency.p99_seconds.unwrap());
        assert!((0.001_953_125..=0.003_906_25).contains(&p50), "{p50}");
        assert!((0.25..=0.5).contains(&p99), "{p99}");
        let none = read(&[]);
        assert_eq!((none.p50_seconds, none.p99_seconds), (None, None));
        assert_eq!(read(&[Duration::MAX]).p99_seconds, Some(4096.0));
    }
}
