//! `why`: what changed around a moment, out of the black box and the journal.

mod story;

use std::io::ErrorKind;

use jiff::Timestamp;
use serde_json::Value;

use super::arguments::Arguments;
use super::audit;
use super::recall::{Journal as _, Kept, Page, Shown, harmless, parse};
use super::{Failure, output};
use crate::service::blackbox::{self, Entry};
use crate::service::config::parse_duration;
use story::{Line, Past};

pub(super) const SUMMARY: &str = "what changed around a moment: figures, alerts, restarts, events";
pub(super) const HELP: &str = "\
Usage: iotsocketd why [TIME] [--config FILE]

Tells what changed around a moment of the last three days: starts and ends of the program, alerts,
the figures of the ten minutes before and after, and the events of the journal near it. It reads
the black box in the state folder, of a running concentrator or a stopped one.

TIME is a moment (2026-11-21T18:52:42Z), or how long ago it was (45min, 12h). Without TIME: the
newest start or alert that there was.

Options:
  --config FILE  the configuration that it runs with [default: /etc/iotsocketd/iotsocketd.toml]

Example:
  iotsocketd why 2h
";

/// Kinds of messages that tell what was done.
const KINDS: [&str; 3] = ["event", "audit", "access"];
/// Messages of each kind that are told: those nearest to the moment. They are looked for in so many pages of so many.
const MESSAGES_MAX: usize = 20;
const PAGES_MAX: usize = 20;
const PAGE_LEN: usize = 1000;
/// Letters of a message at most.
const LETTERS_MAX: usize = 160;

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let arguments = Arguments::parse(parser, 1, &["config"])?;
    let wanted = match arguments.words.first() {
        Some(word) => Some(moment(&word.to_string_lossy(), Timestamp::now())?),
        None => None,
    };
    let path = blackbox::path(&arguments.config()?.state_dir);
    let entries = blackbox::load(&path).map_err(|error| {
        Failure::Failed(match error.kind() {
            ErrorKind::NotFound => format!("{}: there is no black box: nothing ran here yet", path.display()),
            _ => format!("{}: cannot be read: {error}", path.display()),
        })
    })?;
    let told = Past::new(entries);
    let at = told.moment(wanted).map_err(Failure::Failed)?;
    let mut text = told.tell(at);
    let (from, to) = story::near(at);
    match recorded(&arguments, at, (from, to)) {
        Ok(lines) if lines.is_empty() => text.push_str("\nthe journal has no event of that time\n"),
        Ok(lines) => {
            text.push_str("\nin the journal\n");
            story::add_lines(&mut text, lines);
        }
        Err(sentence) => text.push_str(&format!("\nthe journal cannot be asked: {sentence}\n")),
    }
    output::say(text.trim_end());
    Ok(())
}

/// What the black box says of the newest start or alert.
pub(super) fn newest(entries: Vec<Entry>) -> String {
    let told = Past::new(entries);
    told.moment(None).map_or_else(|sentence| sentence, |at| told.tell(at))
}

/// What the journal has of a time around a moment, as lines.
fn recorded(arguments: &Arguments, at: i64, (from, to): (i64, i64)) -> Result<Vec<Line>, String> {
    let sentence = |failure| match failure {
        Failure::Failed(sentence) | Failure::Usage(sentence) => sentence,
    };
    let kept = Kept::of(arguments).map_err(sentence)?;
    let mut lines = Vec::new();
    for kind in KINDS {
        let (from, to) = (story::rfc3339(from), story::rfc3339(to));
        let path = format!("/v1/messages?kind={kind}&from={from}&to={to}&limit={PAGE_LEN}");
        let (mut own, mut after) = (Vec::new(), 0);
        for _ in 0..PAGES_MAX {
            let answer = kept.get(&format!("{path}&after={after}"))?;
            let page: Page<'_> = parse(&answer)?;
            after = page.next;
            if page.messages.is_empty() {
                break;
            }
            add_page(&mut own, &page)?;
            own.sort_by_key(|line| line.at.abs_diff(at));
            own.truncate(MESSAGES_MAX);
        }
        lines.append(&mut own);
    }
    Ok(lines)
}

fn add_page(lines: &mut Vec<Line>, page: &Page<'_>) -> Result<(), String> {
    for message in &page.messages {
        let message: Shown<'_> = parse(message.get())?;
        let at = message.time.parse::<Timestamp>().map_or(0, Timestamp::as_microsecond);
        let payload: Value = parse(message.payload.get())?;
        // Logins are among the figures, and would hide the rest.
        if payload.get("what").is_some_and(|what| what == "login") {
            continue;
        }
        let said: String = in_words(&payload, &message.uid).chars().take(LETTERS_MAX).collect();
        lines.push(Line { at, text: format!("{}: {}", message.kind, said.trim_end()) });
    }
    Ok(())
}

/// What a message says that the concentrator made itself.
fn in_words(payload: &Value, uid: &str) -> String {
    let word = |name: &str| payload.get(name).and_then(Value::as_str).map(harmless);
    if payload.get("what").is_some() {
        return audit::in_words(payload, uid);
    }
    if let (Some(name), Some(state), Some(sentence)) = (word("name"), word("state"), word("sentence")) {
        let subject = word("subject").map(|subject| format!(" {subject}")).unwrap_or_default();
        return format!("alert {name}{subject} {state}: {sentence}");
    }
    let fields = payload.as_object().into_iter().flatten();
    let words: Vec<_> = fields.map(|(name, value)| format!("{name} {value}")).collect();
    harmless(&if words.is_empty() { payload.to_string() } else { words.join(", ") })
}

/// A moment, or how long ago it was, in microseconds since 1970.
fn moment(word: &str, now: Timestamp) -> Result<i64, Failure> {
    if let Ok(at) = word.parse::<Timestamp>() {
        return Ok(at.as_microsecond());
    }
    let ago = parse_duration(word).map_err(|_| {
        let word = word.escape_debug();
        Failure::Usage(format!("`{word}` is no moment like 2026-11-21T18:52:42Z, and no time like 45min"))
    })?;
    Ok(now.as_microsecond() - i64::try_from(ago.as_micros()).unwrap_or(i64::MAX / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_concentrator_are_told_in_words() {
        let said = |payload: &str| in_words(&serde_json::from_str(payload).unwrap(), "");
        for (payload, words) in [
            (
                r#"{"n":3,"what":"configuration","count":1,"detail":"api added","hash":"00"}"#,
                "configuration  api added",
            ),
            (r#"{"name":"disk","state":"raised","sentence":"make room"}"#, "alert disk raised: make room"),
            (
                r#"{"name":"destination","subject":"erp","state":"cleared","sentence":"s"}"#,
                "alert destination erp cleared: s",
            ),
            (r#"{"before":0,"after":1}"#, "after 1, before 0"),
            (r#""text""#, "\"text\""),
        ] {
            assert_eq!(said(payload), words);
        }
    }

    #[test]
    fn moments_are_told_by_the_clock_or_by_how_long_ago() {
        let now: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
        let at = |word| moment(word, now).unwrap();
        assert_eq!(at("2026-11-27T12:00:00+01:00"), at("60min"));
        assert_eq!(at("2d"), at("2026-11-25T12:00:00Z"));
        for wrong in ["yesterday", "12:00", "-5min", ""] {
            assert!(matches!(moment(wrong, now), Err(Failure::Usage(_))), "{wrong}");
        }
    }
}
