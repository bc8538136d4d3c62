//! What a journal holds that nobody writes to, for whoever only looks: nothing is changed by it.

use std::sync::Arc;

use super::catalog::Catalog;
use super::error::JournalError;
use super::medium::Medium;
use super::record::Records;
use super::recovery::{Report, recover};
use super::segment::{BATCH_HEAD_LEN, Batch};
use super::stamp::JournalId;
use super::state::Small;

/// What there is.
#[derive(Debug)]
pub struct Look {
    /// Where what lies.
    pub catalog: Catalog,
    /// The small state.
    pub small: Small,
    /// What was found wrong.
    pub report: Report,
}

/// Looks. `None` if there is no journal.
pub fn look<M: Medium + ?Sized>(medium: &mut M) -> Result<Option<Look>, JournalError> {
    let mut found = recover(medium)?;
    let Some(newest) = &found.newest else { return Ok(None) };
    let journal: JournalId = newest.journal;
    // The last batch was taken out to be written again. Here it is read where it is.
    if let (Some(Batch { head, records }), Some(segment)) = (found.last.take(), found.segments.last_mut())
        && let Some(index) = found.unsealed.get_mut(&segment.number())
    {
        let batch = medium.open(&segment.name()).and_then(|file| {
            let mut bytes = vec![0; BATCH_HEAD_LEN + records.len()];
            let read = medium.read_at(file, segment.end.offset, &mut bytes);
            medium.close(file);
            read.map(|_| bytes)
        })?;
        index.add(segment.end.offset, &head, &batch, &records);
        segment.end.offset += head.total_len();
        segment.end.crc = head.crc;
        segment.summary = index.summary();
        for record in Records::new(&records).filter_map(|raw| raw.decode()) {
            found.small.apply(record);
        }
    }
    let next_seq = found.next_seq();
    let segments = found.segments.into_iter().map(Arc::new).collect();
    let boots = Catalog::boots_of(&found.small);
    let catalog = Catalog { journal, segments, next_seq, boots };
    Ok(Some(Look { catalog, small: found.small, report: found.report }))
}
