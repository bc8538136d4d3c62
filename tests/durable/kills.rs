//! Killed at any moment, again and again over the same state: what was shown stays, nothing is invented, the books balance.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::bounds::on_disk;
use crate::central::{Session, Shared, drain, webhook};
use crate::ledger::{Books, Ledger};
use crate::load::Object;
use crate::support::{Hooks, Site, eventually};

/// Kills of a run, over all lanes.
const KILLS: u64 = 210;
/// Every so many kills everything is looked at, and the central gets everything.
const FULL_LOOK: u64 = 8;
/// System calls that change what is on the medium, and how many of them a round makes, roughly.
const CALLS: [(&str, u64); 7] = [
    ("pwrite64", 40),
    ("fdatasync", 40),
    ("fsync", 12),
    ("rename", 8),
    ("fallocate", 8),
    ("unlink", 10),
    ("ftruncate", 8),
];

/// A number from the environment.
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Random enough (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Who takes telemetry.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Session,
    Webhook,
    Both,
}

/// What is different from lane to lane.
struct Lane {
    name: &'static str,
    way: Way,
    /// Only so much is kept, so that old segments go all the time.
    max_size: Option<u64>,
    commit_interval: &'static str,
}

struct World {
    site: Site,
    objects: Vec<Object>,
    ledger: Ledger,
    got: Shared,
    _hooks: Option<Hooks>,
    random: Random,
    lane: Lane,
    /// The last number that was seen.
    last: u64,
}

#[test]
fn a_session_comes_and_goes_and_nothing_is_ever_dropped() {
    run(Lane { name: "session", way: Way::Session, max_size: None, commit_interval: "20ms" }, KILLS / 3);
}

#[test]
fn a_webhook_and_a_small_journal() {
    run(
        Lane { name: "webhook", way: Way::Webhook, max_size: Some(1 << 20), commit_interval: "20ms" },
        KILLS / 3,
    );
}

#[test]
fn both_ways_and_nothing_forwarded_before_it_is_on_flash() {
    run(Lane { name: "both", way: Way::Both, max_size: Some(2 << 20), commit_interval: "0s" }, KILLS / 3);
}

fn run(lane: Lane, kills: u64) {
    let kills = variable("IOTSOCKETD_RUNS").unwrap_or(kills);
    let seed = variable("IOTSOCKETD_SEED").unwrap_or_else(|| Random(u64::from(std::process::id())).next());
    println!("{}: {kills} kills, IOTSOCKETD_SEED={seed}", lane.name);
    let mut world = World::new(lane, Random(seed));
    for kill in 1..=kills {
        world.round();
        world.look(kill % FULL_LOOK == 0 || kill == kills);
    }
    println!("{}: {} messages, {} again", world.lane.name, world.last, world.got.lock().unwrap().again);
}

impl World {
    fn new(lane: Lane, random: Random) -> Self {
        let site = Site::new();
        site.set("time", "trust", "\"always\"");
        site.set("journal", "commit_interval", &format!("\"{}\"", lane.commit_interval));
        if let Some(max_size) = lane.max_size {
            site.set("journal", "max_size", &format!("\"{}KiB\"", max_size >> 10));
        }
        let got = Shared::default();
        let hooks = (lane.way != Way::Session).then(|| webhook(&got));
        if let Some(hooks) = &hooks {
            site.set("central.webhooks", "telemetry", &hooks.url("/telemetry"));
        }
        let objects = ["pump-1", "pump-2", "pump-3"].map(|name| Object::new(&site, name)).into();
        // What is delivered may go from between, also while it is looked at.
        let ledger = Ledger { may_have_gaps: lane.max_size.is_some(), ..Ledger::default() };
        Self { site, objects, ledger, got, _hooks: hooks, random, lane, last: 0 }
    }

