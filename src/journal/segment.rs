//! The bytes of a segment file, and what is assumed of the medium.
//!
//! # Layout
//!
//! All integers are little endian. A segment is a file `NNNNNNNNNN.seg` (its number in ten decimal digits) of a length
//! that is fixed when it is made:
//!
//! ```text
//! 0       header, 192 bytes                 who, which format, where the one before ends
//! 192     batch, batch, …                   written front to back, never rewritten
//! end     footer, if sealed                 objects, blocks, postings, summary (see index)
//! len-512 header again, 192 bytes           so that one bad sector does not cost the file
//! len-128 trailer, 128 bytes, if sealed     where in the footer everything is, checksums
//! len
//! ```
//!
//! A segment comes to life with its first batches in it: it is written and synced under the name `spare.tmp`, gets its
//! own name, and the folder is synced. Its header says where the one before it **ends**, and with which checksum;
//! whatever lies behind that end (a torn batch, one whose flush failed and that was written again here) is not part of
//! the journal. So the end of a segment is known from the one behind it; of the last one it is where its batches end.
//! Once the next one is durable a segment is sealed: the footer is written behind its end, and the file shortened.
//!
//! A sealed segment out of which messages of some groups are gone may be written once more without them, to give back their
//! room (version 3, see [`super::writer::Writer::reclaim`]). Behind the checksum of its header stands where it ends itself
//! and whose messages it is without: `u64` offset, `u32` checksum of the last batch, `u32` CRC-32C over the names of the
//! groups, `u32` CRC-32C over the header up to there.
//!
//! Magic, version, and the checksum over the first 128 bytes keep their places in every version of the format, so that
//! a damaged header is never taken for one of a newer version.
//!
//! A batch is a header of 56 bytes and the records (see [`super::record`]):
//!
//! ```text
//! 0  u32 magic           4  u32 bytes of records    8  u32 CRC-32C          12 u32 CRC-32C of the batch before
//! 16 u64 first number    24 u32 numbered records    28 u32 records          32 u64 monotonic µs at its start
//! 40 i64 wall clock µs   48 u32 boot                52 u8  clock is right   53 3 bytes that follow from the epoch
//! ```
//!
//! The checksum covers the segment's random epoch, the batch's offset, and all its bytes but the checksum itself: what an
//! earlier file left in the same blocks, a batch at another place, and bytes that only look like a batch are not believed.
//! Each batch names the checksum of the one before, across segments. A batch that is not whole with a whole one behind
//! it that names it is damage; with nothing behind it, it is the torn end of a write that nobody was told about.
//!
//! # What is assumed of the medium
//!
//! - What was synced stays, also the bytes of a sector in which later bytes are written ("powersafe overwrite").
//! - Of what was not synced, after a power cut any part in pieces of any size may be there, in any order.
//! - A rename is one step; it, a create and a remove are durable after the folder was synced, in any order before.
//! - After a failed sync nothing is known. The file is not synced again; what was not acknowledged goes to a new one.
//! - Reading may fail or give wrong bytes at any time: everything read is checked.

use super::Seq;
use super::codec::Fields;
use super::stamp::{Clock, JournalId, Stamp};

/// The version of the format that is written here. All before are read: version 2 has more in its snapshots.
pub const VERSION: u32 = 2;
/// The version of a segment that was written once more: its header says where it ends.
pub const VERSION_RECLAIMED: u32 = 3;
/// The first version.
const VERSION_MIN: u32 = 1;
/// Bytes of a header.
pub const HEADER_LEN: usize = 192;
/// Bytes at the end of the file that hold the second header and the trailer.
pub const TAIL_LEN: usize = 512;
/// Bytes of a trailer.
pub const TRAILER_LEN: usize = 128;
/// Bytes of a batch's header.
pub const BATCH_HEAD_LEN: usize = 56;
/// Where the first batch starts.
pub const DATA_START: u64 = HEADER_LEN as u64;
/// The name of a segment that is not one yet.
pub const SPARE_NAME: &str = "spare.tmp";
/// The name of a segment that is being written once more.
pub const RECLAIM_NAME: &str = "reclaim.tmp";
/// The smallest segment that makes sense.
pub const SEGMENT_LEN_MIN: u64 = 4096;
/// The largest segment: offsets in footers have 32 bits.
pub const SEGMENT_LEN_MAX: u64 = 1 << 30;

