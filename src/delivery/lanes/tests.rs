//! Lanes on a virtual clock, with a printed seed.

use std::collections::HashMap;

use super::*;
use crate::thorough::every;

const SECOND: Duration = Duration::from_secs(1);
const DOWN: Outcome = Outcome::Failed { retry_after: None };

fn uid(n: u64) -> Uid {
    Uid::parse(&format!("obj{n}")).unwrap()
}

fn start<J: Clone + std::fmt::Debug>(lanes: &mut Lanes<J>, now: Instant) -> (Ticket, J) {
    match lanes.next(now) {
        Next::Start(ticket, job) => (ticket, job),
        other => panic!("nothing to start: {other:?}"),
    }
}

/// Lets the destination fail until its breaker is shut, with lanes of its own.
fn trip(lanes: &mut Lanes<u64>, work: Work, now: Instant) {
    let before = lanes.counters(work.destination()).failed;
    for n in 900.. {
        if lanes.is_failing(work.destination()) {
            break;
        }
        lanes.push(work, uid(n), n, 1, now).unwrap();
        let (ticket, _) = start(lanes, now);
        lanes.finish(ticket, DOWN, now);
    }
    assert!(lanes.counters(work.destination()).failed - before <= 3, "the breaker trips early");
}

#[test]
fn a_lane_has_one_job_in_flight_and_keeps_its_order() {
    let (mut lanes, now) = (Lanes::new(1), Instant::now());
    for n in 0..3 {
        lanes.push(Work::Telemetry, uid(1), n, 1, now).unwrap();
    }
    for n in 0..3 {
        let (ticket, job) = start(&mut lanes, now);
        assert_eq!(job, n);
        assert_eq!(lanes.next(now), Next::Idle);
        assert_eq!(lanes.finish(ticket, Outcome::Delivered, now), Finished::Done);
    }
    assert_eq!(lanes.next(now), Next::Idle);
    assert_eq!(lanes.counters(Destination::Telemetry).delivered, 3);
}

#[test]
fn lanes_take_turns() {
    let (mut lanes, now) = (Lanes::new(1), Instant::now());
    for n in 0..3 {
        lanes.push(Work::Telemetry, uid(1), n, 1, now).unwrap();
    }
    lanes.push(Work::Telemetry, uid(2), 10, 1, now).unwrap();
    let mut order = Vec::new();
    for _ in 0..4 {
        let (ticket, job) = start(&mut lanes, now);
        order.push(job);
        lanes.finish(ticket, Outcome::Delivered, now);
    }
    assert_eq!(order, [0, 10, 1, 2]);
}

/// B16: one endpoint that hangs must not hold up the others.
#[test]
fn a_destination_that_hangs_holds_its_share_and_no_more() {
    let (mut lanes, now) = (Lanes::new(1), Instant::now());
    for n in 0..20 {
        lanes.push(Work::Telemetry, uid(n), n, 1, now).unwrap();
    }
    let held: Vec<_> = (0..SHARE).map(|_| start(&mut lanes, now)).collect();
    assert_eq!(lanes.next(now), Next::Idle);
    let deadline = now + SECOND;
    lanes.push(Work::Request { deadline }, uid(1), 100, 1, now).unwrap();
    assert_eq!(start(&mut lanes, now).1, 100);
    for (ticket, _) in held {
        lanes.finish(ticket, Outcome::Delivered, now);
    }
    assert!(matches!(lanes.next(now), Next::Start(..)));
}

#[test]
fn a_message_that_fails_stays_in_front_and_waits_longer_each_time() {
    let (mut lanes, mut now) = (Lanes::new(3), Instant::now());
    lanes.push(Work::Result, uid(1), 1, 1, now).unwrap();
    lanes.push(Work::Result, uid(1), 2, 1, now).unwrap();
    for full in [1, 2, 4, 8, 16, 30, 30] {
        let (ticket, job) = start(&mut lanes, now);
        assert_eq!(job, 1);
        assert_eq!(lanes.finish(ticket, Outcome::Rejected, now), Finished::Kept);
        let Next::WaitUntil(until) = lanes.next(now) else { panic!("does not wait") };
        let delay = until - now;
        assert!(delay >= SECOND * full / 2 && delay <= SECOND * full, "{delay:?} instead of {full} s");
        now = until;
    }
    assert!(!lanes.is_failing(Destination::Result), "one rejected message says nothing about the others");
}

