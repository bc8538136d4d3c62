//! What must hold whatever is done, looked at all the time while it is done.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use iotsocketd::hub::access_file::key_to_hex;
use serde_json::Value;

use crate::support::{Site, iotsocketd};

/// How often the kernel is asked what the process takes.
const LOOK: Duration = Duration::from_millis(100);
/// Every so many looks the process is asked for its books.
const LOOKS_AT_BOOKS: u64 = 10;
/// A process that runs says what it does within this time, however busy the machine is.
const SILENT_MAX: Duration = Duration::from_secs(20);

/// What the process may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub memory_kib: u64,
    pub files: usize,
}

/// What it must take no more of than now and here are threads: it makes none for a connection.
const THREADS_MAX: u64 = 64;

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub looks: u64,
    /// How often the books closed.
    pub books: u64,
    /// The most of each.
    pub memory_kib: u64,
    pub files: usize,
    /// Of the process, and when: memory in KiB and open files.
    pub now: Option<(u32, u64, usize)>,
    /// The last status.
    pub status: Value,
}

/// The look-out, for who is busy with something else.
pub struct Watch<'a> {
    site: &'a Site,
    seen: Mutex<Seen>,
    broken: Mutex<Option<String>>,
    is_over: AtomicBool,
}

/// Does some work while what must hold is looked at. Gives what was seen, too.
pub fn watched<T>(site: &Site, bounds: Bounds, work: impl FnOnce(&Watch<'_>) -> T) -> (T, Seen) {
    let watch =
        Watch { site, seen: Mutex::default(), broken: Mutex::default(), is_over: AtomicBool::new(false) };
    let outcome = thread::scope(|scope| {
        scope.spawn(|| watch.look_out(bounds));
        let _over = Over(&watch.is_over);
        work(&watch)
    });
    watch.check();
    (outcome, watch.seen.into_inner().unwrap())
}

/// Ends the look-out, also when the work fails.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Watch<'_> {
    /// Fails if anything did not hold until now.
    pub fn check(&self) {
        if let Some(what) = &*self.broken.lock().unwrap() {
            panic!("{what}");
        }
    }

    /// What was seen until now.
    pub fn seen<T>(&self, what: impl FnOnce(&Seen) -> T) -> T {
        what(&self.seen.lock().unwrap())
    }

    fn look_out(&self, bounds: Bounds) {
        let (mut looks, mut answered) = (0_u64, Instant::now());
        while !self.is_over.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
            looks += 1;
            let held = self.look(bounds).and_then(|()| match looks % LOOKS_AT_BOOKS {
                0 => self.look_at_books(&mut answered),
                _ => Ok(()),
            });
            if let Err(what) = held {
                *self.broken.lock().unwrap() = Some(what);
                return;
            }
        }
    }

    /// Memory, descriptors and threads. One that is gone by now takes nothing.
    fn look(&self, bounds: Bounds) -> Result<(), String> {
        let Some(pid) = self.site.try_pid() else { return Ok(()) };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let (Some(memory_kib), Some(threads)) = (number("VmRSS:"), number("Threads:")) else {
            return Ok(());
        };
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Ok(()) };
        let files = files.count();
        let mut seen = self.seen.lock().unwrap();
        seen.looks += 1;
        seen.memory_kib = seen.memory_kib.max(memory_kib);
        seen.files = seen.files.max(files);
        seen.now = Some((pid, memory_kib, files));
        match () {
            () if memory_kib > bounds.memory_kib => Err(format!("{memory_kib} KiB of {bounds:?}")),
            () if files > bounds.files => Err(format!("{files} open files of {bounds:?}")),
            () if threads > THREADS_MAX => Err(format!("{threads} threads of {THREADS_MAX}")),
            () => Ok(()),
        }
    }

    /// The books close, in all and for each group; nothing secret is told.
    fn look_at_books(&self, answered: &mut Instant) -> Result<(), String> {
        let before = self.site.try_pid();
        let config = self.site.config();
        let ran = iotsocketd(&["status", "--json", "--config", config.to_str().unwrap()]);
        if ran.code != 0 {
            // It may be stopped, or about to start.
            let is_silent = self.site.is_running() && before == self.site.try_pid();
            return match is_silent && answered.elapsed() > SILENT_MAX {
                true => Err(format!("no status for {:?}: {}", answered.elapsed(), ran.err)),
                false => Ok(()),
            };
        }
        *answered = Instant::now();
        if ran.out.contains(&key_to_hex(&self.site.central_key())) {
            return Err("the status tells a key".to_owned());
        }
        let status: Value = serde_json::from_str(&ran.out).map_err(|error| error.to_string())?;
        close(&status["books"])?;
        for destination in status["destinations"].as_array().into_iter().flatten() {
            destination["groups"]
                .as_object()
                .into_iter()
                .flatten()
                .try_for_each(|(_, books)| close(books))?;
        }
        let mut seen = self.seen.lock().unwrap();
        seen.books += 1;
        seen.status = status;
        Ok(())
    }
}

/// How long it took, which is told; the 99th percentile.
pub fn tell(what: &str, times: &mut [Duration]) -> Duration {
    times.sort();
    let of = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{what}: {} of them, p50 {:.1?}, p99 {:.1?}, most {:.1?}", times.len(), of(50), of(99), of(100));
    of(99)
}

/// Received = delivered + waiting + dropped, by cause.
fn close(books: &Value) -> Result<(), String> {
    let number = |name: &str| books[name].as_u64().ok_or_else(|| format!("no {name} in {books}"));
    let dropped: u64 =
        books["dropped"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
    if number("received")? != number("delivered")? + number("waiting")? + dropped {
        return Err(format!("the books do not close: {books}"));
    }
    books["groups"].as_object().into_iter().flatten().try_for_each(|(_, books)| close(books))
}
