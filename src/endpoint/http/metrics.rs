//! The status as Prometheus text, format 0.0.4. Every name is in `config/grafana/README.md`.
//!
//! Labels take their values from the program and the configuration, never from what peers send: the number of series
//! is bounded.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};

use crate::hub::status::{Backups, Destination, Latency, SecondTries, Status, Wear};

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

    gauge(out, "iotsocketd_queue_messages", "Messages that wait for the central.", status.queue.messages)?;
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
    gauge(out, "iotsocketd_alerts", "Alerts that are up.", status.alerts.len() as u64)?;
    family(out, "iotsocketd_alert_up", "gauge", "How many alerts of a name are up.")?;
    let mut names = BTreeMap::<&str, u64>::new();
    status.alerts.iter().for_each(|alert| *names.entry(&alert.name).or_default() += 1);
    for (name, count) in names {
        sample(out, "iotsocketd_alert_up", &[("alert", name)], count)?;
    }
    rest(out, status)
}

fn rest(out: &mut String, status: &Status) -> fmt::Result {
    histogram(
        out,
        "iotsocketd_call_seconds",
        "From a request that was taken to its answer by who was asked, both directions.",
        &status.latency.calls,
    )?;
    histogram(
        out,
        "iotsocketd_telemetry_delivery_seconds",
        "From a datagram that was taken to its delivery to the central.",
        &status.latency.telemetry,
    )?;

    destinations(out, &status.destinations)?;
    second_tries(out, status.second_tries.as_ref())?;

    let availability = "iotsocketd_availability_ratio";
    family(out, availability, "gauge", "The share of the time in which it served, over restarts.")?;
    for (days, share) in [("30", status.availability.days_30), ("365", status.availability.days_365)] {
        share.map_or(Ok(()), |share| sample(out, availability, &[("days", days)], share))?;
    }
    let end = "iotsocketd_certificate_days_left";
    family(out, end, "gauge", "Whole days until the certificate ends.")?;
    if let Some(certificate) = &status.certificate {
        sample(out, end, &[], certificate.days_left)?;
    }
    wear(out, status.wear.as_ref())?;
    backups(out, status.backup.as_ref())
}

fn second_tries(out: &mut String, known: Option<&SecondTries>) -> fmt::Result {
    let Some(known) = known else { return Ok(()) };
    gauge(
        out,
        "iotsocketd_second_tries_known",
        "Messages of partner networks whose second try would be known.",
        known.known,
    )?;
    gauge(
        out,
        "iotsocketd_second_tries_window_seconds",
        "How old a message may be for that: 24 hours, less with more than 17 million a day.",
        known.window_seconds,
    )
}

fn wear(out: &mut String, wear: Option<&Wear>) -> fmt::Result {
    let Some(wear) = wear else { return Ok(()) };
    counter(
        out,
        "iotsocketd_written_bytes_total",
        "Bytes that the program caused to be written to its medium.",
        wear.written_bytes,
    )?;
    told(
        out,
        "iotsocketd_written_bytes_a_day",
        "The same for a day, at the average since the start.",
        wear.written_per_day_bytes,
    )?;
    told(
        out,
        "iotsocketd_medium_written_bytes_a_day",
        "Bytes that everybody writes to the medium in a day, at the average since the machine started.",
        wear.medium_written_per_day_bytes,
    )?;
    told(
        out,
        "iotsocketd_write_amplification",
        "Bytes that the program causes to be written for each byte of payload.",
        wear.write_amplification,
    )?;
    told(
        out,
        "iotsocketd_medium_life_used_percent",
        "How much of its life the medium says is used.",
        wear.life_used_percent,
    )?;
    told(
        out,
        "iotsocketd_medium_reserve_is_low",
        "Whether the medium says that its reserve of good blocks is low.",
        wear.reserve.map(|reserve| u8::from(reserve != "normal")),
    )?;
    told(
        out,
        "iotsocketd_medium_years_left",
        "Years until the medium is used up at this rate, if it is a cheap one.",
        wear.years_left,
    )
}

