//! Which webhook job runs next: a lane per destination and object, at most one job in flight in each.
//!
//! - Lanes that are ready take turns; no destination holds more than [`SHARE`] jobs in flight, so one that
//!   hangs delays only itself.
//! - A **call** (an object's request) has a deadline and one attempt. While the breaker is shut
//!   calls fail at once; once its delay is over one call probes and the others wait for its outcome.
//! - A **message** (telemetry, a result) is tried until it is delivered, 1 s doubling to 30 s between
//!   attempts, and stays in front of its lane meanwhile: the order of an object is kept.
//! - Jobs and bytes of a destination are bounded; what does not fit is handed back.

use std::time::{Duration, Instant};

use super::breaker::Jitter;
use super::queue::Queue;
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

    pub(super) fn longest_delay(self) -> Duration {
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
    pub(super) destination: Destination,
    pub(super) uid: Uid,
    pub(super) is_probe: bool,
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

    /// When there is something to do, if nothing is pushed or finished before: not after `now` means at
    /// once, `None` never.
    pub fn wake_at(&mut self, now: Instant) -> Option<Instant> {
        Destination::ALL.into_iter().filter_map(|destination| self.queue_mut(destination).wake_at(now)).min()
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
        self.queue_mut(destination).reset();
    }

    /// How many more jobs of at most so many bytes each the destination takes for certain.
    pub fn room(&self, destination: Destination, bytes_each: usize) -> usize {
        self.queue(destination).room(bytes_each)
    }

    /// Whether the destination fails: its breaker keeps jobs back.
    pub fn is_failing(&self, destination: Destination) -> bool {
        self.queue(destination).is_failing()
    }

    /// What the destination did so far.
    pub fn counters(&self, destination: Destination) -> Counters {
        self.queue(destination).counters()
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

#[cfg(test)]
mod tests;
