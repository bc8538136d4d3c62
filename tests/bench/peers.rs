//! How good the program is beside others: the same work by ours, by mosquitto and by nats-server, in one run on one
//! machine. See README.md beside this file.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;

mod contests;
mod crowd;
mod ingest;
mod link;
mod load;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod machine;
mod memory;
mod mqtt;
mod nats;
mod peer;
mod results;
mod row;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod site;
mod speed;
#[expect(dead_code, reason = "the other benchmark uses the rest")]
mod table;

use contests::{CONTESTS, Contest};
use peer::Kind;
use results::Result as Compared;
use row::{Measured, Settings};

const USAGE: &str = "Usage: cargo bench --bench peers -- [--quick] [--list] [--write] [CONTEST]...";
/// Where the results go.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/RESULTS.md");

fn main() -> ExitCode {
    let mut settings = Settings { runs: 3, seconds: 5 };
    let mut wanted = Vec::new();
    let (mut is_bench, mut writes) = (false, false);
    for argument in env::args().skip(1) {
        match argument.as_str() {
            // What cargo adds when it is asked for benchmarks, and not for tests.
            "--bench" => is_bench = true,
            "--quick" => settings = Settings { runs: 1, seconds: 2 },
            "--write" => writes = true,
            "--list" => {
                CONTESTS.iter().for_each(|contest| say(&format!("{:12}{}", contest.name, contest.what)));
                return ExitCode::SUCCESS;
            }
            name if CONTESTS.iter().any(|contest| contest.name == name) => wanted.push(argument),
            _ => {
                say(&format!("{argument:?} is neither an option nor a contest\n{USAGE}"));
                return ExitCode::from(2);
            }
        }
    }
    if writes && !wanted.is_empty() {
        say("--write is for all contests: a page with some of them would look like the whole");
        return ExitCode::from(2);
    }
    if !is_bench {
        say("measures nothing unless it is run by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    match measure(&settings, &wanted, writes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("CANNOT BE MEASURED: {}", error.trim_end()));
            ExitCode::FAILURE
        }
    }
}

/// Measures and tells, and writes the page: a contest that cannot be measured says so in its place.
fn measure(settings: &Settings, wanted: &[String], writes: bool) -> Result<(), String> {
    // Children inherit it. Without it the contests with many connections say what they met.
    let _as_far_as_it_goes = iotsocketd::sys::raise_open_files();
    let head = head(settings);
    say(&head);
    let (mut results, mut missing) = (Vec::new(), String::new());
    for contest in CONTESTS {
        if !wanted.is_empty() && wanted.iter().all(|name| name != contest.name) {
            continue;
        }
        match compare(contest, settings) {
            Ok(result) => {
                say(&format!("\n{}\n{}", result.table(), result.verdicts()));
                results.push(result);
            }
            Err(error) => {
                let line = format!("- CANNOT BE MEASURED: {}\n", error.trim_end().replace('\n', " "));
                say(&line);
                missing += &line;
            }
        }
    }
    if writes {
        let page = results::page(&head, &results, &missing);
        fs::write(PAGE, page).map_err(|error| format!("{PAGE}: {error}"))?;
    }
    if missing.is_empty() { Ok(()) } else { Err("a part of it, see above".to_owned()) }
}

/// Who was measured, when and where.
fn head(settings: &Settings) -> String {
    let version = |kind: Kind| kind.version().unwrap_or_else(|error| format!("CANNOT BE MEASURED: {error}"));
    format!(
        "Measured {} on {}. Medians; runs of each program: {}, of {} s, in turns, so that what else the machine did meets all \
         alike. Clients and server share the cores, on loopback.\n\n\
         - iotsocketd {}, release build\n- {}\n- {}",
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
        machine::facts(),
        settings.runs,
        settings.seconds,
        env!("CARGO_PKG_VERSION"),
        version(Kind::Mosquitto),
        version(Kind::Nats),
    )
}

/// Each program in turn, so that what else the machine does meets all of them.
fn compare(contest: &'static Contest, settings: &Settings) -> Result<Compared, String> {
    let entries = || std::iter::once(&contest.own).chain(contest.peers.iter().map(|(entry, _)| entry));
    let mut runs: Vec<Vec<Measured>> = entries().map(|_| Vec::new()).collect();
    for _ in 0..settings.runs {
        for (entry, runs) in entries().zip(&mut runs) {
            let measured = (entry.measure)(settings);
            runs.push(measured.map_err(|error| format!("{} of {}: {error}", contest.name, entry.who))?);
        }
    }
    Ok(Compared::new(contest, &runs))
}

fn say(text: &str) {
    // Who closed the pipe wants to see no more.
    let _closed = writeln!(io::stdout(), "{text}");
}
