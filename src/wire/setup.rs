//! Connection set-up: initiation, reply, challenge, proof, verdict.

use super::{AuthKey, Challenge, Decoded, NAME_LEN, Uid, WireError, array_at};

/// Version of the protocol that we speak (1.01 says 0x01).
pub const VERSION: u8 = 0x01;
/// Bytes of the client's initiation.
pub const INITIATION_LEN: usize = 4;
/// Bytes of the challenge.
pub const CHALLENGE_LEN: usize = 16;
/// Under TLS the challenge is exported from the session with this label and no context (RFC 5705).
pub const CHALLENGE_LABEL: &[u8] = b"EXPORTER-iotsocket-challenge";
/// Bytes of a HMAC-SHA-256.
pub const MAC_LEN: usize = 32;
/// Bytes of the client's proof.
pub const PROOF_LEN: usize = NAME_LEN + MAC_LEN;

const TOP_BIT: u8 = 0x80;
const RULE_NONE: u8 = 0x00;
const RULE_REDIRECT: u8 = 0x01;
const VERDICT_ACCEPTED: u8 = 0x01;
const VERDICT_REFUSED: u8 = 0x00;

/// What a client says first, 4 bytes: bit 7 of byte 0 = TLS wanted, bits 6..0 = version; byte 1 options
/// (ignored); u16 largest transmission it can take, 0 = no limit stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initiation {
    /// Whether TLS starts right after the reply.
    pub tls: bool,
    /// Version the client speaks, 0..127.
    pub version: u8,
    /// Largest transmission the client can take, in bytes from byte 0; 0: none stated.
    pub largest: u16,
}

impl Initiation {
    /// Reads the four bytes.
    pub fn decode(bytes: [u8; INITIATION_LEN]) -> Self {
        let [first, _options, high, low] = bytes;
        Self {
            tls: first & TOP_BIT != 0,
            version: first & !TOP_BIT,
            largest: u16::from_be_bytes([high, low]),
        }
    }

    /// Writes the four bytes.
    pub fn encode(self) -> [u8; INITIATION_LEN] {
        let [high, low] = self.largest.to_be_bytes();
        [if self.tls { TOP_BIT } else { 0 } | self.version & !TOP_BIT, 0, high, low]
    }
}

/// Where a client shall go instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirect<'a> {
    /// Host name or address, at most 255 bytes.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
}

/// The concentrator's reply, 2 bytes: bit 7 of byte 0 = OK, bits 6..0 = rule type; byte 1 rule flags. With the
/// redirect rule a string (u8 length, UTF-8) and a u16 port follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitiationReply<'a> {
    /// Go on here.
    Welcome,
    /// The connection ends.
    Refused,
    /// Disconnect and connect there. Understood by our clients, never sent by our concentrator.
    Redirect(Redirect<'a>),
}

impl<'a> InitiationReply<'a> {
    /// Bytes of a go-on reply.
    pub const WELCOME: [u8; 2] = [TOP_BIT | RULE_NONE, 0];
    /// Bytes of a refusal.
    pub const REFUSED: [u8; 2] = [RULE_NONE, 0];

    /// Reads a reply at the start of `input`.
    pub fn decode(input: &'a [u8]) -> Result<Decoded<Self>, WireError> {
        let Some([first, _flags]) = array_at::<2>(input, 0) else {
            return Ok(Decoded::Need(2));
        };
        if first & TOP_BIT == 0 {
            return Ok(Decoded::Done(Self::Refused, 2));
        }
        match first & !TOP_BIT {
            RULE_NONE => Ok(Decoded::Done(Self::Welcome, 2)),
            RULE_REDIRECT => {
                let Some(len) = input.get(2) else {
                    return Ok(Decoded::Need(3));
                };
                let port_at = 3 + usize::from(*len);
                let (Some(host), Some(port)) = (input.get(3..port_at), array_at::<2>(input, port_at)) else {
                    return Ok(Decoded::Need(port_at + 2));
                };
                let host = core::str::from_utf8(host).map_err(|_| WireError::NotUtf8)?;
                let redirect = Redirect { host, port: u16::from_be_bytes(port) };
                Ok(Decoded::Done(Self::Redirect(redirect), port_at + 2))
            }
            other => Err(WireError::UnknownRule(other)),
        }
    }

    /// Writes the reply; `None` if a redirect's host is longer than 255 bytes.
    pub fn encode(&self) -> Option<heapless::Vec<u8, 260>> {
        let mut bytes = heapless::Vec::new();
        match self {
            Self::Welcome => bytes.extend_from_slice(&Self::WELCOME).ok()?,
            Self::Refused => bytes.extend_from_slice(&Self::REFUSED).ok()?,
            Self::Redirect(redirect) => {
                let len = u8::try_from(redirect.host.len()).ok()?;
                bytes.extend_from_slice(&[TOP_BIT | RULE_REDIRECT, 0, len]).ok()?;
                bytes.extend_from_slice(redirect.host.as_bytes()).ok()?;
                bytes.extend_from_slice(&redirect.port.to_be_bytes()).ok()?;
            }
        }
        Some(bytes)
    }
}

/// The client's proof, 48 bytes: UID, then HMAC-SHA-256(key = auth key, message = challenge).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// Who it claims to be; `None` if the bytes are not a name, which no access list knows.
    pub uid: Option<Uid>,
    /// The HMAC.
    pub mac: [u8; MAC_LEN],
}

impl Proof {
    /// Reads the 48 bytes.
    pub fn decode(bytes: &[u8; PROOF_LEN]) -> Self {
        let mut uid = [0; NAME_LEN];
        let mut mac = [0; MAC_LEN];
        let (name, rest) = bytes.split_at(NAME_LEN);
        uid.copy_from_slice(name);
        mac.copy_from_slice(rest);
        Self { uid: Uid::from_wire(uid).ok(), mac }
    }

    /// Writes the 48 bytes.
    pub fn encode(uid: Uid, mac: &[u8; MAC_LEN]) -> [u8; PROOF_LEN] {
        let mut bytes = [0; PROOF_LEN];
        let (name, rest) = bytes.split_at_mut(NAME_LEN);
        name.copy_from_slice(&uid.to_wire());
        rest.copy_from_slice(mac);
        bytes
    }
}

/// The byte that ends the set-up.
pub fn verdict_byte(accepted: bool) -> u8 {
    if accepted { VERDICT_ACCEPTED } else { VERDICT_REFUSED }
}

/// Reads the byte that ends the set-up.
pub fn verdict_from_byte(byte: u8) -> Result<bool, WireError> {
    match byte {
        VERDICT_ACCEPTED => Ok(true),
        VERDICT_REFUSED => Ok(false),
        other => Err(WireError::UnknownVerdict(other)),
    }
}

impl From<AuthKey> for [u8; super::KEY_LEN] {
    fn from(key: AuthKey) -> Self {
        key.0
    }
}

impl AsRef<[u8]> for Challenge {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
