//! `upgrade`: a newer version takes over while the concentrator runs, or a newer system at the next start.

use std::path::Path;
use std::time::Duration;

use super::arguments::Arguments;
use super::{Failure, maintenance_client, output};
use crate::endpoint::maintenance::{PROVE_PATH, UPGRADE_DONE, UPGRADE_FAILED, UPGRADE_PATH, UPGRADE_STEP};
use crate::service::upgrade::system::{HELPER, Machine};
use crate::service::upgrade::{TEXT_LEN_MAX, VERSION_LEN_MAX, claims_system, encode_upload, read_bounded};

pub(super) const SUMMARY: &str = "puts a newer, signed version in the place of the running one";
pub(super) const HELP: &str = "\
Usage: iotsocketd upgrade FILE [--config FILE]
       iotsocketd upgrade --prove [--config FILE]

Hands a new version to the running concentrator. FILE.minisig must lie beside it: its signature by
the key of [upgrade] public_key_file, with its version (minisign -S -m FILE -t version:1.2.3). The
version takes over on the same sockets, shows that it works, and is in force when it held for
[upgrade] confirm_after; else the one before is back by itself. Prints each step and the verdict.

On a gateway that runs from an image, FILE may be a whole system (minisign -S -m FILE
-t \"system:rpi4 version:1.2.3\"). It is written beside the running one, as root, and the machine
restarts into it. It has to show that it works; else the machine is back in the one before by
itself, with the alert upgrade_rolled_back.

Options:
  --prove        the running version shows that it works: a made-up device logs in, is called, ...
  --config FILE  the configuration that it runs with [default: /etc/iotsocketd/iotsocketd.toml]

Example:
  iotsocketd upgrade ./iotsocketd-1.2.3
";

/// No step takes longer, but for the confirmation, which the configuration says.
const TIMEOUT: Duration = Duration::from_secs(90);
/// What the name of a signature ends with.
const SIGNATURE: &str = ".minisig";

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let (arguments, is_proof) = Arguments::parse_with_flag(parser, 1, &["config"], "prove")?;
    let word = match (arguments.words.first(), is_proof) {
        (None, true) => return order(&arguments, PROVE_PATH, &[], TIMEOUT),
        (Some(word), false) => word,
        (None, false) => return Err(Failure::Usage("which file?".to_owned())),
        (Some(_), true) => return Err(Failure::Usage("`--prove` takes no file".to_owned())),
    };
    let mut signature = word.clone();
    signature.push(SIGNATURE);
    let signature = read(Path::new(&signature), TEXT_LEN_MAX)?;
    let signature_text = String::from_utf8_lossy(&signature);
    if claims_system(&signature_text) {
        let config = arguments.config()?;
        let public_key = read(&config.upgrade.public_key_file, TEXT_LEN_MAX)?;
        let public_key = String::from_utf8_lossy(&public_key);
        let machine = Machine { helper: Path::new(HELPER), environment: config.environment.name() };
        let installed = machine.install(Path::new(word), &signature_text, &public_key, &mut output::say);
        installed.map_err(Failure::Failed)?;
        output::say(
            "the machine restarts into it now; `iotsocketd status` says in some minutes what became of it",
        );
        return machine.restart().map_err(Failure::Failed);
    }
    let file = read(Path::new(word), VERSION_LEN_MAX)?;
    let confirm_after = arguments.config().map(|config| config.upgrade.confirm_after).unwrap_or_default();
    order(&arguments, UPGRADE_PATH, &encode_upload(&signature, &file), TIMEOUT + confirm_after)
}

fn read(path: &Path, max: usize) -> Result<Vec<u8>, Failure> {
    read_bounded(path, max)
        .map_err(|error| Failure::Failed(format!("{}: cannot be read: {error}", path.display())))
}

/// Tells the running concentrator, and prints what it says until its verdict.
fn order(arguments: &Arguments, path: &str, body: &[u8], timeout: Duration) -> Result<(), Failure> {
    let sockets = maintenance_client::sockets(&arguments.config_path());
    let mut verdict = None;
    maintenance_client::upload(&sockets, path, body, timeout, |line| {
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
