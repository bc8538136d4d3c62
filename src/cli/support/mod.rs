//! `support-bundle`: one file with what somebody needs to find out what is wrong, and without secrets.

mod tar;

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{BufWriter, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;

use super::arguments::Arguments;
use super::recall::{Journal as _, Kept, Page, parse};
use super::{Failure, maintenance_client, output, why};
use crate::service::backup::file::moment;
use crate::service::blackbox::{self, Body, Entry, FIGURES, INTERVAL};
use crate::service::config::{Config, redacted};

pub(super) const SUMMARY: &str = "one file with all that helps to find out what is wrong, without secrets";
pub(super) const HELP: &str = "\
Usage: iotsocketd support-bundle [FILE] [--config FILE]

Writes a new .tar.gz, of a running concentrator or a stopped one: status, metrics, configuration
without secrets, versions, the black box, the newest events, and the service's log where systemd
keeps it. No key, token or payload is in it, but names of objects and networks are: look it over
before you hand it on. Without FILE it gets a name by the time, in the current folder.

Options:
  --config FILE  the configuration that it runs with [default: /etc/iotsocketd/iotsocketd.toml]

Example:
  iotsocketd support-bundle /tmp/gateway-7.tar.gz
";

/// Kinds of messages that tell what was done; payloads of devices are in none of them.
const KINDS: [&str; 3] = ["event", "audit", "access"];
/// Messages of each kind at most.
const MESSAGES_MAX: usize = 1000;
/// Lines of the service's log at most.
const LOG_LINES: &str = "5000";

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 1, &["config"])?;
    let now = Timestamp::now();
    let name = format!("iotsocketd-support-{}", moment(now));
    let path = match arguments.words.first() {
        Some(word) => PathBuf::from(word),
        None => PathBuf::from(format!("{name}.tar.gz")),
    };
    let failed = |error: std::io::Error| {
        Failure::Failed(match error.kind() {
            ErrorKind::AlreadyExists => format!("{} exists already; nothing was written", path.display()),
            _ => format!("{} cannot be written: {error}", path.display()),
        })
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    let files = gather(&arguments);
    tar::write(BufWriter::new(file), &name, &files, now.as_second()).map_err(failed)?;
    output::say(&format!(
        "{}: {}; look it over before you hand it on",
        path.display(),
        files.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    ));
    Ok(())
}

/// Each of the files; one that cannot be had says why in its place.
fn gather(arguments: &Arguments) -> Vec<(&'static str, String)> {
    let config = arguments.config_path();
    let sockets = maintenance_client::sockets(&config);
    let ask = |path| {
        let answer = maintenance_client::ask(&sockets, path, maintenance_client::TIMEOUT);
        answer.unwrap_or_else(|sentence| format!("{sentence}\n"))
    };
    let state_dir = arguments.config().ok().map(|config| config.state_dir);
    let entries = state_dir.map(|state_dir| blackbox::load(&blackbox::path(&state_dir)));
    let (blackbox, why) = match entries {
        Some(Ok(entries)) => (csv(&entries), why::newest(entries)),
        Some(Err(error)) => (format!("it cannot be read: {error}\n"), String::new()),
        None => ("the configuration does not say where it is\n".to_owned(), String::new()),
    };
    vec![
        ("versions.txt", versions()),
        ("status.json", ask("/v1/status")),
        ("metrics.txt", ask("/metrics")),
        ("configuration.toml", configuration(&config)),
        ("blackbox.csv", blackbox),
        ("why.txt", why),
        ("events.ndjson", events(arguments)),
        ("log.txt", service_log()),
    ]
}

fn versions() -> String {
    let first_line =
        |path| fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or("?").to_owned();
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("?");
    format!(
        "iotsocketd {} for {}\nkernel {}\nsystem {system}\nmachine {}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        first_line("/proc/sys/kernel/osrelease"),
        first_line("/proc/device-tree/model").trim_end_matches('\0'),
    )
}

fn configuration(path: &Path) -> String {
    let text = match fs::read_to_string(path) {
        Ok(text) => redacted(&text),
        Err(error) => return format!("{}: cannot be read: {error}\n", path.display()),
    };
    let examined = Config::examine(path);
    let mut out = text;
    for mistake in examined.mistakes.iter().chain(&examined.warnings) {
        // Sentences are made without secrets, for the log.
        let _written = writeln!(out, "# {mistake}");
    }
    out
}

/// The newest messages that tell what was done, without anything that a device sent.
fn events(arguments: &Arguments) -> String {
    let gather = || {
        let kept = Kept::of(arguments).map_err(|failure| match failure {
            Failure::Failed(sentence) | Failure::Usage(sentence) => sentence,
        })?;
        let mut out = String::new();
        for kind in KINDS {
            let answer = kept.get(&format!("/v1/messages?kind={kind}&last={MESSAGES_MAX}"))?;
            for message in parse::<Page<'_>>(&answer)?.messages {
                out.push_str(message.get());
                out.push('\n');
            }
        }
        Ok::<_, String>(out)
    };
    gather().unwrap_or_else(|sentence| format!("{sentence}\n"))
}

/// The service's log, where systemd keeps it.
fn service_log() -> String {
    let journal = Command::new("journalctl")
        .args([
            "--unit",
            "iotsocketd",
            "--lines",
            LOG_LINES,
            "--no-pager",
            "--quiet",
            "--output",
            "short-iso",
        ])
        .output();
    match journal {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        _ => "systemd keeps no log of it here: add what the program wrote to stderr\n".to_owned(),
    }
}

/// One line for each entry; what happened stands in the last column.
fn csv(entries: &[Entry]) -> String {
    let mut out = String::from("time,clock,since_start_s,boot");
    FIGURES.iter().for_each(|figure| _ = write!(out, ",{}", figure.name));
    out.push_str(",event\n");
    for entry in entries {
        let time =
            Timestamp::from_microsecond(entry.wall_us).map(|time| time.to_string()).unwrap_or_default();
        let clock = if entry.is_right { "right" } else { "unset" };
        let _written = write!(out, "{time},{clock},{},{:08x}", entry.mono_us / 1_000_000, entry.boot);
        for index in 0..FIGURES.len() {
            let value = match &entry.body {
                Body::Figures(figures) => figures.value(index, INTERVAL),
                _ => None,
            };
            match value {
                Some(value) => _ = write!(out, ",{value:.2}"),
                None => out.push(','),
            }
        }
        let event = match &entry.body {
            Body::Figures(_) => String::new(),
            Body::Started(version) => format!("started {version}"),
            Body::Stopped => "stopped".to_owned(),
            Body::Raised(name) => format!("raised {name}"),
            Body::Cleared(name) => format!("cleared {name}"),
        };
        let _written = writeln!(out, ",{event}");
    }
    out
}
