//! What the router does to the world, written down in order. Connections have room for what the hub's have.

use std::collections::HashMap;

use iotsocketd::limits::OUTGOING_MAX;
use iotsocketd::router::{
    AccessChange, Answer, CallEnd, CentralSession, ConnectionId, Effects, Fact, LoginRefusal, Queued, Serial,
    Tag, Ticket, WebhookRefusal, WebhookRequest,
};
use iotsocketd::wire::{CloseCode, TOKEN_LEN, Token, Transmission, Uid};

/// One thing that the router did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Something to write to a connection.
    Queued {
        to: ConnectionId,
        tag: Tag,
        bytes: Box<[u8]>,
    },
    /// A connection had no room.
    Full(ConnectionId),
    Admit(ConnectionId),
    Refuse(ConnectionId, LoginRefusal),
    Close(ConnectionId, CloseCode),
    /// An HTTP caller's answer.
    Answer {
        ticket: Ticket,
        code: u8,
        data: Vec<u8>,
        made_here: bool,
    },
    /// A request for the webhook, and why it was not taken.
    Webhook {
        uid: Uid,
        number: u16,
        serial: Serial,
        data: Vec<u8>,
        refusal: Option<WebhookRefusal>,
    },
    Central(Option<CentralSession>),
}

/// Writes down what the router does.
#[derive(Debug, Default)]
pub struct Recorder {
    /// What happened since this was emptied last.
    pub effects: Vec<Effect>,
    /// Bytes queued for each open connection and not taken by its peer.
    pub outstanding: HashMap<ConnectionId, usize>,
    /// What a restart must not forget.
    pub facts: Vec<Fact>,
    /// Calls that are over; what was asked only if that was told.
    pub ended: Vec<(CallEnd<'static>, Option<Vec<u8>>)>,
    /// How the access list changed.
    pub access: Vec<AccessChange>,
    /// Why the request webhook takes nothing.
    pub webhook_refusal: Option<WebhookRefusal>,
    tokens: u64,
}

impl Recorder {
    fn queue(&mut self, to: ConnectionId, tag: Tag, bytes: Box<[u8]>) {
        *self.outstanding.entry(to).or_default() += bytes.len();
        self.effects.push(Effect::Queued { to, tag, bytes });
    }
}

impl Effects for Recorder {
    fn send(&mut self, to: ConnectionId, tag: Tag, transmission: Transmission<'_>) -> bool {
        let outstanding = self.outstanding.get(&to).copied().unwrap_or_default();
        let has_room = outstanding + transmission.wire_len() <= OUTGOING_MAX;
        if has_room {
            self.queue(to, tag, encode(transmission));
        } else {
            self.effects.push(Effect::Full(to));
        }
        has_room
    }

    fn reply(&mut self, to: ConnectionId, tag: Tag, transmission: Transmission<'_>) {
        if let Transmission::Token(sent) = transmission {
            let is_known =
                matches!(self.facts.last(), Some(Fact::TokenIssued { token, .. }) if *token == sent);
            assert!(is_known, "a token is sent that a restart would not know");
        }
        self.queue(to, tag, encode(transmission));
    }

    fn resend(&mut self, to: ConnectionId, waited: Queued) {
        self.queue(to, waited.tag, waited.bytes);
    }

    fn admit(&mut self, connection: ConnectionId) {
        self.effects.push(Effect::Admit(connection));
    }

    fn refuse(&mut self, connection: ConnectionId, why: LoginRefusal) {
        self.effects.push(Effect::Refuse(connection, why));
    }

    fn close(&mut self, connection: ConnectionId, code: CloseCode) {
        self.effects.push(Effect::Close(connection, code));
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer<'_>) {
        let data = answer.payload.data().to_vec();
        self.effects.push(Effect::Answer { ticket, code: answer.code, data, made_here: answer.made_here });
    }

    fn ask_webhook(&mut self, request: WebhookRequest<'_>) -> Result<(), WebhookRefusal> {
        let WebhookRequest { uid, number, serial, payload, .. } = request;
        let (data, refusal) = (payload.data().to_vec(), self.webhook_refusal);
        self.effects.push(Effect::Webhook { uid, number, serial, data, refusal });
        refusal.map_or(Ok(()), Err)
    }

    fn central_changed(&mut self, session: Option<CentralSession>) {
        self.effects.push(Effect::Central(session));
    }

    fn fresh_token(&mut self) -> Token {
        self.tokens += 1;
        const { assert!(TOKEN_LEN == 8) };
        Token(self.tokens.to_be_bytes())
    }

    fn remember(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    fn call_ended(&mut self, end: CallEnd<'_>) {
        let asked = end.payload.map(<[u8]>::to_vec);
        self.ended.push((CallEnd { payload: None, ..end }, asked));
    }

    fn access_changed(&mut self, change: AccessChange) {
        self.access.push(change);
    }
}

/// The bytes of a transmission.
pub fn encode(transmission: Transmission<'_>) -> Box<[u8]> {
    let mut bytes = transmission.encode_head().to_vec();
    bytes.extend_from_slice(transmission.body());
    bytes.into()
}
