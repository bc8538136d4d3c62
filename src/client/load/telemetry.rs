//! Telemetry as load, from a thread of its own: at full speed it would starve the sessions of theirs.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::pace::{Next, Pace};
use super::shared::Shared;
use crate::client::counters::Kind;
use crate::client::datagram::Sender;
use crate::sys::DATAGRAMS_PER_CALL;

/// Sleeps are at least this long, so that a high rate goes out in batches and not one by one.
const SLEEP_MIN: Duration = Duration::from_micros(500);
/// Sleeps are at most this long, so that the end of the load is seen.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// The tokens are looked up again this often: they are renewed while the load runs.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Sends until the load ends.
pub(super) fn run(shared: &Shared, address: SocketAddr) -> io::Result<()> {
    let mut sender = Sender::connect(address)?;
    while !shared.begun.is_open() && !shared.ended.is_open() {
        thread::sleep(SLEEP_MAX);
    }
    let mut pace = Pace::new(shared.plan.telemetry, Instant::now());
    let mut tokens = Vec::new();
    let mut next_look = Instant::now();
    let mut turn = 0_usize;
    while !shared.ended.is_open() {
        let now = Instant::now();
        if now >= next_look {
            tokens = shared.tokens();
            next_look = now + LOOK_EVERY;
        }
        if tokens.is_empty() {
            thread::sleep(SLEEP_MAX);
            continue;
        }
        let (due, next) = pace.take_many(now, DATAGRAMS_PER_CALL);
        for token in (turn..turn.saturating_add(due)).filter_map(|turn| tokens.get(turn % tokens.len())) {
            sender.push(*token, shared.payload());
        }
        turn = turn.wrapping_add(due);
        if due > 0 {
            send(shared, &mut sender, due);
        }
        match next {
            Next::Now => {}
            Next::At(at) => thread::sleep(at.saturating_duration_since(now).clamp(SLEEP_MIN, SLEEP_MAX)),
            Next::Never => thread::sleep(SLEEP_MAX),
        }
    }
    Ok(())
}

fn send(shared: &Shared, sender: &mut Sender, due: usize) {
    let sent = match sender.send() {
        Ok(sent) => sent,
        Err(error) => {
            shared.counters.fail(Kind::TelemetryFailed, &error);
            // Nobody there, most likely: there is no use in asking a million times a second.
            thread::sleep(SLEEP_MIN);
            return;
        }
    };
    shared.counters.add(Kind::TelemetrySent, sent as u64);
    shared.counters.add(Kind::TelemetryFailed, due.saturating_sub(sent) as u64);
}
