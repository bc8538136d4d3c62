//! Telemetry on its way to the central in many random worlds: a session that comes and goes, takes little, loses its
//! pongs; webhook workers that succeed, hang and give back; a log that is too small.
//!
//! `IOTSOCKETD_RUNS` sets how many worlds are tried, `IOTSOCKETD_SEED` tries one; a failure names its seed.
#![cfg(test)]

#[path = "support/world/rng.rs"]
mod rng;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use iotsocketd::delivery::central::Central;
use iotsocketd::journal::{MemoryLog, Message, OnFull, Seq};
use iotsocketd::router::{CentralSession, ConnectionId};
use iotsocketd::wire::{Format, GroupName, Transmission, Uid};

use rng::Rng;

const OBJECTS: usize = 4;
const STEPS: usize = 1_500;
const LOG_BYTES: usize = 4_000;

/// What is on its way over TCP.
#[derive(Debug)]
enum Sent {
    Telemetry(Seq),
    Ping(Seq),
}

struct World {
    seed: u64,
    rng: Rng,
    log: MemoryLog,
    central: Central,
    has_webhook: bool,
    session: Option<CentralSession>,
    last_connection: ConnectionId,
    wire: VecDeque<Sent>,
    /// Pongs on their way back.
    pongs: VecDeque<Seq>,
    /// What the webhook's workers have, by object, in order; the first of each is under way.
    lanes: BTreeMap<usize, VecDeque<Seq>>,
    /// Objects whose message under way is given back when it fails, not tried again.
    recalled: BTreeSet<usize>,
    appended: Seq,
    received: BTreeSet<Seq>,
    /// The last message of each object that came by the way that is open.
    last: [Seq; OBJECTS],
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("IOTSOCKETD_SEED={}", self.seed);
        }
    }
}

