//! Which webhook job runs next: a lane per destination and object, at most one job in flight in each.
//!
//! - Lanes that are ready take turns; no destination holds more than [`SHARE`] jobs in flight, so one that
//!   hangs delays only itself.
//! - A **call** (an object's request) has a deadline and one attempt. While the breaker is shut
//!   calls fail at once; once its delay is over one call probes and the others wait for its outcome.
//! - A **message** (telemetry, a result) is tried until it is delivered, 1 s doubling to 30 s between
//!   attempts, and stays in front of its lane meanwhile: the order of an object is kept.
//! - Jobs and bytes of a destination are bounded; what does not fit is handed back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::breaker::{Breaker, Gate, Jitter};
use crate::wire::Uid;

/// Jobs of one destination in flight: its share of the worker threads.
pub const SHARE: usize = 4;
/// Jobs held for one destination, those in flight included.
pub const JOBS_MAX: usize = 1024;
/// Payload bytes held for one destination, those in flight included.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest delay between two attempts of a message, unless the destination asks for more.
pub const MESSAGE_DELAY_MAX: Duration = Duration::from_secs(30);
/// Longest delay before a call probes a failing destination: somebody waits for its answer.
pub const CALL_DELAY_MAX: Duration = Duration::from_secs(5);
/// Most that a destination's `Retry-After` is believed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Where a job goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// The request webhook.
    Request,
    /// The telemetry webhook.
    Telemetry,
    /// The webhook for results of queued commands.
    Result,
}

impl Destination {
    /// Every destination.
    pub const ALL: [Self; 3] = [Self::Request, Self::Telemetry, Self::Result];

    fn longest_delay(self) -> Duration {
        match self {
            Self::Request => CALL_DELAY_MAX,
            Self::Telemetry | Self::Result => MESSAGE_DELAY_MAX,
        }
    }
}

/// What kind of job is pushed, and with that its destination and how it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A call to the request webhook: one attempt, before this instant.
    Request {
        /// When it is too late to start.
        deadline: Instant,
    },
    /// A message to the telemetry webhook.
    Telemetry,
    /// A message to the result webhook.
    Result,
}

impl Work {
    /// Where such work goes.
    pub fn destination(self) -> Destination {
        match self {
            Self::Request { .. } => Destination::Request,
            Self::Telemetry => Destination::Telemetry,
            Self::Result => Destination::Result,
        }
    }
}

/// A job that was not taken, handed back.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused<J> {
    /// The job.
    pub job: J,
    /// Why.
    pub cause: Refusal,
}

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The destination holds as many jobs or bytes as it may: the caller keeps the job for later.
    Full,
    /// The destination failed a moment ago: the call fails now instead of holding its caller.
    Shut,
}

/// Why a call ends without having been tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untried {
    /// Its deadline passed while it waited for its turn.
    Expired,
    /// Its destination fails.
    Shut,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<J> {
    /// Run this job and hand the ticket to [`Lanes::finish`].
    Start(Ticket, J),
    /// Nothing before this instant, unless something is pushed or finished.
    WaitUntil(Instant),
    /// Nothing until something is pushed or finished.
    Idle,
}

/// A job in flight. Not to be copied: each is finished once.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    destination: Destination,
    uid: Uid,
    is_probe: bool,
}

impl Ticket {
    /// Where the job goes.
    pub fn destination(&self) -> Destination {
        self.destination
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The destination took it.
    Delivered,
    /// The destination works, but does not take this one.
    Rejected,
    /// The destination does not work.
    Failed {
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
}

/// What became of a job whose attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// It is gone: delivered, or a call that failed.
    Done,
    /// It waits in front of its lane for another attempt.
    Kept,
    /// It failed and is gone: [`Lanes::clear`] came while it was in flight.
    Forgotten,
}

/// What one destination did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Jobs delivered.
    pub delivered: u64,
    /// Attempts that failed or were rejected.
    pub failed: u64,
    /// Calls whose deadline passed before they were started.
    pub expired: u64,
    /// Calls failed at once because the destination fails.
    pub shut: u64,
    /// Jobs refused because the destination was full.
    pub refused: u64,
}

/// The schedule of all webhook jobs. Jobs are cloned when they start, since a failed message stays.
#[derive(Debug)]
pub struct Lanes<J> {
    request: Queue<J>,
    telemetry: Queue<J>,
    result: Queue<J>,
    jitter: Jitter,
}

