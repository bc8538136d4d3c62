//! Signs versions as `minisign -S` does.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use iotsocketd::service::upgrade::blake2b;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::{PROGRAM, Site};

/// Who makes versions.
pub struct Maker {
    key: Ed25519KeyPair,
    id: [u8; 8],
}

impl Maker {
    /// With a key of its own.
    pub fn new(seed: u8) -> Self {
        Self { key: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap(), id: [seed; 8] }
    }

    /// Its versions are taken on this site, and in force after a moment.
    pub fn trusted_by(&self, site: &Site) {
        fs::write(site.path("upgrade.pub"), self.public_key()).unwrap();
        site.set("upgrade", "confirm_after", "\"1s\"");
    }

    /// As minisign writes it.
    pub fn public_key(&self) -> String {
        let key = [b"Ed", self.id.as_slice(), self.key.public_key().as_ref()].concat();
        format!("untrusted comment: x\n{}\n", base64(&key))
    }

    /// The signature of these bytes with a trusted comment.
    pub fn sign(&self, bytes: &[u8], comment: &str) -> String {
        let signature = self.key.sign(&blake2b(bytes));
        let signed = [b"ED", self.id.as_slice(), signature.as_ref()].concat();
        let sealed = self.key.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        let (signed, sealed) = (base64(&signed), base64(sealed.as_ref()));
        format!("untrusted comment: x\n{signed}\ntrusted comment: {comment}\n{sealed}\n")
    }

    /// A version as a file with its signature beside it.
    pub fn version(&self, site: &Site, version: &str, text: &str) -> PathBuf {
        let file = site.path(&format!("version-{version}"));
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        let signature = self.sign(text.as_bytes(), &format!("iotsocketd version:{version}"));
        fs::write(signature_of(&file), signature).unwrap();
        file
    }

    /// Where a new version can be caught: how that is called, and the line of the log that comes then.
    pub const STEPS: [(&str, &str); 5] = [
        ("before its turn", "it started, and finds"),
        ("while the journal goes over", "the journal is closed"),
        ("when it serves", "it serves"),
        ("during its proof", "event=session_open uid=.proof"),
        ("after its proof", "it proved itself"),
    ];

    /// The program, with something that happens once its log has a new line like this; `$me` is its number.
    pub fn sabotaged(&self, site: &Site, version: &str, when: &str, what: &str) -> PathBuf {
        let program = &*PROGRAM;
        let log = site.path("log");
        let log = log.display();
        let script = format!(
            "#!/bin/sh\nme=$$\nseen=$(grep -c '{when}' {log})\n\
             (while [ $(grep -c '{when}' {log}) -le $seen ]; do sleep 0.01; done; {what}) <&- &\n\
             exec {program} \"$@\"\n"
        );
        self.version(site, version, &script)
    }

    /// One that is as good as the running one.
    pub fn good(&self, site: &Site, version: &str) -> PathBuf {
        let program = &*PROGRAM;
        self.version(site, version, &format!("#!/bin/sh\nexec {program} \"$@\"\n"))
    }
}

pub fn signature_of(file: &std::path::Path) -> PathBuf {
    PathBuf::from(format!("{}.minisig", file.display()))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let bits =
            part.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= part.len() { DIGITS[value].into() } else { '=' });
        }
    }
    text
}
