//! How good the program is: every figure that it is held to, measured on this machine with `simulate` as the load.
//! It judges and never fails for what it measured. See README.md beside this file.

use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;

mod ingest;
mod load;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod machine;
mod memory;
mod row;
mod silent;
#[expect(dead_code, reason = "the other benchmark uses the rest")]
mod site;
mod speed;
mod table;

use row::{Row, Settings};

const USAGE: &str = "Usage: cargo bench -- [--quick] [--once] [--list] [ROW]...";

fn main() -> ExitCode {
    let mut settings = Settings { runs: 3, seconds: 5 };
    let mut wanted = Vec::new();
    let (mut is_list, mut is_bench) = (false, false);
    for argument in env::args().skip(1) {
        match argument.as_str() {
            // What cargo adds when it is asked for benchmarks, and not for tests.
            "--bench" => is_bench = true,
            "--once" => settings.runs = 1,
            "--quick" => settings = Settings { runs: 1, seconds: 2 },
            "--list" => is_list = true,
            name if all().any(|row| row.name == name) => wanted.push(argument),
            _ => {
                say(&format!("{argument:?} is neither an option nor a row\n{USAGE}"));
                return ExitCode::from(2);
            }
        }
    }
    if is_list {
        all().for_each(|row| say(&format!("{:16}{}", row.name, row.what)));
        return ExitCode::SUCCESS;
    }
    if !is_bench {
        say("measures nothing unless it is run by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    if measure(&settings, &wanted) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all() -> impl Iterator<Item = &'static Row> {
    speed::ROWS.iter().chain(ingest::ROWS).chain(memory::ROWS).chain(silent::ROWS)
}

/// Measures and tells; whether all of it could be measured.
fn measure(settings: &Settings, wanted: &[String]) -> bool {
    // Children inherit it. Without it the rows with many connections say what they met.
    let _as_far_as_it_goes = iotsocketd::sys::raise_open_files();
    say(&machine::facts());
    say(&format!(
        "medians of {} runs, {} s of load each\n\n{}",
        settings.runs,
        settings.seconds,
        table::head()
    ));
    let mut is_whole = true;
    for row in all().filter(|row| wanted.is_empty() || wanted.iter().any(|name| name == row.name)) {
        let runs: Result<Vec<_>, String> = (0..settings.runs).map(|_| (row.measure)(settings)).collect();
        match runs {
            Ok(runs) => say(&table::row(row, &runs)),
            Err(error) => {
                is_whole = false;
                say(&format!("{}: {}\n  CANNOT BE MEASURED: {}", row.name, row.what, error.trim_end()));
            }
        }
    }
    is_whole
}

fn say(text: &str) {
    // Who closed the pipe wants to see no more.
    let _closed = writeln!(io::stdout(), "{text}");
}
