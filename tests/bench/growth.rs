//! How costs grow: each of them with once, ten times and a hundred times as much; the hot paths beside a bare echo; latency
//! against load; and plots of them. See README.md beside this file.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

mod bounds;
mod chart;
mod echo;
mod ingest;
mod load;
mod machine;
#[expect(dead_code, reason = "the other benchmark uses the rest")]
mod paths;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod row;
mod site;
mod speed;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod table;

use chart::Chart;
use iotsocketd::client::Stream;
use iotsocketd::client::http::Connection;
use iotsocketd::limits::SUBSCRIBERS_MAX;
use load::Load;
use row::Settings;
use site::{Site, number};
use table::{middle, shown};

/// Where the plots go.
const CHARTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/charts");
/// What grows more than this from the first size to the last, of each, grows faster than its work.
const GROWTH_MAX: f64 = 2.0;
/// Questions and starts of which the median is told.
const QUESTIONS: usize = 21;
const STARTS: usize = 7;
/// Messages a second that are to wait.
const FILL_RATE: u64 = 50_000;
/// Objects of the contests in which something else grows.
const OBJECTS: u64 = 30;
const SETTLE: Duration = Duration::from_millis(500);
const MIB: f64 = 1024.0;

/// One cost at three sizes.
struct Cost {
    what: &'static str,
    unit: &'static str,
    sizes: Vec<u64>,
    values: Vec<f64>,
    /// Of what is not done for each of the size, but for all of it at once: it may grow with the size.
    is_of_all: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [option, folder, webhook] = arguments.as_slice()
        && option == echo::OPTION
    {
        let webhook = webhook.parse::<SocketAddr>().map_err(|error| error.to_string());
        return finish(webhook.and_then(|webhook| echo::serve(Path::new(folder), webhook)));
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        say("measures nothing unless it is run by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let settings = Settings { runs: 1, seconds: if is_quick { 2 } else { 5 } };
    finish(measure(&settings, is_quick))
}

fn finish(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("CANNOT BE MEASURED: {}", error.trim_end()));
            ExitCode::FAILURE
        }
    }
}

/// What cannot be measured is told in its place, and in the end.
fn measure(settings: &Settings, is_quick: bool) -> Result<(), String> {
    let _as_far_as_it_goes = iotsocketd::sys::raise_open_files();
    say(&format!("{}; one run of {} s each\n", machine::facts(), settings.seconds));
    let mut is_whole = bounds::beside_echo(settings).unwrap_or_else(|error| not_measured(&error));
    say("\n| cost | unit | 1 | 10 | 100 | growth | verdict |\n|---|---|--:|--:|--:|--:|---|");
    let first = if is_quick { 5_000 } else { 20_000 };
    let parts: [&dyn Fn() -> Result<Vec<Cost>, String>; 4] =
        [&|| sessions(settings), &|| lists(settings), &|| backlogs(first), &|| destinations(settings)];
    let mut costs = Vec::new();
    for part in parts {
        match part() {
            Ok(found) => {
                found.iter().for_each(Cost::tell);
                costs.extend(found);
            }
            Err(error) => is_whole = not_measured(&error),
        }
    }
    plots(settings, &costs)?;
    if is_whole { Ok(()) } else { Err("a part of it, see above".to_owned()) }
}

/// Says so where the figures would stand.
fn not_measured(error: &str) -> bool {
    say(&format!("| CANNOT BE MEASURED: {} |", error.trim_end().replace('\n', " ")));
    false
}

impl Cost {
    fn tell(&self) {
        let (first, last) = (self.values.first().copied(), self.values.last().copied());
        let growth = last.unwrap_or_default() / first.unwrap_or_default().max(1e-9);
        let work = self.sizes.last().copied().unwrap_or(1) as f64
            / self.sizes.first().copied().unwrap_or(1).max(1) as f64;
        let bound = if self.is_of_all { work } else { GROWTH_MAX };
        let verdict = if growth <= bound { "ok" } else { "GROWS" };
        let cells: Vec<_> = self
            .sizes
            .iter()
            .zip(&self.values)
            .map(|(size, value)| format!("{} at {}", shown(*value), shown(*size as f64)))
            .collect();
        say(&format!(
            "| {} | {} | {} | ×{} | {verdict} (×{} at most) |",
            self.what,
            self.unit,
            cells.join(" | "),
            shown(growth),
            shown(bound)
        ));
    }

    fn points(&self) -> Vec<(f64, f64)> {
        self.sizes.iter().map(|size| *size as f64).zip(self.values.iter().copied()).collect()
    }
}

