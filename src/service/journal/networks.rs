//! Messages of partner networks: where the API hands them in, and their quarantine.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::Builder;

use super::Shared;
use super::seen::Seen;
use crate::hub::Hub;
use crate::hub::backend::Pending;
use crate::hub::ingesting::{InQuarantine, Released, SHAPES_TOLD_MAX, is_quarantine};
use crate::hub::intake::{Arrival, Intake, IntakeError, REASONS_MAX, Receipt, RemapError, Remapped};
use crate::ingest::{self, Kept, Link, Shape, Source};
use crate::journal::Seq;
use crate::journal::error::JournalError;
use crate::journal::reader::{Query, Reader};
use crate::journal::record::{Kind, Via};
use crate::journal::stored::{ShownClock, Stored};
use crate::logfmt::Quoted;
use crate::service::disk::Disk;
use crate::wire::Uid;

/// Elements that are taken out of quarantine before it is waited until they are on flash.
const TOGETHER: usize = 256;
/// What stands for the reasons that are not told.
const OTHER_REASONS: &str = "other reasons";

/// The intake of a running journal.
#[derive(Debug, Clone)]
pub struct Networks {
    hub: Arc<Hub>,
    shared: Arc<Shared>,
}

impl Networks {
    pub(super) fn new(hub: &Arc<Hub>, shared: &Arc<Shared>) -> Self {
        Self { hub: Arc::clone(hub), shared: Arc::clone(shared) }
    }
}

impl Intake for Networks {
    fn take(&self, source: &str, arrivals: Vec<Arrival>) -> Pending<Result<Vec<Receipt>, IntakeError>> {
        let (hub, shared, source) = (Arc::clone(&self.hub), Arc::clone(&self.shared), source.to_owned());
        Box::pin(async move { hub.take_of_network(&source, arrivals, &shared.recollection).await })
    }

    fn now_us(&self) -> Option<i64> {
        self.shared.clock.right_us()
    }

    fn remap(&self, source: &Source) -> Pending<Result<Remapped, RemapError>> {
        let (shared, source) = (Arc::clone(&self.shared), source.clone());
        Box::pin(async move {
            if shared.is_remapping.swap(true, Ordering::AcqRel) {
                return Err(RemapError::UnderWay);
            }
            let (answer, answered) = smol::channel::bounded(1);
            let own = Arc::clone(&shared);
            let spawned = Builder::new().name("remap".to_owned()).spawn(move || {
                let remapped = remap(&own, &source);
                own.is_remapping.store(false, Ordering::Release);
                // Whoever asked may have gone away.
                let _gone = answer.try_send(remapped);
            });
            if let Err(error) = spawned {
                shared.is_remapping.store(false, Ordering::Release);
                return Err(RemapError::Storage(error.to_string()));
            }
            answered.recv().await.unwrap_or(Err(RemapError::Stopping))
        })
    }
}

fn remap(shared: &Shared, source: &Source) -> Result<Remapped, RemapError> {
    let hub = shared.hub.get().and_then(Weak::upgrade).ok_or(RemapError::Stopping)?;
    smol::block_on(hub.wait_for_before()).map_err(RemapError::Intake)?;
    let seen = shared.newest.get();
    let mut reader = Reader::new(Disk::new(&shared.folder));
    let storage = |error: JournalError| RemapError::Storage(error.to_string());
    let waiting = in_quarantine(&mut reader, &seen, &source.name).map_err(storage)?;
    let (mut told, mut left) = (Remapped::default(), Vec::new());
    for together in waiting.chunks(TOGETHER) {
        for seq in together {
            if shared.bell.is_stopping() {
                return Err(RemapError::Stopping);
            }
            // It may have left the journal meanwhile.
            let Some(stored) = reader.get(&seen.catalog, *seq).map_err(storage)? else { continue };
            match release(&hub, shared, &seen, source, &stored)? {
                (Released::Mapped, _) => told.mapped += 1,
                (Released::Duplicate, _) => told.duplicates += 1,
                (Released::Ignored, _) => told.ignored += 1,
                (Released::Stays(reason), shape) => {
                    told.remaining += 1;
                    if let Some(shape) = shape.filter(|shape| !left.iter().any(|(known, _)| known == shape))
                        && left.len() <= SHAPES_TOLD_MAX
                    {
                        left.push((shape, reason.clone().into_owned()));
                    }
                    let is_told =
                        told.reasons.contains_key(reason.as_ref()) || told.reasons.len() + 1 < REASONS_MAX;
                    let reason = if is_told { reason.into_owned() } else { OTHER_REASONS.to_owned() };
                    *told.reasons.entry(reason).or_default() += 1;
                }
            }
        }
        let on_flash = smol::block_on(hub.all_recorded());
        on_flash.map_err(|never| RemapError::Intake(never.into()))?;
    }
    hub.looked_through(&source.name, &left);
    let Remapped { mapped, remaining, .. } = told;
    log::info!("event=remapped source={} mapped={mapped} remaining={remaining}", Quoted(&source.name));
    Ok(told)
}

/// The numbers of the elements that are in quarantine of this source, oldest first.
fn in_quarantine(reader: &mut Reader<Disk>, seen: &Seen, source: &str) -> Result<Vec<Seq>, JournalError> {
    let mut waiting = BTreeSet::new();
    let mut next = Some(0);
    while let Some(from) = next {
        let uid = Some(Uid::CENTRAL);
        let query = Query { uid, kinds: vec![Kind::Event], via: Some(Via::Ingest), ..Query::from(from) };
        let page = reader.read(&seen.catalog, &query)?;
        for stored in page.messages {
            let message = &stored.message;
            if is_quarantine(message) && message.source.as_deref() == Some(source) {
                waiting.insert(stored.seq);
            } else if let Some(Link::Released(id)) = message.network.as_deref().and_then(Link::of_stored) {
                id.seq(seen.catalog.journal).map(|seq| waiting.remove(&seq));
            }
        }
        next = page.next;
    }
    Ok(waiting.into_iter().collect())
}

/// Maps an element as its source is now; its shape if it stays.
fn release(
    hub: &Hub,
    shared: &Shared,
    seen: &Seen,
    source: &Source,
    stored: &Stored,
) -> Result<(Released, Option<Shape>), RemapError> {
    let network = stored.message.network.as_deref();
    let Some(kept) = network.and_then(Kept::from_network) else {
        return Ok((Released::Stays("what is kept of it cannot be read".into()), None));
    };
    let (arrived_us, clock) = stored.time(&seen.catalog.boots);
    let is_listed = |uid| hub.with_router(|router| router.group_of(uid).is_some());
    let now_us = (clock != ShownClock::Unsynced).then_some(arrived_us);
    let in_quarantine = InQuarantine {
        source: &source.name,
        group: source.group,
        groups: &kept.groups,
        id: stored.id(seen.catalog.journal),
        arrived_us,
    };
    let outcome = || ingest::map_kept(source, &kept, &stored.message.payload, &is_listed, now_us);
    let mapped = outcome();
    smol::block_on(hub.recollect(&source.name, mapped.mapped().into_iter(), &shared.recollection))
        .map_err(RemapError::Intake)?;
    let mut released = hub.release(&in_quarantine, mapped);
    if released == Err(IntakeError::Busy) {
        // Flash is slower than this: one pause is enough, since nothing else is as fast.
        let on_flash = smol::block_on(hub.all_recorded());
        on_flash.map_err(|never| RemapError::Intake(never.into()))?;
        released = hub.release(&in_quarantine, outcome());
    }
    Ok((released.map_err(RemapError::Intake)?, Some(kept.shape)))
}
