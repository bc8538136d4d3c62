//! Whether the loops that everything depends on still turn: each of them beats, whatever else happens, and somebody
//! counts ([`Judge`]). What stopped cannot say so itself.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_io::Timer;
use smol::future::FutureExt as _;

/// How often a loop beats, even if it has nothing to do.
pub const BEAT: Duration = Duration::from_secs(1);
/// A loop that did not beat for this long has stopped. A medium that takes ten seconds for one flush has not.
pub const STOPPED_AFTER: Duration = Duration::from_secs(14);

/// What has to turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loop {
    /// The thread that commits.
    Journal,
    /// The router, behind the one lock.
    Router,
    /// What accepts sessions.
    Sessions,
    /// What receives datagrams.
    Telemetry,
    /// What accepts callers of the API.
    Api,
    /// What looks at files and times.
    Timers,
}

/// All of them.
pub const LOOPS: [Loop; 6] =
    [Loop::Journal, Loop::Router, Loop::Sessions, Loop::Telemetry, Loop::Api, Loop::Timers];

impl Loop {
    /// As logs call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Router => "router",
            Self::Sessions => "sessions",
            Self::Telemetry => "telemetry",
            Self::Api => "api",
            Self::Timers => "timers",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The beats of all loops.
#[derive(Debug, Default)]
pub struct Heartbeats {
    beats: [AtomicU64; LOOPS.len()],
    stopped: AtomicU8,
}

impl Heartbeats {
    /// This loop turned.
    pub fn beat(&self, of: Loop) {
        if let Some(beats) = self.beats.get(of as usize) {
            beats.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Beats for a loop as long as its task is given its turns.
    pub async fn during<T>(&self, of: Loop, task: impl Future<Output = T>) -> T {
        let beating = async {
            loop {
                self.beat(of);
                Timer::after(BEAT).await;
            }
        };
        task.or(beating).await
    }

    /// What stopped, as it was judged last.
    pub fn stopped(&self) -> Stopped {
        Stopped(self.stopped.load(Ordering::Relaxed))
    }

    fn counts(&self) -> [u64; LOOPS.len()] {
        self.beats.each_ref().map(|beats| beats.load(Ordering::Relaxed))
    }
}

/// A set of loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stopped(u8);

impl Stopped {
    /// Whether all turn.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this one is in it.
    pub fn contains(self, of: Loop) -> bool {
        self.0 & of.bit() != 0
    }
}

/// Their names, with commas.
impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stopped = LOOPS.iter().filter(|of| self.contains(**of));
        for (place, of) in stopped.enumerate() {
            f.write_str(if place == 0 { "" } else { "," })?;
            f.write_str(of.name())?;
        }
        Ok(())
    }
}

/// Looks at the beats from time to time.
#[derive(Debug)]
pub struct Judge {
    seen: [(u64, Instant); LOOPS.len()],
    looked: Instant,
}

impl Judge {
    /// All turn for now.
    pub fn new(now: Instant) -> Self {
        Self { seen: [(0, now); LOOPS.len()], looked: now }
    }

    /// Which loops did not beat for too long. If whoever looks was kept from looking, everybody was: that time does not
    /// count.
    pub fn look(&mut self, beats: &Heartbeats, now: Instant) -> Stopped {
        let since_look = now.saturating_duration_since(self.looked);
        let lost = since_look.saturating_sub(STOPPED_AFTER / 2);
        self.looked = now;
        let mut stopped = Stopped::default();
        for ((of, seen), count) in LOOPS.iter().zip(&mut self.seen).zip(beats.counts()) {
            if seen.0 != count {
                *seen = (count, now);
                continue;
            }
            seen.1 += lost;
            if now.saturating_duration_since(seen.1) >= STOPPED_AFTER {
                stopped.0 |= of.bit();
            }
        }
        beats.stopped.store(stopped.0, Ordering::Relaxed);
        stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_but(beats: &Heartbeats, without: Option<Loop>) {
        LOOPS.iter().filter(|of| Some(**of) != without).for_each(|of| beats.beat(*of));
    }

    #[test]
    fn each_loop_that_stops_is_noticed_in_time_and_named() {
        for dead in LOOPS {
            let (beats, start) = (Heartbeats::default(), Instant::now());
            let mut judge = Judge::new(start);
            for second in 0..60 {
                let now = start + BEAT * second;
                all_but(&beats, (second >= 20).then_some(dead));
                let stopped = judge.look(&beats, now);
                // The last beat was at 19 s.
                let expected = second >= 19 + 14;
                assert_eq!(stopped.contains(dead), expected, "{dead:?} at {second} s");
                assert_eq!(stopped.to_string(), if expected { dead.name() } else { "" });
            }
            all_but(&beats, None);
            assert!(judge.look(&beats, start + BEAT * 60).is_empty(), "it turns again");
        }
    }

    #[test]
    fn several_are_named_together() {
        let (beats, start) = (Heartbeats::default(), Instant::now());
        let mut judge = Judge::new(start);
        for second in 1..=14 {
            beats.beat(Loop::Router);
            judge.look(&beats, start + BEAT * second);
        }
        assert_eq!(beats.stopped().to_string(), "journal,sessions,telemetry,api,timers");
    }

    #[test]
    fn a_machine_that_slept_has_stopped_nothing() {
        let (beats, start) = (Heartbeats::default(), Instant::now());
        let mut judge = Judge::new(start);
        all_but(&beats, None);
        assert!(judge.look(&beats, start + BEAT).is_empty());
        assert!(judge.look(&beats, start + BEAT * 3600).is_empty());
    }

    #[test]
    fn a_task_beats_while_it_has_its_turns_and_ends_as_it_would() {
        let beats = Heartbeats::default();
        let task = async {
            Timer::after(Duration::from_millis(1)).await;
            7
        };
        assert_eq!(smol::block_on(beats.during(Loop::Api, task)), 7);
        assert_eq!(beats.counts()[Loop::Api as usize], 1);
    }
}
