//! Objects, a central, HTTP callers and telemetry as load, measured.
//!
//! Sessions and callers live on a few threads with an executor each and share nothing but counters; telemetry has a
//! thread of its own. The load first logs everybody in; when all have tried, the work and its measurement begin.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use async_io::Timer;
use smol::LocalExecutor;
use smol::lock::Semaphore;

mod callers;
mod central;
mod object;
mod pace;
mod shared;
mod telemetry;
#[cfg(test)]
mod tests;

pub use pace::Rate;

use super::counters::{Counters, Kind, Snapshot};
use super::session::{Handler, Outbox, drive};
use super::tls::Tls;
use crate::wire::{AuthKey, CloseCode, PAYLOAD_DATA_MAX, Transmission, Uid};
use object::Mailbox;
use pace::{Next, Pace};
use shared::Shared;

/// Who was thrown out comes back after this time.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);
/// At the end, goodbyes get this time.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(2);
/// Requests in flight at most: the tracking numbers that one central has.
pub const IN_FLIGHT_MAX: usize = u16::MAX as usize;
/// Threads at most.
pub const THREADS_MAX: usize = 64;
/// Own addresses to come from at most: 127.0.0.1 to 127.0.0.250.
pub const SOURCES_MAX: usize = 250;

/// The concentrator under load, and who may speak to it.
#[derive(Clone)]
pub struct Target {
    /// Where sessions are taken.
    pub sessions: SocketAddr,
    /// TLS of sessions; `None`: clear text.
    pub tls: Option<Tls>,
    /// Where telemetry is taken.
    pub telemetry: Option<SocketAddr>,
    /// The API, for callers.
    pub api: Option<Api>,
    /// The central's key, for a central over TCP.
    pub central: Option<AuthKey>,
    /// The objects that log in.
    pub objects: Vec<(Uid, AuthKey)>,
}

/// The concentrator's API.
#[derive(Clone)]
pub struct Api {
    /// Where it listens.
    pub address: SocketAddr,
    /// `None`: plain HTTP.
    pub tls: Option<Tls>,
    /// The central's key, or an API key that may call objects.
    pub bearer: AuthKey,
}

/// What the load shall be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whether a central is connected over TCP. It calls objects unless there are callers.
    pub central: bool,
    /// Calls that the central has in flight at most.
    pub in_flight: usize,
    /// HTTP callers, each with one call in flight.
    pub callers: usize,
    /// Calls to objects, all together.
    pub rate: Rate,
    /// Requests of objects to the central, all together; `Max` is taken as none, for an object has no window.
    pub asks: Rate,
    /// Telemetry datagrams, all together.
    pub telemetry: Rate,
    /// Bytes of each payload.
    pub payload: usize,
    /// Objects answer this much later.
    pub answer_after: Duration,
    /// Threads for sessions and callers.
    pub threads: usize,
    /// Logins at the same moment, all together.
    pub logins_at_once: usize,
    /// Nothing but logging in and leaving, again and again.
    pub logins: bool,
    /// Own loopback addresses to come from; 0 leaves it to the kernel. Only towards 127.0.0.0/8.
    pub sources: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            central: true,
            in_flight: 1,
            callers: 0,
            rate: Rate::Max,
            asks: Rate::None,
            telemetry: Rate::None,
            payload: 64,
            answer_after: Duration::ZERO,
            threads: 1,
            logins_at_once: 32,
            logins: false,
            sources: 0,
        }
    }
}

/// Why a load could not start.
#[derive(Debug)]
pub enum LoadError {
    /// A part of the plan needs something of the target that is not there.
    Missing(&'static str),
    /// A number of the plan is out of bounds.
    Bounds(&'static str),
    /// No thread or no socket.
    Io(io::Error),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => write!(f, "this load needs {what}"),
            Self::Bounds(what) => f.write_str(what),
            Self::Io(_) => f.write_str("cannot start the threads of the load"),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Missing(_) | Self::Bounds(_) => None,
            Self::Io(error) => Some(error),
        }
    }
}

/// A load that runs. Dropping it ends it without waiting.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What a load came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// All that happened until the load ended; rates are those of the time after the first logins.
    pub all: Snapshot,
    /// How long the first logins took, all together; `None` if the load ended before they were through.
    pub login_time: Option<Duration>,
}

impl Load {
    /// Starts to log in.
    pub fn start(target: Target, plan: Plan) -> Result<Self, LoadError> {
        check(&target, &plan)?;
        let shared = Arc::new(Shared::new(target, plan));
        let mut load = Self { shared, threads: Vec::new() };
        for index in 0..load.shared.plan.threads {
            let shared = Arc::clone(&load.shared);
            load.spawn(format!("load-{index}"), move || run(&shared, index))?;
        }
        let address = load.shared.target.telemetry.filter(|_| load.shared.plan.telemetry != Rate::None);
        if let Some(address) = address {
            let shared = Arc::clone(&load.shared);
            load.spawn("load-telemetry".to_owned(), move || {
                if let Err(error) = telemetry::run(&shared, address) {
                    shared.counters.fail(Kind::TelemetryFailed, &error);
                }
            })?;
        }
        Ok(load)
    }

    fn spawn(&mut self, name: String, work: impl FnOnce() + Send + 'static) -> Result<(), LoadError> {
        self.threads.push(Builder::new().name(name).spawn(work).map_err(LoadError::Io)?);
        Ok(())
    }

    /// Waits until everybody has tried to log in: true if they have within this time.
    pub fn wait_begun(&self, at_most: Duration) -> bool {
        let deadline = async {
            Timer::after(at_most).await;
        };
        smol::block_on(smol::future::or(self.shared.begun.wait(), deadline));
        self.shared.begun.is_open()
    }

