//! How many messages a source may still send.

/// A source that was quiet may send this much of its rate at once.
const BURST_US: u64 = 1_000_000;

/// The allowance of one source (generic cell rate algorithm): the moment up to which it is used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance(u64);

impl Allowance {
    /// Uses so many messages of a rate in messages a second; `false`: too many, and nothing is used. A batch is taken whole
    /// if anything is left, and delays what follows. `now_us` is in microseconds of a clock that never goes backwards.
    pub fn take(&mut self, messages: usize, rate: u32, now_us: u64) -> bool {
        let start = self.0.max(now_us);
        if start - now_us >= BURST_US {
            return false;
        }
        let messages = u64::try_from(messages).unwrap_or(u64::MAX);
        let cost = messages.saturating_mul(1_000_000).div_ceil(u64::from(rate.max(1)));
        self.0 = start.saturating_add(cost);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_the_rate_at_once_and_then_the_rate() {
        let mut allowance = Allowance::default();
        let now = 5_000_000;
        assert!((0..10).all(|_| allowance.take(1, 10, now)));
        assert!(!allowance.take(1, 10, now));
        assert!(!allowance.take(1, 10, now));
        assert!(allowance.take(1, 10, now + 1));
        assert!(!allowance.take(1, 10, now + 100_000));
        assert!(allowance.take(1, 10, now + 100_001));
    }

    #[test]
    fn a_batch_is_taken_whole_and_paid_for_later() {
        let mut allowance = Allowance::default();
        assert!(allowance.take(3_000, 100, 0));
        assert!(!allowance.take(1, 100, 29_000_000));
        assert!(allowance.take(1, 100, 29_000_001));
        assert!(allowance.take(usize::MAX, u32::MAX, u64::MAX));
    }
}
