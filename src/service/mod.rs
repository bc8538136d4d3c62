//! Building, starting, reloading and draining the concentrator; its configuration.
//!
//! [`Service::start`] takes a checked configuration to a running concentrator, [`Service::reload`] takes up changes,
//! [`Service::drain`] ends it so that nothing acknowledged is lost. `run` and `demo` use the same three.

pub mod alerts;
pub mod archive;
pub mod backup;
pub mod blackbox;
pub mod config;
mod destinations;
pub mod disk;
pub mod journal;
pub mod listen;
pub mod settings;
mod state;
pub mod supervision;
pub mod upgrade;
mod view;
mod watch;
mod wear;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use smol::channel::{Receiver, Sender};
use smol::{Executor, Task};

use crate::endpoint::admission::Admission;
use crate::endpoint::http::api::Api;
use crate::endpoint::http::server::Server;
use crate::endpoint::maintenance::{Maintenance, Uploads};
use crate::endpoint::subscribers::Subscribers;
use crate::endpoint::tcp::TcpServer;
use crate::endpoint::tls::Certificates;
use crate::endpoint::udp::UdpServer;
use crate::endpoint::webhook::Webhooks;
use crate::hub::access_keeper::AccessKeeper;
use crate::hub::alerts::Rule;
use crate::hub::auditing::{Deed, What};
use crate::hub::backend::Backend;
use crate::hub::file_stamp::stamp;
use crate::hub::heartbeats::Loop;
use crate::hub::status::Status;
use crate::hub::{Hub, access_file, lock};
use crate::journal::recovery::Report;
use crate::logfmt::Quoted;
use crate::wire::{CloseCode, GroupName};
use alerts::Lookout;
use backup::RunningCopies;
use backup::nightly::Nightly;
use blackbox::BlackBox;
use config::Config;
use journal::{Journal, Opened};
use listen::Sockets;
use state::StateFolder;
pub use state::look_into;
use supervision::{Manager, Watchdog};
use upgrade::{Desk, Order, Versions};
use view::View;

/// Threads of the executor at most; see [`thread_count`].
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
    view: Arc<View>,
    api: Arc<Api>,
    server: Arc<Mutex<Server>>,
    certificates: Arc<Certificates>,
    config: Mutex<Config>,
    addresses: Addresses,
    maintenance: Maintenance,
    nightly: Arc<Nightly>,
    lookout: Lookout,
    blackbox: BlackBox,
    journal: Arc<Journal>,
    subscribers: Subscribers,
    /// That for datagrams first.
    listeners: Mutex<Vec<Task<()>>>,
    /// Deadlines first.
    upkeep: Vec<Task<()>>,
    stop: Sender<()>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    manager: Manager,
    _watchdog: Watchdog,
}

/// What outlives a service: whoever starts again, in this process or as a newer version, goes on with it.
#[derive(Debug)]
pub struct Ground {
    /// Holds the state folder.
    pub state: StateFolder,
    /// What is listened on.
    pub sockets: Sockets,
    /// Who looks after us.
    pub manager: Manager,
    /// Where versions go that somebody uploads; without it none is taken.
    pub upgrades: Option<Sender<Order>>,
}

impl Ground {
    /// Takes the state folder; sockets are opened by the service.
    pub fn new(config: &Config) -> Result<Self, String> {
        let state = StateFolder::take(&config.state_dir, config.environment)?;
        Ok(Self { state, sockets: Sockets::default(), manager: Manager::default(), upgrades: None })
    }
}

/// Where the concentrator listens: what the configuration says, with the ports that the system chose for 0.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// TCP.
    pub sessions: SocketAddr,
    /// UDP.
    pub telemetry: SocketAddr,
    /// HTTPS.
    pub api: SocketAddr,
}

impl Service {
    /// Starts everything on this ground, and tells the service manager. The sentence says what is wrong and who must act.
    pub fn start(config: Config, ground: &mut Ground) -> Result<Self, String> {
        Self::begin(config, ground, |_| Ok(()))
    }

