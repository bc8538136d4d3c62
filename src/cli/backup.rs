//! `backup`, `verify`, `restore`: copies of everything, each one file.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::arguments::Arguments;
use super::progress::Progress;
use super::table::grouped;
use super::{Failure, maintenance_client, output};
use crate::service::backup::{self, Good, file};
use crate::service::config::Places;

pub(super) const SUMMARY: &str = "a copy of everything in one file, also of a running concentrator";
pub(super) const HELP: &str = "\
Usage: iotsocketd backup [FILE] [--config FILE]

Copies the journal, the tokens in it and the access list into one new file, for its owner only; it
appears when all is in it and was read back. Of a running concentrator it is what is on flash now.
Without FILE it gets a name by the time and lies in [backup] dir, where it stays until somebody
takes it away: only those of every night make room for newer ones. The file holds keys: keep it
like one. The configuration and its secrets are not in it.

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

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 1, &["config"])?;
    let file = match arguments.words.first() {
        Some(file) => PathBuf::from(file),
        None => file::fresh(&arguments.config()?.backup.dir).map_err(Failure::Failed)?,
    };
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
    let kept = file::keep(&file, &mut bytes, len, |done| {
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
        None => {
            // Secrets and all else are none of its business.
            let places = Places::read(&arguments.config_path()).map_err(Failure::Failed)?;
            file::newest(&places.backups).map_err(Failure::Failed)?
        }
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
