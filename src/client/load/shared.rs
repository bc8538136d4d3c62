//! What the threads of a load have in common.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use smol::channel::{Receiver, Sender, bounded};

use super::{Plan, Target};
use crate::client::counters::{Counters, Snapshot};
use crate::wire::{Format, Payload, Token, Uid};

/// Something that happens once, and that anybody may wait for.
pub(super) struct Gate {
    sender: Sender<Infallible>,
    receiver: Receiver<Infallible>,
}

impl Gate {
    fn new() -> Self {
        let (sender, receiver) = bounded(1);
        Self { sender, receiver }
    }

    pub(super) fn open(&self) {
        self.sender.close();
    }

    pub(super) fn is_open(&self) -> bool {
        self.receiver.is_closed()
    }

    pub(super) async fn wait(&self) {
        // Nothing can be sent, so the only answer is that the channel was closed.
        let _closed = self.receiver.recv().await;
    }
}

pub(super) struct Shared {
    pub(super) target: Target,
    pub(super) plan: Plan,
    pub(super) counters: Arc<Counters>,
    /// Everybody has tried to log in: the work begins.
    pub(super) begun: Gate,
    /// The work ends.
    pub(super) ended: Gate,
    began: Instant,
    login_time: OnceLock<Duration>,
    untried: AtomicUsize,
    online: Vec<AtomicBool>,
    online_count: AtomicUsize,
    next_object: AtomicUsize,
    tokens: Mutex<Vec<Option<Token>>>,
    body: Vec<u8>,
}

impl Shared {
    pub(super) fn new(target: Target, plan: Plan) -> Self {
        let objects = target.objects.len();
        let central = usize::from(plan.central);
        let body = (b'a'..=b'z').cycle().take(plan.payload).collect();
        let shared = Self {
            counters: Arc::default(),
            begun: Gate::new(),
            ended: Gate::new(),
            began: Instant::now(),
            login_time: OnceLock::new(),
            untried: AtomicUsize::new(objects + central),
            online: (0..objects).map(|_| AtomicBool::new(false)).collect(),
            online_count: AtomicUsize::new(0),
            next_object: AtomicUsize::new(0),
            tokens: Mutex::new(vec![None; objects]),
            target,
            plan,
            body,
        };
        if objects + central == 0 || shared.plan.logins {
            shared.begin();
        }
        shared
    }

    fn begin(&self) {
        let _first = self.login_time.set(self.began.elapsed());
        self.begun.open();
    }

    /// An object or the central has tried to log in for the first time.
    pub(super) fn tried(&self) {
        if self.untried.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.begin();
        }
    }

    pub(super) fn set_online(&self, object: usize, online: bool) {
        let Some(flag) = self.online.get(object) else {
            return;
        };
        match (flag.swap(online, Ordering::Relaxed), online) {
            (false, true) => self.online_count.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.online_count.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
    }

    /// The next object that is logged in, each in its turn.
    pub(super) fn next_online(&self) -> Option<Uid> {
        if self.online_count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        for _ in 0..self.online.len() {
            let index = self.next_object.fetch_add(1, Ordering::Relaxed) % self.online.len();
            if self.online.get(index).is_some_and(|online| online.load(Ordering::Relaxed)) {
                return self.target.objects.get(index).map(|(uid, _)| *uid);
            }
        }
        None
    }

    pub(super) fn set_token(&self, object: usize, token: Token) {
        let mut tokens = self.tokens.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(slot) = tokens.get_mut(object) {
            *slot = Some(token);
        }
    }

    /// Every token that objects have now.
    pub(super) fn tokens(&self) -> Vec<Token> {
        let tokens = self.tokens.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        tokens.iter().filter_map(|token| *token).collect()
    }

    /// The payload that everybody sends.
    pub(super) fn payload(&self) -> Payload<'_> {
        Payload::new(Format::Ascii, &self.body).unwrap_or(Payload::EMPTY)
    }

    /// How long the first logins took, all together; `None` while they go on.
    pub(super) fn login_time(&self) -> Option<Duration> {
        self.login_time.get().copied()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let working = self.login_time().map(|login_time| self.began.elapsed().saturating_sub(login_time));
        self.counters.snapshot(working.unwrap_or_default(), self.online_count.load(Ordering::Relaxed))
    }
}
