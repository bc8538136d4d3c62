//! What the concentrator is doing, as one snapshot: behind `status`, `/v1/status` and `/metrics`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::delivery::books::{self, Line};

/// The snapshot. Counters count from the start of the process.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// production, staging or test.
    pub environment: String,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Whether it takes work.
    pub ready: bool,
    /// Whether the machine knows the time.
    pub clock_is_set: bool,
    /// Connections and sessions.
    pub sessions: Sessions,
    /// What passed in the last seconds.
    pub rates: Rates,
    /// How long things took, since the start.
    pub latency: Latencies,
    /// What waits in the journal.
    pub queue: Queue,
    /// The file system of the state folder.
    pub disk: Disk,
    /// Calls, by how they ended.
    pub calls: Calls,
    /// Telemetry: where every datagram went.
    pub books: Books,
    /// Messages that were recorded since the journal was made, by kind.
    pub recorded: BTreeMap<&'static str, u64>,
    /// Where messages go, each with what waits for it.
    pub destinations: Vec<Destination>,
    /// The listeners' certificate; absent if its dates cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// What the program writes; absent where the kernel does not count it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wear: Option<Wear>,
    /// The backups of every night; absent where none are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backups>,
    /// How well second tries of partner networks are known; absent where nothing is brought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_tries: Option<SecondTries>,
    /// Refusals on all ways in, by cause.
    pub refusals: BTreeMap<String, u64>,
    /// The share of the time in which it served.
    pub availability: Availability,
    /// What an operator should act upon now.
    pub alerts: Vec<Alert>,
}

/// What is known of messages of partner networks, to tell their second tries from new messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SecondTries {
    /// Messages whose second try would be known.
    pub known: u64,
    /// Messages that went before their 24 hours, for want of room, since the start.
    pub crowded_out: u64,
    /// How old a message may be for its second try to be known.
    pub window_seconds: u64,
}

/// Connections and sessions, now.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sessions {
    /// Sessions of objects that are connected.
    pub live: u64,
    /// Sessions that await their object's return.
    pub kept: u64,
    /// Connections that have not logged in.
    pub unauthenticated: u64,
    /// Whether the central has a live session.
    pub central: bool,
    /// Connections of each listener.
    pub by_listener: BTreeMap<String, u64>,
    /// Logins that succeeded.
    pub logins: u64,
}

/// A second's worth, averaged over the last seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Requests handed to objects or the central.
    pub requests_per_second: f64,
    /// Telemetry datagrams taken.
    pub telemetry_per_second: f64,
    /// Telemetry messages delivered to the central.
    pub delivered_per_second: f64,
}

/// What is measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Latencies {
    /// From a request that was taken to its answer by who was asked, both directions.
    pub calls: Latency,
    /// From a datagram that was taken to its delivery.
    pub telemetry: Latency,
}

/// Durations as they are distributed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// All of them together.
    pub sum_seconds: f64,
    /// Half of them took no longer, to the nearest power of two or better; null if there are none.
    pub p50_seconds: Option<f64>,
    /// 99 of 100 took no longer, as exact as the other.
    pub p99_seconds: Option<f64>,
    /// In the order of their bounds; each counts those before it, too.
    pub buckets: Vec<Bucket>,
}

/// Some durations of a distribution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Bucket {
    /// Seconds that none of them exceeds.
    pub le: f64,
    /// How many.
    pub count: u64,
}

/// What waits in the journal for the central.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Queue {
    /// Messages.
    pub messages: u64,
    /// Bytes that they take, overhead included.
    pub bytes: u64,
    /// Bytes at most.
    pub limit: u64,
    /// Commands that wait for their object.
    pub commands: u64,
}

/// A file system, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Disk {
    /// Its size.
    pub total: u64,
    /// What is free for the service's user.
    pub free: u64,
}

/// Calls in both directions.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Calls {
    /// Await their answer now.
    pub pending: u64,
    /// Answered by who was asked.
    pub answered: u64,
    /// Answered 0xA0.
    pub not_found: u64,
    /// Answered 0xA1.
    pub timed_out: u64,
    /// Given up by who asked.
    pub abandoned: u64,
}

/// Received = delivered + waiting + dropped, since the journal was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Books {
    /// Telemetry taken.
    pub received: u64,
    /// Delivered to the central.
    pub delivered: u64,
    /// Not delivered yet.
    pub waiting: u64,
    /// Given up after it was taken, by cause.
    pub dropped: BTreeMap<String, u64>,
    /// The same for each group.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Books>,
}

