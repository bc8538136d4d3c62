//! A central that keeps what it got.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::load::told;
use crate::support::{Act, Hook, Hooks, Said, Site, eventually};

/// What a central got, over all its sessions and by webhook.
#[derive(Default)]
pub struct Got {
    /// Every message, at least once.
    pub all: BTreeSet<String>,
    /// How many came more than once.
    pub again: u64,
    /// The highest number of each object.
    newest: BTreeMap<String, u64>,
}

impl Got {
    /// A message came. What is new is newer than all that came before from its object.
    fn take(&mut self, payload: &str) {
        if !self.all.insert(payload.to_owned()) {
            self.again += 1;
            return;
        }
        let (name, number) = told(payload);
        let before = self.newest.insert(name.to_owned(), number);
        assert!(before.is_none_or(|before| before < number), "{name}: {number} behind {before:?}");
    }
}

/// How many messages are there, and how many came more than once.
pub fn counts(got: &Shared) -> (u64, u64) {
    let got = got.lock().unwrap();
    (got.all.len() as u64, got.again)
}

/// What several centrals, one after the other, got.
pub type Shared = Arc<Mutex<Got>>;

/// A session of the central that takes telemetry until it is told to leave or the connection ends.
pub struct Session {
    leaves: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Session {
    /// Logs in; `None` if the concentrator is gone.
    pub fn open(site: &Site, got: &Shared) -> Option<Self> {
        let mut peer = site.try_login(site.central()).ok()?;
        let leaves = Arc::new(AtomicBool::new(false));
        let (told_to_leave, got) = (Arc::clone(&leaves), Arc::clone(got));
        let thread = std::thread::spawn(move || {
            while !told_to_leave.load(Ordering::Relaxed) {
                match peer.next_within(Duration::from_millis(20)) {
                    None => {}
                    Some(Said::Telemetry { data, .. }) => {
                        got.lock().unwrap().take(std::str::from_utf8(&data).unwrap());
                    }
                    Some(Said::End | Said::Close(_)) => return,
                    Some(other) => panic!("{other:?} instead of telemetry"),
                }
            }
        });
        Some(Self { leaves, thread })
    }

    /// Ends the connection, without a word.
    pub fn leave(self) {
        self.leaves.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// A webhook that takes everything.
pub fn webhook(got: &Shared) -> Hooks {
    let got = Arc::clone(got);
    Hooks::start(move |hook: &Hook| {
        got.lock().unwrap().take(hook.body["Payload"].as_str().unwrap());
        Act::Answer(204, String::new())
    })
}

/// Waits until nothing waits for the central any more.
pub fn drain(site: &Site) {
    eventually("the central has everything", || site.number("/books/waiting") == 0);
}
