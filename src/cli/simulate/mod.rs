//! `simulate`: objects, a central and callers as load on a concentrator, for the commissioning of a site.

mod enrol;
mod report;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lexopt::prelude::*;

use crate::cli::Failure;
use crate::cli::progress::Progress;
use crate::cli::table::grouped;
use crate::client::Kind;
use crate::client::load::{Load, LoadError, Plan, Rate, Report, Target};
use crate::service::config::parse_duration;
use crate::sys::raise_open_files;
use crate::wire::GroupName;

pub(super) const SUMMARY: &str = "objects, a central and callers as load on a running concentrator";
/// What `simulate --help` prints.
pub const HELP: &str = "\
Usage: iotsocketd simulate --objects N [--rate R] [OPTIONS]

Objects, and a central, as load on a running concentrator. Prints rates and latencies.

Options:
  --config FILE      the concentrator's configuration: addresses, certificate, keys
                     [default: /etc/iotsocketd/iotsocketd.toml]
  --objects N        objects that log in: those of the access list whose UID begins
                     with the prefix
  --prefix TEXT      what the UIDs of simulated objects begin with (sim-)
  --enrol GROUP      adds to the access list what it lacks, in this group, for as long as this runs
  --rate R           calls to objects a second; \"max\" (the default), or 0 for none
  --in-flight K      calls of the central at the same moment (1)
  --callers C        call over the HTTP API instead, with so many callers (0)
  --central WHO      \"tcp\": log in as the central, in the place of the site's own;
                     \"none\": leave it alone. The default is tcp, or none with callers
                     or without calls
  --object-rate R    requests of objects to the central a second (0)
  --telemetry R      telemetry datagrams a second; \"max\", or 0 for none (0)
  --payload BYTES    length of each payload (64)
  --answer-after T   objects take so long to answer (0s)
  --logins           do nothing but log in and leave, as fast as it goes
  --at-once C        logins at the same moment (32)
  --sources N        come from N addresses of 127.0.0.0/8; only towards such an address
  --threads T        threads of the load (1)
  --for TIME         how long, after everybody has logged in (10s)
  --json             print the result as JSON

Example:
  iotsocketd simulate --config iotsocketd.toml --objects 200 --enrol Devices \\
      --rate 500 --in-flight 16 --telemetry 1000 --for 1min
";

/// Objects at most: as many as an access list takes.
const OBJECTS_MAX: usize = 20_000;
/// Callers at most.
const CALLERS_MAX: usize = 1_000;
/// How often the end of the time and an interruption are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What was typed.
#[derive(Debug, Clone)]
pub struct Options {
    /// The concentrator's configuration file, if another than the default.
    pub config: Option<PathBuf>,
    /// How many objects.
    pub objects: usize,
    /// What their UIDs begin with.
    pub prefix: String,
    /// The group to enrol missing objects in.
    pub enrol: Option<GroupName>,
    /// The load.
    pub plan: Plan,
    /// How long it works, after the logins.
    pub time: Duration,
    /// Print JSON.
    pub json: bool,
}

/// What the arguments ask for.
#[derive(Debug, Clone)]
pub enum Asked {
    /// To print [`HELP`].
    Help,
    /// To run.
    Run(Box<Options>),
}

/// Why there is no result.
#[derive(Debug)]
pub enum SimulateError {
    /// The load could not start.
    Load(LoadError),
    /// Not one object got in: what the first of them met, and how many there were.
    NobodyIn(usize, String),
}

impl fmt::Display for SimulateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(_) => f.write_str("the load cannot start"),
            Self::NobodyIn(objects, first) => write!(f, "none of {objects} objects could log in: {first}"),
        }
    }
}

impl std::error::Error for SimulateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Load(error) => Some(error),
            Self::NobodyIn(..) => None,
        }
    }
}

/// Reads the arguments behind `simulate`.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, lexopt::Error> {
    let mut options = Options {
        config: None,
        objects: 0,
        prefix: "sim-".to_owned(),
        enrol: None,
        plan: Plan::default(),
        time: Duration::from_secs(10),
        json: false,
    };
    let plan = &mut options.plan;
    let mut objects = None;
    let mut central = None;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Asked::Help),
            Long("config") => options.config = Some(parser.value()?.into()),
            Long("objects") => objects = Some(number(&mut parser, "--objects", 0, OBJECTS_MAX)?),
            Long("prefix") => options.prefix = parser.value()?.string()?,
            Long("enrol") => {
                options.enrol = Some(parser.value()?.parse_with(GroupName::parse)?);
            }
            Long("rate") => plan.rate = parser.value()?.parse()?,
            Long("in-flight") => plan.in_flight = parser.value()?.parse()?,
            Long("callers") => plan.callers = number(&mut parser, "--callers", 0, CALLERS_MAX)?,
            Long("central") => central = Some(parser.value()?.parse_with(parse_central)?),
            Long("object-rate") => plan.asks = parser.value()?.parse()?,
            Long("telemetry") => plan.telemetry = parser.value()?.parse()?,
            Long("payload") => plan.payload = parser.value()?.parse()?,
            Long("answer-after") => plan.answer_after = parser.value()?.parse_with(parse_duration)?,
            Long("logins") => plan.logins = true,
            Long("at-once") => plan.logins_at_once = parser.value()?.parse()?,
            Long("sources") => plan.sources = parser.value()?.parse()?,
            Long("threads") => plan.threads = parser.value()?.parse()?,
            Long("for") => options.time = parser.value()?.parse_with(parse_duration)?,
            Long("json") => options.json = true,
            other => return Err(other.unexpected()),
        }
    }
    options.objects = objects.ok_or("--objects is missing: how many objects shall log in?")?;
    plan.central = central.unwrap_or(plan.callers == 0 && plan.rate != Rate::None && !plan.logins);
    Ok(Asked::Run(Box::new(options)))
}

