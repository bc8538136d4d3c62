//! The vital figures of a moment: which there are, and where they come from.

use std::fs;
use std::time::Duration;

use crate::hub::status::Status;
use crate::sys;

/// One of each of [`FIGURES`], in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures(pub [u32; Figures::COUNT]);

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// As a column is called.
    pub name: &'static str,
    /// As a sentence calls it.
    pub words: &'static str,
    /// What one of it is.
    pub unit: Unit,
    /// A change by less says nothing.
    pub least: f64,
}

/// What one of a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// One.
    Count,
    /// So many since the entry before.
    Flow,
    /// KiB since the entry before.
    FlowKib,
    /// MiB.
    Mib,
    /// A hundredth.
    Hundredth,
    /// A tenth of a degree Celsius.
    TenthDegree,
    /// Milliseconds of processor time since the entry before.
    FlowMs,
}

const fn figure(name: &'static str, words: &'static str, unit: Unit, least: f64) -> Figure {
    Figure { name, words, unit, least }
}

/// All of them. The order is that of the file: only ever added at the end, in the place of a spare one.
pub const FIGURES: [Figure; Figures::COUNT] = [
    figure("sessions_live", "objects connected", Unit::Count, 2.0),
    figure("sessions_kept", "objects awaited back", Unit::Count, 2.0),
    figure("central_live", "sessions of the central", Unit::Count, 0.5),
    figure("unauthenticated", "connections without a login", Unit::Count, 8.0),
    figure("api_connections", "connections to the API", Unit::Count, 8.0),
    figure("telemetry_received", "telemetry received", Unit::Flow, 0.5),
    figure("telemetry_delivered", "telemetry delivered", Unit::Flow, 0.5),
    figure("delivered_late", "deliveries that took over a second", Unit::Flow, 0.1),
    figure("messages_waiting", "messages waiting", Unit::Count, 20.0),
    figure("messages_dropped", "messages given up", Unit::Flow, 0.01),
    figure("calls_answered", "calls answered", Unit::Flow, 0.5),
    figure("calls_failed", "calls that failed", Unit::Flow, 0.1),
    figure("calls_pending", "calls pending", Unit::Count, 4.0),
    figure("logins", "logins", Unit::Flow, 0.2),
    figure("refusals", "refusals", Unit::Flow, 0.5),
    figure("written_kib", "bytes written", Unit::FlowKib, 16.0),
    figure("disk_free_mib", "free disk", Unit::Mib, 64.0),
    figure("memory_mib", "memory of the program", Unit::Mib, 8.0),
    figure("open_files", "open files", Unit::Count, 32.0),
    figure("processor_ms", "processor time of the program", Unit::FlowMs, 50.0),
    figure("load_hundredths", "load of the machine", Unit::Hundredth, 0.5),
    figure("temperature_tenths", "temperature", Unit::TenthDegree, 8.0),
];

/// What a counter was at the entry before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    received: u64,
    delivered: u64,
    late: u64,
    dropped: u64,
    answered: u64,
    failed: u64,
    logins: u64,
    refusals: u64,
    written: u64,
    processor_ms: u64,
}

impl Figures {
    /// How many there are.
    pub const COUNT: usize = 22;
    /// In the place of a figure that nobody tells.
    pub const UNKNOWN: u32 = u32::MAX;

    /// One of them, in the unit that people use, flows as a second's worth; `None` if nobody told it.
    pub fn value(&self, index: usize, interval: Duration) -> Option<f64> {
        let unit = FIGURES.get(index)?.unit;
        let raw = f64::from(self.0.get(index).copied().filter(|raw| *raw != Self::UNKNOWN)?);
        Some(match unit {
            Unit::Count | Unit::Mib => raw,
            Unit::Flow | Unit::FlowKib | Unit::FlowMs => raw / interval.as_secs_f64(),
            Unit::Hundredth => raw / 100.0,
            Unit::TenthDegree => raw / 10.0,
        })
    }

