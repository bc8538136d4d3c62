//! What may happen in a world.

use std::collections::VecDeque;
use std::time::Duration;

use iotsocketd::router::access::AccessList;
use iotsocketd::router::{
    Command, ConnectionId, Ending, Login, LoginRefusal, Origin, Queued, WebhookRefusal,
};
use iotsocketd::wire::{AclItem, CloseCode, Datagram, Format, Payload, Token};

use super::ledger::{Asker, PeerId, Place};
use super::turn::Case;
use super::{
    ABROAD, Conn, Entry, GROUPS, HOME, Heard, OBJECTS, Presence, What, World, group_name, key, settings,
};
use crate::effects::Effect;

impl World {
    /// One thing happens.
    pub(super) fn act(&mut self) {
        self.pass_time();
        match self.rng.below(100) {
            0..=5 => {
                let peer = if self.rng.chance(25) { 0 } else { self.rng.below(OBJECTS + 1) };
                self.login(peer);
            }
            6..=8 => self.break_connection(),
            9..=15 => {
                let dying: Vec<_> = self.ids(|conn| conn.is_dead || conn.told.is_some());
                if !dying.is_empty() {
                    let id = self.rng.pick(&dying);
                    self.report(id);
                }
            }
            16..=29 => self.peer_asks(true),
            30..=40 => self.http_asks(),
            41..=42 => self.http_abandons(),
            43..=54 => self.peer_asks(false),
            55..=73 => {
                let readers = self.ids(|conn| !conn.is_dead);
                if !readers.is_empty() {
                    let id = self.rng.pick(&readers);
                    let count = self.rng.pick(&[1, 1, 3, 20]);
                    self.read(id, count);
                }
            }
            74..=88 => self.answer(),
            89..=90 => self.forge(),
            91 if self.rng.chance(20) => self.restart(),
            91 => self.commit(),
            92..=94 => self.webhook_ends(),
            95..=97 => self.datagram(),
            98 if self.rng.chance(40) => self.change_access(),
            98 => self.tick(),
            _ if self.rng.chance(40) => self.reconfigure(),
            _ => {
                let refusals =
                    [Some(WebhookRefusal::NoRoom), Some(WebhookRefusal::Failing), None, None, None];
                self.recorder.webhook_refusal = self.rng.pick(&refusals);
            }
        }
    }

    fn pass_time(&mut self) {
        let millis = match self.rng.below(400) {
            0 => 40_000,
            1..=4 => 12_000,
            5..=14 => 3_000,
            15..=120 => self.rng.below(300),
            _ => 0,
        };
        self.now += Duration::from_millis(millis as u64);
        // Often what happens next comes before the timer is noticed.
        if self.rng.chance(50) && self.router.next_deadline().is_some_and(|next| next <= self.now) {
            self.tick();
        }
    }

    pub(super) fn tick(&mut self) {
        self.turn(Command::Tick, Vec::new(), Case::default());
    }

    pub(super) fn ids(&self, is_meant: impl Fn(&Conn) -> bool) -> Vec<ConnectionId> {
        self.conns.iter().filter(|(_, conn)| is_meant(conn)).map(|(id, _)| *id).collect()
    }

    pub(super) fn origin(&self, id: ConnectionId) -> Origin {
        Origin { connection: id, uid: self.peers[self.conns[&id].peer].uid }
    }

