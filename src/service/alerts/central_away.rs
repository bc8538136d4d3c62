//! Whether the central, which had a session, is away for long. Of webhooks that fail there are alerts of their own.

use std::time::{Duration, Instant};

use crate::delivery::central;
use crate::hub::status::Destination;

/// So long a central may be away: it may be restarted, or updated.
const AWAY_MAX: Duration = Duration::from_secs(300);
/// What is told then.
const SENTENCE: &str =
    "the central's session is away for five minutes: look at the network to it, and at the central";

/// When the central was there last; `None`: not since the start.
#[derive(Debug, Default)]
pub struct CentralAway(Option<Instant>);

impl CentralAway {
    /// Looks at where messages go, to be called every second. What is wrong, if anything.
    pub fn look(&mut self, destinations: &[Destination], now: Instant) -> Option<&'static str> {
        let central = destinations.iter().find(|destination| destination.name == central::NAME)?;
        if central.via != "none" {
            // A webhook that takes over is a way, too.
            self.0 = Some(now);
        }
        let is_away = self.0.is_some_and(|there| now.saturating_duration_since(there) >= AWAY_MAX);
        is_away.then_some(SENTENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_was_there_and_is_away_for_long_is_told_until_it_is_back() {
        let (mut away, start) = (CentralAway::default(), Instant::now());
        let mut look = |via, seconds| {
            let central = Destination { name: central::NAME.to_owned(), via, ..Destination::default() };
            away.look(&[central], start + Duration::from_secs(seconds)).is_some()
        };
        assert!(!look("none", 1000), "it never was there: perhaps it only calls");
        assert!(!look("session", 1001));
        assert!(!look("none", 1001 + AWAY_MAX.as_secs() - 1));
        assert!(look("none", 1001 + AWAY_MAX.as_secs()));
        assert!(!look("session", 2000));
        assert!(!look("none", 2001));
    }
}
