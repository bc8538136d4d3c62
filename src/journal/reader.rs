//! Reading back: by number, time, object, group and kind, oldest or newest first.
//!
//! A reader has a medium of its own and works from the [`Catalog`] of a commit, so it sees what was acknowledged by then
//! and disturbs nobody. Sealed segments are searched by their footers; one without a (good) footer is read through once,
//! and the index of it kept. A segment that was deleted meanwhile is passed over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::Seq;
use super::catalog::{self, Catalog, SegmentInfo};
use super::error::JournalError;
use super::index::{self, Block, IndexBuilder};
use super::medium::{FileId, Medium, MediumError};
use super::record::{Kind, Message, Raw, Record, Records, Via};
use super::recovery::Damage;
use super::scan::{Found, Scanner};
use super::segment::{BatchHead, DATA_START};
use super::stamp::MessageId;
use super::stored::{Stored, shown_time};
use crate::wire::{GroupName, Uid};

/// Segments whose blocks are remembered.
const BLOCKS_KEPT: usize = 4;

/// Which end to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The smallest number first.
    OldestFirst,
    /// The largest number first.
    NewestFirst,
}

/// What is wanted. Conditions are all to hold; an empty list is no condition.
#[derive(Debug, Clone)]
pub struct Query {
    /// Numbers from here.
    pub from: Seq,
    /// Numbers below.
    pub below: Seq,
    /// Shown times from here, microseconds since 1970.
    pub from_us: i64,
    /// Shown times below.
    pub below_us: i64,
    /// Of this object.
    pub uid: Option<Uid>,
    /// Of these groups.
    pub groups: Vec<GroupName>,
    /// Of these kinds.
    pub kinds: Vec<Kind>,
    /// That came in this way.
    pub via: Option<Via>,
    /// How many at most.
    pub limit: usize,
    /// Stop when their payloads, and what networks say about them, have so many bytes together; one is always given.
    pub bytes_max: usize,
    /// Which first.
    pub order: Order,
}

