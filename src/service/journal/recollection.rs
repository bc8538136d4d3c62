//! Messages of partner networks that came before, longer ago than memory goes: looked for by their objects.

use std::path::Path;
use std::sync::Arc;

use super::seen::{Newest, Seen};
use super::worker::{Busy, Worker};
use crate::hub::backend::Pending;
use crate::hub::intake::IntakeError;
use crate::hub::second_tries::{Doubt, Recollect, Recollected, key_of_stored};
use crate::journal::error::JournalError;
use crate::journal::reader::{Query, Reader};
use crate::journal::record::{Kind, Via};
use crate::logfmt::Quoted;
use crate::service::disk::Disk;

/// Messages of an object that are looked at together.
const PAGE_MESSAGES: usize = 1024;

/// A thread that looks for them. Those who bring messages wait for it, so it does nothing else.
#[derive(Debug)]
pub struct Recollection(Worker);

impl Recollection {
    /// Of the journal in this folder.
    pub fn start(folder: &Path, newest: &Arc<Newest>) -> Result<Self, String> {
        Worker::start("journal-tries", folder, newest).map(Self)
    }
}

impl Recollect for Recollection {
    fn recollect(&self, source: &str, doubts: Vec<Doubt>) -> Pending<Result<Vec<Recollected>, IntakeError>> {
        let (answer, answered) = smol::channel::bounded(1);
        let source = source.to_owned();
        let asked = self.0.ask(move |reader, seen| {
            let mut found = Vec::new();
            for doubt in &doubts {
                // Whoever asked may have gone away, and others wait.
                if answer.is_closed() {
                    return;
                }
                found.push(look_for(reader, seen, &source, doubt));
            }
            let _gone = answer.try_send(found);
        });
        Box::pin(async move {
            asked.map_err(|Busy| IntakeError::Searching)?;
            answered.recv().await.map_err(|_| IntakeError::Searching)
        })
    }
}

/// What cannot be read did not come before: better twice than never.
fn look_for(reader: &mut Reader<Disk>, seen: &Seen, source: &str, doubt: &Doubt) -> Recollected {
    find(reader, seen, source, doubt).unwrap_or_else(|error| {
        log::error!("event=journal_unreadable error={}", Quoted(error));
        None
    })
}

fn find(
    reader: &mut Reader<Disk>,
    seen: &Seen,
    source: &str,
    doubt: &Doubt,
) -> Result<Recollected, JournalError> {
    let catalog = &seen.catalog;
    let (first, last) = doubt.between;
    let mut next = Some(first);
    while let Some(from) = next {
        let query = Query {
            below: last.saturating_add(1),
            from_us: doubt.from_us,
            uid: Some(doubt.uid),
            kinds: vec![Kind::Telemetry, Kind::Event],
            via: Some(Via::Ingest),
            limit: PAGE_MESSAGES,
            ..Query::from(from)
        };
        let page = reader.read(catalog, &query)?;
        for stored in page.messages {
            let of_source = stored.message.source.as_deref() == Some(source);
            let key = key_of_stored(stored.id(catalog.journal), &stored.message).filter(|_| of_source);
            if let Some((_, first)) = key.filter(|(key, _)| *key == doubt.key) {
                return Ok(Some(first));
            }
        }
        next = page.next;
    }
    Ok(None)
}
