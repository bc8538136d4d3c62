//! How much of the time the concentrator serves: over restarts, from what the journal keeps.
//!
//! Every few minutes, and at an orderly end, it is noted that it lives; what lies between the last note and the next start
//! is downtime, and so is every second in which nothing can be recorded. Kept is the downtime of each day of a year, so it
//! is small. While the machine does not know the time nothing is counted: it becomes known behind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Name under which the journal keeps it.
pub const KEPT: &str = "uptime";
/// Days that are looked back at.
pub const PERIODS: [i64; 2] = [30, 365];
/// Seconds between two notes.
const NOTE_SECONDS: i64 = 300;
/// The share that is promised is 99.9 %: of so many seconds one may be down.
const DOWN_SHARE: i64 = 1000;
/// It is at risk once one of so many parts of the downtime that it allows is used.
const RISK_SHARE: i64 = 2;
const DAY: i64 = 24 * 3600;
const SECOND_US: i64 = 1_000_000;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Record {
    /// It was running when this was noted.
    is_running: bool,
    /// When it was noted, and since when there are notes: seconds since 1970.
    alive: i64,
    since: i64,
    /// Seconds of downtime by days since 1970; days without are not there.
    down: BTreeMap<i64, i64>,
}

/// The account.
#[derive(Debug, Default)]
pub struct Uptime {
    record: Record,
    /// What was before this start is counted.
    is_caught_up: bool,
    noted: i64,
}

impl Uptime {
    /// Goes on with what was kept. The second part: whether the run before did not end in order.
    pub fn unpack(kept: Option<&[u8]>) -> (Self, bool) {
        let record: Record = kept.and_then(|kept| postcard::from_bytes(kept).ok()).unwrap_or_default();
        let was_running = record.is_running;
        (Self { record, is_caught_up: false, noted: 0 }, was_running)
    }

    /// A moment passed, to be said every second: by a clock that is right, `running_us` after the start. `serves`: whether
    /// all is taken. Gives what is to be kept, if it is time for that.
    pub fn tick(&mut self, now_us: i64, running_us: i64, serves: bool) -> Option<Vec<u8>> {
        let now = now_us.div_euclid(SECOND_US);
        if !self.is_caught_up {
            self.is_caught_up = true;
            let start = now_us.saturating_sub(running_us).div_euclid(SECOND_US);
            if self.record.since == 0 {
                self.record.since = start;
            } else {
                self.add(self.record.alive, start);
            }
            self.record.alive = start.max(self.record.alive);
        }
        if !serves {
            self.add(self.record.alive, now);
        }
        self.record.alive = self.record.alive.max(now);
        if now.saturating_sub(self.noted) < NOTE_SECONDS {
            return None;
        }
        self.noted = now;
        Some(self.pack())
    }

    /// It begins; what is to be kept, whatever the clock is worth.
    pub fn begin(&mut self) -> Vec<u8> {
        self.record.is_running = true;
        self.pack()
    }

    /// It ends in order; what is to be kept.
    pub fn end(&mut self) -> Vec<u8> {
        self.record.is_running = false;
        self.pack()
    }

    /// The share of the last so many days in which it served, as far as there are notes; `None` without any.
    pub fn share(&self, days: i64) -> Option<f64> {
        let from = self.record.since.max(self.record.alive.saturating_sub(days * DAY));
        let whole = self.record.alive.saturating_sub(from);
        (self.is_caught_up && whole > 0).then(|| 1.0 - self.down(days).min(whole) as f64 / whole as f64)
    }

    /// Seconds of downtime in the last so many days, and how many 99.9 % allow, if so many are used that it is at risk.
    pub fn risk(&self, days: i64) -> Option<(i64, i64)> {
        let (down, allowed) = (self.down(days), days * DAY / DOWN_SHARE);
        (down * RISK_SHARE >= allowed).then_some((down, allowed))
    }

    fn down(&self, days: i64) -> i64 {
        let first = self.record.alive.div_euclid(DAY) - days + 1;
        self.record.down.range(first..).map(|(_, seconds)| seconds).sum()
    }

