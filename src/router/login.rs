//! Sessions begin, pass over to a new connection, wait for their peer, and end.
//!
//! ```text
//!            login                     disconnected, kept
//!  Absent ───────────▶ Live ───────────────────────────────▶ Kept ──keep time over──▶ Absent
//!    ▲                 │  ▲ ▲                                  │
//!    │ disconnected,   │  │ └──────────── login ───────────────┘
//!    └─ ended ─────────┤  │
//!                login │  │ disconnected (old): what it did not hand over passes to the new one
//!                      ▼  │
//!                    Replaced
//! ```

use std::collections::VecDeque;
use std::time::Instant;

use super::access::AccessList;
use super::ended::AccessChange;
use super::presence::{Entry, Waiting, Why, shrink};
use super::{
    CentralSession, Count, Effects, Ending, Fact, Login, LoginRefusal, Noted, Origin, Peer, Presence, Queued,
    Router, Settings, Tag, Timer,
};
use crate::wire::{CloseCode, Decoded, Transmission, Uid};

impl Router {
    /// A peer proved itself: it takes over what there is of its session.
    pub(super) fn login(&mut self, now: Instant, login: Login, effects: &mut impl Effects) {
        if let Err(refusal) = self.may_login(&login) {
            self.counts.add(Count::LoginsRefused);
            effects.refuse(login.connection, refusal);
            return;
        }
        let peer = self.peers.entry(login.uid).or_default();
        match &mut peer.presence {
            Presence::Absent => self.go_live(now, login, VecDeque::new(), effects),
            Presence::Live { connection, .. } => {
                let old = *connection;
                peer.presence = Presence::Waiting(Waiting::new(Why::Replaced { old, next: Some(login) }));
                if login.uid.is_central() {
                    effects.central_changed(None);
                }
                self.counts.add(Count::SessionsReplaced);
                effects.close(old, CloseCode::ResourcesFreed);
            }
            Presence::Waiting(waiting) => match &mut waiting.why {
                Why::Replaced { next, .. } => {
                    // Three at once: the second never spoke, the third is the newest.
                    if let Some(overtaken) = next.replace(login) {
                        self.counts.add(Count::LoginsRefused);
                        effects.refuse(overtaken.connection, LoginRefusal::Superseded);
                    }
                }
                Why::Kept(until) => {
                    self.timers.remove(*until, Timer::KeepEnd(login.uid));
                    let queue = std::mem::take(&mut waiting.queue);
                    self.go_live(now, login, queue, effects);
                }
            },
        }
    }

    fn may_login(&self, login: &Login) -> Result<(), LoginRefusal> {
        // The list may have changed between the proof and now.
        if self.key_of(login.uid) != Some(login.key) {
            return Err(LoginRefusal::NotKnown);
        }
        match self.group(login.uid) {
            _ if login.uid.is_central() => Ok(()),
            Some((_, group)) if group.allow_from.allows(login.source) => Ok(()),
            Some(_) => Err(LoginRefusal::Source),
            None => Err(LoginRefusal::NotKnown),
        }
    }

    /// The session is live for others before its verdict is sent; then its token; then what waited.
    fn go_live(&mut self, now: Instant, login: Login, waited: VecDeque<Entry>, effects: &mut impl Effects) {
        let Login { connection, uid, .. } = login;
        let largest = if login.largest == 0 { usize::MAX } else { usize::from(login.largest) };
        self.counts.add(Count::LoginsAccepted);
        self.peers.entry(uid).or_default().presence = Presence::Live { connection, largest };
        effects.remember(Fact::SessionLive { uid });
        effects.admit(connection);
        if uid.is_central() {
            effects.central_changed(Some(CentralSession { connection, largest }));
        } else {
            self.issue_token(now, uid, effects);
        }
        for entry in waited {
            let queued = &entry.queued;
            if !self.is_pending(now, uid, queued) {
                continue;
            }
            if queued.bytes.len() <= largest {
                self.handed_over(uid, &entry);
                effects.resend(connection, entry.queued);
            } else if queued.tag == Tag::Response {
                self.handed_over(uid, &entry);
                if let Ok(Decoded::Done(response, _)) = Transmission::decode(&queued.bytes) {
                    self.counts.add(Count::ResponsesShrunk);
                    effects.reply(connection, Tag::Response, shrink(response));
                }
            } else {
                self.give_up(uid, &entry, effects);
            }
        }
    }

    /// A connection is gone.
    pub(super) fn disconnected(
        &mut self,
        now: Instant,
        origin: Origin,
        ending: Ending,
        unsent: Vec<Queued>,
        effects: &mut impl Effects,
    ) {
        let Origin { connection, uid } = origin;
        let unsent = unsent.into_iter().map(Entry::unsent);
        let presence = match self.peers.get_mut(&uid) {
            Some(peer) if peer.presence.is_of(connection) => std::mem::take(&mut peer.presence),
            // It went away while it waited for its predecessor's end.
            Some(Peer {
                presence: Presence::Waiting(Waiting { why: Why::Replaced { next, .. }, .. }),
                ..
            }) if next.is_some_and(|login| login.connection == connection) => {
                *next = None;
                return;
            }
            // Its session was ended before (revoked): what it did not hand over never will be.
            _ => return self.give_up_all(uid, unsent, effects),
        };
        if uid.is_central() && matches!(presence, Presence::Live { .. }) {
            effects.central_changed(None);
        }
        match (presence, ending) {
            (Presence::Waiting(Waiting { why: Why::Replaced { next, .. }, queue, .. }), _) => {
                let waited = unsent.chain(queue).collect();
                match next {
                    Some(login) => self.go_live(now, login, waited, effects),
                    None => self.keep(now, uid, waited, effects),
                }
            }
            (_, Ending::Kept) => self.keep(now, uid, unsent.collect(), effects),
            (_, Ending::Ended) => {
                self.give_up_all(uid, unsent, effects);
                self.session_over(uid, effects);
            }
        }
    }

