//! What is there, read once at the start. Writes nothing: the writer does what follows from it.
//!
//! Starts with whatever it finds. The end of each segment is known from the one behind it; of the last one it is where
//! its whole batches end, and its last batch is taken out, to be written again: nobody knows whether it was flushed.
//! The small state is the last segment's snapshot and the records behind it; if that is damaged, of the one before.

use std::collections::{BTreeMap, BTreeSet};

use super::Seq;
use super::catalog::{self, HeaderFound, SegmentInfo};
use super::error::JournalError;
use super::index::IndexBuilder;
use super::medium::{Medium, MediumError};
use super::record::{Record, Records};
use super::scan::{Found, Scanner};
use super::segment::{self, Batch, BatchHead, DATA_START, End, Header, RECLAIM_NAME, TAIL_LEN};
use super::state::Small;

/// What was found wrong, or out of the ordinary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Bytes behind the last whole batch of the last segment: a write that nobody was told about.
    pub torn: Option<Damage>,
    /// Damaged stretches; their neighbours are served.
    pub damaged: Vec<Damage>,
    /// Segments that should be there and are not.
    pub missing: Vec<u64>,
    /// Files that are named like segments and are none that can be read.
    pub set_aside: Vec<String>,
    /// The newest records, or all snapshots, could not be read: cursors and the like may be older than they were, and
    /// tokens are forgotten, for nobody knows which of them ended.
    pub state_incomplete: bool,
}

impl Report {
    /// Whether something acknowledged may be lost.
    pub fn is_loss(&self) -> bool {
        !self.damaged.is_empty() || !self.missing.is_empty() || !self.set_aside.is_empty()
    }
}

/// A stretch of a segment that is no whole batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: u64,
    /// Where it starts.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
}

/// What there is.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Segments, oldest first.
    pub segments: Vec<SegmentInfo>,
    /// Of those that are to be sealed: their index.
    pub unsealed: BTreeMap<u64, IndexBuilder>,
    /// The small state, without the batch that was taken out.
    pub small: Small,
    /// The last batch, if it is not known to be flushed.
    pub last: Option<Batch>,
    /// Files that are no longer needed: what was written again elsewhere, and what is deleted already.
    pub superfluous: Vec<String>,
    /// The highest number that any file has or had.
    pub highest: u64,
    /// The time of the newest record by its wall clock, in microseconds.
    pub newest_us: i64,
    /// The newest header, if there is one.
    pub newest: Option<Header>,
    /// Something may have been behind the last segment.
    pub end_lost: bool,
    /// What was found wrong.
    pub report: Report,
}

impl Recovered {
    /// The number behind the last message, without the batch that was taken out.
    pub fn next_seq(&self) -> Seq {
        self.segments.last().map_or(1, |segment| segment.summary.next_seq)
    }
}

/// How often something is read that does not let itself be read.
const ATTEMPTS: usize = 3;

/// One failure to read is no reason to go on without what is there: the small state would go back, for good.
fn attempt<T>(mut read: impl FnMut() -> Result<T, MediumError>) -> Result<T, MediumError> {
    let mut result = read();
    for _ in 1..ATTEMPTS {
        match result {
            Ok(_) | Err(MediumError::NotFound) => break,
            Err(_) => result = read(),
        }
    }
    result
}

struct Candidate {
    header: Header,
    file_len: u64,
}

/// Reads what there is.
pub fn recover<M: Medium + ?Sized>(medium: &mut M) -> Result<Recovered, JournalError> {
    let mut recovered = Recovered::default();
    let candidates = read_headers(medium, &mut recovered)?;
    let last = candidates.keys().next_back().copied().unwrap_or(0);
    recovered.end_lost = recovered.highest > last;
    recovered.report.state_incomplete = recovered.end_lost;
    let Some(newest) = candidates.values().next_back() else { return Ok(recovered) };
    recovered.newest = Some(newest.header.clone());
    let chain = walk_chain(&candidates, &mut recovered);
    let mut next: Option<&Header> = None;
    for number in chain.iter().rev() {
        let Some(candidate) = candidates.get(number) else { continue };
        // Offset 0: whoever wrote the next one could not read this one.
        let told = next.map(|next| next.previous).filter(|end| end.number == *number && end.offset != 0);
        let told = candidate.header.once_more.map(|once_more| once_more.end).or(told);
        read_segment(medium, candidate, told, next.is_none(), &mut recovered)?;
        next = Some(&candidate.header);
    }
    recovered.segments.reverse();
    finish(medium, &mut recovered)?;
    Ok(recovered)
}

