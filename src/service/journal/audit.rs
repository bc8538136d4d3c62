//! Holds the books against the journal now and then, on a thread that is in nobody's way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::{Shared, damage, lock};
use crate::delivery::central;
use crate::journal::audit::Audit;
use crate::journal::reader::Reader;
use crate::journal::record::Kind;
use crate::journal::writer::Writer;
use crate::logfmt::Quoted;
use crate::service::disk::Disk;

/// How often.
const AUDIT_INTERVAL: Duration = Duration::from_secs(600);
/// Before it is tried again while one is under way.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// After a step it rests so many times as long as the step took: reading a long backlog takes its time.
const REST: u32 = 4;

/// Starts one as of the last commit, if none is under way; when to look again.
pub fn start(writer: &Writer<Disk>, shared: &Arc<Shared>) -> Duration {
    if shared.is_audited.swap(true, Ordering::AcqRel) {
        return UNDER_WAY;
    }
    let small = writer.small_with_carry();
    let audit = Audit::new(writer.catalog(), &small, central::NAME, Kind::Telemetry);
    let unbooked = damage::unbooked(&small);
    let own = Arc::clone(shared);
    let started = Builder::new().name("journal-audit".to_owned()).spawn(move || {
        run(audit, unbooked, &own);
        own.is_audited.store(false, Ordering::Release);
    });
    if started.is_err() {
        // The next one comes.
        shared.is_audited.store(false, Ordering::Release);
    }
    AUDIT_INTERVAL
}

fn run(mut audit: Audit, unbooked: u64, shared: &Shared) {
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
    if shared.noticed.notice(audit.damaged()) {
        // That is to be known first.
        return;
    }
    let damaged: Vec<_> =
        audit.differences().map(|(group, line)| (group, line.by_books - line.found)).collect();
    let count: u128 = damaged.iter().map(|(_, less)| less.unsigned_abs()).sum();
    if count > 0 && count <= unbooked.into() {
        shared.noticed.book(damaged);
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
