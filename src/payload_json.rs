//! Payloads as the JSON of the HTTP(S) side: BINARY as an array of byte values, ASCII and UTF8 as strings,
//! JSON as itself, text unchanged.
//!
//! An empty payload is valid in every format; an empty JSON payload is written as `null`.

use core::fmt;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::wire::{Format, PAYLOAD_DATA_MAX};

/// Deepest nesting of a JSON payload. Nothing here recurses; whoever reads it later may.
pub const JSON_DEPTH_MAX: usize = 128;

/// A payload is not what its format says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotItsFormat(pub Format);

impl fmt::Display for NotItsFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the payload is not {}", self.0.name())
    }
}

impl core::error::Error for NotItsFormat {}

/// Why a JSON value is no payload of its format: sentences for whoever wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadMistake {
    /// BINARY wants an array.
    NotAnArray,
    /// An element of a BINARY array is not a whole number from 0 to 255; its index.
    NotAByte(usize),
    /// ASCII and UTF8 want a string.
    NotAString,
    /// An ASCII string has a character above 0x7f.
    NotAscii,
    /// A string escapes half of a surrogate pair: it has no UTF-8.
    LoneSurrogate,
    /// A JSON value is nested deeper than [`JSON_DEPTH_MAX`].
    TooDeep,
    /// More than 65,535 bytes.
    TooLong,
}

impl fmt::Display for PayloadMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnArray => f.write_str("\"Payload\" must be an array of byte values for Format BINARY"),
            Self::NotAByte(index) => {
                write!(f, "\"Payload\" must have whole numbers from 0 to 255 only, element {index} is not")
            }
            Self::NotAString => f.write_str("\"Payload\" must be a string for Format ASCII or UTF8"),
            Self::NotAscii => f.write_str("\"Payload\" must have ASCII characters only for Format ASCII"),
            Self::LoneSurrogate => f.write_str("\"Payload\" must not escape half of a surrogate pair"),
            Self::TooDeep => write!(f, "\"Payload\" must not be nested deeper than {JSON_DEPTH_MAX} levels"),
            Self::TooLong => write!(f, "\"Payload\" must not be longer than {PAYLOAD_DATA_MAX} bytes"),
        }
    }
}

impl core::error::Error for PayloadMistake {}

/// Whether the data is what the format says.
pub fn is_valid(format: Format, data: &[u8]) -> bool {
    match format {
        Format::Binary => true,
        Format::Ascii => data.is_ascii(),
        Format::Utf8 => core::str::from_utf8(data).is_ok(),
        Format::Json => data.is_empty() || json_text(data).is_some(),
    }
}

/// The payload as JSON text.
pub fn to_json(format: Format, data: &[u8]) -> Result<String, NotItsFormat> {
    let mut text = String::new();
    write_json(&mut text, format, data)?;
    Ok(text)
}

/// Appends the payload as JSON text; nothing is appended if it is not what its format says.
pub fn write_json(out: &mut String, format: Format, data: &[u8]) -> Result<(), NotItsFormat> {
    match format {
        Format::Binary => write_bytes(out, data),
        Format::Ascii | Format::Utf8 => {
            let text = core::str::from_utf8(data).map_err(|_| NotItsFormat(format))?;
            if format == Format::Ascii && !text.is_ascii() {
                return Err(NotItsFormat(format));
            }
            write_string(out, text);
        }
        Format::Json if data.is_empty() => out.push_str("null"),
        Format::Json => out.push_str(json_text(data).ok_or(NotItsFormat(format))?),
    }
    Ok(())
}

/// Appends a JSON string.
pub fn write_string(out: &mut String, text: &str) {
    out.reserve(text.len() + 2);
    out.push('"');
    if !text.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
        out.push_str(text);
        return out.push('"');
    }
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "\\u00",
            _ => continue,
        };
        // What needs an escape is ASCII, so both ends are character boundaries.
        out.push_str(text.get(plain..at).unwrap_or_default());
        out.push_str(escape);
        if escape.len() == 4 {
            out.push(if byte < 0x10 { '0' } else { '1' });
            out.push(char::from_digit(u32::from(byte & 0xf), 16).unwrap_or('0'));
        }
        plain = at + 1;
    }
    out.push_str(text.get(plain..).unwrap_or_default());
    out.push('"');
}

/// The data of a payload that came as JSON.
pub fn from_json(format: Format, json: &RawValue) -> Result<Vec<u8>, PayloadMistake> {
    let text = json.get();
    let data = match format {
        Format::Binary => return bytes_of_array(text),
        Format::Ascii | Format::Utf8 => {
            let text = string_of(text)?;
            if format == Format::Ascii && !text.is_ascii() {
                return Err(PayloadMistake::NotAscii);
            }
            text.into_bytes()
        }
        Format::Json if is_too_deep(text) => return Err(PayloadMistake::TooDeep),
        // The length is looked at before anything is copied.
        Format::Json if text.len() > PAYLOAD_DATA_MAX => return Err(PayloadMistake::TooLong),
        Format::Json => text.as_bytes().to_vec(),
    };
    if data.len() > PAYLOAD_DATA_MAX { Err(PayloadMistake::TooLong) } else { Ok(data) }
}

