//! Records of partner networks that belong to a message: second tries, what networks said later, and the quarantine that it
//! went through.

use super::seen::Seen;
use crate::hub::history::{Beside, Kind, MessageId, Outcome, TraceEvent, Via};
use crate::hub::ingesting::is_quarantine;
use crate::ingest::{Kept, Link, SEEN_MARGIN_US, SEEN_US};
use crate::journal::Seq;
use crate::journal::error::JournalError;
use crate::journal::reader::{Query, Reader};
use crate::journal::stored::Stored;
use crate::service::disk::Disk;
use crate::wire::Uid;

/// Second tries that a trace shows at most.
const LATER_MAX: usize = 100;

/// The message with this id, and what happened to it until it was one: whatever stands in for it if it is none yet.
pub fn find(
    reader: &mut Reader<Disk>,
    seen: &Seen,
    id: MessageId,
) -> Result<Option<(Stored, Vec<TraceEvent>)>, JournalError> {
    let catalog = &seen.catalog;
    let Some(stored) = reader.get_by_id(catalog, id)? else { return Ok(None) };
    let time_us = stored.time(&catalog.boots).0;
    let mut events =
        vec![TraceEvent::new(Outcome::Received, time_us), TraceEvent::new(Outcome::Stored, time_us)];
    if !is_quarantine(&stored.message) {
        return Ok(Some((stored, events)).filter(|_| id == id.of_message()));
    }
    let kept = stored.message.network.as_deref().and_then(Kept::from_network);
    let reason = kept.map(|kept| format!("in quarantine: {}", kept.sentence));
    events.push(TraceEvent { reason, ..TraceEvent::new(Outcome::Refused, time_us) });
    if id != id.of_message() {
        return Ok(Some((stored, events)));
    }
    let Some(release) = find_release(reader, seen, stored.seq, id)? else {
        return Ok(Some((stored, events)));
    };
    let time_us = release.time(&catalog.boots).0;
    let before = reader.get(catalog, release.seq.saturating_sub(1))?;
    let link = |stored: &Stored| stored.message.network.as_deref().and_then(Link::of_stored);
    let is_it = |stored: &Stored| matches!(link(stored), Some(Link::Remapped(of, _)) if of == id);
    let mut remapped = TraceEvent::new(Outcome::Remapped, time_us);
    let message = before.filter(is_it);
    if message.is_none() {
        remapped.reason =
            Some("no message of its own: a second try, or nothing that carries data".to_owned());
    }
    events.push(remapped);
    Ok(Some((message.unwrap_or(stored), events)))
}

/// What was recorded when the message left the quarantine.
fn find_release(
    reader: &mut Reader<Disk>,
    seen: &Seen,
    kept: Seq,
    id: MessageId,
) -> Result<Option<Stored>, JournalError> {
    let mut next = Some(kept.saturating_add(1));
    while let Some(from) = next {
        let query = Query { uid: Some(Uid::CENTRAL), ..of_networks(from) };
        let page = reader.read(&seen.catalog, &query)?;
        next = page.next;
        let is_it = |stored: &Stored| {
            let network = stored.message.network.as_deref();
            network.and_then(Link::of_stored) == Some(Link::Released(id))
        };
        if let Some(found) = page.messages.into_iter().find(is_it) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What came of a message later.
pub fn later(
    reader: &mut Reader<Disk>,
    seen: &Seen,
    message: &Stored,
    id: MessageId,
) -> Result<Vec<TraceEvent>, JournalError> {
    let mut events = Vec::new();
    let catalog = &seen.catalog;
    let until_us = message.time(&catalog.boots).0.saturating_add(SEEN_US + SEEN_MARGIN_US);
    let mut next = Some(message.seq.saturating_add(1)).filter(|_| message.message.via == Via::Ingest);
    while let Some(from) = next.filter(|_| events.len() < LATER_MAX) {
        let uid = Some(message.message.uid);
        let page = reader.read(catalog, &Query { uid, below_us: until_us, ..of_networks(from) })?;
        next = page.next;
        for stored in page.messages {
            let Some(network) = stored.message.network.as_deref() else { continue };
            let (outcome, network) = match Link::of_stored(network) {
                Some(Link::Duplicate(first)) if first == id => (Outcome::Duplicate, None),
                Some(Link::Merged(first)) if first == id => (Outcome::Merged, Some(network.to_vec())),
                _ => continue,
            };
            let time_us = stored.time(&catalog.boots).0;
            let beside = Beside { id: stored.id(catalog.journal), network };
            events.push(TraceEvent { beside: Some(beside), ..TraceEvent::new(outcome, time_us) });
        }
    }
    events.truncate(LATER_MAX);
    Ok(events)
}

fn of_networks(from: Seq) -> Query {
    Query { kinds: vec![Kind::Event], via: Some(Via::Ingest), ..Query::from(from) }
}
