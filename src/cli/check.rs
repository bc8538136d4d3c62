//! `check`: reads everything that `run` would read, and says all that is wrong with it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls::RootCertStore;

use super::arguments::Arguments;
use super::{Failure, machine, output};
use crate::endpoint::certificate;
use crate::hub::access_file::{self, AccessFileCause};
use crate::service::config::{Config, Mistake, check_environment};

pub(super) const SUMMARY: &str = "reads everything that run would read and says what is wrong";
pub(super) const HELP: &str = "\
Usage: iotsocketd check [--config FILE] [--machine DIR]

Reads the configuration and every file that it names: certificate and key, certificates of webhooks,
secrets, the access list. Says all that is wrong at once, one line each, with file, line, column and
key where it stands in the configuration.
Exit 1 if anything is wrong; warnings leave exit 0.

Options:
  --config FILE  the configuration [default: /etc/iotsocketd/iotsocketd.toml]
  --machine DIR  writes what [network] and [time] ntp ask of the machine into DIR, for the start of
                 an image: network, timesyncd, hostname, authorized_keys

Example:
  iotsocketd check --config ./iotsocketd.toml
";

/// What is wrong beyond the configuration's own text, and what is doubtful; one line each.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub mistakes: Vec<String>,
    pub warnings: Vec<String>,
}

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 0, &["config", "machine"])?;
    let path = arguments.config_path();
    let examined = Config::examine(&path);
    let mut findings = examined.config.as_ref().map(inspect).unwrap_or_default();
    findings.mistakes.splice(0..0, examined.mistakes.iter().map(Mistake::to_string));
    findings.warnings.splice(0..0, examined.warnings.iter().map(Mistake::to_string));
    if let (Some(folder), Some(config), true) =
        (arguments.option("machine"), &examined.config, findings.mistakes.is_empty())
    {
        machine::write(config, Path::new(folder)).map_err(Failure::Failed)?;
    }
    for warning in &findings.warnings {
        output::complain(&format!("warning: {warning}"));
    }
    for mistake in &findings.mistakes {
        output::complain(mistake);
    }
    match findings.mistakes.len() {
        0 => {
            output::say(&format!("{}: ok", path.display()));
            Ok(())
        }
        1 => Err(Failure::Failed(format!("{} has 1 mistake", path.display()))),
        count => Err(Failure::Failed(format!("{} has {count} mistakes", path.display()))),
    }
}

/// Reads every file that a configuration names and that [`Config::load`] left to others.
pub(super) fn inspect(config: &Config) -> Findings {
    let mut findings = Findings::default();
    inspect_tls(config, &mut findings);
    let webhook_roots = config.central.webhooks.ca_file.iter();
    let roots = webhook_roots.chain(config.subscribers.values().filter_map(|s| s.ca_file.as_ref()));
    for path in roots {
        findings.mistakes.extend(read_roots(path).err());
    }
    inspect_access(config, &mut findings);
    findings
}

fn inspect_tls(config: &Config, findings: &mut Findings) {
    let private_key = &config.tls.private_key;
    match certificate::load(&config.tls.certificate, &config.tls.private_key) {
        Ok((_, doubt)) => findings.warnings.extend(doubt),
        Err(sentence) => findings.mistakes.push(sentence),
    }
    if let Ok(text) = fs::read(private_key) {
        let marks = check_environment(&String::from_utf8_lossy(&text), config.environment);
        findings.mistakes.extend(marks.err().map(|sentence| format!("{} {sentence}", private_key.display())));
    }
    // Certificates of a whole machine are often shared with a group; with everybody is another matter.
    if let Ok(metadata) = fs::metadata(private_key)
        && metadata.permissions().mode() & 0o007 != 0
    {
        let sentence = format!("{0}: can be read by others; run `chmod 600 {0}`", private_key.display());
        findings.warnings.push(sentence);
    }
}

fn read_roots(path: &Path) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificate::read_chain(path)? {
        roots.add(certificate).map_err(|error| format!("{}: cannot be trusted: {error}", path.display()))?;
    }
    Ok(())
}

fn inspect_access(config: &Config, findings: &mut Findings) {
    let path = config.access.file.display();
    match access_file::load(&config.access.file, |group| config.groups.contains_key(group)) {
        Ok(list) => {
            for (uid, _) in list.iter().filter(|(_, entry)| entry.key.is_weak()) {
                let sentence = format!("{path}: object `{uid}` has a key that anybody can guess");
                findings.warnings.push(format!("{sentence}; run `iotsocketd device rotate {uid}`"));
            }
            let mut owners = BTreeMap::<_, Vec<_>>::new();
            for (uid, entry) in list.iter() {
                owners.entry(entry.key.0).or_default().push(uid);
            }
            for shared in owners.into_values() {
                let [first, .., last] = shared.as_slice() else { continue };
                let count = shared.len();
                let sentence = format!("{path}: {count} objects, `{first}` to `{last}`, have the same key");
                findings.warnings.push(format!("{sentence}: each can log in as the others; rotate them"));
            }
        }
        Err(error) => match error.cause {
            AccessFileCause::Objects(sentences) => {
                findings.mistakes.extend(sentences.iter().map(|sentence| format!("{path}: {sentence}")));
            }
            _ => findings.mistakes.push(error.to_string()),
        },
    }
}
