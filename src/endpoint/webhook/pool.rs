//! The threads that run webhook jobs.

use core::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{AnswerBody, Client, Clients};
use super::message::{self, Message, parse_answer};
use super::settings::{Settings, SettingsError, name};
use super::{Causes, Counters, Failed, Failure, Outcomes, Refused, WEBHOOK_THREADS, WebhookCounters};
use crate::delivery::lanes::{
    BYTES_MAX, Destination, Finished, JOBS_MAX, Lanes, Next, Outcome, Refusal, Ticket, Untried, Work,
};
use crate::logfmt::Quoted;
use crate::wire::{Format, PAYLOAD_DATA_MAX, Uid};

/// Stack of a thread. A TLS handshake without optimisation takes between 48 and 64 KiB on x86-64; the rest is
/// for the system's resolver, whose needs differ between C libraries.
const STACK_LEN: usize = 256 * 1024;
/// What a job holds of memory beside its payload, about.
const JOB_OVERHEAD: usize = 256;
/// Telemetry of any size that the pool takes when it is empty.
const ROOM_MAX: usize = {
    let by_bytes = BYTES_MAX / (PAYLOAD_DATA_MAX + JOB_OVERHEAD);
    if by_bytes < JOBS_MAX { by_bytes } else { JOBS_MAX }
};
/// At most one log line in this time about failures that do not make a webhook fail as a whole.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The webhook threads. Stopped when dropped.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    held: Mutex<Held>,
    /// Something can be started, or there is a new instant to wait for, or the pool stops.
    work: Condvar,
    /// A thread ended.
    ended: Condvar,
    outcomes: Arc<dyn Outcomes>,
}

struct Held {
    lanes: Lanes<Job>,
    clients: Arc<Clients>,
    /// Until when the one thread sleeps that watches the time for all; the others sleep until notified.
    timekeeper: Option<Instant>,
    is_stopping: bool,
    threads_running: usize,
    /// Somebody was told that there is no room for telemetry.
    is_telemetry_awaited: bool,
    request: Told,
    telemetry: Told,
    result: Told,
}

/// What was counted and logged of one webhook.
#[derive(Default)]
struct Told {
    causes: Causes,
    sent_as_binary: u64,
    is_failing: bool,
    last_line: Option<Instant>,
}

/// A job; cloned for each attempt, so its payload is shared.
#[derive(Clone)]
struct Job {
    uid: Uid,
    format: Format,
    payload: Arc<[u8]>,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Request { ticket: u64, deadline: Instant },
    Telemetry { seq: u64 },
    Result { seq: u64, id: Arc<str>, code: u8 },
}

impl Pool {
    /// Starts the threads.
    pub fn start(settings: &Settings, outcomes: Arc<dyn Outcomes>) -> Result<Self, SettingsError> {
        let clients = Arc::new(Clients::new(settings)?);
        let seed = std::process::id();
        let held = Held {
            lanes: Lanes::new(u64::from(seed)),
            clients,
            timekeeper: None,
            is_stopping: false,
            threads_running: 0,
            is_telemetry_awaited: false,
            request: Told::default(),
            telemetry: Told::default(),
            result: Told::default(),
        };
        let shared = Arc::new(Shared {
            held: Mutex::new(held),
            work: Condvar::new(),
            ended: Condvar::new(),
            outcomes,
        });
        let pool = Self { shared, threads: Mutex::default() };
        for number in 0..WEBHOOK_THREADS {
            pool.start_thread(number)?;
        }
        Ok(pool)
    }

