//! `run`: the concentrator, until it is told to stop.

use std::path::Path;
use std::time::Duration;

use async_io::Timer;
use async_signal::{Signal, Signals};
use smol::future::FutureExt as _;
use smol::stream::StreamExt as _;

use super::arguments::Arguments;
use super::{Failure, log_lines};
use crate::hub::file_stamp::stamp;
use crate::logfmt::Quoted;
use crate::service::Service;
use crate::service::config::{Config, Mistake};
use crate::service::listen::Sockets;
use crate::service::supervision::Manager;
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
    // Before the file is read: what changes meanwhile is read again.
    let mut seen = stamp(&path);
    let (config, warnings) = Config::load(&path).map_err(|mistakes| {
        let lines: Vec<_> = mistakes.iter().map(Mistake::to_string).collect();
        Failure::Failed(lines.join("\n"))
    })?;
    tell(&warnings);
    let mut signals = Signals::new([Signal::Term, Signal::Int, Signal::Hup])
        .map_err(|error| Failure::Failed(format!("signals cannot be received: {error}")))?;
    // Thousands of connections need more descriptors than most systems give unasked.
    if let Err(error) = raise_open_files() {
        log::warn!("event=open_files_not_raised error={}", Quoted(error));
    }
    if let Err(error) = forbid_core_dumps() {
        log::warn!("event=core_dumps_not_forbidden error={}", Quoted(error));
    }
    let mut sockets = Sockets::of_this_process();
    let service =
        Service::start(config, &mut sockets, &Manager::of_this_process()).map_err(Failure::Failed)?;
    loop {
        let signal = smol::block_on(signals.next().or(async {
            Timer::after(LOOK_INTERVAL).await;
            None
        }));
        let now = stamp(&path);
        match signal {
            Some(Ok(Signal::Hup)) => reload(&service, &path),
            Some(_) => break,
            None if now != seen => reload(&service, &path),
            None => {}
        }
        seen = now;
    }
    drop(sockets);
    service.drain();
    Ok(())
}

fn tell(warnings: &[Mistake]) {
    for warning in warnings {
        log::warn!("event=configuration_warning detail={}", Quoted(warning));
    }
}

/// Takes up the changed file; a broken one changes nothing.
fn reload(service: &Service, path: &Path) {
    let outcome = match Config::load(path) {
        Ok((config, warnings)) => {
            tell(&warnings);
            service.reload(config)
        }
        Err(mistakes) => Err(mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("; ")),
    };
    match outcome {
        Ok(needs_restart) => {
            log::info!("event=configuration_reloaded");
            for key in needs_restart {
                log::warn!("event=restart_needed key={key}");
            }
        }
        Err(error) => log::error!("event=configuration_refused error={}", Quoted(error)),
    }
}
