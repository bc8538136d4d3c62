//! Stories of objects in simulated time.

mod addresses;
mod habits;
mod kept;
mod outages;

use super::*;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;
const DAY: f64 = 86_400.0;

/// Objects of one site and its clock.
struct Story {
    seen: Seen,
    start: Instant,
    now: f64,
    connected: Vec<Uid>,
}

impl Story {
    fn new() -> Self {
        let start = Instant::now();
        Self { seen: Seen::new(start), start, now: 0.0, connected: Vec::new() }
    }

    fn at(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.now)
    }

    fn send(&mut self, name: &str) {
        self.seen.sent(uid(name), group("Devices"), None, self.at());
    }

    /// The object sends so often at this interval, from one interval from now on.
    fn report(&mut self, name: &str, interval: f64, times: u32) {
        for _ in 0..times {
            self.now += interval;
            self.send(name);
        }
    }

    /// All of them do.
    fn report_all(&mut self, names: &[String], interval: f64, times: u32) {
        for _ in 0..times {
            self.now += interval;
            names.iter().for_each(|name| self.send(name));
        }
    }

    fn judge(&mut self) -> Verdict {
        let at = self.at();
        while !self.seen.sweep(|uid| self.connected.contains(&uid), at) {}
        self.seen.judge(at).unwrap()
    }

    /// Who is silent after so many more seconds.
    fn silent_after(&mut self, seconds: f64) -> Vec<String> {
        self.now += seconds;
        names(&self.judge().silent)
    }

    fn usual(&self, name: &str) -> Option<f64> {
        self.seen.get(uid(name), false, self.at()).unwrap().usual
    }

    fn expectation(&self, name: &str) -> Option<Expectation> {
        self.seen.get(uid(name), false, self.at()).unwrap().expectation
    }
}

fn uid(name: &str) -> Uid {
    Uid::parse(name).unwrap()
}

fn group(name: &str) -> GroupName {
    GroupName::parse(name).unwrap()
}

fn names(objects: &[Unusual]) -> Vec<String> {
    objects.iter().map(|object| object.uid.as_str().to_owned()).collect()
}

fn many(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("o{number:05}")).collect()
}

const NOBODY: [&str; 0] = [];

/// A small random generator: the seed is printed by whoever fails.
struct Random(u64);

impl Random {
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
