//! `status`: what a running concentrator is doing.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::Arg;
use serde_json::Value;

use super::recall::harmless;
use super::table::{bytes, grouped, rate, time};
use super::{Failure, maintenance_client, output};
use crate::service::config::DEFAULT_PATH;

pub(super) const SUMMARY: &str = "what a running concentrator is doing";
pub(super) const HELP: &str = "\
Usage: iotsocketd status [--config FILE] [--json]

Asks the running concentrator over its maintenance socket, which root and the service's group may
open: sessions, rates, latencies, queue, disk, books, destinations, certificate, refusals by cause,
alerts. Exit 1 when none runs.

Options:
  --config FILE  the configuration that it runs with [default: /etc/iotsocketd/iotsocketd.toml]
  --json         as JSON, the same as GET /v1/status

Example:
  iotsocketd status --json
";

/// Width of the names.
const NAME_WIDTH: usize = 28;
/// What is shown between head and alerts, in this order.
const SECTIONS: [&str; 14] = [
    "sessions",
    "rates",
    "latency",
    "queue",
    "disk",
    "wear",
    "certificate",
    "calls",
    "books",
    "destinations",
    "backup",
    "availability",
    "second_tries",
    "refusals",
];

/// Names of values that are bytes, though they do not say so: of the queue and the disk.
const OTHER_BYTES: [&str; 3] = ["limit", "total", "free"];

pub(super) fn run(mut parser: lexopt::Parser) -> Result<(), Failure> {
    let usage = |error: lexopt::Error| Failure::Usage(error.to_string());
    let (mut config, mut json) = (None, false);
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Arg::Long("json") => json = true,
            Arg::Long("config") => config = Some(PathBuf::from(parser.value().map_err(usage)?)),
            other => return Err(usage(other.unexpected())),
        }
    }
    let path = config.unwrap_or_else(|| PathBuf::from(DEFAULT_PATH));
    let sockets = maintenance_client::sockets(&path);
    let text = run_with(&sockets, json).map_err(Failure::Failed)?;
    output::answer(&text)
}

/// The status from the first of these sockets that somebody answers on, as JSON or to be read.
pub fn run_with(sockets: &[PathBuf], json: bool) -> Result<String, String> {
    let text = maintenance_client::ask(sockets, "/v1/status", maintenance_client::TIMEOUT)?;
    if json {
        return Ok(text);
    }
    serde_json::from_str(&text)
        .map(|status| render(&status))
        .map_err(|error| format!("the concentrator answered what is no status: {error}"))
}

