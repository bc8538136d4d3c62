//! Sends what was raised and cleared to the alert webhook, in order, on a thread of its own.
//!
//! It goes by memory and not by the journal: that the journal cannot be written is an alert, too. What was not taken when
//! the program ends is in the journal and is not sent again.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use jiff::Timestamp;

use crate::endpoint::webhook::SignedClient;
use crate::hub::alerts::Told;
use crate::hub::lock;
use crate::logfmt::Quoted;

/// Changes that wait for the webhook; the oldest makes room.
const WAITING_MAX: usize = 256;
/// Before the second attempt, and at most; it doubles between.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The thread. Ends when dropped, within an attempt's time.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Post>,
    client: Option<Arc<SignedClient>>,
    is_stopping: bool,
}

/// A change as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Post {
    id: String,
    body: String,
}

impl Post {
    /// What a subscriber would get of it, or as much as there is if the journal did not take it.
    fn of(told: &Told) -> Self {
        let alert = &told.change.alert;
        let unrecorded = || format!("{}-{}-{}", alert.rule.name(), alert.since_us, told.change.step.name());
        let id = told.id.map_or_else(unrecorded, |id| id.to_string());
        let time = Timestamp::from_microsecond(told.at_us).unwrap_or_default();
        let payload = String::from_utf8(told.change.to_json()).unwrap_or_default();
        let body = format!(
            "{{\"id\":\"{id}\",\"time\":\"{time:.6}\",\"kind\":\"event\",\"format\":\"JSON\",\"payload\":{payload}}}"
        );
        Self { id, body }
    }
}

impl Sender {
    /// Starts the thread, which sends nothing until it knows where to.
    pub fn start() -> Result<Self, String> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = Builder::new()
            .name("alert-webhook".to_owned())
            .spawn(move || own.run())
            .map_err(|error| format!("the system gives no threads: {error}"))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// From now on there; `None`: nowhere, and what waits is forgotten.
    pub fn set_webhook(&self, client: Option<SignedClient>) {
        let client = client.map(Arc::new);
        let mut state = lock(&self.shared.state);
        if client.is_none() {
            state.waiting.clear();
        }
        state.client = client;
        self.shared.changed.notify_all();
    }

    /// Sends these, behind what waits.
    pub fn send(&self, told: &[Told]) {
        let mut state = lock(&self.shared.state);
        if state.client.is_none() || told.is_empty() {
            return;
        }
        for told in told {
            if state.waiting.len() >= WAITING_MAX {
                state.waiting.pop_front();
                log::warn!("event=alert_not_sent reason=\"too many wait for the alert webhook\"");
            }
            state.waiting.push_back(Post::of(told));
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let client = {
            let mut state = lock(&self.shared.state);
            state.is_stopping = true;
            state.client.take()
        };
        self.shared.changed.notify_all();
        if let Some(client) = client {
            client.shut_down();
        }
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut pause = PAUSE;
        loop {
            let (post, client) = {
                let mut state = lock(&self.state);
                loop {
                    if state.is_stopping {
                        return;
                    }
                    match (state.waiting.front(), &state.client) {
                        (Some(post), Some(client)) => break (post.clone(), Arc::clone(client)),
                        _ => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                    }
                }
            };
            match client.post(&post.id, &post.body) {
                Ok(()) => {
                    let mut state = lock(&self.state);
                    // It may have made room meanwhile.
                    if state.waiting.front() == Some(&post) {
                        state.waiting.pop_front();
                    }
                    pause = PAUSE;
                }
                Err(failed) => {
                    let state = lock(&self.state);
                    if state.is_stopping {
                        return;
                    }
                    log::warn!("event=alert_webhook_failed reason={}", Quoted(failed.failure));
                    let wait = failed.retry_after.unwrap_or(pause).clamp(PAUSE, PAUSE_MAX);
                    let until = std::time::Instant::now() + wait;
                    let mut state = state;
                    while !state.is_stopping && std::time::Instant::now() < until {
                        let left = until.saturating_duration_since(std::time::Instant::now());
                        state =
                            self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}
