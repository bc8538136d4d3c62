//! What commands print. A reader that went away (`| head`) is no failure.

use std::io::{self, Write};

/// One line, or several, on stdout.
pub(super) fn say(text: &str) {
    let _closed = writeln!(io::stdout().lock(), "{text}");
}

/// One line on stderr.
pub(super) fn complain(text: &str) {
    let _closed = writeln!(io::stderr().lock(), "{text}");
}
