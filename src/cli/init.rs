//! `init`: a folder that `run` works with as it is.

use std::path::{Path, PathBuf};

use super::arguments::Arguments;
use super::site::{self, NewFile, PUBLIC, SECRET};
use super::template::Template;
use super::{Failure, output};
use crate::service::config::{Config, Environment};

pub(super) const SUMMARY: &str = "writes a configuration, fresh keys and a certificate into a folder";
pub(super) const HELP: &str = "\
Usage: iotsocketd init [DIR] [--environment production|staging|test]
       iotsocketd init [DIR] --missing

Writes into DIR (the current folder if left out, made if missing):
  iotsocketd.toml   every key with its default and a comment
  central.key       the central's key, fresh, readable by you only
  tls/server.crt    a self-signed certificate for this machine's name and loopback
  tls/server.key    its private key, fresh, readable by you only
State goes to DIR/state. Nothing is ever overwritten: if one of the files exists, none is written.

Options:
  --environment E   what the installation is for; marked on the keys [default: production]
  --missing         beside an iotsocketd.toml: makes keys that are not there, for its environment

Example:
  iotsocketd init /etc/iotsocketd
";

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let (arguments, is_missing) = Arguments::parse_with_flag(parser, 1, &["environment"], "missing")?;
    let folder = arguments.words.first().map_or(Path::new("."), Path::new);
    if is_missing {
        if arguments.option("environment").is_some() {
            let sentence = "`--environment` does not go with `--missing`: iotsocketd.toml says it";
            return Err(Failure::Usage(sentence.to_owned()));
        }
        return make_missing(folder);
    }
    let environment = arguments.environment()?;
    let mut files = vec![NewFile {
        path: "iotsocketd.toml",
        content: Template::new(environment)?.into_text().into_bytes(),
        mode: PUBLIC,
    }];
    files.push(central_key(environment)?);
    files.extend(certificate(environment)?);
    say_written(&site::write(folder, &files)?);
    let config = folder.join("iotsocketd.toml");
    output::say(&format!("next: iotsocketd run --config {}", config.display()));
    Ok(())
}

/// What a package or an image leaves to the machine that it is installed on: no two have the same keys.
fn make_missing(folder: &Path) -> Result<(), Failure> {
    let path = folder.join("iotsocketd.toml");
    let is_there = |name: &str| folder.join(name).symlink_metadata().is_ok();
    let mut files = Vec::new();
    // A mistake elsewhere in the file is none of ours, but a key with the wrong mark would be refused later.
    let examined = Config::examine(&path);
    let Some(environment) = examined.environment else {
        let first = examined.mistakes.first().map(ToString::to_string).unwrap_or_default();
        return Err(Failure::Failed(format!("{first}; no key was made")));
    };
    if !is_there("central.key") {
        files.push(central_key(environment)?);
    }
    match (is_there("tls/server.crt"), is_there("tls/server.key")) {
        (false, false) => files.extend(certificate(environment)?),
        (true, true) => {}
        _ => {
            let tls = folder.join("tls");
            let sentence = format!(
                "{} has only one of server.crt and server.key: bring the other, or take it away and both are \
                 made; no key was made",
                tls.display()
            );
            return Err(Failure::Failed(sentence));
        }
    }
    say_written(&site::write(folder, &files)?);
    Ok(())
}

fn central_key(environment: Environment) -> Result<NewFile, Failure> {
    let content = site::key_file(environment, &site::fresh_key()?);
    Ok(NewFile { path: "central.key", content, mode: SECRET })
}

fn certificate(environment: Environment) -> Result<[NewFile; 2], Failure> {
    let (certificate, private_key) = site::self_signed(environment)?;
    Ok([
        NewFile { path: "tls/server.crt", content: certificate, mode: PUBLIC },
        NewFile { path: "tls/server.key", content: private_key, mode: SECRET },
    ])
}

fn say_written(paths: &[PathBuf]) {
    for path in paths {
        output::say(&format!("wrote {}", path.display()));
    }
}
