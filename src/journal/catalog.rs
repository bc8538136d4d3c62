//! Which segments there are, and reading the fixed parts of their files.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Seq;
use super::index::{GroupCount, Summary};
use super::medium::{FileId, Medium, MediumError};
use super::record::Message;
use super::segment::{End, HEADER_LEN, Header, HeaderError, Part, TAIL_LEN, TRAILER_LEN, Trailer, name};
use super::stamp::JournalId;
use super::state::Small;
use crate::wire::GroupName;

/// A segment, as far as it counts.
#[derive(Debug, Clone)]
pub struct SegmentInfo {
    /// Its header.
    pub header: Header,
    /// Where its batches end, and the checksum of the last.
    pub end: End,
    /// Bytes of its file.
    pub file_len: u64,
    /// Its trailer, if it is sealed.
    pub trailer: Option<Trailer>,
    /// What is in it.
    pub summary: Summary,
    /// Groups whose messages left the journal ahead of the others, but for audit records: see [`Self::has_lost`].
    pub thinned: BTreeSet<GroupName>,
}

impl SegmentInfo {
    /// Its number.
    pub fn number(&self) -> u64 {
        self.header.number
    }

    /// The name of its file.
    pub fn name(&self) -> String {
        name(self.header.number)
    }

    /// The groups with messages in it that did not leave it.
    pub fn groups(&self) -> impl Iterator<Item = &GroupCount> {
        self.summary.groups.iter().filter(|count| !self.thinned.contains(&count.group))
    }

    /// Whether a message out of it is not there any more.
    pub fn has_lost(&self, message: &Message<'_>) -> bool {
        message.kind.goes_with_group() && self.thinned.contains(&message.group)
    }

    /// Bytes that a group has in it.
    pub fn bytes_of(&self, group: GroupName) -> u64 {
        self.groups().find(|count| count.group == group).map_or(0, |count| count.bytes)
    }
}

/// Everything that a reader needs to know; the writer gives a new one after each commit.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// The journal.
    pub journal: JournalId,
    /// Its segments, oldest first.
    pub segments: Vec<Arc<SegmentInfo>>,
    /// The number that the next message gets: all below are on the medium, if they are not gone.
    pub next_seq: Seq,
    /// Boots whose time is known (see [`Small::boots`]).
    pub boots: Arc<std::collections::BTreeMap<u32, i64>>,
}

impl Catalog {
    /// The first number that is still there; what the next message gets if there is none.
    pub fn first_seq(&self) -> Seq {
        self.segments.first().map_or(self.next_seq, |segment| segment.summary.first_seq)
    }

    /// Whether a message with this number, which cannot be found, was let go of: with its segment, or out of it with its
    /// group.
    pub fn has_let_go(&self, seq: Seq) -> bool {
        let lies_in = |segment: &&Arc<SegmentInfo>| {
            (segment.summary.first_seq..segment.summary.next_seq).contains(&seq)
        };
        let segment = self.segments.iter().find(lies_in);
        seq < self.next_seq && segment.is_none_or(|segment| !segment.thinned.is_empty())
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.file_len).sum()
    }

    pub(super) fn boots_of(small: &Small) -> Arc<std::collections::BTreeMap<u32, i64>> {
        Arc::new(small.boots.clone())
    }
}

/// What the header of a file says.
#[derive(Debug)]
pub enum HeaderFound {
    /// It, from either of its places.
    Good(Header),
    /// Neither is one.
    Bad,
    /// It is of a version that is not known.
    Newer(u32),
}

/// Reads the header of the segment with this number: the second one if the first is damaged.
pub fn read_header<M: Medium + ?Sized>(
    medium: &mut M,
    file: FileId,
    file_len: u64,
    number: u64,
) -> Result<HeaderFound, MediumError> {
    let mut found = HeaderFound::Bad;
    for at in [Some(0), file_len.checked_sub(TAIL_LEN as u64)].into_iter().flatten() {
        match Header::decode(&read(medium, file, at, HEADER_LEN)?) {
            Ok(header) if header.number == number => return Ok(HeaderFound::Good(header)),
            // Another segment's: something was written to the wrong place.
            Ok(_) => {}
            Err(HeaderError::Newer(version)) => found = HeaderFound::Newer(version),
            Err(HeaderError::Bad) => {}
        }
    }
    Ok(found)
}

/// What is known of a segment from its open file, if it was written once more since the catalog was made (see
/// [`super::writer::Writer::reclaim`]).
pub fn written_once_more<M: Medium + ?Sized>(
    medium: &mut M,
    file: FileId,
    segment: &SegmentInfo,
) -> Result<Option<SegmentInfo>, MediumError> {
    let Ok(header) = Header::decode(&read(medium, file, 0, HEADER_LEN)?) else { return Ok(None) };
    let is_other = header.number == segment.number() && header.epoch != segment.header.epoch;
    let end = header.once_more.filter(|_| is_other).map(|once_more| once_more.end);
    Ok(end.map(|end| SegmentInfo { header, end, trailer: None, ..segment.clone() }))
}

/// Reads a file's trailer; `None` if it is not sealed.
pub fn read_trailer<M: Medium + ?Sized>(
    medium: &mut M,
    file: FileId,
    file_len: u64,
    epoch: u64,
) -> Result<Option<Trailer>, MediumError> {
    let Some(at) = file_len.checked_sub(TRAILER_LEN as u64) else { return Ok(None) };
    let trailer = Trailer::decode(&read(medium, file, at, TRAILER_LEN)?, epoch);
    Ok(trailer.filter(|trailer| trailer.end.saturating_add(trailer.footer_len()) <= at))
}

/// Reads a part of a footer; `None` if it is damaged.
pub fn read_part<M: Medium + ?Sized>(
    medium: &mut M,
    file: FileId,
    trailer: &Trailer,
    which: usize,
) -> Result<Option<Vec<u8>>, MediumError> {
    let Some(Part { len, crc }) = trailer.parts.get(which).copied() else { return Ok(None) };
    let before: u64 = trailer.parts.iter().take(which).map(|part| u64::from(part.len)).sum();
    let bytes = read(medium, file, trailer.end + before, usize::try_from(len).unwrap_or(0))?;
    Ok((crc32c::crc32c(&bytes) == crc).then_some(bytes))
}

/// Reads the last part of a footer.
pub fn read_summary<M: Medium + ?Sized>(
    medium: &mut M,
    file: FileId,
    trailer: &Trailer,
) -> Result<Option<Summary>, MediumError> {
    let bytes = read_part(medium, file, trailer, 3)?;
    Ok(bytes.and_then(|bytes| postcard::from_bytes(&bytes).ok()))
}

/// What the end of a file looks like: the header again, and the trailer if it is sealed.
pub fn tail_block(header: &[u8; HEADER_LEN], trailer: Option<[u8; TRAILER_LEN]>) -> Vec<u8> {
    let mut bytes = header.to_vec();
    bytes.resize(TAIL_LEN - TRAILER_LEN, 0);
    bytes.extend(trailer.unwrap_or([0; TRAILER_LEN]));
    bytes
}

/// Reads so many bytes, fewer at the end of the file.
pub(super) fn read<M: Medium + ?Sized>(
    medium: &mut M,
    file: FileId,
    at: u64,
    len: usize,
) -> Result<Vec<u8>, MediumError> {
    let mut bytes = vec![0; len];
    let read = medium.read_at(file, at, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}
