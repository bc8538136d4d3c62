//! Carries the router's effects to connections, callers and workers.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use ring::rand::SecureRandom;

use super::WebhookSink;
use super::commands::CommandDesk;
use super::http_call::{CallAnswer, Slot};
use super::keeping::Log;
use super::latency::Meters;
use super::outbox::{Kind, Outbox, Verdict};
use super::recording;
use crate::journal::Seq;
use crate::journal::front::Ticket as Place;
use crate::router::{
    AccessChange, Answer, CallEnd, CentralSession, ConnectionId, Effects, Fact, LoginRefusal, Queued, Tag,
    Ticket, WebhookRefusal, WebhookRequest,
};
use crate::wire::{CloseCode, TOKEN_LEN, Token, Transmission, Uid, verdict_byte};

/// The world as the router acts on it, for the time of one command.
pub struct Dispatch<'a> {
    pub connections: &'a mut HashMap<ConnectionId, Arc<Outbox>>,
    pub slots: &'a mut HashMap<Ticket, Arc<Slot>>,
    pub webhooks: Option<&'a dyn WebhookSink>,
    pub random: &'a ring::rand::SystemRandom,
    pub meters: &'a Meters,
    pub wakes: &'a mut Vec<Waker>,
    pub central_changed: Option<Option<CentralSession>>,
    /// Whose login is accepted; they hear of it from [`open_sessions`].
    pub admitted: Vec<Arc<Outbox>>,
    pub log: &'a mut Log,
    pub desk: &'a mut CommandDesk,
    /// Answers to queued commands.
    pub command_answers: Vec<(Uid, Seq, CallAnswer)>,
    /// Sessions that began, are kept or ended: to be recorded behind the calls that they had.
    pub sessions: Vec<Fact>,
    /// Where the record of the token lies that is queued next.
    pub token: Option<Place>,
    pub now: Instant,
}

/// Lets the admitted connections begin. Only behind all that the router had to say first: a task that runs on another
/// thread could else put its pong to a hasty ping ahead of the token.
pub fn open_sessions(admitted: &[Arc<Outbox>], wakes: &mut Vec<Waker>) {
    wakes.extend(admitted.iter().filter_map(|outbox| outbox.decide(Verdict::Admitted)));
}

impl Effects for Dispatch<'_> {
    fn send(&mut self, to: ConnectionId, tag: Tag, transmission: Transmission<'_>) -> bool {
        match self.connections.get(&to) {
            Some(outbox) if outbox.has_room(transmission.wire_len()) => {
                self.log.hold_if_asked(outbox);
                self.wakes.extend(outbox.push(tag.into(), transmission));
                true
            }
            _ => false,
        }
    }

    fn reply(&mut self, to: ConnectionId, tag: Tag, transmission: Transmission<'_>) {
        if let Some(outbox) = self.connections.get(&to) {
            match self.token.take_if(|_| tag == Tag::Token) {
                Some(place) => self.log.waiting.hold(outbox, place),
                None => self.log.hold_if_asked(outbox),
            }
            self.wakes.extend(outbox.push(tag.into(), transmission));
        }
    }

    fn resend(&mut self, to: ConnectionId, waited: Queued) {
        if let Some(outbox) = self.connections.get(&to) {
            self.log.hold_if_asked(outbox);
            self.wakes.extend(outbox.push_bytes(waited.tag.into(), &waited.bytes));
        }
    }

    fn admit(&mut self, connection: ConnectionId) {
        if let Some(outbox) = self.connections.get(&connection) {
            // The verdict is the first byte of the live session: all that the router sends comes behind it.
            self.wakes.extend(outbox.push_bytes(Kind::Passing, &[verdict_byte(true)]));
            self.admitted.push(Arc::clone(outbox));
        }
    }

    fn refuse(&mut self, connection: ConnectionId, why: LoginRefusal) {
        if let Some(outbox) = self.connections.remove(&connection) {
            self.wakes.extend(outbox.decide(Verdict::Refused(why)));
        }
    }

    fn close(&mut self, connection: ConnectionId, code: CloseCode) {
        if let Some(outbox) = self.connections.get(&connection) {
            self.wakes.extend(outbox.order_close(code));
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer<'_>) {
        if let Some(slot) = self.slots.remove(&ticket) {
            self.wakes.extend(slot.fill(answer.into()));
        } else if let Some((uid, seq)) = self.desk.take_call(ticket) {
            self.command_answers.push((uid, seq, answer.into()));
        }
    }

    fn answered(&mut self, started: Instant) {
        self.meters.calls.record(self.now.saturating_duration_since(started));
    }

    fn ask_webhook(&mut self, request: WebhookRequest<'_>) -> Result<(), WebhookRefusal> {
        self.webhooks.ok_or(WebhookRefusal::NoRoom)?.request(request)
    }

    fn central_changed(&mut self, session: Option<CentralSession>) {
        self.central_changed = Some(session);
    }

    fn fresh_token(&mut self) -> Token {
        let mut token = [0; TOKEN_LEN];
        // The system's generator fails only where there is none; a token that anybody could guess is worse than none.
        while self.random.fill(&mut token).is_err() {}
        Token(token)
    }

    fn remember(&mut self, fact: Fact) {
        if fact.is_of_session() {
            return self.sessions.push(fact);
        }
        let place = self.log.note_fact(fact, self.now);
        if let Fact::TokenIssued { .. } = fact {
            // Not recorded because nothing is any more: sessions go on without.
            self.token = place;
        }
    }

    fn call_ended(&mut self, end: CallEnd<'_>) {
        self.log.append_or_count(recording::call_message(&end, self.now));
    }

    fn access_changed(&mut self, change: AccessChange) {
        self.log.append_or_count(recording::access_message(&change));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_begins_behind_all_that_it_is_told_first() {
        let outbox = Arc::new(Outbox::default());
        let mut log = crate::hub::testing::log();
        let mut desk = CommandDesk::new(Default::default());
        let (mut slots, mut wakes) = (HashMap::new(), Vec::new());
        let mut dispatch = Dispatch {
            connections: &mut HashMap::from([(1, Arc::clone(&outbox))]),
            slots: &mut slots,
            webhooks: None,
            random: &ring::rand::SystemRandom::new(),
            meters: &Meters::default(),
            wakes: &mut wakes,
            central_changed: None,
            admitted: Vec::new(),
            log: &mut log,
            desk: &mut desk,
            command_answers: Vec::new(),
            sessions: Vec::new(),
            token: None,
            now: Instant::now(),
        };
        dispatch.admit(1);
        assert_eq!(outbox.poll_verdict(Waker::noop()), Verdict::Pending, "the token is still to come");
        dispatch.reply(1, Tag::Token, Transmission::Token(Token([7; TOKEN_LEN])));
        let Dispatch { admitted, .. } = dispatch;
        open_sessions(&admitted, &mut wakes);
        assert_eq!(outbox.poll_verdict(Waker::noop()), Verdict::Admitted);
        let mut batch = Default::default();
        outbox.take(&mut batch);
        assert_eq!(batch.bytes, [&[0x01, 0x50][..], &[7; TOKEN_LEN]].concat());
    }
}
