//! Requests of objects to the central, by its session or its webhook, and their answers.
//!
//! A request of an object is found by (object, its number) with the way it went.

use std::time::Instant;

use super::calls::Open;
use super::facts::Way;
use super::presence::NotTaken;
use super::{
    About, AskedBy, Count, Effects, Listed, Noted, Outcome, Router, Serial, Side, Timer, WebhookRefusal,
    WebhookRequest,
};
use crate::limits::{ASKED_MAX, ASKED_PER_OBJECT_MAX};
use crate::wire::{
    Payload, RESPONSE_ALREADY_USED, RESPONSE_NOT_FOUND, RESPONSE_NOT_VALID, RESPONSE_TIMED_OUT, Transmission,
    Uid,
};

/// A request that an object made.
#[derive(Debug)]
pub struct Asked {
    /// Which way it went.
    pub way: Way,
    /// What any call has.
    pub open: Open,
}

impl Router {
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
            let of = (uid, Side::Central, AskedBy::Session);
            self.tell_refused(of, (Outcome::AlreadyUsed, RESPONSE_ALREADY_USED), now, payload, effects);
            self.answer_object(uid, number, RESPONSE_ALREADY_USED, Payload::EMPTY, effects);
            return;
        }
        match self.try_ask(now, uid, number, payload, effects) {
            Ok(asked) => self.insert_asked(uid, number, asked),
            Err(code) => {
                let (count, outcome) = match code {
                    RESPONSE_NOT_VALID => (Count::RequestsFailed, Outcome::Failed),
                    _ => (Count::RequestsNotFound, Outcome::NotFound),
                };
                self.counts.add(count);
                let of = (uid, Side::Central, AskedBy::Session);
                self.tell_refused(of, (outcome, code), now, payload, effects);
                self.answer_object(uid, number, code, Payload::EMPTY, effects);
            }
        }
    }

    /// A request is pending from now on.
    pub(super) fn insert_asked(&mut self, uid: Uid, number: u16, mut asked: Asked) {
        self.counts.add(Count::RequestsStarted);
        self.asked_total += 1;
        self.timers.add(asked.open.about.deadline, Timer::Asked { uid, number });
        if asked.open.noted.is_due() {
            asked.open.listed_at =
                self.recording.list(Listed { serial: asked.open.serial, uid, number, to: Side::Central });
        }
        self.peers.entry(uid).or_default().asked.insert(number, asked);
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
            Some(central) => {
                let asked = central.presence.ask(serial, request, effects);
                self.recording.queue_changed(Uid::CENTRAL, &mut central.presence);
                asked
            }
            None => Err(NotTaken::Absent),
        };
        let (way, deadline) = match by_session {
            Ok(()) => (Way::Session, now + self.settings.request_timeout),
            Err(NotTaken::TooLarge | NotTaken::Full) => return Err(RESPONSE_NOT_FOUND),
            Err(NotTaken::Absent) => {
                let deadline = now + self.settings.webhook_timeout.ok_or(RESPONSE_NOT_FOUND)?;
                match effects.ask_webhook(WebhookRequest { uid, number, serial, payload, deadline }) {
                    Ok(()) => (Way::Webhook, deadline),
                    Err(WebhookRefusal::NoRoom) => return Err(RESPONSE_NOT_FOUND),
                    Err(WebhookRefusal::Failing) => return Err(RESPONSE_NOT_VALID),
                }
            }
        };
        let about = About { started: now, deadline, format: payload.format() };
        let open =
            Open { serial, about, payload: self.recorded_payload(payload), noted: Noted::New, listed_at: 0 };
        Ok(Asked { way, open })
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
        if let Some(asked) = self.take_asked(object, number, |asked| asked.way == Way::Session) {
            self.counts.add(Count::RequestsAnswered);
            self.tell_asked(object, &asked, Outcome::Answered, Some(code), effects);
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
        let Some(asked) = self.take_asked(uid, number, |asked| asked.open.serial == serial) else {
            self.counts.add(Count::ResponsesUnexpected);
            return;
        };
        let (count, outcome, (code, payload)) = match answer {
            Some(answer) => (Count::RequestsAnswered, Outcome::Answered, answer),
            None => (Count::RequestsFailed, Outcome::Failed, (RESPONSE_NOT_VALID, Payload::EMPTY)),
        };
        self.counts.add(count);
        self.tell_asked(uid, &asked, outcome, Some(code), effects);
        self.answer_object(uid, number, code, payload, effects);
    }

    /// The central did not answer an object in time.
    pub(super) fn asked_timed_out(&mut self, uid: Uid, number: u16, effects: &mut impl Effects) {
        let Some(asked) = self.take_asked(uid, number, |_| true) else { return };
        let (count, outcome, code) = match asked.way {
            Way::Session => {
                self.withdraw(Uid::CENTRAL, asked.open.serial);
                (Count::RequestsTimedOut, Outcome::TimedOut, RESPONSE_TIMED_OUT)
            }
            Way::Webhook => (Count::RequestsFailed, Outcome::Failed, RESPONSE_NOT_VALID),
        };
        self.counts.add(count);
        self.tell_asked(uid, &asked, outcome, Some(code), effects);
        self.answer_object(uid, number, code, Payload::EMPTY, effects);
    }

    /// The request can no longer be handed over to the central.
    pub(super) fn asked_not_found(
        &mut self,
        uid: Uid,
        number: u16,
        serial: Serial,
        effects: &mut impl Effects,
    ) {
        if let Some(asked) = self.take_asked(uid, number, |asked| asked.open.serial == serial) {
            self.counts.add(Count::RequestsNotFound);
            self.tell_asked(uid, &asked, Outcome::NotFound, Some(RESPONSE_NOT_FOUND), effects);
            self.answer_object(uid, number, RESPONSE_NOT_FOUND, Payload::EMPTY, effects);
        }
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
        self.timers.remove(asked.open.about.deadline, Timer::Asked { uid, number });
        self.recording.end(&asked.open);
        self.forget_if_empty(uid);
        Some(asked)
    }

    /// Forgets the requests of an object that is gone for good.
    pub(super) fn drop_asked(&mut self, uid: Uid, effects: &mut impl Effects) {
        let Some(peer) = self.peers.get_mut(&uid) else { return };
        let dropped = std::mem::take(&mut peer.asked);
        self.asked_total -= dropped.len();
        for (number, asked) in dropped {
            self.timers.remove(asked.open.about.deadline, Timer::Asked { uid, number });
            self.recording.end(&asked.open);
            self.tell_asked(uid, &asked, Outcome::Abandoned, None, effects);
        }
    }
}
