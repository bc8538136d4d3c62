//! Calls and answers, right ones and others.

use std::time::Duration;

use iotsocketd::limits::OUTGOING_MAX;
use iotsocketd::router::{Command, ConnectionId};
use iotsocketd::wire::{Format, Payload};

use super::ledger::{Answer, Asker, Call, CallId, PeerId, Place, question, reply};
use super::turn::Case;
use super::{OBJECTS, Presence, World};

/// Few numbers, so that they meet; the ends of their range among them.
const NUMBERS: [u16; 6] = [0, 1, 2, 3, 40, 65_535];

impl World {
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

    pub(super) fn payload_len(&mut self) -> usize {
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
            met_failing: false,
            accepted: None,
            is_due: false,
            is_shown: false,
            is_void: false,
            void_at: 0,
            received: 0,
            hidden_at: 0,
            told: 0,
            is_older_than_restart: false,
        });
        let len = self.ledger.calls[id].wire_len();
        let is_twice = match asker {
            Asker::Peer(peer) => self.ledger.by_creator.contains_key(&(peer, number)),
            Asker::Http(_) => false,
        };
        let has_webhook = self.settings.webhook_timeout.is_some() && self.recorder.webhook_refusal.is_none();
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

    pub(super) fn peer_asks(&mut self, is_central: bool) {
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

    pub(super) fn http_asks(&mut self) {
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

    pub(super) fn http_abandons(&mut self) {
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
    pub(super) fn answer(&mut self) {
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
    pub(super) fn forge(&mut self) {
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

    pub(super) fn webhook_ends(&mut self) {
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
}