/// Microseconds of the concentrator for each call while all are in, and KiB of each session.
fn called(site: &mut Site, sessions: u64, settings: &Settings) -> Result<[f64; 2], String> {
    thread::sleep(SETTLE);
    let idle = site.resident_kib()?;
    let load = Load::start(site, &format!("--objects {sessions} --in-flight 32 --for {}", settings.time()))?;
    site.wait_until("all sessions are live", |status| number(status, "/sessions/live") >= sessions as f64)?;
    let so_far = |site: &Site| -> Result<[f64; 2], String> {
        let spent = machine::running_seconds(site.process())?;
        Ok([spent, number(&site.status()?, "/latency/calls/count")])
    };
    let [spent_before, calls_before] = so_far(site)?;
    thread::sleep(time(settings) / 2);
    let [spent, calls] = so_far(site)?;
    let memory = site.resident_kib()? - idle;
    load.finish()?;
    Ok([(spent - spent_before) * 1e6 / (calls - calls_before).max(1.0), memory / sessions as f64])
}

fn sessions(settings: &Settings) -> Result<Vec<Cost>, String> {
    let sizes = vec![OBJECTS, 10 * OBJECTS, 100 * OBJECTS];
    let mut values = [Vec::new(), Vec::new()];
    for size in &sizes {
        let mut site = Site::start(*size as usize)?;
        let measured = called(&mut site, *size, settings)?;
        values.iter_mut().zip(measured).for_each(|(values, value)| values.push(value));
    }
    let [calls, memory] = values;
    Ok(vec![
        Cost {
            what: "a call, by sessions",
            unit: "us",
            sizes: sizes.clone(),
            values: calls,
            is_of_all: false,
        },
        Cost { what: "a session, by sessions", unit: "KiB", sizes, values: memory, is_of_all: false },
    ])
}

fn lists(settings: &Settings) -> Result<Vec<Cost>, String> {
    let sizes = vec![200, 2_000, 20_000];
    let mut values: [Vec<f64>; 3] = Default::default();
    for size in &sizes {
        let mut site = Site::start(*size as usize)?;
        let [call, _] = called(&mut site, OBJECTS, settings)?;
        let [start, served] = starts_ms(&mut site)?;
        values.iter_mut().zip([call, start, served]).for_each(|(values, value)| values.push(value));
    }
    let [calls, starts, served] = values;
    Ok(vec![
        Cost {
            what: "a call, by access list",
            unit: "us",
            sizes: sizes.clone(),
            values: calls,
            is_of_all: false,
        },
        Cost {
            what: "a start, by access list",
            unit: "ms of processor",
            sizes: sizes.clone(),
            values: starts,
            is_of_all: true,
        },
        Cost {
            what: "from kill to the first one served, by access list",
            unit: "ms",
            sizes,
            values: served,
            is_of_all: true,
        },
    ])
}

/// Milliseconds of processor that a start takes, and until somebody is served: medians. What the journal had open is closed
/// by the first one, which is not counted: what lies there is no more than a segment, however long the history.
fn starts_ms(site: &mut Site) -> Result<[f64; 2], String> {
    site.restart()?;
    let (mut spent, mut served) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let begun = Instant::now();
        site.restart()?;
        served.push(begun.elapsed().as_secs_f64() * 1000.0);
        spent.push(machine::running_seconds(site.process())? * 1000.0);
    }
    Ok([middle(spent), middle(served)])
}

/// What waits for the central, and is history afterwards: so many messages, then ten and a hundred times as many.
fn backlogs(first: u64) -> Result<Vec<Cost>, String> {
    let sizes = vec![first, 10 * first, 100 * first];
    let mut values: [Vec<f64>; 5] = Default::default();
    for size in &sizes {
        let mut site = Site::start(OBJECTS as usize)?;
        let (cost, took) = drained(&mut site, *size)?;
        let question = question_ms(&site, *size)?;
        let [start, served] = starts_ms(&mut site)?;
        let measured = [cost, took, question, start, served];
        values.iter_mut().zip(measured).for_each(|(values, value)| values.push(value));
    }
    let [cost, took, question, start, served] = values;
    let costs = [
        ("a message that waited, by backlog", "us", cost, false),
        ("all of a backlog", "ms", took, true),
        ("the last 100 of an object, by history", "ms", question, false),
        ("a start, by history", "ms of processor", start, false),
        ("from kill to the first one served, by history", "ms", served, false),
    ];
    Ok(costs
        .into_iter()
        .map(|(what, unit, values, is_of_all)| Cost { what, unit, sizes: sizes.clone(), values, is_of_all })
        .collect())
}

/// Microseconds of the concentrator for each message that waited until the central came, and milliseconds for all.
fn drained(site: &mut Site, size: u64) -> Result<(f64, f64), String> {
    let mut waiting = 0.0;
    while waiting < size as f64 {
        let missing = size as f64 - waiting;
        let options = format!(
            "--objects {OBJECTS} --rate 0 --central none --telemetry {FILL_RATE} --for {}ms",
            (missing * 1000.0 / FILL_RATE as f64).max(100.0) as u64
        );
        Load::run(site, &options)?;
        waiting = number(&site.status()?, "/books/waiting");
    }
    let (begun, server) = (Instant::now(), machine::running_seconds(site.process())?);
    let load = Load::start(site, "--objects 1 --rate 0 --central tcp --for 20s")?;
    site.wait_until("nothing waits", |status| number(status, "/books/waiting") == 0.0)?;
    let seconds = begun.elapsed().as_secs_f64();
    let spent = machine::running_seconds(site.process())? - server;
    // It has nothing more to do.
    drop(load);
    Ok((spent * 1e6 / waiting, seconds * 1000.0))
}

