//! What the router says of itself, for status, metrics and tests.

use super::{Presence, Router};
use crate::wire::Uid;

/// The state of a peer's session, for those who look from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// Connected.
    Live,
    /// Away, expected back.
    Kept,
    /// No session.
    Absent,
}

/// How much the router holds; all zero when everybody has left and every time is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Peers of which anything is known.
    pub peers: usize,
    /// Requests that objects have not answered, with those whose asker is gone.
    pub calls: usize,
    /// Requests of objects that are not answered.
    pub asked: usize,
    /// Tracking numbers of the central's session that are in use.
    pub central_numbers: usize,
    /// HTTP calls that are not answered.
    pub http_calls: usize,
    /// Telemetry tokens.
    pub tokens: usize,
    /// Moments that are waited for.
    pub timers: usize,
    /// Transmissions that wait for peers that are away.
    pub waiting: usize,
    /// Bytes of these.
    pub waiting_bytes: usize,
}

impl Router {
    /// How a peer is connected.
    pub fn session_state(&self, uid: Uid) -> SessionState {
        match self.peers.get(&uid).map(|peer| &peer.presence) {
            Some(Presence::Live { .. }) => SessionState::Live,
            Some(Presence::Waiting(_)) => SessionState::Kept,
            Some(Presence::Absent) | None => SessionState::Absent,
        }
    }

    /// Live and kept sessions of objects.
    pub fn session_counts(&self) -> (usize, usize) {
        let objects = self.peers.iter().filter(|(uid, _)| !uid.is_central());
        objects.fold((0, 0), |(live, kept), (_, peer)| match peer.presence {
            Presence::Live { .. } => (live + 1, kept),
            Presence::Waiting(_) => (live, kept + 1),
            Presence::Absent => (live, kept),
        })
    }

    /// Calls to objects and requests of objects that await their answer.
    pub fn pending_calls(&self) -> (usize, usize) {
        (self.central_numbers.len() + self.http_calls.len(), self.asked_total)
    }

    /// Telemetry tokens that are valid now.
    pub fn token_count(&self) -> usize {
        self.tokens.len()
    }

    /// How much is held in memory.
    pub fn sizes(&self) -> Sizes {
        let mut sizes = Sizes {
            peers: self.peers.len(),
            asked: self.asked_total,
            central_numbers: self.central_numbers.len(),
            http_calls: self.http_calls.len(),
            tokens: self.tokens.len(),
            timers: self.timers.len(),
            ..Sizes::default()
        };
        for peer in self.peers.values() {
            sizes.calls += peer.calls.len();
            if let Presence::Waiting(waiting) = &peer.presence {
                sizes.waiting += waiting.queue.len();
                sizes.waiting_bytes += waiting.bytes;
            }
        }
        sizes
    }
}
