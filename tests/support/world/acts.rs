//! What may happen in a world.

use std::collections::VecDeque;
use std::time::Duration;

use iotsocketd::limits::OUTGOING_MAX;
use iotsocketd::router::access::AccessList;
use iotsocketd::router::{Command, ConnectionId, Ending, Login, LoginRefusal, Origin, Queued};
use iotsocketd::wire::{AclItem, CloseCode, Datagram, Format, Payload, Token};

use super::ledger::{Answer, Asker, Call, CallId, PeerId, Place, question, reply};
use super::turn::Case;
use super::{
    ABROAD, Conn, Entry, GROUPS, HOME, Heard, OBJECTS, Presence, What, World, group_name, key, settings,
};
use crate::effects::Effect;

/// Few numbers, so that they meet; the ends of their range among them.
const NUMBERS: [u16; 6] = [0, 1, 2, 3, 40, 65_535];

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
            89..=91 => self.forge(),
            92..=94 => self.webhook_ends(),
            95..=97 => self.datagram(),
            98 if self.rng.chance(40) => self.change_access(),
            98 => self.tick(),
            _ if self.rng.chance(40) => self.reconfigure(),
            _ => self.recorder.webhook_full = self.rng.chance(20),
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

    fn ids(&self, is_meant: impl Fn(&Conn) -> bool) -> Vec<ConnectionId> {
        self.conns.iter().filter(|(_, conn)| is_meant(conn)).map(|(id, _)| *id).collect()
    }

    fn origin(&self, id: ConnectionId) -> Origin {
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

    /// A connection that may speak now.
    fn speaker(&mut self, wants_central: bool) -> Option<ConnectionId> {
        // One whose answers pile up is not read from.
        let has_room = |id: &ConnectionId| {
            self.recorder.outstanding.get(id).is_none_or(|outstanding| *outstanding <= OUTGOING_MAX)
        };
        let alive = self.ids(|conn| !conn.is_dead && conn.is_admitted && (conn.peer == 0) == wants_central);
        let alive: Vec<_> = alive.into_iter().filter(has_room).collect();
        (!alive.is_empty()).then(|| self.rng.pick(&alive))
    }

    fn payload_len(&mut self) -> usize {
        match self.rng.below(100) {
            0..=5 if self.is_fat => 60_000,
            6..=9 => 300,
            10..=20 => 100,
            _ => 14,
        }
    }

    /// Makes a call; says what is expected of it.
    fn make_call(&mut self, asker: Asker, target: PeerId, number: u16) -> (CallId, Format, Case) {
        let id = self.ledger.calls.len();
        let len = self.payload_len();
        let format = if self.rng.chance(10) { Format::Json } else { Format::Binary };
        let data = question(id, len);
        let object = match asker {
            Asker::Peer(asker) if target == 0 => asker,
            _ => target,
        };
        let group = self.group(object);
        let refused =
            group.is_none_or(|g| data.len() > g.max_payload || (g.validate && format == Format::Json));
        let is_limited = target == 0 && group.is_some_and(|group| group.rate != 0);
        self.ledger.calls.push(Call {
            asker,
            session: if let Asker::Peer(peer) = asker { self.peers[peer].session } else { 0 },
            target,
            number,
            number_there: None,
            data,
            refused,
            deadline: self.now + self.settings.request_timeout,
            place: Place::New,
            was_delivered: false,
            went_by_webhook: false,
            accepted: None,
            is_due: false,
            is_shown: false,
            is_void: false,
            void_at: 0,
            received: 0,
            hidden_at: 0,
        });
        let len = self.ledger.calls[id].wire_len();
        let is_twice = match asker {
            Asker::Peer(peer) => self.ledger.by_creator.contains_key(&(peer, number)),
            Asker::Http(_) => false,
        };
        let has_webhook = self.settings.webhook_timeout.is_some() && !self.recorder.webhook_full;
        let can = !refused
            && !is_twice
            && match self.peers[target].presence {
                Presence::Absent => target == 0 && has_webhook,
                Presence::Live(conn) => len <= self.conns[&conn].largest,
                Presence::Kept(_) | Presence::Replaced { .. } => true,
            };
        let is_ending = matches!(self.peers[target].presence, Presence::Kept(until) if until <= self.now);
        let is_full = self.peers[target].waiting_bytes + len > OUTGOING_MAX;
        let case = Case {
            asking: Some(id),
            is_twice,
            must_reach: can && !is_limited && !is_full && !is_ending,
            cannot_reach: !can,
            resumed: None,
        };
        (id, format, case)
    }

    fn peer_asks(&mut self, is_central: bool) {
        let Some(id) = self.speaker(is_central) else { return };
        let origin = self.origin(id);
        let asker = self.conns[&id].peer;
        let target = if is_central { 1 + self.rng.below(OBJECTS) } else { 0 };
        let uid = is_central.then_some(self.peers[target].uid);
        let number = if self.rng.chance(80) { self.rng.pick(&NUMBERS) } else { self.rng.next() as u16 };
        if !self.speaks(id) {
            let payload = Payload::new(Format::Binary, b"from one who has no right").unwrap();
            let request = Command::Request { origin, uid, number, payload };
            return self.turn(request, Vec::new(), Case::default());
        }
        let is_known = self.ledger.by_creator.contains_key(&(asker, number));
        // What became of the earlier call of this number cannot be seen while the session waits.
        if is_known && self.is_out_of_sight(Asker::Peer(asker)) {
            return;
        }
        let (call, format, case) = self.make_call(Asker::Peer(asker), target, number);
        let data = self.ledger.calls[call].data.clone();
        let payload = Payload::new(format, &data).unwrap();
        self.turn(Command::Request { origin, uid, number, payload }, Vec::new(), case);
    }

    fn http_asks(&mut self) {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let target = 1 + self.rng.below(OBJECTS);
        let (call, format, case) = self.make_call(Asker::Http(ticket), target, 0);
        let timeout = Duration::from_millis(self.rng.pick(&[0, 1, 1_000, 4_000, 20_000]));
        self.ledger.calls[call].deadline = self.now + timeout;
        self.ledger.by_ticket.insert(ticket, call);
        let case = Case { must_reach: case.must_reach && !timeout.is_zero(), ..case };
        let data = self.ledger.calls[call].data.clone();
        let payload = Payload::new(format, &data).unwrap();
        let (uid, deadline) = (self.peers[target].uid, self.now + timeout);
        self.turn(Command::HttpRequest { ticket, uid, payload, deadline }, Vec::new(), case);
    }

    fn http_abandons(&mut self) {
        let tickets: Vec<_> = self.ledger.by_ticket.keys().copied().collect();
        // A map's order is not the same in every run.
        let Some(ticket) = tickets.into_iter().min_by_key(|ticket| ticket.wrapping_mul(0x9e37_79b9)) else {
            return;
        };
        let call = self.ledger.by_ticket[&ticket];
        self.ledger.make_void(call, self.event);
        self.turn(Command::HttpAbandoned { ticket }, Vec::new(), Case::default());
    }

    /// A peer answers something that it was asked; sometimes late, or twice.
    fn answer(&mut self) {
        let is_central = self.rng.chance(40);
        let Some(id) = self.speaker(is_central) else { return };
        let peer = self.conns[&id].peer;
        if self.peers[peer].inbox.is_empty() {
            return;
        }
        let at = self.rng.below(self.peers[peer].inbox.len());
        let heard = self.peers[peer].inbox[at];
        if !self.rng.chance(10) {
            self.peers[peer].inbox.swap_remove(at);
        }
        let target_key = (is_central, heard.object, heard.number);
        let is_expected = self.ledger.by_target.get(&target_key) == Some(&heard.call);
        if !is_expected && self.is_out_of_sight(Asker::Peer(peer)) {
            return;
        }
        let len = if self.rng.chance(5) { 0 } else { self.payload_len() };
        let data = if len == 0 { Vec::new() } else { reply(heard.call, self.rng.next(), len) };
        let code = self.rng.pick(&[0, 0, 0, 1, 7, 0xa0, 0xa1, 0xff]);
        self.respond(id, heard.object, heard.number, code, data);
    }

    /// A peer answers what it was not asked, or guesses.
    fn forge(&mut self) {
        let is_central = self.rng.chance(30);
        let Some(id) = self.speaker(is_central) else { return };
        let peer = self.conns[&id].peer;
        if self.speaks(id) && self.is_out_of_sight(Asker::Peer(peer)) {
            return;
        }
        let object = if is_central { 1 + self.rng.below(OBJECTS) } else { peer };
        let known: Vec<u16> =
            self.ledger.calls.iter().rev().take(50).filter_map(|c| c.number_there).collect();
        let number = if known.is_empty() { self.rng.pick(&NUMBERS) } else { self.rng.pick(&known) };
        let data = reply(usize::MAX, self.rng.next(), 14);
        self.respond(id, object, number, 0, data);
    }

    fn respond(&mut self, id: ConnectionId, object: PeerId, number: u16, code: u8, data: Vec<u8>) {
        let origin = self.origin(id);
        let is_central = self.conns[&id].peer == 0;
        let format = if self.rng.chance(10) { Format::Json } else { Format::Binary };
        let there = (is_central, object, number);
        let hit = self.ledger.by_target.get(&there).copied().filter(|_| self.speaks(id));
        let hit = hit.filter(|call| !self.ledger.calls[*call].went_by_webhook);
        if let Some(call) = hit {
            let is_bad = format == Format::Json && !data.is_empty();
            let judge = |g: &iotsocketd::router::Group| data.len() > g.max_payload || (g.validate && is_bad);
            let refused = !is_central && self.group(object).is_some_and(judge);
            self.accept(call, Answer { code, data: data.clone(), refused });
        }
        let uid = is_central.then_some(self.peers[object].uid);
        let payload = Payload::new(format, &data).unwrap();
        self.turn(Command::Response { origin, uid, number, code, payload }, Vec::new(), Case::default());
    }

    fn accept(&mut self, id: CallId, answer: Answer) {
        self.ledger.leave_target(id);
        let call = &mut self.ledger.calls[id];
        if let Asker::Peer(peer) = call.asker {
            self.peers[peer].waiting_bytes += 23 + answer.data.len();
        }
        call.accepted = Some((answer, self.event));
        self.must_show.push(id);
    }

    fn webhook_ends(&mut self) {
        if self.webhook.is_empty() {
            return;
        }
        let at = self.rng.below(self.webhook.len());
        let (call, serial) = self.webhook.swap_remove(at);
        // A webhook that hangs.
        if self.rng.chance(10) {
            return;
        }
        let answer = (!self.rng.chance(20)).then(|| (self.rng.pick(&[0, 9]), reply(call, 1, 20)));
        let (object, number) = (self.ledger.calls[call].object(), self.ledger.calls[call].number);
        if !self.ledger.calls[call].is_over(self.event) {
            let (code, data) = answer.clone().unwrap_or((1, Vec::new()));
            self.accept(call, Answer { code, data, refused: false });
        }
        let uid = self.peers[object].uid;
        let answer = answer.as_ref().map(|(code, data)| (*code, Payload::new(Format::Utf8, data).unwrap()));
        self.turn(Command::WebhookAnswered { uid, number, serial, answer }, Vec::new(), Case::default());
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
        assert_eq!(taken.map(|taken| self.by_uid[&taken.uid]), expected, "telemetry of {token:?}");
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
        let items = access.iter().enumerate().filter_map(|(object, entry)| {
            let entry = (*entry)?;
            let uid = self.peers[object].uid;
            Some(AclItem { group: group_name(entry.group), uid, key: key(entry.key) })
        });
        let list = AccessList::build(items, |_| true).unwrap();
        self.turn(Command::ReplaceAccess(list), expected, Case::default());
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
