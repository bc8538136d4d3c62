//! `init`: a folder that `run` works with as it is.

use std::path::Path;

use super::arguments::Arguments;
use super::site::{self, NewFile, PUBLIC, SECRET};
use super::template::Template;
use super::{Failure, output};

pub(super) const SUMMARY: &str = "writes a configuration, fresh keys and a certificate into a folder";
pub(super) const HELP: &str = "\
Usage: iotsocketd init [DIR] [--environment production|staging|test]

Writes into DIR (the current folder if left out, made if missing):
  iotsocketd.toml   every key with its default and a comment
  central.key       the central's key, fresh, readable by you only
  tls/server.crt    a self-signed certificate for this machine's name and loopback
  tls/server.key    its private key, fresh, readable by you only
State goes to DIR/state. Nothing is ever overwritten: if one of the files exists, none is written.

Options:
  --environment E   what the installation is for; marked on the keys [default: production]

Example:
  iotsocketd init /etc/iotsocketd
";

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 1, &["environment"])?;
    let environment = arguments.environment()?;
    let folder = arguments.words.first().map_or(Path::new("."), Path::new);

    let (certificate, private_key) = site::self_signed(environment)?;
    let files = [
        NewFile {
            path: "iotsocketd.toml",
            content: Template::new(environment)?.into_text().into_bytes(),
            mode: PUBLIC,
        },
        NewFile {
            path: "central.key",
            content: site::key_file(environment, &site::fresh_key()?),
            mode: SECRET,
        },
        NewFile { path: "tls/server.crt", content: certificate, mode: PUBLIC },
        NewFile { path: "tls/server.key", content: private_key, mode: SECRET },
    ];
    for path in site::write(folder, &files)? {
        output::say(&format!("wrote {}", path.display()));
    }
    let config = folder.join("iotsocketd.toml");
    output::say(&format!("next: iotsocketd run --config {}", config.display()));
    Ok(())
}
