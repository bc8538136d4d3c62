//! What is measured beside the peers, how each does it, and what ours should reach.

use std::time::Duration;

use super::crowd::{self, Outcome};
use super::peer::Kind;
use super::row::{Measured, Row, Settings};
use super::{ingest, memory, speed};

/// The same work, done by several programs.
pub struct Contest {
    /// What it is asked for by.
    pub name: &'static str,
    /// The work.
    pub what: &'static str,
    /// What is told of each; the first one is judged.
    pub figures: &'static [Figure],
    /// Ours.
    pub own: Entry,
    /// The others, and how many times as good as each ours should be.
    pub peers: &'static [(Entry, Wanted)],
    /// Where a profile found our time, for a target that is missed.
    pub profile: &'static str,
}

/// A figure of every program of a contest.
pub struct Figure {
    /// What it counts, with its unit.
    pub name: &'static str,
    /// What is good.
    pub good: Good,
}

/// What is good of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Good {
    /// Much.
    More,
    /// Little.
    Less,
    /// It explains another figure, and has no ratio.
    Neither,
}

/// A program, and how it does the work.
pub struct Entry {
    /// Which one.
    pub who: &'static str,
    /// How: ways, encryption, durability.
    pub how: &'static str,
    /// One run: a value for each figure.
    pub measure: fn(&Settings) -> Result<Measured, String>,
}

/// What the first figure's ratio should be.
#[derive(Debug, Clone, Copy)]
pub enum Wanted {
    /// Ours is ahead.
    Ahead,
    /// Ours reaches this share, since it promises more.
    Share(f64),
}

const fn more(name: &'static str) -> Figure {
    Figure { name, good: Good::More }
}

const fn less(name: &'static str) -> Figure {
    Figure { name, good: Good::Less }
}

const OURS: &str = "iotsocketd";
const MOSQUITTO: &str = "mosquitto";
const NATS: &str = "nats-server";

const CALLS: &[Figure] = &[more("calls/s"), less("p50 us"), less("p99 us"), SERVER, LOAD];
const SERVER: Figure = less("server us each");
const LOAD: Figure = less("load us each");
const TOPICS: &str =
    "a topic for the requests of each object and one for the answers of each caller, QoS 0, TLS";
const REPLIES: &str = "core requests with a reply subject, TLS";

const HTTP_PROFILE: &str = "of the processor time of a call over HTTPS 61 % is the kernel's, half of that for the two messages that are sent, 30 % \
     the program's (HTTP and its head, JSON of the payload, TLS records, router, journal; no function has more than 1 %) and \
     7 % that of memory. Peers have a binary frame in the place of HTTP and JSON. The program is built for size: built for speed \
     (its own opt-level at 2) it answers 12 % more calls, and is 6.8 MiB large, where 6 are the bound";
const INGEST_PROFILE: &str = "of the instructions of a message 31 % map its body (half of that reads JSON), 35 % are HTTP, TLS and the executor, 14 % \
     the router, second tries and the record, 8 % the thread that flushes, 12 % clearing of memory that was given up since. \
     Peers keep the bytes as they came. Built for speed it would take 5 % more, see callers";

