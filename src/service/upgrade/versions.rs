//! The folder of versions: what was uploaded and verified, which of them is in force, and why one was rejected.
//!
//! `iotsocketd-1.2.3` and its `.minisig`; `current` names the one that the service becomes when it starts; `rejected` says
//! which one went back, when and why. A file gets its name when all of it is on the medium.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::signature::{self, Version};
use crate::service::config::Config;

/// Bytes of a version at most.
pub const VERSION_LEN_MAX: usize = 32 << 20;
/// Bytes of a key, a signature or a reason at most.
pub const TEXT_LEN_MAX: usize = 8 << 10;
/// Says to a process which version of the folder it is.
pub const RUNNING: &str = "IOTSOCKETD_VERSION";

const PROGRAM: &str = "iotsocketd-";
const SIGNATURE: &str = ".minisig";
const PART: &str = ".part";
const CURRENT: &str = "current";
const REJECTED: &str = "rejected";

/// The folder of one configuration.
#[derive(Debug, Clone)]
pub struct Versions {
    folder: PathBuf,
    public_key_file: PathBuf,
}

impl Versions {
    /// As configured. Nothing is looked at yet.
    pub fn new(config: &Config) -> Self {
        let upgrade = &config.upgrade;
        Self { folder: upgrade.dir.clone(), public_key_file: upgrade.public_key_file.clone() }
    }

    /// Keeps a version that is signed and newer than the one that runs; gives its file.
    pub fn keep(&self, file: &[u8], signature: &str) -> Result<(Version, PathBuf), String> {
        let version = self.verify(file, signature)?;
        let running = running();
        if version <= running {
            return Err(format!("version {version} is not newer than {running}, which runs"));
        }
        let failed = |error: io::Error| format!("[upgrade] dir {}: {error}", self.folder.display());
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let program = self.program(version);
        self.write(&signature_of(&program), signature.as_bytes(), 0o600).map_err(failed)?;
        self.write(&program, file, 0o700).map_err(failed)?;
        Ok((version, program))
    }

    /// The version that this process should become: the one in force, if it is newer. It is verified again.
    pub fn to_become(&self) -> Result<Option<(Version, PathBuf)>, String> {
        let Some(version) = self.current() else { return Ok(None) };
        if std::env::var_os(RUNNING).is_some() || version <= running() {
            return Ok(None);
        }
        let program = self.program(version);
        let read = |path: &Path, max| {
            read_bounded(path, max).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
        };
        let file = read(&program, VERSION_LEN_MAX)?;
        let signature = read(&signature_of(&program), TEXT_LEN_MAX)?;
        let signed = self.verify(&file, &String::from_utf8_lossy(&signature));
        match signed.map_err(|sentence| format!("{}: {sentence}", program.display()))? {
            signed if signed == version => Ok(Some((version, program))),
            signed => Err(format!("{} is version {signed}", program.display())),
        }
    }

    /// From now on the service becomes this version when it starts. What is neither this nor the one before is deleted.
    pub fn set_current(&self, version: Version) -> io::Result<()> {
        let before = self.current();
        self.write(&self.folder.join(CURRENT), format!("{version}\n").as_bytes(), 0o600)?;
        self.forget(REJECTED)?;
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            let of = name.strip_prefix(PROGRAM).map(|rest| rest.trim_end_matches(SIGNATURE));
            if of.is_some_and(|of| {
                let of = Version::parse(of);
                of.is_none() || (of != Some(version) && of != before)
            }) {
                self.forget(&name)?;
            }
        }
        Ok(())
    }

    /// This version is no good: its file goes, the reason stays.
    pub fn reject(&self, version: Version, reason: &str) -> io::Result<()> {
        let text = format!("{:.0} version {version}: {reason}\n", Timestamp::now());
        self.write(&self.folder.join(REJECTED), text.as_bytes(), 0o600)?;
        let program = self.program(version);
        fs::remove_file(&program)?;
        fs::remove_file(signature_of(&program))
    }

    /// When and why a version was rejected, if none was taken since.
    pub fn rejected(&self) -> Option<String> {
        let text = read_bounded(&self.folder.join(REJECTED), TEXT_LEN_MAX).ok()?;
        Some(String::from_utf8_lossy(&text).trim().to_owned())
    }

    fn verify(&self, file: &[u8], signature: &str) -> Result<Version, String> {
        let key = read_bounded(&self.public_key_file, TEXT_LEN_MAX).map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!(
                "no version is taken: [upgrade] public_key_file {} is missing; put the public key there that signs them",
                self.public_key_file.display()
            ),
            _ => format!("[upgrade] public_key_file {}: cannot be read: {error}", self.public_key_file.display()),
        })?;
        signature::verify(file, signature, &String::from_utf8_lossy(&key))
    }

    fn current(&self) -> Option<Version> {
        let text = read_bounded(&self.folder.join(CURRENT), TEXT_LEN_MAX).ok()?;
        Version::parse(str::from_utf8(&text).ok()?.trim())
    }

    fn program(&self, version: Version) -> PathBuf {
        self.folder.join(format!("{PROGRAM}{version}"))
    }

    fn forget(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// A file that is there whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut part = path.as_os_str().to_owned();
        part.push(PART);
        let part = PathBuf::from(part);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&part, path)?;
        File::open(&self.folder)?.sync_all()
    }
}

/// The version of this process.
pub fn running() -> Version {
    let told = std::env::var(RUNNING).ok().and_then(|text| Version::parse(&text));
    told.or_else(|| Version::parse(env!("CARGO_PKG_VERSION"))).unwrap_or(Version::NONE)
}

fn signature_of(program: &Path) -> PathBuf {
    let mut path = program.as_os_str().to_owned();
    path.push(SIGNATURE);
    path.into()
}

/// A file of so many bytes at most.
pub fn read_bounded(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("it is larger than {max} bytes")));
    }
    Ok(bytes)
}