    /// Counts downtime, by days.
    fn add(&mut self, from: i64, to: i64) {
        let oldest = to.div_euclid(DAY) - PERIODS.iter().max().copied().unwrap_or_default();
        let mut at = from.max(oldest * DAY);
        while at < to {
            let day = at.div_euclid(DAY);
            let end = to.min((day + 1) * DAY);
            *self.record.down.entry(day).or_default() += end - at;
            at = end;
        }
        self.record.down.retain(|day, _| *day > oldest);
    }

    fn pack(&self) -> Vec<u8> {
        // Only running out of memory could fail here; without it the account begins anew.
        postcard::to_stdvec(&self.record).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 20_000 * DAY;

    /// Runs from one second to another, both since [`START`], and gives what was kept last.
    fn run(uptime: &mut Uptime, from: i64, to: i64) -> Vec<u8> {
        let mut kept = Vec::new();
        for second in from..=to {
            let running = (second - from) * SECOND_US;
            kept = uptime.tick((START + second) * SECOND_US, running, true).unwrap_or(kept);
        }
        kept
    }

    #[test]
    fn what_lies_between_two_runs_is_downtime() {
        let (mut first, unclean) = Uptime::unpack(None);
        assert!(!unclean && first.share(30).is_none());
        run(&mut first, 0, 9_000);
        assert_eq!(first.share(30), Some(1.0));
        let (mut second, unclean) = Uptime::unpack(Some(&first.end()));
        assert!(!unclean);
        run(&mut second, 9_100, 10_000);
        assert_eq!((second.down(30), second.share(30)), (100, Some(0.99)));
    }

    #[test]
    fn a_run_that_did_not_end_in_order_is_down_since_its_last_note() {
        let (mut first, _) = Uptime::unpack(None);
        assert!(Uptime::unpack(Some(&first.begin())).1, "whatever the clock is worth");
        let kept = run(&mut first, 0, NOTE_SECONDS * 2 - 1);
        let (mut second, unclean) = Uptime::unpack(Some(&kept));
        assert!(unclean, "it was running");
        run(&mut second, NOTE_SECONDS * 2, NOTE_SECONDS * 2);
        assert_eq!(second.down(30), NOTE_SECONDS);
        let (_, unclean) = Uptime::unpack(Some(b"\xff garbage"));
        assert!(!unclean);
    }

    #[test]
    fn a_second_in_which_nothing_is_taken_is_downtime() {
        let (mut uptime, _) = Uptime::unpack(None);
        run(&mut uptime, 0, 10);
        for second in 11..=20 {
            uptime.tick((START + second) * SECOND_US, 0, second > 15);
        }
        assert_eq!(uptime.down(30), 5);
    }

    #[test]
    fn the_promise_is_at_risk_at_half_of_what_it_allows_and_old_days_are_forgotten() {
        let (mut uptime, _) = Uptime::unpack(None);
        run(&mut uptime, 0, 0);
        let allowed = 30 * DAY / DOWN_SHARE;
        let kept = uptime.end();
        let (mut uptime, _) = Uptime::unpack(Some(&kept));
        run(&mut uptime, allowed / 2 - 1, allowed / 2 - 1);
        assert_eq!(uptime.risk(30), None);
        let (mut uptime, _) = Uptime::unpack(Some(&kept));
        run(&mut uptime, allowed / 2, allowed / 2);
        assert_eq!((uptime.risk(30), uptime.risk(365)), (Some((allowed / 2, allowed)), None));
        uptime.tick((START + 30 * DAY) * SECOND_US, 0, true);
        assert_eq!((uptime.risk(30), uptime.down(365)), (None, allowed / 2));
        let (mut uptime, _) = Uptime::unpack(Some(&uptime.end()));
        uptime.tick((START + 2_000 * DAY) * SECOND_US, 0, true);
        assert!(uptime.record.down.len() <= 365, "{}", uptime.record.down.len());
        assert!(uptime.share(365).unwrap() < 0.01);
    }
}