    /// Those of now; `before` becomes the counters of now.
    pub(super) fn of(status: &Status, before: &mut Counters) -> Self {
        let sessions = &status.sessions;
        let process = Process::read();
        let late = status.latency.telemetry.buckets.iter().find(|bucket| bucket.le == 1.0);
        let late = late.map_or(0, |bucket| status.latency.telemetry.count.saturating_sub(bucket.count));
        let now = Counters {
            received: status.books.received,
            delivered: status.books.delivered,
            late,
            dropped: status.books.dropped.values().sum(),
            answered: status.calls.answered,
            failed: status.calls.not_found + status.calls.timed_out,
            logins: sessions.logins,
            refusals: status.refusals.values().sum(),
            written: status.wear.as_ref().map_or(0, |wear| wear.written_bytes),
            processor_ms: process.processor_ms.unwrap_or(before.processor_ms),
        };
        let flow = |now: u64, before: u64| clip(now.saturating_sub(before));
        let known = |value: Option<u64>| value.map_or(Self::UNKNOWN, clip);
        let figures = [
            clip(sessions.live),
            clip(sessions.kept),
            u32::from(sessions.central),
            clip(sessions.unauthenticated),
            clip(sessions.by_listener.get("api").copied().unwrap_or_default()),
            flow(now.received, before.received),
            flow(now.delivered, before.delivered),
            flow(now.late, before.late),
            clip(status.books.waiting),
            flow(now.dropped, before.dropped),
            flow(now.answered, before.answered),
            flow(now.failed, before.failed),
            clip(status.calls.pending),
            flow(now.logins, before.logins),
            flow(now.refusals, before.refusals),
            flow(now.written / 1024, before.written / 1024),
            clip(status.disk.free >> 20),
            known(process.memory_kib.map(|kib| kib >> 10)),
            known(process.open_files),
            flow(now.processor_ms, before.processor_ms),
            known(sys::load_hundredths()),
            known(temperature_tenths()),
        ];
        *before = now;
        Self(figures)
    }

    /// What counters are now, for the first flows: without it they would be all that there was since the journal was made.
    pub(super) fn counters(status: &Status) -> Counters {
        let mut counters = Counters::default();
        let _unused = Self::of(status, &mut counters);
        counters
    }
}

impl Default for Figures {
    fn default() -> Self {
        Self([Self::UNKNOWN; Self::COUNT])
    }
}

fn clip(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(Figures::UNKNOWN).min(Figures::UNKNOWN - 1)
}

/// The kernel's account of this process.
struct Process {
    memory_kib: Option<u64>,
    open_files: Option<u64>,
    processor_ms: Option<u64>,
}

impl Process {
    fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Self {
            memory_kib: memory.and_then(|text| text.split_whitespace().next()?.parse().ok()),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64),
            processor_ms: u64::try_from(sys::processor_time().as_millis()).ok(),
        }
    }
}

/// Of the first sensor that the kernel has, if there is one.
fn temperature_tenths() -> Option<u64> {
    let text = fs::read_to_string("/sys/class/thermal/thermal_zone0/temp").ok()?;
    text.trim().parse::<u64>().ok().map(|millis| millis / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_become_flows_and_gauges_stay() {
        let mut status = Status::default();
        status.books.received = 1_000_000;
        let mut before = Figures::counters(&status);
        status.books.received += 50;
        status.sessions.live = 7;
        status.books.waiting = u64::MAX;
        let figures = Figures::of(&status, &mut before);
        let interval = Duration::from_secs(10);
        let value = |name: &str| {
            let index = FIGURES.iter().position(|figure| figure.name == name).unwrap();
            figures.value(index, interval)
        };
        assert_eq!((value("telemetry_received"), value("sessions_live")), (Some(5.0), Some(7.0)));
        assert_eq!(value("messages_waiting"), Some(f64::from(u32::MAX - 1)), "clipped, and not unknown");
        assert_eq!(Figures::of(&status, &mut before).value(5, interval), Some(0.0));
        assert_eq!(Figures::default().value(0, interval), None);
        assert!(value("memory_mib").unwrap() > 0.0 && value("open_files").unwrap() > 2.0);
    }

    #[test]
    fn every_figure_has_its_name_once() {
        let mut names: Vec<_> = FIGURES.iter().map(|figure| figure.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Figures::COUNT);
    }
}
