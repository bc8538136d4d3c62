//! `import`: the two files of the public Python concentrator, turned into ours.

use std::fs;
use std::path::{Path, PathBuf};

use super::arguments::Arguments;
use super::check::{Findings, inspect};
use super::site::{self, NewFile, PUBLIC, SECRET};
use super::template::Template;
use super::{Failure, output};
use crate::service::config::{Config, Mistake};

mod source;

use source::Source;

pub(super) const SUMMARY: &str = "turns the Python concentrator's config.json and acl.json into ours";
pub(super) const HELP: &str = "\
Usage: iotsocketd import CONFIG_JSON ACL_JSON [DIR] [--environment production|staging|test]

Reads config.json and acl.json of the public Python concentrator and writes into DIR (the current
folder if left out) what init would write, with their values: iotsocketd.toml, central.key,
tls/server.crt and tls/server.key (copied), state/acl.json. Nothing is ever overwritten.
What has no counterpart here is named.

Options:
  --environment E   what the installation is for; marked on the keys [default: production]

Example:
  iotsocketd import old/config.json old/acl.json /etc/iotsocketd
";

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 3, &["environment"])?;
    let environment = arguments.environment()?;
    let mut words = arguments.words.iter().map(Path::new);
    let (Some(config), Some(acl)) = (words.next(), words.next()) else {
        return Err(Failure::Usage("import needs CONFIG_JSON and ACL_JSON".to_owned()));
    };
    let folder = words.next().unwrap_or(Path::new("."));

    let mut template = Template::new(environment)?;
    let mut source = Source::read(config)?;
    source.fill(&mut template)?;
    let files = [
        NewFile { path: "iotsocketd.toml", content: template.into_text().into_bytes(), mode: PUBLIC },
        NewFile {
            path: "central.key",
            content: site::key_file(environment, &source.central_key),
            mode: SECRET,
        },
        NewFile { path: "tls/server.crt", content: read(&source.certificate)?, mode: PUBLIC },
        NewFile { path: "tls/server.key", content: read(&source.private_key)?, mode: SECRET },
        NewFile { path: "state/acl.json", content: read(acl)?, mode: SECRET },
    ];
    let written = site::write(folder, &files)?;
    let (warnings, findings) = examine(&written, acl).inspect_err(|_| site::remove(&written))?;

    for path in &written {
        output::say(&format!("wrote {}", path.display()));
    }
    for note in source.notes {
        output::complain(&format!("note: {note}"));
    }
    for warning in warnings.iter().map(Mistake::to_string).chain(findings.warnings) {
        output::complain(&format!("warning: {warning}"));
    }
    for mistake in findings.mistakes {
        output::complain(&format!("to mend before it runs: {mistake}"));
    }
    let config = folder.join("iotsocketd.toml");
    output::say(&format!("next: iotsocketd check --config {}", config.display()));
    Ok(())
}

/// Reads what was written as `run` would. A configuration or list that cannot be used is a failure; a
/// certificate that this program does not take (too old, say) is told, as everything else is right.
fn examine(written: &[PathBuf], acl: &Path) -> Result<(Vec<Mistake>, Findings), Failure> {
    let path = written.first().map_or(Path::new(""), PathBuf::as_path);
    let (config, warnings) = Config::load(path).map_err(|mistakes| {
        let sentences: Vec<_> =
            mistakes.iter().map(|mistake| format!("{}: {}", mistake.key, mistake.sentence)).collect();
        Failure::Failed(format!("the configuration cannot be taken over: {}", sentences.join("; ")))
    })?;
    let known = |group: &_| config.groups.contains_key(group);
    let list = crate::hub::access_file::load(acl, known)?;
    // Ours is written anew: sorted, keys in one spelling.
    crate::hub::access_file::store(&config.access.file, &list)?;
    Ok((warnings, inspect(&config)))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::Failed(format!("{} cannot be read: {error}", path.display())))
}
