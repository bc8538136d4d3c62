//! What the hub does when a newer process takes over.

use std::task::Waker;
use std::time::Instant;

use super::{Hub, Turn, lock};
use crate::journal::front::Takes;
use crate::journal::record::{Kind, Message, State, Via};
use crate::router::{Command, Serial};
use crate::wire::{AuthKey, CloseCode, GroupName, Payload, Uid};

impl Turn<'_> {
    /// Telemetry of the made-up object is recorded as an event: it is nobody's.
    pub(super) fn probe_sent(&mut self, uid: Uid, payload: Payload<'_>) {
        self.core.log.append_or_count(Message {
            uid,
            group: GroupName::NONE,
            kind: Kind::Event,
            via: Via::Udp,
            format: payload.format(),
            state: State::Stored,
            source: None,
            network: None,
            payload: payload.data().into(),
        });
    }
}

impl Hub {
    /// There is a made-up object from now on, or none any more.
    pub fn set_probe(&self, probe: Option<(Uid, AuthKey)>) {
        self.turn(Instant::now()).handle(Command::Probe(probe));
    }

    /// Orders some of the sessions to close that have no call, up to this one, which could still be finished.
    pub fn close_idle(&self, code: CloseCode, max: usize, last_call: Serial) {
        let core = lock(&self.core);
        let idle = core.router.idle_connections(last_call);
        let open =
            idle.iter().filter_map(|id| core.connections.get(id)).filter(|outbox| !outbox.is_closing());
        let wakes: Vec<_> = open.take(max).filter_map(|outbox| outbox.order_close(code)).collect();
        drop(core);
        wakes.into_iter().for_each(Waker::wake);
    }

    /// Calls that can still be finished are finished here, and nobody who takes over the journal hears of them. Gives the
    /// last one.
    pub fn keep_calls_here(&self) -> Serial {
        lock(&self.core).router.keep_calls_here()
    }

    /// Gives the webhooks no more telemetry, and takes back what they have not begun with.
    pub fn stop_telemetry(&self) {
        let mut turn = self.turn(Instant::now());
        for seq in self.webhooks.get().map(|webhooks| webhooks.recall_telemetry()).unwrap_or_default() {
            turn.core.central.webhook_returned(seq);
        }
        turn.core.central.set_webhook(false);
    }

    /// The journal is somebody else's from now on. Calls go on; whoever waits for a record is told that there is none.
    pub fn leave_journal(&self) {
        lock(&self.core).log.durable_only = false;
        self.set_takes(Takes::Nothing);
    }
}
