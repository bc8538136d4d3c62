//! What a load measured, as a table: rows with totals, rates and latencies.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use crate::client::{Distribution, Kind, Snapshot};

/// The shares of the latency columns.
pub const SHARES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What is counted.
    pub name: &'static str,
    /// How many in all.
    pub total: u64,
    /// How many a second.
    pub per_second: f64,
    /// Latencies in the order of [`SHARES`], if they are measured and there was one.
    pub latency: Option<[Duration; 4]>,
}

impl Row {
    /// A line without latencies.
    pub fn counted(name: &'static str, total: u64, per_second: f64) -> Self {
        Self { name, total, per_second, latency: None }
    }

    /// A line with latencies.
    pub fn measured(name: &'static str, total: u64, per_second: f64, latency: &Distribution) -> Self {
        let latency = (latency.count() > 0).then(|| SHARES.map(|(_, share)| latency.percentile(share)));
        Self { name, total, per_second, latency }
    }
}

/// What flowed: totals of `all`, rates and latencies of `part` (the same, or the last second). Lines where nothing
/// flowed are left out.
pub fn rows(all: &Snapshot, part: &Snapshot) -> Vec<Row> {
    let measured = |name, kind, latency| Row::measured(name, all.get(kind), part.per_second(kind), latency);
    let counted = |name, kind| Row::counted(name, all.get(kind), part.per_second(kind));
    let mut rows = vec![
        measured("calls", Kind::Answered, &part.calls),
        measured("object requests", Kind::AskAnswered, &part.asks),
        counted("telemetry sent", Kind::TelemetrySent),
        counted("telemetry received", Kind::TelemetryReceived),
    ];
    rows.retain(|row| row.total > 0);
    rows
}

/// Writes the head and the rows, each line ended by `line_end`. Returns how many lines.
pub fn write_rows(out: &mut impl Write, rows: &[Row], line_end: &str) -> io::Result<usize> {
    write!(out, "{:20}{:>14}{:>14}", "", "total", "a second")?;
    for (name, _) in SHARES {
        write!(out, "{name:>10}")?;
    }
    write!(out, "{line_end}")?;
    for row in rows {
        write!(out, "{:20}{:>14}{:>14}", row.name, grouped(row.total), rate(row.per_second))?;
        for latency in row.latency.iter().flatten() {
            write!(out, "{:>10}", time(*latency))?;
        }
        write!(out, "{line_end}")?;
    }
    Ok(rows.len() + 1)
}

/// Writes a line for each kind of error, with what the first one said. Returns how many lines.
pub fn write_errors(out: &mut impl Write, snapshot: &Snapshot, line_end: &str) -> io::Result<usize> {
    let mut lines = 0;
    for (kind, count, first) in snapshot.errors() {
        write!(out, "{:20}{:>14}", kind.name(), grouped(count))?;
        if let Some(first) = first {
            write!(out, "  first: {first}")?;
        }
        write!(out, "{line_end}")?;
        lines += 1;
    }
    Ok(lines)
}

/// A number with a comma at each thousand.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the unit that leaves one to four digits before the point.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (count as f64, "B");
    for larger in UNITS {
        if value >= 1024.0 {
            (value, unit) = (value / 1024.0, larger);
        }
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

/// A rate with a decimal where it tells something.
pub fn rate(per_second: f64) -> String {
    if per_second < 100.0 { format!("{per_second:.1}") } else { grouped(per_second.round() as u64) }
}

/// A duration in the unit that leaves three digits.
pub fn time(duration: Duration) -> impl fmt::Display {
    let micros = duration.as_nanos() as f64 / 1000.0;
    let (value, unit) = match micros {
        ..1000.0 => (micros, "µs"),
        ..1_000_000.0 => (micros / 1000.0, "ms"),
        _ => (micros / 1_000_000.0, "s"),
    };
    let decimals = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Counters;

    #[test]
    fn numbers_rates_and_times_are_easy_to_read() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let sizes = [0, 1023, 1024, 1_234_567, 270_553_174_016].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.2 MiB", "252.0 GiB"]);
        assert_eq!([0.04, 99.94, 100.4, 45_000.0].map(rate), ["0.0", "99.9", "100", "45,000"]);
        let nanos = [0, 1234, 999_000, 1_500_000, 12_340_000_000];
        let texts = nanos.map(|nanos| time(Duration::from_nanos(nanos)).to_string());
        assert_eq!(texts, ["0.00 µs", "1.23 µs", "999 µs", "1.50 ms", "12.3 s"]);
    }

    #[test]
    fn only_what_flowed_has_a_row_and_columns_stand_below_each_other() {
        let counters = Counters::default();
        counters.add(Kind::Answered, 2000);
        counters.calls.record(Duration::from_micros(250));
        let snapshot = counters.snapshot(Duration::from_secs(2), 1);
        let rows = rows(&snapshot, &snapshot);
        assert_eq!(rows.len(), 1);
        let mut out = Vec::new();
        assert_eq!(write_rows(&mut out, &rows, "\n").unwrap(), 2);
        let text = String::from_utf8(out).unwrap();
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths, [88, 88], "{text}");
        assert!(text.lines().last().unwrap().contains("250 µs"), "{text}");
    }
}
