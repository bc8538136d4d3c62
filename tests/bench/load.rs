//! `simulate` as a process of its own, on the same machine.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::machine;
use super::site::{PROGRAM, Site, number};

/// How often the load's processor time is read: what it took after the last time is missed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A load that works.
pub struct Load {
    child: Child,
    started: Instant,
    server: u32,
    server_seconds: f64,
}

/// What a load came to.
pub struct Outcome {
    report: Value,
    /// Who was how busy.
    pub busy: Busy,
}

/// Processor time of a load and the concentrator under it, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Busy {
    /// The concentrator's.
    pub server: f64,
    /// The load's.
    pub load: f64,
    /// How long it took, logging in included.
    pub elapsed: f64,
}

impl Load {
    /// Starts `simulate` on the concentrator, with these options.
    pub fn start(site: &Site, options: &str) -> Result<Self, String> {
        let server_seconds = machine::processor_seconds(site.process())?;
        let child = Command::new(PROGRAM)
            .arg("simulate")
            .arg("--json")
            .arg("--config")
            .arg(site.config())
            .args(options.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{PROGRAM}: {error}"))?;
        Ok(Self { child, started: Instant::now(), server: site.process(), server_seconds })
    }

    /// Starts it and waits for its end.
    pub fn run(site: &Site, options: &str) -> Result<Outcome, String> {
        Self::start(site, options)?.finish()
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Result<Outcome, String> {
        let mut load_seconds = 0.0;
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            load_seconds = machine::processor_seconds(self.child.id()).unwrap_or(load_seconds);
            thread::sleep(LOOK_EVERY);
        };
        let elapsed = self.started.elapsed().as_secs_f64();
        let server_seconds = machine::processor_seconds(self.server)? - self.server_seconds;
        let (mut out, mut complaint) = (String::new(), String::new());
        // The report is one line: it fits the pipe, so that the process could end before it was read.
        if let (Some(stdout), Some(stderr)) = (&mut self.child.stdout, &mut self.child.stderr) {
            stdout.read_to_string(&mut out).map_err(|error| error.to_string())?;
            stderr.read_to_string(&mut complaint).map_err(|error| error.to_string())?;
        }
        if !status.success() {
            return Err(format!("simulate failed: {complaint}"));
        }
        let report = serde_json::from_str(&out).map_err(|error| format!("simulate's report: {error}"))?;
        let busy = Busy { server: server_seconds, load: load_seconds, elapsed };
        Ok(Outcome { report, busy })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // One that was not waited for shall not disturb the next measurement.
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

impl Outcome {
    /// How many of these there were in a second.
    pub fn rate(&self, kind: &str) -> f64 {
        number(&self.report, &format!("/per_second/{kind}"))
    }

    /// How many of these there were.
    pub fn count(&self, kind: &str) -> f64 {
        number(&self.report, &format!("/counts/{kind}"))
    }

    /// Microseconds of processor time that each of so many took: the concentrator's and the load's.
    pub fn cost_us(&self, count: f64) -> [f64; 2] {
        [self.busy.server, self.busy.load].map(|seconds| seconds * 1e6 / count.max(1.0))
    }

    /// This share of the calls' latencies, in microseconds.
    pub fn calls_us(&self, share: &str) -> Result<f64, String> {
        let value = number(&self.report, &format!("/latency_us/calls/{share}"));
        if value > 0.0 { Ok(value) } else { Err(format!("no call was answered: {}", self.report)) }
    }

    /// Fails if anything went wrong: a figure measured among errors is none.
    pub fn without_errors(self) -> Result<Self, String> {
        match self.report.get("errors").and_then(Value::as_object) {
            Some(errors) if errors.is_empty() => Ok(self),
            _ => Err(format!("the load met errors: {}", self.report)),
        }
    }
}