const HEADER_MAGIC: [u8; 8] = *b"IOTSJRNL";
/// Bytes of a header that its checksum covers; the checksum is behind them.
const HEADER_CHECKED: usize = 128;
/// Where in a header is said that it was written once more, behind the checksum, and how much without one of its own.
const ONCE_MORE_AT: usize = HEADER_CHECKED + 4;
const ONCE_MORE_LEN: usize = 8 + 4 + 4;
const BATCH_MAGIC: [u8; 4] = [0xb7, 0x1e, 0x4a, 0xc9];
const TRAILER_MAGIC: [u8; 4] = [0x5e, 0xa1, 0xed, 0x0f];
/// Where in a batch's header its checksum is.
const CRC_AT: usize = 8;
/// Bytes of an environment's name.
pub const ENVIRONMENT_LEN: usize = 16;

/// Where a segment ends: said by the one behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The segment.
    pub number: u64,
    /// Bytes of it that count.
    pub offset: u64,
    /// The checksum of its last batch.
    pub crc: u32,
}

/// What stands at the start of a segment, and again near its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its version of the format.
    pub version: u32,
    /// Its number: the first is 1.
    pub number: u64,
    /// Random, this segment's own.
    pub epoch: u64,
    /// The journal that it belongs to.
    pub journal: JournalId,
    /// Which boot of the machine wrote it, counted from 1.
    pub boot: u32,
    /// The operating system's name for that boot.
    pub boot_id: [u8; 16],
    /// The number that its first message gets.
    pub first_seq: Seq,
    /// When it was made, by the wall clock, microseconds since 1970.
    pub created_us: i64,
    /// Where the one before ends; number 0: there was none.
    pub previous: End,
    /// The oldest segment there was.
    pub oldest: u64,
    /// Which environment it was made in.
    pub environment: [u8; ENVIRONMENT_LEN],
    /// That it was written once more without messages that are gone.
    pub once_more: Option<OnceMore>,
}

/// What a segment that was written once more says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnceMore {
    /// Where it ends, whatever the one behind it says.
    pub end: End,
    /// A checksum that says without which groups' messages.
    pub without: u32,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// They are something else, or damaged.
    Bad,
    /// They are of a version that was made after this program.
    Newer(u32),
}

impl Header {
    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend(HEADER_MAGIC);
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.boot.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.epoch.to_le_bytes());
        bytes.extend(self.journal.0);
        bytes.extend(self.boot_id);
        bytes.extend(self.first_seq.to_le_bytes());
        bytes.extend(self.created_us.to_le_bytes());
        bytes.extend(self.previous.number.to_le_bytes());
        bytes.extend(self.previous.offset.to_le_bytes());
        bytes.extend(self.previous.crc.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.oldest.to_le_bytes());
        bytes.extend(self.environment);
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        if let Some(OnceMore { end, without }) = self.once_more {
            bytes.extend(end.offset.to_le_bytes());
            bytes.extend(end.crc.to_le_bytes());
            bytes.extend(without.to_le_bytes());
            bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        }
        padded(&bytes)
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let (body, rest) = bytes.split_at_checked(HEADER_CHECKED).ok_or(HeaderError::Bad)?;
        let mut fields = Fields(body);
        let header = Self::read(&mut fields).ok_or(HeaderError::Bad)?;
        let intact = Fields(rest).u32() == Some(crc32c::crc32c(body));
        match header {
            header if intact && (VERSION_MIN..=VERSION).contains(&header.version) => Ok(header),
            header if intact && header.version == VERSION_RECLAIMED => {
                let once_more = Self::read_once_more(bytes, header.number).ok_or(HeaderError::Bad)?;
                Ok(Self { once_more: Some(once_more), ..header })
            }
            Self { version, .. } if intact && version > VERSION_RECLAIMED => Err(HeaderError::Newer(version)),
            _ => Err(HeaderError::Bad),
        }
    }

    fn read_once_more(bytes: &[u8], number: u64) -> Option<OnceMore> {
        let mut fields = Fields(bytes.get(ONCE_MORE_AT..)?);
        let end = End { number, offset: fields.u64()?, crc: fields.u32()? };
        let without = fields.u32()?;
        let is_intact = fields.u32()? == crc32c::crc32c(bytes.get(..ONCE_MORE_AT + ONCE_MORE_LEN)?);
        is_intact.then_some(OnceMore { end, without })
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        if fields.array()? != HEADER_MAGIC {
            return None;
        }
        let version = fields.u32()?;
        let boot = fields.u32()?;
        let number = fields.u64()?;
        let epoch = fields.u64()?;
        let journal = JournalId(fields.array()?);
        let boot_id = fields.array()?;
        let first_seq = fields.u64()?;
        let created_us = fields.i64()?;
        let previous = End { number: fields.u64()?, offset: fields.u64()?, crc: fields.u32()? };
        let _zero = fields.u32()?;
        let oldest = fields.u64()?;
        let environment = fields.array()?;
        Some(Self {
            version,
            number,
            epoch,
            journal,
            boot,
            boot_id,
            first_seq,
            created_us,
            previous,
            oldest,
            environment,
            once_more: None,
        })
    }
}

