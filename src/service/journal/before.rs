//! What partner networks brought before the start: their second tries have to be known.

use std::sync::{Arc, Weak};
use std::thread::Builder;

use super::{READ_PAUSE, Shared};
use crate::hub::second_tries::Before;
use crate::ingest::{SEEN_MARGIN_US, SEEN_US};
use crate::journal::catalog::Catalog;
use crate::journal::error::JournalError;
use crate::journal::reader::{Query, Reader};
use crate::journal::record::{Kind, Via};
use crate::journal::stamp::Stamp;
use crate::journal::stored::shown_time;
use crate::logfmt::Quoted;
use crate::service::disk::Disk;

/// Messages that are looked at together.
const PAGE_MESSAGES: usize = 4096;
/// If the journal cannot be read it is tried so often, then second tries are new messages.
const TRIES: u32 = 5;

/// Reads it on a thread of its own and tells the hub.
pub fn start(shared: &Arc<Shared>) -> Result<(), String> {
    let own = Arc::clone(shared);
    let spawned = Builder::new().name("journal-before".to_owned()).spawn(move || run(&own));
    spawned.map(|_detached| ()).map_err(|error| format!("the system gives no threads: {error}"))
}

fn run(shared: &Shared) {
    let catalog = shared.newest.get().catalog.clone();
    let mut reader = Reader::new(Disk::new(&shared.folder));
    let before = (0..TRIES).find_map(|_| match read(&mut reader, &catalog, shared) {
        Ok(before) => Some(before),
        Err(error) => {
            log::error!("event=journal_unreadable error={}", Quoted(error));
            std::thread::sleep(READ_PAUSE);
            None
        }
    });
    if let Some(hub) = shared.hub.get().and_then(Weak::upgrade)
        && !shared.bell.is_stopping()
    {
        hub.give_before(before.unwrap_or_default());
    }
}

/// Everything of the last day before the end of the journal.
fn read(reader: &mut Reader<Disk>, catalog: &Catalog, shared: &Shared) -> Result<Before, JournalError> {
    let mut before = Before::default();
    let spans = catalog.segments.iter().flat_map(|segment| &segment.summary.spans);
    let last = spans.map(|span| {
        let stamp = Stamp { mono_us: span.mono_us.1, wall_us: span.wall_us.1, clock: span.clock };
        shown_time(&stamp, span.boot, &catalog.boots).0
    });
    let from_us = last.max().unwrap_or(0).saturating_sub(SEEN_US + SEEN_MARGIN_US);
    let mut next = Some(0);
    while let Some(from) = next.filter(|_| !shared.bell.is_stopping()) {
        let query = Query {
            from_us,
            kinds: vec![Kind::Telemetry, Kind::Event],
            via: Some(Via::Ingest),
            limit: PAGE_MESSAGES,
            ..Query::from(from)
        };
        let page = reader.read(catalog, &query)?;
        for stored in &page.messages {
            let time_us = stored.time(&catalog.boots).0;
            before.note(stored.id(catalog.journal), stored.seq, time_us, &stored.message);
        }
        next = page.next;
    }
    Ok(before)
}
