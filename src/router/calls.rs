//! Requests and their answers, both directions.
//!
//! A call to an object is found by (object, number on the object's side) and nothing else, so only the object that
//! was asked can answer it. A request of an object is found by (object, its number) with the way it went.

use std::collections::HashMap;
use std::time::Instant;

use super::presence::{Answered, NotTaken};
use super::{
    Answer, Count, Effects, Queued, Router, Serial, Tag, Ticket, Timer, WebhookRefusal, WebhookRequest,
};
use crate::limits::{ASKED_MAX, ASKED_PER_OBJECT_MAX};
use crate::wire::{
    Decoded, Payload, RESPONSE_ALREADY_USED, RESPONSE_NOT_FOUND, RESPONSE_NOT_VALID, RESPONSE_TIMED_OUT,
    Transmission, Uid,
};

/// Who awaits an object's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    /// The central's session, under this number.
    Central(u16),
    /// An HTTP call.
    Http(Ticket),
}

/// A request that an object was asked.
#[derive(Debug)]
pub struct Call {
    serial: Serial,
    asker: Asker,
    deadline: Instant,
}

/// Which way an object's request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Session,
    Webhook,
}

/// A request that an object made.
#[derive(Debug)]
pub struct Asked {
    serial: Serial,
    way: Way,
    deadline: Instant,
}

impl Router {
    /// The central's session asks an object.
    pub(super) fn central_asks(
        &mut self,
        now: Instant,
        object: Uid,
        number: u16,
        payload: Payload<'_>,
        effects: &mut impl Effects,
    ) {
        if self.central_numbers.contains_key(&number) {
            self.counts.add(Count::NumbersAlreadyUsed);
            self.answer_central(object, number, RESPONSE_ALREADY_USED, Payload::EMPTY, effects);
            return;
        }
        let deadline = now + self.settings.request_timeout;
        match self.start_call(object, Asker::Central(number), payload, deadline, effects) {
            Some(number_there) => {
                self.central_numbers.insert(number, (object, number_there));
            }
            None => self.answer_central(object, number, RESPONSE_NOT_FOUND, Payload::EMPTY, effects),
        }
    }

    /// An HTTP caller asks an object.
    pub(super) fn http_asks(
        &mut self,
        now: Instant,
        ticket: Ticket,
        uid: Uid,
        payload: Payload<'_>,
        deadline: Instant,
        effects: &mut impl Effects,
    ) {
        let number = if deadline > now {
            self.start_call(uid, Asker::Http(ticket), payload, deadline, effects)
        } else {
            None
        };
        match number {
            Some(number) => {
                self.http_calls.insert(ticket, (uid, number));
            }
            None => effects.answer(ticket, made_here(RESPONSE_NOT_FOUND)),
        }
    }

    /// The HTTP caller went away: its call is forgotten, and not delivered if it still waits.
    pub(super) fn http_abandons(&mut self, ticket: Ticket) {
        if let Some((uid, number)) = self.http_calls.remove(&ticket)
            && let Some(call) = self.take_call(uid, number, |call| call.asker == Asker::Http(ticket))
        {
            self.counts.add(Count::CallsAbandoned);
            self.withdraw(uid, call.serial);
        }
    }

    /// Hands a request to an object, under a number that is free there; `None`: it could not be handed over.
    fn start_call(
        &mut self,
        uid: Uid,
        asker: Asker,
        payload: Payload<'_>,
        deadline: Instant,
        effects: &mut impl Effects,
    ) -> Option<u16> {
        let serial = self.next_serial();
        let started = self.try_call(uid, serial, asker, payload, effects);
        match started {
            Some(number) => {
                self.counts.add(Count::CallsStarted);
                self.timers.add(deadline, Timer::Call { uid, number });
                let call = Call { serial, asker, deadline };
                self.peers.entry(uid).or_default().calls.insert(number, call);
            }
            None => self.counts.add(Count::CallsNotFound),
        }
        started
    }