#[test]
fn retry_after_is_honoured_for_the_whole_destination_up_to_an_hour() {
    for (asked, kept) in [(90, 90), (1_000_000, 3600)] {
        let (mut lanes, now) = (Lanes::new(3), Instant::now());
        lanes.push(Work::Telemetry, uid(1), 1, 1, now).unwrap();
        lanes.push(Work::Telemetry, uid(2), 2, 1, now).unwrap();
        let (ticket, _) = start(&mut lanes, now);
        lanes.finish(ticket, Outcome::Failed { retry_after: Some(SECOND * asked) }, now);
        assert_eq!(lanes.next(now), Next::WaitUntil(now + SECOND * kept));
        assert!(matches!(lanes.next(now + SECOND * kept), Next::Start(..)));
    }
}

#[test]
fn a_call_that_waited_too_long_is_not_started() {
    let (mut lanes, now) = (Lanes::new(1), Instant::now());
    let deadline = now + SECOND;
    for n in 0..2 {
        lanes.push(Work::Request { deadline }, uid(1), n, 1, now).unwrap();
    }
    let (ticket, _) = start(&mut lanes, now);
    assert_eq!(lanes.next(now), Next::WaitUntil(deadline), "somebody watches the deadline");
    assert_eq!(lanes.take_untried(deadline), [(1, Untried::Expired)]);
    assert_eq!(lanes.finish(ticket, DOWN, deadline), Finished::Done, "one attempt");
    assert_eq!(lanes.next(deadline), Next::Idle);
    assert_eq!(lanes.counters(Destination::Request).expired, 1);
}

#[test]
fn calls_fail_at_once_after_a_failure_and_probe_later() {
    let (mut lanes, now) = (Lanes::new(1), Instant::now());
    let work = Work::Request { deadline: now + SECOND * 60 };
    let waiting = 5;
    for n in 0..waiting {
        lanes.push(work, uid(1), n, 1, now).unwrap();
    }
    for _ in 0..3 {
        let (ticket, _) = start(&mut lanes, now);
        lanes.finish(ticket, DOWN, now);
    }
    let untried: Vec<_> = lanes.take_untried(now);
    assert_eq!(untried, [(3, Untried::Shut), (4, Untried::Shut)], "those that wait fail with it");
    assert_eq!(lanes.push(work, uid(2), 9, 1, now).unwrap_err().cause, Refusal::Shut);

    let later = now + SECOND;
    lanes.push(work, uid(2), 10, 1, later).unwrap();
    lanes.push(work, uid(3), 11, 1, later).unwrap();
    let (probe, _) = start(&mut lanes, later);
    assert!(matches!(lanes.next(later), Next::WaitUntil(at) if at > later), "one probe at a time");
    assert_eq!(lanes.take_untried(later), [], "the others wait for its outcome");
    lanes.finish(probe, Outcome::Delivered, later);
    assert_eq!(start(&mut lanes, later).1, 11);
    assert_eq!(lanes.counters(Destination::Request).shut, 3);
}

#[test]
fn messages_probe_one_at_a_time_and_all_go_on_after_a_success() {
    let (mut lanes, now) = (Lanes::new(1), Instant::now());
    trip(&mut lanes, Work::Telemetry, now);
    for n in 0..10 {
        lanes.push(Work::Telemetry, uid(n), n, 1, now).unwrap();
    }
    let Next::WaitUntil(probe_at) = lanes.next(now) else { panic!("still hammering") };
    let (probe, _) = start(&mut lanes, probe_at);
    assert_eq!(lanes.next(probe_at), Next::Idle);
    lanes.finish(probe, Outcome::Delivered, probe_at);
    let mut left = 0;
    while let Next::Start(ticket, _) = lanes.next(probe_at) {
        lanes.finish(ticket, Outcome::Delivered, probe_at);
        left += 1;
    }
    assert_eq!(left, 12, "9 that waited and 3 that had failed, without waiting out their delays");
}