    fn start_thread(&self, number: usize) -> Result<(), SettingsError> {
        let shared = Arc::clone(&self.shared);
        let thread = Builder::new()
            .name(format!("webhook-{number}"))
            .stack_size(STACK_LEN)
            .spawn(move || shared.run())
            .map_err(|_| SettingsError::NoThread)?;
        self.shared.lock().threads_running += 1;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Sends an object's request. If taken, [`Outcomes::answered`] is called once with this ticket, by the
    /// deadline as long as the host's name resolves in time.
    pub fn request(
        &self,
        uid: Uid,
        ticket: u64,
        format: Format,
        payload: impl Into<Arc<[u8]>>,
        deadline: Instant,
    ) -> Result<(), Refused> {
        let job = Job { uid, format, payload: payload.into(), kind: Kind::Request { ticket, deadline } };
        self.shared.push(Work::Request { deadline }, job)
    }

    /// Sends telemetry, again and again until it is taken. If accepted here, one of
    /// [`Outcomes::telemetry_delivered`], [`Outcomes::telemetry_forgotten`] or a call of
    /// [`Self::clear_telemetry`] is its end.
    pub fn telemetry(
        &self,
        uid: Uid,
        seq: u64,
        format: Format,
        payload: impl Into<Arc<[u8]>>,
    ) -> Result<(), Refused> {
        let job = Job { uid, format, payload: payload.into(), kind: Kind::Telemetry { seq } };
        self.shared.push(Work::Telemetry, job)
    }

    /// Sends the result of a queued command, again and again until it is taken.
    pub fn result(
        &self,
        uid: Uid,
        seq: u64,
        id: &str,
        code: u8,
        format: Format,
        payload: impl Into<Arc<[u8]>>,
    ) -> Result<(), Refused> {
        let kind = Kind::Result { seq, id: id.into(), code };
        self.shared.push(Work::Result, Job { uid, format, payload: payload.into(), kind })
    }

    /// How many more telemetry messages are taken for certain. After a 0, [`Outcomes::telemetry_room`]
    /// tells when there is room again. Always 0 without a telemetry webhook.
    pub fn room(&self) -> usize {
        let mut held = self.shared.lock();
        if held.is_stopping || held.clients.get(Destination::Telemetry).is_none() {
            return 0;
        }
        let room = held.lanes.room(Destination::Telemetry, PAYLOAD_DATA_MAX + JOB_OVERHEAD);
        held.is_telemetry_awaited |= room == 0;
        room
    }

    /// Forgets telemetry that is not in flight, and gives its numbers: it stays with whoever handed it over. What is in flight is
    /// delivered or forgotten within the timeout, and [`Outcomes`] hears which.
    pub fn clear_telemetry(&self) -> Vec<u64> {
        let mut held = self.shared.lock();
        let forgotten = held.lanes.clear(Destination::Telemetry);
        held.is_telemetry_awaited = false;
        drop(held);
        let number = |job: Job| match job.kind {
            Kind::Telemetry { seq } => Some(seq),
            Kind::Request { .. } | Kind::Result { .. } => None,
        };
        forgotten.into_iter().filter_map(number).collect()
    }

    /// Takes up new settings; attempts in flight end with the old ones. What waits for a webhook that is
    /// gone ends here: requests fail, and [`Outcomes`] hears which telemetry was forgotten.
    pub fn reconfigure(&self, settings: &Settings) -> Result<(), SettingsError> {
        let clients = Arc::new(Clients::new(settings)?);
        let mut gone = Vec::new();
        let mut held = self.shared.lock();
        for destination in Destination::ALL {
            held.lanes.reset(destination);
            if clients.get(destination).is_none() {
                gone.extend(held.lanes.clear(destination));
            }
        }
        held.clients = clients;
        drop(held);
        self.shared.work.notify_all();
        for job in gone {
            match job.kind {
                Kind::Telemetry { seq } => self.shared.outcomes.telemetry_forgotten(seq),
                Kind::Request { .. } | Kind::Result { .. } => self.shared.fail(&job, Failure::Gone),
            }
        }
        Ok(())
    }

    /// What the webhooks did so far.
    pub fn counters(&self) -> Counters {
        let mut held = self.shared.lock();
        let mut of = |destination| WebhookCounters {
            jobs: held.lanes.counters(destination),
            causes: held.told(destination).causes,
            sent_as_binary: held.told(destination).sent_as_binary,
            is_failing: held.lanes.is_failing(destination),
        };
        Counters {
            request: of(Destination::Request),
            telemetry: of(Destination::Telemetry),
            result: of(Destination::Result),
        }
    }

    /// Stops: requests fail, messages are forgotten, attempts in flight are cut off. Says whether every
    /// thread ended within `bound`; one that waits for a name server may not.
    pub fn stop(&self, bound: Duration) -> bool {
        let mut held = self.shared.lock();
        held.is_stopping = true;
        let requests = held.lanes.clear(Destination::Request);
        held.lanes.clear(Destination::Telemetry);
        held.lanes.clear(Destination::Result);
        let clients = Arc::clone(&held.clients);
        drop(held);
        self.shared.work.notify_all();
        self.shared.fail_all(requests, Failure::Gone);
        clients.shut_down();

        let waited =
            self.shared.ended.wait_timeout_while(self.shared.lock(), bound, |held| held.threads_running > 0);
        let have_ended = waited.unwrap_or_else(PoisonError::into_inner).0.threads_running == 0;
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if have_ended {
            for thread in threads {
                // A thread ends without a value, and a panic aborts the program before this.
                let _ = thread.join();
            }
        } else {
            log::warn!("event=webhook_stop_incomplete reason=\"attempts in flight did not end in time\"");
        }
        have_ended
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(1));
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, work: Work, job: Job) -> Result<(), Refused> {
        let (uid, bytes) = (job.uid, job.payload.len() + JOB_OVERHEAD);
        let now = Instant::now();
        let mut held = self.lock();
        if held.is_stopping {
            return Err(Refused::Stopping);
        }
        if held.clients.get(work.destination()).is_none() {
            return Err(Refused::NotConfigured);
        }
        if let Err(refused) = held.lanes.push(work, uid, job, bytes, now) {
            held.is_telemetry_awaited |= work == Work::Telemetry;
            return Err(match refused.cause {
                Refusal::Full => Refused::Full,
                Refusal::Shut => Refused::Shut,
            });
        }
        let needs_thread = held.needs_thread(now);
        drop(held);
        if needs_thread {
            self.work.notify_one();
        }
        Ok(())
    }

