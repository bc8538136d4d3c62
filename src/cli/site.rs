//! A folder with a new configuration: its files are made all or none, and never overwritten.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use ring::rand::{SecureRandom, SystemRandom};

use super::Failure;
use crate::hub::access_file::key_to_hex;
use crate::service::config::{Environment, environment_mark};
use crate::wire::{AuthKey, KEY_LEN};

/// Mode of a file that holds no secret.
pub(super) const PUBLIC: u32 = 0o644;
/// Mode of a secret.
pub(super) const SECRET: u32 = 0o600;
/// How long a certificate is valid.
const VALID_YEARS: i32 = 10;
/// The first year that a machine without a clock could be in: nobody runs this program earlier.
const FIRST_YEAR: i32 = 2026;

/// One file to be made.
pub(super) struct NewFile {
    /// Where, from the folder.
    pub path: &'static str,
    /// What is in it.
    pub content: Vec<u8>,
    /// Who may read it.
    pub mode: u32,
}

/// Makes the files in a folder, which is made if missing. If one exists or cannot be made, there are none.
pub(super) fn write(folder: &Path, files: &[NewFile]) -> Result<Vec<PathBuf>, Failure> {
    for file in files {
        let path = folder.join(file.path);
        if path.symlink_metadata().is_ok() {
            let sentence = format!("{} exists already; nothing was written", path.display());
            return Err(Failure::Failed(sentence));
        }
    }
    let mut written = Vec::new();
    for file in files {
        let path = folder.join(file.path);
        if let Err(error) = write_file(&path, file) {
            remove(&written);
            let sentence = format!("{} cannot be written: {error}; nothing was written", path.display());
            return Err(Failure::Failed(sentence));
        }
        written.push(path);
    }
    Ok(written)
}

/// Takes files back that turned out to be of no use.
pub(super) fn remove(written: &[PathBuf]) {
    for path in written {
        // Best effort: the failure that led here is the one to tell.
        let _left = fs::remove_file(path);
    }
}

fn write_file(path: &Path, file: &NewFile) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        // What a state folder will hold is nobody else's business.
        let mode = if file.path.starts_with("state/") { 0o700 } else { 0o755 };
        DirBuilder::new().recursive(true).mode(mode).create(parent)?;
    }
    let mut new = OpenOptions::new().write(true).create_new(true).mode(file.mode).open(path)?;
    let written = new.write_all(&file.content).and_then(|()| new.sync_all());
    written.inspect_err(|_| {
        let _left = fs::remove_file(path);
    })
}

/// A key that nobody can guess.
pub(super) fn fresh_key() -> Result<AuthKey, Failure> {
    loop {
        let key = AuthKey(random::<KEY_LEN>()?);
        if !key.is_weak() {
            return Ok(key);
        }
    }
}

/// Bytes of chance.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Failure::Failed("the system gives no random bytes".to_owned()))?;
    Ok(bytes)
}

/// The text of a secret file that holds a key.
pub(super) fn key_file(environment: Environment, key: &AuthKey) -> Vec<u8> {
    format!("{}\n{}\n", environment_mark(environment), key_to_hex(key)).into_bytes()
}

/// A self-signed certificate (ECDSA P-256) for this machine and loopback, and its private key, both PEM.
pub(super) fn self_signed(environment: Environment) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let failed = |error: rcgen::Error| Failure::Failed(format!("no certificate could be made: {error}"));
    let host = host_name();
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if host != "localhost" {
        names.insert(0, host.clone());
    }
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, host);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Clients whose clock is late must accept it too; a gateway may make it before it knows the time.
    let today = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::now());
    let (year, month) = match i32::from(today.year()) {
        year if year < FIRST_YEAR => (FIRST_YEAR, 1),
        year => (year, u8::try_from(today.month()).unwrap_or(1)),
    };
    params.not_before = rcgen::date_time_ymd(FIRST_YEAR - 2, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + VALID_YEARS, month, 1);
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = format!("{}\n{}", environment_mark(environment), key.serialize_pem());
    Ok((certificate.pem().into_bytes(), key.into_bytes()))
}

/// The machine's name if a certificate can bear it, else `localhost`.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    match (1..=253).contains(&name.len()) && name.bytes().all(plain) {
        true => name.to_owned(),
        false => "localhost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FILES: [(&str, u32); 3] = [("a", PUBLIC), ("sub/b", SECRET), ("state/c", SECRET)];

    fn files() -> Vec<NewFile> {
        FILES.map(|(path, mode)| NewFile { path, content: path.into(), mode }).into()
    }

    #[test]
    fn files_are_made_with_their_modes() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("new");
        assert_eq!(write(&target, &files()).unwrap().len(), 3);
        let mode = |path: &str| fs::metadata(target.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("sub/b"), mode("state/c"), mode("state")), (0o600, 0o600, 0o700));
    }

    #[test]
    fn one_file_that_exists_keeps_all_from_being_made() {
        for (existing, _) in FILES {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(existing);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            // A link to nowhere is in the way too.
            std::os::unix::fs::symlink("/nowhere", &path).unwrap();
            let Err(Failure::Failed(sentence)) = write(folder.path(), &files()) else { panic!() };
            assert!(sentence.starts_with(&format!("{} exists", path.display())), "{sentence}");
            for (other, _) in FILES {
                assert!(other == existing || !folder.path().join(other).exists());
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_made_takes_the_others_back() {
        let folder = tempfile::tempdir().unwrap();
        // A file where a folder is needed.
        fs::write(folder.path().join("state"), "").unwrap();
        assert!(write(folder.path(), &files()).is_err());
        assert!(!folder.path().join("a").exists());
        assert!(!folder.path().join("sub/b").exists());
    }

    #[test]
    fn keys_are_fresh() {
        assert_ne!(fresh_key().unwrap(), fresh_key().unwrap());
    }
}