/// The header of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHead {
    /// Bytes of its records.
    pub len: u32,
    /// The checksum of the whole.
    pub crc: u32,
    /// The checksum of the batch before.
    pub chain: u32,
    /// The number of its first message, or what the next message gets if it has none.
    pub first_seq: Seq,
    /// How many messages it has.
    pub numbered: u32,
    /// How many records it has.
    pub records: u32,
    /// When it began.
    pub start: Stamp,
    /// In which boot.
    pub boot: u32,
}

impl BatchHead {
    /// Bytes of the whole batch.
    pub fn total_len(&self) -> u64 {
        BATCH_HEAD_LEN as u64 + u64::from(self.len)
    }

    /// The number behind its last message.
    pub fn next_seq(&self) -> Seq {
        self.first_seq.saturating_add(self.numbered.into())
    }

    /// Appends the batch as it lies at `offset` of the segment with this epoch, and gives its checksum. `len` and `crc`
    /// are filled in here.
    pub fn encode(&self, records: &[u8], epoch: u64, offset: u64, into: &mut Vec<u8>) -> u32 {
        let len = u32::try_from(records.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut head = Vec::with_capacity(BATCH_HEAD_LEN);
        head.extend(self.chain.to_le_bytes());
        head.extend(self.first_seq.to_le_bytes());
        head.extend(self.numbered.to_le_bytes());
        head.extend(self.records.to_le_bytes());
        head.extend(self.start.mono_us.to_le_bytes());
        head.extend(self.start.wall_us.to_le_bytes());
        head.extend(self.boot.to_le_bytes());
        head.push(u8::from(self.start.clock == Clock::Synced));
        head.extend(tag(epoch));
        let pieces = [BATCH_MAGIC.as_slice(), &len, &head, records];
        let crc = pieces.into_iter().fold(seed(epoch, offset), crc32c::crc32c_append);
        into.reserve(BATCH_HEAD_LEN + records.len());
        into.extend(BATCH_MAGIC);
        into.extend(len);
        into.extend(crc.to_le_bytes());
        into.extend(head);
        into.extend(records);
        crc
    }

    /// Reads the first [`BATCH_HEAD_LEN`] bytes, unchecked: only the whole batch can be checked. `None` if this can be
    /// no batch.
    pub fn decode(bytes: &[u8], epoch: u64) -> Option<Self> {
        let mut fields = Fields(bytes.get(..BATCH_HEAD_LEN)?);
        if fields.array()? != BATCH_MAGIC {
            return None;
        }
        let len = fields.u32()?;
        let crc = fields.u32()?;
        let chain = fields.u32()?;
        let first_seq = fields.u64()?;
        let numbered = fields.u32()?;
        let records = fields.u32()?;
        let mono_us = fields.u64()?;
        let wall_us = fields.i64()?;
        let boot = fields.u32()?;
        let clock = match fields.array()? {
            [0] => Clock::Unsynced,
            [1] => Clock::Synced,
            _ => return None,
        };
        if fields.array()? != tag(epoch) {
            return None;
        }
        let start = Stamp { mono_us, wall_us, clock };
        Some(Self { len, crc, chain, first_seq, numbered, records, start, boot })
    }

    /// Whether `batch`, header and records, is whole and belongs at `offset` of the segment with this epoch.
    pub fn is_intact(&self, batch: &[u8], epoch: u64, offset: u64) -> bool {
        let Some((before, rest)) = batch.split_at_checked(CRC_AT) else { return false };
        let behind = rest.get(4..).unwrap_or_default();
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed(epoch, offset), before), behind);
        batch.len() as u64 == self.total_len() && crc == self.crc
    }

    /// The first place in these bytes where a batch might start.
    pub fn find(bytes: &[u8]) -> Option<usize> {
        bytes.windows(BATCH_MAGIC.len()).position(|window| window == BATCH_MAGIC)
    }
}