    /// A thread's life.
    fn run(&self) {
        let mut held = self.lock();
        while !held.is_stopping {
            let now = Instant::now();
            let untried = held.lanes.take_untried(now);
            if !untried.is_empty() {
                drop(held);
                for (job, cause) in untried {
                    self.fail(&job, if cause == Untried::Shut { Failure::Shut } else { Failure::Expired });
                }
                held = self.lock();
                continue;
            }
            held = match held.lanes.next(now) {
                Next::Start(ticket, job) => {
                    // There may be more to start, and this thread may have been the timekeeper.
                    if held.needs_thread(now) {
                        self.work.notify_one();
                    }
                    let clients = Arc::clone(&held.clients);
                    drop(held);
                    self.attempt(&clients, ticket, &job);
                    self.lock()
                }
                Next::WaitUntil(at) => self.sleep(held, at, now),
                Next::Idle => self.work.wait(held).unwrap_or_else(PoisonError::into_inner),
            };
        }
        held.threads_running = held.threads_running.saturating_sub(1);
        drop(held);
        self.ended.notify_all();
    }

    /// Sleeps until notified, or until this instant if no other thread does that.
    fn sleep<'a>(&self, mut held: MutexGuard<'a, Held>, at: Instant, now: Instant) -> MutexGuard<'a, Held> {
        if held.timekeeper.is_some_and(|until| until <= at) {
            return self.work.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        held.timekeeper = Some(at);
        let waited = self.work.wait_timeout(held, at.saturating_duration_since(now));
        let mut held = waited.unwrap_or_else(PoisonError::into_inner).0;
        if held.timekeeper == Some(at) {
            held.timekeeper = None;
        }
        held
    }

    /// Runs a job once and tells its outcome before the next one of its lane may start.
    fn attempt(&self, clients: &Clients, ticket: Ticket, job: &Job) {
        let destination = ticket.destination();
        let message = job.message();
        let failed = match clients.get(destination) {
            Some(client) => self.post(client, &message.text, job).err(),
            None => Some(Failure::Gone.into()),
        };
        if let Some(failed) = failed {
            self.fail(job, failed.failure);
        }
        let outcome = failed.map_or(Outcome::Delivered, Failed::outcome);

        let now = Instant::now();
        let mut held = self.lock();
        let finished = held.lanes.finish(ticket, outcome, now);
        let failure = failed.map(|failed| failed.failure);
        held.tell(destination, job, failure, message.is_sent_as_binary, now);
        let has_room = held.has_awaited_room();
        drop(held);
        if let (Finished::Forgotten, Kind::Telemetry { seq }) = (finished, &job.kind) {
            self.outcomes.telemetry_forgotten(*seq);
        }
        if has_room {
            self.outcomes.telemetry_room();
        }
    }

    /// Posts a job's body and tells a success.
    fn post(&self, client: &Client, text: &str, job: &Job) -> Result<(), Failed> {
        match job.kind {
            Kind::Request { ticket, deadline } => {
                let body = client.post(&[], text, Some(deadline), AnswerBody::Wanted)?;
                self.outcomes.answered(ticket, Ok(parse_answer(&body)?));
            }
            Kind::Telemetry { seq } => {
                client.post(&[], text, None, AnswerBody::Ignored)?;
                self.outcomes.telemetry_delivered(seq);
            }
            Kind::Result { seq, .. } => {
                client.post(&[], text, None, AnswerBody::Ignored)?;
                self.outcomes.result_delivered(seq);
            }
        }
        Ok(())
    }

    /// Tells a failure to whoever waits for an answer; messages are tried again or were forgotten.
    fn fail(&self, job: &Job, failure: Failure) {
        if let Kind::Request { ticket, .. } = job.kind {
            self.outcomes.answered(ticket, Err(failure));
        }
    }

    fn fail_all(&self, jobs: Vec<Job>, failure: Failure) {
        for job in jobs {
            self.fail(&job, failure);
        }
    }
}

