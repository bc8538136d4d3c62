//! The journal in the program as it runs: what it writes for telemetry, how often it flushes, how it delivers what it
//! kept, and what memory that takes.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::site::{PROGRAM, Site, number};
use super::{AtLeast, AtMost, Explains, MIB, Outcome, machine, number_of, row, told};

/// Messages a second, and bytes of each, that the wear is measured with.
const RATE: u64 = 1000;
const PAYLOAD: u64 = 100;
/// Bytes of each message of the backlog.
const BACKLOG_PAYLOAD: u64 = 1000;
/// More than `commit_interval`, and a flush on a busy machine.
const COMMITTED_WITHIN: Duration = Duration::from_secs(2);
/// Nothing takes longer than this for each MiB of backlog.
const PATIENCE_PER_MIB: Duration = Duration::from_secs(2);

/// Measures; `backlog` is in bytes of payload.
pub fn measure(seconds: u64, backlog: u64) -> Outcome<()> {
    wear(seconds.max(5))?;
    deliver(backlog)
}

/// What a steady thousand messages a second write, with nobody who takes them.
fn wear(seconds: u64) -> Outcome<()> {
    let site = Site::start(10)?;
    let (rate, payload) = (RATE.to_string(), PAYLOAD.to_string());
    let words = ["--rate", "0", "--central", "none", "--telemetry", &rate, "--payload", &payload];
    // Until everybody is logged in, and what that wrote is written.
    let mut load = simulate(&site, 10, &words, seconds + 4)?;
    thread::sleep(Duration::from_secs(3));
    let io = format!("/proc/{}/io", site.process());
    let (before, taken_before, begun) = (number_of(&io, "write_bytes:")?, received(&site)?, Instant::now());
    let flushes = count_flushes(site.process(), seconds)?;
    let elapsed = begun.elapsed().as_secs_f64();
    let (written, taken) = (number_of(&io, "write_bytes:")? - before, received(&site)? - taken_before);
    load.wait().map_err(told)?;
    row("of the program: messages taken a second", taken / elapsed, Explains);
    row(
        "  bytes written for a byte of payload, 1,000 a second",
        written as f64 / (taken * PAYLOAD as f64),
        AtMost(2.0),
    );
    row("  flushes a second, nobody waits", flushes as f64 / seconds as f64, AtMost(10.0));
    Ok(())
}

/// A backlog that comes in, and goes out to a central over TCP.
fn deliver(backlog: u64) -> Outcome<()> {
    let mut site = Site::start(10)?;
    let idle = site.resident_kib()?;
    let patience = PATIENCE_PER_MIB * u32::try_from(backlog / MIB).unwrap_or(u32::MAX);
    let wanted = (backlog / BACKLOG_PAYLOAD) as f64;
    let payload = BACKLOG_PAYLOAD.to_string();
    let words = ["--rate", "0", "--central", "none", "--telemetry", "20000", "--payload", &payload];
    let mut load = simulate(&site, 10, &words, patience.as_secs())?;
    let (begun, mut most) = (Instant::now(), idle);
    let waiting = |site: &Site| Ok::<_, String>(number(&site.status()?, "/books/waiting"));
    while waiting(&site)? < wanted && begun.elapsed() < patience {
        most = most.max(site.resident_kib()?);
        thread::sleep(Duration::from_millis(200));
    }
    load.kill().and_then(|()| load.wait()).map_err(told)?;
    settle(&site)?;
    let count = waiting(&site)?;
    row(
        &format!("MiB of memory above idle, {} MiB come in", backlog / MIB),
        (most - idle) / 1024.0,
        Explains,
    );
    let words = ["--rate", "0", "--central", "tcp", "--telemetry", "0"];
    let begun = Instant::now();
    site.restart()?;
    row(
        "ms to start with it, until it is ready to be asked",
        begun.elapsed().as_secs_f64() * 1000.0,
        Explains,
    );
    let begun = Instant::now();
    let mut central = simulate(&site, 1, &words, patience.as_secs())?;
    let mut most = site.resident_kib()?;
    while waiting(&site)? > 0.0 {
        most = most.max(site.resident_kib()?);
        if begun.elapsed() > patience {
            return Err(format!("{} of {count} still wait", waiting(&site)?));
        }
        thread::sleep(Duration::from_millis(50));
    }
    let elapsed = begun.elapsed().as_secs_f64();
    central.kill().and_then(|()| central.wait()).map_err(told)?;
    let mib = count * BACKLOG_PAYLOAD as f64 / MIB as f64;
    row(&format!("MiB a second delivered of a backlog of {mib:.0} MiB"), mib / elapsed, Explains);
    row("MiB of memory above idle meanwhile", (most - idle) / 1024.0, AtMost(16.0));
    row("  of the processor, cores", machine::processor_seconds(site.process())? / elapsed, Explains);
    row("messages of it that arrived, of 100", 100.0 * delivered(&site)? / count, AtLeast(100.0));
    Ok(())
}

/// Waits until nothing comes in any more, and what came in last is on flash: what is killed then loses nothing.
fn settle(site: &Site) -> Outcome<()> {
    let mut before = received(site)?;
    loop {
        thread::sleep(COMMITTED_WITHIN);
        let now = received(site)?;
        if now == before {
            return Ok(());
        }
        before = now;
    }
}

fn received(site: &Site) -> Outcome<f64> {
    Ok(number(&site.status()?, "/books/received"))
}

fn delivered(site: &Site) -> Outcome<f64> {
    Ok(number(&site.status()?, "/books/delivered"))
}

fn simulate(site: &Site, objects: u64, words: &[&str], seconds: u64) -> Outcome<Child> {
    let (objects, time) = (objects.to_string(), format!("{seconds}s"));
    let mut command = Command::new(PROGRAM);
    command.args(["simulate", "--objects", &objects, "--for", &time]).args(words);
    command.arg("--config").arg(site.config()).env_remove("RUNTIME_DIRECTORY");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(told)
}

/// How often a process flushes within so many seconds, as strace counts it.
fn count_flushes(process: u32, seconds: u64) -> Outcome<u64> {
    let (process, time) = (process.to_string(), seconds.to_string());
    let strace = ["--signal=INT", &time, "strace", "-f", "-qq", "-c", "-U", "calls,name"];
    let output = Command::new("timeout")
        .args(strace)
        .args(["-e", "trace=fdatasync,fsync", "-p", &process])
        .output()
        .map_err(|error| format!("strace: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let counts = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let count: u64 = words.next()?.parse().ok()?;
        matches!(words.next()?, "fdatasync" | "fsync").then_some(count)
    });
    let counts: Vec<u64> = counts.collect();
    if counts.is_empty() { Err(format!("strace counted nothing: {text}")) } else { Ok(counts.iter().sum()) }
}
