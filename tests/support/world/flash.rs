//! What a restart finds: facts and calls as the journal adds them up, cut at any moment behind the last commit.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use iotsocketd::hub::recording::{Clocks, call_record, fact_record, restored};
use iotsocketd::journal::record::{Record, SessionRecord};
use iotsocketd::journal::state::Small;
use iotsocketd::router::{About, Fact, PendingCall, Router, Serial, Tag, Waits, Way};
use iotsocketd::wire::{Decoded, Token, Transmission, Uid};

use super::ledger::{Asker, CallId, PeerId, Place, asked_in};
use super::{Entry, GROUPS, Item, OBJECTS, Presence, What, World};

/// The wall clock when a world begins.
const BEGINNING_US: i64 = 1_795_287_162_000_000;

/// The journal: what is on flash for certain, and what was appended since.
pub struct Flash {
    beginning: Instant,
    committed: Small,
    /// What is written whole or not at all, in order.
    appended: Vec<Vec<Record<'static>>>,
}

impl Flash {
    pub fn new(beginning: Instant) -> Self {
        Self { beginning, committed: Small::default(), appended: Vec::new() }
    }

    fn clocks(&self, now: Instant) -> Clocks {
        let passed = now.duration_since(self.beginning).as_micros() as i64;
        Clocks { now, wall_us: BEGINNING_US + passed }
    }

    /// So much of what was appended since the last commit is on flash; the rest never will be.
    fn cut(&mut self, keep: usize) {
        for record in self.appended.drain(..).take(keep).flatten() {
            self.committed.apply(record);
        }
    }
}

impl World {
    /// Appends what the router told, as the hub does.
    pub(super) fn gather(&mut self) {
        let facts = std::mem::take(&mut self.recorder.facts);
        if facts.iter().any(Fact::is_of_session) {
            self.gather_calls();
        }
        let clocks = self.flash.clocks(self.now);
        self.flash.appended.extend(facts.into_iter().map(|fact| vec![fact_record(fact, clocks)]));
        for (_, asked) in self.recorder.ended.drain(..) {
            // What was asked before a restart is not known any more.
            if let Some(data) = asked {
                let call = &mut self.ledger.calls[asked_in(&data)];
                call.told += 1;
                assert_eq!(call.told, 1, "its end is told twice: {call:?}");
            }
        }
    }

    fn gather_calls(&mut self) {
        let clocks = self.flash.clocks(self.now);
        let changes = self.router.take_call_changes();
        self.flash.appended.push(changes.into_iter().map(|change| call_record(change, clocks)).collect());
    }

    /// All that is known comes on flash.
    pub(super) fn commit(&mut self) {
        self.gather_calls();
        self.flash.cut(usize::MAX);
        assert_eq!(self.router.take_call_changes(), [], "something changes by being asked for");
        self.check_flash();
    }

    /// What is on flash right behind a commit, held against the books.
    fn check_flash(&self) {
        let clocks = self.flash.clocks(self.now);
        let (found, unreadable) = restored(&self.flash.committed, clocks, 0);
        assert!(unreadable.is_empty());
        let sessions: BTreeMap<Uid, SessionRecord> = self.flash.committed.sessions().collect();
        for peer in &self.peers {
            let expected = match peer.presence {
                Presence::Absent => None,
                Presence::Live(_) | Presence::Replaced { .. } => Some(SessionRecord::Live),
                Presence::Kept(until) => Some(SessionRecord::Kept { until_us: clocks.to_wall(until) }),
            };
            assert_eq!(sessions.get(&peer.uid).copied(), expected, "{:?}", peer.uid);
            let is_valid = |expires: &Instant| *expires > self.now;
            let tokens = found.tokens.iter().filter(|t| t.uid == peer.uid && is_valid(&t.expires));
            let tokens: Vec<(Token, Instant)> = tokens.map(|t| (t.token, t.expires)).collect();
            let valid: Vec<_> = peer.tokens.iter().copied().filter(|(_, end)| is_valid(end)).collect();
            assert_eq!(tokens, valid, "tokens of {:?}", peer.uid);
        }
        let mut pending = BTreeMap::new();
        let mut answers = HashSet::new();
        for (_, call) in found.calls {
            let (peer, number, is_waiting) = match call {
                PendingCall::ToObject { central_number, waits, .. } => (0, central_number, waits.is_some()),
                PendingCall::ToCentral { object, number, waits, .. } => {
                    (self.by_uid[&object], number, waits.is_some())
                }
                PendingCall::Answer { to, waits } => {
                    let (_, number) = answer_in(&waits);
                    let to = self.by_uid[&to];
                    assert!(self.is_out_of_sight(Asker::Peer(to)), "recorded, and nobody is awaited");
                    answers.insert((to, number));
                    continue;
                }
            };
            assert!(pending.insert((peer, number), is_waiting).is_none(), "two calls of one number");
            assert!(self.ledger.by_creator.contains_key(&(peer, number)), "recorded, and nobody waits");
        }
        for id in &self.ledger.open {
            let call = &self.ledger.calls[*id];
            let Asker::Peer(peer) = call.asker else { continue };
            match pending.get(&(peer, call.number)) {
                Some(is_waiting) => {
                    assert_ne!(call.place, Place::New, "not answered although it cannot be handed over");
                    let expected = matches!(call.place, Place::Hidden | Place::Limbo);
                    assert_eq!(*is_waiting, expected, "whether it waits: {call:?}");
                }
                None => assert!(answers.contains(&(peer, call.number)), "not recorded: {call:?}"),
            }
        }
    }

