//! The lanes of one destination.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::breaker::{Breaker, Gate, Jitter};
use super::lanes::{
    BYTES_MAX, Counters, Destination, Finished, JOBS_MAX, Next, Outcome, RETRY_AFTER_MAX, Refusal, Refused,
    SHARE, Ticket, Untried, Work,
};
use crate::wire::Uid;

/// The jobs of one destination, and when each may start. See [`super::lanes`].
#[derive(Debug)]
pub(super) struct Queue<J> {
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

impl<J: Clone> Queue<J> {
    pub(super) fn new(destination: Destination) -> Self {
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

    /// Whether the breaker keeps jobs back.
    pub(super) fn is_failing(&self) -> bool {
        self.breaker.is_tripped()
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// See [`super::lanes::Lanes::room`].
    pub(super) fn room(&self, bytes_each: usize) -> usize {
        let by_bytes = BYTES_MAX.saturating_sub(self.bytes).checked_div(bytes_each).unwrap_or(usize::MAX);
        JOBS_MAX.saturating_sub(self.jobs).min(by_bytes)
    }

    /// See [`super::lanes::Lanes::reset`].
    pub(super) fn reset(&mut self) {
        self.breaker = Breaker::default();
        self.wake_all();
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn push(
        &mut self,
        work: Work,
        uid: Uid,
        job: J,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Refused<J>> {
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

    pub(super) fn take_untried(&mut self, now: Instant) -> Vec<(J, Untried)> {
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
    pub(super) fn wake_at(&mut self, now: Instant) -> Option<Instant> {
        self.promote(now);
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

    pub(super) fn next(&mut self, now: Instant) -> Next<J> {
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

    pub(super) fn finish(
        &mut self,
        ticket: &Ticket,
        outcome: Outcome,
        jitter: &mut Jitter,
        now: Instant,
    ) -> Finished {
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

    pub(super) fn clear(&mut self) -> Vec<J> {
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