#[derive(Debug)]
struct Queue<J> {
    destination: Destination,
    lanes: BTreeMap<Uid, Lane<J>>,
    /// Lanes whose front may start, by turn.
    ready: BTreeMap<u64, Uid>,
    /// Lanes whose front waits for another attempt.
    waiting: BTreeSet<(Instant, Uid)>,
    /// Calls not yet started, by deadline and sequence number.
    deadlines: BTreeMap<(Instant, u64), Uid>,
    in_flight: usize,
    jobs: usize,
    bytes: usize,
    /// The next turn or sequence number.
    next_number: u64,
    breaker: Breaker,
    counters: Counters,
}

#[derive(Debug)]
struct Lane<J> {
    /// Never empty.
    entries: VecDeque<Entry<J>>,
    state: State,
    /// Of the front entry.
    failures: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Ready { turn: u64 },
    Waiting { until: Instant },
    InFlight { forget: bool },
}

#[derive(Debug)]
struct Entry<J> {
    number: u64,
    job: J,
    bytes: usize,
    deadline: Option<Instant>,
}

impl<J: Clone> Lanes<J> {
    /// An empty schedule; the seed is for the jitter of delays.
    pub fn new(seed: u64) -> Self {
        Self {
            request: Queue::new(Destination::Request),
            telemetry: Queue::new(Destination::Telemetry),
            result: Queue::new(Destination::Result),
            jitter: Jitter::new(seed),
        }
    }

    /// Takes a job behind the others of its object, or hands it back. `bytes` is what it holds of memory.
    pub fn push(
        &mut self,
        work: Work,
        uid: Uid,
        job: J,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Refused<J>> {
        self.queue_mut(work.destination()).push(work, uid, job, bytes, now)
    }

    /// Calls that end untried; to be asked before [`Self::next`].
    pub fn take_untried(&mut self, now: Instant) -> Vec<(J, Untried)> {
        self.request.take_untried(now)
    }

    /// The next job to start, or how long there is none.
    pub fn next(&mut self, now: Instant) -> Next<J> {
        let mut earliest: Option<Instant> = None;
        for destination in Destination::ALL {
            match self.queue_mut(destination).next(now) {
                Next::Start(ticket, job) => return Next::Start(ticket, job),
                Next::WaitUntil(at) => earliest = Some(earliest.map_or(at, |earlier| earlier.min(at))),
                Next::Idle => {}
            }
        }
        earliest.map_or(Next::Idle, Next::WaitUntil)
    }

    /// Whether a thread has something to do or an instant to wait for.
    pub fn has_more(&mut self, now: Instant) -> bool {
        Destination::ALL.into_iter().any(|destination| {
            let queue = self.queue_mut(destination);
            queue.promote(now);
            queue.wake_at(now).is_some()
        })
    }

    /// An attempt ended.
    pub fn finish(&mut self, ticket: Ticket, outcome: Outcome, now: Instant) -> Finished {
        let Self { request, telemetry, result, jitter } = self;
        let queue = match ticket.destination {
            Destination::Request => request,
            Destination::Telemetry => telemetry,
            Destination::Result => result,
        };
        queue.finish(&ticket, outcome, jitter, now)
    }

    /// Forgets every job of a destination that is not in flight, and hands them back; one in flight that
    /// fails is not tried again.
    pub fn clear(&mut self, destination: Destination) -> Vec<J> {
        self.queue_mut(destination).clear()
    }

    /// The destination is another one now: nothing waits for what the old one did.
    pub fn reset(&mut self, destination: Destination) {
        let queue = self.queue_mut(destination);
        queue.breaker = Breaker::default();
        queue.wake_all();
    }

    /// How many more jobs of at most so many bytes each the destination takes for certain.
    pub fn room(&self, destination: Destination, bytes_each: usize) -> usize {
        let queue = self.queue(destination);
        let by_bytes = BYTES_MAX.saturating_sub(queue.bytes).checked_div(bytes_each).unwrap_or(usize::MAX);
        JOBS_MAX.saturating_sub(queue.jobs).min(by_bytes)
    }

    /// Whether the destination fails: its breaker keeps jobs back.
    pub fn is_failing(&self, destination: Destination) -> bool {
        self.queue(destination).breaker.is_tripped()
    }

    /// What the destination did so far.
    pub fn counters(&self, destination: Destination) -> Counters {
        self.queue(destination).counters
    }

    fn queue(&self, destination: Destination) -> &Queue<J> {
        match destination {
            Destination::Request => &self.request,
            Destination::Telemetry => &self.telemetry,
            Destination::Result => &self.result,
        }
    }

    fn queue_mut(&mut self, destination: Destination) -> &mut Queue<J> {
        match destination {
            Destination::Request => &mut self.request,
            Destination::Telemetry => &mut self.telemetry,
            Destination::Result => &mut self.result,
        }
    }
}

impl<J: Clone> Queue<J> {
    fn new(destination: Destination) -> Self {
        Self {
            destination,
            lanes: BTreeMap::new(),
            ready: BTreeMap::new(),
            waiting: BTreeSet::new(),
            deadlines: BTreeMap::new(),
            in_flight: 0,
            jobs: 0,
            bytes: 0,
            next_number: 0,
            breaker: Breaker::default(),
            counters: Counters::default(),
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn push(&mut self, work: Work, uid: Uid, job: J, bytes: usize, now: Instant) -> Result<(), Refused<J>> {
        let deadline = match work {
            Work::Request { deadline } => Some(deadline),
            Work::Telemetry | Work::Result => None,
        };
        if deadline.is_some() && matches!(self.breaker.gate(now), Gate::ShutUntil(_)) {
            self.counters.shut += 1;
            return Err(Refused { job, cause: Refusal::Shut });
        }
        if self.jobs >= JOBS_MAX || self.bytes.saturating_add(bytes) > BYTES_MAX {
            self.counters.refused += 1;
            return Err(Refused { job, cause: Refusal::Full });
        }
        self.jobs += 1;
        self.bytes += bytes;
        let number = self.number();
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, number), uid);
        }
        let entry = Entry { number, job, bytes, deadline };
        if let Some(lane) = self.lanes.get_mut(&uid) {
            lane.entries.push_back(entry);
        } else {
            let turn = self.number();
            self.ready.insert(turn, uid);
            let state = State::Ready { turn };
            self.lanes.insert(uid, Lane { entries: VecDeque::from([entry]), state, failures: 0 });
        }
        Ok(())
    }

