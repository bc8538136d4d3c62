//! The threads that post messages to subscribers: one for each, so that one that hangs holds up nothing else.
//!
//! What a call brings and when it is made is the hub's to say; here are its body, its id and its signature.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use ring::digest::{Context, SHA256};

use super::webhook::{Failed, Failure, Signed, SignedClient};
use crate::delivery::lanes;
use crate::delivery::subscriber::{self, Outcome};
use crate::hub::history::MessageView;
use crate::hub::subscribers::{Doorbell, Job};
use crate::hub::{Hub, lock};
use crate::logfmt::Quoted;

/// Stack of a thread; see the webhooks' threads.
const STACK_LEN: usize = 256 * 1024;
/// At most one log line in this time about a subscriber whose calls fail and succeed in turns.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// How often the end looks whether it is reached.
const STOP_STEP: Duration = Duration::from_millis(10);
/// Bytes of a message's JSON beside its payload, about.
const MESSAGE_LEN: usize = 320;

/// One subscriber.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it is called.
    pub signed: Signed,
    /// What it gets, and when.
    pub schedule: subscriber::Settings,
}

/// The threads of all subscribers. Stopped when dropped.
pub struct Subscribers {
    hub: Arc<Hub>,
    workers: Mutex<BTreeMap<String, Worker>>,
}

impl fmt::Debug for Subscribers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscribers")
    }
}

/// What a thread and its owner share.
struct Shared {
    name: String,
    client: Mutex<Arc<SignedClient>>,
    is_batched: AtomicBool,
    is_stopping: AtomicBool,
    bell: Arc<Doorbell>,
}

struct Worker {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Cuts off what is under way and lets the thread end.
    fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        lock(&self.shared.client).shut_down();
        self.shared.bell.ring();
    }
}

impl Subscribers {
    /// None yet.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub, workers: Mutex::default() }
    }

    /// Makes what can fail, before anything is changed; the sentence says what is wrong.
    pub fn prepare(&self, wanted: BTreeMap<String, Settings>) -> Result<Prepared<'_>, String> {
        let client = |(name, settings): (String, Settings)| {
            let client = SignedClient::new(&settings.signed)
                .map_err(|sentence| format!("subscribers.{name}.{sentence}"))?;
            Ok((name, (Arc::new(client), settings.schedule)))
        };
        let clients = wanted.into_iter().map(client).collect::<Result<_, String>>()?;
        Ok(Prepared { subscribers: self, clients })
    }

    /// Ends all threads. What is under way is cut off, to be sent again after the next start; one that waits for a name
    /// server is left behind after `bound`.
    pub fn stop(&self, bound: Duration) {
        let workers = std::mem::take(&mut *lock(&self.workers));
        workers.values().for_each(Worker::stop);
        let deadline = Instant::now() + bound;
        for worker in workers.into_values() {
            while !worker.thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(STOP_STEP);
            }
            if worker.thread.is_finished() {
                // A thread ends without a value, and a panic aborts the program before this.
                let _ended = worker.thread.join();
            }
        }
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(1));
    }
}

/// Subscribers that can be put in force.
pub struct Prepared<'a> {
    subscribers: &'a Subscribers,
    clients: BTreeMap<String, (Arc<SignedClient>, subscriber::Settings)>,
}

impl fmt::Debug for Prepared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared")
    }
}

impl Prepared<'_> {
    /// Puts them in force. Fails if the system gives no threads.
    pub fn put_in_force(self) -> Result<(), String> {
        let Self { subscribers: Subscribers { hub, workers }, clients } = self;
        let mut workers = lock(workers);
        workers.retain(|name, worker| {
            let stays = clients.contains_key(name);
            if !stays {
                worker.stop();
            }
            stays
        });
        // Attempts under way end with the old client; its successor is there before there is more to do.
        for (name, (client, schedule)) in &clients {
            if let Some(worker) = workers.get(name) {
                *lock(&worker.shared.client) = Arc::clone(client);
                worker.shared.is_batched.store(schedule.batch_max > 1, Ordering::Relaxed);
            }
        }
        let schedules = clients.iter().map(|(name, (_, schedule))| (name.clone(), schedule.clone()));
        hub.set_subscribers(schedules.collect());
        for (name, (client, schedule)) in clients {
            if workers.contains_key(&name) {
                continue;
            }
            let Some(bell) = hub.doorbell(&name) else { continue };
            let shared = Arc::new(Shared {
                name: name.clone(),
                client: Mutex::new(client),
                is_batched: AtomicBool::new(schedule.batch_max > 1),
                is_stopping: AtomicBool::new(false),
                bell,
            });
            let (own, hub) = (Arc::clone(&shared), Arc::clone(hub));
            let thread = Builder::new()
                .name(format!("to-{name}"))
                .stack_size(STACK_LEN)
                .spawn(move || own.run(&hub))
                .map_err(|error| format!("the system gives no threads for subscribers: {error}"))?;
            workers.insert(name, Worker { shared, thread });
        }
        Ok(())
    }
}