    /// Starts everything; datagrams are read once `before_datagrams` is over.
    fn begin(
        config: Config,
        ground: &mut Ground,
        before_datagrams: impl FnOnce(&UdpServer) -> Result<(), String>,
    ) -> Result<Self, String> {
        let Ground { sockets, manager, upgrades, .. } = ground;
        let certificates = Certificates::load(&config.tls.certificate, &config.tls.private_key)
            .map_err(|error| error.to_string())?;
        let certificates = Arc::new(certificates);
        let access_seen = stamp(&config.access.file);
        let known = |group: &GroupName| config.groups.contains_key(group);
        let access = access_file::load(&config.access.file, known).map_err(|error| error.to_string())?;
        let opened = Opened::open(&config)?;
        log_report(&opened.report);

        let listener = sockets.tcp("sessions.listen", config.sessions.listen)?;
        let socket = sockets.udp("telemetry.listen", config.telemetry.listen)?;
        let api_listener = sockets.tcp("api.listen", config.api.listen)?;
        if let Some(sentence) = sockets.unused() {
            return Err(sentence);
        }
        let local = |address: io::Result<SocketAddr>| address.map_err(|error| error.to_string());
        let addresses = Addresses {
            sessions: local(listener.get_ref().local_addr())?,
            telemetry: local(socket.get_ref().local_addr())?,
            api: local(api_listener.get_ref().local_addr())?,
        };

        let has_telemetry_webhook = config.central.webhooks.telemetry.is_some();
        let has_result_webhook = config.central.webhooks.result.is_some();
        let keeping = opened.keeping(&config);
        let hub =
            Hub::new(settings::router(&config), access, keeping, has_telemetry_webhook, has_result_webhook);
        let uptime = opened.kept(alerts::uptime::KEPT);
        let journal = Arc::new(opened.run(&hub)?);
        let webhooks =
            Webhooks::start(&settings::webhooks(&config)?, &hub).map_err(|error| error.to_string())?;
        let subscribers = Subscribers::new(Arc::clone(&hub));
        subscribers.prepare(settings::subscribers(&config)?)?.put_in_force()?;
        let access = AccessKeeper::new(Arc::clone(&hub), config.access.file.clone(), access_seen);
        let access = Arc::new(access);
        let tcp = Arc::new(TcpServer::new(
            Arc::clone(&hub),
            Admission::new(settings::session_limits(&config)),
            Arc::clone(&certificates),
            Arc::clone(&access),
            settings::tcp(&config),
        ));
        let udp = Arc::new(UdpServer::new(Arc::clone(&hub), config.telemetry.max_datagram));
        let view = View::new(hub, Arc::clone(&journal), access, tcp, udp, webhooks, &config);
        let view = Arc::new(view);
        let api = Api::new(Arc::clone(&view) as Arc<dyn Backend>, settings::api(&config));
        let api = api.with_history(Arc::new(journal.records()));
        let api = Arc::new(api.with_intake(Arc::new(journal.networks(&view.hub))));
        if !config.ingest.is_empty() {
            journal.look_back()?;
        }

        before_datagrams(&view.udp)?;

        let executor = Arc::new(Executor::new());
        let server = Server::start(
            &executor,
            api_listener,
            Arc::clone(&certificates),
            Admission::new(settings::api_limits(&config)),
            Arc::clone(&api),
        );
        let server = Arc::new(Mutex::new(server));
        view.set_api(&api, &server);
        let listeners = vec![
            alive(&executor, &view, Loop::Telemetry, |view| Arc::clone(&view.udp).receive(socket)),
            alive(&executor, &view, Loop::Sessions, |view| {
                Arc::clone(&view.tcp).accept(listener, Arc::clone(&executor))
            }),
        ];
        let upkeep = vec![
            executor.spawn(watch::deadlines(Arc::clone(&view.hub))),
            executor.spawn(watch::every_second(Arc::clone(&certificates), Arc::clone(&view))),
        ];
        let copies = Arc::new(RunningCopies {
            state_dir: config.state_dir.clone(),
            journal: Arc::clone(&journal),
            access: Arc::clone(&view.access),
        });
        let nightly = Arc::new(Nightly::start(Arc::clone(&copies), &config)?);
        view.set_nightly(&nightly);
        let desk = upgrades.clone().map(|jobs| Arc::new(Desk::new(&config, jobs)) as Arc<dyn Uploads>);
        let maintenance =
            Maintenance::start(&config.maintenance.socket, Arc::clone(&api), Some(copies), desk)
                .map_err(|error| error.to_string())?;
        let version = format!("version {}", upgrade::running());
        view.hub.audit(Deed::own(What::Started, &version));
        let client = settings::alert_webhook(&config)?;
        let lookout = Lookout::start(Arc::clone(&view), &config, client, uptime.as_deref())?;
        let blackbox = BlackBox::start(Arc::clone(&view), Arc::clone(&journal), &config.state_dir)?;
        let (stop, stopped) = smol::channel::bounded(1);
        let threads = start_threads(&executor, &stopped)?;
        let watchdog = Watchdog::start(&view.hub, manager.clone())?;
        manager.tell("READY=1");
        log::info!(
            "event=started version={} environment={} sessions={} telemetry={} api={}",
            upgrade::running(),
            config.environment.name(),
            addresses.sessions,
            addresses.telemetry,
            addresses.api
        );
        let service = Self {
            view,
            api,
            server,
            certificates,
            config: Mutex::new(config),
            addresses,
            maintenance,
            nightly,
            lookout,
            blackbox,
            journal,
            subscribers,
            listeners: Mutex::new(listeners),
            upkeep,
            stop,
            threads: Mutex::new(threads),
            manager: manager.clone(),
            _watchdog: watchdog,
        };
        service.tell_rejection();
        Ok(service)
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The configuration in force.
    pub fn config(&self) -> Config {
        lock(&self.config).clone()
    }

    /// Says that a version was rejected, as long as that is the last that is known: a good one makes an end of it.
    pub fn tell_rejection(&self) {
        let alerts = &self.view.hub.alerts;
        match Versions::new(&self.config()).rejected() {
            Some(rejected) => alerts.raise(Rule::UpgradeRolledBack, "", rejected),
            None => alerts.clear(Rule::UpgradeRolledBack, ""),
        }
    }

    /// Tells whether the configuration, as it lies there now, could be taken up.
    pub fn tell_reload(&self, refused: Option<&str>) {
        let alerts = &self.view.hub.alerts;
        match refused {
            Some(error) => alerts.raise(Rule::Configuration, "", watch::not_taken_up(&error)),
            // All of it was read, the certificate, too.
            None => ["", watch::CERTIFICATE].into_iter().for_each(|of| alerts.clear(Rule::Configuration, of)),
        }
    }

    /// Takes datagrams that came in before it started.
    pub fn take_datagrams(&self, datagrams: &[(SocketAddr, Vec<u8>)]) {
        self.view.udp.take(datagrams.iter().map(|(source, bytes)| (*source, bytes.as_slice())));
    }

    /// What it is doing.
    pub fn status(&self) -> Status {
        self.view.status()
    }

    /// Takes up a changed configuration, whole or not at all. Gives the keys whose change needs a restart.
    pub fn reload(&self, mut config: Config) -> Result<Vec<&'static str>, String> {
        let mut current = lock(&self.config);
        let needs_restart = keep_what_needs_a_restart(&current, &mut config);
        let view = &self.view;
        // All that can fail comes first.
        let known = |group: &GroupName| config.groups.contains_key(group);
        let access = view.access.read_next(&config.access.file, known).map_err(|error| error.to_string())?;
        let webhooks = settings::webhooks(&config)?;
        let certificates = Certificates::load(&config.tls.certificate, &config.tls.private_key)
            .map_err(|error| error.to_string())?;
        let subscribers = self.subscribers.prepare(settings::subscribers(&config)?)?;
        let alert_client = settings::alert_webhook(&config)?;
        view.webhooks.pool().reconfigure(&webhooks).map_err(|error| error.to_string())?;
        self.certificates.become_like(certificates);

        let has_telemetry_webhook = config.central.webhooks.telemetry.is_some();
        let has_result_webhook = config.central.webhooks.result.is_some();
        let durable_only = config.journal.commit_interval.is_zero();
        view.hub.reconfigure(
            settings::router(&config),
            durable_only,
            has_telemetry_webhook,
            has_result_webhook,
        );
        subscribers.put_in_force()?;
        self.journal.reconfigure(&config);
        self.nightly.reconfigure(&config);
        access.put_in_force();
        view.tcp.set_settings(settings::tcp(&config));
        view.tcp.admission.set_limits(settings::session_limits(&config));
        view.udp.set_max_datagram(config.telemetry.max_datagram);
        if !config.ingest.is_empty() {
            self.journal.look_back()?;
        }
        self.api.set_settings(settings::api(&config));
        lock(&self.server).set_limits(settings::api_limits(&config));
        view.set_facts(&config);
        self.lookout.reconfigure(&config, alert_client);
        let changed = config::changes::changes(&current, &config);
        if !changed.is_empty() {
            view.hub.audit(Deed::own(What::Configuration, &changed.join(", ")));
        }
        *current = config;
        Ok(needs_restart)
    }

