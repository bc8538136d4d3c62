//! `why`: what changed around a moment, out of the black box and the journal.

mod story;

use std::io::ErrorKind;

use jiff::Timestamp;

use super::arguments::Arguments;
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
/// Messages of each kind at most.
const MESSAGES_MAX: usize = 20;
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
    match recorded(&arguments, from, to) {
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

/// What the journal has of a time, as lines.
fn recorded(arguments: &Arguments, from: i64, to: i64) -> Result<Vec<Line>, String> {
    let sentence = |failure| match failure {
        Failure::Failed(sentence) | Failure::Usage(sentence) => sentence,
    };
    let kept = Kept::of(arguments).map_err(sentence)?;
    let mut lines = Vec::new();
    for kind in KINDS {
        let (from, to) = (story::rfc3339(from), story::rfc3339(to));
        let path = format!("/v1/messages?kind={kind}&from={from}&to={to}&limit={MESSAGES_MAX}");
        let answer = kept.get(&path)?;
        for message in parse::<Page<'_>>(&answer)?.messages {
            let message: Shown<'_> = parse(message.get())?;
            let at = message.time.parse::<Timestamp>().map_or(0, Timestamp::as_microsecond);
            let payload = message.payload.get();
            let payload: String = serde_json::from_str(payload).unwrap_or_else(|_| payload.to_owned());
            let said: String = harmless(&payload).chars().take(LETTERS_MAX).collect();
            let uid = if message.uid.is_empty() { String::new() } else { format!(" of {}", message.uid) };
            lines.push(Line { at, text: format!("{}{}: {said}", message.kind, harmless(&uid)) });
        }
    }
    Ok(lines)
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