    /// The process is killed and started again.
    pub(super) fn restart(&mut self) {
        let keep = self.rng.below(self.flash.appended.len() + 1);
        self.flash.cut(keep);
        self.now += Duration::from_millis(self.rng.pick(&[0, 0, 300, 3_000, 12_000]));
        // The list may be edited while nothing runs.
        if self.rng.chance(20) {
            let object = 1 + self.rng.below(OBJECTS);
            let group = self.rng.below(GROUPS.len());
            self.access[object] = self.rng.pick(&[None, Some(Entry { group, key: 10 })]);
        }
        let clocks = self.flash.clocks(self.now);
        let floor = self.rng.next() >> 24;
        let floor = self.rng.pick(&[0, floor]);
        let (found, unreadable) = restored(&self.flash.committed, clocks, floor);
        assert!(unreadable.is_empty());
        self.router = Router::new(self.settings.clone(), self.access_list());
        self.router.restore(self.now, found.clone(), &mut self.recorder);
        assert_eq!(self.recorder.effects, [], "nobody is there");
        self.recorder.outstanding.clear();
        self.forget();
        for token in found.tokens {
            let peer = self.by_uid[&token.uid];
            if token.expires > self.now && self.group(peer).is_some_and(|group| group.telemetry) {
                self.peers[peer].tokens.push_back((token.token, token.expires));
            }
        }
        let sessions: Vec<_> = self.flash.committed.sessions().collect();
        for (uid, session) in sessions {
            let peer = self.by_uid[&uid];
            let until = match session {
                SessionRecord::Live => self.now + self.keep_time(),
                SessionRecord::Kept { until_us } => {
                    clocks.to_instant(until_us).min(self.now + self.keep_time())
                }
                SessionRecord::Ended => continue,
            };
            if until > self.now && (peer == 0 || self.group(peer).is_some()) {
                self.peers[peer].presence = Presence::Kept(until);
            }
        }
        self.take_over(found.calls);
        self.gather();
        self.expire();
        self.must_show.clear();
        self.check_states();
        self.check_books();
        if self.rng.chance(50) {
            self.commit();
        }
    }

    /// By the books, nothing is known any more.
    fn forget(&mut self) {
        self.event += 1;
        self.conns.clear();
        self.webhook.clear();
        for peer in &mut self.peers {
            peer.presence = Presence::Absent;
            peer.limbo.clear();
            peer.waiting_bytes = 0;
            peer.tokens.clear();
            peer.renewal = None;
            peer.session += 1;
        }
        let ledger = &mut self.ledger;
        for call in &mut ledger.calls {
            call.is_older_than_restart = true;
            (call.is_void, call.is_shown) = (true, true);
        }
        ledger.by_creator.clear();
        ledger.by_ticket.clear();
        ledger.by_target.clear();
        ledger.deadlines.clear();
        ledger.open.clear();
    }

