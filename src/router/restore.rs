//! What the router takes over from a process that ended, killed or not.
//!
//! Sessions that were live or kept are kept; what waited for them waits in its order; deadlines count on. What has no
//! right to be here any more is dropped, and the journal is told.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use super::calls::{Asker, Call, Open};
use super::presence::{Entry, Waiting, Why};
use super::requests::Asked;
use super::{
    About, Count, Effects, Fact, Listed, Noted, Outcome, PendingCall, Presence, Queued, Restored,
    RestoredSession, RestoredToken, Router, Serial, Side, Tag, Timer, Waits, Way,
};
use crate::wire::Uid;

/// What waits for peers, by its place.
#[derive(Default)]
struct Queues {
    by_peer: BTreeMap<Uid, BTreeMap<Serial, Entry>>,
    /// Calls whose request cannot be handed over, because the peer has no session.
    lost: Vec<Listed>,
}

impl Queues {
    fn add(&mut self, to: Uid, id: Serial, tag: Tag, waits: Waits) {
        let Waits { position, bytes } = waits;
        let entry = Entry { queued: Queued { tag, bytes }, id, position, noted: Noted::Recorded };
        self.by_peer.entry(to).or_default().insert(position, entry);
    }
}

impl Router {
    /// Takes over what is known of earlier processes; once, before the first command.
    ///
    /// Times that lie further ahead than the settings allow are cut: the wall clock may have been set back.
    pub fn restore(&mut self, now: Instant, restored: Restored, effects: &mut impl Effects) {
        let Restored { serial_floor, tokens, sessions, mut calls } = restored;
        self.last_serial = self.last_serial.max(serial_floor);
        for (id, call) in &calls {
            let position = waits_of(call).map_or(0, |waits| waits.position);
            self.last_serial = self.last_serial.max(*id).max(position);
        }
        self.restore_tokens(now, tokens, effects);
        for (uid, session) in sessions {
            self.restore_session(now, uid, session, effects);
        }
        calls.sort_by_key(|(id, _)| *id);
        let mut queues = Queues::default();
        for (id, call) in calls {
            self.restore_call(now, id, call, &mut queues, effects);
        }
        for (uid, entries) in queues.by_peer {
            if let Some(Presence::Waiting(waiting)) = self.peers.get_mut(&uid).map(|peer| &mut peer.presence)
            {
                entries.into_values().for_each(|entry| waiting.push(entry));
            }
        }
        for place in queues.lost {
            self.not_found(place, effects);
        }
        self.handle_timers(now, effects);
    }

    fn restore_tokens(&mut self, now: Instant, tokens: Vec<RestoredToken>, effects: &mut impl Effects) {
        let mut ended = HashSet::new();
        for token in tokens {
            match self.group(token.uid).filter(|(_, group)| group.telemetry) {
                // One that is over takes its place in the row, too, and ends when timers are looked at.
                Some((_, group)) => {
                    let expires = token.expires.min(now + group.token_ttl);
                    self.insert_token(RestoredToken { expires, ..token });
                }
                None if ended.insert(token.uid) => effects.remember(Fact::TokensEnded { uid: token.uid }),
                None => {}
            }
        }
    }

    fn restore_session(
        &mut self,
        now: Instant,
        uid: Uid,
        session: RestoredSession,
        effects: &mut impl Effects,
    ) {
        let at_most = now + self.settings.keep_session;
        let until = match session {
            RestoredSession::Live => at_most,
            RestoredSession::Kept { until } => until.min(at_most),
        };
        let is_known = uid.is_central() || self.group(uid).is_some();
        if until <= now || !is_known {
            self.counts.add(if is_known { Count::SessionsExpired } else { Count::SessionsRevoked });
            effects.remember(Fact::SessionEnded { uid });
            return;
        }
        if session != (RestoredSession::Kept { until }) {
            effects.remember(Fact::SessionKept { uid, until });
        }
        self.timers.add(until, Timer::KeepEnd(uid));
        self.peers.entry(uid).or_default().presence = Presence::Waiting(Waiting::new(Why::Kept(until)));
    }

    /// A call goes on if its asker still has a session.
    fn restore_call(
        &mut self,
        now: Instant,
        id: Serial,
        call: PendingCall,
        queues: &mut Queues,
        effects: &mut impl Effects,
    ) {
        let open = |about: About, timeout: Duration| {
            let deadline = about.deadline.min(now + timeout);
            let about = About { deadline, ..about };
            Open { serial: id, about, payload: None, noted: Noted::Recorded, listed_at: 0 }
        };
        match call {
            PendingCall::Answer { to, waits } => {
                if self.has_session(to) {
                    queues.add(to, id, Tag::Response, waits);
                } else {
                    self.recording.settle(id, Noted::Recorded);
                }
            }
            PendingCall::ToObject { object, number, central_number, about, waits } => {
                let asker = Asker::Central(central_number);
                let call = Call { asker, open: open(about, self.settings.request_timeout) };
                let is_taken = self.central_numbers.contains_key(&central_number)
                    || self.peers.get(&object).is_some_and(|peer| peer.calls.contains_key(&number));
                if is_taken || !self.has_session(Uid::CENTRAL) {
                    self.recording.settle(id, Noted::Recorded);
                    self.tell_call(object, &call, Outcome::Abandoned, None, effects);
                    return;
                }
                self.insert_call(object, number, call);
                self.central_numbers.insert(central_number, (object, number));
                let place = Listed { serial: id, uid: object, number, to: Side::Object };
                self.restore_request(object, place, waits, queues);
            }
            PendingCall::ToCentral { object, number, way, about, waits } => {
                let timeout = match way {
                    Way::Session => self.settings.request_timeout,
                    // The webhook may not be configured any more.
                    Way::Webhook => self.settings.webhook_timeout.unwrap_or_default(),
                };
                let asked = Asked { way, open: open(about, timeout) };
                let is_taken = self.peers.get(&object).is_some_and(|peer| peer.asked.contains_key(&number));
                if is_taken || !self.has_session(object) {
                    self.recording.settle(id, Noted::Recorded);
                    self.tell_asked(object, &asked, Outcome::Abandoned, None, effects);
                    return;
                }
                self.insert_asked(object, number, asked);
                let place = Listed { serial: id, uid: object, number, to: Side::Central };
                self.restore_request(Uid::CENTRAL, place, waits, queues);
            }
        }
    }

    /// A request that waited waits on, or cannot be handed over any more. One that was handed over runs to its deadline.
    fn restore_request(&self, to: Uid, place: Listed, waits: Option<Waits>, queues: &mut Queues) {
        match waits {
            Some(waits) if self.has_session(to) => {
                queues.add(to, place.serial, Tag::Request(place.serial), waits);
            }
            Some(_) => queues.lost.push(place),
            None => {}
        }
    }

    fn has_session(&self, uid: Uid) -> bool {
        self.peers.get(&uid).is_some_and(|peer| !matches!(peer.presence, Presence::Absent))
    }
}

fn waits_of(call: &PendingCall) -> Option<&Waits> {
    match call {
        PendingCall::ToObject { waits, .. } | PendingCall::ToCentral { waits, .. } => waits.as_ref(),
        PendingCall::Answer { waits, .. } => Some(waits),
    }
}