    fn try_call(
        &mut self,
        uid: Uid,
        serial: Serial,
        asker: Asker,
        payload: Payload<'_>,
        effects: &mut impl Effects,
    ) -> Option<u16> {
        let (_, group) = self.group(uid)?;
        if let Err(count) = Self::takes_payload(group, payload) {
            self.counts.add(count);
            return None;
        }
        let peer = self.peers.get_mut(&uid)?;
        let preferred = match asker {
            Asker::Central(number) => number,
            // Any will do; serials spread them out, so that a late answer seldom meets a later call.
            Asker::Http(_) => (serial & u64::from(u16::MAX)) as u16,
        };
        let number = free_number(&peer.calls, preferred)?;
        peer.presence.ask(serial, Transmission::Request { uid: None, number, payload }, effects).ok()?;
        Some(number)
    }

    /// An object answers.
    pub(super) fn object_answers(
        &mut self,
        uid: Uid,
        number: u16,
        code: u8,
        payload: Payload<'_>,
        effects: &mut impl Effects,
    ) {
        let Some(call) = self.take_call(uid, number, |_| true) else {
            self.counts.add(Count::ResponsesUnexpected);
            return;
        };
        self.counts.add(Count::CallsAnswered);
        let judged = self.group(uid).map_or(Ok(()), |(_, group)| Self::takes_payload(group, payload));
        let (code, payload) = match judged {
            Ok(()) => (code, payload),
            Err(count) => {
                self.counts.add(count);
                (RESPONSE_NOT_VALID, Payload::EMPTY)
            }
        };
        self.hand_back(uid, number, &call, Answer { code, payload, made_here: false }, effects);
    }

    /// An object did not answer in time.
    pub(super) fn call_timed_out(&mut self, uid: Uid, number: u16, effects: &mut impl Effects) {
        if let Some(call) = self.take_call(uid, number, |_| true) {
            self.counts.add(Count::CallsTimedOut);
            self.withdraw(uid, call.serial);
            self.hand_back(uid, number, &call, made_here(RESPONSE_TIMED_OUT), effects);
        }
    }

    /// Takes a pending call out, with its timer.
    fn take_call(&mut self, uid: Uid, number: u16, is_meant: impl FnOnce(&Call) -> bool) -> Option<Call> {
        let peer = self.peers.get_mut(&uid)?;
        if !is_meant(peer.calls.get(&number)?) {
            return None;
        }
        let call = peer.calls.remove(&number)?;
        self.timers.remove(call.deadline, Timer::Call { uid, number });
        self.forget_if_empty(uid);
        Some(call)
    }

    /// Gives the answer to whoever asked, if it is still there.
    fn hand_back(
        &mut self,
        uid: Uid,
        number: u16,
        call: &Call,
        answer: Answer<'_>,
        effects: &mut impl Effects,
    ) {
        match call.asker {
            Asker::Http(ticket) => {
                self.http_calls.remove(&ticket);
                effects.answer(ticket, answer);
            }
            Asker::Central(central_number) => {
                // A central that ended its session for good left its numbers; a later one may use them anew.
                if self.central_numbers.get(&central_number) == Some(&(uid, number)) {
                    self.central_numbers.remove(&central_number);
                    self.answer_central(uid, central_number, answer.code, answer.payload, effects);
                } else {
                    self.counts.add(Count::ResponsesOrphaned);
                }
            }
        }
    }

    fn answer_central(
        &mut self,
        object: Uid,
        number: u16,
        code: u8,
        payload: Payload<'_>,
        effects: &mut impl Effects,
    ) {
        self.answer_peer(
            Uid::CENTRAL,
            Transmission::Response { uid: Some(object), number, code, payload },
            effects,
        );
    }

    fn answer_peer(&mut self, to: Uid, response: Transmission<'_>, effects: &mut impl Effects) {
        let answered = match self.peers.get_mut(&to) {
            Some(peer) => peer.presence.answer(response, effects),
            None => Answered::Orphaned,
        };
        match answered {
            Answered::Whole => {}
            Answered::Shrunk => self.counts.add(Count::ResponsesShrunk),
            Answered::Orphaned => self.counts.add(Count::ResponsesOrphaned),
        }
    }

