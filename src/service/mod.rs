//! Building, starting, reloading and draining the concentrator; its configuration.
//!
//! [`Service::start`] takes a checked configuration to a running concentrator, [`Service::reload`] takes up changes,
//! [`Service::drain`] ends it so that nothing acknowledged is lost. `run` and `demo` use the same three.

pub mod certificate;
pub mod config;
mod listen;
mod settings;
mod state;
mod watch;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use async_io::Timer;
use smol::channel::{Receiver, Sender};
use smol::{Executor, Task};

use crate::endpoint::admission::Admission;
use crate::endpoint::tcp::TcpServer;
use crate::endpoint::tls::Certificates;
use crate::endpoint::udp::UdpServer;
use crate::endpoint::webhook::Webhooks;
use crate::hub::access_keeper::AccessKeeper;
use crate::hub::{Hub, access_file, lock};
use crate::wire::CloseCode;
use config::Config;
use state::StateFolder;

/// Threads of the executor at most; more cores than that are for the system's own work.
const THREADS_MAX: usize = 4;
/// How long held HTTP calls may still wait for their answers at the end.
const CALLS_GRACE: Duration = Duration::from_secs(3);
/// How long sessions may take to hear that they end, and webhooks to finish.
const GOODBYE_GRACE: Duration = Duration::from_secs(2);
/// How often the end looks whether it is reached.
const DRAIN_STEP: Duration = Duration::from_millis(20);

/// A running concentrator.
#[derive(Debug)]
pub struct Service {
    hub: Arc<Hub>,
    tcp: Arc<TcpServer>,
    udp: Arc<UdpServer>,
    webhooks: Arc<Webhooks>,
    certificates: Arc<Certificates>,
    access: Arc<AccessKeeper>,
    config: Mutex<Config>,
    addresses: Addresses,
    listeners: Mutex<Vec<Task<()>>>,
    _upkeep: Vec<Task<()>>,
    executor: Arc<Executor<'static>>,
    stop: Sender<()>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _state: StateFolder,
}

/// Where the concentrator listens: what the configuration says, with the ports that the system chose for 0.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// TCP.
    pub sessions: SocketAddr,
    /// UDP.
    pub telemetry: SocketAddr,
}

impl Service {
    /// Starts everything. The sentence says what is wrong and who must act.
    pub fn start(config: Config) -> Result<Arc<Self>, String> {
        let state = StateFolder::take(&config.state_dir, config.environment)?;
        let certificates = Certificates::load(&config.tls.certificate, &config.tls.private_key)
            .map_err(|error| error.to_string())?;
        let certificates = Arc::new(certificates);
        let known = |group: &crate::wire::GroupName| config.groups.contains_key(group);
        let access = access_file::load(&config.access.file, known).map_err(|error| error.to_string())?;

        let listener = listen::tcp("sessions.listen", config.sessions.listen)?;
        let socket = listen::udp("telemetry.listen", config.telemetry.listen)?;
        let local = |address: std::io::Result<SocketAddr>| address.map_err(|error| error.to_string());
        let addresses = Addresses {
            sessions: local(listener.get_ref().local_addr())?,
            telemetry: local(socket.get_ref().local_addr())?,
        };

        let has_telemetry_webhook = config.central.webhooks.telemetry.is_some();
        let hub =
            Hub::new(settings::router(&config), access, settings::on_full(&config), has_telemetry_webhook);
        let webhooks =
            Webhooks::start(&settings::webhooks(&config)?, &hub).map_err(|error| error.to_string())?;
        let access = Arc::new(AccessKeeper::new(Arc::clone(&hub), config.access.file.clone()));
        let tcp = Arc::new(TcpServer::new(
            Arc::clone(&hub),
            Admission::new(settings::session_limits(&config)),
            Arc::clone(&certificates),
            Arc::clone(&access),
            settings::tcp(&config),
        ));
        let udp = Arc::new(UdpServer::new(Arc::clone(&hub)));

        let executor = Arc::new(Executor::new());
        let listeners = vec![
            executor.spawn(Arc::clone(&tcp).accept(listener, Arc::clone(&executor))),
            executor.spawn(Arc::clone(&udp).receive(socket, config.telemetry.max_datagram)),
        ];
        let upkeep = vec![
            executor.spawn(watch::deadlines(Arc::clone(&hub))),
            executor.spawn(watch::files(Arc::clone(&certificates), Arc::clone(&access))),
        ];
        let (stop, stopped) = smol::channel::bounded(1);
        let threads = start_threads(&executor, &stopped)?;
        log::info!(
            "event=started environment={} sessions={} telemetry={}",
            config.environment.name(),
            addresses.sessions,
            addresses.telemetry
        );
        Ok(Arc::new(Self {
            hub,
            tcp,
            udp,
            webhooks,
            certificates,
            access,
            config: Mutex::new(config),
            addresses,
            listeners: Mutex::new(listeners),
            _upkeep: upkeep,
            executor,
            stop,
            threads: Mutex::new(threads),
            _state: state,
        }))
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Ends it: no new connections; held HTTP calls get their answer or, after a while, 0xA1; sessions are told that
    /// they are kept; then everything stops. Takes a few seconds at most.
    pub fn drain(&self) {
        log::info!("event=stopping");
        lock(&self.listeners).clear();
        let (_, calls) = self.hub.open_counts();
        if calls > 0 {
            self.wait(CALLS_GRACE, || self.hub.open_counts().1 == 0);
            self.hub.time_out_http_calls();
        }
        self.hub.close_all(CloseCode::ResourcesFreed);
        self.wait(GOODBYE_GRACE, || self.tcp.admission.connections() == 0);
        self.webhooks.pool().stop(GOODBYE_GRACE);
        self.stop.close();
        for thread in lock(&self.threads).drain(..) {
            let _ended = thread.join();
        }
        log::info!("event=stopped");
    }

    fn wait(&self, grace: Duration, is_done: impl Fn() -> bool) {
        let deadline = Instant::now() + grace;
        while !is_done() && Instant::now() < deadline {
            smol::block_on(Timer::after(DRAIN_STEP));
        }
    }
}

fn start_threads(
    executor: &Arc<Executor<'static>>,
    stopped: &Receiver<()>,
) -> Result<Vec<JoinHandle<()>>, String> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (0..cores.min(THREADS_MAX))
        .map(|number| {
            let executor = Arc::clone(executor);
            let stopped = stopped.clone();
            Builder::new()
                .name(format!("executor-{number}"))
                .spawn(move || {
                    let _closed = smol::block_on(executor.run(stopped.recv()));
                })
                .map_err(|error| format!("the system gives no threads: {error}"))
        })
        .collect()
}
