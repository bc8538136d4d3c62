//! Signatures of minisign (`minisign -S`): Ed25519 over the BLAKE2b of the file, and over the signature with its trusted
//! comment, which says the version, of a whole system the board, and of what is not for all environments which it is for.

use std::fmt;

use ring::signature::{ED25519, UnparsedPublicKey};

use super::blake2b::blake2b;
use crate::ingest::base64;

/// What public keys begin with.
const OF_KEYS: &[u8; 2] = b"Ed";
/// What signatures over a digest begin with.
const OF_DIGESTS: &[u8; 2] = b"ED";
const KEY_ID_LEN: usize = 8;
const SIGNATURE_LEN: usize = 64;
/// Stands before the version in the trusted comment.
const VERSION: &str = "version:";
/// Stands before the board in the trusted comment of a whole system.
const SYSTEM: &str = "system:";
/// Stands before the environment that it may run in, in the trusted comment of what is not for all.
const ENVIRONMENT: &str = "environment:";
const TRUSTED: &str = "trusted comment: ";

/// A version: three numbers with dots, older before newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u32; 3]);

impl Version {
    /// Older than all others.
    pub const NONE: Self = Self([0; 3]);

    /// Reads "1.2.3", and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| {
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| part.parse().ok())?
        });
        let version = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(Self(version))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// What was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Its version.
    pub version: Version,
    /// The board that it is the whole system of; `None`: it is a program.
    pub board: Option<String>,
}

/// Whether a signature says that it is of a whole system. It may lie.
pub fn claims_system(signature: &str) -> bool {
    signature.lines().any(|line| {
        let comment = line.strip_prefix(TRUSTED);
        comment.is_some_and(|comment| comment.split_whitespace().any(|word| word.starts_with(SYSTEM)))
    })
}

/// Sees that a program was signed with the key, and tells its version. The sentence says what is wrong.
pub fn verify(file: &[u8], signature: &str, public_key: &str, environment: &str) -> Result<Version, String> {
    let signed = verify_digest(&blake2b(file), signature, public_key, environment)?;
    match signed.board {
        None => Ok(signed.version),
        Some(board) => Err(format!("it is a whole system for {board} and no program")),
    }
}

/// The same of anything, by its digest.
pub fn verify_digest(
    digest: &[u8; 64],
    signature: &str,
    public_key: &str,
    environment: &str,
) -> Result<Signed, String> {
    let key = decode::<{ 2 + KEY_ID_LEN + 32 }>(public_key.lines().nth(1))
        .filter(|key| key.starts_with(OF_KEYS))
        .ok_or("[upgrade] public_key_file is no public key of minisign: two lines, a comment and the key")?;
    let mut lines = signature.lines().skip(1);
    let signed = decode::<{ 2 + KEY_ID_LEN + SIGNATURE_LEN }>(lines.next());
    let comment = lines.next().and_then(|line| line.strip_prefix(TRUSTED));
    let sealed = decode::<SIGNATURE_LEN>(lines.next());
    let ((signed, comment), sealed) =
        signed.zip(comment).zip(sealed).ok_or("the signature is none of minisign, or it is cut")?;
    let word = |name| comment.split_whitespace().find_map(|word| word.strip_prefix(name));
    // Before anything else: another environment often has another key, and a claim that leads to a refusal may be a lie.
    if let Some(theirs) = word(ENVIRONMENT).filter(|theirs| *theirs != environment) {
        return Err(format!(
            "it is for environment \"{}\", and this is \"{environment}\": take what was signed for it",
            theirs.escape_debug()
        ));
    }
    if !signed.starts_with(OF_DIGESTS) {
        return Err("the signature is of the old kind: sign with a newer minisign, without -l".to_owned());
    }
    let (signed_by, signature) = signed[2..].split_at(KEY_ID_LEN);
    let (key_id, key) = key[2..].split_at(KEY_ID_LEN);
    if signed_by != key_id {
        return Err("it was signed with another key than that of [upgrade] public_key_file".to_owned());
    }
    let key = UnparsedPublicKey::new(&ED25519, key);
    key.verify(digest, signature)
        .map_err(|_| "the signature is not of this file: it is damaged, or forged")?;
    key.verify(&[signature, comment.as_bytes()].concat(), &sealed)
        .map_err(|_| "the trusted comment of the signature was changed")?;
    let version = word(VERSION).and_then(Version::parse).ok_or_else(|| {
        "the signature names no version: sign with `-t version:1.2.3` and the version's numbers".to_owned()
    })?;
    Ok(Signed { version, board: word(SYSTEM).map(str::to_owned) })
}

