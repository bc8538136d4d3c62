//! Log lines of a running concentrator: one line an event on stderr, `key=value`, dated; for the journal with its
//! priority prefix and without the time, which the journal knows.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use env_logger::{Builder, Env};
use log::Level;

/// Starts logging; `RUST_LOG` sets the level, `info` unless set.
pub(super) fn start() {
    start_at("info");
}

/// Starts logging for a command whose output is something else: warnings only, unless `RUST_LOG` says otherwise.
pub(super) fn start_quiet() {
    start_at("warn");
}

fn start_at(level: &str) {
    let is_journal = is_journal();
    let mut builder = Builder::from_env(Env::default().default_filter_or(level));
    builder.format(move |line, record| {
        let text = one_line(&record.args().to_string());
        if is_journal {
            writeln!(line, "<{}>{text}", priority(record.level()))
        } else {
            let level = record.level().as_str().to_ascii_lowercase();
            writeln!(line, "{:.3} level={level} {text}", jiff::Timestamp::now())
        }
    });
    // A second logger in one process (`demo` in a test) is not worth a failure.
    let _started = builder.try_init();
}

/// A line stays a line, whatever was put into it.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() { line.extend(character.escape_default()) } else { line.push(character) }
    }
    line
}

/// systemd says in JOURNAL_STREAM which file its journal is; stderr may have been sent elsewhere since.
fn is_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let stderr = std::fs::metadata("/proc/self/fd/2").map(|file| format!("{}:{}", file.dev(), file.ino()));
    stderr.is_ok_and(|stderr| stream.to_str() == Some(stderr.as_str()))
}

/// Priorities of syslog.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_a_line() {
        assert_eq!(one_line("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
    }
}
