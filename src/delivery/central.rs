//! Telemetry to the central: one destination, two ways to reach it.
//!
//! While the central's TCP session is live, messages go there in order; the protocol has no acknowledgement for
//! telemetry, but transmissions arrive in order and a ping must be answered, so the pong of a ping sent behind them
//! says that everything before it arrived. Else they go to the telemetry webhook, if there is one, where several
//! objects' messages are under way at a time and each 2xx counts for its own. What was not acknowledged when a way
//! closes goes out again by whichever opens next: at least once, never both ways at a time.
//!
//! Pure: it says what to send ([`Central::next_for_session`], [`Central::next_for_webhook`]) and is told what arrived.

use std::collections::BTreeSet;

use crate::journal::{MemoryLog, Message, Seq};
use crate::router::{CentralSession, ConnectionId};
use crate::wire::{Payload, Transmission};

/// Which way messages go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Session(CentralSession),
    Webhook,
    None,
}

/// The central as a destination of messages.
#[derive(Debug)]
pub struct Central {
    session: Option<CentralSession>,
    webhook: bool,
    /// The next message that the open way has not been given.
    next: Seq,
    /// Messages that were too large for the session: they wait for a way that takes them.
    set_aside: BTreeSet<Seq>,
    /// Messages that the webhook's workers have.
    at_webhook: BTreeSet<Seq>,
    /// The way changed while the workers still had some: they finish first, so that no message goes both ways and
    /// none overtakes an earlier one that they give back.
    is_draining: bool,
    /// Everything below arrived by the session, but for what was set aside.
    acknowledged_to: Seq,
    /// Up to where the last ping behind a window reached, until its pong.
    pinged: Option<Seq>,
    delivered: u64,
}

impl Central {
    /// A destination that nothing has been sent to.
    pub fn new(webhook: bool) -> Self {
        Self {
            session: None,
            webhook,
            next: 0,
            acknowledged_to: 0,
            set_aside: BTreeSet::new(),
            at_webhook: BTreeSet::new(),
            is_draining: false,
            pinged: None,
            delivered: 0,
        }
    }

    /// The TCP session became live or is no longer. What it did not acknowledge goes out again.
    pub fn set_session(&mut self, session: Option<CentralSession>) {
        self.session = session;
        self.start_over();
    }

    /// The telemetry webhook was configured, or taken out.
    pub fn set_webhook(&mut self, webhook: bool) {
        let has_changed = std::mem::replace(&mut self.webhook, webhook) != webhook;
        if has_changed && self.session.is_none() {
            self.start_over();
        }
    }

    fn start_over(&mut self) {
        self.next = 0;
        self.acknowledged_to = 0;
        self.pinged = None;
        self.set_aside.clear();
        self.is_draining = !self.at_webhook.is_empty();
    }

