//! `export`: messages of the journal as a file, NDJSON or CSV.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::arguments::Arguments;
use super::progress::Progress;
use super::recall::{FILTERS, Filter, Journal, Kept, Page, Shown, filter_help, parse, seq};
use super::table::grouped;
use super::{Failure, output};

pub(super) const SUMMARY: &str = "messages of the journal as NDJSON or CSV";
pub(super) const HELP: &str = concat!(
    "\
Usage: iotsocketd export [--format ndjson|csv] [--output FILE] [OPTIONS]

All messages that the journal has, oldest first, up to the newest one when it starts.

Options:
  --format F     ndjson: one JSON object a line, as in GET /v1/messages; csv: a line of names, then
                 one line a message, its payload as text or JSON [default: ndjson]
  --output FILE  into this new file, for its owner only; it appears when all is in it
                 [default: what it prints]
",
    filter_help!(),
    "
Example:
  iotsocketd export --format csv --from 2026-11-01T00:00:00Z --output november.csv
"
);

/// Messages at a time.
const PAGE: usize = 1000;
/// The names of the columns of CSV.
const COLUMNS: &str = "seq,id,time,clock,kind,uid,group,via,state,format,payload,source,network";

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One JSON object a line.
    Ndjson,
    /// RFC 4180, with the columns' names first.
    Csv,
}

/// Why an export ended early.
#[derive(Debug)]
enum ExportError {
    /// The journal gave no answer; a sentence.
    Journal(String),
    /// What is written to took no more.
    Write(io::Error),
    /// Somebody stopped it.
    Interrupted,
}

impl From<io::Error> for ExportError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// How far an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Done {
    /// Messages written.
    messages: u64,
    /// Of all numbers that there are to look at, so many percent.
    percent: u64,
}

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let known = [&FILTERS[..], &["format", "output", "config"]].concat();
    let arguments = Arguments::parse(parser, 0, &known)?;
    let form = match arguments.option("format").map(|form| form.to_str()) {
        None | Some(Some("ndjson")) => Form::Ndjson,
        Some(Some("csv")) => Form::Csv,
        Some(_) => return Err(Failure::Usage("`--format` must be ndjson or csv".to_owned())),
    };
    let filter = Filter::of(&arguments)?;
    let journal = Kept::of(&arguments)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    output::interrupt_by_signal(&interrupted)?;
    let mut progress = Progress::new();
    let mut tell = |done: Done| {
        progress.say(|| format!("{} messages, {} %", grouped(done.messages), done.percent));
        !interrupted.load(Ordering::Relaxed)
    };
    let Some(path) = arguments.option("output").map(PathBuf::from) else {
        let written = export(&journal, &filter, form, &mut io::stdout().lock(), &mut tell);
        progress.clear();
        return match written {
            // A reader that went away has enough.
            Err(ExportError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => written.map(drop).map_err(|error| failure(error, "the output")),
        };
    };
    let written = to_file(&path, |out| export(&journal, &filter, form, out, &mut tell));
    match &written {
        Ok(count) => progress.end(&format!("{} messages in {}", grouped(*count), path.display())),
        Err(_) => progress.clear(),
    }
    written.map(drop)
}

/// Writes every message that matches, up to the newest one at the start, and gives their number. Tells how far it is
/// after each page, and ends when that says `false`.
fn export(
    journal: &impl Journal,
    filter: &Filter,
    form: Form,
    out: &mut impl Write,
    tell: &mut impl FnMut(Done) -> bool,
) -> Result<u64, ExportError> {
    let get = |path: &str| journal.get(path).map_err(ExportError::Journal);
    if form == Form::Csv {
        out.write_all(COLUMNS.as_bytes())?;
        out.write_all(b"\r\n")?;
    }
    // New messages keep coming; there must be an end.
    let body = get(&filter.last(1))?;
    let newest: Page<'_> = parse(&body).map_err(ExportError::Journal)?;
    let end = newest.messages.first().map_or(Ok(0), |message| seq(message)).map_err(ExportError::Journal)?;
    let (mut after, mut first, mut messages) = (0, None, 0);
    while after < end {
        let body = get(&filter.behind(after, PAGE))?;
        let page: Page<'_> = parse(&body).map_err(ExportError::Journal)?;
        if page.messages.is_empty() {
            break;
        }
        for message in page.messages {
            let seq = seq(message).map_err(ExportError::Journal)?;
            if seq > end {
                break;
            }
            match form {
                Form::Ndjson => {
                    out.write_all(message.get().as_bytes())?;
                    out.write_all(b"\n")?;
                }
                Form::Csv => {
                    let shown = parse(message.get()).map_err(ExportError::Journal)?;
                    out.write_all(csv_line(&shown).as_bytes())?;
                }
            }
            first.get_or_insert(seq);
            messages += 1;
        }
        after = page.next;
        let first = first.unwrap_or(end);
        let percent = 100 * (after.min(end) + 1).saturating_sub(first) / (end + 1 - first);
        if !tell(Done { messages, percent }) {
            return Err(ExportError::Interrupted);
        }
    }
    out.flush()?;
    Ok(messages)
}

