//! `remap`: maps what a partner network's source has in quarantine once more, with the configuration as it is now.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::arguments::Arguments;
use super::recall::{harmless, parse};
use super::{Failure, maintenance_client, output};

pub(super) const SUMMARY: &str = "maps what a partner network's source has in quarantine once more";
pub(super) const HELP: &str = "\
Usage: iotsocketd remap SOURCE [--config FILE] [--json]

What a partner network posted and [ingest.SOURCE] could not map lies in quarantine. After the
configuration was mended, and the running concentrator has taken it up, this maps it once more.
What can be mapped now is delivered, under the id that it was answered with and with the time when
it came. What cannot stays, and is told. Nothing happens twice, however often it is called.

Options:
  --config FILE  the configuration that it runs with [default: /etc/iotsocketd/iotsocketd.toml]
  --json         what became of it as JSON

Example:
  iotsocketd remap fleet
";

/// The answer.
#[derive(Deserialize)]
struct Remapped {
    mapped: u64,
    duplicates: u64,
    ignored: u64,
    remaining: u64,
    reasons: BTreeMap<String, u64>,
}

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let (arguments, json) = Arguments::parse_with_flag(parser, 1, &["config"], "json")?;
    let Some(source) = arguments.words.first() else {
        return Err(Failure::Usage("which source? a NAME of [ingest.NAME]".to_owned()));
    };
    let source = source.to_string_lossy();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if source.is_empty() || !source.chars().all(is_name) {
        let sentence = format!("`{}` is no name of a source", source.escape_debug());
        return Err(Failure::Usage(sentence));
    }
    let sockets = maintenance_client::sockets(&arguments.config_path());
    let answer =
        maintenance_client::act(&sockets, &format!("/v1/remap/{source}")).map_err(Failure::Failed)?;
    let text = if json { answer } else { describe(&parse(&answer).map_err(Failure::Failed)?) };
    output::say(&text);
    Ok(())
}

fn describe(remapped: &Remapped) -> String {
    let Remapped { mapped, duplicates, ignored, remaining, reasons } = remapped;
    let mut text = format!(
        "{mapped} mapped, {duplicates} came before, {ignored} carry nothing, {remaining} remain in quarantine"
    );
    for (reason, count) in reasons {
        // Writing into a string cannot fail.
        let _written = write!(text, "\n{count:>8}  {}", harmless(reason));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_it_is_told_with_the_reasons() {
        let answer =
            r#"{"mapped":3,"duplicates":1,"ignored":0,"remaining":2,"reasons":{"\"p\" is missing":2}}"#;
        assert_eq!(
            describe(&parse(answer).unwrap()),
            "3 mapped, 1 came before, 0 carry nothing, 2 remain in quarantine\n       2  \"p\" is missing"
        );
    }
}