/// All of them.
pub const CONTESTS: &[Contest] = &[
    Contest {
        name: "calls",
        what: "Calls: one caller, 32 in flight to 32 objects, 64 bytes and the same back",
        figures: &[more("calls/s"), less("p99 us"), SERVER, LOAD],
        own: Entry {
            who: OURS,
            how: "central over TCP, TLS; written to flash later: the heads of calls",
            measure: |settings| own(speed::ROWS, "calls-32", settings),
        },
        peers: &[
            (
                Entry {
                    who: MOSQUITTO,
                    how: TOPICS,
                    measure: |settings| calls_32(Kind::Mosquitto, settings),
                },
                Wanted::Ahead,
            ),
            (
                Entry { who: NATS, how: REPLIES, measure: |settings| calls_32(Kind::Nats, settings) },
                Wanted::Ahead,
            ),
        ],
        profile: "",
    },
    Contest {
        name: "callers",
        what: "Calls: 16 callers, each with a connection and a call in flight, to 16 objects, 64 bytes and the same back",
        figures: CALLS,
        own: Entry {
            who: OURS,
            how: "HTTPS keep-alive; written to flash later: the heads of calls",
            measure: |settings| own(speed::ROWS, "https", settings),
        },
        peers: &[
            (
                Entry { who: MOSQUITTO, how: TOPICS, measure: |settings| callers(Kind::Mosquitto, settings) },
                Wanted::Ahead,
            ),
            (
                Entry { who: NATS, how: REPLIES, measure: |settings| callers(Kind::Nats, settings) },
                Wanted::Ahead,
            ),
        ],
        profile: HTTP_PROFILE,
    },
    Contest {
        name: "sessions",
        what: "Memory: 1,000 idle sessions over TLS, each of which can be called",
        figures: &[less("KiB a session")],
        own: Entry { who: OURS, how: "sessions of objects", measure: own_sessions },
        peers: &[
            (
                Entry { who: MOSQUITTO, how: "a subscription each", measure: |_| sessions(Kind::Mosquitto) },
                Wanted::Ahead,
            ),
            (
                Entry { who: NATS, how: "a subscription each", measure: |_| sessions(Kind::Nats) },
                Wanted::Ahead,
            ),
        ],
        profile: "",
    },
    Contest {
        name: "logins",
        what: "Logins: TLS connections that log in and leave, never resumed, 32 at the same moment",
        figures: &[more("logins/s"), SERVER, LOAD],
        own: Entry {
            who: OURS,
            how: "each proves that it has its key; a token on flash later",
            measure: |settings| own(speed::ROWS, "logins", settings),
        },
        peers: &[
            (
                Entry {
                    who: MOSQUITTO,
                    how: "anybody is let in, nothing is proven",
                    measure: |settings| logins(Kind::Mosquitto, settings),
                },
                Wanted::Ahead,
            ),
            (
                Entry {
                    who: NATS,
                    how: "anybody is let in, nothing is proven",
                    measure: |settings| logins(Kind::Nats, settings),
                },
                Wanted::Ahead,
            ),
        ],
        profile: "",
    },
    Contest {
        name: "telemetry",
        what: "Telemetry: 100 senders in clear text, as fast as they can, 64 bytes each, to one receiver under TLS",
        figures: &[more("received/s"), Figure { name: "lost of 100", good: Good::Neither }, SERVER],
        own: Entry {
            who: OURS,
            how: "UDP to the central over TCP; on flash 100 ms later; what the kernel has no room for is lost",
            measure: own_telemetry,
        },
        peers: &[
            (
                Entry {
                    who: MOSQUITTO,
                    how: "TCP, QoS 0; never on flash",
                    measure: |settings| telemetry(Kind::Mosquitto, settings),
                },
                Wanted::Ahead,
            ),
            (
                Entry {
                    who: NATS,
                    how: "TCP, core; never on flash",
                    measure: |settings| telemetry(Kind::Nats, settings),
                },
                Wanted::Ahead,
            ),
        ],
        profile: "",
    },
    Contest {
        name: "ingest",
        what: "Ingest: 64 callers under TLS, each with one message of about 450 bytes in flight that is kept and acknowledged",
        figures: &[more("messages/s"), less("p50 ms"), less("p99 ms"), SERVER],
        own: Entry {
            who: OURS,
            how: "HTTPS; on flash before the 200; second tries are found",
            measure: own_ingest,
        },
        peers: &[
            (
                Entry {
                    who: MOSQUITTO,
                    how: "QoS 1, persistence on, kept for a subscriber that is away: in memory when it is acknowledged, \
                          on flash half an hour later",
                    measure: |settings| keep(Kind::Mosquitto, settings),
                },
                Wanted::Share(0.5),
            ),
            (
                Entry {
                    who: NATS,
                    how: "JetStream, files, as it comes: written when it is acknowledged, on flash up to 2 minutes later",
                    measure: |settings| keep(Kind::Nats, settings),
                },
                Wanted::Share(0.5),
            ),
            (
                Entry {
                    who: NATS,
                    how: "JetStream, files, sync_interval always: on flash when it is acknowledged",
                    measure: |settings| keep(Kind::NatsAlways, settings),
                },
                Wanted::Ahead,
            ),
        ],
        profile: INGEST_PROFILE,
    },
];

