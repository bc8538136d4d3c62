//! How good the journal is, on real files: each figure beside the bound that the project set itself. It judges and never
//! fails for what it measured: `cargo bench --bench journal`, with `-- --quick` for a first look,
//! `-- --service` for the program as it runs alone, `-- --full` for a backlog of a whole GiB.

#[expect(dead_code, reason = "the other benchmark uses the rest")]
mod machine;
mod service;
#[expect(dead_code, reason = "the other benchmark uses the rest")]
mod site;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use iotsocketd::journal::Seq;
use iotsocketd::journal::error::JournalError;
use iotsocketd::journal::front::{Bounds, Front};
use iotsocketd::journal::reader::{Order, Query, Reader};
use iotsocketd::journal::record::{Kind, Message, State, Via};
use iotsocketd::journal::stamp::{Clock, Stamp};
use iotsocketd::journal::writer::{Settings, Writer};
use iotsocketd::service::disk::Disk;
use iotsocketd::wire::{Format, GroupName, Uid};

const PAYLOAD: usize = 100;
const SEGMENT_LEN: u64 = 8 << 20;
const MIB: u64 = 1 << 20;
/// Objects of the long history: the one that is asked for sends as rarely as the others.
const OBJECTS: u64 = 1000;
/// Callers that wait for an acknowledgement.
const CALLERS: usize = 64;

type Outcome<T> = Result<T, String>;