    /// Where everything is counted, for who helps to count: a webhook's receiver counts the telemetry that it gets.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// What happened so far.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// Ends the load: everybody says goodbye.
    pub fn stop(mut self) -> Report {
        let report = Report { all: self.shared.snapshot(), login_time: self.shared.login_time() };
        self.shared.ended.open();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _result = thread.join();
        }
        report
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.ended.open();
    }
}

fn check(target: &Target, plan: &Plan) -> Result<(), LoadError> {
    let missing = [
        (plan.central && target.central.is_none(), "the central's key"),
        (plan.callers > 0 && target.api.is_none(), "the API's address"),
        (plan.telemetry != Rate::None && target.telemetry.is_none(), "the telemetry address"),
        (plan.logins && target.objects.is_empty(), "at least one object"),
    ];
    if let Some((_, what)) = missing.iter().find(|(missing, _)| *missing) {
        return Err(LoadError::Missing(what));
    }
    let bounds = [
        ((1..=IN_FLIGHT_MAX).contains(&plan.in_flight), "requests in flight must be 1 to 65535"),
        ((1..=THREADS_MAX).contains(&plan.threads), "threads must be 1 to 64"),
        ((1..=1000).contains(&plan.logins_at_once), "logins at once must be 1 to 1000"),
        (plan.payload <= PAYLOAD_DATA_MAX, "a payload has at most 65535 bytes"),
        (plan.sources <= SOURCES_MAX, "own addresses must be at most 250"),
    ];
    match bounds.iter().find(|(within, _)| !within) {
        Some((_, what)) => Err(LoadError::Bounds(what)),
        None => Ok(()),
    }
}

/// One thread: every `threads`-th object, and on the first one the central and the callers.
fn run(shared: &Shared, thread: usize) {
    let plan = &shared.plan;
    let permits = Semaphore::new(plan.logins_at_once.div_ceil(plan.threads));
    let executor = LocalExecutor::new();
    let objects = (thread..shared.target.objects.len()).step_by(plan.threads);
    let mut mailboxes = Vec::new();
    let mut tasks = Vec::new();
    if plan.logins {
        let count = plan.logins_at_once.div_ceil(plan.threads).min(objects.len());
        let objects: Vec<usize> = objects.collect();
        for worker in 0..count {
            let mine: Vec<usize> = objects.iter().copied().skip(worker).step_by(count).collect();
            tasks.push(executor.spawn(log_in_and_out(shared, mine)));
        }
    } else {
        for index in objects {
            let mailbox = Rc::new(Mailbox::default());
            mailboxes.push(Rc::clone(&mailbox));
            let permits = &permits;
            tasks.push(executor.spawn(async move { object::live(shared, index, &mailbox, permits).await }));
        }
    }
    let central = shared.target.central.filter(|_| plan.central && !plan.logins && thread == 0);
    let central_mailbox = Rc::new(Mailbox::default());
    if let Some(key) = central {
        let mailbox = Rc::clone(&central_mailbox);
        tasks.push(executor.spawn(async move { central::live(shared, key, &mailbox).await }));
    }
    if let Some(api) = shared.target.api.as_ref().filter(|_| thread == 0) {
        tasks.extend((0..plan.callers).map(|_| executor.spawn(callers::live(shared, api))));
    }
    let pacing = async {
        shared.begun.wait().await;
        central_mailbox.wake();
        make_ask(plan.asks.share(plan.threads), &mailboxes).await;
    };
    smol::block_on(executor.run(async {
        smol::future::or(shared.ended.wait(), pacing).await;
        for mailbox in mailboxes.iter().chain([&central_mailbox]) {
            mailbox.leave();
        }
        let goodbyes = async {
            for task in tasks {
                task.await;
            }
        };
        let deadline = async {
            Timer::after(LEAVE_TIME_MAX).await;
        };
        smol::future::or(goodbyes, deadline).await;
    }));
}

/// Lets the objects ask the central in turn. Never ends.
async fn make_ask(rate: Rate, mailboxes: &[Rc<Mailbox>]) {
    let rate = if mailboxes.is_empty() || rate == Rate::Max { Rate::None } else { rate };
    let mut pace = Pace::new(rate, Instant::now());
    let mut turn = mailboxes.iter().cycle();
    loop {
        match pace.take(Instant::now()) {
            Next::Now => {
                if let Some(mailbox) = turn.next() {
                    mailbox.ask();
                }
            }
            Next::At(at) => {
                Timer::at(at).await;
            }
            Next::Never => smol::future::pending().await,
        }
    }
}

/// Leaves as soon as it is in.
struct Leaver;

impl Handler for Leaver {
    fn handle(&mut self, _transmission: Transmission<'_>, _out: &mut Outbox) {}

    fn poll(&mut self, _cx: &mut std::task::Context<'_>, out: &mut Outbox) {
        out.leave(CloseCode::Maintenance);
    }
}

async fn log_in_and_out(shared: &Shared, objects: Vec<usize>) {
    for index in objects.into_iter().cycle() {
        if shared.ended.is_open() {
            return;
        }
        match object::log_in(shared, index).await {
            // How it ends is of no interest: the login has been counted.
            Ok(stream) => drop(drive(stream, &mut Leaver).await),
            Err(_counted) => drop(Timer::after(RECONNECT_AFTER).await),
        }
    }
}

/// The own address of an object: spread over a few of the loopback network, for a load has more connections than one
/// address has ports, or than one address may open.
fn source(target: SocketAddr, sources: usize, index: usize) -> Option<IpAddr> {
    let last = u8::try_from(index.checked_rem(sources)? + 1).ok()?;
    match target.ip() {
        IpAddr::V4(address) if address.is_loopback() => Some(Ipv4Addr::new(127, 0, 0, last).into()),
        _ => None,
    }
}
