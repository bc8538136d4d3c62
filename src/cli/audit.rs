//! `audit`: who did what to the concentrator, and whether the record of it is whole.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use super::arguments::Arguments;
use super::recall::{Filter, Journal, Kept, Page, Shown, harmless, parse};
use super::{Failure, output};

pub(super) const SUMMARY: &str = "who did what to the concentrator, and whether that is whole";
pub(super) const HELP: &str = "\
Usage: iotsocketd audit [OPTIONS]

The newest records of the audit log, the last one at the bottom: number, time, what, how often, by
whom, from where. Of a running concentrator, or of the files of one that is stopped.

Options:
  --verify       whether any record was removed, changed or moved; exit 1 if so
  --limit N      so many records, up to 1000 [default: 20]
  --uid UID      only of this object
  --from TIME    only from this moment on, like 2026-11-21T18:52:42Z
  --to TIME      only before this moment
  --config FILE  the configuration that it runs with [default: /etc/iotsocketd/iotsocketd.toml]

Example:
  iotsocketd audit --verify
";

/// Records at a time, unless asked otherwise and at most.
const USUAL: usize = 20;
const MAX: usize = 1000;

/// What the concentrator found of the chain.
#[derive(Deserialize)]
struct Report {
    records: u64,
    after: u64,
    last: u64,
    faults: u64,
    sentences: Vec<String>,
}

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let known = ["uid", "from", "to", "limit", "config"];
    let (arguments, verify) = Arguments::parse_with_flag(parser, 0, &known, "verify")?;
    let limit = match arguments.option("limit").map(|text| text.to_string_lossy().parse::<usize>()) {
        None => USUAL,
        Some(Ok(limit @ 1..=MAX)) => limit,
        Some(_) => return Err(Failure::Usage(format!("`--limit` must be from 1 to {MAX}"))),
    };
    let filter = Filter::of(&arguments)?;
    let journal = Kept::of(&arguments)?;
    if verify {
        let body = journal.get("/v1/audit").map_err(Failure::Failed)?;
        return output::answer(&judge(&parse(&body).map_err(Failure::Failed)?).map_err(Failure::Failed)?);
    }
    let path = format!("{}&kind=audit", filter.last(limit));
    let text = list(&journal.get(&path).map_err(Failure::Failed)?).map_err(Failure::Failed)?;
    if text.is_empty() { Ok(()) } else { output::answer(&text) }
}

/// What is found in words; an error if the chain is broken.
fn judge(report: &Report) -> Result<String, String> {
    let Report { records, after, last, faults, sentences } = report;
    let start = match after {
        0 => "from the first on".to_owned(),
        after => format!("behind number {after}, which is gone with its time"),
    };
    if *faults == 0 {
        return Ok(format!("the audit log is whole: {records} records {start}, the last has number {last}"));
    }
    let mut text = format!("the audit log is broken in {faults} places:");
    for sentence in sentences {
        let _written = write!(text, "\n  {sentence}");
    }
    Err(text)
}

// Writing into a string cannot fail.

fn list(body: &str) -> Result<String, String> {
    let page: Page<'_> = parse(body)?;
    let mut text = String::new();
    for message in page.messages {
        let message: Shown<'_> = parse(message.get())?;
        let payload: Value = parse(message.payload.get())?;
        let n = payload.get("n").and_then(Value::as_u64).unwrap_or_default();
        let _written = writeln!(text, "{n:>8}  {}  {}", message.time, in_words(&payload, &message.uid));
    }
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// What was done, how often, by whom, from where, and what else there is to say.
pub(super) fn in_words(payload: &Value, uid: &str) -> String {
    let word = |name: &str| payload.get(name).and_then(Value::as_str).map(harmless).unwrap_or_default();
    let mut text = format!("{:<13}", word("what"));
    let count = payload.get("count").and_then(Value::as_u64).unwrap_or_default();
    if count > 1 {
        let _written = write!(text, "  {count} times");
    }
    let who = match word("who") {
        who if who.is_empty() => harmless(uid),
        who => who,
    };
    for (before, value) in [("by", who), ("from", word("from")), ("", word("detail"))] {
        if !value.is_empty() {
            let _written = write!(text, "  {before}{}{value}", if before.is_empty() { "" } else { " " });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_lines_and_nothing_in_them_steers_the_terminal() {
        let message = |payload: &str| {
            format!(
                r#"{{"id":"i","seq":9,"time":"T","clock":"synced","kind":"audit","uid":"","group":"","via":"local","format":"JSON","payload":{payload},"state":"stored"}}"#
            )
        };
        let body = format!(
            r#"{{"messages":[{},{}],"next":9}}"#,
            message(r#"{"n":1,"what":"login","who":"pump","from":"10.0.0.1","count":1,"hash":"00"}"#),
            message(r#"{"n":2,"what":"refused","from":"10.0.0.2","count":40,"detail":"a\u001b[2J"}"#)
        );
        assert_eq!(
            list(&body).unwrap(),
            "       1  T  login          by pump  from 10.0.0.1\n       2  T  refused        40 times  from 10.0.0.2  a\u{fffd}[2J"
        );
    }

    #[test]
    fn a_chain_that_is_broken_is_a_failure() {
        let report = |faults| Report {
            records: 5,
            after: 3,
            last: 9,
            faults,
            sentences: vec!["record 5 is missing".to_owned()],
        };
        let whole = judge(&report(0)).unwrap();
        assert!(whole.contains("5 records behind number 3") && whole.contains("number 9"), "{whole}");
        assert!(judge(&report(1)).unwrap_err().contains("\n  record 5 is missing"));
    }
}
