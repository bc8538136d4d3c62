//! Payloads as text: hex and base64.

/// Reads pairs of hex digits of either case.
pub fn hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

/// Reads base64 in its usual or its URL-safe alphabet, with or without padding; nothing else may stand in it.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in digits.bytes() {
        held = held << 6 | digit(byte)?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.extend(u8::try_from(held >> bits));
            held &= (1 << bits) - 1;
        }
    }
    // A digit alone holds no byte, and bits that are left over are zero.
    (bits < 6 && held == 0).then_some(bytes)
}

fn digit(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_of_either_case_in_whole_pairs() {
        assert_eq!(hex("00aBFf"), Some(vec![0, 0xab, 0xff]));
        assert_eq!(hex(""), Some(Vec::new()));
        for wrong in ["0", "0g", "+1", " 00", "00 ", "é0"] {
            assert_eq!(hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn base64_of_both_alphabets_with_or_without_padding() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("AA==", b"\0"),
            ("AA", b"\0"),
            ("AQI=", b"\x01\x02"),
            ("AQID", b"\x01\x02\x03"),
            ("+/-_", &[0xfb, 0xff, 0xbf]),
            ("//////8=", &[0xff; 5]),
        ] {
            assert_eq!(base64(text).as_deref(), Some(bytes), "{text}");
        }
        for wrong in ["A", "A===", "AQI==", "AQID=", "AQID====", "A=Q=", "AB==", "AQJ", "AQ I", "AQI.", "\n"]
        {
            assert_eq!(base64(wrong), None, "{wrong}");
        }
    }
}