impl Shared {
    fn run(&self, hub: &Hub) {
        let mut body = String::new();
        let mut told = Told::default();
        while !self.is_stopping.load(Ordering::Relaxed) {
            match hub.next_post(&self.name) {
                None => return,
                Some(Job::Again) => std::thread::yield_now(),
                Some(Job::Wait(until)) => self.bell.wait(until),
                Some(Job::Post(ticket, messages)) => {
                    body.clear();
                    let id = write_body(&messages, self.is_batched.load(Ordering::Relaxed), &mut body);
                    drop(messages);
                    let client = Arc::clone(&lock(&self.client));
                    let posted = client.post(&id, &body);
                    if self.is_stopping.load(Ordering::Relaxed) && posted.is_err() {
                        // Cut off by the end: no failure of theirs.
                        return;
                    }
                    told.tell(&self.name, posted.err());
                    hub.posted(&self.name, ticket, outcome(posted));
                    // What a large batch took is not kept.
                    body.shrink_to(subscriber::BATCH_BYTES_MAX);
                }
            }
        }
    }
}

fn outcome(posted: Result<(), Failed>) -> Outcome {
    match posted {
        Ok(()) => Outcome::Delivered,
        Err(Failed { failure: Failure::Status(410), .. }) => Outcome::Gone,
        Err(failed) => match failed.outcome() {
            lanes::Outcome::Rejected => Outcome::Rejected(failed.failure.to_string()),
            _ => Outcome::Failed(failed.failure.to_string(), failed.retry_after),
        },
    }
}

/// Appends the body of these messages, and gives the id of the call: that of the message; of a batch `batch_` and the
/// first half of the SHA-256 over the ids of its messages, so that the same messages always have the same.
fn write_body(messages: &[MessageView], is_batched: bool, body: &mut String) -> String {
    let payloads: usize = messages.iter().map(|message| message.payload.len()).sum();
    body.reserve(payloads + messages.len() * MESSAGE_LEN);
    if let ([message], false) = (messages, is_batched) {
        message.write_json(body);
        return message.id.to_string();
    }
    let mut digest = Context::new(&SHA256);
    body.push_str("{\"messages\":[");
    for (at, message) in messages.iter().enumerate() {
        if at > 0 {
            body.push(',');
        }
        message.write_json(body);
        digest.update(message.id.to_string().as_bytes());
    }
    body.push_str("]}");
    let mut id = "batch_".to_owned();
    for byte in digest.finish().as_ref().iter().take(16) {
        id.push_str(&format!("{byte:02x}"));
    }
    id
}

/// What the log was told of a subscriber.
#[derive(Default)]
struct Told {
    is_failing: bool,
    last_line: Option<Instant>,
}

impl Told {
    /// One line when it begins to fail, and one when it works again; not more than now and then.
    fn tell(&mut self, name: &str, failed: Option<Failed>) {
        let is_quiet = self.last_line.is_some_and(|last| last.elapsed() < TELL_EVERY);
        match failed {
            Some(failed) if !self.is_failing && !is_quiet => {
                log::warn!("event=subscriber_failing subscriber={name} reason={}", Quoted(failed.failure));
                self.is_failing = true;
                self.last_line = Some(Instant::now());
            }
            None if self.is_failing => {
                log::info!("event=subscriber_works subscriber={name}");
                self.is_failing = false;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::history::{Clock, Kind, MessageId, State, Via};
    use crate::wire::{Format, GroupName, Uid};

    fn message(number: u8) -> MessageView {
        MessageView {
            id: MessageId::parse(&format!("01930a2b-4c5d-7abc-8def-0123456789a{number}")).unwrap(),
            seq: number.into(),
            time_us: 0,
            clock: Clock::Synced,
            kind: Kind::Telemetry,
            uid: Uid::parse("o").unwrap(),
            group: GroupName::parse("g").unwrap(),
            via: Via::Udp,
            format: Format::Json,
            payload: b"1".to_vec(),
            state: State::Waiting,
            source: None,
            network: None,
            trace: None,
        }
    }

    #[test]
    fn one_message_is_the_body_and_several_are_a_list_with_an_id_of_its_own() {
        let (mut one, mut list, mut again) = (String::new(), String::new(), String::new());
        assert_eq!(write_body(&[message(1)], false, &mut one), message(1).id.to_string());
        let id = write_body(&[message(1), message(2)], true, &mut list);
        assert_eq!(write_body(&[message(1), message(2)], true, &mut again), id);
        assert!(id.starts_with("batch_") && id.len() == 38 && !id.contains('.'), "{id}");
        assert_ne!(write_body(&[message(1), message(3)], true, &mut String::new()), id);
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        let one: serde_json::Value = serde_json::from_str(&one).unwrap();
        assert_eq!((&list["messages"][0], list["messages"][1]["seq"].as_u64()), (&one, Some(2)));
        // Whoever asked for batches always gets them.
        let mut batch = String::new();
        assert!(write_body(&[message(1)], true, &mut batch).starts_with("batch_"));
        assert!(batch.starts_with("{\"messages\":["));
    }

    #[test]
    fn what_an_answer_means() {
        let status = |status| outcome(Err(Failure::Status(status).into()));
        assert_eq!(outcome(Ok(())), Outcome::Delivered);
        assert_eq!(status(410), Outcome::Gone);
        for refused in [400, 409, 413, 415, 422] {
            assert!(matches!(status(refused), Outcome::Rejected(_)), "{refused}");
        }
        for failed in [401, 403, 404, 429, 500, 503] {
            assert!(matches!(status(failed), Outcome::Failed(_, None)), "{failed}");
        }
        let redirect = outcome(Err(Failure::Redirect(302).into()));
        assert!(matches!(redirect, Outcome::Failed(..)), "{redirect:?}");
    }
}