    fn login(&mut self, peer: PeerId) {
        let right = if peer == 0 {
            Some(self.settings.central_key)
        } else {
            self.access[peer].map(|entry| key(entry.key))
        };
        let key = if self.rng.chance(5) { key(99) } else { right.unwrap_or(key(98)) };
        let source = if self.rng.chance(10) { ABROAD } else { HOME };
        let largest = self.rng.pick(&[0, 0, 0, 0, 0, 0, 40, 2_000]);
        self.last_connection += 1;
        let id = self.last_connection;
        let conn = Conn {
            peer,
            largest: if largest == 0 { usize::MAX } else { usize::from(largest) },
            items: VecDeque::new(),
            is_admitted: false,
            wants_token: false,
            is_dead: false,
            told: None,
        };
        self.conns.insert(id, conn);
        let mut expected = Vec::new();
        let mut case = Case::default();
        let group = if peer == 0 { None } else { self.group(peer) };
        if Some(key) != right || (peer != 0 && group.is_none()) {
            expected.push(Effect::Refuse(id, LoginRefusal::NotKnown));
        } else if group.is_some_and(|group| !group.allow_from.allows(source)) {
            expected.push(Effect::Refuse(id, LoginRefusal::Source));
        } else {
            match self.peers[peer].presence {
                Presence::Absent | Presence::Kept(_) => {
                    self.go_live(id, &mut expected);
                    case.resumed = Some(id);
                }
                Presence::Live(old) => {
                    self.peers[peer].presence = Presence::Replaced { old, next: Some(id) };
                    expected.push(Effect::Close(old, CloseCode::ResourcesFreed));
                    self.conns.get_mut(&old).unwrap().told.get_or_insert(Ending::Kept);
                    if peer == 0 {
                        expected.push(Effect::Central(None));
                    }
                }
                Presence::Replaced { old, next } => {
                    self.peers[peer].presence = Presence::Replaced { old, next: Some(id) };
                    expected.extend(next.map(|id| Effect::Refuse(id, LoginRefusal::Superseded)));
                }
            }
        }
        let uid = self.peers[peer].uid;
        self.turn(Command::Login(Login { connection: id, uid, key, source, largest }), expected, case);
    }

    /// A peer says that it closes, or drops without a word. The router hears of it later.
    fn break_connection(&mut self) {
        let alive = self.ids(|conn| !conn.is_dead);
        if !alive.is_empty() {
            let id = self.rng.pick(&alive);
            let ending = self.rng.pick(&[Ending::Kept, Ending::Kept, Ending::Ended]);
            let conn = self.conns.get_mut(&id).unwrap();
            conn.is_dead = true;
            conn.told.get_or_insert(ending);
        }
    }

    /// The router hears of a connection's end.
    pub(super) fn report(&mut self, id: ConnectionId) {
        let origin = self.origin(id);
        let conn = self.conns.get_mut(&id).unwrap();
        let (peer, ending) = (conn.peer, conn.told.unwrap_or(Ending::Kept));
        let items = std::mem::take(&mut conn.items);
        let unsent = items.iter().map(|item| Queued { tag: item.tag, bytes: item.bytes.clone() }).collect();
        let bytes: usize = items.iter().map(|item| item.bytes.len()).sum();
        let calls = items.iter().filter_map(|item| match item.what {
            What::Request(call) => Some(call),
            _ => None,
        });
        for call in calls {
            self.ledger.calls[call].place = Place::Limbo;
        }
        let kept: VecDeque<_> = items.into_iter().filter(|item| item.what != What::Token).collect();
        let mut expected = Vec::new();
        let mut case = Case::default();
        match self.peers[peer].presence {
            Presence::Live(live) if live == id => {
                self.peers[peer].limbo = kept;
                self.peers[peer].waiting_bytes = bytes;
                if peer == 0 {
                    expected.push(Effect::Central(None));
                }
                match ending {
                    Ending::Kept => self.peers[peer].presence = Presence::Kept(self.now + self.keep_time()),
                    Ending::Ended => self.session_over(peer),
                }
            }
            Presence::Replaced { old, next } if old == id => {
                self.peers[peer].limbo = kept;
                self.peers[peer].waiting_bytes += bytes;
                match next {
                    Some(next) => {
                        self.go_live(next, &mut expected);
                        case.resumed = Some(next);
                    }
                    None => self.peers[peer].presence = Presence::Kept(self.now + self.keep_time()),
                }
            }
            Presence::Replaced { old, next } if next == Some(id) => {
                self.peers[peer].presence = Presence::Replaced { old, next: None };
            }
            _ => {
                for item in kept {
                    if let What::Request(call) = item.what {
                        self.give_up(call);
                    }
                }
            }
        }
        self.turn(Command::Disconnected { origin, ending, unsent }, expected, case);
        self.conns.remove(&id);
        self.recorder.outstanding.remove(&id);
    }

