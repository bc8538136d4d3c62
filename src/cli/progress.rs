//! Progress of long work: a line on a terminal that is written over and over, and nothing in a pipe.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often the line is written anew.
const EVERY: Duration = Duration::from_millis(500);

/// The line, on stderr.
pub(super) struct Progress {
    terminal: bool,
    next: Instant,
}

impl Progress {
    /// Nothing is said yet.
    pub(super) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), next: Instant::now() }
    }

    /// Says this, unless something was said shortly before.
    pub(super) fn say(&mut self, text: impl FnOnce() -> String) {
        if self.terminal && Instant::now() >= self.next {
            self.next = Instant::now() + EVERY;
            // A terminal that has gone away is no reason to end the work.
            let _written = write!(io::stderr(), "\r{}\x1b[K", text());
        }
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        if self.terminal {
            let _written = write!(io::stderr(), "\r\x1b[K");
        }
    }

    /// Says in its place what stays.
    pub(super) fn end(&self, text: &str) {
        if self.terminal {
            let _written = writeln!(io::stderr(), "\r{text}\x1b[K");
        }
    }
}