/// How much is measured.
struct Size {
    seconds: u64,
    history: u64,
    messages: u64,
    tail: u64,
    /// Bytes that wait for a central.
    backlog: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        say("measures nothing unless it is run by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let is_asked = |option: &str| arguments.iter().any(|argument| argument == option);
    let size = if is_asked("--quick") {
        Size { seconds: 2, history: 256 * MIB, messages: 1_000_000, tail: 64 * MIB, backlog: 32 * MIB }
    } else {
        let backlog = if is_asked("--full") { 1024 * MIB } else { 128 * MIB };
        Size { seconds: 10, history: 2048 * MIB, messages: 10_000_000, tail: 64 * MIB, backlog }
    };
    if is_asked("--service") {
        return told_of(service::measure(size.seconds, size.backlog));
    }
    told_of(measure(&size))
}

fn told_of(measured: Outcome<()>) -> ExitCode {
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("CANNOT BE MEASURED: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn measure(size: &Size) -> Outcome<()> {
    say(&format!("{:58}{:>12}{:>14}", "messages of 100 bytes", "measured", "bound"));
    // First, while this process has little memory.
    history(size)?;
    appended(size)?;
    acknowledged(size)?;
    written(size)?;
    start_of_tail(size)?;
    service::measure(size.seconds, size.backlog)
}

/// A journal in a folder that goes when this does.
struct Site {
    folder: tempfile::TempDir,
    begun: Instant,
}

impl Site {
    fn new() -> Outcome<Self> {
        Ok(Self { folder: tempfile::tempdir().map_err(told)?, begun: Instant::now() })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn open(&self, segment_len: u64) -> Outcome<Writer<Disk>> {
        let settings = Settings {
            segment_len,
            fresh_id: [1; 16],
            seed: 1,
            boot_id: [1; 16],
            environment: *b"bench\0\0\0\0\0\0\0\0\0\0\0",
            now: self.now(),
            restored: false,
        };
        Writer::open(Disk::new(self.path()), &settings).map(|(writer, _)| writer).map_err(told)
    }

    fn now(&self) -> Stamp {
        stamp(self.begun)
    }
}

fn stamp(begun: Instant) -> Stamp {
    let mono_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    Stamp {
        mono_us,
        wall_us: 1_800_000_000_000_000 + i64::try_from(mono_us).unwrap_or(0),
        clock: Clock::Synced,
    }
}

/// The front under its lock, and a thread that commits what comes in.
struct Shared {
    front: Mutex<Front>,
    changed: Condvar,
    over: AtomicBool,
    commits: AtomicU64,
}

impl Shared {
    fn new(writer: &Writer<Disk>) -> Arc<Self> {
        let bounds = Bounds { pending_max: 16 << 20, tail_max: 4 << 20 };
        Arc::new(Self {
            front: Mutex::new(Front::new(writer.start(), bounds)),
            changed: Condvar::new(),
            over: AtomicBool::new(false),
            commits: AtomicU64::new(0),
        })
    }

    /// Waits for the next commit: how many there were then, and when that was.
    fn next_commit(&self) -> Outcome<(u64, Instant)> {
        let front = self.front.lock().map_err(told)?;
        let before = self.commits.load(Ordering::Relaxed);
        let is_before = |_: &mut Front| self.commits.load(Ordering::Relaxed) == before;
        let _front = self.changed.wait_while(front, is_before).map_err(told)?;
        Ok((self.commits.load(Ordering::Relaxed), Instant::now()))
    }

    /// Commits until it is over and nothing is left, at most once in `every`.
    fn commit_all(&self, writer: &mut Writer<Disk>, every: Duration) -> Result<(), JournalError> {
        loop {
            let begun = Instant::now();
            let over = self.over.load(Ordering::Acquire);
            // What comes in meanwhile waits for the next round.
            let newest = self.front.lock().map(|front| front.newest()).unwrap_or_default();
            let left = |front: &mut Front| if front.is_durable(newest) { None } else { front.take_batch() };
            let mut any = false;
            while let Some(batch) = self.front.lock().ok().and_then(|mut front| left(&mut front)) {
                any = true;
                let committed = writer.commit(&batch)?;
                if let Ok(mut front) = self.front.lock() {
                    front.committed(&batch);
                    self.commits.fetch_add(1, Ordering::Relaxed);
                }
                self.changed.notify_all();
                if committed.turned {
                    writer.upkeep()?;
                }
            }
            if over && !any {
                return Ok(());
            }
            if !any || !every.is_zero() {
                thread::sleep(every.saturating_sub(begun.elapsed()).max(Duration::from_micros(50)));
            }
        }
    }
}

fn message(object: u64, payload: &[u8]) -> Outcome<Message<'_>> {
    Ok(Message {
        uid: Uid::parse(&format!("Object{object}")).map_err(|error| format!("{error:?}"))?,
        group: GroupName::parse("Devices").map_err(|error| format!("{error:?}"))?,
        kind: Kind::Telemetry,
        via: Via::Udp,
        format: Format::Binary,
        state: State::Waiting,
        source: None,
        network: None,
        payload: payload.into(),
    })
}

/// As many as go in while a thread commits.
fn appended(size: &Size) -> Outcome<()> {
    let site = Site::new()?;
    let mut writer = site.open(SEGMENT_LEN)?;
    let shared = Shared::new(&writer);
    let committer = {
        let shared = shared.clone();
        thread::spawn(move || shared.commit_all(&mut writer, Duration::ZERO))
    };
    let payload = [7; PAYLOAD];
    let message = message(1, &payload)?;
    let (mut count, begun) = (0_u64, Instant::now());
    while begun.elapsed() < Duration::from_secs(size.seconds) {
        let mut front = shared.front.lock().map_err(told)?;
        for _ in 0..100 {
            match front.append(message.clone(), site.now()) {
                Ok(_) => count += 1,
                Err(_) => break,
            }
        }
        drop(front);
        thread::yield_now();
    }
    let elapsed = begun.elapsed();
    shared.over.store(true, Ordering::Release);
    committer.join().map_err(|_| "the committer panicked")?.map_err(told)?;
    row("appended a second, nobody waits", rate(count, elapsed), AtLeast(200_000.0));
    row("  the same until all is on the medium", rate(count, begun.elapsed()), Explains);
    Ok(())
}

/// As many as are acknowledged to callers that wait for each.
fn acknowledged(size: &Size) -> Outcome<()> {
    let site = Site::new()?;
    let mut writer = site.open(SEGMENT_LEN)?;
    let shared = Shared::new(&writer);
    let committer = {
        let shared = shared.clone();
        thread::spawn(move || shared.commit_all(&mut writer, Duration::ZERO))
    };
    let begun = Instant::now();
    let callers: Vec<_> = (0..CALLERS as u64)
        .map(|object| {
            let shared = shared.clone();
            thread::spawn(move || call(&shared, object, begun))
        })
        .collect();
    thread::sleep(Duration::from_secs(size.seconds));
    shared.over.store(true, Ordering::Release);
    let mut count = 0;
    for caller in callers {
        count += caller.join().map_err(|_| "a caller panicked")??;
    }
    let elapsed = begun.elapsed();
    committer.join().map_err(|_| "the committer panicked")?.map_err(told)?;
    row("acknowledged a second, 64 callers wait", rate(count, elapsed), AtLeast(20_000.0));
    row("  flushes a second", rate(shared.commits.load(Ordering::Relaxed), elapsed), Explains);
    Ok(())
}

fn call(shared: &Shared, object: u64, begun: Instant) -> Outcome<u64> {
    let payload = [7; PAYLOAD];
    let message = message(object, &payload)?;
    let mut count = 0;
    while !shared.over.load(Ordering::Acquire) {
        let mut front = shared.front.lock().map_err(told)?;
        let seq = front.append(message.clone(), stamp(begun)).map_err(told)?;
        while front.durable() <= seq {
            front = shared.changed.wait(front).map_err(told)?;
        }
        count += 1;
    }
    Ok(count)
}

/// What is written to the medium for a steady thousand a second.
fn written(size: &Size) -> Outcome<()> {
    let site = Site::new()?;
    let mut writer = site.open(SEGMENT_LEN)?;
    writer.upkeep().map_err(told)?;
    let shared = Shared::new(&writer);
    let before = written_bytes()?;
    let committer = {
        let shared = shared.clone();
        thread::spawn(move || shared.commit_all(&mut writer, Duration::from_millis(100)))
    };
    let payload = [7; PAYLOAD];
    let begun = Instant::now();
    let seconds = size.seconds.max(5);
    let mut count = 0_u64;
    // From one commit to another: what is counted are the pauses between them.
    let (mut first, mut last) = (None, None);
    for tick in 0..seconds * 100 {
        let at = Duration::from_millis(tick * 10);
        thread::sleep(at.saturating_sub(begun.elapsed()));
        let mut front = shared.front.lock().map_err(told)?;
        for object in 0..10 {
            front.append(message(tick * 10 + object, &payload)?, site.now()).map_err(told)?;
            count += 1;
        }
        drop(front);
        match tick {
            0 => first = Some(shared.next_commit()?),
            _ if tick + 1 == seconds * 100 => last = Some(shared.next_commit()?),
            _ => {}
        }
    }
    shared.over.store(true, Ordering::Release);
    committer.join().map_err(|_| "the committer panicked")?.map_err(told)?;
    let bytes = written_bytes()? - before;
    let (Some((commits_before, since)), Some((commits, at))) = (first, last) else {
        return Err("nothing was committed".to_owned());
    };
    row(
        "bytes written for a byte of payload, 1,000 a second",
        rate(bytes, Duration::from_secs(1)) / (count as f64 * PAYLOAD as f64),
        AtMost(2.0),
    );
    row(
        "  flushes a second, nobody waits",
        rate(commits - commits_before, at.duration_since(since)),
        AtMost(10.0),
    );
    Ok(())
}

/// How long a start takes over a segment that was never sealed.
fn start_of_tail(size: &Size) -> Outcome<()> {
    let site = Site::new()?;
    let mut writer = site.open(size.tail + MIB)?;
    let mut next = 0;
    fill(&site, &mut writer, size.tail - 4 * MIB, &mut next)?;
    drop(writer);
    let begun = Instant::now();
    let writer = site.open(size.tail + MIB)?;
    row(&format!("ms to start over {} MiB of open tail", size.tail / MIB), ms(begun), AtMost(500.0));
    if writer.start().next_seq != next + 1 {
        return Err(format!("{} is the next number, behind {next}", writer.start().next_seq));
    }
    Ok(())
}

/// A long history: start, query, memory.
fn history(size: &Size) -> Outcome<()> {
    let site = Site::new()?;
    let mut writer = site.open(SEGMENT_LEN)?;
    let idle = resident_mib()?;
    let (mut next, begun) = (0, Instant::now());
    while next < size.messages || folder_bytes(site.path())? < size.history {
        fill(&site, &mut writer, SEGMENT_LEN, &mut next)?;
    }
    let bytes = folder_bytes(site.path())?;
    row(
        &format!("MiB a second written, {} MiB", bytes / MIB),
        bytes as f64 / MIB as f64 / begun.elapsed().as_secs_f64(),
        Explains,
    );
    row("MiB of memory more than before, with all of that", resident_mib()? - idle, AtMost(16.0));
    drop(writer);
    let begun = Instant::now();
    let writer = site.open(SEGMENT_LEN)?;
    row(&format!("ms to start over {} MiB of history", bytes / MIB), ms(begun), AtMost(3000.0));
    let catalog = writer.catalog();
    let mut reader = Reader::new(Disk::new(site.path()));
    let uid = Uid::parse("Object7").map_err(|error| format!("{error:?}"))?;
    let query = Query { uid: Some(uid), order: Order::NewestFirst, limit: 100, ..Query::from(1) };
    let begun = Instant::now();
    let found = reader.read(&catalog, &query).map_err(told)?.messages.len();
    row(&format!("ms for one object's last {found} of {next} messages"), ms(begun), AtMost(50.0));
    let begun = Instant::now();
    let mut from = Some(1);
    let mut read = 0_u64;
    while let Some(seq) = from.filter(|_| begun.elapsed() < Duration::from_secs(size.seconds)) {
        let page = reader.read(&catalog, &Query { limit: 5000, ..Query::from(seq) }).map_err(told)?;
        read += page.messages.iter().map(|stored| stored.message.payload.len() as u64).sum::<u64>();
        from = page.next;
    }
    row(
        "MiB of payload a second read in order",
        read as f64 / MIB as f64 / begun.elapsed().as_secs_f64(),
        Explains,
    );
    Ok(())
}

/// Commits batches of a quarter of a MiB until about so many bytes are written.
fn fill(site: &Site, writer: &mut Writer<Disk>, bytes: u64, next: &mut Seq) -> Outcome<()> {
    let bounds = Bounds { pending_max: 16 << 20, tail_max: 0 };
    let mut front = Front::new(writer.start(), bounds);
    let payload = [7; PAYLOAD];
    let mut done = 0;
    while done < bytes {
        for _ in 0..2000 {
            *next += 1;
            front.append(message(*next % OBJECTS, &payload)?, site.now()).map_err(told)?;
        }
        while let Some(batch) = front.take_batch() {
            done += batch.records.len() as u64;
            let turned = writer.commit(&batch).map_err(told)?.turned;
            front.committed(&batch);
            if turned {
                writer.upkeep().map_err(told)?;
            }
        }
    }
    Ok(())
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Explains,
}
use Bound::{AtLeast, AtMost, Explains};

fn row(what: &str, value: f64, bound: Bound) {
    let (bound, verdict) = match bound {
        AtLeast(bound) => (format!(">= {bound}"), if value >= bound { "ok" } else { "MISSED" }),
        AtMost(bound) => (format!("<= {bound}"), if value <= bound { "ok" } else { "MISSED" }),
        Explains => (String::new(), ""),
    };
    let value = if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") };
    say(format!("{what:58}{value:>12}{bound:>14}  {verdict}").trim_end());
}

fn rate(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

fn ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

/// What this process caused to be written to the medium, as the kernel counts it.
fn written_bytes() -> Outcome<u64> {
    number_of("/proc/self/io", "write_bytes:")
}

fn resident_mib() -> Outcome<f64> {
    Ok(number_of("/proc/self/status", "VmRSS:")? as f64 / 1024.0)
}

fn number_of(path: &str, name: &str) -> Outcome<u64> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    value.ok_or_else(|| format!("{path} has no {name}"))
}

fn folder_bytes(path: &Path) -> Outcome<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path).map_err(told)? {
        sum += entry.and_then(|entry| entry.metadata()).map_err(told)?.len();
    }
    Ok(sum)
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn say(text: &str) {
    // Who closed the pipe wants to see no more.
    let _closed = writeln!(io::stdout(), "{text}");
}
