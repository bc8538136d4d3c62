//! The bytes of IoTSocket 1.01, both directions, nothing else.
//!
//! Decoders never panic, never allocate, and say one of three things: "so many bytes are needed",
//! "done, so many bytes used", or the rule that was broken. Encoders write into a caller's buffer or
//! return fixed arrays. All integers are big endian. Only `core` and `heapless` are used here, so that
//! a device's firmware could share this module.
//!
//! Layout of each structure: the doc comment of its type; vectors: `tests/vectors/`.

mod acl;
mod datagram;
mod identity;
mod payload;
mod setup;
mod transmission;

pub use acl::{ACL_COUNT_LEN, ACL_ITEM_LEN, AclItem, decode_acl_count, encode_acl_count};
pub use datagram::{Datagram, TOKEN_LEN, Token};
pub use identity::{AuthKey, Challenge, GroupName, KEY_LEN, NAME_LEN, NameError, Uid, parse_hex};
pub use payload::{Format, PAYLOAD_DATA_MAX, PAYLOAD_HEAD_LEN, Payload};
pub use setup::{
    CHALLENGE_LABEL, CHALLENGE_LEN, INITIATION_LEN, Initiation, InitiationReply, MAC_LEN, PROOF_LEN, Proof,
    Redirect, VERSION, verdict_byte, verdict_from_byte,
};
pub use transmission::{
    CloseCode, HEAD_MAX, Head, RESPONSE_ALREADY_USED, RESPONSE_NOT_FOUND, RESPONSE_NOT_VALID,
    RESPONSE_TIMED_OUT, RESPONSE_VALID, TRANSMISSION_MAX, Transmission,
};

/// What a decoder found at the start of its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded<T> {
    /// At least this many bytes, counted from the start of the input, are needed to go on.
    Need(usize),
    /// A whole value, and how many bytes it took.
    Done(T, usize),
}

/// A rule of the wire format that the input breaks. Nothing after it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WireError {
    /// The high nibble of byte 0 names no transmission type.
    UnknownType(u8),
    /// The format nibble names no payload format.
    UnknownFormat(u8),
    /// The option nibble of a payload block is not zero.
    UnknownOption(u8),
    /// The RTE bit stands where the type forbids it, or is missing where the type demands it.
    MisplacedRte,
    /// A name is not UTF-8 behind its padding.
    NotUtf8,
    /// The payload block does not fill the datagram exactly.
    LengthMismatch,
    /// A verdict byte is neither 0x00 nor 0x01.
    UnknownVerdict(u8),
    /// The rule type of an initiation reply is unknown.
    UnknownRule(u8),
}

impl core::fmt::Display for WireError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::UnknownType(kind) => write!(f, "unknown transmission type 0x{kind:x}"),
            Self::UnknownFormat(format) => write!(f, "unknown payload format 0x{format:x}"),
            Self::UnknownOption(option) => write!(f, "unknown payload option 0x{option:x}"),
            Self::MisplacedRte => f.write_str("RTE bit misplaced or missing"),
            Self::NotUtf8 => f.write_str("name is not UTF-8"),
            Self::LengthMismatch => f.write_str("payload block does not fill the datagram"),
            Self::UnknownVerdict(byte) => write!(f, "unknown verdict 0x{byte:02x}"),
            Self::UnknownRule(rule) => write!(f, "unknown initiation rule 0x{rule:02x}"),
        }
    }
}

impl core::error::Error for WireError {}

/// Takes `N` bytes at `at`, if they are there.
fn array_at<const N: usize>(input: &[u8], at: usize) -> Option<[u8; N]> {
    input.get(at..)?.first_chunk::<N>().copied()
}
