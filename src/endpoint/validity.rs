//! When a certificate ends: the one field of X.509 that the listeners have to know.

use jiff::Timestamp;

const SEQUENCE: u8 = 0x30;
/// The explicit tag of the version, which the oldest certificates do not have.
const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Two digits of a year below this belong to the 21st century (RFC 5280).
const CENTURY: &str = "50";

/// The last moment of a certificate (DER); `None`: it cannot be read.
pub fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, behind)) = expect(rest, VERSION) {
        rest = behind;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (validity, _) = expect(rest, SEQUENCE)?;
    let (_, _, behind_not_before) = element(validity)?;
    let (tag, text, _) = element(behind_not_before)?;
    time(tag, str::from_utf8(text).ok()?)
}

/// The first element: its tag, its content, and what is behind it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        // Two bytes of length are 64 KiB: more than any certificate.
        0x81..=0x82 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, behind) = rest.split_at_checked(length)?;
    Some((tag, content, behind))
}

/// The same, if the tag is this one: content and what is behind.
fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, behind)| (content, behind))
}

/// "YYMMDDHHMMSSZ" or "YYYYMMDDHHMMSSZ".
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let full = match tag {
        UTC_TIME => format!("{}{digits}", if digits < CENTURY { "20" } else { "19" }),
        GENERALIZED_TIME => digits.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| full.get(from..to);
    if full.len() != 14 {
        return None;
    }
    let (date, clock) = (
        [part(0, 4)?, part(4, 6)?, part(6, 8)?].join("-"),
        [part(8, 10)?, part(10, 12)?, part(12, 14)?].join(":"),
    );
    format!("{date}T{clock}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    fn ends(year: i32) -> Option<String> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 3, 14);
        not_after(params.self_signed(&key).unwrap().der()).map(|end| end.to_string())
    }

    #[test]
    fn both_kinds_of_time_are_read() {
        assert_eq!(ends(2027).as_deref(), Some("2027-03-14T00:00:00Z"));
        assert_eq!(ends(2049).as_deref(), Some("2049-03-14T00:00:00Z"));
        assert_eq!(ends(2050).as_deref(), Some("2050-03-14T00:00:00Z"));
        assert_eq!(ends(1999).as_deref(), Some("1999-03-14T00:00:00Z"));
    }

    #[test]
    fn version_1_has_an_end_too() {
        let pem = include_bytes!("../../tests/fixtures/x509-v1.crt");
        assert!(not_after(&CertificateDer::from_pem_slice(pem).unwrap()).is_some());
    }

    #[test]
    fn what_is_cut_or_changed_is_no_certificate_and_no_panic() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let der = made.cert.der().to_vec();
        assert!(not_after(&der).is_some());
        for length in 0..der.len() {
            assert_eq!(not_after(&der[..length]), None);
        }
        for at in 0..der.len() {
            let mut changed = der.clone();
            changed[at] ^= 0xFF;
            let _any = not_after(&changed);
        }
    }
}
