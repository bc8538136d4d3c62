//! How often something happens.

use std::str::FromStr;
use std::time::{Duration, Instant};

/// What was missed for longer than this is not made up for.
const LAG_MAX: Duration = Duration::from_millis(100);

/// How often something shall happen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// So many times a second, above zero.
    PerSecond(f64),
    /// As fast as it goes.
    Max,
    /// Not at all.
    None,
}

impl Rate {
    /// The share of one of `parts` that keep this rate together.
    pub fn share(self, parts: usize) -> Self {
        match self {
            Self::PerSecond(rate) => Self::PerSecond(rate / parts.max(1) as f64),
            other => other,
        }
    }
}

/// A number, 0 for not at all, or "max".
impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<f64>() {
            _ if text == "max" => Ok(Self::Max),
            Ok(0.0) => Ok(Self::None),
            // A billion a second is more than any clock here can tell apart.
            Ok(rate) if (0.001..=1e9).contains(&rate) => Ok(Self::PerSecond(rate)),
            _ => Err("is not a number from 0.001 to 1000000000 in a second, 0, or \"max\""),
        }
    }
}

/// Keeps a [`Rate`] on average, catching up what a late wake-up missed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    rate: Rate,
    next: Instant,
}

/// When something may happen again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Now,
    At(Instant),
    Never,
}

impl Pace {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, next: now }
    }

    /// Asks for one time; `Next::Now` takes it.
    pub(super) fn take(&mut self, now: Instant) -> Next {
        match self.rate {
            Rate::None => Next::Never,
            Rate::Max => Next::Now,
            Rate::PerSecond(_) if self.next > now => Next::At(self.next),
            Rate::PerSecond(rate) => {
                let from = now.checked_sub(LAG_MAX).map_or(self.next, |oldest| self.next.max(oldest));
                self.next = from + Duration::from_secs_f64(1.0 / rate);
                Next::Now
            }
        }
    }

    /// Asks for up to `max` times at once: how many there are, and when there will be more if there are none.
    pub(super) fn take_many(&mut self, now: Instant, max: usize) -> (usize, Next) {
        for taken in 0..max {
            match self.take(now) {
                Next::Now => {}
                other => return (taken, other),
            }
        }
        (max, Next::Now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_or_max() {
        assert_eq!("250".parse(), Ok(Rate::PerSecond(250.0)));
        assert_eq!("0".parse(), Ok(Rate::None));
        assert_eq!("max".parse(), Ok(Rate::Max));
        for wrong in ["", "-1", "nan", "inf", "fast", "1e-9"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_rate_holds_on_average_over_late_wake_ups() {
        let start = Instant::now();
        let mut pace = Pace::new(Rate::PerSecond(1000.0), start);
        let mut taken = 0;
        for wake in 1..=100 {
            taken += pace.take_many(start + Duration::from_millis(10 * wake), 1000).0;
        }
        assert_eq!(taken, 1001);
    }

    #[test]
    fn a_long_pause_is_not_made_up_for() {
        let start = Instant::now();
        let mut pace = Pace::new(Rate::PerSecond(1000.0), start);
        let (taken, next) = pace.take_many(start + Duration::from_secs(60), 1_000_000);
        assert_eq!(taken, 101);
        assert!(matches!(next, Next::At(_)));
    }

    #[test]
    fn max_is_always_and_none_never() {
        let now = Instant::now();
        assert_eq!(Pace::new(Rate::Max, now).take_many(now, 7), (7, Next::Now));
        assert_eq!(Pace::new(Rate::None, now).take_many(now, 7), (0, Next::Never));
    }
}
