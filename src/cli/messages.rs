//! `messages` and `trace`: what the journal of a concentrator has, and what became of it.

use std::fmt::Write as _;

use super::arguments::Arguments;
use super::recall::{Event, FILTERS, Filter, Gone, Journal, Kept, Page, Shown, filter_help, harmless, parse};
use super::{Failure, output};
use crate::hub::history::MessageId;

pub(super) const SUMMARY: &str = "messages of the journal, the newest or others";
pub(super) const HELP: &str = concat!(
    "\
Usage: iotsocketd messages [OPTIONS]

The newest messages in the journal, the last one at the bottom: number, time, kind, state, object,
payload. Long payloads are cut short; --json gives them whole.

Options:
  --limit N      so many, up to 1000 [default: 20]
  --after SEQ    the first ones behind this number, instead of the newest
  --json         one JSON object a line, as in GET /v1/messages
",
    filter_help!(),
    "
Example:
  iotsocketd messages --uid ObjTest --limit 100
"
);

pub(super) const TRACE_SUMMARY: &str = "one message of the journal, and what became of it";
pub(super) const TRACE_HELP: &str = "\
Usage: iotsocketd trace ID [--config FILE] [--json]

One message with everything that happened to it. ID is its id, or its number as `messages` shows it.

Options:
  --config FILE  the configuration that it runs with [default: /etc/iotsocketd/iotsocketd.toml]
  --json         as JSON, the same as GET /v1/messages/ID

Example:
  iotsocketd trace 184467
";

/// Messages at a time, unless asked otherwise and at most.
const USUAL: usize = 20;
const MAX: usize = 1000;
/// Characters of a payload that are shown.
const PAYLOAD_SHOWN: usize = 100;

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let known = [&FILTERS[..], &["limit", "after", "config"]].concat();
    let (arguments, json) = Arguments::parse_with_flag(parser, 0, &known, "json")?;
    let number = |name: &str| {
        let Some(text) = arguments.option(name) else { return Ok(None) };
        let number = text.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number: Option<u64> = number.and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| Failure::Usage(format!("`--{name}` must be a whole number")))
    };
    let limit = match number("limit")?.map(usize::try_from) {
        None => USUAL,
        Some(Ok(limit @ 1..=MAX)) => limit,
        Some(_) => return Err(Failure::Usage(format!("`--limit` must be from 1 to {MAX}"))),
    };
    let filter = Filter::of(&arguments)?;
    let path = match number("after")? {
        Some(after) => filter.behind(after, limit),
        None => filter.last(limit),
    };
    let text = list(&Kept::of(&arguments)?, &path, json).map_err(Failure::Failed)?;
    if text.is_empty() { Ok(()) } else { output::answer(&text) }
}

pub(super) fn run_trace(parser: lexopt::Parser) -> Result<(), Failure> {
    let (arguments, json) = Arguments::parse_with_flag(parser, 1, &["config"], "json")?;
    let Some(id) = arguments.words.first() else {
        return Err(Failure::Usage("which message? its id, or its number as `messages` shows it".to_owned()));
    };
    let id = id.to_string_lossy();
    if id.parse::<u64>().is_err() && MessageId::parse(&id).is_none() {
        let sentence = format!("`{}` is neither a message's id nor its number", id.escape_debug());
        return Err(Failure::Usage(sentence));
    }
    let text = trace(&Kept::of(&arguments)?, &id, json).map_err(Failure::Failed)?;
    output::answer(&text)
}

/// The messages at this path of the API, to be read or as JSON, one a line.
fn list(journal: &impl Journal, path: &str, json: bool) -> Result<String, String> {
    let body = journal.get(path)?;
    let page: Page<'_> = parse(&body)?;
    let mut text = String::new();
    for message in page.messages {
        if json {
            text.push_str(message.get());
        } else {
            write_line(&mut text, &parse(message.get())?);
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// The message with this id or number, with its trace, to be read or as JSON.
fn trace(journal: &impl Journal, id: &str, json: bool) -> Result<String, String> {
    let body = journal.get(&format!("/v1/messages/{id}"))?;
    if json {
        return Ok(body);
    }
    match parse::<Shown<'_>>(&body) {
        Ok(message) => Ok(describe(&message)),
        Err(_) => parse::<Gone>(&body).map(|gone| describe_gone(&gone)),
    }
}

// Writing into a string cannot fail.

fn write_line(out: &mut String, message: &Shown<'_>) {
    let Shown { seq, time, kind, state, .. } = message;
    let object = harmless(&format!("{}/{}", message.group, message.uid));
    let payload = harmless(message.payload.get());
    let cut = payload.char_indices().nth(PAYLOAD_SHOWN).map(|(at, _)| at);
    let (shown, rest) = match cut.and_then(|at| payload.get(..at)) {
        Some(start) => (start, "…"),
        None => (payload.as_str(), ""),
    };
    let _written = write!(out, "{seq:>8}  {time}  {kind:<9}  {state:<9}  {object}  {shown}{rest}");
}

fn describe(message: &Shown<'_>) -> String {
    let mut out = String::new();
    let object = format!("{}/{}", message.group, message.uid);
    let time = format!("{} ({})", message.time, message.clock);
    let payload = format!("{} {}", message.format, message.payload.get());
    let (seq, network) = (message.seq.to_string(), message.network.map(|network| network.get()));
    for (name, value) in [
        ("id", Some(message.id.as_str())),
        ("number", Some(&seq)),
        ("time", Some(&time)),
        ("kind", Some(&message.kind)),
        ("object", Some(&object)),
        ("via", Some(&message.via)),
        ("source", message.source.as_deref()),
        ("network", network),
        ("state", Some(&message.state)),
        ("payload", Some(&payload)),
    ] {
        if let Some(value) = value {
            let _written = writeln!(out, "{name:<9}{}", harmless(value));
        }
    }
    with_events(out, &message.events)
}

fn describe_gone(gone: &Gone) -> String {
    let mut out = String::new();
    if let Some(id) = &gone.id {
        let _written = writeln!(out, "id       {}", harmless(id));
    }
    let _written =
        writeln!(out, "number   {}\nstate    {}: it is no longer there", gone.seq, harmless(&gone.state));
    with_events(out, &gone.events)
}

fn with_events(mut out: String, events: &[Event]) -> String {
    for event in events {
        let _written = write!(out, "\n{}  {:<9}", event.time, event.event);
        if let Some(to) = &event.to {
            let _written = write!(out, "  to {}", harmless(to));
        }
        if let Some(attempt) = event.attempt {
            let _written = write!(out, "  attempt {attempt}");
        }
        if let Some(reason) = &event.reason {
            let _written = write!(out, "  {}", harmless(reason));
        }
        if let Some(id) = &event.id {
            let _written = write!(out, "  kept as {}", harmless(id));
        }
    }
    let lines: Vec<_> = out.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}
