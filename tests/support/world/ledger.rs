//! Every call that was ever made in a world, and what is known of it.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use iotsocketd::router::{ConnectionId, Serial, Ticket};

pub type CallId = usize;
/// A peer by its place: 0 is the central, the objects follow.
pub type PeerId = usize;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    Http(Ticket),
    Peer(PeerId),
}

/// Where the request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Just made.
    New,
    /// Not seen since: in the router's queue of a session that waits.
    Hidden,
    Outbox(ConnectionId),
    /// It was in the outbox of a connection that broke.
    Limbo,
    Webhook(Serial),
    Delivered,
}

/// An answer as its sender meant it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub code: u8,
    pub data: Vec<u8>,
    /// The group's rules do not take it.
    pub refused: bool,
}

#[derive(Debug)]
pub struct Call {
    pub asker: Asker,
    /// Of the asker, if it is a peer.
    pub session: u32,
    pub target: PeerId,
    /// The creator's tracking number.
    pub number: u16,
    /// The number on the other side, once seen.
    pub number_there: Option<u16>,
    pub data: Vec<u8>,
    /// The group's rules do not take the payload.
    pub refused: bool,
    pub deadline: Instant,
    pub place: Place,
    pub was_delivered: bool,
    pub went_by_webhook: bool,
    /// The webhook would not have it, because it fails.
    pub met_failing: bool,
    /// The answer that was accepted for it, and the how-manieth event of the world that was.
    pub accepted: Option<(Answer, u64)>,
    pub is_due: bool,
    /// The asker's answer was made.
    pub is_shown: bool,
    /// The asker is gone for good.
    pub is_void: bool,
    /// In which event it went.
    pub void_at: u64,
    /// How often the asker got an answer.
    pub received: u32,
    /// When it began to wait out of sight.
    pub hidden_at: u64,
    /// How often its end was told for the record.
    pub told: u32,
    /// The concentrator was started anew since.
    pub is_older_than_restart: bool,
}

impl Call {
    /// Bytes of the request on the wire of its target.
    pub fn wire_len(&self) -> usize {
        let head = if self.target == 0 { 22 } else { 6 };
        head + self.data.len()
    }

    /// Whether it must not be handed over in this event.
    pub fn is_over(&self, event: u64) -> bool {
        // What a central left behind is still worth delivering: it was asked. A session whose time is over ends
        // behind what else happens in the same event.
        let is_forgotten = self.is_void && self.void_at < event && self.asker != Asker::Peer(0);
        self.is_shown || self.accepted.is_some() || self.is_due || is_forgotten
    }

    /// The object on whose behalf or to which it is.
    pub fn object(&self) -> PeerId {
        match self.asker {
            Asker::Peer(asker) if self.target == 0 => asker,
            _ => self.target,
        }
    }
}

/// Requests by the number on the side of their target: whether that is the central, the object, the number.
pub type There = (bool, PeerId, u16);

#[derive(Debug, Default)]
pub struct Ledger {
    pub calls: Vec<Call>,
    pub by_creator: HashMap<(PeerId, u16), CallId>,
    pub by_ticket: HashMap<Ticket, CallId>,
    pub by_target: HashMap<There, CallId>,
    pub deadlines: BTreeSet<(Instant, CallId)>,
    /// Calls that are neither shown nor void.
    pub open: BTreeSet<CallId>,
}

impl Ledger {
    pub fn there(&self, id: CallId) -> Option<There> {
        let call = &self.calls[id];
        Some((call.target == 0, call.object(), call.number_there?))
    }

    /// Its number on the target's side is free again.
    pub fn leave_target(&mut self, id: CallId) {
        if let Some(there) = self.there(id)
            && self.by_target.get(&there) == Some(&id)
        {
            self.by_target.remove(&there);
        }
    }

    /// Nothing more is expected for the asker.
    pub fn leave_asker(&mut self, id: CallId) {
        self.open.remove(&id);
        let call = &self.calls[id];
        match call.asker {
            Asker::Http(ticket) => {
                self.by_ticket.remove(&ticket);
            }
            Asker::Peer(peer) => {
                let key = (peer, call.number);
                if self.by_creator.get(&key) == Some(&id) {
                    self.by_creator.remove(&key);
                }
            }
        }
    }

    /// The asker is gone for good.
    pub fn make_void(&mut self, id: CallId, event: u64) {
        self.calls[id].is_void = true;
        self.calls[id].void_at = event;
        self.leave_asker(id);
        // The router forgets what an object or an HTTP caller asked; what the central asked runs to its deadline.
        if self.calls[id].asker != Asker::Peer(0) {
            self.leave_target(id);
        }
    }

    /// Marks what is overdue.
    pub fn expire(&mut self, now: Instant) -> Vec<CallId> {
        let mut due = Vec::new();
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            self.leave_target(id);
            let call = &mut self.calls[id];
            if !call.is_shown && call.accepted.is_none() {
                call.is_due = true;
                due.push(id);
            }
        }
        due
    }
}

/// The payload of a call: says whose it is, and is of the length wanted.
pub fn question(id: CallId, len: usize) -> Vec<u8> {
    tagged(b'Q', id, 0, len)
}

/// The payload of an answer to a call.
pub fn reply(id: CallId, salt: u64, len: usize) -> Vec<u8> {
    tagged(b'A', id, salt, len)
}

fn tagged(kind: u8, id: CallId, salt: u64, len: usize) -> Vec<u8> {
    let mut data = vec![kind];
    data.extend((id as u32).to_be_bytes());
    data.extend(salt.to_be_bytes());
    data.resize(len.max(data.len()), salt as u8);
    data
}

/// The call that a question is of.
pub fn asked_in(data: &[u8]) -> CallId {
    assert_eq!(data[0], b'Q', "a request that nobody made: {data:?}");
    u32::from_be_bytes(data[1..5].try_into().unwrap()) as usize
}