/// A gauge that has no sample while nobody knows.
fn told(out: &mut String, name: &str, help: &str, value: Option<impl Display>) -> fmt::Result {
    family(out, name, "gauge", help)?;
    value.map_or(Ok(()), |value| sample(out, name, &[], value))
}

fn backups(out: &mut String, backup: Option<&Backups>) -> fmt::Result {
    let Some(backup) = backup else { return Ok(()) };
    gauge(
        out,
        "iotsocketd_backup_timestamp_seconds",
        "When the newest proven backup was made, in seconds since 1970; 0 if there is none.",
        u64::try_from(backup.last_unix).unwrap_or(0),
    )?;
    gauge(out, "iotsocketd_backup_bytes", "Its length.", backup.bytes)?;
    gauge(
        out,
        "iotsocketd_backup_failed",
        "Whether the last attempt to make a newer one failed.",
        u64::from(backup.error.is_some()),
    )?;
    gauge(
        out,
        "iotsocketd_backup_copy_failed",
        "Whether the last attempt to copy it to its second place failed.",
        u64::from(backup.copy_error.is_some()),
    )
}

fn destinations(out: &mut String, all: &[Destination]) -> fmt::Result {
    let (up, waiting) = ("iotsocketd_destination_up", "iotsocketd_destination_waiting");
    let (delivered, failures) =
        ("iotsocketd_destination_delivered_total", "iotsocketd_destination_failures_total");
    family(out, up, "gauge", "Whether a destination takes messages.")?;
    for destination in all {
        sample(out, up, &[("destination", &destination.name)], u64::from(destination.state == "up"))?;
    }
    family(out, waiting, "gauge", "Messages that a destination does not have yet.")?;
    for destination in all {
        sample(out, waiting, &[("destination", &destination.name)], destination.waiting)?;
    }
    family(out, delivered, "counter", "Messages that a destination has.")?;
    for destination in all {
        sample(out, delivered, &[("destination", &destination.name)], destination.delivered)?;
    }
    family(out, failures, "counter", "Attempts to deliver that failed.")?;
    for destination in all {
        sample(out, failures, &[("destination", &destination.name)], destination.failures)?;
    }
    let dead = "iotsocketd_destination_dead_letters";
    family(
        out,
        dead,
        "gauge",
        "Messages that a destination never took, until they are replayed or dropped.",
    )?;
    for destination in all {
        sample(out, dead, &[("destination", &destination.name)], destination.dead_letters)?;
    }
    Ok(())
}

