//! Whether those who come are a crowd that gets in faster if it is let in slowly.
//!
//! After a power cut thousands come back at once. Let in all at once, each makes room for the next before it is through with its
//! handshake, comes again at once, and hardly anybody ever gets in. So while many of those who are on their way to their
//! login speak, the others wait with the system. Connections that come to nothing must not make anybody wait: this goes on
//! only as long as at least half of those who are let in log in, and is not tried again for a while if they do not.

use std::time::{Duration, Instant};

/// So many who speak at a time are a crowd.
pub const MANY: usize = 128;
/// Who was heard of within this time speaks.
pub const SPOKE_WITHIN: Duration = Duration::from_secs(1);
/// After this time it is seen who logged in.
const TRIAL: Duration = Duration::from_secs(2);
/// A crowd that was longer ago was another one.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(4);
/// So long nobody waits once it was of no use.
const REST: Duration = Duration::from_secs(300);

/// What became of those who were let in.
#[derive(Debug, Default)]
pub struct Crowd {
    trial: Option<Trial>,
    rests_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    begun: Instant,
    entered: u64,
    logged_in: u64,
}

impl Crowd {
    /// There is a crowd now, and so many entered and logged in until now. Whether the others are to wait.
    pub fn is_to_wait(&mut self, entered: u64, logged_in: u64, now: Instant) -> bool {
        if self.rests_until.is_some_and(|until| now < until) {
            return false;
        }
        let fresh = Trial { begun: now, entered, logged_in };
        let trial = self.trial.get_or_insert(fresh);
        let age = now.saturating_duration_since(trial.begun);
        if age >= FORGOTTEN_AFTER {
            *trial = fresh;
        } else if age >= TRIAL {
            let (let_in, got_in) = (entered - trial.entered, logged_in - trial.logged_in);
            self.trial = None;
            if got_in.saturating_mul(2) < let_in {
                self.rests_until = Some(now + REST);
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_logs_in_waits_for_as_long_as_it_is_one() {
        let (mut crowd, start) = (Crowd::default(), Instant::now());
        for step in 0..1_000_u32 {
            // Of those who are let in half log in, the others later.
            let (entered, logged_in) = (1_000 + u64::from(step) * 2, u64::from(step));
            assert!(
                crowd.is_to_wait(entered, logged_in, start + step * Duration::from_millis(100)),
                "{step}"
            );
        }
    }

    #[test]
    fn nobody_waits_for_a_flood_but_for_a_moment() {
        let (mut crowd, start) = (Crowd::default(), Instant::now());
        assert!(crowd.is_to_wait(0, 0, start));
        assert!(crowd.is_to_wait(1_000, 499, start + TRIAL - Duration::from_millis(1)));
        assert!(!crowd.is_to_wait(1_000, 499, start + TRIAL));
        let rested = start + TRIAL + REST;
        assert!(!crowd.is_to_wait(9_000, 8_000, rested - Duration::from_millis(1)));
        assert!(crowd.is_to_wait(9_000, 8_000, rested));
    }

    /// What came between two crowds says nothing of the second one.
    #[test]
    fn a_crowd_of_long_ago_is_forgotten() {
        let (mut crowd, start) = (Crowd::default(), Instant::now());
        assert!(crowd.is_to_wait(0, 0, start));
        let later = start + FORGOTTEN_AFTER;
        assert!(crowd.is_to_wait(1_000, 0, later), "a new one");
        assert!(crowd.is_to_wait(1_100, 50, later + TRIAL));
    }
}