    /// An object asks the central: its session if it has one, else the webhook.
    pub(super) fn object_asks(
        &mut self,
        now: Instant,
        uid: Uid,
        number: u16,
        payload: Payload<'_>,
        effects: &mut impl Effects,
    ) {
        let pending = self.peers.get(&uid).is_some_and(|peer| peer.asked.contains_key(&number));
        if pending {
            self.counts.add(Count::NumbersAlreadyUsed);
            self.answer_object(uid, number, RESPONSE_ALREADY_USED, Payload::EMPTY, effects);
            return;
        }
        match self.try_ask(now, uid, number, payload, effects) {
            Ok(asked) => {
                self.counts.add(Count::RequestsStarted);
                self.asked_total += 1;
                self.timers.add(asked.deadline, Timer::Asked { uid, number });
                self.peers.entry(uid).or_default().asked.insert(number, asked);
            }
            Err(code) => {
                let failed = code == RESPONSE_NOT_VALID;
                self.counts.add(if failed { Count::RequestsFailed } else { Count::RequestsNotFound });
                self.answer_object(uid, number, code, Payload::EMPTY, effects);
            }
        }
    }

    /// Hands an object's request to the central; the response code if that cannot be.
    fn try_ask(
        &mut self,
        now: Instant,
        uid: Uid,
        number: u16,
        payload: Payload<'_>,
        effects: &mut impl Effects,
    ) -> Result<Asked, u8> {
        let (_, group) = self.group(uid).ok_or(RESPONSE_NOT_FOUND)?;
        let judged = Self::takes_payload(group, payload);
        let rate = group.rate;
        let peer = self.peers.get_mut(&uid).ok_or(RESPONSE_NOT_FOUND)?;
        let judged = judged.and_then(|()| {
            if Self::within_rate(&mut peer.allowance, rate, now) { Ok(()) } else { Err(Count::RateExceeded) }
        });
        if let Err(count) = judged {
            self.counts.add(count);
            return Err(RESPONSE_NOT_FOUND);
        }
        if peer.asked.len() >= ASKED_PER_OBJECT_MAX || self.asked_total >= ASKED_MAX {
            return Err(RESPONSE_NOT_FOUND);
        }
        let serial = self.next_serial();
        let request = Transmission::Request { uid: Some(uid), number, payload };
        let by_session = match self.peers.get_mut(&Uid::CENTRAL) {
            Some(central) => central.presence.ask(serial, request, effects),
            None => Err(NotTaken::Absent),
        };
        match by_session {
            Ok(()) => Ok(Asked { serial, way: Way::Session, deadline: now + self.settings.request_timeout }),
            Err(NotTaken::TooLarge | NotTaken::Full) => Err(RESPONSE_NOT_FOUND),
            Err(NotTaken::Absent) => {
                let deadline = now + self.settings.webhook_timeout.ok_or(RESPONSE_NOT_FOUND)?;
                match effects.ask_webhook(WebhookRequest { uid, number, serial, payload, deadline }) {
                    Ok(()) => Ok(Asked { serial, way: Way::Webhook, deadline }),
                    Err(WebhookRefusal::NoRoom) => Err(RESPONSE_NOT_FOUND),
                    Err(WebhookRefusal::Failing) => Err(RESPONSE_NOT_VALID),
                }
            }
        }
    }

    /// The central's session answers an object.
    pub(super) fn central_answers(
        &mut self,
        object: Uid,
        number: u16,
        code: u8,
        payload: Payload<'_>,
        effects: &mut impl Effects,
    ) {
        if self.take_asked(object, number, |asked| asked.way == Way::Session).is_some() {
            self.counts.add(Count::RequestsAnswered);
            self.answer_object(object, number, code, payload, effects);
        } else {
            self.counts.add(Count::ResponsesUnexpected);
        }
    }