fn read_headers<M: Medium + ?Sized>(
    medium: &mut M,
    recovered: &mut Recovered,
) -> Result<BTreeMap<u64, Candidate>, JournalError> {
    let mut candidates = BTreeMap::new();
    for entry in attempt(|| medium.list())? {
        if entry.name == RECLAIM_NAME {
            recovered.superfluous.push(entry.name.clone());
        }
        let Some(number) = segment::number(&entry.name) else { continue };
        recovered.highest = recovered.highest.max(number);
        let found = attempt(|| {
            let file = medium.open(&entry.name)?;
            let found = catalog::read_header(medium, file, entry.len, number);
            medium.close(file);
            found
        });
        match found {
            Ok(HeaderFound::Good(header)) => {
                candidates.insert(number, Candidate { header, file_len: entry.len });
            }
            Ok(HeaderFound::Newer(version)) => {
                return Err(JournalError::NewerFormat { file: entry.name, version });
            }
            Ok(HeaderFound::Bad) | Err(_) => {
                recovered.report.set_aside.push(entry.name);
            }
        }
    }
    // A file of another journal is not ours to serve.
    if let Some(journal) = candidates.values().next_back().map(|newest: &Candidate| newest.header.journal) {
        candidates.retain(|number, candidate| {
            let ours = candidate.header.journal == journal;
            if !ours {
                recovered.report.set_aside.push(segment::name(*number));
            }
            ours
        });
    }
    Ok(candidates)
}

/// The numbers of the segments that count, oldest first: each names the one before it. What lies between two of them
/// was written again in the later one.
fn walk_chain(candidates: &BTreeMap<u64, Candidate>, recovered: &mut Recovered) -> Vec<u64> {
    let oldest = candidates.values().next_back().map_or(1, |newest| newest.header.oldest);
    let mut chain = BTreeSet::new();
    let mut at = candidates.keys().next_back().copied();
    while let Some(number) = at {
        chain.insert(number);
        let Some(candidate) = candidates.get(&number) else { break };
        // None is behind itself, whatever it says.
        let previous = candidate.header.previous.number.min(number.saturating_sub(1));
        if previous >= oldest && previous != 0 && !candidates.contains_key(&previous) {
            recovered.report.missing.push(previous);
        }
        // Also where that one is missing: what lies between was written again in this one, all the same.
        let orphans = candidates.range(previous.saturating_add(1)..number);
        recovered.superfluous.extend(orphans.map(|(orphan, _)| segment::name(*orphan)));
        at = candidates.range(..=previous).next_back().map(|(before, _)| *before);
    }
    chain.into_iter().collect()
}

/// Takes up one segment; called for the newest first.
fn read_segment<M: Medium + ?Sized>(
    medium: &mut M,
    candidate: &Candidate,
    told: Option<End>,
    is_newest: bool,
    recovered: &mut Recovered,
) -> Result<(), JournalError> {
    let header = &candidate.header;
    let name = segment::name(header.number);
    let read = attempt(|| {
        let file = medium.open(&name)?;
        let sealed = read_sealed(medium, candidate, told, file);
        let read = match sealed {
            Ok(Some(info)) => Ok(Ok(info)),
            Ok(None) => scan(medium, candidate, told, is_newest && !recovered.end_lost, file).map(Err),
            Err(error) => Err(error),
        };
        medium.close(file);
        read
    });
    match read {
        Ok(Ok(info)) => {
            if is_newest {
                // It was sealed, so there was one behind it.
                recovered.report.missing.push(header.number + 1);
                recovered.end_lost = true;
            }
            recovered.segments.push(info);
        }
        Ok(Err(scanned)) => {
            recovered.end_lost |= is_newest && scanned.unreadable;
            recovered.report.damaged.extend(scanned.damaged);
            recovered.report.torn = recovered.report.torn.take().or(scanned.torn);
            recovered.last = recovered.last.take().or(scanned.last);
            recovered.unsealed.insert(header.number, scanned.index);
            recovered.segments.push(scanned.info);
        }
        Err(_) => {
            recovered.end_lost |= is_newest;
            recovered.report.set_aside.push(name);
        }
    }
    Ok(())
}