/// The median of some questions for the last messages of an object, in a history of so many of all objects in turns.
fn question_ms(site: &Site, size: u64) -> Result<f64, String> {
    let (tls, key) = (site.tls()?, site.central_key()?);
    let after = size.saturating_sub(100 * OBJECTS);
    let path = format!("/v1/messages?uid={}&kind=telemetry&after={after}&limit=100", site::uid(1));
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let stream = smol::block_on(Stream::open(site.api, Some(&tls))).map_err(|error| text(&error))?;
    let mut connection = Connection::new(stream);
    let mut took = Vec::new();
    for _ in 0..QUESTIONS {
        let begun = Instant::now();
        let answer = smol::block_on(connection.get(&path, &site.api.to_string(), key));
        let answer = answer.map_err(|error| text(&error))?;
        if answer.status != 200 {
            let body = String::from_utf8_lossy(answer.body);
            return Err(format!("{path} was answered {}: {body}", answer.status));
        }
        took.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(middle(took))
}

/// Microseconds of the concentrator for each delivery to so many subscribers.
fn destinations(settings: &Settings) -> Result<Vec<Cost>, String> {
    // A hundred there cannot be.
    let sizes = vec![1, 10, SUBSCRIBERS_MAX as u64];
    let mut values = Vec::new();
    for size in &sizes {
        let (address, came) = paths::hook()?;
        let tables: String = (0..*size)
            .map(|number| {
                format!(
                    "\n[subscribers.s{number}]\nurl = \"http://{address}/hook\"\n\
                     secret = \"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n"
                )
            })
            .collect();
        let site = Site::start_with(OBJECTS as usize, &tables)?;
        let server = machine::processor_seconds(site.process())?;
        let options =
            format!("--objects {OBJECTS} --rate 0 --central none --telemetry 100 --for {}", settings.time());
        Load::run(&site, &options)?;
        thread::sleep(2 * SETTLE);
        let spent = machine::processor_seconds(site.process())? - server;
        values.push(spent * 1e6 / (came.try_iter().count() as f64).max(1.0));
    }
    Ok(vec![Cost {
        what: "a delivery, by subscribers (64 at most)",
        unit: "us",
        sizes,
        values,
        is_of_all: false,
    }])
}

/// Latency against load is measured here; the other plots are of what was measured before.
fn plots(settings: &Settings, costs: &[Cost]) -> Result<(), String> {
    say("\n| calls/s asked for | calls/s | p50 us | p99 us |\n|--:|--:|--:|--:|");
    let (mut half, mut nearly_all) = (Vec::new(), Vec::new());
    for rate in [1_000, 3_000, 10_000, 20_000, 30_000, 40_000, 50_000] {
        let site = Site::start(32)?;
        let options = format!("--objects 32 --in-flight 32 --rate {rate} --for {}", settings.time());
        let outcome = Load::run(&site, &options)?.without_errors()?;
        let (p50, p99) = (outcome.calls_us("p50")?, outcome.calls_us("p99")?);
        let done = outcome.rate("calls_answered");
        half.push((done, p50));
        nearly_all.push((done, p99));
        say(&format!("| {} | {} | {} | {} |", shown(rate.into()), shown(done), shown(p50), shown(p99)));
    }
    let of = |what: &str| costs.iter().find(|cost| cost.what == what).map(Cost::points).unwrap_or_default();
    let memory: Vec<_> =
        of("a session, by sessions").into_iter().map(|(count, kib)| (count, count * kib / MIB)).collect();
    let when = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let charts = [
        (
            "latency",
            Chart {
                title: format!("Calls over TCP and TLS: latency against load, {when}"),
                axes: ["calls/s", "us"],
                lines: vec![("p50", half), ("p99", nearly_all)],
            },
        ),
        (
            "memory",
            Chart {
                title: format!("Memory of sessions under TLS, {when}"),
                axes: ["sessions", "MiB"],
                lines: vec![("more than idle", memory)],
            },
        ),
        (
            "backlog",
            Chart {
                title: format!("What a message costs that waited for the central, {when}"),
                axes: ["messages that wait", "us of processor each"],
                lines: vec![("us each", of("a message that waited, by backlog"))],
            },
        ),
    ];
    fs::create_dir_all(CHARTS).map_err(|error| format!("{CHARTS}: {error}"))?;
    say("");
    for (name, chart) in charts.into_iter().filter(|(_, chart)| chart.has_points()) {
        let file = format!("{CHARTS}/{name}.svg");
        fs::write(&file, chart.svg()).map_err(|error| format!("{file}: {error}"))?;
        say(&format!("![{}](charts/{name}.svg)", chart.title));
    }
    Ok(())
}

fn time(settings: &Settings) -> Duration {
    Duration::from_secs(settings.seconds.into())
}

fn say(text: &str) {
    // Who closed the pipe wants to see no more.
    let _closed = writeln!(io::stdout(), "{text}");
}
