//! `run`: the concentrator, until it is told to stop.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_io::Timer;
use async_signal::{Signal, Signals};
use smol::channel::Receiver;
use smol::future::FutureExt as _;
use smol::stream::StreamExt as _;

use super::arguments::Arguments;
use super::{Failure, log_lines};
use crate::hub::file_stamp::stamp;
use crate::logfmt::Quoted;
use crate::service::config::{Config, Files, Mistake};
use crate::service::listen::Sockets;
use crate::service::settings::{Connections, bounded};
use crate::service::supervision::Manager;
use crate::service::upgrade::judge::{self, After};
use crate::service::upgrade::successor::{Awaited, Successor, Verdict};
use crate::service::upgrade::{self, Job, Order, RUNNING, Versions};
use crate::service::{Ground, Service};
use crate::sys::{forbid_core_dumps, raise_open_files};

pub(super) const SUMMARY: &str = "runs the concentrator";
pub(super) const HELP: &str = "\
Usage: iotsocketd run [--config FILE]

Runs the concentrator until SIGTERM or SIGINT. Changes of the configuration, of certificates and
of the access list are taken up by themselves, at SIGHUP at once. Logs go to stderr; RUST_LOG sets
the level.

Options:
  --config FILE  the configuration [default: /etc/iotsocketd/iotsocketd.toml]

Example:
  iotsocketd run --config ./iotsocketd.toml
";

/// How often the configuration file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 0, &["config"])?;
    log_lines::start();
    let path = arguments.config_path();
    let signals = Signals::new([Signal::Term, Signal::Int, Signal::Hup])
        .map_err(|error| Failure::Failed(format!("signals cannot be received: {error}")))?;
    let predecessor = Successor::of_this_process().transpose();
    let predecessor = predecessor.map_err(|error| Failure::Failed(format!("standard input: {error}")))?;
    let (config, seen) = load(&path);
    if let (None, Ok(config)) = (&predecessor, &config) {
        become_current(config);
    }
    // Thousands of connections need more descriptors than most systems give unasked.
    match raise_open_files() {
        Err(error) => log::warn!("event=open_files_not_raised error={}", Quoted(error)),
        Ok(open_files) => {
            if let Ok(config) = &config {
                tell_bounds(config, open_files);
            }
        }
    }
    if let Err(error) = forbid_core_dumps() {
        log::warn!("event=core_dumps_not_forbidden error={}", Quoted(error));
    }
    let (jobs, uploaded) = smol::channel::bounded(1);
    let (service, mut ground, awaited) = match predecessor {
        Some(predecessor) => {
            let taken = predecessor.take_over(config.clone(), jobs);
            let (service, ground) = taken.map_err(Failure::Failed)?;
            let proven = config.and_then(|config| predecessor.prove(&service, config));
            let awaited = predecessor.listen().map_err(Failure::Failed)?;
            // One that failed waits for its end: it was told.
            let _told = proven;
            (service, ground, Some(awaited))
        }
        None => {
            let config = config.map_err(Failure::Failed)?;
            let mut ground = Ground::new(&config).map_err(Failure::Failed)?;
            ground.sockets = Sockets::of_this_process();
            ground.manager = Manager::of_this_process();
            ground.upgrades = Some(jobs);
            let service = Service::start(config, &mut ground).map_err(Failure::Failed)?;
            (service, ground, None)
        }
    };
    let mut running = Running { path, seen, signals, uploaded, awaited };
    let left = running.run(service, &mut ground)?;
    if let Some(service) = left {
        // Who listens on them still would keep clients waiting.
        ground.sockets = Sockets::default();
        service.drain();
    }
    Ok(())
}

fn tell_bounds(config: &Config, open_files: u64) {
    if let Some(Connections { sessions, api }) = bounded(config, open_files) {
        log::warn!(
            "event=connections_bounded open_files={open_files} sessions={sessions} api={api} hint=\"raise LimitNOFILE, or lower max_connections\""
        );
    }
}

/// The configuration, or all that is wrong with it; and what was read for it.
fn load(path: &Path) -> (Result<Config, String>, Files) {
    let mut examined = Config::examine(path);
    let files = std::mem::take(&mut examined.files);
    let config = examined.into_config().map(|(config, warnings)| {
        tell(&warnings);
        config
    });
    let lines = |mistakes: Vec<Mistake>| mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>();
    (config.map_err(|mistakes| lines(mistakes).join("\n")), files)
}

/// Becomes the version in force, if an update put one in force that is newer than this one. Returns only if there is none.
fn become_current(config: &Config) {
    match Versions::new(config).to_become() {
        Ok(None) => {}
        Ok(Some((version, program))) => {
            log::info!("event=becomes version={version} program={}", Quoted(program.display()));
            let mut command = std::process::Command::new(&program);
            let error = command.args(std::env::args_os().skip(1)).env(RUNNING, version.to_string()).exec();
            log::error!("event=version_not_started version={version} error={}", Quoted(error));
        }
        // This version serves as well.
        Err(sentence) => log::error!("event=version_not_started error={}", Quoted(sentence)),
    }
}

