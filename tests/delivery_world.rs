//! Telemetry on its way to the central in many random worlds: a session that comes and goes, takes little, loses its
//! pongs; webhook workers that succeed, hang and give back; a memory that holds little, so that much is read back from
//! the medium; a journal that is too small; crashes that lose what was not recorded.
//!
//! `IOTSOCKETD_RUNS` sets how many worlds are tried, `IOTSOCKETD_SEED` tries one; a failure names its seed.
#![cfg(test)]

#[path = "support/world/rng.rs"]
mod rng;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use iotsocketd::delivery::central::Central;
use iotsocketd::delivery::feed::Source;
use iotsocketd::journal::Seq;
use iotsocketd::journal::front::{Bounds, Front};
use iotsocketd::journal::record::{Cause, Kind, Message, Record, Records, State, Via};
use iotsocketd::journal::stamp::{Clock, JournalId, Stamp};
use iotsocketd::journal::state::Small;
use iotsocketd::journal::stored::Stored;
use iotsocketd::journal::writer::Start;
use iotsocketd::router::{CentralSession, ConnectionId};
use iotsocketd::wire::{Format, GroupName, Transmission, Uid};

use rng::Rng;

const OBJECTS: usize = 4;
const STEPS: usize = 1_500;
const BOUNDS: Bounds = Bounds { pending_max: 100_000, tail_max: 2_000 };
const NOW: Stamp = Stamp { mono_us: 0, wall_us: 0, clock: Clock::Synced };

/// What is on its way over TCP.
#[derive(Debug)]
enum Sent {
    Telemetry(Seq),
    Ping(Seq),
}

