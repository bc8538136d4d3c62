//! The files that copies are: made whole or not at all, and told apart by their names.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;

use super::{Good, check};
use crate::service::state::make_folder;

/// What a copy in the making ends with.
const PART: &str = ".part";
/// What copies end with that the program names.
pub(super) const ENDING: &str = ".iotsbackup";
/// Bytes that are written at a time.
const CHUNK: usize = 256 * 1024;
/// As often, in bytes, the medium gets what was written: who commits beside it never waits for more than that.
const SYNC_EACH: u64 = 4 << 20;
/// What backups begin with.
const MAGIC: &[u8] = b"IOTSBKUP";

/// A name by the time of now, for a copy that somebody asked for, in the folder, which is made if it is missing.
pub fn fresh(folder: &Path) -> Result<PathBuf, String> {
    make(folder)?;
    Ok(folder.join(format!("backup-{}{ENDING}", moment(Timestamp::now()))))
}

/// Makes the folder of backups if it is missing.
pub(super) fn make(folder: &Path) -> Result<(), String> {
    if folder.is_dir() {
        return Ok(());
    }
    make_folder(folder)
        .map_err(|error| format!("[backup] dir {}: cannot be made: {error}", folder.display()))?;
    if let Some(parent) = folder.parent().and_then(|parent| parent.metadata().ok()) {
        // Made by root, the service can write into it all the same; anybody else cannot, and need not, give it away.
        let _kept = lchown(folder, Some(parent.uid()), Some(parent.gid()));
    }
    Ok(())
}

/// A time as a part of a name: UTC, to the second, in the order of time.
pub fn moment(time: Timestamp) -> String {
    let text = time.to_string();
    let seconds = text.get(..19).unwrap_or(&text);
    seconds.chars().filter(|c| c.is_ascii_alphanumeric()).chain(['Z']).collect()
}

/// Writes a copy to a new file, reads it back, and only then gives it its name. `tell` is told of each piece, and ends
/// it by saying `false`.
pub fn keep(
    file: &Path,
    bytes: &mut dyn Read,
    len: u64,
    tell: impl FnMut(u64) -> bool,
) -> Result<Good, String> {
    keep_if(file, bytes, len, tell, check)
}

/// The same with another proof that what was written is good; it is made before the file has its name.
pub(super) fn keep_if(
    file: &Path,
    bytes: &mut dyn Read,
    len: u64,
    tell: impl FnMut(u64) -> bool,
    prove: impl FnOnce(&Path) -> Result<Good, String>,
) -> Result<Good, String> {
    let mut part = file.as_os_str().to_owned();
    part.push(PART);
    let part = PathBuf::from(part);
    let kept = write(&part, bytes, len, tell)
        .map_err(|error| match error.kind() {
            ErrorKind::Interrupted => "interrupted; nothing was written".to_owned(),
            _ => format!("{} cannot be written: {error}", file.display()),
        })
        .and_then(|()| prove(&part))
        .and_then(|good| {
            let named = fs::rename(&part, file).and_then(|()| {
                let folder = file.parent().filter(|parent| *parent != Path::new(""));
                File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
            });
            named.map_err(|error| format!("{} cannot be written: {error}", file.display()))?;
            Ok(good)
        });
    if kept.is_err() {
        // It may not even be there.
        let _left = fs::remove_file(&part);
    }
    kept
}

fn write(part: &Path, bytes: &mut dyn Read, len: u64, mut tell: impl FnMut(u64) -> bool) -> io::Result<()> {
    match fs::remove_file(part) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
    let (mut chunk, mut done) = (vec![0; CHUNK], 0);
    loop {
        let read = match bytes.read(&mut chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        };
        if read == 0 {
            break;
        }
        file.write_all(chunk.get(..read).unwrap_or_default())?;
        done += read as u64;
        if done / SYNC_EACH != (done - read as u64) / SYNC_EACH {
            file.sync_data()?;
        }
        if !tell(done) {
            return Err(ErrorKind::Interrupted.into());
        }
    }
    if done != len {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "the concentrator stopped in the middle of it"));
    }
    file.sync_all()
}

/// The backup that was written last.
pub fn newest(folder: &Path) -> Result<PathBuf, String> {
    let failed = |error: io::Error| format!("[backup] dir {}: cannot be read: {error}", folder.display());
    let none = || format!("[backup] dir {}: there is no backup in it", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(none()),
        entries => entries.map_err(failed)?,
    };
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let is_part = path.to_string_lossy().ends_with(PART);
        let Ok(modified) = path.metadata().and_then(|metadata| metadata.modified()) else { continue };
        let mut start = [0; MAGIC.len()];
        let is_backup = File::open(&path).and_then(|mut file| file.read_exact(&mut start)).is_ok();
        if !is_part && is_backup && start == MAGIC && newest.as_ref().is_none_or(|(time, _)| *time < modified)
        {
            newest = Some((modified, path));
        }
    }
    newest.map(|(_, path)| path).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_names_in_the_order_of_time() {
        let name = |text: &str| moment(text.parse().unwrap());
        assert_eq!(name("2026-11-27T03:15:00.25Z"), "20261127T031500Z");
        assert_eq!(name("2026-11-27T03:15:00+01:00"), "20261127T021500Z");
        assert!(name("2026-12-01T00:00:00Z") > name("2026-11-30T23:59:59Z"));
    }
}
