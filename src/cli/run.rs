//! `run`: the concentrator, until it is told to stop.

use async_signal::{Signal, Signals};
use smol::stream::StreamExt as _;

use super::arguments::Arguments;
use super::{Failure, log_lines};
use crate::service::Service;
use crate::service::config::{Config, Mistake};

pub(super) const SUMMARY: &str = "runs the concentrator";
pub(super) const HELP: &str = "\
Usage: iotsocketd run [--config FILE]

Runs the concentrator until SIGTERM or SIGINT. SIGHUP takes up a changed configuration; changed
certificates and access lists are taken up by themselves. Logs go to stderr; RUST_LOG sets the level.

Options:
  --config FILE  the configuration [default: /etc/iotsocketd/iotsocketd.toml]

Example:
  iotsocketd run --config ./iotsocketd.toml
";

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 0, &["config"])?;
    log_lines::start();
    let path = arguments.config_path();
    let (config, warnings) = Config::load(&path).map_err(|mistakes| {
        let lines: Vec<_> = mistakes.iter().map(Mistake::to_string).collect();
        Failure::Failed(lines.join("\n"))
    })?;
    for warning in &warnings {
        log::warn!("event=configuration_warning detail=\"{warning}\"");
    }
    let mut signals = Signals::new([Signal::Term, Signal::Int, Signal::Hup])
        .map_err(|error| Failure::Failed(format!("signals cannot be received: {error}")))?;
    let service = Service::start(config).map_err(Failure::Failed)?;
    while let Some(Ok(Signal::Hup)) = smol::block_on(signals.next()) {}
    service.drain();
    Ok(())
}