    fn take_untried(&mut self, now: Instant) -> Vec<(J, Untried)> {
        let mut untried = Vec::new();
        let is_shut = matches!(self.breaker.gate(now), Gate::ShutUntil(_));
        while let Some(first) = self.deadlines.first_entry() {
            let (deadline, number) = *first.key();
            let cause = if deadline <= now {
                self.counters.expired += 1;
                Untried::Expired
            } else if is_shut {
                self.counters.shut += 1;
                Untried::Shut
            } else {
                break;
            };
            let uid = first.remove();
            untried.extend(self.take_entry(uid, number).map(|job| (job, cause)));
        }
        untried
    }

    /// Takes one entry that is not in flight out of its lane.
    fn take_entry(&mut self, uid: Uid, number: u64) -> Option<J> {
        let lane = self.lanes.get_mut(&uid)?;
        let index = lane.entries.iter().position(|entry| entry.number == number)?;
        let entry = lane.entries.remove(index)?;
        if lane.entries.is_empty() {
            self.remove_lane(uid);
        }
        self.release(entry)
    }

    fn release(&mut self, entry: Entry<J>) -> Option<J> {
        self.jobs = self.jobs.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        Some(entry.job)
    }

    fn remove_lane(&mut self, uid: Uid) {
        match self.lanes.remove(&uid).map(|lane| lane.state) {
            Some(State::Ready { turn }) => {
                self.ready.remove(&turn);
            }
            Some(State::Waiting { until }) => {
                self.waiting.remove(&(until, uid));
            }
            Some(State::InFlight { .. }) | None => {}
        }
    }

    /// Makes lanes ready whose delay is over.
    fn promote(&mut self, now: Instant) {
        while let Some((until, uid)) = self.waiting.first().copied()
            && until <= now
        {
            self.waiting.pop_first();
            self.make_ready(uid);
        }
    }

    fn make_ready(&mut self, uid: Uid) {
        let turn = self.number();
        if let Some(lane) = self.lanes.get_mut(&uid) {
            lane.state = State::Ready { turn };
            self.ready.insert(turn, uid);
        }
    }