    fn keep(&mut self, now: Instant, uid: Uid, waited: VecDeque<Entry>, effects: &mut impl Effects) {
        let until = now + self.settings.keep_session;
        let mut waiting = Waiting::new(Why::Kept(until));
        for entry in waited {
            if self.is_pending(now, uid, &entry.queued) {
                // What was not handed over stands ahead of what came later, so all of it gets new places.
                let position = self.next_serial();
                let id = if entry.noted == Noted::New { position } else { entry.id };
                waiting.push(Entry { id, position, noted: entry.noted.changed(), ..entry });
            }
        }
        effects.remember(Fact::SessionKept { uid, until });
        self.timers.add(until, Timer::KeepEnd(uid));
        let mut presence = Presence::Waiting(waiting);
        self.recording.queue_changed(uid, &mut presence);
        self.peers.entry(uid).or_default().presence = presence;
    }

    /// Nobody came back.
    pub(super) fn keep_time_over(&mut self, uid: Uid, effects: &mut impl Effects) {
        let Some(peer) = self.peers.get_mut(&uid) else { return };
        if let Presence::Waiting(Waiting { why: Why::Kept(_), .. }) = peer.presence
            && let Presence::Waiting(waiting) = std::mem::take(&mut peer.presence)
        {
            self.counts.add(Count::SessionsExpired);
            self.give_up_all(uid, waiting.queue, effects);
            self.session_over(uid, effects);
        }
    }

    /// What was not handed over is answered "not found"; what was runs to its deadline.
    fn give_up_all(&mut self, uid: Uid, unsent: impl IntoIterator<Item = Entry>, effects: &mut impl Effects) {
        for entry in unsent {
            self.give_up(uid, &entry, effects);
        }
        self.forget_if_empty(uid);
    }

    /// The session ended for good: nobody is there any more to hear answers.
    fn session_over(&mut self, uid: Uid, effects: &mut impl Effects) {
        effects.remember(Fact::SessionEnded { uid });
        if uid.is_central() {
            self.orphan_calls();
        } else {
            self.drop_asked(uid, effects);
        }
        self.forget_if_empty(uid);
    }

    /// A new list takes effect at once: who is gone or changed is no longer here.
    pub(super) fn replace_access(&mut self, list: AccessList, effects: &mut impl Effects) {
        let old = std::mem::replace(&mut self.access, list);
        self.counts.add(Count::AccessListsReplaced);
        effects.access_changed(AccessChange::between(&old, &self.access));
        for (uid, entry) in old.iter() {
            if self.access.get(uid) != Some(entry) {
                self.revoke(*uid, effects);
            }
        }
    }

    /// A new configuration takes effect at once.
    pub(super) fn reconfigure(&mut self, now: Instant, settings: Settings, effects: &mut impl Effects) {
        let old = std::mem::replace(&mut self.settings, settings);
        if old.central_key != self.settings.central_key {
            self.revoke(Uid::CENTRAL, effects);
        }
        let has_telemetry =
            |settings: &Settings, name| settings.groups.get(name).map(|group| group.telemetry);
        let changed: Vec<_> = (self.access.iter())
            .map(|(uid, entry)| {
                (*uid, has_telemetry(&old, &entry.group), has_telemetry(&self.settings, &entry.group))
            })
            .filter(|(_, before, after)| before != after)
            .collect();
        for (uid, _, has_telemetry) in changed {
            match has_telemetry {
                Some(true) => self.issue_token(now, uid, effects),
                Some(false) => self.drop_tokens(uid, effects),
                // A group that is gone gives no rights at all.
                None => self.revoke(uid, effects),
            }
        }
    }

    pub(super) fn revoke(&mut self, uid: Uid, effects: &mut impl Effects) {
        self.drop_tokens(uid, effects);
        let Some(peer) = self.peers.get_mut(&uid) else { return };
        match std::mem::take(&mut peer.presence) {
            Presence::Absent => return,
            Presence::Live { connection, .. } => {
                if uid.is_central() {
                    effects.central_changed(None);
                }
                effects.close(connection, CloseCode::Maintenance);
            }
            Presence::Waiting(Waiting { why, queue, .. }) => {
                match why {
                    Why::Kept(until) => self.timers.remove(until, Timer::KeepEnd(uid)),
                    // The old connection was told to close already.
                    Why::Replaced { next, .. } => {
                        if let Some(login) = next {
                            effects.refuse(login.connection, LoginRefusal::NotKnown);
                        }
                    }
                }
                self.give_up_all(uid, queue, effects);
            }
        }
        self.counts.add(Count::SessionsRevoked);
        self.session_over(uid, effects);
    }
}
