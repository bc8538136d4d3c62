//! What the router does to the world.

use std::time::Instant;

use super::ended::{AccessChange, CallEnd};
use super::facts::Fact;
use super::{ConnectionId, Queued, Serial, Tag, Ticket};
use crate::wire::{CloseCode, Payload, Token, Transmission, Uid};

/// What happens to the world. An implementation queues; it does not call back into the router.
pub trait Effects {
    /// Queues a transmission for a connection; `false` if its queue is full.
    fn send(&mut self, to: ConnectionId, tag: Tag, transmission: Transmission<'_>) -> bool;
    /// Queues a small answer or a token, also when the queue is full: the sender of what it answers is not read
    /// from while its own queue is full, so these stay few.
    fn reply(&mut self, to: ConnectionId, tag: Tag, transmission: Transmission<'_>);
    /// Queues what waited while the peer was away, also when the queue is full.
    fn resend(&mut self, to: ConnectionId, waited: Queued);
    /// The login is accepted: the verdict goes out ahead of everything queued later.
    fn admit(&mut self, connection: ConnectionId);
    /// The login is refused.
    fn refuse(&mut self, connection: ConnectionId, why: LoginRefusal);
    /// The connection sends this code, ends, and reports
    /// [`Command::Disconnected`](super::Command::Disconnected).
    fn close(&mut self, connection: ConnectionId, code: CloseCode);
    /// An HTTP call has its answer.
    fn answer(&mut self, ticket: Ticket, answer: Answer<'_>);
    /// An object's request goes to the request webhook.
    fn ask_webhook(&mut self, request: WebhookRequest<'_>) -> Result<(), WebhookRefusal>;
    /// The central's session became live, or is no longer.
    fn central_changed(&mut self, session: Option<CentralSession>);
    /// Eight fresh random bytes.
    fn fresh_token(&mut self) -> Token;
    /// Something happened that a restart must not forget. Told ahead of what depends on it: a token's fact comes
    /// before the token is queued.
    fn remember(&mut self, fact: Fact);
    /// A call is over. Told once for each that the settings want to hear of.
    fn call_ended(&mut self, end: CallEnd<'_>);
    /// A call that was asked at this moment has its answer from who was asked, whether the settings want to hear of it or
    /// not.
    fn answered(&mut self, _started: Instant) {}
    /// A new access list is in force.
    fn access_changed(&mut self, change: AccessChange);
}

/// The central's live session, as delivery sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CentralSession {
    /// Its connection.
    pub connection: ConnectionId,
    /// Largest transmission it takes, in bytes.
    pub largest: usize,
}

/// An answer to an HTTP call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The response code.
    pub code: u8,
    /// The payload; empty when the concentrator made the answer.
    pub payload: Payload<'a>,
    /// Whether the concentrator made it, not the object.
    pub made_here: bool,
}

/// An object's request on its way to the webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookRequest<'a> {
    /// The object.
    pub uid: Uid,
    /// Its tracking number.
    pub number: u16,
    /// To be given back with the answer.
    pub serial: Serial,
    /// What it asks.
    pub payload: Payload<'a>,
    /// When the object stops waiting.
    pub deadline: Instant,
}

/// Why the webhook does not take a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookRefusal {
    /// Too much waits for it, or there is none: the request cannot be handed over.
    NoRoom,
    /// It failed a moment ago and is not asked again yet: it does not answer correctly.
    Failing,
}

/// Why a login is refused. The client sees the same byte for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginRefusal {
    /// The access list does not know the UID, the key is wrong, or it changed in the meantime.
    NotKnown,
    /// The group does not allow this source.
    Source,
    /// A later login of the same UID came first.
    Superseded,
}
