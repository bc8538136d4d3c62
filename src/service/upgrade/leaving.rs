//! A service leaves its place to a newer version: nothing new is begun, sessions go, the journal is closed. Calls that can
//! still be finished are finished here.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use smol::Task;
use smol::channel::Sender;

use super::held::{Datagrams, Held};
use crate::endpoint::http::server::Server;
use crate::hub::auditing::{Deed, What};
use crate::hub::{Hub, lock};
use crate::logfmt::Quoted;
use crate::router::Serial;
use crate::service::config::Config;
use crate::service::listen::Sockets;
use crate::service::view::View;
use crate::service::{GOODBYE_GRACE, Service, wait};
use crate::wire::CloseCode;

/// How long clients of the API are answered on, and told with it that their connections close, before sessions go.
const GOODBYE: Duration = Duration::from_millis(300);
/// Sessions go one after the other, so that their devices do not come back all at once: so long each, and all of them.
const SPREAD: Duration = Duration::from_micros(400);
const SPREAD_MAX: Duration = Duration::from_secs(3);
/// How often some of them are told.
const STEP: Duration = Duration::from_millis(10);
/// How long the last ones may take to hear it, and calls that are nearly over to end.
const GOING: Duration = Duration::from_millis(300);
/// The longest that a call can still take: no `max_wait` of a sane site is longer.
const LAST_CALLS: Duration = Duration::from_secs(35);

/// What is left of a service that gave its journal away: calls that are to be finished.
#[derive(Debug)]
pub struct Leftover {
    config: Config,
    view: Arc<View>,
    server: Arc<Mutex<Server>>,
    /// Calls up to here.
    last_call: Serial,
    held: Option<Held>,
    stop: Sender<()>,
    threads: Vec<JoinHandle<()>>,
    _timers: Vec<Task<()>>,
}

impl Leftover {
    /// Leaves. Lock and sockets stay where they are.
    pub fn of(service: Service, sockets: &Sockets) -> Self {
        let Service { view, server, config, listeners, upkeep, stop, threads, .. } = service;
        let Service { journal, subscribers, maintenance, nightly, lookout, blackbox, .. } = service;
        let hub = Arc::clone(&view.hub);
        let config = config.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut listeners = listeners.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        view.set_draining();
        // Who connects now waits for the newer version. Datagrams are taken on.
        listeners.truncate(1);
        lock(&server).say_goodbye();
        hub.stop_telemetry();
        wait(GOODBYE, || lock(&server).connections() == 0);
        lock(&server).drain();
        close_sessions(&hub);
        let last_call = hub.keep_calls_here();
        listeners.clear();
        let held = sockets.datagrams().and_then(|socket| Held::start(socket, config.telemetry.max_datagram));
        let held = held.inspect_err(|error| {
            log::warn!("event=datagrams_not_held error={}", Quoted(error));
        });
        // The timers of calls go on, those of files do not.
        let mut timers = upkeep;
        timers.truncate(1);
        subscribers.stop(GOING);
        hub.record_soon();
        drop((maintenance, nightly, lookout, blackbox));
        hub.audit(Deed::own(What::Stopped, ""));
        hub.tick_audit(true);
        journal.stop();
        hub.leave_journal();
        let threads = threads.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Self { config, view, server, last_call, held: held.ok(), stop, threads, _timers: timers }
    }

    /// Reads no more datagrams; gives what came in.
    pub fn take_datagrams(&mut self) -> Datagrams {
        self.held.take().map(Held::stop).unwrap_or_default()
    }

    /// Tells sessions whose calls are over that they go on elsewhere; whether all are gone.
    pub fn close_what_is_over(&self) -> bool {
        let hub = &self.view.hub;
        hub.close_idle(CloseCode::ResourcesFreed, usize::MAX, self.last_call);
        hub.open_counts() == (0, 0)
    }

    /// Finishes the calls, and ends.
    pub fn finish(self) {
        wait(LAST_CALLS, || self.close_what_is_over());
        self.end();
    }

    /// Ends, whatever is unfinished. Gives the configuration that was in force.
    pub fn end(self) -> Config {
        let hub = &self.view.hub;
        hub.time_out_http_calls();
        hub.close_all(CloseCode::ResourcesFreed);
        let is_quiet = || self.view.tcp.admission.connections() == 0 && lock(&self.server).connections() == 0;
        wait(GOODBYE_GRACE, is_quiet);
        self.view.webhooks.pool().stop(GOODBYE_GRACE);
        self.stop.close();
        for thread in self.threads {
            let _ended = thread.join();
        }
        self.config
    }
}

/// Tells the sessions that have nothing pending, a few at a time, and waits for the others as long as that takes.
fn close_sessions(hub: &Hub) {
    let sessions = hub.open_counts().0;
    let spread = SPREAD.saturating_mul(u32::try_from(sessions).unwrap_or(u32::MAX)).min(SPREAD_MAX);
    let steps = usize::try_from(spread.as_micros() / STEP.as_micros()).unwrap_or(0) + 1;
    let deadline = Instant::now() + spread + GOING;
    while hub.open_counts().0 > 0 && Instant::now() < deadline {
        hub.close_idle(CloseCode::ResourcesFreed, sessions.div_ceil(steps), Serial::MAX);
        std::thread::sleep(STEP);
    }
}
