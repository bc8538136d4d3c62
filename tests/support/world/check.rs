//! Holds what the router sends against the ledger.

use iotsocketd::limits::{OUTGOING_MAX, TOKENS_PER_OBJECT_MAX};
use iotsocketd::router::{ConnectionId, Serial, Tag, WebhookRefusal};
use iotsocketd::wire::{
    Decoded, RESPONSE_ALREADY_USED, RESPONSE_NOT_FOUND, RESPONSE_NOT_VALID, RESPONSE_TIMED_OUT, Token,
    Transmission, Uid,
};

use super::ledger::{Asker, CallId, PeerId, Place, asked_in};
use super::turn::Case;
use super::{Item, Presence, TOKEN_TTL, What, World};

impl World {
    /// Something was queued for a connection.
    pub(super) fn queued(
        &mut self,
        to: ConnectionId,
        tag: Tag,
        bytes: Box<[u8]>,
        case: Case,
        last_hidden: &mut u64,
    ) {
        let Ok(Decoded::Done(transmission, used)) = Transmission::decode(&bytes) else {
            panic!("queued what nobody can read");
        };
        assert_eq!(used, bytes.len());
        let conn = self.conns.get_mut(&to).expect("a connection that is gone");
        assert!(conn.is_admitted, "something ahead of the verdict");
        assert!(bytes.len() <= conn.largest, "{} bytes, {} at most", bytes.len(), conn.largest);
        let is_token = matches!(transmission, Transmission::Token(_));
        assert!(!std::mem::take(&mut conn.wants_token) || is_token, "{transmission:?} ahead of the token");
        let is_resumed = case.resumed == Some(to);
        let what = match transmission {
            Transmission::Token(token) => {
                assert_eq!(tag, Tag::Token);
                self.token(to, token);
                What::Token
            }
            Transmission::Request { uid, number, payload } => {
                let Tag::Request(serial) = tag else { panic!("a request with the mark {tag:?}") };
                let id = asked_in(payload.data());
                self.serials.insert(serial, id);
                self.request(to, id, uid, number, is_resumed, last_hidden);
                assert_eq!(payload.data(), self.ledger.calls[id].data, "bent on its way");
                if !is_resumed {
                    assert_eq!(case.asking, Some(id), "sent when nobody asked");
                }
                What::Request(id)
            }
            Transmission::Response { uid, number, code, payload } => {
                assert_eq!(tag, Tag::Response);
                let answer = (uid, number, code, payload.data());
                What::Answer(self.response(to, answer, &bytes, case, is_resumed))
            }
            other => panic!("the router sent {other:?}"),
        };
        self.conns.get_mut(&to).unwrap().items.push_back(Item { what, tag, bytes });
    }

    fn token(&mut self, to: ConnectionId, token: Token) {
        let id = self.conns[&to].peer;
        assert!(id != 0 && self.group(id).is_some_and(|group| group.telemetry), "a token without a right");
        let now = self.now;
        let peer = &mut self.peers[id];
        assert_eq!(peer.presence, Presence::Live(to));
        if peer.tokens.len() == TOKENS_PER_OBJECT_MAX {
            peer.tokens.pop_front();
        }
        peer.tokens.push_back((token, now + TOKEN_TTL));
        peer.renewal = Some(now + TOKEN_TTL * 3 / 4);
        self.all_tokens.push(token);
    }

    fn request(
        &mut self,
        to: ConnectionId,
        id: CallId,
        uid: Option<Uid>,
        number: u16,
        is_resumed: bool,
        last_hidden: &mut u64,
    ) {
        let (peer, largest) = (self.conns[&to].peer, self.conns[&to].largest);
        if is_resumed {
            self.skip_limbo(peer, largest);
            if self.peers[peer].limbo.front().is_some_and(|item| item.what == What::Request(id)) {
                self.peers[peer].limbo.pop_front();
            } else {
                assert!(self.peers[peer].limbo.is_empty(), "out of order");
                let call = &self.ledger.calls[id];
                assert_eq!(call.place, Place::Hidden, "sent twice: {call:?}");
                assert!(call.hidden_at > *last_hidden, "out of order");
                *last_hidden = call.hidden_at;
            }
        }
        let call = &mut self.ledger.calls[id];
        assert!(is_resumed || call.place == Place::New, "sent twice: {call:?}");
        assert_eq!(call.target, peer, "another's request");
        assert!(!call.is_over(self.event) && call.deadline > self.now, "sent although over: {call:?}");
        assert!(!call.refused, "sent although the group forbids it");
        call.place = Place::Outbox(to);
        match call.asker {
            Asker::Peer(asker) if peer == 0 => {
                assert_eq!((uid, number), (Some(self.peers[asker].uid), call.number));
            }
            Asker::Peer(_) | Asker::Http(_) => assert_eq!(uid, None),
        }
        let call = &mut self.ledger.calls[id];
        assert!(call.number_there.is_none_or(|before| before == number));
        call.number_there = Some(number);
        let there = self.ledger.there(id).unwrap();
        let other = self.ledger.by_target.insert(there, id).filter(|other| *other != id);
        assert_eq!(other, None, "a number given twice: {there:?}");
    }

