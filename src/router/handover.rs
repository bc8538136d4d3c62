//! A newer process takes over: which sessions can go to it at once, and which calls are finished here.

use super::calls::Asker;
use super::{ConnectionId, Noted, Peer, Presence, Router, Serial, Way};
use crate::wire::Uid;

impl Peer {
    fn is_live(&self) -> bool {
        matches!(self.presence, Presence::Live { .. })
    }

    /// Whether this peer, which is live, has calls up to this one whose both ends are here; and whether with the central.
    fn calls_here(&self, central_is_live: bool, last: Serial) -> (bool, bool) {
        let calls = || self.calls.values().filter(|call| call.open.serial <= last);
        let asked = || self.asked.values().filter(|asked| asked.open.serial <= last);
        let by_http = calls().any(|call| matches!(call.asker, Asker::Http(_)));
        let by_central = calls().any(|call| matches!(call.asker, Asker::Central(_)));
        let of_webhook = asked().any(|asked| asked.way == Way::Webhook);
        let of_central = asked().any(|asked| asked.way == Way::Session);
        let with_central = central_is_live && (by_central || of_central);
        (by_http || of_webhook || with_central, with_central)
    }
}

impl Router {
    /// Connections of peers with no call, up to this one, that could still be finished here.
    pub fn idle_connections(&self, last: Serial) -> Vec<ConnectionId> {
        let central_is_live = self.peers.get(&Uid::CENTRAL).is_some_and(Peer::is_live);
        let mut central_is_busy = false;
        let mut idle = Vec::new();
        let mut central = None;
        for (uid, peer) in &self.peers {
            let Presence::Live { connection, .. } = peer.presence else { continue };
            if uid.is_central() {
                central = Some(connection);
                continue;
            }
            let (is_busy, with_central) = peer.calls_here(central_is_live, last);
            central_is_busy |= with_central;
            if !is_busy {
                idle.push(connection);
            }
        }
        idle.extend(central.filter(|_| !central_is_busy));
        idle
    }

    /// Calls that can still be finished are finished here: the journal, and with it whoever takes over, is to know nothing of
    /// them any more. Gives the last one.
    pub fn keep_calls_here(&mut self) -> Serial {
        let central_is_live = self.peers.get(&Uid::CENTRAL).is_some_and(Peer::is_live);
        for peer in self.peers.values_mut().filter(|peer| peer.is_live()) {
            for call in peer.calls.values_mut() {
                if central_is_live || matches!(call.asker, Asker::Http(_)) {
                    self.recording.end(&call.open);
                    call.open.noted = Noted::Never;
                }
            }
            for asked in peer.asked.values_mut() {
                if central_is_live || asked.way == Way::Webhook {
                    self.recording.end(&asked.open);
                    asked.open.noted = Noted::Never;
                }
            }
        }
        self.last_serial
    }
}