fn decode<const N: usize>(line: Option<&str>) -> Option<[u8; N]> {
    base64(line?.trim())?.try_into().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    // Made by minisign 0.11 with `-S -t 'iotsocketd version:1.4.2'` over a file with these bytes.
    pub const FILE: &[u8] = b"a new version\n";
    pub const KEY: &str = "untrusted comment: minisign public key 4BB3BBA55BB13F50\n\
        RWRQP7FbpbuzSw0D5YRObf0d1x2vCIcm5gY26L3w70Tx/641vf32p6UE\n";
    pub const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
        RURQP7FbpbuzS/Ys/HqWe6tVM8Dk+xh6Qe7GDSC8HkzZfDzxS3WbGQAkTCynsT1/nX59IBtngL5SvUHQ8Wu5jPGEIgCzHfY8MAc=\n\
        trusted comment: iotsocketd version:1.4.2\n\
        RWqq2qk10sfqE/1yxysRLPkXSU0syK+e8f3j4zweRDM/RSV9iq6dx8DpqKlLVVjt/7LoRpwVeRnvudEiE0bxDw==\n";
    /// By another key.
    const OTHER: &str = "untrusted comment: signature from minisign secret key\n\
        RURjcT1m7AmnlT9Fy02u/h25CbHAshAwW5gDI85gR/DQ43krXnVC+AlWfgMS5NYsKeu5KaEiDG0UZA5OsrQ1rYkwRw4Qa6fbTwA=\n\
        trusted comment: version:1.4.2\n\
        e0wHcbnUcor0JHiygJXHp+sljoJvFNi8EnVEMXgTGOJIBz4ELI+PSq5AU+qDutR/lVfzRU1utTe3ktgm+4svAA==\n";
    /// With `-l`.
    const OLD_KIND: &str = "untrusted comment: signature from minisign secret key\n\
        RWRQP7FbpbuzS/2yATAAQfQ5k4XDaDVGjdECzrw4x5EQli6rpOKocPkdop4DmJ9w6jK2JG3IGuIxRkZgvCgfjdj0ag2UCop3KAY=\n\
        trusted comment: version:1.4.2\n\
        qH3W9a7R6CucDOm9kvtGFsrn6B39ZOCXhh4fIIY34a8ae/0YUTxS7ChtwTnUpWaK9xPDQ5C9E/DhbsFc2sgUBg==\n";
    /// Without `-t`.
    const NO_VERSION: &str = "untrusted comment: signature from minisign secret key\n\
        RURQP7FbpbuzS/Ys/HqWe6tVM8Dk+xh6Qe7GDSC8HkzZfDzxS3WbGQAkTCynsT1/nX59IBtngL5SvUHQ8Wu5jPGEIgCzHfY8MAc=\n\
        trusted comment: timestamp:1795788837\tfile:f\thashed\n\
        szxGZz6NP76V0RcAvOnzTyMOzUlIYpdzb4Sm2atb2p5cTjOhSGMvKdd6ld8oV901QpewNbp3+3BlJOADGbseDA==\n";

    #[test]
    fn versions_are_three_numbers_and_have_an_order() {
        let version = |text| Version::parse(text).unwrap();
        assert!(version("0.9.10") > version("0.9.9") && version("1.0.0") > version("0.99.99"));
        assert_eq!(version("10.20.30").to_string(), "10.20.30");
        for wrong in ["", "1", "1.2", "1.2.3.4", "1.2.x", "1..3", " 1.2.3", "+1.2.3", "1.2.99999999999"] {
            assert_eq!(Version::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_minisign_signed_is_believed() {
        assert_eq!(verify(FILE, SIGNATURE, KEY, "test"), Ok(Version([1, 4, 2])));
        assert_eq!(verify(FILE, &SIGNATURE.replace('\n', "\r\n"), KEY, "test"), Ok(Version([1, 4, 2])));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let refused =
            |file: &[u8], signature: &str, key: &str| verify(file, signature, key, "test").unwrap_err();
        assert!(refused(b"a new versioN\n", SIGNATURE, KEY).contains("damaged, or forged"));
        assert!(refused(b"", SIGNATURE, KEY).contains("damaged, or forged"));
        assert!(refused(FILE, OTHER, KEY).contains("another key"));
        assert!(refused(FILE, OLD_KIND, KEY).contains("old kind"));
        assert!(refused(FILE, NO_VERSION, KEY).contains("names no version"));
        assert!(refused(FILE, &SIGNATURE.replace("1.4.2", "9.4.2"), KEY).contains("was changed"));
        for wrong in ["", "x\ny", SIGNATURE] {
            assert!(refused(FILE, SIGNATURE, wrong).contains("no public key"), "{wrong}");
        }
        for lines in 0..4 {
            let cut: Vec<_> = SIGNATURE.lines().take(lines).collect();
            assert!(refused(FILE, &cut.join("\n"), KEY).contains("cut"), "{lines} lines");
        }
    }

    #[test]
    fn no_bit_of_a_signature_can_be_changed() {
        for line in [1, 3] {
            let lines: Vec<&str> = SIGNATURE.lines().collect();
            for at in 0..lines[line].len() {
                let mut bytes = lines[line].as_bytes().to_vec();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(bytes).unwrap();
                let signature = SIGNATURE.replace(lines[line], &changed);
                assert!(verify(FILE, &signature, KEY, "test").is_err(), "line {line}, letter {at}");
            }
        }
    }
}
