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
    environment: &'static str,
}

impl Versions {
    /// As configured. Nothing is looked at yet.
    pub fn new(config: &Config) -> Self {
        let upgrade = &config.upgrade;
        Self {
            folder: upgrade.dir.clone(),
            public_key_file: upgrade.public_key_file.clone(),
            environment: config.environment.name(),
        }
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
        let mut text = format!("{:.0} version {version}: {reason}\n", Timestamp::now());
        // What a bad version says of itself may be anything.
        while text.len() > TEXT_LEN_MAX {
            text.pop();
        }
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
        signature::verify(file, signature, &String::from_utf8_lossy(&key), self.environment)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::signature::tests::{FILE, KEY, SIGNATURE};
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    /// A folder that is not there yet, and a key beside it.
    fn versions() -> (tempfile::TempDir, Versions) {
        let folder = tempfile::tempdir().unwrap();
        let public_key_file = folder.path().join("upgrade.pub");
        fs::write(&public_key_file, KEY).unwrap();
        let versions =
            Versions { folder: folder.path().join("versions"), public_key_file, environment: "test" };
        (folder, versions)
    }

    fn names(versions: &Versions) -> Vec<String> {
        let entries = fs::read_dir(&versions.folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_version_in_force_is_verified_each_time_it_is_started() {
        let (_folder, versions) = versions();
        let (kept, program) = versions.keep(FILE, SIGNATURE).unwrap();
        assert_eq!(kept, version("1.4.2"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&program), mode(&signature_of(&program))), (0o700, 0o600));
        assert_eq!(versions.to_become(), Ok(None), "it is kept, and not in force");
        versions.set_current(kept).unwrap();
        assert_eq!(versions.to_become(), Ok(Some((kept, program.clone()))));
        fs::write(&program, "something else").unwrap();
        assert!(versions.to_become().unwrap_err().contains("damaged, or forged"));
        // Nobody makes an old one a new one by its name.
        fs::write(versions.program(version("1.5.0")), FILE).unwrap();
        fs::write(signature_of(&versions.program(version("1.5.0"))), SIGNATURE).unwrap();
        fs::write(versions.folder.join(CURRENT), "1.5.0\n").unwrap();
        assert!(versions.to_become().unwrap_err().contains("is version 1.4.2"));
        fs::write(versions.folder.join(CURRENT), "9.9.9\n").unwrap();
        assert!(versions.to_become().unwrap_err().contains("cannot be read"));
        for nothing in ["", "0.0.1\n", "x"] {
            fs::write(versions.folder.join(CURRENT), nothing).unwrap();
            assert_eq!(versions.to_become(), Ok(None), "{nothing:?}");
        }
    }

    #[test]
    fn the_one_before_stays_and_what_is_older_goes() {
        let (_folder, versions) = versions();
        let (kept, _) = versions.keep(FILE, SIGNATURE).unwrap();
        versions.reject(version("1.4.1"), "no good").unwrap_err();
        assert!(versions.rejected().unwrap().ends_with("version 1.4.1: no good"), "its file was gone");
        for name in
            ["iotsocketd-1.3.0", "iotsocketd-1.3.0.minisig", "iotsocketd-1.2.0", "iotsocketd-1.2.0.minisig"]
        {
            fs::write(versions.folder.join(name), "x").unwrap();
        }
        fs::write(versions.folder.join("iotsocketd-1.5.0.part"), "cut by a power failure").unwrap();
        fs::write(versions.folder.join("a note"), "of somebody").unwrap();
        fs::write(versions.folder.join(CURRENT), "1.3.0\n").unwrap();
        versions.set_current(kept).unwrap();
        assert_eq!(
            names(&versions),
            [
                "a note",
                "current",
                "iotsocketd-1.3.0",
                "iotsocketd-1.3.0.minisig",
                "iotsocketd-1.4.2",
                "iotsocketd-1.4.2.minisig"
            ]
        );
        assert_eq!(versions.rejected(), None, "a good one makes an end of it");
    }

    #[test]
    fn what_is_rejected_goes_and_its_reason_stays_however_long() {
        let (_folder, versions) = versions();
        let (kept, _) = versions.keep(FILE, SIGNATURE).unwrap();
        versions.reject(kept, &"é".repeat(TEXT_LEN_MAX)).unwrap();
        assert_eq!(names(&versions), ["rejected"]);
        let told = versions.rejected().unwrap();
        assert!(told.contains("version 1.4.2: ééé"), "{told}");
    }

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let (folder, _) = versions();
        let path = folder.path().join("file");
        fs::write(&path, [7; 100]).unwrap();
        assert_eq!(read_bounded(&path, 100).unwrap().len(), 100);
        assert!(read_bounded(&path, 99).unwrap_err().to_string().contains("larger than 99 bytes"));
    }
}
