//! Requests to objects and their answers; and what both directions share.
//!
//! A call to an object is found by (object, number on the object's side) and nothing else, so only the object that
//! was asked can answer it.

use std::collections::HashMap;
use std::time::Instant;

use super::presence::{Answered, Entry};
use super::{
    About, Answer, AskedBy, CallRecords, Count, Effects, Listed, Noted, Outcome, Queued, Router, Serial,
    Side, Tag, Ticket, Timer,
};
use crate::wire::{
    Decoded, Payload, RESPONSE_ALREADY_USED, RESPONSE_NOT_FOUND, RESPONSE_NOT_VALID, RESPONSE_TIMED_OUT,
    Transmission, Uid,
};

/// Who awaits an object's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The central's session, under this number.
    Central(u16),
    /// An HTTP call.
    Http(Ticket),
}

/// A request that an object was asked.
#[derive(Debug)]
pub struct Call {
    /// Who asked.
    pub asker: Asker,
    /// What any call has.
    pub open: Open,
}

/// A call that is not over, in either direction.
#[derive(Debug)]
pub struct Open {
    /// Tells it from a later one of the same number.
    pub serial: Serial,
    /// Its times and format.
    pub about: About,
    /// What was asked, if that is to be recorded at its end.
    pub payload: Option<Box<[u8]>>,
    /// What the journal knows of it.
    pub noted: Noted,
    /// Where it is listed while the journal has to be told.
    pub listed_at: usize,
}