    /// Lets its end take no longer than it must.
    pub fn hurry(&self) {
        self.view.hub.time_out_http_calls();
    }

    /// Ends it: no new connections; held HTTP calls get their answer or, after a while, 0xA1; sessions are told that
    /// they are kept; then everything stops. Takes a few seconds at most.
    pub fn drain(self) {
        log::info!("event=stopping");
        self.manager.tell("STOPPING=1");
        self.view.set_draining();
        let hub = &self.view.hub;
        lock(&self.listeners).clear();
        lock(&self.server).drain();
        wait(CALLS_GRACE, || hub.open_counts().1 == 0);
        hub.time_out_http_calls();
        hub.close_all(CloseCode::ResourcesFreed);
        let is_quiet = || self.view.tcp.admission.connections() == 0 && lock(&self.server).connections() == 0;
        wait(GOODBYE_GRACE, is_quiet);
        self.view.webhooks.pool().stop(GOODBYE_GRACE);
        self.subscribers.stop(GOODBYE_GRACE);
        hub.record_soon();
        drop(self.maintenance);
        drop(self.nightly);
        drop(self.lookout);
        drop(self.blackbox);
        hub.audit(Deed::own(What::Stopped, ""));
        hub.tick_audit(true);
        self.journal.stop();
        self.stop.close();
        for thread in lock(&self.threads).drain(..) {
            let _ended = thread.join();
        }
        log::info!("event=stopped");
    }
}