    /// Messages that arrived.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    fn way(&self) -> Way {
        match self.session {
            _ if self.is_draining => Way::None,
            Some(session) => Way::Session(session),
            None if self.webhook => Way::Webhook,
            None => Way::None,
        }
    }

    /// The connection that messages go to now, if they go by TCP.
    pub fn connection(&self) -> Option<ConnectionId> {
        match self.way() {
            Way::Session(session) => Some(session.connection),
            Way::Webhook | Way::None => None,
        }
    }

    /// The next transmission for the TCP session, once; `None`: nothing new, or another way is open.
    pub fn next_for_session<'a>(&mut self, log: &'a MemoryLog) -> Option<Transmission<'a>> {
        let Way::Session(session) = self.way() else { return None };
        while let Some((seq, message)) = log.from(self.next) {
            self.next = seq + 1;
            match telemetry(message) {
                Some(telemetry) if telemetry.wire_len() <= session.largest => return Some(telemetry),
                _ => self.set_aside(seq, log),
            }
        }
        None
    }

    fn set_aside(&mut self, seq: Seq, log: &MemoryLog) {
        // What had to make room in the log is not waited for any more.
        let oldest = log.from(0).map_or(seq, |(oldest, _)| oldest);
        while self.set_aside.first().is_some_and(|first| *first < oldest) {
            self.set_aside.pop_first();
        }
        self.set_aside.insert(seq);
    }

    /// The ping that belongs behind what was sent: which messages its pong acknowledges. One is under way at a time.
    pub fn next_ping(&mut self) -> Option<Seq> {
        let Way::Session(_) = self.way() else { return None };
        if self.pinged.is_some() || self.next <= self.acknowledged_to {
            return None;
        }
        self.pinged = Some(self.next);
        Some(self.next)
    }

    /// The pong came: everything below `seq` arrived, but for what was set aside.
    pub fn acknowledged(&mut self, connection: ConnectionId, seq: Seq, log: &mut MemoryLog) {
        if self.session.is_none_or(|session| session.connection != connection) || self.pinged != Some(seq) {
            return;
        }
        self.pinged = None;
        let mut at = self.acknowledged_to;
        while let Some((arrived, _)) = log.from(at).filter(|(arrived, _)| *arrived < seq) {
            if !self.set_aside.contains(&arrived) {
                self.arrived(arrived, log);
            }
            at = arrived + 1;
        }
        self.acknowledged_to = seq;
    }

    /// The next message for the webhook's workers, once; `None`: nothing new, or another way is open.
    pub fn next_for_webhook<'a>(&mut self, log: &'a MemoryLog) -> Option<(Seq, &'a Message)> {
        if self.way() != Way::Webhook {
            return None;
        }
        while let Some((seq, message)) = log.from(self.next) {
            self.next = seq + 1;
            if self.at_webhook.insert(seq) {
                return Some((seq, message));
            }
        }
        None
    }

    /// The webhook took it.
    pub fn webhook_delivered(&mut self, seq: Seq, log: &mut MemoryLog) {
        if self.leave_webhook(seq) {
            self.arrived(seq, log);
        }
    }

    /// The workers gave it back, undelivered: it stays in the log for the way that opens next.
    pub fn webhook_returned(&mut self, seq: Seq) {
        if self.leave_webhook(seq) {
            self.next = self.next.min(seq);
        }
    }

    /// The workers no longer have it; whether they had it.
    fn leave_webhook(&mut self, seq: Seq) -> bool {
        let had = self.at_webhook.remove(&seq);
        self.is_draining &= !self.at_webhook.is_empty();
        had
    }

    fn arrived(&mut self, seq: Seq, log: &mut MemoryLog) {
        if log.release(seq) {
            self.delivered += 1;
        }
    }
}

