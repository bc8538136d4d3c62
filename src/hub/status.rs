//! What the concentrator is doing, as one snapshot: behind `status`, `/v1/status` and `/metrics`.

use std::collections::BTreeMap;

use serde::Serialize;

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
    /// Connections and sessions.
    pub sessions: Sessions,
    /// What passed in the last seconds.
    pub rates: Rates,
    /// What waits in memory.
    pub queue: Queue,
    /// The file system of the state folder.
    pub disk: Disk,
    /// Calls, by how they ended.
    pub calls: Calls,
    /// Telemetry: where every datagram went.
    pub books: Books,
    /// Refusals on all ways in, by cause.
    pub refusals: BTreeMap<String, u64>,
    /// What an operator should act upon now.
    pub alerts: Vec<Alert>,
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
}

/// What waits in memory for an absent peer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Queue {
    /// Messages.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Bytes at most.
    pub limit: u64,
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

/// Received = delivered + waiting + dropped.
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
}

/// Something an operator should act upon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// A short stable name.
    pub name: String,
    /// What is wrong and who must act.
    pub sentence: String,
    /// Since when, RFC 3339.
    pub since: String,
}