fn read_sealed<M: Medium + ?Sized>(
    medium: &mut M,
    candidate: &Candidate,
    told: Option<End>,
    file: super::medium::FileId,
) -> Result<Option<SegmentInfo>, MediumError> {
    let header = &candidate.header;
    let Some(trailer) = catalog::read_trailer(medium, file, candidate.file_len, header.epoch)? else {
        return Ok(None);
    };
    let end = End { number: header.number, offset: trailer.end, crc: trailer.last_crc };
    if told.is_some_and(|told| told != end) {
        return Ok(None);
    }
    let Some(summary) = catalog::read_summary(medium, file, &trailer)? else { return Ok(None) };
    let file_len = candidate.file_len;
    let (header, trailer, thinned) = (header.clone(), Some(trailer), BTreeSet::new());
    Ok(Some(SegmentInfo { header, end, file_len, trailer, summary, thinned }))
}

struct Scanned {
    info: SegmentInfo,
    index: IndexBuilder,
    damaged: Vec<Damage>,
    torn: Option<Damage>,
    last: Option<Batch>,
    /// Parts could not be read, so they are nothing but zeros here.
    unreadable: bool,
}

/// `is_newest`: nothing is behind it, so its last batch is not known to be flushed.
fn scan<M: Medium + ?Sized>(
    medium: &mut M,
    candidate: &Candidate,
    told: Option<End>,
    is_newest: bool,
    file: super::medium::FileId,
) -> Result<Scanned, MediumError> {
    let header = &candidate.header;
    let limit = candidate.file_len.saturating_sub(TAIL_LEN as u64);
    let limit = told.map_or(limit, |told| told.offset.min(candidate.file_len));
    let damage = |from, to| Damage { segment: header.number, from, to };
    let mut scanner = Scanner::new(file, header.epoch, DATA_START, limit);
    let mut end = End { number: header.number, offset: DATA_START, crc: header.previous.crc };
    let mut index = IndexBuilder::default();
    let (mut damaged, mut torn, mut held) = (Vec::new(), None, None::<(u64, Vec<u8>, BatchHead)>);
    loop {
        match scanner.next(medium)? {
            found @ Found::Batch { offset, head, bytes } => {
                // One batch late: whether it is the last one shows with the next.
                if let Some((offset, bytes, head)) = held.take() {
                    index_batch(&mut index, offset, &bytes, &head);
                    end.offset = offset + head.total_len();
                    end.crc = head.crc;
                }
                if is_newest {
                    held = Some((offset, bytes.to_vec(), head));
                } else {
                    index.add(offset, &head, bytes, found.records());
                    end.offset = offset + head.total_len();
                    end.crc = head.crc;
                }
            }
            Found::Gap { from, to } => damaged.push(damage(from, to)),
            Found::End { offset } => {
                if told.is_some_and(|told| told.offset != offset || told.crc != end.crc) {
                    damaged.push(damage(offset, limit));
                } else if told.is_none()
                    && let Some(to) = garbage(medium, file, offset, limit)?
                {
                    torn = Some(damage(offset, to));
                }
                break;
            }
        }
    }
    let unreadable = scanner.is_unreadable();
    if is_newest && unreadable {
        // What is behind may be there at the next start.
        damaged.push(damage(end.offset, limit));
    }
    // The snapshot was synced before the segment got its name.
    let mut last = None;
    if let Some((offset, bytes, head)) = held {
        if offset == DATA_START || unreadable {
            index_batch(&mut index, offset, &bytes, &head);
            end.offset = offset + head.total_len();
            end.crc = head.crc;
        } else {
            let records = bytes.get(segment::BATCH_HEAD_LEN..).unwrap_or_default().to_vec();
            last = Some(Batch { head, records });
        }
    }
    if let Some(told) = told {
        end = told;
    }
    let mut summary = index.summary();
    if summary.next_seq == 0 {
        (summary.first_seq, summary.next_seq) = (header.first_seq, header.first_seq);
    }
    let (header, file_len, thinned) = (header.clone(), candidate.file_len, BTreeSet::new());
    let info = SegmentInfo { header, end, file_len, trailer: None, summary, thinned };
    Ok(Scanned { info, index, damaged, torn, last, unreadable })
}

fn index_batch(index: &mut IndexBuilder, offset: u64, bytes: &[u8], head: &BatchHead) {
    index.add(offset, head, bytes, bytes.get(segment::BATCH_HEAD_LEN..).unwrap_or_default());
}

