//! Holds the books against the journal now and then, on a thread that is in nobody's way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::{Shared, lock};
use crate::delivery::central;
use crate::journal::audit::Audit;
use crate::journal::reader::Reader;
use crate::journal::record::Kind;
use crate::journal::writer::Writer;
use crate::logfmt::Quoted;
use crate::service::disk::Disk;

/// How often.
pub const AUDIT_INTERVAL: Duration = Duration::from_secs(600);
/// After a step it rests so many times as long as the step took: reading a long backlog takes its time.
const REST: u32 = 4;

/// Starts one as of the last commit, if none is under way.
pub fn start(writer: &Writer<Disk>, shared: &Arc<Shared>) {
    if shared.is_audited.swap(true, Ordering::AcqRel) {
        return;
    }
    let audit = Audit::new(writer.catalog(), &writer.small_with_carry(), central::NAME, Kind::Telemetry);
    let own = Arc::clone(shared);
    let started = Builder::new().name("journal-audit".to_owned()).spawn(move || {
        run(audit, &own);
        own.is_audited.store(false, Ordering::Release);
    });
    if started.is_err() {
        // The next one comes.
        shared.is_audited.store(false, Ordering::Release);
    }
}

fn run(mut audit: Audit, shared: &Shared) {
    let mut reader = Reader::new(Disk::new(&shared.folder));
    loop {
        let begun = Instant::now();
        match audit.step(&mut reader, central::is_for_central) {
            Ok(true) => break,
            Ok(false) if shared.bell.is_stopping() => return,
            Ok(false) => std::thread::sleep(begun.elapsed() * REST),
            Err(error) => {
                log::error!("event=journal_unreadable error={}", Quoted(&error));
                return;
            }
        }
    }
    // What was deleted meanwhile was not counted.
    if !audit.is_valid(&shared.newest.get().catalog) {
        return;
    }
    let mut differ = false;
    for (group, line) in audit.differences() {
        differ = true;
        let (books, found) = (line.by_books, line.found);
        log::error!("event=books_differ group={} waiting_by_books={books} found={found}", Quoted(&group));
    }
    lock(&shared.health).books_differ = differ;
}