/// Says what was found in the journal that is out of the ordinary.
fn log_report(report: &Report) {
    if let Some(torn) = &report.torn {
        let (segment, bytes) = (torn.segment, torn.to - torn.from);
        log::info!(
            "event=journal_tail_cut segment={segment} bytes={bytes} reason=\"a write was interrupted\""
        );
    }
    for damage in &report.damaged {
        let (segment, from, to) = (damage.segment, damage.from, damage.to);
        log::error!(
            "event=journal_damaged segment={segment} from={from} to={to} action=\"check the medium\""
        );
    }
    for segment in &report.missing {
        log::error!(
            "event=journal_segment_missing segment={segment} action=\"restore a backup if it matters\""
        );
    }
    for file in &report.set_aside {
        log::error!("event=journal_file_set_aside file={}", Quoted(file));
    }
    if report.state_incomplete {
        log::error!("event=journal_state_incomplete action=\"expect messages to be delivered again\"");
    }
}

fn wait(grace: Duration, is_done: impl Fn() -> bool) {
    let deadline = Instant::now() + grace;
    while !is_done() && Instant::now() < deadline {
        std::thread::sleep(DRAIN_STEP);
    }
}

/// Puts back what cannot change while the program runs, and names it.
fn keep_what_needs_a_restart(current: &Config, next: &mut Config) -> Vec<&'static str> {
    let mut kept = Vec::new();
    let mut keep = |key, is_changed| {
        if is_changed {
            kept.push(key);
        }
    };
    keep("environment", current.environment != next.environment);
    keep("state_dir", current.state_dir != next.state_dir);
    keep("sessions.listen", current.sessions.listen != next.sessions.listen);
    keep("telemetry.listen", current.telemetry.listen != next.telemetry.listen);
    keep("api.listen", current.api.listen != next.api.listen);
    keep("maintenance.socket", current.maintenance.socket != next.maintenance.socket);
    next.environment = current.environment;
    next.state_dir.clone_from(&current.state_dir);
    next.sessions.listen = current.sessions.listen;
    next.telemetry.listen = current.telemetry.listen;
    next.api.listen = current.api.listen;
    next.maintenance.clone_from(&current.maintenance);
    kept
}

/// Runs a loop that takes what comes in, and beats for it.
fn alive<F>(
    executor: &Executor<'static>,
    view: &Arc<View>,
    of: Loop,
    task: impl FnOnce(&View) -> F,
) -> Task<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (task, hub) = (task(view), Arc::clone(&view.hub));
    executor.spawn(async move { hub.heartbeats.during(of, task).await })
}

fn start_threads(
    executor: &Arc<Executor<'static>>,
    stopped: &Receiver<()>,
) -> Result<Vec<JoinHandle<()>>, String> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (0..thread_count(cores))
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

/// One thread for each two cores: the others have the journal, webhooks and the system's own work. Each that is idle is woken
/// for every task that another one begins, which on two cores cost a third of a call.
fn thread_count(cores: usize) -> usize {
    cores.div_ceil(2).clamp(1, THREADS_MAX)
}

#[cfg(test)]
mod tests {
    use super::thread_count;

    #[test]
    fn every_machine_has_a_thread_and_none_more_than_there_is_use_for() {
        assert_eq!([0, 1, 2, 3, 4, 8, 64].map(thread_count), [1, 1, 1, 2, 2, 4, 4]);
    }
}
