//! What flows in a session.

use super::{
    Decoded, NAME_LEN, PAYLOAD_DATA_MAX, PAYLOAD_HEAD_LEN, Payload, Token, Uid, WireError, array_at,
};

/// Response code: answered.
pub const RESPONSE_VALID: u8 = 0x00;
/// Response code: the destination did not answer correctly.
pub const RESPONSE_NOT_VALID: u8 = 0x01;
/// Response code, made by the concentrator: the request could never be handed over.
pub const RESPONSE_NOT_FOUND: u8 = 0xA0;
/// Response code, made by the concentrator: no answer before the deadline.
pub const RESPONSE_TIMED_OUT: u8 = 0xA1;
/// Response code, made by the concentrator: the tracking number is already in use.
pub const RESPONSE_ALREADY_USED: u8 = 0xA2;

/// Bytes before a payload's data at most: byte 0, UID, tracking number, code, payload head.
pub const HEAD_MAX: usize = 1 + NAME_LEN + 2 + 1 + PAYLOAD_HEAD_LEN;
/// The longest transmission that is decoded in one piece (an access list is read item by item).
pub const TRANSMISSION_MAX: usize = HEAD_MAX + PAYLOAD_DATA_MAX;

/// The bytes of a transmission before its payload's data; all of it if it has no payload.
pub type Head = heapless::Vec<u8, 32>;
const _: () = assert!(HEAD_MAX <= 32, "a head must fit its buffer");

const RTE: u8 = 0x08;
const TYPE_ACL: u8 = 0x0;
const TYPE_PING: u8 = 0x1;
const TYPE_PONG: u8 = 0x2;
const TYPE_REQUEST: u8 = 0x3;
const TYPE_RESPONSE: u8 = 0x4;
const TYPE_TOKEN: u8 = 0x5;
const TYPE_TELEMETRY: u8 = 0x6;
const TYPE_CLOSE: u8 = 0xF;

/// Why a session is being closed. 0x0-: the session ends. 0xA-: it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 0x00: the peer broke the protocol.
    ProtocolError,
    /// 0x01: maintenance, or the right to be here is gone.
    Maintenance,
    /// 0x02: too many transmissions to process.
    TooMany,
    /// 0x03: internal error.
    InternalError,
    /// 0xA0: the peer goes to sleep.
    Sleep,
    /// 0xA1: resources freed.
    ResourcesFreed,
    /// Any other code: ends the session.
    Unknown(u8),
}

impl CloseCode {
    /// Reads the byte of the wire.
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            0x00 => Self::ProtocolError,
            0x01 => Self::Maintenance,
            0x02 => Self::TooMany,
            0x03 => Self::InternalError,
            0xA0 => Self::Sleep,
            0xA1 => Self::ResourcesFreed,
            other => Self::Unknown(other),
        }
    }

    /// The byte of the wire.
    pub fn byte(self) -> u8 {
        match self {
            Self::ProtocolError => 0x00,
            Self::Maintenance => 0x01,
            Self::TooMany => 0x02,
            Self::InternalError => 0x03,
            Self::Sleep => 0xA0,
            Self::ResourcesFreed => 0xA1,
            Self::Unknown(byte) => byte,
        }
    }

    /// Whether the session is kept for the peer's return.
    pub fn keeps_session(self) -> bool {
        matches!(self, Self::Sleep | Self::ResourcesFreed)
    }
}

/// One transmission. Byte 0: high nibble = type, bit 3 = RTE (a UID follows), bits 2..0 reserved (sent 0, ignored).
/// `uid` is `Some` when the RTE bit is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transmission<'a> {
    /// 0x0: an access list follows, this many items of 48 bytes each. Only the head is decoded here.
    AclHead {
        /// The sender's word; reserve nothing by it.
        count: u32,
    },
    /// 0x1: answered at once by a pong.
    Ping,
    /// 0x2.
    Pong,
    /// 0x3: u16 tracking number, payload block.
    Request {
        /// The object, on the central's side.
        uid: Option<Uid>,
        /// Chosen by the request's creator.
        number: u16,
        /// What is asked.
        payload: Payload<'a>,
    },
    /// 0x4: u16 tracking number, u8 code, payload block.
    Response {
        /// The object, on the central's side.
        uid: Option<Uid>,
        /// The request's number.
        number: u16,
        /// See the `RESPONSE_*` constants; an element's own codes pass unchanged.
        code: u8,
        /// The answer.
        payload: Payload<'a>,
    },
    /// 0x5: the telemetry token of an object.
    Token(Token),
    /// 0x6: telemetry of that object.
    Telemetry {
        /// The object it came from.
        uid: Uid,
        /// What it said.
        payload: Payload<'a>,
    },
    /// 0xF: right before a wanted disconnection.
    Close(CloseCode),
}