    /// What was recorded goes on, by the books.
    fn take_over(&mut self, calls: Vec<(Serial, PendingCall)>) {
        let mut queues: BTreeMap<PeerId, BTreeMap<Serial, Item>> = BTreeMap::new();
        let mut add = |to: PeerId, what, tag, waits: Waits| {
            let Waits { position, bytes } = waits;
            let known = queues.entry(to).or_default().insert(position, Item { what, tag, bytes });
            assert!(known.is_none(), "two in the same place");
        };
        let mut taken = HashSet::new();
        let mut answers = Vec::new();
        for (serial, call) in calls {
            let (asker, target, number, number_there, way, about, waits) = match call {
                PendingCall::ToObject { object, number, central_number, about, waits } => {
                    let target = self.by_uid[&object];
                    (0, target, central_number, number, Way::Session, about, waits)
                }
                PendingCall::ToCentral { object, number, way, about, waits } => {
                    (self.by_uid[&object], 0, number, number, way, about, waits)
                }
                PendingCall::Answer { to, waits } => {
                    answers.push((self.by_uid[&to], waits));
                    continue;
                }
            };
            let id = match &waits {
                Some(waits) => request_in(waits),
                None => self.serials[&serial],
            };
            self.serials.insert(serial, id);
            taken.insert(id);
            if !self.goes_on(id, asker, about, way) {
                continue;
            }
            let call = &mut self.ledger.calls[id];
            assert_eq!((call.target, call.number), (target, number), "another call was recorded");
            call.number_there = Some(number_there);
            call.was_delivered = waits.is_none();
            call.place = if waits.is_some() { Place::Limbo } else { Place::Delivered };
            let there = self.ledger.there(id).unwrap();
            assert_eq!(self.ledger.by_target.insert(there, id), None, "a number given twice");
            assert_eq!(self.ledger.by_creator.insert((asker, number), id), None);
            match waits {
                Some(waits) if self.peers[target].presence != Presence::Absent => {
                    add(target, What::Request(id), Tag::Request(serial), waits);
                }
                Some(_) => {
                    self.ledger.calls[id].place = Place::New;
                    self.ledger.leave_target(id);
                }
                None => {}
            }
        }
        answers.sort_by_key(|(_, waits)| std::cmp::Reverse(waits.position));
        for (to, waits) in answers {
            if self.peers[to].presence == Presence::Absent {
                continue;
            }
            let (uid, number) = answer_in(&waits);
            let target = uid.map_or(0, |uid| self.by_uid[&uid]);
            // The newest that can be meant; which of several does not show in an answer.
            let is_meant = |id: &CallId| {
                let call = &self.ledger.calls[*id];
                let is_its = call.asker == Asker::Peer(to) && call.number == number && call.target == target;
                is_its && !taken.contains(id)
            };
            let id = (0..self.ledger.calls.len()).rev().find(is_meant).expect("an answer to nothing");
            taken.insert(id);
            let call = &mut self.ledger.calls[id];
            (call.is_void, call.is_shown, call.received) = (false, true, 0);
            call.session = self.peers[to].session;
            add(to, What::Answer(id), Tag::Response, waits);
        }
        for (peer, queue) in queues {
            self.peers[peer].waiting_bytes = queue.values().map(|item| item.bytes.len()).sum();
            self.peers[peer].limbo = VecDeque::from_iter(queue.into_values());
        }
    }

    /// Whether the asker of this call is still there; the call is as good as new then.
    fn goes_on(&mut self, id: CallId, asker: PeerId, about: About, way: Way) -> bool {
        let call = &mut self.ledger.calls[id];
        assert_eq!(call.asker, Asker::Peer(asker));
        if self.peers[asker].presence == Presence::Absent {
            return false;
        }
        let timeout = match way {
            Way::Session => self.settings.request_timeout,
            Way::Webhook => self.settings.webhook_timeout.unwrap_or_default(),
        };
        // One that an earlier restart cut is recorded as it was.
        assert!(about.deadline >= call.deadline, "another deadline was recorded");
        call.deadline = about.deadline.min(self.now + timeout);
        call.session = self.peers[asker].session;
        (call.is_void, call.is_shown, call.is_due, call.accepted, call.received) =
            (false, false, false, None, 0);
        call.went_by_webhook = way == Way::Webhook;
        self.ledger.deadlines.insert((call.deadline, id));
        self.ledger.open.insert(id);
        true
    }
}

/// The call whose request waits.
fn request_in(waits: &Waits) -> CallId {
    match Transmission::decode(&waits.bytes).unwrap() {
        Decoded::Done(Transmission::Request { payload, .. }, _) => asked_in(payload.data()),
        other => panic!("recorded as a request: {other:?}"),
    }
}

/// Object and number of an answer that waits.
fn answer_in(waits: &Waits) -> (Option<Uid>, u16) {
    match Transmission::decode(&waits.bytes).unwrap() {
        Decoded::Done(Transmission::Response { uid, number, .. }, _) => (uid, number),
        other => panic!("recorded as an answer: {other:?}"),
    }
}
