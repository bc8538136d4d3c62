//! What commands print. A reader that went away (`| head`) is no failure.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_signal::{Signal, Signals};
use smol::stream::StreamExt as _;

use super::Failure;

/// One line, or several, on stdout.
pub(super) fn say(text: &str) {
    let _closed = writeln!(io::stdout().lock(), "{text}");
}

/// The same for what was asked for: if it did not get out, that is a failure.
pub(super) fn answer(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("the output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// One line on stderr.
pub(super) fn complain(text: &str) {
    let _closed = writeln!(io::stderr().lock(), "{text}");
}

/// Sets the flag at Ctrl-C or SIGTERM.
pub(super) fn interrupt_by_signal(flag: &Arc<AtomicBool>) -> Result<(), Failure> {
    let mut signals = Signals::new([Signal::Int, Signal::Term])
        .map_err(|error| Failure::Failed(format!("signals cannot be received: {error}")))?;
    let flag = Arc::clone(flag);
    let watch = move || {
        if smol::block_on(signals.next()).is_some() {
            flag.store(true, Ordering::Relaxed);
        }
    };
    // Ends with the process: there is nothing to wait for.
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watch)
        .map(drop)
        .map_err(|error| Failure::Failed(format!("the system gives no thread: {error}")))
}