fn histogram(out: &mut String, name: &str, help: &str, latency: &Latency) -> fmt::Result {
    family(out, name, "histogram", help)?;
    for bucket in &latency.buckets {
        sample(out, &format!("{name}_bucket"), &[("le", &bucket.le.to_string())], bucket.count)?;
    }
    sample(out, &format!("{name}_bucket"), &[("le", "+Inf")], latency.count)?;
    sample(out, &format!("{name}_sum"), &[], latency.sum_seconds)?;
    sample(out, &format!("{name}_count"), &[], latency.count)
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

fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: impl Display) -> fmt::Result {
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
    use std::collections::BTreeSet;

    use super::*;
    use crate::hub::status::{Alert, Availability, Bucket, Certificate, Wear};

    const README: &str = include_str!("../../../config/grafana/README.md");
    const DASHBOARD: &str = include_str!("../../../config/grafana/iotsocketd.json");

    fn example() -> Status {
        let mut status =
            Status { version: "1.0".to_owned(), environment: "te\"st".to_owned(), ..Status::default() };
        status.books.received = 12;
        status.refusals.insert("api.key".to_owned(), 3);
        status.latency.calls = Latency {
            count: 3,
            sum_seconds: 0.75,
            buckets: vec![Bucket { le: 0.5, count: 1 }, Bucket { le: 1.0, count: 2 }],
            ..Latency::default()
        };
        let central = Destination {
            name: "central".to_owned(),
            state: "up",
            waiting: 5,
            dead_letters: 2,
            ..Default::default()
        };
        status.destinations.push(central);
        status.certificate = Some(Certificate { not_after: String::new(), days_left: -2 });
        status.backup = Some(Backups::default());
        status.second_tries = Some(SecondTries { known: 7, crowded_out: 0, window_seconds: 86_400 });
        for subject in ["a", "b"] {
            let (name, subject) = ("destination".to_owned(), subject.to_owned());
            status.alerts.push(Alert { name, subject, ..Alert::default() });
        }
        status.availability = Availability { days_30: Some(0.9995), days_365: None };
        status.wear = Some(Wear { life_used_percent: Some(10), ..Wear::default() });
        status
    }

    fn families() -> BTreeSet<String> {
        let of = |line: &str| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned());
        text(&example()).lines().filter_map(of).collect()
    }

    #[test]
    fn every_sample_has_its_family_and_a_number() {
        let text = text(&example());
        let (mut family, mut kind) = ("", "");
        for line in text.lines() {
            if let Some(told) = line.strip_prefix("# TYPE ") {
                (family, kind) = told.split_once(' ').unwrap();
                assert!(text.contains(&format!("# HELP {family} ")), "{family}");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let name = name.split('{').next().unwrap();
                let part = name.strip_prefix(family).unwrap();
                let parts: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(parts.contains(&part), "{line}");
                assert!(kind != "counter" || family.ends_with("_total"), "{line}");
                value.parse::<f64>().unwrap();
            }
        }
        for line in [
            "iotsocketd_info{version=\"1.0\",environment=\"te\\\"st\"} 1\n",
            "iotsocketd_refusals_total{cause=\"api.key\"} 3\n",
            "iotsocketd_certificate_days_left -2\n",
            "iotsocketd_availability_ratio{days=\"30\"} 0.9995\n",
            "iotsocketd_second_tries_window_seconds 86400\n",
            "iotsocketd_alert_up{alert=\"destination\"} 2\n",
            "iotsocketd_destination_waiting{destination=\"central\"} 5\n",
            "iotsocketd_destination_dead_letters{destination=\"central\"} 2\n",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn a_histogram_ends_with_everything() {
        let text = text(&example());
        let lines: Vec<_> =
            text.lines().filter(|line| line.starts_with("iotsocketd_call_seconds_")).collect();
        assert_eq!(
            lines,
            [
                "iotsocketd_call_seconds_bucket{le=\"0.5\"} 1",
                "iotsocketd_call_seconds_bucket{le=\"1\"} 2",
                "iotsocketd_call_seconds_bucket{le=\"+Inf\"} 3",
                "iotsocketd_call_seconds_sum 0.75",
                "iotsocketd_call_seconds_count 3",
            ]
        );
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

    #[test]
    fn the_table_of_names_is_that_of_the_exposition() {
        let documented: BTreeSet<String> = README
            .lines()
            .filter_map(|line| line.strip_prefix("| `iotsocketd_")?.split('`').next())
            .map(|name| format!("iotsocketd_{name}"))
            .collect();
        assert_eq!(documented, families());
    }

    #[test]
    fn the_dashboard_asks_for_names_that_there_are() {
        let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let families = families();
        let mut asked = BTreeSet::new();
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty() && panel["title"].is_string(), "{panel}");
            for target in targets {
                let expression = target["expr"].as_str().unwrap();
                let names = expression
                    .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                    .filter(|word| word.starts_with("iotsocketd_"));
                let before = asked.len();
                for name in names {
                    let parts = ["_bucket", "_sum", "_count"];
                    let stem = parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
                    assert!(families.contains(name) || families.contains(stem), "{name} in {expression}");
                    asked.insert(stem.to_owned());
                }
                assert!(asked.len() > before || expression.contains("iotsocketd_"), "{expression}");
            }
        }
        let missing: Vec<_> = families.difference(&asked).collect();
        assert!(missing.is_empty(), "no panel shows {missing:?}");
    }
}