/// The data as JSON text, without space around it, if it is one JSON value that is not too deep.
fn json_text(data: &[u8]) -> Option<&str> {
    let text = core::str::from_utf8(data).ok()?;
    let is_one_value = serde_json::from_str::<IgnoredAny>(text).is_ok();
    (is_one_value && !is_too_deep(text)).then(|| text.trim_ascii())
}

/// Whether a text that is known to be JSON is nested deeper than [`JSON_DEPTH_MAX`].
pub fn is_too_deep(text: &str) -> bool {
    is_deeper(text, JSON_DEPTH_MAX)
}

/// Whether a text that is known to be JSON has more levels than these; each of them takes two bytes.
pub fn is_deeper(text: &str, levels: usize) -> bool {
    text.len() > 2 * levels && depth(text) > levels
}

/// How deep arrays and objects are nested in a text that is known to be JSON.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                // To the end of the string; a backslash hides the byte behind it.
                while let Some(inside) = bytes.next() {
                    match inside {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// Four bytes a value at most, none of them formatted by the general machinery.
fn write_bytes(out: &mut String, data: &[u8]) {
    let digit = |value: u8| char::from(b'0' + value % 10);
    out.reserve(2 + 4 * data.len());
    out.push('[');
    for (index, byte) in data.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        if *byte >= 100 {
            out.push(digit(byte / 100));
        }
        if *byte >= 10 {
            out.push(digit(byte / 10));
        }
        out.push(digit(*byte));
    }
    out.push(']');
}

/// The string that a JSON text is. The text is known to be JSON, so a string that cannot be read has a
/// lone surrogate.
fn string_of(text: &str) -> Result<String, PayloadMistake> {
    if !text.starts_with('"') {
        return Err(PayloadMistake::NotAString);
    }
    serde_json::from_str(text).map_err(|_| PayloadMistake::LoneSurrogate)
}

/// The bytes of an array. The text is known to be JSON, so what stands between two commas is a whole number if it is digits.
fn bytes_of_array(text: &str) -> Result<Vec<u8>, PayloadMistake> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inner = inner.ok_or(PayloadMistake::NotAnArray)?.as_bytes().trim_ascii();
    let mut bytes = Vec::new();
    if inner.is_empty() {
        return Ok(bytes);
    }
    for digits in inner.split(|byte| *byte == b',') {
        let byte = byte_of(digits.trim_ascii()).ok_or(PayloadMistake::NotAByte(bytes.len()))?;
        if bytes.len() == PAYLOAD_DATA_MAX {
            return Err(PayloadMistake::TooLong);
        }
        bytes.push(byte);
    }
    Ok(bytes)
}

