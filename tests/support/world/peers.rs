//! How peers stand, by the books: what each command must do to sessions and tokens.

use std::time::Duration;

use iotsocketd::limits::{OUTGOING_MAX, TOKENS_PER_OBJECT_MAX};
use iotsocketd::router::{ConnectionId, Ending, Group, LoginRefusal, SessionState};
use iotsocketd::wire::CloseCode;

use super::ledger::{Asker, CallId, PeerId, Place};
use super::{Presence, What, World, group_name};
use crate::effects::Effect;

impl World {
    pub(super) fn group(&self, object: PeerId) -> Option<&Group> {
        self.settings.groups.get(&group_name(self.access[object]?.group))
    }

    /// Whether the connection may speak for its peer.
    pub(super) fn speaks(&self, id: ConnectionId) -> bool {
        match self.peers[self.conns[&id].peer].presence {
            Presence::Live(connection) => connection == id,
            Presence::Replaced { old, .. } => old == id,
            Presence::Absent | Presence::Kept(_) => false,
        }
    }

    /// Whether answers to this asker are out of sight: its session waits.
    pub(super) fn is_out_of_sight(&self, asker: Asker) -> bool {
        let Asker::Peer(peer) = asker else { return false };
        matches!(self.peers[peer].presence, Presence::Kept(_) | Presence::Replaced { .. })
    }

    /// The connection becomes its peer's session.
    pub(super) fn go_live(&mut self, id: ConnectionId, expected: &mut Vec<Effect>) {
        let conn = &self.conns[&id];
        let (peer, largest) = (conn.peer, conn.largest);
        self.peers[peer].presence = Presence::Live(id);
        expected.push(Effect::Admit(id));
        if peer == 0 {
            let session = iotsocketd::router::CentralSession { connection: id, largest };
            expected.push(Effect::Central(Some(session)));
        }
        let wants_token = peer != 0 && self.group(peer).is_some_and(|group| group.telemetry);
        self.conns.get_mut(&id).unwrap().wants_token = wants_token;
    }

    /// A session is over for good: what it asked is nobody's, what it was not handed is answered at once.
    pub(super) fn session_over(&mut self, peer: PeerId) {
        self.peers[peer].presence = Presence::Absent;
        self.peers[peer].session += 1;
        self.peers[peer].waiting_bytes = 0;
        for item in std::mem::take(&mut self.peers[peer].limbo) {
            if let What::Request(id) = item.what {
                self.give_up(id);
            }
        }
        for id in self.ledger.open.iter().copied().collect::<Vec<_>>() {
            let call = &self.ledger.calls[id];
            if call.asker == Asker::Peer(peer) {
                self.ledger.make_void(id, self.event);
            } else if call.target == peer && call.place == Place::Hidden {
                self.give_up(id);
            }
        }
    }

    /// The request can no longer be handed over.
    pub(super) fn give_up(&mut self, id: CallId) {
        if !self.ledger.calls[id].is_over(self.event) {
            self.must_show.push(id);
            self.ledger.leave_target(id);
        }
    }

    /// The rights of an object, or the central's, are gone.
    pub(super) fn revoke(&mut self, peer: PeerId, expected: &mut Vec<Effect>) {
        self.drop_tokens(peer);
        match self.peers[peer].presence {
            Presence::Absent => return,
            Presence::Live(id) => {
                if peer == 0 {
                    expected.push(Effect::Central(None));
                }
                expected.push(Effect::Close(id, CloseCode::Maintenance));
                self.conns.get_mut(&id).unwrap().told = Some(Ending::Ended);
            }
            Presence::Replaced { next, .. } => {
                expected.extend(next.map(|id| Effect::Refuse(id, LoginRefusal::NotKnown)));
            }
            Presence::Kept(_) => {}
        }
        self.session_over(peer);
    }

    pub(super) fn drop_tokens(&mut self, peer: PeerId) {
        self.peers[peer].tokens.clear();
        self.peers[peer].renewal = None;
    }

    /// What the passing of time does.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        for id in self.ledger.expire(now) {
            if let Asker::Peer(peer) = self.ledger.calls[id].asker {
                self.peers[peer].waiting_bytes += 23;
            }
            self.must_show.push(id);
        }
        for peer in 0..self.peers.len() {
            if matches!(self.peers[peer].presence, Presence::Kept(until) if until <= now) {
                self.session_over(peer);
            }
            self.peers[peer].tokens.retain(|(_, end)| *end > now);
        }
    }

    /// The books against what the router says of itself.
    pub(super) fn check_books(&self) {
        let sizes = self.router.sizes();
        for (id, peer) in self.peers.iter().enumerate() {
            assert!(peer.tokens.len() <= TOKENS_PER_OBJECT_MAX);
            let has_group = id != 0 && self.group(id).is_some_and(|group| group.telemetry);
            if let (Presence::Live(_), true, Some(renewal)) = (peer.presence, has_group, peer.renewal) {
                assert!(renewal > self.now, "{} has no fresh token", peer.uid);
            }
        }
        let tokens: usize = self.peers.iter().map(|peer| peer.tokens.len()).sum();
        assert_eq!(self.router.token_count(), tokens);
        assert_eq!(sizes.tokens, tokens);
        // Answers are queued even when there is no room, but cut.
        let slack = OUTGOING_MAX + 64 * 1024;
        assert!(sizes.waiting_bytes <= self.peers.len() * slack, "{sizes:?}");
        let (mut kept, mut renewals) = (0, 0);
        for peer in &self.peers {
            kept += usize::from(matches!(peer.presence, Presence::Kept(_)));
            renewals += usize::from(peer.renewal.is_some_and(|renewal| renewal > self.now));
        }
        let most = sizes.calls + sizes.asked + kept + tokens + renewals;
        assert!(sizes.timers <= most, "timers of nothing: {sizes:?}, at most {most}");
        for (id, bytes) in &self.recorder.outstanding {
            assert!(*bytes <= 2 * slack, "connection {id} has {bytes} bytes");
        }
    }

    pub(super) fn check_states(&self) {
        for peer in &self.peers {
            let state = match peer.presence {
                Presence::Absent => SessionState::Absent,
                Presence::Live(_) => SessionState::Live,
                Presence::Kept(_) | Presence::Replaced { .. } => SessionState::Kept,
            };
            assert_eq!(self.router.session_state(peer.uid), state, "{:?} {:?}", peer.uid, peer.presence);
        }
        if let Some(next) = self.router.next_deadline() {
            assert!(next > self.now, "a timer was left behind by {:?}", self.now - next);
        }
    }

    pub(super) fn keep_time(&self) -> Duration {
        self.settings.keep_session
    }
}