/// Where the last byte is that is not zero, from `from` on.
fn garbage<M: Medium + ?Sized>(
    medium: &mut M,
    file: super::medium::FileId,
    from: u64,
    limit: u64,
) -> Result<Option<u64>, MediumError> {
    let mut chunk = vec![0; 64 * 1024];
    let (mut at, mut last) = (from, None);
    while at < limit {
        let len = usize::try_from(limit - at).unwrap_or(usize::MAX).min(chunk.len());
        let read = medium.read_at(file, at, chunk.get_mut(..len).unwrap_or_default())?;
        if read == 0 {
            break;
        }
        let bytes = chunk.get(..read).unwrap_or_default();
        if let Some(place) = bytes.iter().rposition(|byte| *byte != 0) {
            last = Some(at + place as u64 + 1);
        }
        at += read as u64;
    }
    Ok(last)
}

/// The small state, and what is deleted already.
fn finish<M: Medium + ?Sized>(medium: &mut M, recovered: &mut Recovered) -> Result<(), JournalError> {
    let mut small = None;
    let mut start = recovered.segments.len();
    for (at, info) in recovered.segments.iter().enumerate().rev() {
        start = at;
        // What cannot be read, or is damaged, is made up for by an older one and all that came behind it.
        small = attempt(|| first_snapshot(medium, info)).unwrap_or_default();
        if small.is_some() {
            break;
        }
    }
    let mut incomplete = recovered.end_lost || small.is_none() && !recovered.segments.is_empty();
    let mut small = small.unwrap_or_default();
    for info in recovered.segments.iter().skip(start) {
        match attempt(|| replay(medium, info, small.clone())) {
            Ok((next, whole)) => {
                small = next;
                incomplete |= !whole;
            }
            Err(_) => incomplete = true,
        }
    }
    if incomplete {
        small.forget_tokens();
    }
    recovered.report.state_incomplete = incomplete;
    for info in &recovered.segments {
        let newest = info.summary.spans.iter().map(|span| span.wall_us.1).max();
        recovered.newest_us = recovered.newest_us.max(newest.unwrap_or(0)).max(info.header.created_us);
    }
    let mut with_last = small.clone();
    for record in recovered.last.iter().flat_map(|last| Records::new(&last.records)) {
        record.decode().into_iter().for_each(|record| with_last.apply(record));
    }
    let gone = |number: u64| with_last.is_retired(number);
    let segments = &mut recovered.segments;
    recovered.superfluous.extend(segments.iter().filter(|info| gone(info.number())).map(SegmentInfo::name));
    segments.retain(|info| !gone(info.number()));
    recovered.unsealed.retain(|number, _| !gone(*number));
    recovered.report.missing.retain(|number| !gone(*number));
    recovered.report.damaged.retain(|damage| !gone(damage.segment));
    recovered.segments.iter_mut().for_each(|info| info.thinned = with_last.thinned(info.number()));
    recovered.small = small;
    Ok(())
}

fn first_snapshot<M: Medium + ?Sized>(
    medium: &mut M,
    info: &SegmentInfo,
) -> Result<Option<Small>, MediumError> {
    let file = medium.open(&info.name())?;
    let mut scanner = Scanner::new(file, info.header.epoch, DATA_START, info.end.offset);
    let small = scanner.next(medium).map(|found| {
        let record = Records::new(found.records()).next().and_then(|raw| raw.decode());
        match record {
            // What lies behind a gap is not the first.
            Some(Record::Snapshot { data }) if matches!(found, Found::Batch { .. }) => Small::decode(&data),
            _ => None,
        }
    });
    medium.close(file);
    small
}

/// Takes the records of a segment up; and whether all of them were there. Where the snapshot should be nothing is
/// missed: what it says is known from before.
fn replay<M: Medium + ?Sized>(
    medium: &mut M,
    info: &SegmentInfo,
    mut small: Small,
) -> Result<(Small, bool), MediumError> {
    let file = medium.open(&info.name())?;
    let mut scanner = Scanner::new(file, info.header.epoch, DATA_START, info.end.offset);
    let mut whole = true;
    let result = loop {
        match scanner.next(medium) {
            Ok(Found::End { .. }) => break Ok(()),
            Ok(found) => {
                whole &= !matches!(found, Found::Gap { from, .. } if from != DATA_START);
                for record in Records::new(found.records()).filter_map(|raw| raw.decode()) {
                    small.apply(record);
                }
            }
            Err(error) => break Err(error),
        }
    };
    medium.close(file);
    result.map(|()| (small, whole && !scanner.is_unreadable()))
}