/// The value of one to three digits, if it is at most 255.
fn byte_of(digits: &[u8]) -> Option<u8> {
    if !(1..=3).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0'));
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn read(format: Format, text: &str) -> Result<Vec<u8>, PayloadMistake> {
        from_json(format, &raw(text))
    }

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn each_format_has_its_json() {
        for (format, data, json) in [
            (Format::Binary, &[0, 9, 10, 99, 100, 255][..], "[0,9,10,99,100,255]"),
            (Format::Binary, b"", "[]"),
            (Format::Ascii, b"a\"\\\n\r\t\0\x1f\x7f", "\"a\\\"\\\\\\n\\r\\t\\u0000\\u001f\x7f\""),
            (Format::Utf8, "é\u{1F600}".as_bytes(), "\"é\u{1F600}\""),
            (Format::Json, b"{\"b\":1.50, \"a\":1e400}", "{\"b\":1.50, \"a\":1e400}"),
        ] {
            assert_eq!(to_json(format, data).unwrap(), json);
            assert_eq!(read(format, json).unwrap(), data);
        }
    }

    #[test]
    fn json_numbers_and_spelling_are_handed_on_unchanged() {
        for text in ["123456789012345678901234567890.10", "-0.0", "\"\\u00e9\"", "{\"a\":1,\"a\":2}", "null"]
        {
            assert_eq!(read(Format::Json, text).unwrap(), text.as_bytes());
            assert_eq!(to_json(Format::Json, text.as_bytes()).unwrap(), text);
        }
        assert_eq!(to_json(Format::Json, b" {\"a\": 1}\n").unwrap(), "{\"a\": 1}");
    }

    #[test]
    fn empty_payloads_are_valid_in_every_format() {
        for (format, json) in Format::ALL.into_iter().zip(["[]", "\"\"", "\"\"", "null"]) {
            assert!(is_valid(format, b""));
            assert_eq!(to_json(format, b"").unwrap(), json);
        }
    }

    #[test]
    fn what_is_not_its_format_is_told() {
        for (format, data) in [
            (Format::Ascii, "é".as_bytes()),
            (Format::Utf8, b"\xff"),
            (Format::Utf8, b"\xed\xa0\x80"),
            (Format::Json, b"{"),
            (Format::Json, b"1 2"),
            (Format::Json, b" "),
            (Format::Json, b"NaN"),
            (Format::Json, b"\"\xff\""),
            (Format::Json, nested(129).as_bytes()),
        ] {
            assert!(!is_valid(format, data), "{data:?}");
            assert_eq!(to_json(format, data), Err(NotItsFormat(format)));
        }
    }

    #[test]
    fn byte_values_are_whole_numbers_up_to_255() {
        use PayloadMistake::{NotAByte, NotAnArray};
        for text in ["[1,256]", "[1,-1]", "[1,1.0]", "[1,1.5]", "[1,\"2\"]", "[1,null]", "[1,[2]]", "[1,1e1]"]
        {
            assert_eq!(read(Format::Binary, text), Err(NotAByte(1)), "{text}");
        }
        for text in ["\"AQI=\"", "{}", "7", "null"] {
            assert_eq!(read(Format::Binary, text), Err(NotAnArray), "{text}");
        }
        for text in ["[1,[2,3]]", "[1,\"2,3\"]", "[1,{\"a\":2,\"b\":3}]", "[1,-0]", "[1,1000]", "[1,0.5]"] {
            assert_eq!(read(Format::Binary, text), Err(NotAByte(1)), "{text}");
        }
        assert_eq!(read(Format::Binary, "[ 1 ,\n2 ]").unwrap(), [1, 2]);
        assert_eq!(read(Format::Binary, "[ \n]"), Ok(Vec::new()));
    }

    #[test]
    fn strings_are_strings_with_utf8() {
        assert_eq!(read(Format::Utf8, "[1]"), Err(PayloadMistake::NotAString));
        assert_eq!(read(Format::Ascii, "null"), Err(PayloadMistake::NotAString));
        assert_eq!(read(Format::Ascii, "\"\\u00e9\""), Err(PayloadMistake::NotAscii));
        assert_eq!(read(Format::Utf8, "\"\\ud800\""), Err(PayloadMistake::LoneSurrogate));
        assert_eq!(read(Format::Utf8, "\"\\ud83d\\ude00\"").unwrap(), "\u{1F600}".as_bytes());
    }

    #[test]
    fn depth_is_counted_outside_strings_only() {
        for levels in [60, JSON_DEPTH_MAX] {
            assert_eq!(read(Format::Json, &nested(levels)).unwrap(), nested(levels).as_bytes());
        }
        assert_eq!(read(Format::Json, &nested(JSON_DEPTH_MAX + 1)), Err(PayloadMistake::TooDeep));
        assert_eq!(read(Format::Json, &nested(100_000)), Err(PayloadMistake::TooDeep));
        let brackets = format!("[\"\\\\\",\"\\\"{}\"]", "[{".repeat(200));
        assert_eq!(read(Format::Json, &brackets).unwrap(), brackets.as_bytes());
    }

    #[test]
    fn a_payload_has_at_most_65535_bytes() {
        let bytes = |n: usize| format!("[{}0]", "0,".repeat(n - 1));
        let string = |n: usize| format!("\"{}\"", "x".repeat(n));
        assert_eq!(read(Format::Binary, &bytes(65_535)).unwrap().len(), 65_535);
        assert_eq!(read(Format::Binary, &bytes(65_536)), Err(PayloadMistake::TooLong));
        assert_eq!(read(Format::Ascii, &string(65_535)).unwrap().len(), 65_535);
        assert_eq!(read(Format::Utf8, &string(65_536)), Err(PayloadMistake::TooLong));
        assert_eq!(read(Format::Json, &string(65_533)).unwrap().len(), 65_535);
        assert_eq!(read(Format::Json, &string(65_534)), Err(PayloadMistake::TooLong));
    }

    #[test]
    fn every_mistake_names_the_field() {
        use PayloadMistake as M;
        for mistake in [
            M::NotAnArray,
            M::NotAByte(3),
            M::NotAString,
            M::NotAscii,
            M::LoneSurrogate,
            M::TooDeep,
            M::TooLong,
        ] {
            assert!(mistake.to_string().starts_with("\"Payload\" must "), "{mistake}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(data in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,100}") {
            prop_assert_eq!(&read(Format::Binary, &to_json(Format::Binary, &data).unwrap()).unwrap(), &data);
            let json = to_json(Format::Utf8, text.as_bytes()).unwrap();
            prop_assert_eq!(read(Format::Utf8, &json).unwrap(), text.as_bytes());
        }

        #[test]
        fn what_is_valid_can_be_written_and_the_other_way_round(data in proptest::collection::vec(any::<u8>(), 0..6)) {
            for format in Format::ALL {
                prop_assert_eq!(is_valid(format, &data), to_json(format, &data).is_ok());
            }
        }
    }
}
