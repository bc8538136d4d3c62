//! When the journal's thread has something to do.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::hub::{Urgency, lock};

/// Progress of destinations that comes with nothing else is recorded this much later: each record of it costs a flush,
/// and losing it costs no more than sending again.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What the thread is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Something is to be committed.
    Commit,
    /// The time that it wanted to wait is over.
    Time,
    /// The program ends.
    Stop,
}

#[derive(Debug)]
struct State {
    due: Option<Instant>,
    commit_interval: Duration,
    is_stopping: bool,
}

/// Rung by whoever appended, heard by the journal's thread.
#[derive(Debug)]
pub struct Bell {
    state: Mutex<State>,
    rung: Condvar,
}

impl Bell {
    /// A bell that is heard after this time at the latest if somebody appended, at once if somebody waits.
    pub fn new(commit_interval: Duration) -> Self {
        let state = State { due: None, commit_interval, is_stopping: false };
        Self { state: Mutex::new(state), rung: Condvar::new() }
    }

    /// Changes the longest wait.
    pub fn set_commit_interval(&self, commit_interval: Duration) {
        lock(&self.state).commit_interval = commit_interval;
    }

    /// Something is to be committed.
    pub fn ring(&self, urgency: Urgency) {
        let mut state = lock(&self.state);
        let after = match urgency {
            Urgency::Progress => PROGRESS_INTERVAL,
            Urgency::Input => state.commit_interval,
            Urgency::Now => Duration::ZERO,
        };
        let due = Instant::now() + after;
        if state.due.is_none_or(|earlier| due < earlier) {
            state.due = Some(due);
            self.rung.notify_one();
        }
    }

    /// The program ends.
    pub fn stop(&self) {
        lock(&self.state).is_stopping = true;
        self.rung.notify_one();
    }

    /// Whether the program ends.
    pub fn is_stopping(&self) -> bool {
        lock(&self.state).is_stopping
    }

    /// Waits for the next thing to do, until this moment at the longest.
    pub fn wait(&self, until: Instant) -> Call {
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            if state.is_stopping {
                return Call::Stop;
            }
            if state.due.is_some_and(|due| due <= now) {
                state.due = None;
                return Call::Commit;
            }
            if until <= now {
                return Call::Time;
            }
            let next = state.due.map_or(until, |due| due.min(until));
            let waited = self.rung.wait_timeout(state, next - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_urgent_thing_counts() {
        let bell = Bell::new(Duration::from_secs(3600));
        let long = Instant::now() + Duration::from_secs(3600);
        assert_eq!(bell.wait(Instant::now()), Call::Time);
        bell.ring(Urgency::Progress);
        bell.ring(Urgency::Input);
        assert_eq!(bell.wait(Instant::now()), Call::Time);
        bell.ring(Urgency::Now);
        bell.ring(Urgency::Input);
        assert_eq!(bell.wait(long), Call::Commit);
        assert_eq!(bell.wait(Instant::now()), Call::Time, "one round for all that rang");
        bell.ring(Urgency::Progress);
        assert_eq!(bell.wait(long), Call::Commit, "in a while");
        bell.stop();
        bell.ring(Urgency::Now);
        assert_eq!(bell.wait(long), Call::Stop);
    }

    #[test]
    fn whoever_waits_hears_it() {
        let bell = Bell::new(Duration::ZERO);
        let long = Instant::now() + Duration::from_secs(3600);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| bell.wait(long));
            bell.ring(Urgency::Input);
            assert_eq!(waits.join().unwrap(), Call::Commit);
            let waits = scope.spawn(|| bell.wait(long));
            bell.stop();
            assert_eq!(waits.join().unwrap(), Call::Stop);
        });
    }
}
