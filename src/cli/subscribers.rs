//! `deadletters` and `replay`: what subscribers never took, and what is to go out to them once more.

use std::fmt::Write as _;

use serde::Deserialize;

use super::arguments::Arguments;
use super::maintenance_client::{self, TIMEOUT};
use super::recall::{harmless, parse};
use super::{Failure, output};

pub(super) const DEAD_SUMMARY: &str = "messages that subscribers never took: list, replay, drop";
pub(super) const DEAD_HELP: &str = "\
Usage: iotsocketd deadletters list [--json] [--config FILE]
       iotsocketd deadletters replay SUBSCRIBER [--from N] [--to N] [--config FILE]
       iotsocketd deadletters drop SUBSCRIBER [--from N] [--to N] [--config FILE]

A subscriber with give_up gets a message for so long; after that it is a dead letter. `list` shows
them in ranges of their numbers, each with the reason. `replay` sends them once more, under their
ids, beside what comes in; `drop` takes them off the list. A message that has left the journal by
its age or for room cannot be sent any more.

Options:
  --from N       only from this number on, or from this time on (2026-11-21T18:52:42Z)
  --to N         only up to this number, or before this time
  --json         the list as JSON
  --config FILE  the configuration that it runs with [default: /etc/iotsocketd/iotsocketd.toml]

Example:
  iotsocketd deadletters list
  iotsocketd deadletters replay erp
";

pub(super) const REPLAY_SUMMARY: &str = "sends messages once more to a subscriber";
pub(super) const REPLAY_HELP: &str = "\
Usage: iotsocketd replay SUBSCRIBER --from N [--to N] [--config FILE]

Sends every message from --from to --to that [subscribers.SUBSCRIBER] gets and that is still in the
journal once more, under its id, beside what comes in. One that said that it wants nothing more
(410) is called again.

Options:
  --from N       from this number on, or from this time on (2026-11-21T18:52:42Z)
  --to N         up to this number, or before this time [default: the newest]
  --config FILE  the configuration that it runs with [default: /etc/iotsocketd/iotsocketd.toml]

Example:
  iotsocketd replay erp --from 2026-11-21T00:00:00Z --to 2026-11-22T00:00:00Z
";

#[derive(Deserialize)]
struct List {
    dead_letters: Vec<Range>,
}

#[derive(Deserialize)]
struct Range {
    subscriber: String,
    from: u64,
    to: u64,
    messages: u64,
    attempts: u32,
    time: String,
    reason: String,
}

#[derive(Deserialize)]
struct Done {
    messages: u64,
}

pub(super) fn run_dead_letters(parser: lexopt::Parser) -> Result<(), Failure> {
    let (arguments, json) = Arguments::parse_with_flag(parser, 2, &["config", "from", "to"], "json")?;
    let word = |at: usize| arguments.words.get(at).map(|word| word.to_string_lossy());
    let sockets = maintenance_client::sockets(&arguments.config_path());
    let (what, done) = match word(0).as_deref() {
        Some("list") if word(1).is_none() => {
            let answer = maintenance_client::ask(&sockets, "/v1/deadletters", TIMEOUT);
            let answer = answer.map_err(Failure::Failed)?;
            let text = if json { answer } else { describe(&parse(&answer).map_err(Failure::Failed)?) };
            output::say(&text);
            return Ok(());
        }
        Some("replay") => ("replay", "go out once more"),
        Some("drop") => ("drop", "dropped"),
        _ => return Err(Failure::Usage("list, replay SUBSCRIBER, or drop SUBSCRIBER?".to_owned())),
    };
    let path = format!("/v1/deadletters/{what}?subscriber={}{}", name(&arguments, 1)?, places(&arguments)?);
    let answer = maintenance_client::act(&sockets, &path).map_err(Failure::Failed)?;
    let Done { messages } = parse(&answer).map_err(Failure::Failed)?;
    output::say(&format!("{messages} messages {done}"));
    Ok(())
}

pub(super) fn run_replay(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 1, &["config", "from", "to"])?;
    if arguments.option("from").is_none() {
        return Err(Failure::Usage("from where? --from takes a number or a time".to_owned()));
    }
    let path = format!("/v1/replay/{}?{}", name(&arguments, 0)?, places(&arguments)?);
    let sockets = maintenance_client::sockets(&arguments.config_path());
    maintenance_client::act(&sockets, &path).map_err(Failure::Failed)?;
    output::say("they go out beside what comes in; `iotsocketd status` shows how that goes");
    Ok(())
}

/// The subscriber's name.
fn name(arguments: &Arguments, at: usize) -> Result<String, Failure> {
    let word = arguments.words.get(at).map(|word| word.to_string_lossy().into_owned());
    let name =
        word.ok_or_else(|| Failure::Usage("which subscriber? a NAME of [subscribers.NAME]".to_owned()))?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(Failure::Usage(format!("`{}` is no name of a subscriber", name.escape_debug())));
    }
    Ok(name)
}

/// `--from` and `--to` as parts of a query: the concentrator judges them.
fn places(arguments: &Arguments) -> Result<String, Failure> {
    let mut query = String::new();
    for option in ["from", "to"] {
        let Some(value) = arguments.option(option) else { continue };
        let value = value.to_string_lossy();
        if !value.chars().all(|c| c.is_ascii_alphanumeric() || "-:.+".contains(c)) {
            let sentence = format!("--{option} must be a number or a time like 2026-11-21T18:52:42Z");
            return Err(Failure::Usage(sentence));
        }
        // Writing into a string cannot fail.
        let _written = write!(query, "&{option}={}", value.replace('+', "%2B"));
    }
    Ok(query)
}

fn describe(list: &List) -> String {
    if list.dead_letters.is_empty() {
        return "no dead letters".to_owned();
    }
    let mut text = String::new();
    for range in &list.dead_letters {
        let Range { subscriber, from, to, messages, attempts, time, reason } = range;
        let _written = writeln!(
            text,
            "{subscriber}: {messages} messages, {from} to {to}, given up {time} after {attempts} attempts: {}",
            harmless(reason)
        );
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_told_in_lines() {
        let answer = r#"{"dead_letters":[{"subscriber":"erp","from":3,"to":9,"messages":4,"attempts":7,"time":"2026-11-21T18:52:42Z","reason":"it answered status 500"}]}"#;
        assert_eq!(
            describe(&parse(answer).unwrap()),
            "erp: 4 messages, 3 to 9, given up 2026-11-21T18:52:42Z after 7 attempts: it answered status 500"
        );
        assert_eq!(describe(&List { dead_letters: Vec::new() }), "no dead letters");
    }
}
