//! `apikey`: keys of the API from the command line, marked for the environment that they are made in.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;

use super::arguments::Arguments;
use super::template::quote;
use super::{Failure, output, site};
use crate::endpoint::http::auth::make_token;
use crate::hub::own_file;
use crate::service::config::{Config, Given};

pub(super) const SUMMARY: &str = "makes a key of the API for another program";
pub(super) const HELP: &str = "\
Usage: iotsocketd apikey add NAME --rights R[,R...] [--groups G[,G...]] [--config FILE]

Makes a fresh key, adds it to the configuration as [[api.key]] and prints it, once. A running
concentrator takes it up within two seconds. The configuration gets its SHA-256 only. The key begins
with its environment: a concentrator of another one refuses it and says so.

Options:
  --rights R     what it may do: read, request, ingest, admin; none implies another
  --groups G     the groups whose objects it sees [default: all]
  --config FILE  the configuration [default: /etc/iotsocketd/iotsocketd.toml]

To take a key back, delete its table from the configuration.

Example:
  iotsocketd apikey add grafana --rights read
";

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 2, &["rights", "groups", "config"])?;
    let mut words = arguments.words.iter();
    let (name, rights) = match (words.next(), words.next(), arguments.option("rights")) {
        (Some(verb), Some(name), Some(rights)) if verb == "add" => (name, rights),
        (Some(verb), Some(_), None) if verb == "add" => {
            return Err(Failure::Usage("which `--rights`?".to_owned()));
        }
        (Some(verb), None, _) if verb == "add" => return Err(Failure::Usage("which name?".to_owned())),
        _ => return Err(Failure::Usage("`apikey` knows `add NAME`".to_owned())),
    };
    let path = arguments.config_path();
    let config = arguments.config()?;
    let (token, sha256) = make_token(config.environment.name(), &site::random()?);
    let mut table = format!("\n[[api.key]]\nname = {}\nsha256 = \"{sha256}\"\n", quote(&text(name)?));
    for (key, option) in [("rights", Some(rights)), ("groups", arguments.option("groups"))] {
        if let Some(option) = option {
            let words = text(option)?;
            let words: Vec<_> = words.split(',').map(|word| quote(word.trim())).collect();
            table.push_str(&format!("{key} = [{}]\n", words.join(", ")));
        }
    }
    let failed = |error| Failure::Failed(format!("{}: {error}", path.display()));
    let mut all = fs::read_to_string(&path).map_err(failed)?;
    all.push_str(&table);
    // What is wrong with the key is what is wrong with a configuration that has it.
    let examined = Config::parse(&path, all.clone().into_bytes(), Given::to_this_process());
    let wrong: Vec<_> =
        examined.mistakes.iter().map(|mistake| format!("{} {}", mistake.key, mistake.sentence)).collect();
    if !wrong.is_empty() {
        return Err(Failure::Failed(format!("nothing was changed: {}", wrong.join("; "))));
    }
    replace(&path, &all).map_err(failed)?;
    output::answer(&token).map_err(|_| {
        Failure::Failed(format!(
            "the key is in force, but cannot be written here: delete its table from {}, and make another",
            path.display()
        ))
    })
}

fn text(word: &OsString) -> Result<String, Failure> {
    let text = word.to_str().filter(|text| !text.chars().any(char::is_control));
    text.map(str::to_owned).ok_or_else(|| Failure::Failed("names are plain text".to_owned()))
}

/// Readers see the old file or the new one, which belongs to whom the old one did.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let before = fs::metadata(&path)?;
    let mut new = path.clone().into_os_string();
    new.push(".new");
    // Nobody may read it before it has its owner.
    let mut file = own_file::create(Path::new(&new))?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
        fchown(&file, Some(before.uid()), Some(before.gid()))?;
    }
    file.set_permissions(before.permissions())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(path.parent().unwrap_or(&path))?.sync_all()
}