#[test]
fn a_reset_destination_starts_afresh() {
    let (mut lanes, now) = (Lanes::new(1), Instant::now());
    trip(&mut lanes, Work::Telemetry, now);
    assert!(matches!(lanes.next(now), Next::WaitUntil(_)));
    lanes.reset(Destination::Telemetry);
    assert!(!lanes.is_failing(Destination::Telemetry));
    let held: Vec<_> = (0..3).map(|_| start(&mut lanes, now)).collect();
    assert_eq!(held.len(), 3);
}

#[test]
fn what_does_not_fit_is_handed_back() {
    let (mut lanes, now) = (Lanes::new(1), Instant::now());
    for n in 0..JOBS_MAX as u64 {
        lanes.push(Work::Telemetry, uid(n), n, 1, now).unwrap();
    }
    assert_eq!(lanes.room(Destination::Telemetry, 1), 0);
    let refused = lanes.push(Work::Telemetry, uid(1), 7, 1, now).unwrap_err();
    assert_eq!(refused, Refused { job: 7, cause: Refusal::Full });
    assert_eq!(lanes.counters(Destination::Telemetry).refused, 1);
    lanes.push(Work::Result, uid(1), 1, BYTES_MAX - 10, now).unwrap();
    assert_eq!(lanes.room(Destination::Result, 5), 2);
    assert_eq!(lanes.push(Work::Result, uid(1), 2, 11, now).unwrap_err().cause, Refusal::Full);
}

#[test]
fn clear_forgets_what_is_not_in_flight() {
    let (mut lanes, now) = (Lanes::new(1), Instant::now());
    for n in 0..3 {
        lanes.push(Work::Telemetry, uid(1), n, 1, now).unwrap();
        lanes.push(Work::Telemetry, uid(2), 10 + n, 1, now).unwrap();
    }
    let ((fails, _), (works, _)) = (start(&mut lanes, now), start(&mut lanes, now));
    let mut cleared = lanes.clear(Destination::Telemetry);
    cleared.sort_unstable();
    assert_eq!(cleared, [1, 2, 11, 12]);
    assert_eq!(lanes.finish(fails, DOWN, now), Finished::Forgotten);
    assert_eq!(lanes.finish(works, Outcome::Delivered, now), Finished::Done);
    assert_eq!(lanes.next(now), Next::Idle);
    assert_eq!(lanes.room(Destination::Telemetry, 1), JOBS_MAX);
}

/// A job of the simulation: its object and its place in that object's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Job {
    object: u64,
    place: u64,
}

/// Objects send to endpoints that fail, recover and answer in any order, under a virtual clock.
#[test]
fn simulated_endpoints_get_everything_once_and_in_order() {
    for seed in every(0..200) {
        Simulation::new(seed).run();
    }
}

struct Simulation {
    seed: u64,
    random: Jitter,
    lanes: Lanes<Job>,
    start: Instant,
    now: Instant,
    flying: Vec<(Instant, Ticket, Job)>,
    /// Places pushed and delivered, by destination and object.
    pushed: HashMap<(u8, u64), u64>,
    delivered: HashMap<(u8, u64), u64>,
    calls_open: u64,
}

