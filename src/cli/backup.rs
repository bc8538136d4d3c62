//! `backup`, `verify`, `restore`: copies of everything, each one file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use super::arguments::Arguments;
use super::progress::Progress;
use super::table::grouped;
use super::{Failure, maintenance_client, output};
use crate::service::backup::{self, Good};

pub(super) const SUMMARY: &str = "a copy of everything in one file, also of a running concentrator";
pub(super) const HELP: &str = "\
Usage: iotsocketd backup FILE [--config FILE]

Copies the journal, the tokens in it and the access list into one new file, for its owner only; it
appears when all is in it and was read back. Of a running concentrator it is what is on flash now.
The file holds keys: keep it like one. The configuration and its secrets are not in it.

Options:
  --config FILE  the configuration that it runs with [default: /etc/iotsocketd/iotsocketd.toml]

Example:
  iotsocketd backup /mnt/stick/monday.iotsbackup
";

pub(super) const VERIFY_SUMMARY: &str = "shows that a backup can be restored";
pub(super) const VERIFY_HELP: &str = "\
Usage: iotsocketd verify [FILE] [--config FILE]

Restores a backup into a folder beside it, reads every record of it, compares counts and checksums,
and takes the folder away again. Without FILE: the newest one in [backup] dir.

Options:
  --config FILE  the configuration that it runs with [default: /etc/iotsocketd/iotsocketd.toml]

Example:
  iotsocketd verify /mnt/stick/monday.iotsbackup
";

pub(super) const RESTORE_SUMMARY: &str = "makes the state folder out of a backup";
pub(super) const RESTORE_HELP: &str = "\
Usage: iotsocketd restore FILE [--config FILE]

Makes the state folder of the configuration out of a backup. The folder must be empty or missing;
interrupted, it still is. Numbers of messages go on with a gap, because some behind the backup may
have been given away; what was delivered since the backup was made is delivered again.

Options:
  --config FILE  the configuration that it will run with [default: /etc/iotsocketd/iotsocketd.toml]

Example:
  iotsocketd restore /mnt/stick/monday.iotsbackup
";

/// What a copy in the making ends with.
const PART: &str = ".part";
/// Bytes that are written at a time.
const CHUNK: usize = 256 * 1024;
/// What backups begin with.
const MAGIC: &[u8] = b"IOTSBKUP";

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 1, &["config"])?;
    let file =
        PathBuf::from(arguments.words.first().ok_or_else(|| Failure::Usage("into which file?".to_owned()))?);
    if file.symlink_metadata().is_ok() {
        return Err(Failure::Failed(format!("{} exists already; nothing was written", file.display())));
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    output::interrupt_by_signal(&interrupted)?;
    let sockets = maintenance_client::sockets(&arguments.config_path());
    let running = maintenance_client::open(&sockets, "/v1/backup").map_err(Failure::Failed)?;
    let (len, mut bytes) = match running {
        Some((len, stream)) => (len, Box::new(stream) as Box<dyn Read>),
        None => {
            let stream = backup::of_stopped(&arguments.config()?).map_err(Failure::Failed)?;
            (stream.len, stream.bytes as Box<dyn Read>)
        }
    };
    let mut progress = Progress::new();
    let kept = keep(&file, &mut bytes, len, |done| {
        progress.say(|| format!("{} of {} bytes", grouped(done), grouped(len)));
        !interrupted.load(Ordering::Relaxed)
    });
    progress.clear();
    let good = kept.map_err(Failure::Failed)?;
    output::say(&describe(&file, &good));
    Ok(())
}

pub(super) fn run_verify(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 1, &["config"])?;
    let file = match arguments.words.first() {
        Some(file) => PathBuf::from(file),
        None => newest(&arguments.config()?.backup.dir).map_err(Failure::Failed)?,
    };
    let good = backup::verify(&file).map_err(Failure::Failed)?;
    output::say(&describe(&file, &good));
    Ok(())
}

pub(super) fn run_restore(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 1, &["config"])?;
    let file =
        PathBuf::from(arguments.words.first().ok_or_else(|| Failure::Usage("from which file?".to_owned()))?);
    let config = arguments.config()?;
    let good = backup::restore(&file, &config).map_err(Failure::Failed)?;
    output::say(&describe(&config.state_dir, &good));
    Ok(())
}

/// Writes a copy to a new file, reads it back, and only then gives it its name. `tell` is told of each piece, and ends
/// it by saying `false`.
fn keep(file: &Path, bytes: &mut dyn Read, len: u64, tell: impl FnMut(u64) -> bool) -> Result<Good, String> {
    let mut part = file.as_os_str().to_owned();
    part.push(PART);
    let part = PathBuf::from(part);
    let kept = write(&part, bytes, len, tell)
        .map_err(|error| match error.kind() {
            ErrorKind::Interrupted => "interrupted; nothing was written".to_owned(),
            _ => format!("{} cannot be written: {error}", file.display()),
        })
        .and_then(|()| backup::check(&part))
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
fn newest(folder: &Path) -> Result<PathBuf, String> {
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

fn describe(place: &Path, good: &Good) -> String {
    let Good { journal, objects, .. } = good;
    let last = journal.next_seq.saturating_sub(1);
    format!(
        "{}: {} messages up to number {last}, {} objects in the access list",
        place.display(),
        grouped(journal.messages),
        grouped(*objects as u64)
    )
}
