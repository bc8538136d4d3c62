//! What it takes: memory of the process, idle and held, and the size of the program.

use std::fs;
use std::thread;
use std::time::Duration;

use super::load::Load;
use super::row::{Bound, Figure, Measured, Row};
use super::site::{PROGRAM, Site, number};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    Row {
        name: "idle",
        what: "idle process, empty access list",
        figures: &[Figure { name: "RSS MiB", bound: Bound::AtMost(10.0) }],
        measure: |_| idle(),
    },
    Row {
        name: "sessions-1000",
        what: "1,000 idle TLS sessions",
        figures: SESSIONS,
        measure: |_| sessions(1_000),
    },
    Row {
        name: "sessions-10000",
        what: "10,000 idle TLS sessions",
        figures: SESSIONS,
        measure: |_| sessions(10_000),
    },
    Row {
        name: "held-calls",
        what: "1,000 HTTPS calls held at once, 20 objects",
        figures: &[
            Figure { name: "RSS MiB more", bound: Bound::AtMost(40.0) },
            Figure { name: "RSS MiB more, afterwards", bound: Bound::None },
        ],
        measure: |_| held_calls(),
    },
    Row {
        name: "binary",
        what: "the program, stripped",
        figures: &[Figure { name: "size MiB", bound: Bound::AtMost(6.0) }],
        measure: |_| binary(),
    },
];

const SESSIONS: &[Figure] = &[
    Figure { name: "KiB a session", bound: Bound::AtMost(12.0) },
    Figure { name: "sessions lost", bound: Bound::AtMost(0.0) },
    Figure { name: "RSS MiB before", bound: Bound::None },
    Figure { name: "RSS MiB with them", bound: Bound::None },
    Figure { name: "RSS MiB after they left", bound: Bound::None },
    Figure { name: "RSS MiB with them again", bound: Bound::None },
];

const KIB_PER_MIB: f64 = 1024.0;
const BYTES_PER_MIB: f64 = 1024.0 * 1024.0;
/// Who was busy a moment ago is given this time to become idle.
const SETTLE: Duration = Duration::from_millis(500);

fn idle() -> Result<Measured, String> {
    let site = Site::start(0)?;
    thread::sleep(SETTLE);
    Ok(Measured { values: vec![site.resident_kib()? / KIB_PER_MIB], busy: None })
}

fn sessions(count: u32) -> Result<Measured, String> {
    let mut site = Site::start(count as usize)?;
    thread::sleep(SETTLE);
    let before = site.resident_kib()?;
    let first = visit(&mut site, count)?;
    let after = site.resident_kib()?;
    // What is not given back to the system is at least used again.
    let second = visit(&mut site, count)?;
    let values = vec![
        (first.with - before) / f64::from(count),
        first.lost + second.lost,
        before / KIB_PER_MIB,
        first.with / KIB_PER_MIB,
        after / KIB_PER_MIB,
        second.with / KIB_PER_MIB,
    ];
    Ok(Measured { values, busy: None })
}

/// Sessions that came and left: KiB that the process had with all of them, and how many were lost.
struct Visit {
    with: f64,
    lost: f64,
}

fn visit(site: &mut Site, count: u32) -> Result<Visit, String> {
    // Long enough to be looked at once all are in.
    let load = Load::start(site, &format!("--objects {count} --rate 0 --for 3s"))?;
    site.wait_until("all sessions are live", |status| number(status, "/sessions/live") == f64::from(count))?;
    thread::sleep(SETTLE);
    let with = site.resident_kib()?;
    let outcome = load.finish()?.without_errors()?;
    site.wait_until("all sessions have ended", |status| number(status, "/sessions/live") == 0.0)?;
    thread::sleep(SETTLE);
    Ok(Visit { with, lost: outcome.count("session_lost") })
}

fn held_calls() -> Result<Measured, String> {
    let mut site = Site::start(20)?;
    thread::sleep(SETTLE);
    let before = site.resident_kib()?;
    let load = Load::start(&site, "--objects 20 --callers 1000 --answer-after 8s --for 12s")?;
    site.wait_until("all calls are held", |status| number(status, "/calls/pending") == 1000.0)?;
    thread::sleep(SETTLE);
    let with = site.resident_kib()?;
    load.finish()?.without_errors()?;
    site.wait_until("nobody is connected", |status| number(status, "/sessions/by_listener/api") == 0.0)?;
    thread::sleep(SETTLE);
    let after = site.resident_kib()?;
    let values = vec![(with - before) / KIB_PER_MIB, (after - before) / KIB_PER_MIB];
    Ok(Measured { values, busy: None })
}

fn binary() -> Result<Measured, String> {
    let size = fs::metadata(PROGRAM).map_err(|error| format!("{PROGRAM}: {error}"))?.len();
    Ok(Measured { values: vec![size as f64 / BYTES_PER_MIB], busy: None })
}
