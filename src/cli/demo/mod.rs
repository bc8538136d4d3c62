//! `demo`: the whole thing on loopback, with no set-up: a concentrator in a temporary folder, simulated objects, and a
//! simulated central that calls them over the API and is called by its webhooks.

mod central;
mod site;
mod view;

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::arguments::Arguments;
use super::{Failure, log_lines, output};
use crate::client::load::{Load, Plan, Rate};
use crate::service::config::parse_duration;
use crate::service::{Ground, Service};
use central::Central;
use site::Site;
use view::{SHOW_EVERY, View};

pub(super) const SUMMARY: &str = "the whole thing on loopback, with simulated objects and central";
pub(super) const HELP: &str = "\
Usage: iotsocketd demo [--for TIME]

Runs a concentrator in a temporary folder, 20 simulated objects and a simulated central, all on
loopback, and shows live what flows. Needs no set-up and leaves nothing behind. Ends at Ctrl-C.

Options:
  --for TIME  end by itself after this time, for instance 10s

Example:
  iotsocketd demo --for 10s
";

const OBJECTS: usize = 20;
/// How long the objects may take to log in.
const LOGIN_TIME: Duration = Duration::from_secs(20);

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A site that is not in a hurry: what a newcomer can follow with the eye.
fn plan() -> Plan {
    Plan {
        central: false,
        callers: 4,
        rate: Rate::PerSecond(200.0),
        asks: Rate::PerSecond(50.0),
        telemetry: Rate::PerSecond(100.0),
        ..Plan::default()
    }
}

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 0, &["for"])?;
    let time = match arguments.option("for") {
        Some(text) => {
            let text = text.to_str().unwrap_or_default();
            Some(parse_duration(text).map_err(|error| Failure::Usage(format!("`--for {text}` {error}")))?)
        }
        None => None,
    };
    log_lines::start_quiet();
    let interrupted = Arc::new(AtomicBool::new(false));
    output::interrupt_by_signal(&interrupted)?;

    let central = Central::start()?;
    let site = Site::make(OBJECTS, &central)?;
    let config = site.config()?;
    let mut ground = Ground::new(&config).map_err(Failure::Failed)?;
    let service = Service::start(config, &mut ground).map_err(Failure::Failed)?;
    let target = site.target(&service)?;
    let load = Load::start(target, plan()).map_err(|error| Failure::Failed(error.to_string()))?;
    central.count_into(load.counters());
    if !load.wait_begun(LOGIN_TIME) {
        return Err(Failure::Failed("the simulated objects could not log in".to_owned()));
    }
    output::say(&format!(
        "A concentrator with {OBJECTS} objects and a central runs on loopback. Call an object yourself:\n\n  {}\n\n\
         Or look at it with a browser:\n\n  {}\n",
        site.curl_line(&service),
        site.console_line(&service)
    ));
    let stdout = io::stdout();
    let mut view = View::new(stdout.lock(), stdout.is_terminal());
    let end = time.map(|time| Instant::now() + time);
    let mut next = Instant::now();
    while !interrupted.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
        if Instant::now() >= next {
            next += SHOW_EVERY;
            // A reader that went away is no failure.
            let _closed = view.show(&load.snapshot());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let report = load.stop();
    let _closed = view.finish(&report.all);
    service.drain();
    central.stop();
    Ok(())
}