/// A row of our own benchmark, whose figures begin as the contest's do.
fn own(rows: &[Row], name: &str, settings: &Settings) -> Result<Measured, String> {
    let row = rows.iter().find(|row| row.name == name).ok_or_else(|| format!("there is no row {name}"))?;
    (row.measure)(settings)
}

fn own_sessions(settings: &Settings) -> Result<Measured, String> {
    let mut measured = own(memory::ROWS, "sessions-1000", settings)?;
    measured.values.truncate(1);
    Ok(measured)
}

fn own_telemetry(settings: &Settings) -> Result<Measured, String> {
    let Measured { values, busy } = own(speed::ROWS, "telemetry", settings)?;
    let (Some(busy), [received, _, sent, ..]) = (busy, values.as_slice()) else {
        return Err("the row of telemetry has other figures".to_owned());
    };
    let cost = busy.server * 1e6 / (received * f64::from(settings.seconds)).max(1.0);
    Ok(Measured { values: vec![*received, 100.0 * (1.0 - received / sent.max(1.0)), cost], busy: Some(busy) })
}

fn own_ingest(settings: &Settings) -> Result<Measured, String> {
    let mut measured = own(ingest::ROWS, "ingest", settings)?;
    let (Some(busy), Some(rate)) = (measured.busy, measured.values.first()) else {
        return Err("the row of ingest has other figures".to_owned());
    };
    measured.values.push(busy.server * 1e6 / (rate * busy.elapsed).max(1.0));
    Ok(measured)
}

fn time(settings: &Settings) -> Duration {
    Duration::from_secs(settings.seconds.into())
}

fn measured(values: Vec<f64>, outcome: &Outcome) -> Measured {
    Measured { values, busy: Some(outcome.busy) }
}

fn calls_32(kind: Kind, settings: &Settings) -> Result<Measured, String> {
    let outcome = crowd::calls(kind, 32, 1, 32, time(settings))?;
    let [server, load] = outcome.cost_us();
    Ok(measured(vec![outcome.rate(), outcome.delay_us(0.99), server, load], &outcome))
}

fn callers(kind: Kind, settings: &Settings) -> Result<Measured, String> {
    let outcome = crowd::calls(kind, 16, 16, 1, time(settings))?;
    let [server, load] = outcome.cost_us();
    let delays = [0.5, 0.99].map(|share| outcome.delay_us(share));
    Ok(measured(vec![outcome.rate(), delays[0], delays[1], server, load], &outcome))
}

fn sessions(kind: Kind) -> Result<Measured, String> {
    Ok(Measured { values: vec![crowd::sessions(kind, 1_000)?], busy: None })
}

fn logins(kind: Kind, settings: &Settings) -> Result<Measured, String> {
    let outcome = crowd::logins(kind, time(settings))?;
    let [server, load] = outcome.cost_us();
    Ok(measured(vec![outcome.rate(), server, load], &outcome))
}

fn telemetry(kind: Kind, settings: &Settings) -> Result<Measured, String> {
    let (outcome, lost) = crowd::telemetry(kind, 100, time(settings))?;
    let [server, _] = outcome.cost_us();
    let lost = 100.0 * lost / (outcome.count + lost).max(1.0);
    Ok(measured(vec![outcome.rate(), lost, server], &outcome))
}

fn keep(kind: Kind, settings: &Settings) -> Result<Measured, String> {
    let outcome = crowd::ingest(kind, time(settings))?;
    let [server, _] = outcome.cost_us();
    let delays = [0.5, 0.99].map(|share| outcome.delay_us(share) / 1000.0);
    Ok(measured(vec![outcome.rate(), delays[0], delays[1], server], &outcome))
}
