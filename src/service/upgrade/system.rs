//! A whole new system, for the slot that does not run: verified before it is written, and once more as it lies on the medium
//! before it is tried.
//!
//! The file is the slot, byte by byte: a FAT file system with kernel, initrd and root (`board/build` says what lies in it).
//! Which partition that is, and how the next start is one on trial, knows a script of the image ([`HELPER`]); the starts are
//! counted by U-Boot (`board/boot.cmd`). RAUC was the other way: it brings bundles of its own with certificates (openssl,
//! GLib and D-Bus), and would still need the same script for U-Boot's state. What is left to do is this file, with the key
//! that programs are signed with.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::process::Command;

use super::blake2b::Blake2b;
use super::signature::{Signed, Version, verify_digest};

/// Knows the machine's two slots.
pub const HELPER: &str = "/usr/lib/iotsocketd/slot";

/// Bytes that are read or written at once.
const CHUNK: usize = 1 << 20;

/// The machine, as its script tells.
#[derive(Debug)]
pub struct Machine<'a> {
    /// The script: [`HELPER`].
    pub helper: &'a Path,
    /// What the installation is for.
    pub environment: &'a str,
}

impl Machine<'_> {
    /// Writes a signed system into the other slot, and lets the next start be one on trial. What runs stays as it is.
    pub fn install(
        &self,
        image: &Path,
        signature: &str,
        public_key: &str,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), String> {
        let mut file = File::open(image).map_err(|error| cannot("read", image, &error))?;
        let read = |error| cannot("read", image, &error);
        let (digest, len) = digest(&mut file, u64::MAX).map_err(read)?;
        let Signed { version, board } = verify_digest(&digest, signature, public_key, self.environment)?;
        let board = board.ok_or("it is a program and no system")?;
        let facts = self.ask(&["facts"])?;
        let mut facts = facts.lines();
        let mut fact = || facts.next().ok_or_else(|| format!("{} is cut", self.helper.display()));
        let (ours, running, slot) = (fact()?, fact()?, Path::new(fact()?));
        if ours != board {
            return Err(format!("it is the system of {board}, and this machine is {ours}"));
        }
        let running = Version::parse(running).unwrap_or(Version::NONE);
        if version <= running {
            return Err(format!("system {version} is not newer than {running}, which runs"));
        }
        say(&format!("system {version} is signed, newer, and for this machine"));
        let mut file = File::open(image).map_err(read)?;
        write(&mut file, slot).map_err(|error| cannot("write", slot, &error))?;
        // What is read back comes from the medium.
        self.ask(&["flush"])?;
        let read = |error| cannot("read", slot, &error);
        let mut written = File::open(slot).map_err(read)?;
        let (written, _) = self::digest(&mut written, len).map_err(read)?;
        if written != digest {
            return Err(format!(
                "{} does not hold what was written to it: the medium is failing, or the file was changed meanwhile. Nothing else was changed",
                slot.display()
            ));
        }
        say("it is written, and was read back");
        self.ask(&["try", &version.to_string()])?;
        Ok(())
    }

    /// Restarts the machine.
    pub fn restart(&self) -> Result<(), String> {
        self.ask(&["restart"]).map(drop)
    }

    fn ask(&self, words: &[&str]) -> Result<String, String> {
        let output = Command::new(self.helper).args(words).output();
        let output = output.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                "this machine has no second slot for a system: it does not run from an image".to_owned()
            }
            _ => format!("{}: {error}", self.helper.display()),
        })?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }
}

fn cannot(act: &str, path: &Path, error: &io::Error) -> String {
    format!("{}: cannot {act} it: {error}", path.display())
}

/// The digest of so many bytes at most, and how many there were.
fn digest(from: &mut impl Read, max: u64) -> io::Result<([u8; 64], u64)> {
    let mut digested = Blake2b::new();
    let len = each_chunk(&mut from.take(max), |bytes| {
        digested.add(bytes);
        Ok(())
    })?;
    Ok((digested.finish(), len))
}

fn write(from: &mut File, slot: &Path) -> io::Result<()> {
    let mut slot = OpenOptions::new().write(true).open(slot)?;
    each_chunk(from, |bytes| slot.write_all(bytes))?;
    slot.sync_all()
}

fn each_chunk(from: &mut impl Read, mut then: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut len = 0;
    loop {
        let bytes = match from.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => chunk.get(..read?).unwrap_or_default(),
        };
        if bytes.is_empty() {
            return Ok(len);
        }
        then(bytes)?;
        len += bytes.len() as u64;
    }
}