impl<'a> Transmission<'a> {
    /// Reads a transmission at the start of `input`. Who may send what is the session's business.
    pub fn decode(input: &'a [u8]) -> Result<Decoded<Self>, WireError> {
        let Some(first) = input.first() else {
            return Ok(Decoded::Need(1));
        };
        let kind = first >> 4;
        let rte = first & RTE != 0;
        match kind {
            TYPE_REQUEST | TYPE_RESPONSE => {}
            TYPE_TELEMETRY if rte => {}
            TYPE_ACL | TYPE_PING | TYPE_PONG | TYPE_TOKEN | TYPE_CLOSE if !rte => {}
            TYPE_ACL | TYPE_PING | TYPE_PONG | TYPE_TOKEN | TYPE_TELEMETRY | TYPE_CLOSE => {
                return Err(WireError::MisplacedRte);
            }
            other => return Err(WireError::UnknownType(other)),
        }
        let mut at = 1;
        let uid = if rte {
            let Some(bytes) = array_at(input, at) else {
                return Ok(Decoded::Need(at + NAME_LEN));
            };
            at += NAME_LEN;
            Some(Uid::from_wire(bytes)?)
        } else {
            None
        };
        match kind {
            TYPE_ACL => Ok(fixed(input, at, |bytes| Self::AclHead { count: super::decode_acl_count(bytes) })),
            TYPE_PING => Ok(Decoded::Done(Self::Ping, at)),
            TYPE_PONG => Ok(Decoded::Done(Self::Pong, at)),
            TYPE_TOKEN => Ok(fixed(input, at, |bytes| Self::Token(Token(bytes)))),
            TYPE_CLOSE => Ok(fixed(input, at, |[byte]: [u8; 1]| Self::Close(CloseCode::from_byte(byte)))),
            TYPE_REQUEST => {
                let Some(number) = array_at(input, at) else {
                    return Ok(Decoded::Need(at + 2));
                };
                let number = u16::from_be_bytes(number);
                with_payload(input, at + 2, |payload| Self::Request { uid, number, payload })
            }
            TYPE_RESPONSE => {
                let Some([high, low, code]) = array_at(input, at) else {
                    return Ok(Decoded::Need(at + 3));
                };
                let number = u16::from_be_bytes([high, low]);
                with_payload(input, at + 3, |payload| Self::Response { uid, number, code, payload })
            }
            // The RTE check above leaves only telemetry, with its UID.
            _ => with_payload(input, at, |payload| Self::Telemetry {
                uid: uid.unwrap_or(Uid::CENTRAL),
                payload,
            }),
        }
    }

    /// The bytes before the payload's data.
    pub fn encode_head(&self) -> Head {
        let mut head = Head::new();
        // Every branch stays within HEAD_MAX, so no push below can fail.
        let mut push = |bytes: &[u8]| {
            let _fits = head.extend_from_slice(bytes);
        };
        match self {
            Self::AclHead { count } => {
                push(&[TYPE_ACL << 4]);
                push(&super::encode_acl_count(*count));
            }
            Self::Ping => push(&[TYPE_PING << 4]),
            Self::Pong => push(&[TYPE_PONG << 4]),
            Self::Request { uid, number, payload } => {
                push_kind(&mut push, TYPE_REQUEST, *uid);
                push(&number.to_be_bytes());
                push(&payload.encode_head());
            }
            Self::Response { uid, number, code, payload } => {
                push_kind(&mut push, TYPE_RESPONSE, *uid);
                push(&number.to_be_bytes());
                push(&[*code]);
                push(&payload.encode_head());
            }
            Self::Token(token) => {
                push(&[TYPE_TOKEN << 4]);
                push(&token.0);
            }
            Self::Telemetry { uid, payload } => {
                push_kind(&mut push, TYPE_TELEMETRY, Some(*uid));
                push(&payload.encode_head());
            }
            Self::Close(code) => push(&[TYPE_CLOSE << 4, code.byte()]),
        }
        head
    }

    /// The payload's data; empty if the transmission has none.
    pub fn body(&self) -> &'a [u8] {
        match self {
            Self::Request { payload, .. }
            | Self::Response { payload, .. }
            | Self::Telemetry { payload, .. } => payload.data(),
            Self::AclHead { .. } | Self::Ping | Self::Pong | Self::Token(_) | Self::Close(_) => &[],
        }
    }

    /// Bytes of the whole transmission from byte 0.
    pub fn wire_len(&self) -> usize {
        self.encode_head().len() + self.body().len()
    }

    /// Appends the whole transmission.
    pub fn encode(&self, out: &mut impl Extend<u8>) {
        out.extend(self.encode_head());
        out.extend(self.body().iter().copied());
    }
}

fn push_kind(push: &mut impl FnMut(&[u8]), kind: u8, uid: Option<Uid>) {
    match uid {
        Some(uid) => {
            push(&[kind << 4 | RTE]);
            push(&uid.to_wire());
        }
        None => push(&[kind << 4]),
    }
}

fn fixed<'a, const N: usize>(
    input: &[u8],
    at: usize,
    build: impl FnOnce([u8; N]) -> Transmission<'a>,
) -> Decoded<Transmission<'a>> {
    match array_at(input, at) {
        Some(bytes) => Decoded::Done(build(bytes), at + N),
        None => Decoded::Need(at + N),
    }
}

fn with_payload<'a>(
    input: &'a [u8],
    at: usize,
    build: impl FnOnce(Payload<'a>) -> Transmission<'a>,
) -> Result<Decoded<Transmission<'a>>, WireError> {
    Ok(match Payload::decode(input.get(at..).unwrap_or_default())? {
        Decoded::Need(more) => Decoded::Need(at + more),
        Decoded::Done(payload, used) => Decoded::Done(build(payload), at + used),
    })
}
