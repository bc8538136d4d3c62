//! Telemetry over UDP: 8-byte token, then one payload block that fills the rest exactly.

use super::{Decoded, PAYLOAD_HEAD_LEN, Payload, WireError, array_at};

/// Bytes of a telemetry token.
pub const TOKEN_LEN: usize = 8;

/// A random, temporary right to send telemetry in an object's name. Never printed: `Debug` hides it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub [u8; TOKEN_LEN]);

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// One telemetry datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Whose right is used.
    pub token: Token,
    /// What the object says.
    pub payload: Payload<'a>,
}

impl<'a> Datagram<'a> {
    /// Reads a whole datagram.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let (Some(token), Some(rest)) = (array_at(bytes, 0), bytes.get(TOKEN_LEN..)) else {
            return Err(WireError::LengthMismatch);
        };
        match Payload::decode(rest)? {
            Decoded::Done(payload, used) if used == rest.len() => Ok(Self { token: Token(token), payload }),
            Decoded::Done(..) | Decoded::Need(_) => Err(WireError::LengthMismatch),
        }
    }

    /// The bytes before the payload's data.
    pub fn encode_head(&self) -> [u8; TOKEN_LEN + PAYLOAD_HEAD_LEN] {
        let mut head = [0; TOKEN_LEN + PAYLOAD_HEAD_LEN];
        let (token, payload) = head.split_at_mut(TOKEN_LEN);
        token.copy_from_slice(&self.token.0);
        payload.copy_from_slice(&self.payload.encode_head());
        head
    }
}