    /// The webhook answered an object, or failed.
    pub(super) fn webhook_answers(
        &mut self,
        uid: Uid,
        number: u16,
        serial: Serial,
        answer: Option<(u8, Payload<'_>)>,
        effects: &mut impl Effects,
    ) {
        if self.take_asked(uid, number, |asked| asked.serial == serial).is_none() {
            self.counts.add(Count::ResponsesUnexpected);
            return;
        }
        let (code, payload) = match answer {
            Some(answer) => {
                self.counts.add(Count::RequestsAnswered);
                answer
            }
            None => {
                self.counts.add(Count::RequestsFailed);
                (RESPONSE_NOT_VALID, Payload::EMPTY)
            }
        };
        self.answer_object(uid, number, code, payload, effects);
    }

    /// The central did not answer an object in time.
    pub(super) fn asked_timed_out(&mut self, uid: Uid, number: u16, effects: &mut impl Effects) {
        let Some(asked) = self.take_asked(uid, number, |_| true) else { return };
        let code = match asked.way {
            Way::Session => {
                self.counts.add(Count::RequestsTimedOut);
                self.withdraw(Uid::CENTRAL, asked.serial);
                RESPONSE_TIMED_OUT
            }
            Way::Webhook => {
                self.counts.add(Count::RequestsFailed);
                RESPONSE_NOT_VALID
            }
        };
        self.answer_object(uid, number, code, Payload::EMPTY, effects);
    }

    fn answer_object(
        &mut self,
        uid: Uid,
        number: u16,
        code: u8,
        payload: Payload<'_>,
        effects: &mut impl Effects,
    ) {
        self.answer_peer(uid, Transmission::Response { uid: None, number, code, payload }, effects);
    }

    fn take_asked(&mut self, uid: Uid, number: u16, is_meant: impl FnOnce(&Asked) -> bool) -> Option<Asked> {
        let peer = self.peers.get_mut(&uid)?;
        if !is_meant(peer.asked.get(&number)?) {
            return None;
        }
        let asked = peer.asked.remove(&number)?;
        self.asked_total -= 1;
        self.timers.remove(asked.deadline, Timer::Asked { uid, number });
        self.forget_if_empty(uid);
        Some(asked)
    }

    /// Forgets the requests of an object that is gone for good.
    pub(super) fn drop_asked(&mut self, uid: Uid) {
        let Some(peer) = self.peers.get_mut(&uid) else { return };
        self.asked_total -= peer.asked.len();
        for (number, asked) in peer.asked.drain() {
            self.timers.remove(asked.deadline, Timer::Asked { uid, number });
        }
    }

    /// Takes a request back out of the queue of a peer that is away.
    fn withdraw(&mut self, from: Uid, serial: Serial) {
        if let Some(super::Peer { presence: super::Presence::Waiting(waiting), .. }) =
            self.peers.get_mut(&from)
        {
            waiting.withdraw(serial);
        }
    }

    /// Whether what waits for this peer is still awaited. A deadline that has passed counts before its timer fires:
    /// what woke us may have come first.
    pub(super) fn is_pending(&self, now: Instant, to: Uid, queued: &Queued) -> bool {
        match queued.tag {
            Tag::Response => true,
            Tag::Token => false,
            Tag::Request(serial) => match request_of(queued) {
                Some((Some(object), number)) => {
                    let asked = self.peers.get(&object).and_then(|peer| peer.asked.get(&number));
                    asked.is_some_and(|asked| asked.serial == serial && now < asked.deadline)
                }
                Some((None, number)) => {
                    let call = self.peers.get(&to).and_then(|peer| peer.calls.get(&number));
                    call.is_some_and(|call| call.serial == serial && now < call.deadline)
                }
                None => false,
            },
        }
    }

    /// A request that can no longer be handed over is answered "not found"; the rest is dropped.
    pub(super) fn give_up(&mut self, to: Uid, queued: &Queued, effects: &mut impl Effects) {
        let Tag::Request(serial) = queued.tag else { return };
        match request_of(queued) {
            Some((Some(object), number))
                if self.take_asked(object, number, |asked| asked.serial == serial).is_some() =>
            {
                self.counts.add(Count::RequestsNotFound);
                self.answer_object(object, number, RESPONSE_NOT_FOUND, Payload::EMPTY, effects);
            }
            Some((None, number)) => {
                if let Some(call) = self.take_call(to, number, |call| call.serial == serial) {
                    self.counts.add(Count::CallsNotFound);
                    self.hand_back(to, number, &call, made_here(RESPONSE_NOT_FOUND), effects);
                }
            }
            Some((Some(_), _)) | None => {}
        }
    }
}

/// UID and number of a queued request.
fn request_of(queued: &Queued) -> Option<(Option<Uid>, u16)> {
    match Transmission::decode(&queued.bytes) {
        Ok(Decoded::Done(Transmission::Request { uid, number, .. }, _)) => Some((uid, number)),
        _ => None,
    }
}

fn made_here(code: u8) -> Answer<'static> {
    Answer { code, payload: Payload::EMPTY, made_here: true }
}

/// A number that no pending call of this object has, the preferred one if it is free.
fn free_number(calls: &HashMap<u16, Call>, preferred: u16) -> Option<u16> {
    (0..=u16::MAX).map(|step| preferred.wrapping_add(step)).find(|number| !calls.contains_key(number))
}