/// A batch before it has a place, or taken out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its header; lengths and checksums follow from its place.
    pub head: BatchHead,
    /// Its records.
    pub records: Vec<u8>,
}

/// What every batch of a segment has in its header, and nobody outside can know: payloads that are made to look like
/// batches do not even cost a checksum.
fn tag(epoch: u64) -> [u8; 3] {
    let [a, b, c, _] = crc32c::crc32c(&epoch.to_be_bytes()).to_le_bytes();
    [a, b, c]
}

fn seed(epoch: u64, offset: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&epoch.to_le_bytes()), &offset.to_le_bytes())
}

/// The end of a sealed segment: where its footer is, and the checksums of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Where the batches end and the footer starts.
    pub end: u64,
    /// The checksum of the last batch.
    pub last_crc: u32,
    /// The checksum of all batches as they lie there.
    pub data_crc: u32,
    /// Bytes and checksum of each part of the footer, in their order.
    pub parts: [Part; 4],
}

/// A part of a footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Part {
    /// Its bytes.
    pub len: u32,
    /// Their checksum.
    pub crc: u32,
}

impl Trailer {
    /// Its bytes in the segment with this epoch.
    pub fn encode(&self, epoch: u64) -> [u8; TRAILER_LEN] {
        let mut bytes = Vec::with_capacity(TRAILER_LEN);
        bytes.extend(TRAILER_MAGIC);
        bytes.extend(self.last_crc.to_le_bytes());
        bytes.extend(self.end.to_le_bytes());
        bytes.extend(self.data_crc.to_le_bytes());
        for part in self.parts {
            bytes.extend(part.len.to_le_bytes());
            bytes.extend(part.crc.to_le_bytes());
        }
        bytes.extend(crc32c::crc32c_append(seed(epoch, self.end), &bytes).to_le_bytes());
        padded(&bytes)
    }

    /// Reads it; `None` if the segment is not sealed, or this is damaged.
    pub fn decode(bytes: &[u8], epoch: u64) -> Option<Self> {
        const CHECKED: usize = 20 + 4 * 8;
        let (body, rest) = bytes.split_at_checked(CHECKED)?;
        let mut fields = Fields(body);
        if fields.array()? != TRAILER_MAGIC {
            return None;
        }
        let last_crc = fields.u32()?;
        let end = fields.u64()?;
        let data_crc = fields.u32()?;
        let mut parts = [Part::default(); 4];
        for part in &mut parts {
            *part = Part { len: fields.u32()?, crc: fields.u32()? };
        }
        let intact = Fields(rest).u32()? == crc32c::crc32c_append(seed(epoch, end), body);
        intact.then_some(Self { end, last_crc, data_crc, parts })
    }

    /// Bytes of the whole footer.
    pub fn footer_len(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.len)).sum()
    }
}

/// The name of the segment with this number.
pub fn name(number: u64) -> String {
    format!("{number:010}.seg")
}

/// The number of the segment with this name.
pub fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let canonical = digits.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| canonical)
}

fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    for (slot, byte) in array.iter_mut().zip(bytes) {
        *slot = *byte;
    }
    array
}

#[cfg(test)]
mod tests;