struct World {
    seed: u64,
    rng: Rng,
    front: Front,
    /// What is on the medium, and what it adds up to.
    medium: VecDeque<Stored>,
    small: Small,
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
    /// Messages that came in since the start and were not lost by a crash.
    appended: BTreeSet<Seq>,
    received: BTreeSet<Seq>,
    lost: u64,
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

fn group() -> GroupName {
    GroupName::parse("g").unwrap()
}

fn start(next_seq: Seq) -> Start {
    Start { journal: JournalId([1; 16]), next_seq, boot: 1, floor_us: 0, batch_max: 1 << 20 }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let has_webhook = rng.chance(70);
        Self {
            seed,
            rng,
            front: Front::new(start(1), BOUNDS),
            medium: VecDeque::new(),
            small: Small::default(),
            central: Central::new(has_webhook, &Small::default()),
            has_webhook,
            session: None,
            last_connection: 0,
            wire: VecDeque::new(),
            pongs: VecDeque::new(),
            lanes: BTreeMap::new(),
            recalled: BTreeSet::new(),
            appended: BTreeSet::new(),
            received: BTreeSet::new(),
            lost: 0,
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
            96 => self.commit(),
            97 => self.drop_oldest(),
            98 if self.rng.chance(20) => self.crash(),
            99 => {
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
        let seq = self.front.next_seq();
        let mut data = seq.to_be_bytes().to_vec();
        data.resize(len, 0);
        let is_telemetry = self.rng.chance(90);
        let message = Message {
            uid: Uid::parse(&object(seq).to_string()).unwrap(),
            group: group(),
            kind: if is_telemetry { Kind::Telemetry } else { Kind::Event },
            via: Via::Udp,
            format: Format::Binary,
            state: if is_telemetry { State::Waiting } else { State::Stored },
            source: None,
            network: None,
            payload: data.into(),
        };
        assert_eq!(self.front.append(message, NOW), Ok(seq));
        if is_telemetry {
            self.central.received(group());
            self.appended.insert(seq);
        }
    }

    /// What the journal's thread does.
    fn commit(&mut self) {
        if self.central.has_progress() {
            let records = self.central.take_progress();
            self.front.note_together(&records, NOW).unwrap();
        }
        while let Some(batch) = self.front.take_batch() {
            for seq in batch.head.first_seq..batch.head.next_seq() {
                self.medium.push_back(self.front.get(seq).unwrap().clone());
            }
            Records::new(&batch.records).for_each(|raw| self.small.apply(raw.decode().unwrap()));
            self.front.committed(&batch);
        }
    }

    /// The medium is full: its oldest messages go.
    fn drop_oldest(&mut self) {
        self.commit();
        let count = self.rng.below(self.medium.len() + 1).min(20);
        let leaving: Vec<_> = self.medium.drain(..count).collect();
        let (Some(first), Some(last)) = (leaving.first(), leaving.last()) else { return };
        let (first, last) = (first.seq, last.seq);
        let telemetry = leaving.iter().filter(|stored| stored.message.kind == Kind::Telemetry);
        let messages: Vec<_> = telemetry.map(|stored| (stored.seq, group())).collect();
        let lost = self.central.write_off(first, last, &messages, Cause::Full).len() as u64;
        self.lost += lost;
        let mut records = vec![Record::Dropped { from: first, to: last, count: lost, cause: Cause::Full }];
        records.extend(self.central.take_progress());
        self.front.note_together(&records, NOW).unwrap();
        self.commit();
    }

    /// Everything in memory is gone, and every connection.
    fn crash(&mut self) {
        self.session = None;
        self.wire.clear();
        self.pongs.clear();
        self.lanes.clear();
        self.recalled.clear();
        self.last = [0; OBJECTS];
        let next_seq = self.medium.back().map_or(self.front.durable(), |last| last.seq + 1);
        self.front = Front::new(start(next_seq), BOUNDS);
        self.appended.retain(|seq| *seq < next_seq);
        // Its number is given to another.
        self.received.retain(|seq| *seq < next_seq);
        self.central = Central::new(self.has_webhook, &self.small);
    }

    /// Answers what was asked of the medium, now and then with less than there is.
    fn read(&mut self) {
        let Some(from) = self.central.take_read() else { return };
        if self.rng.chance(10) {
            return self.central.give(from, VecDeque::new(), from);
        }
        let below = self.front.tail_start();
        let wanted = self.medium.iter().filter(|stored| (from..below).contains(&stored.seq));
        let mut page: VecDeque<_> = wanted.cloned().collect();
        let limit = self.rng.below(6) + 1;
        let to = if page.len() > limit { page[limit].seq } else { below };
        page.truncate(limit);
        self.central.give(from, page, to);
    }

    /// What the hub does: hands on what the open way has room for.
    fn send(&mut self) {
        self.read();
        let source = Source { front: &self.front, end: self.front.next_seq() };
        for _ in 0..self.rng.below(8) {
            let Some(telemetry) = self.central.next_for_session(source) else { break };
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
            let Some((seq, _)) = self.central.next_for_webhook(source) else { break };
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
            self.central.acknowledged(session.connection, seq);
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
                self.central.webhook_delivered(seq);
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
                let before = self.central.books().sum();
                self.central.acknowledged(self.last_connection, seq);
                assert_eq!(self.central.books().sum(), before);
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
        let books = self.central.books().sum();
        assert_eq!(books.received, self.appended.len() as u64);
        assert_eq!(books.made_room, self.lost);
        // Whatever the books say is delivered arrived.
        let arrived = self.received.len() as u64;
        assert!(books.delivered <= arrived, "{books:?}, {arrived} arrived");
    }

    /// The central comes with all the room in the world, and stays.
    fn end(&mut self) {
        self.go();
        self.last_connection += 1;
        self.session = Some(CentralSession { connection: self.last_connection, largest: usize::MAX });
        self.change_session();
        self.give_back();
        while self.central.books().sum().waiting() > 0 || !self.lanes.is_empty() {
            let before = (self.central.books().sum(), self.lanes.len());
            for _ in 0..1_000 {
                self.work();
                self.send();
                self.receive();
                self.pong();
            }
            assert_ne!(before, (self.central.books().sum(), self.lanes.len()), "nothing moves");
        }
        self.check();
        let missing = self.appended.iter().filter(|seq| !self.received.contains(seq)).count() as u64;
        assert!(missing <= self.lost, "{missing} did not arrive, {} were written off", self.lost);
        assert_eq!(self.central.books().sum().delivered, self.appended.len() as u64 - self.lost);
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
