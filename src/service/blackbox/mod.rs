//! The black box: the vital figures of the last three days, every ten seconds, and what happened between them.
//!
//! Written by a thread of its own, which looks at the same snapshot as everybody else. An entry is with the system at once,
//! so it survives the end of the process however it comes; the medium has it when the kernel writes it, half a minute later,
//! or at once if something happened (a start, an alert). So it costs a page of the medium each half minute, some 12 MB a
//! day, and a page for each entry where the kernel writes all the time, 35 MB a day; a power cut costs the figures of the
//! last half minute.

mod figures;
mod ring;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

pub use figures::{FIGURES, Figure, Figures, Unit};
pub use ring::{Body, Entry, load};

use super::journal::{Journal, boot_id};
use super::view::View;
use crate::hub::backend::Backend as _;
use crate::hub::status::Alert;
use crate::journal::stamp::Clock;
use crate::logfmt::Quoted;
use figures::Counters;
use ring::Ring;

/// From one entry of figures to the next.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// The file, in the state folder.
const FILE: &str = "blackbox";
/// Before a file that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(600);

/// Where the file is.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// Writes it. Dropped, it notes that the program stops, and ends.
#[derive(Debug)]
pub struct BlackBox {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl BlackBox {
    /// Notes that the program started, and all that follows. The sentence says why there is no thread for it.
    pub(super) fn start(view: Arc<View>, journal: Arc<Journal>, state_dir: &Path) -> Result<Self, String> {
        let (stop, stopped) = sync_channel(0);
        let path = path(state_dir);
        let boot = boot_id().and_then(|id| id.first_chunk().copied()).map_or(0, u32::from_le_bytes);
        let thread = Builder::new()
            .name("blackbox".to_owned())
            .spawn(move || Recorder { path, ring: None, opened: None, journal, boot }.run(&view, &stopped))
            .map_err(|error| format!("the system gives no threads: {error}"))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for BlackBox {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

struct Recorder {
    path: PathBuf,
    ring: Option<Ring>,
    /// When it was last tried to open the file.
    opened: Option<Instant>,
    journal: Arc<Journal>,
    /// Of this start of the machine; 0 where the kernel tells none.
    boot: u32,
}

impl Recorder {
    fn run(mut self, view: &View, stopped: &Receiver<()>) {
        let mut status = view.status();
        let started = format!("{} {}", status.version, status.environment);
        let mut counters: Counters = Figures::counters(&status);
        let mut up = BTreeSet::new();
        let mut happened = vec![Body::Started(started)];
        loop {
            let name = |alert: &Alert| format!("{} {}", alert.name, alert.subject).trim_end().to_owned();
            let names: BTreeSet<_> = status.alerts.iter().map(name).collect();
            happened.extend(names.difference(&up).cloned().map(Body::Raised));
            happened.extend(up.difference(&names).cloned().map(Body::Cleared));
            up = names;
            let figures = Figures::of(&status, &mut counters);
            self.note(std::mem::take(&mut happened), Some(Body::Figures(figures)));
            if stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                break;
            }
            status = view.status();
        }
        self.note(vec![Body::Stopped], None);
    }

    /// Writes what happened, and has it on the medium before it goes on; figures may take their time.
    fn note(&mut self, happened: Vec<Body>, figures: Option<Body>) {
        let sync = !happened.is_empty();
        let written = self.ring().and_then(|ring| {
            let Some((ring, entry)) = ring else { return Ok(()) };
            for body in happened.into_iter().chain(figures) {
                ring.append(Entry { body, ..entry.clone() })?;
            }
            if sync { ring.sync() } else { Ok(()) }
        });
        if let Err(error) = written {
            log::error!(
                "event=blackbox_not_written file={} error={}",
                Quoted(self.path.display()),
                Quoted(error)
            );
            self.ring = None;
        }
    }

    /// The file, and an entry of now; nothing for a while after it failed.
    fn ring(&mut self) -> io::Result<Option<(&mut Ring, Entry)>> {
        if self.ring.is_none() {
            if self.opened.is_some_and(|at| at.elapsed() < RETRY) {
                return Ok(None);
            }
            self.opened = Some(Instant::now());
            self.ring = Some(Ring::open(&self.path)?);
        }
        let stamp = self.journal.stamp();
        let entry = Entry {
            number: 0,
            wall_us: stamp.wall_us,
            is_right: stamp.clock == Clock::Synced,
            mono_us: stamp.mono_us,
            boot: self.boot,
            body: Body::Stopped,
        };
        Ok(self.ring.as_mut().map(|ring| (ring, entry)))
    }
}