impl Query {
    /// Everything from this number on, oldest first, a hundred and a MiB at most.
    pub fn from(seq: Seq) -> Self {
        Self {
            from: seq,
            below: Seq::MAX,
            from_us: i64::MIN,
            below_us: i64::MAX,
            uid: None,
            groups: Vec::new(),
            kinds: Vec::new(),
            via: None,
            limit: 100,
            bytes_max: 1 << 20,
            order: Order::OldestFirst,
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Page {
    /// Messages, in the order that was asked for.
    pub messages: Vec<Stored>,
    /// There may be more: from this number on, or below it if the newest come first.
    pub next: Option<Seq>,
    /// Stretches that could not be read on the way.
    pub damaged: Vec<Damage>,
    bytes: usize,
}

/// The index of a segment that has no footer to rely on.
#[derive(Debug)]
struct Partial {
    index: IndexBuilder,
    scanned_to: u64,
}

/// A reader.
#[derive(Debug)]
pub struct Reader<M> {
    medium: M,
    /// By the epochs of their segments, as are the blocks.
    partial: BTreeMap<u64, Partial>,
    blocks: VecDeque<(u64, Arc<[Block]>)>,
    /// What was read is not what the catalog says is there.
    is_in_doubt: bool,
}

impl<M: Medium> Reader<M> {
    /// Over a medium of its own.
    pub fn new(medium: M) -> Self {
        Self { medium, partial: BTreeMap::new(), blocks: VecDeque::new(), is_in_doubt: false }
    }

    pub(super) fn medium(&mut self) -> &mut M {
        &mut self.medium
    }

    /// One page of what is wanted.
    pub fn read(&mut self, catalog: &Catalog, query: &Query) -> Result<Page, JournalError> {
        let known = |epoch: u64| catalog.segments.iter().any(|segment| segment.header.epoch == epoch);
        self.partial.retain(|epoch, _| known(*epoch));
        let mut page = Page::default();
        let wanted = catalog.segments.iter().filter(|segment| may_have(segment, catalog, query));
        let segments: Vec<_> = match query.order {
            Order::OldestFirst => wanted.collect(),
            Order::NewestFirst => wanted.rev().collect(),
        };
        for segment in segments {
            let file = match self.medium.open(&segment.name()) {
                Ok(file) => file,
                // Deleted since the catalog was made.
                Err(MediumError::NotFound) => continue,
                Err(error) => return Err(error.into()),
            };
            let full = self.read_as_it_is(file, segment, catalog, query, &mut page);
            self.medium.close(file);
            if full? {
                break;
            }
        }
        Ok(page)
    }

    /// The message with this number, if it is still there.
    pub fn get(&mut self, catalog: &Catalog, seq: Seq) -> Result<Option<Stored>, JournalError> {
        let query = Query { below: seq.saturating_add(1), limit: 1, ..Query::from(seq) };
        Ok(self.read(catalog, &query)?.messages.pop())
    }

    /// The record with this id, or that stands in for the message with this id, if it is one of this journal's and still
    /// there.
    pub fn get_by_id(&mut self, catalog: &Catalog, id: MessageId) -> Result<Option<Stored>, JournalError> {
        let Some(seq) = id.seq(catalog.journal) else { return Ok(None) };
        Ok(self.get(catalog, seq)?.filter(|stored| stored.id(catalog.journal) == id.of_message()))
    }

    /// Reads what is wanted of a segment, whether it is still as the catalog says or was written once more meanwhile.
    fn read_as_it_is(
        &mut self,
        file: FileId,
        segment: &SegmentInfo,
        catalog: &Catalog,
        query: &Query,
        page: &mut Page,
    ) -> Result<bool, MediumError> {
        let before = (page.messages.len(), page.damaged.len(), page.bytes);
        self.is_in_doubt = false;
        let full = self.read_segment(file, segment, catalog, query, page)?;
        if self.is_in_doubt
            && let Some(now) = catalog::written_once_more(&mut self.medium, file, segment)?
        {
            page.messages.truncate(before.0);
            page.damaged.truncate(before.1);
            (page.bytes, page.next) = (before.2, None);
            return self.read_segment(file, &now, catalog, query, page);
        }
        Ok(full)
    }

    /// Reads what is wanted of a segment; whether the page is full.
    fn read_segment(
        &mut self,
        file: FileId,
        segment: &SegmentInfo,
        catalog: &Catalog,
        query: &Query,
        page: &mut Page,
    ) -> Result<bool, MediumError> {
        let (blocks, places) = self.places(file, segment, query)?;
        let step = |at: usize| {
            let block = blocks.get(at)?;
            let next = blocks.get(at + 1);
            let end = next.map_or(segment.end.offset, |next| next.offset.into());
            let too_late = block.first_seq >= query.below;
            let too_early = next.is_some_and(|next| next.first_seq <= query.from);
            let started = |block: &Block| shown_time(&block.start, block.boot, &catalog.boots).0;
            let past = started(block) >= query.below_us;
            let same = next.filter(|next| next.boot == block.boot && next.start.clock == block.start.clock);
            let before = same.is_some_and(|next| started(next) < query.from_us);
            (!too_late && !too_early && !past && !before).then_some((u64::from(block.offset), end))
        };
        let ranges = places.into_iter().filter_map(step);
        let ranges: Vec<_> = match query.order {
            Order::OldestFirst => ranges.collect(),
            Order::NewestFirst => ranges.rev().collect(),
        };
        for (start, end) in ranges {
            let mut found = Vec::new();
            self.read_block(file, segment, (start, end), catalog, query, &mut found, &mut page.damaged)?;
            if query.order == Order::NewestFirst {
                found.reverse();
            }
            for stored in found {
                if page.messages.len() >= query.limit || (page.bytes >= query.bytes_max && page.bytes > 0) {
                    page.next = page.messages.last().map(|last| match query.order {
                        Order::OldestFirst => last.seq.saturating_add(1),
                        Order::NewestFirst => last.seq,
                    });
                    return Ok(true);
                }
                let network = stored.message.network.as_ref().map_or(0, |network| network.len());
                page.bytes += stored.message.payload.len() + network;
                page.messages.push(stored);
            }
        }
        Ok(false)
    }

    #[expect(clippy::too_many_arguments, reason = "one place, and all of it is needed there")]
    fn read_block(
        &mut self,
        file: FileId,
        segment: &SegmentInfo,
        (start, end): (u64, u64),
        catalog: &Catalog,
        query: &Query,
        found: &mut Vec<Stored>,
        damaged: &mut Vec<Damage>,
    ) -> Result<(), MediumError> {
        let mut scanner = Scanner::new(file, segment.header.epoch, start, end);
        let damage = |from, to| Damage { segment: segment.number(), from, to };
        loop {
            let batch = scanner.next(&mut self.medium)?;
            match batch {
                Found::Batch { head, .. } => {
                    let numbered = Records::new(batch.records()).filter(Raw::is_numbered);
                    let messages = (head.first_seq..).zip(numbered);
                    let wanted = |(seq, raw)| wanted(seq, &raw, &head, catalog, query);
                    let is_there = |stored: &Stored| !segment.has_lost(&stored.message);
                    found.extend(messages.filter_map(wanted).filter(is_there));
                }
                Found::Gap { from, to } => {
                    self.is_in_doubt = true;
                    damaged.push(damage(from, to));
                }
                Found::End { offset } => {
                    if offset < end {
                        self.is_in_doubt = true;
                        damaged.push(damage(offset, end));
                    }
                    return Ok(());
                }
            }
        }
    }

    /// The blocks of a segment, and the numbers of those that may have what is wanted.
    fn places(
        &mut self,
        file: FileId,
        segment: &SegmentInfo,
        query: &Query,
    ) -> Result<(Arc<[Block]>, Vec<usize>), MediumError> {
        if let Some(blocks) = self.sealed_blocks(file, segment)? {
            let places = match &query.uid {
                None => Some((0..blocks.len()).collect()),
                Some(uid) => self.sealed_places(file, segment, uid)?,
            };
            if let Some(places) = places {
                self.partial.remove(&segment.header.epoch);
                return Ok((blocks, places));
            }
        }
        self.is_in_doubt |= segment.trailer.is_some();
        let index = self.read_through(file, segment)?;
        let places = match &query.uid {
            None => (0..index.blocks().len()).collect(),
            Some(uid) => to_places(index.object_blocks(uid)),
        };
        Ok((index.blocks().into(), places))
    }

    fn sealed_blocks(
        &mut self,
        file: FileId,
        segment: &SegmentInfo,
    ) -> Result<Option<Arc<[Block]>>, MediumError> {
        let Some(trailer) = &segment.trailer else { return Ok(None) };
        let epoch = segment.header.epoch;
        if let Some((_, blocks)) = self.blocks.iter().find(|(known, _)| *known == epoch) {
            return Ok(Some(Arc::clone(blocks)));
        }
        let bytes = catalog::read_part(&mut self.medium, file, trailer, 1)?;
        let Some(blocks) = bytes.and_then(|bytes| index::decode_blocks(&bytes)) else { return Ok(None) };
        let blocks: Arc<[Block]> = blocks.into();
        if self.blocks.len() >= BLOCKS_KEPT {
            self.blocks.pop_front();
        }
        self.blocks.push_back((epoch, Arc::clone(&blocks)));
        Ok(Some(blocks))
    }

    fn sealed_places(
        &mut self,
        file: FileId,
        segment: &SegmentInfo,
        uid: &Uid,
    ) -> Result<Option<Vec<usize>>, MediumError> {
        let Some(trailer) = &segment.trailer else { return Ok(None) };
        let Some(table) = catalog::read_part(&mut self.medium, file, trailer, 0)? else { return Ok(None) };
        let Some(range) = index::find_object(&table, uid) else { return Ok(Some(Vec::new())) };
        let postings = catalog::read_part(&mut self.medium, file, trailer, 2)?;
        let postings = postings.as_ref().and_then(|postings| postings.get(range));
        Ok(postings.map(|postings| to_places(index::decode_postings(postings))))
    }

    /// The index of a segment, from its batches: those that were not read yet.
    fn read_through(&mut self, file: FileId, segment: &SegmentInfo) -> Result<&IndexBuilder, MediumError> {
        let fresh = || Partial { index: IndexBuilder::default(), scanned_to: DATA_START };
        let partial = self.partial.entry(segment.header.epoch).or_insert_with(fresh);
        let end = segment.end.offset;
        let mut scanner = Scanner::new(file, segment.header.epoch, partial.scanned_to, end);
        while partial.scanned_to < end {
            let found = scanner.next(&mut self.medium)?;
            match found {
                Found::Batch { offset, head, bytes } => {
                    partial.index.add(offset, &head, bytes, found.records());
                    partial.scanned_to = offset + head.total_len();
                }
                Found::Gap { to, .. } => partial.scanned_to = to,
                Found::End { .. } => {
                    self.is_in_doubt = true;
                    partial.scanned_to = end;
                }
            }
        }
        Ok(&partial.index)
    }
}

fn to_places(blocks: Vec<u32>) -> Vec<usize> {
    blocks.into_iter().filter_map(|block| usize::try_from(block).ok()).collect()
}

/// Whether a segment may have something of what is wanted.
fn may_have(segment: &SegmentInfo, catalog: &Catalog, query: &Query) -> bool {
    let summary = &segment.summary;
    let in_numbers = summary.next_seq > query.from && summary.first_seq < query.below && summary.messages > 0;
    let in_time = summary.spans.iter().any(|span| {
        let time = |mono_us, wall_us| {
            let stamp = super::stamp::Stamp { mono_us, wall_us, clock: span.clock };
            shown_time(&stamp, span.boot, &catalog.boots).0
        };
        let first = time(span.mono_us.0, span.wall_us.0);
        let last = time(span.mono_us.1, span.wall_us.1);
        first < query.below_us && last >= query.from_us
    });
    // Some of a group stays when it goes.
    let in_groups =
        query.groups.is_empty() || summary.groups.iter().any(|count| query.groups.contains(&count.group));
    in_numbers && in_time && in_groups
}

/// The message, if it is wanted. What can be told without reading it is told first.
fn wanted(seq: Seq, raw: &Raw<'_>, head: &BatchHead, catalog: &Catalog, query: &Query) -> Option<Stored> {
    if !(query.from..query.below).contains(&seq) {
        return None;
    }
    if query.uid.is_some_and(|uid| raw.uid() != Some(uid.as_str().as_bytes())) {
        return None;
    }
    let stamp = Stored::stamp_of(head, raw.since_us);
    let time = shown_time(&stamp, head.boot, &catalog.boots).0;
    if !(query.from_us..query.below_us).contains(&time) {
        return None;
    }
    let Some(Record::Message(message)) = raw.decode() else { return None };
    let in_groups = query.groups.is_empty() || query.groups.contains(&message.group);
    let in_kinds = query.kinds.is_empty() || query.kinds.contains(&message.kind);
    let is_via = query.via.is_none_or(|via| via == message.via);
    (in_groups && in_kinds && is_via).then(|| Stored {
        seq,
        boot: head.boot,
        stamp,
        message: Message::into_owned(message),
    })
}
