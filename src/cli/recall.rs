//! What `messages`, `trace` and `export` have in common: where messages come from, which ones, and how they are read.

use std::fmt::Write as _;
use std::future;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::arguments::Arguments;
use super::{Failure, maintenance_client};
use crate::endpoint::http::Recall;
use crate::hub::history::Kind;
use crate::service::journal::{Records, Stopped};
use crate::service::look_into;
use crate::wire::{GroupName, Uid};

/// The options that choose messages.
pub(super) const FILTERS: [&str; 5] = ["uid", "group", "kind", "from", "to"];
/// What helps say of them.
macro_rules! filter_help {
    () => {
        "\
  --uid UID      only of this object
  --group GROUP  only of this group
  --kind KIND    only telemetry, request, command, access, audit or event
  --from TIME    only from this moment on, like 2026-11-21T18:52:42Z
  --to TIME      only before this moment
  --config FILE  the configuration that it runs with [default: /etc/iotsocketd/iotsocketd.toml]
"
    };
}
pub(super) use filter_help;

/// What answers as the API does.
pub(super) trait Journal {
    /// The body of the answer to `GET path`, or a sentence.
    fn get(&self, path: &str) -> Result<String, String>;
}

/// The journal of a running concentrator, or the files of one that does not run.
pub(super) enum Kept {
    /// Reached over the first of these sockets that it listens on.
    Running(Vec<PathBuf>),
    /// As it was when this began.
    Stopped(Records),
}

impl Kept {
    /// That of the configuration in this file.
    pub(super) fn of(arguments: &Arguments) -> Result<Self, Failure> {
        let sockets = maintenance_client::sockets(&arguments.config_path());
        if maintenance_client::is_running(&sockets) {
            return Ok(Self::Running(sockets));
        }
        let state_dir = arguments.config()?.state_dir;
        // Only as long as it takes to find out what is there: what is read then never changes.
        let _nothing_starts = look_into(&state_dir).map_err(Failure::Failed)?;
        let stopped = Stopped::look(&state_dir).and_then(Stopped::records);
        stopped.map(Self::Stopped).map_err(Failure::Failed)
    }
}

impl Journal for Kept {
    fn get(&self, path: &str) -> Result<String, String> {
        let records = match self {
            Self::Running(sockets) => {
                return maintenance_client::ask(sockets, path, maintenance_client::JOURNAL_TIMEOUT);
            }
            Self::Stopped(records) => records,
        };
        let answer = async { Recall::local(path)?.answer(records, future::ready(())).await };
        let reply = smol::block_on(answer).map_err(|error| error.sentence.into_owned())?;
        String::from_utf8(reply.body).map_err(|error| error.to_string())
    }
}

/// Which messages: the part of a query that says it, each value with an `&` before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filter(String);

impl Filter {
    /// What the options say, if it makes sense.
    pub(super) fn of(arguments: &Arguments) -> Result<Self, Failure> {
        let mut filter = Self::default();
        for name in FILTERS {
            let Some(value) = arguments.option(name) else { continue };
            let wrong = match (name, value.to_str()) {
                (_, None) => Some("must be UTF-8".to_owned()),
                ("uid", Some(text)) => Uid::parse(text).err().map(|error| error.to_string()),
                ("group", Some(text)) => GroupName::parse(text).err().map(|error| error.to_string()),
                ("kind", Some(text)) => (!Kind::ALL.iter().any(|kind| kind.name() == text)).then(|| {
                    let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                    format!("must be one of {}", names.join(", "))
                }),
                (_, Some(text)) => text
                    .parse::<Timestamp>()
                    .err()
                    .map(|_| "must be a time with its offset, like 2026-11-21T18:52:42Z".to_owned()),
            };
            if let Some(wrong) = wrong {
                return Err(Failure::Usage(format!("`--{name}` {wrong}")));
            }
            filter.add(name, &value.to_string_lossy());
        }
        Ok(filter)
    }

    fn add(&mut self, name: &str, value: &str) {
        self.0.push('&');
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                self.0.push(char::from(byte));
            } else {
                // Writing into a string cannot fail.
                let _written = write!(self.0, "%{byte:02X}");
            }
        }
    }

    /// The first so many messages behind this number.
    pub(super) fn behind(&self, after: u64, limit: usize) -> String {
        format!("/v1/messages?after={after}&limit={limit}{}", self.0)
    }

    /// The last so many messages.
    pub(super) fn last(&self, count: usize) -> String {
        format!("/v1/messages?last={count}{}", self.0)
    }
}

/// Some messages, each as its JSON, which is one line.
#[derive(Deserialize)]
pub(super) struct Page<'a> {
    #[serde(borrow)]
    pub messages: Vec<&'a RawValue>,
    pub next: u64,
}

/// A message as it is shown.
#[derive(Deserialize)]
pub(super) struct Shown<'a> {
    pub id: String,
    pub seq: u64,
    pub time: String,
    pub clock: String,
    pub kind: String,
    pub uid: String,
    pub group: String,
    pub via: String,
    pub format: String,
    #[serde(borrow)]
    pub payload: &'a RawValue,
    pub state: String,
    pub source: Option<String>,
    #[serde(borrow)]
    pub network: Option<&'a RawValue>,
    #[serde(default)]
    pub events: Vec<Event>,
}

/// What is known of a message that is gone.
#[derive(Deserialize)]
pub(super) struct Gone {
    pub id: Option<String>,
    pub seq: u64,
    pub state: String,
    pub events: Vec<Event>,
}

/// What happened to a message.
#[derive(Deserialize)]
pub(super) struct Event {
    pub time: String,
    pub event: String,
    pub to: Option<String>,
    pub attempt: Option<u32>,
    pub reason: Option<String>,
    /// The record that was made of it.
    pub id: Option<String>,
}

/// Reads an answer.
pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("the concentrator answered what is not expected: {error}"))
}

/// The number of a message, without reading the rest of it.
pub(super) fn seq(message: &RawValue) -> Result<u64, String> {
    #[derive(Deserialize)]
    struct Numbered {
        seq: u64,
    }
    parse::<Numbered>(message.get()).map(|numbered| numbered.seq)
}

/// Text from outside, harmless to a terminal.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(words: &[&str]) -> Result<Filter, Failure> {
        Filter::of(&Arguments::parse(lexopt::Parser::from_args(words), 0, &FILTERS).unwrap())
    }

    #[test]
    fn options_become_a_query() {
        let filter =
            filter(&["--uid", "a b/é", "--kind=event", "--from", "2026-11-21T19:52:42+01:00"]).unwrap();
        assert_eq!(
            filter.behind(7, 10),
            "/v1/messages?after=7&limit=10&uid=a%20b%2F%C3%A9&kind=event&from=2026-11-21T19%3A52%3A42%2B01%3A00"
        );
        assert_eq!(Filter::default().last(1), "/v1/messages?last=1");
    }

    #[test]
    fn options_that_make_no_sense_are_wrong_usage() {
        for (option, value) in [
            ("--uid", "12345678901234567"),
            ("--group", "12345678901234567"),
            ("--kind", "Telemetry"),
            ("--from", "yesterday"),
            ("--to", "2026-11-21"),
        ] {
            match filter(&[option, value]) {
                Err(Failure::Usage(sentence)) => assert!(sentence.contains(option), "{sentence}"),
                other => panic!("{option} {value}: {other:?}"),
            }
        }
    }

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2J\u{9b}é\n"), "a\u{fffd}[2J\u{fffd}é\u{fffd}");
    }
}