fn number(parser: &mut lexopt::Parser, name: &str, min: usize, max: usize) -> Result<usize, lexopt::Error> {
    let number = parser.value()?.parse()?;
    if (min..=max).contains(&number) {
        Ok(number)
    } else {
        Err(format!("{name} must be {min} to {max}").into())
    }
}

fn parse_central(text: &str) -> Result<bool, &'static str> {
    match text {
        "tcp" => Ok(true),
        "none" => Ok(false),
        _ => Err("is neither \"tcp\" nor \"none\""),
    }
}

/// The command: reads the configuration, enrols objects if asked, runs the load and prints the result.
pub(super) fn run(mut parser: lexopt::Parser) -> Result<(), Failure> {
    let raw = parser.raw_args().map_err(|error| Failure::Usage(error.to_string()))?;
    let options = match parse(raw).map_err(|error| Failure::Usage(error.to_string()))? {
        Asked::Help => {
            crate::cli::output::say(HELP.trim_end());
            return Ok(());
        }
        Asked::Run(options) => options,
    };
    let crew = enrol::Enrolled::open(&options)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    crate::cli::output::interrupt_by_signal(&interrupted)?;
    let outcome = simulate(crew.target(&options)?, &options, &interrupted);
    crew.close()?;
    let report = outcome.map_err(|error| Failure::Failed(chain(&error)))?;
    let printed = match options.json {
        true => report::print_json(&mut io::stdout(), &report, &options),
        false => report::print_table(&mut io::stdout(), &report, &options),
    };
    // A reader that went away is no failure.
    let _closed = printed;
    Ok(())
}