fn object(seq: Seq) -> usize {
    // Spread without a pattern that the order could hide behind.
    (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % OBJECTS
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let on_full = rng.pick(&[OnFull::DropOldest, OnFull::DropOldest, OnFull::RefuseNew]);
        let has_webhook = rng.chance(70);
        Self {
            seed,
            rng,
            log: MemoryLog::new(LOG_BYTES, on_full),
            central: Central::new(has_webhook),
            has_webhook,
            session: None,
            last_connection: 0,
            wire: VecDeque::new(),
            pongs: VecDeque::new(),
            lanes: BTreeMap::new(),
            recalled: BTreeSet::new(),
            appended: 0,
            received: BTreeSet::new(),
            last: [0; OBJECTS],
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            self.act();
            self.check();
        }
        self.end();
    }

    fn act(&mut self) {
        match self.rng.below(100) {
            0..=39 => self.append(),
            40..=54 => self.send(),
            55..=69 => self.receive(),
            70..=79 => self.pong(),
            80..=91 => self.work(),
            92..=93 => self.come(),
            94..=95 => self.go(),
            96 => {
                self.has_webhook = self.rng.chance(70);
                self.central.set_webhook(self.has_webhook);
                if !self.has_webhook {
                    self.give_back();
                }
            }
            _ => self.come(),
        }
    }

    fn append(&mut self) {
        let len = self.rng.pick(&[8, 20, 60, 400]);
        let seq = self.log.next_seq();
        let mut data = seq.to_be_bytes().to_vec();
        data.resize(len, 0);
        let message = Message {
            uid: Uid::parse(&object(seq).to_string()).unwrap(),
            group: GroupName::parse("g").unwrap(),
            format: Format::Binary,
            data: data.into(),
        };
        if self.log.append(message) == Ok(seq) {
            self.appended = seq;
        }
    }

    /// What the hub does: hands on what the open way has room for.
    fn send(&mut self) {
        for _ in 0..self.rng.below(8) {
            let Some(telemetry) = self.central.next_for_session(&self.log) else { break };
            let Transmission::Telemetry { uid, payload } = telemetry else { panic!("sent {telemetry:?}") };
            let seq = Seq::from_be_bytes(*payload.data().first_chunk().unwrap());
            assert_eq!(uid.as_str(), object(seq).to_string(), "another's telemetry");
            assert!(telemetry.wire_len() <= self.session.expect("no session").largest, "cannot take it");
            assert!(self.lanes.is_empty(), "both ways at a time");
            self.wire.push_back(Sent::Telemetry(seq));
        }
        if let Some(seq) = self.central.next_ping() {
            assert!(!self.wire.iter().any(|sent| matches!(sent, Sent::Ping(_))), "two pings");
            self.wire.push_back(Sent::Ping(seq));
        }
        for _ in 0..self.rng.below(8) {
            let Some((seq, _)) = self.central.next_for_webhook(&self.log) else { break };
            assert!(self.session.is_none() && self.has_webhook, "both ways at a time");
            let lane = self.lanes.entry(object(seq)).or_default();
            assert!(!lane.contains(&seq), "given twice");
            lane.push_back(seq);
        }
    }

    /// The central reads a transmission.
    fn receive(&mut self) {
        match self.wire.pop_front() {
            Some(Sent::Telemetry(seq)) => self.arrived(seq),
            Some(Sent::Ping(seq)) => self.pongs.push_back(seq),
            None => {}
        }
    }

    fn arrived(&mut self, seq: Seq) {
        let last = &mut self.last[object(seq)];
        assert!(*last < seq, "{seq} behind {last}");
        *last = seq;
        self.received.insert(seq);
    }

    fn pong(&mut self) {
        if let (Some(seq), Some(session)) = (self.pongs.pop_front(), self.session) {
            self.central.acknowledged(session.connection, seq, &mut self.log);
        }
    }

    /// A worker is done with what it had under way.
    fn work(&mut self) {
        let at = self.rng.below(OBJECTS);
        let Some(lane) = self.lanes.get_mut(&at) else { return };
        let seq = lane[0];
        match self.rng.below(10) {
            // It took it and said so.
            0..=5 => {
                lane.pop_front();
                self.recalled.remove(&at);
                self.arrived(seq);
                self.central.webhook_delivered(seq, &mut self.log);
            }
            // It failed; what was recalled is given back, anything else tried again.
            6..=8 if self.recalled.contains(&at) => {
                lane.pop_front();
                self.recalled.remove(&at);
                self.central.webhook_returned(seq);
            }
            _ => {}
        }
        self.lanes.retain(|_, lane| !lane.is_empty());
    }

    /// The workers give back everything that is not under way.
    fn give_back(&mut self) {
        self.recalled.extend(self.lanes.keys());
        let mut back: Vec<_> = self.lanes.values_mut().flat_map(|lane| lane.split_off(1)).collect();
        while !back.is_empty() {
            let seq = back.swap_remove(self.rng.below(back.len()));
            self.central.webhook_returned(seq);
        }
    }

    /// The central's session becomes live.
    fn come(&mut self) {
        if self.session.is_some() {
            return;
        }
        self.last_connection += 1;
        let largest = self.rng.pick(&[usize::MAX, 200, 50]);
        self.session = Some(CentralSession { connection: self.last_connection, largest });
        self.change_session();
        self.give_back();
    }

    /// The session drops: nobody knows what of the last transmissions arrived.
    fn go(&mut self) {
        if self.session.take().is_some() {
            for _ in 0..self.rng.below(self.wire.len() + 1) {
                self.receive();
            }
            self.change_session();
            // A pong that was under way comes to nothing.
            if let Some(seq) = self.pongs.pop_front() {
                let before = self.log.totals();
                self.central.acknowledged(self.last_connection, seq, &mut self.log);
                assert_eq!(self.log.totals(), before);
            }
            self.pongs.clear();
        }
    }

    fn change_session(&mut self) {
        self.central.set_session(self.session);
        self.wire.clear();
        self.last = [0; OBJECTS];
    }

    fn check(&self) {
        let (totals, usage) = (self.log.totals(), self.log.usage());
        assert_eq!(totals.appended, self.appended);
        assert_eq!(totals.appended, totals.released + totals.dropped + usage.messages as u64);
        assert_eq!(self.central.delivered(), totals.released);
        assert!(usage.bytes <= LOG_BYTES);
        // Whatever is gone arrived, or had to make room and was counted.
        let arrived = self.received.len() as u64;
        assert!(totals.appended <= arrived + totals.dropped + usage.messages as u64, "lost without a trace");
    }

    /// The central comes with all the room in the world, and stays.
    fn end(&mut self) {
        self.go();
        self.last_connection += 1;
        self.session = Some(CentralSession { connection: self.last_connection, largest: usize::MAX });
        self.change_session();
        self.give_back();
        while self.log.usage().messages > 0 || !self.lanes.is_empty() {
            let before = (self.log.usage(), self.lanes.len());
            for _ in 0..1_000 {
                self.work();
                self.send();
                self.receive();
                self.pong();
            }
            assert_ne!(before, (self.log.usage(), self.lanes.len()), "nothing moves");
        }
        self.check();
        let lost = (1..=self.appended).filter(|seq| !self.received.contains(seq)).count() as u64;
        assert!(lost <= self.log.totals().dropped);
        assert_eq!(self.log.usage().bytes, 0);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}

#[test]
fn every_message_arrives_or_is_counted_in_every_world() {
    if let Some(seed) = number("IOTSOCKETD_SEED") {
        return World::new(seed).run();
    }
    for seed in 0..number("IOTSOCKETD_RUNS").unwrap_or(200) {
        World::new(seed).run();
    }
}
