//! What a simulation came to, for people and as JSON.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::Options;
use crate::cli::table::{Row, SHARES, grouped, rate, rows, time, write_errors, write_rows};
use crate::client::load::Report;
use crate::client::{Distribution, Kind};

/// Prints the result for people.
pub fn print_table(out: &mut impl Write, report: &Report, options: &Options) -> io::Result<()> {
    let all = &report.all;
    let logged_in = all.get(Kind::LoggedIn);
    let seconds = login_seconds(report, options);
    let per_second = if seconds > 0.0 { logged_in as f64 / seconds } else { 0.0 };
    if !options.plan.logins {
        let (online, objects) = (grouped(all.online as u64), grouped(options.objects as u64));
        writeln!(out, "{online} of {objects} objects logged in, at the end of {}", time(all.elapsed))?;
    }
    let mut lines = vec![Row::measured("logins", logged_in, per_second, &all.logins)];
    lines.extend(rows(all, all));
    write_rows(out, &lines, "\n")?;
    write_errors(out, all, "\n")?;
    if let Some(lost) = lost_telemetry(report) {
        writeln!(out, "{:20}{:>13} %", "telemetry lost", rate(lost * 100.0))?;
    }
    Ok(())
}

/// Prints the result for programs: one JSON object.
pub fn print_json(out: &mut impl Write, report: &Report, options: &Options) -> io::Result<()> {
    let all = &report.all;
    let mut counts = Map::new();
    let mut per_second = Map::new();
    for kind in Kind::ALL {
        counts.insert(kind.name().to_owned(), all.get(kind).into());
        if !kind.is_error() && kind != Kind::LoggedIn {
            per_second.insert(kind.name().to_owned(), all.per_second(kind).into());
        }
    }
    let login_seconds = login_seconds(report, options);
    if login_seconds > 0.0 {
        let logins = all.get(Kind::LoggedIn) as f64 / login_seconds;
        per_second.insert(Kind::LoggedIn.name().to_owned(), logins.into());
    }
    let errors: Map<String, Value> = all
        .errors()
        .map(|(kind, count, first)| (kind.name().to_owned(), json!({"count": count, "first": first})))
        .collect();
    let result = json!({
        "seconds": all.elapsed.as_secs_f64(),
        "login_seconds": login_seconds,
        "objects": options.objects,
        "online": all.online,
        "counts": counts,
        "per_second": per_second,
        "latency_us": {
            "logins": latency(&all.logins),
            "calls": latency(&all.calls),
            "object_requests": latency(&all.asks),
        },
        "errors": errors,
    });
    writeln!(out, "{result}")
}

fn latency(distribution: &Distribution) -> Value {
    if distribution.count() == 0 {
        return Value::Null;
    }
    let shares = SHARES.map(|(name, share)| {
        (name.to_owned(), Value::from(distribution.percentile(share).as_nanos() as f64 / 1000.0))
    });
    Value::Object(shares.into_iter().collect())
}

/// The time in which the counted logins happened.
fn login_seconds(report: &Report, options: &Options) -> f64 {
    if options.plan.logins {
        report.all.elapsed.as_secs_f64()
    } else {
        report.login_time.map_or(0.0, |time| time.as_secs_f64())
    }
}

/// The share of telemetry that did not arrive, if all of it should have arrived here.
fn lost_telemetry(report: &Report) -> Option<f64> {
    let (sent, received) = (report.all.get(Kind::TelemetrySent), report.all.get(Kind::TelemetryReceived));
    (sent > 0 && received > 0).then(|| sent.saturating_sub(received) as f64 / sent as f64)
}