impl Asker {
    /// How it asked.
    pub fn by(self) -> AskedBy {
        match self {
            Self::Central(_) => AskedBy::Session,
            Self::Http(_) => AskedBy::Http,
        }
    }
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
            let of = (object, Side::Object, AskedBy::Session);
            self.tell_refused(of, (Outcome::AlreadyUsed, RESPONSE_ALREADY_USED), now, payload, effects);
            self.answer_central(object, number, RESPONSE_ALREADY_USED, Payload::EMPTY, effects);
            return;
        }
        let about =
            About { started: now, deadline: now + self.settings.request_timeout, format: payload.format() };
        match self.start_call(object, Asker::Central(number), payload, about, effects) {
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
        let about = About { started: now, deadline, format: payload.format() };
        match self.start_call(uid, Asker::Http(ticket), payload, about, effects) {
            Some(number) => {
                self.http_calls.insert(ticket, (uid, number));
            }
            None => effects.answer(ticket, made_here(RESPONSE_NOT_FOUND)),
        }
    }

    /// The HTTP caller went away: its call is forgotten, and not delivered if it still waits.
    pub(super) fn http_abandons(&mut self, ticket: Ticket, effects: &mut impl Effects) {
        if let Some((uid, number)) = self.http_calls.remove(&ticket)
            && let Some(call) = self.take_call(uid, number, |call| call.asker == Asker::Http(ticket))
        {
            self.counts.add(Count::CallsAbandoned);
            self.withdraw(uid, call.open.serial);
            self.tell_call(uid, &call, Outcome::Abandoned, None, effects);
        }
    }

    /// Hands a request to an object, under a number that is free there; `None`: it could not be handed over.
    fn start_call(
        &mut self,
        uid: Uid,
        asker: Asker,
        payload: Payload<'_>,
        about: About,
        effects: &mut impl Effects,
    ) -> Option<u16> {
        let serial = self.next_serial();
        let is_in_time = about.started < about.deadline;
        let started = if is_in_time { self.try_call(uid, serial, asker, payload, effects) } else { None };
        match started {
            Some(number) => {
                let noted = match asker {
                    Asker::Central(_) => Noted::New,
                    Asker::Http(_) => Noted::Never,
                };
                let open =
                    Open { serial, about, payload: self.recorded_payload(payload), noted, listed_at: 0 };
                self.insert_call(uid, number, Call { asker, open });
            }
            None => {
                self.counts.add(Count::CallsNotFound);
                let (of, how) = ((uid, Side::Object, asker.by()), (Outcome::NotFound, RESPONSE_NOT_FOUND));
                self.tell_refused(of, how, about.started, payload, effects);
            }
        }
        started
    }

    /// A call is pending from now on.
    pub(super) fn insert_call(&mut self, uid: Uid, number: u16, mut call: Call) {
        self.counts.add(Count::CallsStarted);
        self.timers.add(call.open.about.deadline, Timer::Call { uid, number });
        if call.open.noted.is_due() {
            call.open.listed_at =
                self.recording.list(Listed { serial: call.open.serial, uid, number, to: Side::Object });
        }
        self.peers.entry(uid).or_default().calls.insert(number, call);
    }

    /// What is kept of a payload until its call is over.
    pub(super) fn recorded_payload(&self, payload: Payload<'_>) -> Option<Box<[u8]>> {
        (self.settings.calls == CallRecords::All).then(|| payload.data().into())
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
        self.recording.queue_changed(uid, &mut peer.presence);
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
        let answer = Answer { code, payload, made_here: false };
        self.hand_back(uid, number, &call, Outcome::Answered, answer, effects);
    }

    /// An object did not answer in time.
    pub(super) fn call_timed_out(&mut self, uid: Uid, number: u16, effects: &mut impl Effects) {
        if let Some(call) = self.take_call(uid, number, |_| true) {
            self.counts.add(Count::CallsTimedOut);
            self.withdraw(uid, call.open.serial);
            self.hand_back(uid, number, &call, Outcome::TimedOut, made_here(RESPONSE_TIMED_OUT), effects);
        }
    }

    /// Takes a pending call out, with its timer.
    fn take_call(&mut self, uid: Uid, number: u16, is_meant: impl FnOnce(&Call) -> bool) -> Option<Call> {
        let peer = self.peers.get_mut(&uid)?;
        if !is_meant(peer.calls.get(&number)?) {
            return None;
        }
        let call = peer.calls.remove(&number)?;
        self.timers.remove(call.open.about.deadline, Timer::Call { uid, number });
        self.recording.end(&call.open);
        self.forget_if_empty(uid);
        Some(call)
    }

    /// Gives the answer to whoever asked, if it is still there.
    fn hand_back(
        &mut self,
        uid: Uid,
        number: u16,
        call: &Call,
        outcome: Outcome,
        answer: Answer<'_>,
        effects: &mut impl Effects,
    ) {
        self.tell_call(uid, call, outcome, Some(answer), effects);
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

    /// The central ended its session for good: its calls are nobody's.
    pub(super) fn orphan_calls(&mut self) {
        for (uid, number) in std::mem::take(&mut self.central_numbers).into_values() {
            if let Some(call) = self.peers.get_mut(&uid).and_then(|peer| peer.calls.get_mut(&number)) {
                self.recording.end(&call.open);
                call.open.noted = Noted::Never;
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

    pub(super) fn answer_peer(&mut self, to: Uid, response: Transmission<'_>, effects: &mut impl Effects) {
        let answered = match self.peers.get_mut(&to) {
            Some(peer) => {
                let answered = peer.presence.answer(response, &mut self.last_serial, effects);
                self.recording.queue_changed(to, &mut peer.presence);
                answered
            }
            None => Answered::Orphaned,
        };
        match answered {
            Answered::Whole => {}
            Answered::Shrunk => self.counts.add(Count::ResponsesShrunk),
            Answered::Orphaned => self.counts.add(Count::ResponsesOrphaned),
        }
    }

    /// Takes a request back out of the queue of a peer that is away.
    pub(super) fn withdraw(&mut self, from: Uid, serial: Serial) {
        if let Some(super::Peer { presence: super::Presence::Waiting(waiting), .. }) =
            self.peers.get_mut(&from)
        {
            waiting.withdraw(serial);
        }
    }

    /// Whether what waits for this peer is still awaited. A deadline that has passed counts before its timer fires:
    /// what woke us may have come first.
    pub(super) fn is_pending(&mut self, now: Instant, to: Uid, queued: &Queued) -> bool {
        match queued.tag {
            Tag::Response => true,
            Tag::Token => false,
            Tag::Request(_) => {
                let open = place_of(to, queued).and_then(|place| self.open_of(place));
                open.is_some_and(|open| now < open.about.deadline)
            }
        }
    }

    /// A request that can no longer be handed over is answered "not found"; the rest is dropped.
    pub(super) fn give_up(&mut self, to: Uid, entry: &Entry, effects: &mut impl Effects) {
        if entry.queued.tag == Tag::Response {
            self.recording.settle(entry.id, entry.noted);
        } else if let Some(place) = place_of(to, &entry.queued) {
            self.not_found(place, effects);
        }
    }

    /// The request of this call can no longer be handed over.
    pub(super) fn not_found(&mut self, place: Listed, effects: &mut impl Effects) {
        let Listed { serial, uid, number, to } = place;
        match to {
            Side::Object => {
                if let Some(call) = self.take_call(uid, number, |call| call.open.serial == serial) {
                    self.counts.add(Count::CallsNotFound);
                    let answer = made_here(RESPONSE_NOT_FOUND);
                    self.hand_back(uid, number, &call, Outcome::NotFound, answer, effects);
                }
            }
            Side::Central => self.asked_not_found(uid, number, serial, effects),
        }
    }
}

/// Where the call is found of which this is the request to a peer.
pub fn place_of(to: Uid, queued: &Queued) -> Option<Listed> {
    let Tag::Request(serial) = queued.tag else { return None };
    match Transmission::decode(&queued.bytes) {
        Ok(Decoded::Done(Transmission::Request { uid: Some(uid), number, .. }, _)) => {
            Some(Listed { serial, uid, number, to: Side::Central })
        }
        Ok(Decoded::Done(Transmission::Request { uid: None, number, .. }, _)) => {
            Some(Listed { serial, uid: to, number, to: Side::Object })
        }
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