fn telemetry(message: &Message) -> Option<Transmission<'_>> {
    let payload = Payload::new(message.format, &message.data)?;
    Some(Transmission::Telemetry { uid: message.uid, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::OnFull;
    use crate::wire::{Format, GroupName, Uid};

    fn log(sizes: &[usize]) -> MemoryLog {
        let mut log = MemoryLog::new(1 << 20, OnFull::DropOldest);
        for size in sizes {
            append(&mut log, *size);
        }
        log
    }

    fn append(log: &mut MemoryLog, size: usize) {
        let message = Message {
            uid: Uid::parse("o").unwrap(),
            group: GroupName::parse("g").unwrap(),
            format: Format::Binary,
            data: vec![0; size].into(),
        };
        log.append(message).unwrap();
    }

    fn session(connection: ConnectionId, largest: usize) -> Option<CentralSession> {
        Some(CentralSession { connection, largest })
    }

    /// Sizes of the payloads that the session is given now.
    fn sent(central: &mut Central, log: &MemoryLog) -> Vec<usize> {
        std::iter::from_fn(|| central.next_for_session(log).map(|telemetry| telemetry.body().len())).collect()
    }

    fn posted(central: &mut Central, log: &MemoryLog) -> Vec<Seq> {
        std::iter::from_fn(|| central.next_for_webhook(log).map(|(seq, _)| seq)).collect()
    }

    /// B11: telemetry that was on its way when the central's connection broke is sent again, in order, once.
    #[test]
    fn what_no_pong_covered_goes_out_again() {
        let mut log = log(&[1, 2, 3]);
        let mut central = Central::new(false);
        assert_eq!(central.next_for_session(&log), None);
        central.set_session(session(1, usize::MAX));
        assert_eq!(sent(&mut central, &log), [1, 2, 3]);
        let ping = central.next_ping().unwrap();
        append(&mut log, 4);
        assert_eq!(sent(&mut central, &log), [4]);
        assert_eq!(central.next_ping(), None, "one ping at a time");
        central.acknowledged(1, ping, &mut log);
        assert_eq!(central.delivered(), 3);

        central.set_session(None);
        append(&mut log, 5);
        central.set_session(session(2, usize::MAX));
        central.acknowledged(1, ping, &mut log);
        assert_eq!(sent(&mut central, &log), [4, 5]);
        let ping = central.next_ping().unwrap();
        central.acknowledged(2, ping, &mut log);
        assert_eq!((log.usage().messages, central.delivered()), (0, 5));
        assert_eq!(central.next_ping(), None);
    }

    #[test]
    fn what_the_session_cannot_take_waits_and_holds_up_nothing() {
        let mut log = log(&[1, 500, 2]);
        let mut central = Central::new(true);
        central.set_session(session(1, 100));
        assert_eq!(sent(&mut central, &log), [1, 2]);
        let ping = central.next_ping().unwrap();
        central.acknowledged(1, ping, &mut log);
        assert_eq!(log.from(0).unwrap().1.data.len(), 500);
        append(&mut log, 3);
        assert_eq!(sent(&mut central, &log), [3]);
        central.set_session(None);
        assert_eq!(posted(&mut central, &log), [2, 4], "the webhook takes any size");
    }

    #[test]
    fn what_was_set_aside_and_had_to_make_room_is_forgotten() {
        let mut log = MemoryLog::new(3_000, OnFull::DropOldest);
        let mut central = Central::new(false);
        central.set_session(session(1, 100));
        for _ in 0..100 {
            append(&mut log, 500);
            assert_eq!(sent(&mut central, &log), [0usize; 0]);
            assert!(central.set_aside.len() <= log.usage().messages);
        }
    }

    /// The workers keep what they have under way when the rest is recalled; should it fail after all, nothing newer
    /// of the same object may have gone ahead.
    #[test]
    fn what_the_workers_still_have_is_finished_before_the_webhook_goes_on() {
        let mut log = log(&[1, 2]);
        let mut central = Central::new(true);
        assert_eq!(posted(&mut central, &log), [1, 2]);
        central.set_session(session(1, usize::MAX));
        central.webhook_returned(2);
        central.set_session(None);
        append(&mut log, 3);
        assert_eq!(posted(&mut central, &log), [0u64; 0]);
        central.webhook_returned(1);
        assert_eq!(posted(&mut central, &log), [1, 2, 3]);
    }

    #[test]
    fn never_both_ways_at_a_time() {
        let mut log = log(&[1, 2, 3]);
        let mut central = Central::new(true);
        assert_eq!(posted(&mut central, &log), [1, 2, 3]);
        central.set_session(session(1, usize::MAX));
        assert_eq!(sent(&mut central, &log), [0usize; 0], "the workers still have some");
        central.webhook_delivered(2, &mut log);
        central.webhook_returned(1);
        central.webhook_returned(3);
        assert_eq!(sent(&mut central, &log), [1, 3]);
        assert_eq!(posted(&mut central, &log), [0u64; 0]);
        let ping = central.next_ping().unwrap();
        central.acknowledged(1, ping, &mut log);
        assert_eq!((log.usage().messages, central.delivered()), (0, 3));
    }
}