/// An error and its causes in one sentence.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Runs the load until its time is over or somebody sets `interrupted`. Shows progress if stderr is a terminal.
pub fn simulate(
    target: Target,
    options: &Options,
    interrupted: &AtomicBool,
) -> Result<Report, SimulateError> {
    // Without more files there is a clear error for each connection that finds none.
    let _as_far_as_it_goes = raise_open_files();
    let objects = target.objects.len();
    let load = Load::start(target, options.plan.clone()).map_err(SimulateError::Load)?;
    let mut progress = Progress::new();
    while !interrupted.load(Ordering::Relaxed) && !load.wait_begun(LOOK_EVERY) {
        progress.say(|| {
            let logged_in = load.snapshot().get(Kind::LoggedIn);
            format!("logging in: {} of {}", grouped(logged_in), grouped(objects as u64))
        });
    }
    let deadline = Instant::now() + options.time;
    while !interrupted.load(Ordering::Relaxed) && Instant::now() < deadline {
        thread::sleep(LOOK_EVERY.min(deadline.saturating_duration_since(Instant::now())));
        progress.say(|| {
            let now = load.snapshot();
            let left = deadline.saturating_duration_since(Instant::now()).as_secs();
            format!("{} sessions, {} s to go", grouped(now.online as u64), left)
        });
    }
    let report = load.stop();
    progress.clear();
    let first = report.all.errors().find_map(|(_, _, first)| first);
    match first {
        Some(first) if objects > 0 && report.all.get(Kind::LoggedIn) == 0 => {
            Err(SimulateError::NobodyIn(objects, first.to_owned()))
        }
        _ => Ok(report),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Counters;
    use crate::client::fake::{self, Rules};
    use crate::wire::{AuthKey, Uid};

    fn parsed(line: &str) -> Result<Asked, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    fn options(line: &str) -> Options {
        match parsed(line) {
            Ok(Asked::Run(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_example_of_the_help_is_understood() {
        let example = HELP.rsplit_once("simulate --config").unwrap().1.replace("\\\n", " ");
        let options = options(&format!("--config{example}"));
        assert_eq!((options.objects, options.time), (200, Duration::from_secs(60)));
        assert_eq!(options.enrol, Some(GroupName::parse("Devices").unwrap()));
        assert_eq!(options.plan.telemetry, Rate::PerSecond(1000.0));
        assert!(options.plan.central);
    }

    #[test]
    fn every_option_of_the_help_is_understood() {
        let names = HELP.lines().filter_map(|line| line.strip_prefix("  --"));
        for line in names {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap();
            let value = match words.next().unwrap() {
                "N" | "C" | "K" | "T" if name == "answer-after" => "1s",
                "N" | "C" | "K" | "T" | "R" | "BYTES" => "2",
                "FILE" | "TEXT" | "GROUP" => "x",
                "WHO" => "none",
                "TIME" => "1s",
                _ => "",
            };
            options(&format!("--objects 1 --{name} {value}"));
        }
    }

    #[test]
    fn a_central_comes_only_where_it_has_work_unless_told() {
        assert!(options("--objects 1").plan.central);
        for line in ["--rate 0", "--callers 2", "--logins", "--central none"] {
            assert!(!options(&format!("--objects 1 {line}")).plan.central, "{line}");
        }
        assert!(options("--objects 1 --rate 0 --central tcp").plan.central);
    }

    #[test]
    fn mistakes_are_told_with_the_option() {
        for (line, expected) in [
            ("", "--objects is missing"),
            ("--objects 20001", "--objects must be 0 to 20000"),
            ("--objects 1 --rate fast", "\"fast\""),
            ("--objects 1 --central udp", "neither"),
            ("--objects 1 --for 10", "10"),
            ("--objects 1 --speed 3", "--speed"),
            ("--objects 1 extra", "extra"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
        assert!(matches!(parsed("--help"), Ok(Asked::Help)));
    }

    fn target(key: AuthKey) -> Target {
        let fake = fake::start(Rules::plain());
        Target {
            sessions: fake.sessions,
            tls: None,
            telemetry: Some(fake.telemetry),
            api: None,
            central: Some(Rules::plain().key),
            objects: vec![(Uid::parse("sim-1").unwrap(), key)],
        }
    }

    #[test]
    fn a_load_runs_its_time_and_reports() {
        let options = options("--objects 1 --rate max --in-flight 4 --for 200ms");
        let report = simulate(target(Rules::plain().key), &options, &AtomicBool::new(false)).unwrap();
        assert!(report.all.elapsed >= options.time);
        assert!(report.all.get(Kind::Answered) > 0);
    }

    #[test]
    fn an_interruption_ends_it_early_with_a_report() {
        let options = options("--objects 1 --rate 0 --for 1h");
        let report = simulate(target(Rules::plain().key), &options, &AtomicBool::new(true)).unwrap();
        assert!(report.all.elapsed < Duration::from_secs(60));
    }

    #[test]
    fn a_load_without_a_single_login_is_an_error_that_says_why() {
        let options = options("--objects 1 --rate 0 --for 0s");
        let error = simulate(target(AuthKey([1; 16])), &options, &AtomicBool::new(false)).unwrap_err();
        assert!(error.to_string().contains("not in the access list"), "{error}");
    }

    fn report() -> Report {
        let counters = Counters::default();
        counters.add(Kind::LoggedIn, 10);
        counters.logins.record(Duration::from_millis(2));
        counters.add(Kind::Answered, 5000);
        counters.calls.record(Duration::from_micros(150));
        counters.add(Kind::TelemetrySent, 1000);
        counters.add(Kind::TelemetryReceived, 900);
        counters.fail(Kind::CallTimedOut, &io::Error::other("no answer"));
        let all = counters.snapshot(Duration::from_secs(10), 10);
        Report { all, login_time: Some(Duration::from_secs(2)) }
    }

    #[test]
    fn the_table_says_rates_latencies_losses_and_errors() {
        let mut out = Vec::new();
        report::print_table(&mut out, &report(), &options("--objects 10")).unwrap();
        let text = String::from_utf8(out).unwrap();
        let words = |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
        let lines: Vec<Vec<String>> = text.lines().map(words).collect();
        assert!(lines.iter().any(|line| line.starts_with(&words("logins 10 5.0 2.00 ms"))), "{text}");
        assert!(lines.iter().any(|line| line.starts_with(&words("calls 5,000 500 150 µs"))), "{text}");
        assert!(lines.contains(&words("telemetry lost 10.0 %")), "{text}");
        assert!(lines.contains(&words("call_timed_out 1 first: no answer")), "{text}");
    }

    #[test]
    fn the_json_says_the_same() {
        let mut out = Vec::new();
        report::print_json(&mut out, &report(), &options("--objects 10")).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["per_second"]["calls_answered"], 500.0);
        assert_eq!(value["per_second"]["logged_in"], 5.0);
        assert_eq!(value["latency_us"]["calls"]["p50"], 150.0);
        assert_eq!(value["latency_us"]["object_requests"], serde_json::Value::Null);
        assert_eq!(value["errors"]["call_timed_out"]["first"], "no answer");
    }
}
