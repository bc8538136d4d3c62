//! The status as Prometheus text, format 0.0.4.

use std::fmt::{self, Write};

use crate::hub::status::Status;

/// The exposition of one snapshot.
pub fn text(status: &Status) -> String {
    let mut out = String::with_capacity(4096);
    // Writing into a string cannot fail.
    let _written = write_all(&mut out, status);
    out
}

fn write_all(out: &mut String, status: &Status) -> fmt::Result {
    let version = [("version", status.version.as_str()), ("environment", status.environment.as_str())];
    family(out, "iotsocketd_info", "gauge", "The program.")?;
    sample(out, "iotsocketd_info", &version, 1)?;
    gauge(out, "iotsocketd_uptime_seconds", "Time since the start.", status.uptime_seconds)?;
    gauge(out, "iotsocketd_ready", "Whether it takes work.", u64::from(status.ready))?;

    let sessions = &status.sessions;
    family(out, "iotsocketd_sessions", "gauge", "Sessions of objects.")?;
    sample(out, "iotsocketd_sessions", &[("state", "live")], sessions.live)?;
    sample(out, "iotsocketd_sessions", &[("state", "kept")], sessions.kept)?;
    gauge(out, "iotsocketd_unauthenticated", "Connections without a login.", sessions.unauthenticated)?;
    gauge(
        out,
        "iotsocketd_central_live",
        "Whether the central has a live session.",
        u64::from(sessions.central),
    )?;
    family(out, "iotsocketd_connections", "gauge", "Connections of each listener.")?;
    for (listener, count) in &sessions.by_listener {
        sample(out, "iotsocketd_connections", &[("listener", listener)], *count)?;
    }
    counter(out, "iotsocketd_logins_total", "Logins that succeeded.", sessions.logins)?;

    let books = &status.books;
    counter(out, "iotsocketd_telemetry_received_total", "Datagrams taken.", books.received)?;
    // Only what counts datagrams taken may have telemetry in its name and _total at its end.
    counter(
        out,
        "iotsocketd_messages_delivered_total",
        "Messages delivered to the central.",
        books.delivered,
    )?;
    gauge(out, "iotsocketd_messages_waiting", "Messages not delivered yet.", books.waiting)?;
    family(out, "iotsocketd_messages_dropped_total", "counter", "Messages given up, by cause.")?;
    for (cause, count) in &books.dropped {
        sample(out, "iotsocketd_messages_dropped_total", &[("cause", cause)], *count)?;
    }

    gauge(out, "iotsocketd_queue_messages", "Messages that wait in memory.", status.queue.messages)?;
    gauge(out, "iotsocketd_queue_bytes", "Their bytes.", status.queue.bytes)?;
    gauge(out, "iotsocketd_queue_limit_bytes", "Bytes at most.", status.queue.limit)?;

    gauge(out, "iotsocketd_disk_bytes", "Size of the state folder's file system.", status.disk.total)?;
    gauge(out, "iotsocketd_disk_free_bytes", "What is free of it.", status.disk.free)?;

    let calls = &status.calls;
    gauge(out, "iotsocketd_calls_pending", "Calls that await their answer.", calls.pending)?;
    family(out, "iotsocketd_calls_total", "counter", "Calls by how they ended.")?;
    for (end, count) in [
        ("answered", calls.answered),
        ("not_found", calls.not_found),
        ("timed_out", calls.timed_out),
        ("abandoned", calls.abandoned),
    ] {
        sample(out, "iotsocketd_calls_total", &[("end", end)], count)?;
    }

    family(out, "iotsocketd_refusals_total", "counter", "Refusals by cause.")?;
    for (cause, count) in &status.refusals {
        sample(out, "iotsocketd_refusals_total", &[("cause", cause)], *count)?;
    }
    gauge(out, "iotsocketd_alerts", "Alerts that are up.", status.alerts.len() as u64)
}

fn gauge(out: &mut String, name: &str, help: &str, value: u64) -> fmt::Result {
    family(out, name, "gauge", help)?;
    sample(out, name, &[], value)
}

fn counter(out: &mut String, name: &str, help: &str, value: u64) -> fmt::Result {
    family(out, name, "counter", help)?;
    sample(out, name, &[], value)
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n")
}

fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: u64) -> fmt::Result {
    out.push_str(name);
    for (index, (label, text)) in labels.iter().enumerate() {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        write!(out, "{}{label}=\"{text}\"", if index == 0 { '{' } else { ',' })?;
    }
    let end = if labels.is_empty() { "" } else { "}" };
    writeln!(out, "{end} {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Status {
        let mut status =
            Status { version: "1.0".to_owned(), environment: "te\"st".to_owned(), ..Status::default() };
        status.books.received = 12;
        status.refusals.insert("api.key".to_owned(), 3);
        status
    }

    #[test]
    fn every_sample_has_its_family_and_a_whole_number() {
        let text = text(&example());
        let mut family = "";
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                family = kind.split(' ').next().unwrap();
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert_eq!(name.split('{').next(), Some(family), "{line}");
                value.parse::<u64>().unwrap();
            }
        }
        assert!(text.contains("iotsocketd_info{version=\"1.0\",environment=\"te\\\"st\"} 1\n"));
        assert!(text.contains("iotsocketd_refusals_total{cause=\"api.key\"} 3\n"));
    }

    #[test]
    fn the_one_telemetry_total_counts_datagrams_taken() {
        let text = text(&example());
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with('#') && line.contains("telemetry") && line.contains("_total"))
            .collect();
        assert_eq!(lines, ["iotsocketd_telemetry_received_total 12"]);
    }
}