    /// When a job may start, `now` if one may at once, or a call expires.
    fn wake_at(&self, now: Instant) -> Option<Instant> {
        let lane_at = if self.ready.is_empty() { self.waiting.first().map(|(at, _)| *at) } else { Some(now) };
        let start_at = match self.breaker.gate(now) {
            _ if self.in_flight >= SHARE => None,
            Gate::Open | Gate::Probe => lane_at,
            Gate::ShutUntil(until) => lane_at.map(|at| at.max(until)),
            Gate::Probing => None,
        };
        let expires_at = self.deadlines.first_key_value().map(|((at, _), _)| *at);
        start_at.into_iter().chain(expires_at).min()
    }

    fn next(&mut self, now: Instant) -> Next<J> {
        self.promote(now);
        let may_start = self.in_flight < SHARE && matches!(self.breaker.gate(now), Gate::Open | Gate::Probe);
        if may_start && let Some(started) = self.start() {
            return started;
        }
        self.wake_at(now).map_or(Next::Idle, Next::WaitUntil)
    }

    fn start(&mut self) -> Option<Next<J>> {
        let (_, uid) = self.ready.pop_first()?;
        let lane = self.lanes.get_mut(&uid)?;
        lane.state = State::InFlight { forget: false };
        let entry = lane.entries.front()?;
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, entry.number));
        }
        self.in_flight += 1;
        let ticket = Ticket { destination: self.destination, uid, is_probe: self.breaker.start() };
        Some(Next::Start(ticket, entry.job.clone()))
    }

    fn finish(&mut self, ticket: &Ticket, outcome: Outcome, jitter: &mut Jitter, now: Instant) -> Finished {
        let longest = self.destination.longest_delay();
        let is_call = self.destination == Destination::Request;
        self.in_flight = self.in_flight.saturating_sub(1);
        // A call is tried once, so there is nothing to come back with later: what the destination asks
        // for does not keep calls of others away beyond the breaker's own delays.
        let asked_for = match outcome {
            Outcome::Failed { retry_after } if !is_call => {
                retry_after.map(|asked| asked.min(RETRY_AFTER_MAX))
            }
            _ => None,
        };
        if outcome == Outcome::Delivered {
            self.counters.delivered += 1;
        } else {
            self.counters.failed += 1;
        }
        if matches!(outcome, Outcome::Failed { .. }) {
            self.breaker.fail(ticket.is_probe, asked_for, longest, jitter, now);
        } else if self.breaker.succeed() {
            self.wake_all();
        }
        let Some(lane) = self.lanes.get_mut(&ticket.uid) else {
            return Finished::Done;
        };
        let forget = matches!(lane.state, State::InFlight { forget: true });
        if outcome != Outcome::Delivered && !is_call && !forget {
            lane.failures = lane.failures.saturating_add(1);
            let until = now + jitter.delay(lane.failures, longest).max(asked_for.unwrap_or_default());
            lane.state = State::Waiting { until };
            self.waiting.insert((until, ticket.uid));
            return Finished::Kept;
        }
        lane.failures = 0;
        let ended = lane.entries.pop_front();
        if lane.entries.is_empty() {
            self.lanes.remove(&ticket.uid);
        } else {
            self.make_ready(ticket.uid);
        }
        ended.and_then(|entry| self.release(entry));
        if forget && outcome != Outcome::Delivered { Finished::Forgotten } else { Finished::Done }
    }

    /// The destination works again: nobody waits out a delay that was its fault.
    fn wake_all(&mut self) {
        while let Some((_, uid)) = self.waiting.pop_first() {
            self.make_ready(uid);
        }
    }

    fn clear(&mut self) -> Vec<J> {
        self.ready.clear();
        self.waiting.clear();
        self.deadlines.clear();
        let mut kept = BTreeMap::new();
        let mut cleared = Vec::new();
        (self.jobs, self.bytes) = (0, 0);
        for (uid, mut lane) in std::mem::take(&mut self.lanes) {
            if matches!(lane.state, State::InFlight { .. })
                && let Some(front) = lane.entries.pop_front()
            {
                self.jobs += 1;
                self.bytes += front.bytes;
                cleared.extend(lane.entries.drain(..).map(|entry| entry.job));
                lane.entries.push_back(front);
                lane.state = State::InFlight { forget: true };
                kept.insert(uid, lane);
            } else {
                cleared.extend(lane.entries.into_iter().map(|entry| entry.job));
            }
        }
        self.lanes = kept;
        cleared
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
