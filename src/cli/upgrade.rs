//! `upgrade`: a newer version takes over while the concentrator runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::arguments::Arguments;
use super::{Failure, maintenance_client, output};
use crate::endpoint::maintenance::{UPGRADE_DONE, UPGRADE_FAILED, UPGRADE_PATH, UPGRADE_STEP};
use crate::service::upgrade::{TEXT_LEN_MAX, VERSION_LEN_MAX, encode_upload, read_bounded};

pub(super) const SUMMARY: &str = "puts a newer, signed version in the place of the running one";
pub(super) const HELP: &str = "\
Usage: iotsocketd upgrade FILE [--config FILE]

Hands a new version to the running concentrator. FILE.minisig must lie beside it: its signature by
the key of [upgrade] public_key_file, with its version (minisign -S -m FILE -t version:1.2.3). The
version takes over on the same sockets, shows that it works, and is in force when it held for
[upgrade] confirm_after; else the one before is back by itself. Prints each step and the verdict.

Options:
  --config FILE  the configuration that it runs with [default: /etc/iotsocketd/iotsocketd.toml]

Example:
  iotsocketd upgrade ./iotsocketd-1.2.3
";

/// No step takes longer, but for the confirmation, which the configuration says.
const TIMEOUT: Duration = Duration::from_secs(90);
/// What the name of a signature ends with.
const SIGNATURE: &str = ".minisig";

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 1, &["config"])?;
    let word = arguments.words.first().ok_or_else(|| Failure::Usage("which file?".to_owned()))?;
    let mut signature = word.clone();
    signature.push(SIGNATURE);
    let read = |path: &Path, max| {
        read_bounded(path, max)
            .map_err(|error| Failure::Failed(format!("{}: cannot be read: {error}", path.display())))
    };
    let file = read(Path::new(word), VERSION_LEN_MAX)?;
    let signature = read(&PathBuf::from(signature), TEXT_LEN_MAX)?;
    let sockets = maintenance_client::sockets(&arguments.config_path());
    let confirm_after = arguments.config().map(|config| config.upgrade.confirm_after).unwrap_or_default();
    let mut verdict = None;
    let body = encode_upload(&signature, &file);
    maintenance_client::upload(&sockets, UPGRADE_PATH, &body, TIMEOUT + confirm_after, |line| {
        if let Some(step) = line.strip_prefix(UPGRADE_STEP) {
            output::say(step);
        } else if let Some(done) = line.strip_prefix(UPGRADE_DONE) {
            verdict = Some(Ok(done.to_owned()));
        } else if let Some(why) = line.strip_prefix(UPGRADE_FAILED) {
            verdict = Some(Err(why.to_owned()));
        }
    })
    .map_err(Failure::Failed)?;
    match verdict {
        Some(Ok(done)) => {
            output::say(&done);
            Ok(())
        }
        Some(Err(why)) => Err(Failure::Failed(why)),
        None => Err(Failure::Failed(
            "the concentrator ended before the verdict; see its log, and `status`".to_owned(),
        )),
    }
}