    /// A peer takes some of what waits for it.
    pub(super) fn read(&mut self, id: ConnectionId, count: usize) {
        let conn = self.conns.get_mut(&id).unwrap();
        let items: Vec<_> = conn.items.drain(..count.min(conn.items.len())).collect();
        let peer = conn.peer;
        for item in items {
            *self.recorder.outstanding.get_mut(&id).unwrap() -= item.bytes.len();
            match item.what {
                What::Token => {}
                What::Request(id) => {
                    let object = self.ledger.calls[id].object();
                    let call = &mut self.ledger.calls[id];
                    assert!(!std::mem::replace(&mut call.was_delivered, true), "delivered twice: {call:?}");
                    call.place = Place::Delivered;
                    let number = call.number_there.unwrap();
                    self.peers[peer].inbox.push(Heard { object, number, call: id });
                }
                What::Answer(id) => {
                    let call = &mut self.ledger.calls[id];
                    call.received += 1;
                    let is_own = call.asker == Asker::Peer(peer) && call.received == 1;
                    assert!(is_own, "answered twice, or to another: {call:?}");
                }
            }
        }
    }

    fn datagram(&mut self) {
        let token = match self.rng.chance(10) || self.all_tokens.is_empty() {
            true => Token([0xff; 8]),
            // Recent ones, and some from long ago.
            false => {
                let back = self.rng.below(self.all_tokens.len()).min(self.rng.below(60));
                self.all_tokens[self.all_tokens.len() - 1 - back]
            }
        };
        let owner = self
            .peers
            .iter()
            .position(|peer| peer.tokens.iter().any(|(valid, end)| *valid == token && *end > self.now));
        let source = if self.rng.chance(10) { ABROAD } else { HOME };
        let data = vec![b'T'; self.payload_len()];
        let payload = Payload::new(Format::Binary, &data).unwrap();
        let expected = owner.filter(|owner| {
            let group = self.group(*owner);
            group.is_some_and(|g| g.telemetry && g.allow_from.allows(source) && data.len() <= g.max_payload)
        });
        let taken = self.router.telemetry(self.now, &Datagram { token, payload }, source);
        assert_eq!(taken.ok().map(|taken| self.by_uid[&taken.uid]), expected, "telemetry of {token:?}");
    }

    fn change_access(&mut self) {
        let mut access = self.access;
        for _ in 0..=self.rng.below(2) {
            let object = 1 + self.rng.below(OBJECTS);
            access[object] = match self.rng.below(4) {
                0 => None,
                _ => {
                    let (group, key) = (self.rng.below(GROUPS.len()), 10 + self.rng.below(3) as u8);
                    Some(Entry { group, key })
                }
            };
        }
        self.replace_access(access);
    }

    pub(super) fn replace_access(&mut self, access: [Option<Entry>; OBJECTS + 1]) {
        let mut expected = Vec::new();
        let old = std::mem::replace(&mut self.access, access);
        for object in 1..=OBJECTS {
            if old[object].is_some() && old[object] != access[object] {
                self.revoke(object, &mut expected);
            }
        }
        self.turn(Command::ReplaceAccess(self.access_list()), expected, Case::default());
    }

    pub(super) fn access_list(&self) -> AccessList {
        let items = self.access.iter().enumerate().filter_map(|(object, entry)| {
            let entry = (*entry)?;
            let uid = self.peers[object].uid;
            Some(AclItem { group: group_name(entry.group), uid, key: key(entry.key) })
        });
        AccessList::build(items, |_| true).unwrap()
    }

    fn reconfigure(&mut self) {
        let mut new = settings();
        new.central_key = key(self.rng.pick(&[1, 1, 1, 2]));
        new.request_timeout = Duration::from_secs(self.rng.pick(&[2, 5, 8]));
        new.keep_session = Duration::from_secs(self.rng.pick(&[1, 10, 30]));
        new.webhook_timeout = self.rng.pick(&[None, Some(Duration::from_secs(3))]);
        if self.rng.chance(20) {
            new.groups.get_mut(&group_name(0)).unwrap().telemetry = false;
        }
        let is_new_key = new.central_key != self.settings.central_key;
        // One at a time: who is revoked first may still be told of the other's end.
        if !is_new_key && self.rng.chance(10) {
            new.groups.remove(&group_name(2));
        }
        let mut expected = Vec::new();
        self.settings = new.clone();
        if is_new_key {
            self.revoke(0, &mut expected);
        }
        for object in 1..=OBJECTS {
            match self.group(object) {
                None if self.access[object].is_some() => self.revoke(object, &mut expected),
                Some(group) if !group.telemetry => self.drop_tokens(object),
                _ => {}
            }
        }
        self.turn(Command::Reconfigure(Box::new(new)), expected, Case::default());
    }
}