    /// Starts, works, and is killed somewhere in it.
    fn round(&mut self) {
        let at_call = self.random.below(2) == 0;
        if at_call {
            let (call, most) = CALLS[usize::try_from(self.random.below(CALLS.len() as u64)).unwrap()];
            let when = 1 + self.random.below(most);
            let inject = format!("inject={call}:signal=KILL:when={when}");
            let trace = format!("trace={call}");
            let words = [
                "strace",
                "-D",
                "-f",
                "-qqq",
                "--seccomp-bpf",
                "-o",
                "/dev/null",
                "-e",
                &trace,
                "-e",
                &inject,
            ];
            self.site.launch(&words);
        } else {
            self.site.launch(&[]);
        }
        let end = Instant::now() + Duration::from_millis(20 + self.random.below(500));
        let is_over = AtomicBool::new(false);
        let with_session = self.lane.way != Way::Webhook && self.random.below(3) > 0;
        let padding = usize::try_from(self.random.below(400)).unwrap();
        let Self { site, objects, got, ledger, .. } = self;
        std::thread::scope(|scope| {
            let (site, is_over) = (&*site, &is_over);
            let ended = || is_over.load(Ordering::Relaxed) || !site.is_running();
            scope.spawn(move || {
                while !ended() && !objects.iter_mut().all(|object| object.try_log_in(site)) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                while !ended() {
                    objects
                        .iter_mut()
                        .filter(|object| object.is_logged_in())
                        .for_each(|object| object.send(padding));
                    std::thread::sleep(Duration::from_micros(700));
                }
            });
            if with_session {
                scope.spawn(move || {
                    let mut session = None;
                    while !ended() {
                        session = session.or_else(|| Session::open(site, got));
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    session.into_iter().for_each(Session::leave);
                });
            }
            scope.spawn(move || {
                // What is told now must be told again after the kill.
                let from = ledger.shown.keys().next_back().copied().unwrap_or(0);
                while !ended() {
                    std::thread::sleep(Duration::from_millis(15));
                    ledger.glance(site, from);
                }
            });
            // Killed at a call it may be gone any time; else, and if that call does not come, now.
            while site.is_running()
                && (Instant::now() < end || (at_call && Instant::now() < end + Duration::from_secs(1)))
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            site.kill();
            is_over.store(true, Ordering::Relaxed);
        });
    }

    /// Starts it again and holds what it says against what it said.
    fn look(&mut self, at_all: bool) {
        let begun = Instant::now();
        self.site.start();
        let started = begun.elapsed();
        assert!(started < Duration::from_secs(5), "{started:?} to start");
        let from =
            if at_all { 0 } else { self.last.saturating_sub(300).max(self.ledger.first.saturating_sub(1)) };
        let (last, books) = self.ledger.agrees(&self.site, from);
        self.last = last;
        assert_eq!((books.expired, books.damaged), (0, 0), "{books:?}");
        if self.lane.way == Way::Session && at_all {
            assert_eq!(self.ledger.states.get("waiting").copied().unwrap_or(0), books.waiting, "{books:?}");
        }
        if at_all {
            self.deliver_all();
        }
        if let Some(max_size) = self.lane.max_size {
            eventually("it is within its bounds", || on_disk(&self.site) <= max_size + max_size / 8);
        }
        // Half of the time the next round goes on without a goodbye.
        if self.random.below(2) == 0 { self.site.kill() } else { self.site.stop() }
    }

    fn deliver_all(&mut self) {
        let session = (self.lane.way == Way::Session).then(|| Session::open(&self.site, &self.got).unwrap());
        drain(&self.site);
        session.into_iter().for_each(Session::leave);
        let books = Books::of(&self.site);
        let got = self.got.lock().unwrap();
        let lost =
            self.ledger.shown.values().filter(|shown| !got.all.contains(&shown.payload)).count() as u64;
        assert!(lost <= books.made_room, "{lost} were shown and did not arrive: {books:?}");
        if self.lane.max_size.is_none() {
            assert_eq!((books.delivered, books.made_room), (books.received, 0), "{books:?}");
            assert!(self.ledger.is_distinct());
        }
        let log = self.site.log();
        for word in [
            "journal_damaged",
            "segment_missing",
            "set_aside",
            "state_incomplete",
            "read_only",
            "write_failed",
            "books_differ",
        ] {
            assert!(!log.contains(word), "{word} in {log}");
        }
        assert!(!log.contains("event=journal_unreadable"), "{log}");
    }
}
