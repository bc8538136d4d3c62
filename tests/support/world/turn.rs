//! One command to the router, and everything that it does held against the books.

use iotsocketd::router::{Command, ConnectionId};

use super::ledger::{Asker, CallId, Place};
use super::{Presence, World};
use crate::effects::Effect;

/// What a command is about.
#[derive(Debug, Default, Clone, Copy)]
pub struct Case {
    /// The call that it makes.
    pub asking: Option<CallId>,
    /// The creator has a pending call of that number already.
    pub is_twice: bool,
    /// There is no reason not to hand the request over.
    pub must_reach: bool,
    /// There is a reason not to.
    pub cannot_reach: bool,
    /// The connection that takes over what waited.
    pub resumed: Option<ConnectionId>,
}

impl World {
    /// Hands a command to the router; `expected`: what it must do to connections, in any order.
    pub(super) fn turn(&mut self, command: Command<'_>, mut expected: Vec<Effect>, case: Case) {
        self.event += 1;
        self.router.handle(self.now, command, &mut self.recorder);
        self.gather();
        self.expire();
        let effects = std::mem::take(&mut self.recorder.effects);
        let mut last_hidden = 0;
        for effect in effects {
            match effect {
                Effect::Full(id) => self.full.push(id),
                Effect::Queued { to, tag, bytes } => self.queued(to, tag, bytes, case, &mut last_hidden),
                Effect::Answer { ticket, code, data, made_here } => {
                    let id = *self.ledger.by_ticket.get(&ticket).expect("nobody holds this ticket");
                    let is_own = self.ledger.calls[id].accepted.is_none();
                    assert_eq!(made_here, is_own, "who made the answer to {:?}", self.ledger.calls[id]);
                    self.show(id, code, &data, case, false);
                    self.ledger.calls[id].received += 1;
                }
                Effect::Webhook { number, serial, data, refusal, .. } => {
                    self.handed_to_webhook(case, number, serial, &data, refusal);
                }
                control => {
                    let at = expected.iter().position(|known| *known == control);
                    expected.remove(at.unwrap_or_else(|| panic!("{control:?}, not {expected:?}")));
                    if let Effect::Admit(id) = control {
                        self.conns.get_mut(&id).unwrap().is_admitted = true;
                    }
                    if let Effect::Refuse(id, _) = control {
                        self.conns.get_mut(&id).unwrap().is_dead = true;
                    }
                }
            }
        }
        assert!(expected.is_empty(), "did not happen: {expected:?}");
        self.conclude(case);
        self.check_states();
        self.full.clear();
    }

    fn conclude(&mut self, case: Case) {
        if let Some(id) = case.resumed {
            self.conclude_resumption(id);
        }
        if let Some(id) = case.asking {
            self.conclude_asking(id, case);
        }
        for id in std::mem::take(&mut self.must_show) {
            let call = &self.ledger.calls[id];
            let is_excused = call.is_void || self.is_out_of_sight(call.asker);
            assert!(call.is_shown || is_excused, "no answer to {call:?}");
        }
    }

    fn conclude_asking(&mut self, id: CallId, case: Case) {
        let call = &self.ledger.calls[id];
        if case.cannot_reach {
            assert_eq!(call.place, Place::New, "handed over although it must not be: {call:?}");
        }
        if call.is_shown {
            return;
        }
        let waits = matches!(self.peers[call.target].presence, Presence::Kept(_) | Presence::Replaced { .. });
        if call.place == Place::New {
            let is_known = waits || self.is_out_of_sight(call.asker);
            assert!(is_known, "neither handed over nor answered: {call:?}");
            let (target, len) = (call.target, call.wire_len());
            self.peers[target].waiting_bytes += len;
            let event = self.event;
            let call = &mut self.ledger.calls[id];
            call.place = Place::Hidden;
            call.hidden_at = event;
        }
        let call = &self.ledger.calls[id];
        self.ledger.deadlines.insert((call.deadline, id));
        self.ledger.open.insert(id);
        match call.asker {
            Asker::Http(_) => {}
            Asker::Peer(peer) => {
                self.ledger.by_creator.insert((peer, call.number), id);
            }
        }
    }

    /// What waited for the peer was sent, or must have been answered.
    fn conclude_resumption(&mut self, id: ConnectionId) {
        let (peer, largest) = (self.conns[&id].peer, self.conns[&id].largest);
        self.skip_limbo(peer, largest);
        assert!(self.peers[peer].limbo.is_empty(), "not sent again: {:?}", self.peers[peer].limbo.front());
        assert!(!self.conns[&id].wants_token, "no token after the login");
        self.peers[peer].waiting_bytes = 0;
        for open in self.ledger.open.iter().copied() {
            let call = &self.ledger.calls[open];
            let is_left = call.target == peer && call.place == Place::Hidden && !call.is_over(self.event);
            if is_left {
                // Behind a session that waited, a hidden request may have been refused out of sight.
                let is_excused = call.wire_len() > largest || self.is_out_of_sight(call.asker);
                assert!(is_excused, "never sent: {call:?}");
                self.must_show.push(open);
            }
            if call.asker == Asker::Peer(peer) && (call.accepted.is_some() || call.is_due) {
                self.must_show.push(open);
            }
        }
    }
}
