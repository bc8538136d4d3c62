//! Small pieces of bytes: varints, and fields of records that serde should not take apart.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Gives the bytes of a varint one by one: seven bits each, the lowest first.
pub fn varint(mut value: u64, mut put: impl FnMut(u8)) {
    loop {
        let low = value.to_le_bytes().first().copied().unwrap_or(0) & 0x7f;
        value >>= 7;
        if value == 0 {
            return put(low);
        }
        put(low | 0x80);
    }
}

/// Appends a varint.
pub fn put_varint(value: u64, into: &mut Vec<u8>) {
    varint(value, |byte| into.push(byte));
}

/// Reads a varint, and gives what is behind it.
pub fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * at);
        if shifted >> (7 * at) != bits {
            return None;
        }
        value |= shifted;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

/// A cursor over fixed-width little-endian fields; every getter is `None` behind the end.
#[derive(Debug, Clone)]
pub struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next eight bytes.
    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }
}

macro_rules! name_codec {
    ($module:ident, $name:ident) => {
        /// As text, without the padding.
        pub mod $module {
            use super::*;
            use crate::wire::$name;

            pub fn serialize<S: Serializer>(name: &$name, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(name.as_str())
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let text = <&str>::deserialize(deserializer)?;
                $name::parse(text).map_err(D::Error::custom)
            }
        }
    };
}

name_codec!(uid, Uid);
name_codec!(group, GroupName);

/// As the nibble of the wire.
pub mod format {
    use super::*;
    use crate::wire::Format;

    pub fn serialize<S: Serializer>(format: &Format, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(format.nibble())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Format, D::Error> {
        Format::from_nibble(u8::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = &'de [u8];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(bytes)
    }
}

/// In one piece, borrowed when read.
pub mod bytes {
    use super::*;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, [u8]>, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor).map(Cow::Borrowed)
    }
}

/// In one piece, owned when read.
pub mod vec {
    use super::*;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor).map(<[u8]>::to_vec)
    }
}

/// The same, if there is one.
pub mod optional_bytes {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Piece<'a>(#[serde(borrow, with = "super::bytes")] Cow<'a, [u8]>);

    pub fn serialize<S: Serializer>(bytes: &Option<Cow<'_, [u8]>>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.as_deref().map(|bytes| Piece(Cow::Borrowed(bytes))).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Cow<'de, [u8]>>, D::Error> {
        Ok(Option::<Piece<'de>>::deserialize(deserializer)?.map(|piece| piece.0))
    }
}

/// Text, if there is any; borrowed when read.
pub mod optional_text {
    use super::*;

    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    pub fn serialize<S: Serializer>(text: &Option<Cow<'_, str>>, serializer: S) -> Result<S::Ok, S::Error> {
        text.as_deref().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Cow<'de, str>>, D::Error> {
        Ok(Option::<Text<'de>>::deserialize(deserializer)?.map(|text| text.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_with_what_is_behind_them() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(value, &mut bytes);
            for cut in 0..bytes.len() {
                assert_eq!(take_varint(&bytes[..cut]), None);
            }
            bytes.push(9);
            assert_eq!(take_varint(&bytes), Some((value, [9].as_slice())));
        }
        assert_eq!(take_varint(&[0xff; 11]), None);
        assert_eq!(take_varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), None);
    }
}