/// Lines of names and values; what is zero by cause is left out.
fn render(status: &Value) -> String {
    let mut text = String::new();
    let word = |name: &str| status.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
    let uptime = status.get("uptime_seconds").and_then(Value::as_u64).unwrap_or_default();
    let ready = if status.get("ready") == Some(&Value::Bool(true)) { "ready" } else { "NOT ready" };
    // Writing into a string cannot fail.
    let _written = writeln!(
        text,
        "iotsocketd {} ({}), up {}, {ready}",
        word("version"),
        word("environment"),
        span(uptime)
    );
    for section in SECTIONS {
        let mut lines = String::new();
        match (section, status.get(section)) {
            (_, None) => {}
            ("latency", Some(value)) => add_latencies(&mut lines, value),
            ("availability", Some(value)) => add_availability(&mut lines, value),
            ("destinations", Some(value)) => add_destinations(&mut lines, value),
            (_, Some(value)) => add_lines(&mut lines, "", value, section == "refusals"),
        }
        if !lines.is_empty() {
            let _written = write!(text, "\n{section}\n{lines}");
        }
    }
    let alerts = status.get("alerts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let _written = writeln!(text, "\nalerts{}", if alerts.is_empty() { ": none" } else { "" });
    for alert in alerts {
        let part = |name: &str| alert.get(name).and_then(Value::as_str).unwrap_or("?");
        let _written = writeln!(text, "  {} since {}: {}", part("name"), part("since"), part("sentence"));
    }
    text.trim_end().to_owned()
}

/// A line for each kind of duration that was measured.
fn add_latencies(lines: &mut String, value: &Value) {
    for (name, latency) in value.as_object().into_iter().flatten() {
        let seconds =
            |name: &str| Duration::try_from_secs_f64(latency.get(name).and_then(Value::as_f64)?).ok();
        let (Some(p50), Some(p99)) = (seconds("p50_seconds"), seconds("p99_seconds")) else { continue };
        let (p50, p99) = (time(p50).to_string(), time(p99).to_string());
        let count = latency.get("count").and_then(Value::as_u64).unwrap_or_default();
        let _written =
            writeln!(lines, "  {name:NAME_WIDTH$} {:>14}  half {p50:>8}  99 % {p99:>8}", grouped(count));
    }
}

/// A line for each period that is looked back at.
fn add_availability(lines: &mut String, value: &Value) {
    for (name, share) in [("30 days", value.get("days_30")), ("365 days", value.get("days_365"))] {
        if let Some(share) = share.and_then(Value::as_f64) {
            let _written = writeln!(lines, "  {name:NAME_WIDTH$} {:>12.3} %", share * 100.0);
        }
    }
}

/// A line for each destination.
fn add_destinations(lines: &mut String, value: &Value) {
    for destination in value.as_array().into_iter().flatten() {
        let word = |name: &str| destination.get(name).and_then(Value::as_str).unwrap_or("?");
        let number = |name: &str| destination.get(name).and_then(Value::as_u64).unwrap_or_default();
        let per_second = destination.get("delivered_per_second").and_then(Value::as_f64).unwrap_or_default();
        let waiting = number("waiting");
        let drained = match destination.get("drain_seconds").and_then(Value::as_f64) {
            Some(_) if waiting == 0 => String::new(),
            Some(seconds) => format!(", drained in {}", span(seconds as u64)),
            None => ", does not drain".to_owned(),
        };
        let mut troubles = String::new();
        if let Some(why) = destination.get("last_failure").and_then(Value::as_str)
            && word("state") != "up"
        {
            troubles = format!("; {}", harmless(why));
        }
        if number("dead_letters") > 0 {
            troubles += &format!("; {} dead letters", grouped(number("dead_letters")));
        }
        let _written = writeln!(
            lines,
            "  {:NAME_WIDTH$} {:>14}  by {}, {} delivered ({}/s), {} waiting{drained}{troubles}",
            word("name"),
            word("state"),
            word("via"),
            grouped(number("delivered")),
            rate(per_second),
            grouped(waiting),
        );
    }
}

fn add_lines(lines: &mut String, prefix: &str, value: &Value, hide_zero: bool) {
    let Some(fields) = value.as_object() else {
        return;
    };
    for (name, value) in fields {
        // The same moment stands there as text.
        if name.ends_with("_unix") {
            continue;
        }
        let is_bytes = name.ends_with("bytes") || OTHER_BYTES.contains(&name.as_str());
        let name = format!("{prefix}{}", name.replace('_', " "));
        let shown = match value {
            Value::Object(_) => {
                add_lines(lines, &format!("{name}: "), value, true);
                continue;
            }
            Value::Number(number) => match number.as_u64() {
                Some(0) if hide_zero => continue,
                Some(whole) if is_bytes => bytes(whole),
                Some(whole) => grouped(whole),
                None => format!("{:.1}", number.as_f64().unwrap_or_default()),
            },
            Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
            other => other.as_str().unwrap_or_default().to_owned(),
        };
        let _written = writeln!(lines, "  {name:NAME_WIDTH$} {shown:>14}");
    }
}

fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_readable_and_zeroes_by_cause_are_left_out() {
        let status = serde_json::json!({
            "version": "1.0", "environment": "test", "uptime_seconds": 7300, "ready": true,
            "sessions": {"live": 12345, "central": true, "by_listener": {"api": 3, "tcp": 0}},
            "rates": {"requests_per_second": 1.25},
            "disk": {"free": 29_691_449_344_u64, "total": 0},
            "wear": {"written_per_day_bytes": 1_288_490_188},
            "latency": {
                "calls": {"count": 5, "p50_seconds": 0.0015, "p99_seconds": 1.25},
                "telemetry": {"count": 0, "p50_seconds": null, "p99_seconds": null},
            },
            "destinations": [
                {"name": "central", "via": "webhook", "state": "failing", "waiting": 1200, "delivered": 7,
                 "delivered_per_second": 2.5, "drain_seconds": 480.2},
                {"name": "erp", "via": "webhook", "state": "up", "waiting": 1, "delivered": 0,
                 "delivered_per_second": 0.0, "drain_seconds": null},
            ],
            "refusals": {"api.key": 0, "api.route": 2},
            "alerts": [{"name": "weak_key", "sentence": "change it", "since": "2026-11-21T18:52:42Z"}],
        });
        let text = render(&status);
        assert!(text.starts_with("iotsocketd 1.0 (test), up 2 h 1 min, ready\n"), "{text}");
        for part in [
            "12,345",
            "27.7 GiB\n",
            "1.2 GiB\n",
            " 0 B\n",
            "yes",
            "by listener: api",
            "1.2",
            "api.route",
            "change it",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        for part in [
            "half  1.50 ms  99 %   1.25 s",
            "failing  by webhook, 7 delivered (2.5/s), 1,200 waiting, drained in 8 min\n",
            "1 waiting, does not drain\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("telemetry"), "nothing was measured: {text}");
        assert!(!text.contains("api.key") && !text.contains("tcp"), "{text}");
    }

    #[test]
    fn without_a_concentrator_the_places_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let sentence =
            run_with(&[folder.path().join("a.sock"), folder.path().join("b.sock")], true).unwrap_err();
        assert!(sentence.starts_with("no concentrator is running"), "{sentence}");
        assert!(sentence.contains("a.sock or ") && sentence.ends_with("b.sock"), "{sentence}");
    }

    #[test]
    fn spans_are_told_in_two_units_at_most() {
        assert_eq!([59, 60, 3600, 90_000].map(span), ["59 s", "1 min", "1 h 0 min", "1 d 1 h"]);
    }
}