    fn response(
        &mut self,
        to: ConnectionId,
        (uid, number, code, data): (Option<Uid>, u16, u8, &[u8]),
        bytes: &[u8],
        case: Case,
        is_resumed: bool,
    ) -> CallId {
        let (peer, largest) = (self.conns[&to].peer, self.conns[&to].largest);
        if is_resumed {
            self.skip_limbo(peer, largest);
            if let Some(item) = self.peers[peer].limbo.pop_front() {
                let What::Answer(id) = item.what else { panic!("out of order: {item:?}") };
                let is_cut = item.bytes.len() > largest;
                assert!(if is_cut { data.is_empty() } else { *bytes == *item.bytes }, "bent on its way");
                self.check_receiver(id, peer, uid, number);
                return id;
            }
        }
        let asking = case.asking.filter(|id| {
            let call = &self.ledger.calls[*id];
            call.asker == Asker::Peer(peer) && call.number == number && !call.is_shown
        });
        let pending = self.ledger.by_creator.get(&(peer, number)).copied();
        let id = match (asking, pending) {
            (Some(id), Some(_)) if case.is_twice && code == RESPONSE_ALREADY_USED => id,
            (_, Some(id)) | (Some(id), None) => id,
            (None, None) => panic!("an answer that nobody awaits: {number} code {code:#x} {data:?}"),
        };
        self.check_receiver(id, peer, uid, number);
        let call = &self.ledger.calls[id];
        let whole = bytes.len() - data.len() + call.accepted.as_ref().map_or(0, |(a, _)| a.data.len());
        let waited = is_resumed && self.peers[peer].waiting_bytes + whole > OUTGOING_MAX;
        let may_shrink = whole > largest || self.full.contains(&to) || waited;
        self.show(id, code, data, case, may_shrink);
        id
    }

    fn check_receiver(&self, id: CallId, peer: PeerId, uid: Option<Uid>, number: u16) {
        let call = &self.ledger.calls[id];
        assert_eq!(call.asker, Asker::Peer(peer), "another's answer");
        assert_eq!(call.number, number, "another call's answer");
        assert_eq!(uid, (peer == 0).then_some(self.peers[call.target].uid), "another object's answer");
    }

    /// The asker's answer was made: is it one that it may get?
    pub(super) fn show(&mut self, id: CallId, code: u8, data: &[u8], case: Case, may_shrink: bool) {
        let call = &self.ledger.calls[id];
        assert!(!call.is_shown && !call.is_void, "answered twice, or to nobody: {call:?}");
        let own = data.is_empty();
        match &call.accepted {
            Some((answer, _)) => {
                let is_whole = code == answer.code && data == answer.data;
                let is_cut = code == RESPONSE_NOT_VALID && own;
                let is_right = if answer.refused { is_cut } else { is_whole || (is_cut && may_shrink) };
                assert!(is_right, "code {code:#x} {data:?} is not the answer to {call:?}");
            }
            None => {
                assert!(own, "code {code:#x} {data:?} made up for {call:?}");
                match code {
                    RESPONSE_NOT_FOUND => {
                        assert!(!call.was_delivered && !call.went_by_webhook, "was handed over: {call:?}");
                        let is_full = self.full.iter().any(|id| self.conns[id].peer == call.target);
                        let is_asking = case.asking == Some(id);
                        assert!(!is_asking || !case.must_reach || is_full, "could be handed over: {call:?}");
                    }
                    RESPONSE_TIMED_OUT => assert!(call.is_due && !call.went_by_webhook, "{call:?}"),
                    RESPONSE_NOT_VALID => {
                        assert!(call.met_failing || (call.is_due && call.went_by_webhook), "{call:?}");
                    }
                    RESPONSE_ALREADY_USED => {
                        assert!(case.asking == Some(id) && case.is_twice, "not in use: {call:?}");
                    }
                    other => panic!("code {other:#x} made up for {call:?}"),
                }
            }
        }
        self.ledger.calls[id].is_shown = true;
        self.ledger.leave_target(id);
        self.ledger.leave_asker(id);
    }

    pub(super) fn handed_to_webhook(
        &mut self,
        case: Case,
        number: u16,
        serial: Serial,
        data: &[u8],
        refusal: Option<WebhookRefusal>,
    ) {
        let id = asked_in(data);
        assert_eq!(case.asking, Some(id));
        assert_eq!(self.peers[0].presence, Presence::Absent, "the central has a session");
        let timeout = self.settings.webhook_timeout.expect("no webhook is configured");
        let call = &mut self.ledger.calls[id];
        assert!(!call.refused && call.target == 0 && call.number == number && call.data == data);
        call.met_failing = refusal == Some(WebhookRefusal::Failing);
        if refusal.is_none() {
            call.place = Place::Webhook(serial);
            call.went_by_webhook = true;
            call.deadline = self.now + timeout;
            self.webhook.push((id, serial));
            self.serials.insert(serial, id);
        }
    }

    /// What of the limbo is not worth sending again, or cannot be.
    pub(super) fn skip_limbo(&mut self, peer: PeerId, largest: usize) {
        while let Some(Item { what: What::Request(id), bytes, .. }) = self.peers[peer].limbo.front() {
            let (id, is_too_large) = (*id, bytes.len() > largest);
            if self.ledger.calls[id].is_over(self.event) {
                self.peers[peer].limbo.pop_front();
            } else if is_too_large {
                self.peers[peer].limbo.pop_front();
                self.give_up(id);
            } else {
                break;
            }
        }
    }
}
