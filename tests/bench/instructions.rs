//! What a message costs in instructions: a figure that hardly depends on what else the machine does, so that a change of the
//! program shows in it. See README.md beside this file.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::process::{Command, ExitCode};

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod ingest;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod load;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod machine;
mod paths;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod row;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod site;

use paths::{PATHS, Path, Walk};
use site::PROGRAM;

const USAGE: &str = "Usage: cargo bench --bench instructions -- [--quick] [--list] [--write] [PATH]...";
/// What was counted when somebody last asked to write it down.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/instructions.txt");
/// Messages that go first: connections and tables grow with them.
const WARM: u32 = 30;
/// Messages that are counted.
const COUNTED: u32 = 300;
const COUNTED_QUICK: u32 = 100;
/// What is within this share of the recorded count is the same: threads meet a little differently each time.
const NOISE: f64 = 0.05;
/// Where the counts are, in the folder of the site.
const OUT: &str = "callgrind.out";

fn main() -> ExitCode {
    let mut wanted = Vec::new();
    let (mut is_bench, mut writes, mut counted) = (false, false, COUNTED);
    for argument in env::args().skip(1) {
        match argument.as_str() {
            // What cargo adds when it is asked for benchmarks, and not for tests.
            "--bench" => is_bench = true,
            "--quick" => counted = COUNTED_QUICK,
            "--write" => writes = true,
            "--list" => {
                PATHS.iter().for_each(|path| say(&format!("{:12}{}", path.name, path.what)));
                return ExitCode::SUCCESS;
            }
            name if PATHS.iter().any(|path| path.name == name) => wanted.push(argument),
            _ => {
                say(&format!("{argument:?} is neither an option nor a path\n{USAGE}"));
                return ExitCode::from(2);
            }
        }
    }
    if !is_bench {
        say("counts nothing unless it is run by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    if writes && !wanted.is_empty() {
        say("--write is for all paths: a record of some of them would look like the whole");
        return ExitCode::from(2);
    }
    match count_all(&wanted, counted, writes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("CANNOT BE COUNTED: {}", error.trim_end()));
            ExitCode::FAILURE
        }
    }
}

fn count_all(wanted: &[String], counted: u32, writes: bool) -> Result<(), String> {
    let recorded = fs::read_to_string(RECORDED).unwrap_or_default();
    say("| path | the way of a message | instructions | recorded | verdict |\n|---|---|--:|--:|---|");
    let mut record = String::new();
    for path in PATHS.iter().filter(|path| wanted.is_empty() || wanted.iter().any(|name| name == path.name)) {
        let each = count(path, counted).map_err(|error| format!("{}: {error}", path.name))?;
        let before = of(&recorded, path.name);
        let (shown, verdict) = match before {
            None => ("-".to_owned(), "new".to_owned()),
            Some(before) => (grouped(before), verdict(each, before)),
        };
        say(&format!("| {} | {} | {} | {shown} | {verdict} |", path.name, path.what, grouped(each)));
        let _never = writeln!(record, "{} {each}", path.name);
    }
    if writes {
        fs::write(RECORDED, record).map_err(|error| format!("{RECORDED}: {error}"))?;
    }
    Ok(())
}

/// Instructions of one message, all threads together.
fn count(path: &Path, counted: u32) -> Result<u64, String> {
    let Walk { site, mut step } = (path.prepare)(under_callgrind)?;
    for _ in 0..WARM {
        step()?;
    }
    control(&["--zero"], site.process())?;
    for _ in 0..counted {
        step()?;
    }
    control(&["--dump"], site.process())?;
    let file = site.file(&format!("{OUT}.1"));
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u64>().ok());
    let total = total.ok_or_else(|| format!("{}: no totals", file.display()))?;
    Ok(total / u64::from(counted))
}

fn under_callgrind(folder: &std::path::Path) -> Command {
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--callgrind-out-file={}", folder.join(OUT).display()))
        .arg(PROGRAM);
    command
}

fn control(order: &[&str], process: u32) -> Result<(), String> {
    let mut command = Command::new("callgrind_control");
    let output = command.args(order).arg(process.to_string()).output();
    let output = output.map_err(|error| format!("callgrind_control: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The count of a path in a record.
fn of(record: &str, name: &str) -> Option<u64> {
    record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn verdict(each: u64, before: u64) -> String {
    let change = each as f64 / before as f64 - 1.0;
    let word = if change > NOISE {
        "MORE"
    } else if change < -NOISE {
        "less"
    } else {
        "same"
    };
    format!("{word} ({:+.1} %)", change * 100.0)
}

/// Thousands in groups.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn say(text: &str) {
    // Who closed the pipe wants to see no more.
    let _closed = writeln!(io::stdout(), "{text}");
}