impl Job {
    fn message(&self) -> Message {
        match &self.kind {
            Kind::Request { .. } | Kind::Telemetry { .. } => {
                message::of_payload(self.uid, self.format, &self.payload)
            }
            Kind::Result { id, code, .. } => {
                message::of_result(self.uid, id, *code, self.format, &self.payload)
            }
        }
    }
}

impl Held {
    /// Whether a sleeping thread has to wake: to start something, or to keep the time.
    fn needs_thread(&mut self, now: Instant) -> bool {
        self.lanes.wake_at(now).is_some_and(|at| at <= now || self.timekeeper.is_none_or(|until| at < until))
    }

    fn told(&mut self, destination: Destination) -> &mut Told {
        match destination {
            Destination::Request => &mut self.request,
            Destination::Telemetry => &mut self.telemetry,
            Destination::Result => &mut self.result,
        }
    }

    /// Counts an attempt, and logs when the webhook begins or ends to fail; other failures now and then.
    fn tell(
        &mut self,
        destination: Destination,
        job: &Job,
        failure: Option<Failure>,
        is_sent_as_binary: bool,
        now: Instant,
    ) {
        let (is_failing, is_stopping) = (self.lanes.is_failing(destination), self.is_stopping);
        let told = self.told(destination);
        let webhook = name(destination);
        told.sent_as_binary += u64::from(is_sent_as_binary);
        if let Some(failure) = failure {
            told.causes.count(failure);
            let is_news = told.last_line.is_none_or(|last| now.duration_since(last) >= TELL_EVERY);
            if is_failing && !told.is_failing && !is_stopping {
                log::warn!("event=webhook_failing webhook={webhook} reason={}", Quoted(failure));
                told.last_line = Some(now);
            } else if is_news && !is_stopping {
                log::warn!(
                    "event=webhook_attempt_failed webhook={webhook} uid={} reason={}",
                    Quoted(job.uid),
                    Quoted(failure)
                );
                told.last_line = Some(now);
            }
        }
        if told.is_failing && !is_failing {
            log::info!("event=webhook_working webhook={webhook}");
        }
        told.is_failing = is_failing;
    }

    /// Whether to say that there is room for telemetry: at half, so that it is not said for each message.
    fn has_awaited_room(&mut self) -> bool {
        let room = self.lanes.room(Destination::Telemetry, PAYLOAD_DATA_MAX + JOB_OVERHEAD);
        let has_room = self.is_telemetry_awaited && room >= ROOM_MAX / 2;
        self.is_telemetry_awaited &= !has_room;
        has_room
    }
}