impl Books {
    /// The books of a destination.
    pub fn of(books: &books::Books) -> Self {
        let groups =
            books.lines().iter().map(|(group, line)| (group.as_str().to_owned(), Self::of_line(line)));
        Self { groups: groups.collect(), ..Self::of_line(&books.sum()) }
    }

    fn of_line(line: &Line) -> Self {
        Self {
            received: line.received,
            delivered: line.delivered,
            waiting: line.waiting(),
            dropped: dropped(line),
            groups: BTreeMap::new(),
        }
    }
}

/// What was given up after it was taken, by cause.
pub fn dropped(line: &Line) -> BTreeMap<String, u64> {
    let dropped = [
        ("expired", line.expired),
        ("oldest_for_room", line.made_room),
        ("refused_for_room", line.refused),
        ("damaged", line.damaged),
        ("dead", line.dead),
    ];
    dropped.into_iter().map(|(cause, count)| (cause.to_owned(), count)).collect()
}

/// Where messages go.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Destination {
    /// "central", or a subscriber's name.
    pub name: String,
    /// The way that is open now: "session", "webhook" or "none".
    pub via: &'static str,
    /// "up", "failing", "away" or, if it said that it wants nothing more, "suspended".
    pub state: &'static str,
    /// Messages that it does not have yet.
    pub waiting: u64,
    /// Messages that it has.
    pub delivered: u64,
    /// Messages that it got in a second, averaged over the last seconds.
    pub delivered_per_second: f64,
    /// Attempts that failed.
    pub failures: u64,
    /// Why the last one did; absent if none did since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Messages that it never got, by cause: they had to leave the journal first, or were given up.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, u64>,
    /// Received = delivered + waiting + dropped, for each group; absent for the central, whose are in [`Status::books`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Books>,
    /// Messages on its dead-letter list.
    pub dead_letters: u64,
    /// Until nothing waits, if everything goes on as in the last seconds; null: what waits does not become less.
    pub drain_seconds: Option<f64>,
}

/// A certificate's end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The last moment of its validity, RFC 3339.
    pub not_after: String,
    /// Whole days until then; negative when it is over.
    pub days_left: i64,
}

/// What the program writes to its medium, and how long that may go on.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Wear {
    /// Bytes that it caused to be written since its start.
    pub written_bytes: u64,
    /// The same for a day, at the average since the start; absent until it ran for an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_per_day_bytes: Option<u64>,
    /// What everybody wrote to the medium, for a day, at the average since the machine started; absent where the kernel
    /// does not count it, and for the first hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub medium_written_per_day_bytes: Option<u64>,
    /// Bytes that the program caused to be written for each byte of payload that it recorded, since its start; absent
    /// until that was a MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_amplification: Option<f64>,
    /// How much of the medium's life is used by its own account, in percent; absent if it tells nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub life_used_percent: Option<u8>,
    /// The medium's reserve of good blocks by its own account: "normal", "low" or "urgent"; absent if it tells nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve: Option<&'static str>,
    /// Years until the medium is used up by all that is written to it, if it is a cheap one; absent for the first hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub years_left: Option<f64>,
}

/// The backups of every night.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Backups {
    /// When the newest was made that a trial restore proved, RFC 3339; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Its name in the folder of backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its length.
    pub bytes: u64,
    /// Messages in it.
    pub messages: u64,
    /// When it was made, in seconds since 1970; 0 if there is none.
    pub last_unix: i64,
    /// When the next is due; absent while the clock is not known to be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Why there is no newer one, if it was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Since when it is in the second place too; absent if there is no such place, or it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied: Option<String>,
    /// Why it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_error: Option<String>,
    /// More than one night has none.
    pub is_old: bool,
}

/// How much of the time it served, over restarts; absent while the machine does not know the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Availability {
    /// Of the last 30 days, or since the journal was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days_30: Option<f64>,
    /// Of the last 365 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days_365: Option<f64>,
}

/// Something an operator should act upon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// A short stable name.
    pub name: String,
    /// With whom or what; absent if there is only one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Whether something is lost, or about to be.
    pub urgent: bool,
    /// What is wrong and who must act.
    pub sentence: String,
    /// Since when, RFC 3339.
    pub since: String,
}