fn number(destination: Destination) -> u8 {
    Destination::ALL.iter().position(|other| *other == destination).unwrap() as u8
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let start = Instant::now();
        Self {
            seed,
            random: Jitter::new(seed),
            lanes: Lanes::new(seed),
            start,
            now: start,
            flying: Vec::new(),
            pushed: HashMap::new(),
            delivered: HashMap::new(),
            calls_open: 0,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next() % bound
    }

    fn run(&mut self) {
        while self.now < self.start + SECOND * 120 {
            self.push_some();
            self.step(false);
        }
        // The endpoints work from here on: everything gets through.
        for _ in 0..100_000 {
            if self.step(true) {
                break;
            }
        }
        assert_eq!(self.pushed, self.delivered, "seed {}: messages are missing", self.seed);
        assert_eq!(self.calls_open, 0, "seed {}: calls without an end", self.seed);
        for destination in Destination::ALL {
            assert_eq!(self.lanes.room(destination, 1), JOBS_MAX, "seed {}: something leaks", self.seed);
        }
    }

    fn push_some(&mut self) {
        for _ in 0..self.below(4) {
            let object = self.below(12);
            let work = match self.below(3) {
                0 => Work::Request { deadline: self.now + SECOND * 5 },
                1 => Work::Telemetry,
                _ => Work::Result,
            };
            let lane = (number(work.destination()), object);
            let place = self.pushed.get(&lane).copied().unwrap_or(0);
            if self.lanes.push(work, uid(object), Job { object, place }, 100, self.now).is_ok() {
                match work {
                    Work::Request { .. } => self.calls_open += 1,
                    Work::Telemetry | Work::Result => {
                        self.pushed.insert(lane, place + 1);
                    }
                }
            }
        }
    }

    /// Starts what may start, lets time pass, ends what is due; says whether nothing is left.
    fn step(&mut self, works: bool) -> bool {
        self.calls_open -= self.lanes.take_untried(self.now).len() as u64;
        let wait = loop {
            match self.lanes.next(self.now) {
                Next::Start(ticket, job) => {
                    let lane = (ticket.destination(), job.object);
                    let twice = self.flying.iter().any(|(_, t, j)| (t.destination(), j.object) == lane);
                    assert!(!twice, "seed {}: two in flight in one lane", self.seed);
                    let ends = self.now + Duration::from_millis(self.below(6000));
                    self.flying.push((ends, ticket, job));
                }
                Next::WaitUntil(at) => break Some(at),
                Next::Idle => break None,
            }
        };
        for destination in Destination::ALL {
            let held = self.flying.iter().filter(|(_, t, _)| t.destination() == destination).count();
            assert!(held <= SHARE, "seed {}: {destination:?} holds {held}", self.seed);
        }
        let ends = self.flying.iter().map(|(at, _, _)| *at).min();
        let Some(next) = wait.into_iter().chain(ends).min() else {
            self.now += SECOND / 10;
            return true;
        };
        let step = Duration::from_millis(100);
        self.now =
            if works { self.now.max(next) } else { (self.now + step).min(next.max(self.now + step / 10)) };
        while let Some(index) = self.flying.iter().position(|(at, _, _)| *at <= self.now) {
            let (_, ticket, job) = self.flying.swap_remove(index);
            self.end(ticket, job, works);
        }
        false
    }

    fn end(&mut self, ticket: Ticket, job: Job, works: bool) {
        let destination = ticket.destination();
        // Each destination fails for 20 s, then works for 20 s, shifted against the others.
        let phase = (self.now - self.start).as_secs() / 20 + u64::from(number(destination));
        let outcome = match self.below(10) {
            _ if works => Outcome::Delivered,
            0 => Outcome::Rejected,
            1 => Outcome::Failed { retry_after: Some(SECOND * 7) },
            _ if phase.is_multiple_of(2) => DOWN,
            _ => Outcome::Delivered,
        };
        let finished = self.lanes.finish(ticket, outcome, self.now);
        if destination == Destination::Request {
            assert_eq!(finished, Finished::Done, "seed {}", self.seed);
            self.calls_open -= 1;
        } else if outcome == Outcome::Delivered {
            let expected = self.delivered.entry((number(destination), job.object)).or_default();
            assert_eq!(job.place, *expected, "seed {}: order of an object", self.seed);
            *expected += 1;
        } else {
            assert_eq!(finished, Finished::Kept, "seed {}", self.seed);
        }
    }
}