/// What there is to react to while a service runs.
struct Running {
    path: PathBuf,
    /// The configuration and the files that it names, as they were read last.
    seen: Files,
    signals: Signals,
    uploaded: Receiver<Order>,
    /// The verdict of the version before, until it is there.
    awaited: Option<Awaited>,
}

enum Happened {
    Signal(Signal),
    Ordered(Box<Order>),
    TimePassed,
}

impl Running {
    /// Runs until the service is to stop, which it gives back then, or until a newer version is the service.
    fn run(&mut self, mut service: Service, ground: &mut Ground) -> Result<Option<Service>, Failure> {
        loop {
            let happened = self.wait();
            match self.awaited.as_ref().map(Awaited::verdict) {
                Some(Verdict::Confirmed) => {
                    ground.manager.become_service();
                    service.tell_rejection();
                    self.awaited = None;
                }
                Some(Verdict::Orphaned) => {
                    log::warn!("event=orphaned action=\"whoever starts the service decides\"");
                    service.hurry();
                    return Ok(Some(service));
                }
                Some(Verdict::Open) | None => {}
            }
            match happened {
                Happened::Signal(Signal::Hup) => self.reload(&service),
                Happened::Signal(_) => return Ok(Some(service)),
                Happened::Ordered(order) => match *order {
                    Order::Prove(report) => report.verdict(upgrade::prove(&service)),
                    Order::Leave(job) if self.awaited.is_some() => {
                        let sentence = "this version is itself on trial: try again when it is in force";
                        job.report.verdict(Err(sentence.to_owned()));
                    }
                    Order::Leave(job) => match self.upgrade(service, ground, &job)? {
                        Some(still) => service = still,
                        None => return Ok(None),
                    },
                },
                Happened::TimePassed if self.seen.iter().any(|(file, seen)| stamp(file) != *seen) => {
                    self.reload(&service);
                }
                Happened::TimePassed => {}
            }
        }
    }

    fn wait(&mut self) -> Happened {
        let Self { signals, uploaded, .. } = self;
        let signal = async {
            match signals.next().await {
                Some(Ok(signal)) => Happened::Signal(signal),
                // No signals any more: nothing can be told to it, so it ends.
                Some(Err(_)) | None => Happened::Signal(Signal::Term),
            }
        };
        let upload = async {
            match uploaded.recv().await {
                Ok(order) => Happened::Ordered(Box::new(order)),
                Err(_) => std::future::pending().await,
            }
        };
        let time = async {
            Timer::after(LOOK_INTERVAL).await;
            Happened::TimePassed
        };
        smol::block_on(signal.or(upload).or(time))
    }

    /// Takes up what changed; a broken file changes nothing.
    fn reload(&mut self, service: &Service) {
        let (config, files) = load(&self.path);
        self.seen = files;
        let reloaded = config.and_then(|config| {
            // They are watched by themselves, but what was refused because of them is tried again as a whole.
            let of_it = [&config.tls.certificate, &config.tls.private_key, &config.access.file];
            let of_it = of_it.map(|file| (file.clone(), stamp(file)));
            service.reload(config).inspect_err(|_| self.seen.extend(of_it))
        });
        match reloaded {
            Ok(needs_restart) => {
                log::info!("event=configuration_reloaded");
                for key in needs_restart {
                    log::warn!("event=restart_needed key={key}");
                }
                service.tell_reload(None);
            }
            Err(error) => {
                let error = error.replace('\n', "; ");
                log::error!("event=configuration_refused error={}", Quoted(&error));
                service.tell_reload(Some(&error));
            }
        }
    }

    /// A newer version tries to take over; the service if this one goes on.
    fn upgrade(
        &mut self,
        service: Service,
        ground: &mut Ground,
        job: &Job,
    ) -> Result<Option<Service>, Failure> {
        let mut is_stopped = false;
        let signals = &mut self.signals;
        let mut should_stop = || {
            let next = smol::block_on(smol::future::poll_once(signals.next())).flatten();
            is_stopped |= matches!(next, Some(Ok(Signal::Term | Signal::Int)));
            is_stopped
        };
        match judge::upgrade(service, ground, &self.path, job, &mut should_stop) {
            After::Same(service) => Ok(Some(*service)),
            After::Again(config, datagrams, verdict) => {
                let service = Service::start(*config, ground).map_err(Failure::Failed)?;
                service.take_datagrams(&datagrams);
                job.report.verdict(Err(verdict));
                Ok(Some(service))
            }
            After::Over => Ok(None),
        }
    }
}

fn tell(warnings: &[Mistake]) {
    for warning in warnings {
        log::warn!("event=configuration_warning detail={}", Quoted(warning));
    }
}
