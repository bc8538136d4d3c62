//! The payload block: format, options, length, data.

use super::{Decoded, WireError, array_at};

/// Bytes before the data of a payload block.
pub const PAYLOAD_HEAD_LEN: usize = 3;
/// Longest data of a payload block.
pub const PAYLOAD_DATA_MAX: usize = u16::MAX as usize;

/// How the data of a payload is meant to be read. The concentrator does not look inside between TCP and UDP peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// 0x0: any bytes.
    Binary,
    /// 0x1: bytes below 0x80.
    Ascii,
    /// 0x2: UTF-8.
    Utf8,
    /// 0xA: JSON in UTF-8.
    Json,
}

impl Format {
    /// Every format, in the order of the wire's nibbles.
    pub const ALL: [Self; 4] = [Self::Binary, Self::Ascii, Self::Utf8, Self::Json];

    /// Reads the high nibble of a payload block's first byte.
    pub fn from_nibble(nibble: u8) -> Result<Self, WireError> {
        match nibble {
            0x0 => Ok(Self::Binary),
            0x1 => Ok(Self::Ascii),
            0x2 => Ok(Self::Utf8),
            0xA => Ok(Self::Json),
            other => Err(WireError::UnknownFormat(other)),
        }
    }

    /// The nibble of the wire.
    pub fn nibble(self) -> u8 {
        match self {
            Self::Binary => 0x0,
            Self::Ascii => 0x1,
            Self::Utf8 => 0x2,
            Self::Json => 0xA,
        }
    }

    /// The name that the HTTP side uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Binary => "BINARY",
            Self::Ascii => "ASCII",
            Self::Utf8 => "UTF8",
            Self::Json => "JSON",
        }
    }

    /// The format of an HTTP name, upper case as the specification writes it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// A payload: its format and at most 65,535 bytes of data, borrowed.
///
/// On the wire: high nibble of byte 0 = format, low nibble = options (0); u16 length; data.
/// The data is its owner's business and never printed: `Debug` says only how long it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Payload<'a> {
    format: Format,
    data: &'a [u8],
}

impl core::fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Payload").field("format", &self.format).field("len", &self.data.len()).finish()
    }
}

impl<'a> Payload<'a> {
    /// The empty binary payload of answers that the concentrator makes itself.
    pub const EMPTY: Payload<'static> = Payload { format: Format::Binary, data: &[] };

    /// A payload of these bytes; `None` if they are more than 65,535.
    pub fn new(format: Format, data: &'a [u8]) -> Option<Self> {
        (data.len() <= PAYLOAD_DATA_MAX).then_some(Self { format, data })
    }

    /// How the data is meant to be read.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The data.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Bytes of the whole block.
    pub fn wire_len(&self) -> usize {
        PAYLOAD_HEAD_LEN + self.data.len()
    }

    /// The three bytes before the data.
    pub fn encode_head(&self) -> [u8; PAYLOAD_HEAD_LEN] {
        // The constructor and the decoder keep the length within a u16.
        let [high, low] = (self.data.len() as u16).to_be_bytes();
        [self.format.nibble() << 4, high, low]
    }

    /// Reads a payload block at the start of `input`.
    pub fn decode(input: &'a [u8]) -> Result<Decoded<Self>, WireError> {
        let Some(first) = input.first() else {
            return Ok(Decoded::Need(PAYLOAD_HEAD_LEN));
        };
        // The first byte is judged before the rest is awaited: what is wrong fails at once.
        let format = Format::from_nibble(first >> 4)?;
        let option = first & 0x0f;
        if option != 0 {
            return Err(WireError::UnknownOption(option));
        }
        let Some(len) = array_at::<2>(input, 1) else {
            return Ok(Decoded::Need(PAYLOAD_HEAD_LEN));
        };
        let end = PAYLOAD_HEAD_LEN + usize::from(u16::from_be_bytes(len));
        match input.get(PAYLOAD_HEAD_LEN..end) {
            Some(data) => Ok(Decoded::Done(Self { format, data }, end)),
            None => Ok(Decoded::Need(end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_how_long_the_data_is_and_none_of_it() {
        let payload = Payload::new(Format::Ascii, b"door code 4711").unwrap();
        assert_eq!(format!("{payload:?}"), "Payload { format: Ascii, len: 14 }");
    }
}
