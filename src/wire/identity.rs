//! Names and secrets of fixed width.

use core::fmt;

use super::WireError;

/// Bytes of a UID or group name on the wire.
pub const NAME_LEN: usize = 16;
/// Bytes of an auth key.
pub const KEY_LEN: usize = 16;

/// A UID: UTF-8 of at most 16 bytes, padded on the left with zero bytes. The empty one is the central's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid([u8; NAME_LEN]);

/// The name of a group of objects; same form as a [`Uid`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName([u8; NAME_LEN]);

/// Why a text cannot be a UID or group name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// More than 16 bytes of UTF-8.
    TooLong,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "is longer than {NAME_LEN} bytes of UTF-8"),
        }
    }
}

impl core::error::Error for NameError {}

/// The padded form is canonical (leading zeros are ignored when read and written when sent), so
/// equality of the arrays is equality of the names.
fn pad(text: &str) -> Result<[u8; NAME_LEN], NameError> {
    let name = text.trim_start_matches('\0').as_bytes();
    let mut padded = [0; NAME_LEN];
    let start = NAME_LEN.checked_sub(name.len()).ok_or(NameError::TooLong)?;
    for (slot, byte) in padded.iter_mut().skip(start).zip(name) {
        *slot = *byte;
    }
    Ok(padded)
}

fn unpad(padded: &[u8; NAME_LEN]) -> &[u8] {
    let start = padded.iter().position(|byte| *byte != 0).unwrap_or(NAME_LEN);
    padded.get(start..).unwrap_or_default()
}

fn check(padded: [u8; NAME_LEN]) -> Result<[u8; NAME_LEN], WireError> {
    match core::str::from_utf8(unpad(&padded)) {
        Ok(_) => Ok(padded),
        Err(_) => Err(WireError::NotUtf8),
    }
}

macro_rules! name_type {
    ($name:ident) => {
        impl $name {
            /// Reads the 16 bytes of the wire.
            pub fn from_wire(bytes: [u8; NAME_LEN]) -> Result<Self, WireError> {
                check(bytes).map(Self)
            }

            /// Takes the name as text, at most 16 bytes of UTF-8.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                pad(text).map(Self)
            }

            /// The 16 bytes of the wire.
            pub fn to_wire(self) -> [u8; NAME_LEN] {
                self.0
            }

            /// The name as text, without its padding.
            pub fn as_str(&self) -> &str {
                // Both constructors checked the bytes, so the empty default is never taken.
                core::str::from_utf8(unpad(&self.0)).unwrap_or_default()
            }
        }

        /// The name with control characters escaped: names come from outside and end up in logs.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.as_str().escape_debug())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    };
}

name_type!(Uid);
name_type!(GroupName);

impl Uid {
    /// The central's UID: 16 zero bytes, the empty text.
    pub const CENTRAL: Self = Self([0; NAME_LEN]);

    /// Whether this is the central's UID.
    pub fn is_central(&self) -> bool {
        *self == Self::CENTRAL
    }
}

impl GroupName {
    /// No group: what stands where an object has none.
    pub const NONE: Self = Self([0; NAME_LEN]);
}

/// The secret of one UID, 16 bytes. Never printed: `Debug` hides it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AuthKey(pub [u8; KEY_LEN]);

impl AuthKey {
    /// Takes 32 hex digits of either case.
    pub fn parse(hex: &str) -> Option<Self> {
        parse_hex(hex).map(Self)
    }

    /// Keys that everybody knows: all bytes alike, or the ones in public examples of this protocol.
    pub fn is_weak(&self) -> bool {
        const EXAMPLES: [[u8; KEY_LEN]; 2] = [
            [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff],
            [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f],
        ];
        let [first, rest @ ..] = self.0;
        rest.iter().all(|byte| *byte == first) || EXAMPLES.contains(&self.0)
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey(hidden)")
    }
}

/// Decodes exactly `2 * N` hex digits of either case.
pub fn parse_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// What the concentrator asks a client to prove itself on: 16 bytes, fresh for each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge(pub [u8; super::CHALLENGE_LEN]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_on_the_left_and_ignored_when_read() {
        let uid = Uid::parse("ObjTest").unwrap();
        assert_eq!(&uid.to_wire(), b"\0\0\0\0\0\0\0\0\0ObjTest");
        assert_eq!(Uid::from_wire(uid.to_wire()).unwrap().as_str(), "ObjTest");
        assert_eq!(Uid::parse("\0\0ObjTest").unwrap(), uid);
    }

    #[test]
    fn sixteen_bytes_fit_and_seventeen_do_not() {
        assert_eq!(Uid::parse("0123456789abcdef").unwrap().as_str(), "0123456789abcdef");
        assert_eq!(Uid::parse("0123456789abcdefg"), Err(NameError::TooLong));
        // Fifteen letters, but 17 bytes.
        assert_eq!(Uid::parse("éé0123456789abc"), Err(NameError::TooLong));
    }

    #[test]
    fn only_the_empty_uid_is_the_central() {
        assert!(Uid::parse("").unwrap().is_central());
        assert!(!Uid::parse("0").unwrap().is_central());
    }

    #[test]
    fn a_name_that_is_not_utf8_is_refused() {
        let mut bytes = [0; NAME_LEN];
        bytes[15] = 0xff;
        assert_eq!(Uid::from_wire(bytes), Err(WireError::NotUtf8));
    }

    #[test]
    fn names_are_escaped_when_printed() {
        assert_eq!(Uid::parse("a\nb").unwrap().to_string(), "a\\nb");
    }

    #[test]
    fn hex_of_either_case_and_exact_length() {
        assert_eq!(parse_hex::<2>("aBcD"), Some([0xab, 0xcd]));
        assert_eq!(parse_hex::<2>("abc"), None);
        assert_eq!(parse_hex::<2>("abcde"), None);
        assert_eq!(parse_hex::<2>("ab+d"), None);
    }

    #[test]
    fn weak_keys_are_known() {
        assert!(AuthKey([0; 16]).is_weak());
        assert!(AuthKey([7; 16]).is_weak());
        assert!(AuthKey::parse("00112233445566778899AABBCCDDEEFF").unwrap().is_weak());
        assert!(!AuthKey::parse("20112233445566778899AABBCCDDEEFF").unwrap().is_weak());
    }
}