fn csv_line(message: &Shown<'_>) -> String {
    let payload = message.payload.get();
    // ASCII and UTF8 are JSON strings: what they say is shown. The others are JSON.
    let text = serde_json::from_str::<String>(payload).ok().filter(|_| message.format != "JSON");
    let seq = message.seq.to_string();
    let fields = [
        &seq,
        &message.id,
        &message.time,
        &message.clock,
        &message.kind,
        &message.uid,
        &message.group,
        &message.via,
        &message.state,
        &message.format,
        text.as_deref().unwrap_or(payload),
        message.source.as_deref().unwrap_or_default(),
        message.network.map(|network| network.get()).unwrap_or_default(),
    ];
    let mut line = String::new();
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        push_field(&mut line, field);
    }
    line.push_str("\r\n");
    line
}

/// RFC 4180: what holds a comma, a quote or a line break stands in quotes, its own quotes doubled. Space at an end
/// too, which some readers take away.
fn push_field(line: &mut String, field: &str) {
    if !field.contains([',', '"', '\r', '\n']) && field.trim() == field {
        return line.push_str(field);
    }
    line.push('"');
    line.push_str(&field.replace('"', "\"\""));
    line.push('"');
}

/// Writes a new file, which gets its name when it is whole.
fn to_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<u64, ExportError>,
) -> Result<u64, Failure> {
    let name = path.display().to_string();
    if path.symlink_metadata().is_ok() {
        return Err(Failure::Failed(format!("{name} exists already; nothing was written")));
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    // What an interrupted export left behind; as it is made anew, nobody else owns or reads it.
    let _none = fs::remove_file(&part);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
    let file = file.map_err(|error| failure(ExportError::Write(error), &name))?;
    let mut out = BufWriter::new(file);
    let written = write(&mut out).and_then(|count| {
        out.flush()?;
        out.get_ref().sync_all()?;
        fs::rename(&part, path)?;
        Ok(count)
    });
    written.map_err(|error| {
        // Best effort: the failure that led here is the one to tell.
        let _left = fs::remove_file(&part);
        failure(error, &name)
    })
}

fn failure(error: ExportError, name: &str) -> Failure {
    Failure::Failed(match error {
        ExportError::Journal(sentence) => sentence,
        ExportError::Write(error) => format!("{name} cannot be written: {error}"),
        ExportError::Interrupted => "interrupted: the export is not whole".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: &str, payload: &str, rest: &str) -> String {
        let text = format!(
            r#"{{"id":"i","seq":7,"time":"t","clock":"synced","kind":"event","uid":"a,b","group":" g","via":"udp","format":"{format}","payload":{payload},"state":"stored"{rest}}}"#
        );
        csv_line(&parse(&text).unwrap())
    }

    #[test]
    fn a_line_of_csv_has_every_column_and_quotes_what_needs_them() {
        assert_eq!(
            line("JSON", r#"{"t": 1}"#, ""),
            "7,i,t,synced,event,\"a,b\",\" g\",udp,stored,JSON,\"{\"\"t\"\": 1}\",,\r\n"
        );
        assert_eq!(COLUMNS.split(',').count(), 13);
        let text = line("UTF8", r#""a\"b\r\nc""#, r#","source":"s","network":{"port":1}"#);
        assert!(text.ends_with(",UTF8,\"a\"\"b\r\nc\",s,\"{\"\"port\"\":1}\"\r\n"), "{text}");
        assert!(line("JSON", r#""x""#, "").contains(",JSON,\"\"\"x\"\"\",,"), "JSON stays JSON");
        assert!(line("BINARY", "[1,2]", "").contains(",BINARY,\"[1,2]\",,"));
        assert!(line("ASCII", "\"plain\"", "").contains(",ASCII,plain,,"));
    }

    #[test]
    fn a_file_appears_when_it_is_whole_and_never_in_the_place_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let sentence = |result: Result<u64, Failure>| match result {
            Err(Failure::Failed(sentence)) => sentence,
            other => panic!("{other:?}"),
        };
        let broken = to_file(&path, |out| {
            out.write_all(b"half")?;
            assert!(!path.exists());
            Err(ExportError::Interrupted)
        });
        assert!(sentence(broken).contains("interrupted"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let whole = to_file(&path, |out| {
            out.write_all(b"all")?;
            Ok(3)
        });
        assert_eq!(whole.unwrap(), 3);
        assert_eq!(fs::read(&path).unwrap(), b"all");
        assert!(sentence(to_file(&path, |_| Ok(0))).contains("exists already"));
        let nowhere = folder.path().join("no/where");
        assert!(sentence(to_file(&nowhere, |_| Ok(0))).contains("cannot be written"));
    }
}
