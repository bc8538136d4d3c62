//! What a segment has where: blocks of batches by number and time, and for each object the blocks with its messages.
//!
//! # Layout of a footer
//!
//! ```text
//! objects   32 bytes each, sorted by UID   UID 16, u32 messages, u32 where its postings start, u32 their bytes, u32 zero
//! blocks    32 bytes each, in order        u32 offset, u32 boot * 2 + clock is right, u64 first number, i64 wall, u64 mono
//! postings  varints                        numbers of blocks: the first, then distances
//! summary   postcard                       see Summary
//! ```
//!
//! A block is a run of batches of one boot and one quality of the clock, of at least [`BLOCK_LEN`] bytes but for the last:
//! so the footer stays small when batches are small, and little is read to find a little.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::Seq;
use super::codec::{self, Fields};
use super::record::{Message, Raw, Record, Records};
use super::segment::{BatchHead, Part, Trailer};
use super::stamp::{Clock, Stamp};
use crate::wire::{GroupName, NAME_LEN, Uid};

/// Bytes of a block at least, but for the last of a segment and where boot or clock change.
pub const BLOCK_LEN: u64 = 16 * 1024;
/// Bytes of an entry of objects and of blocks.
pub const ENTRY_LEN: usize = 32;

/// A run of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Where it starts.
    pub offset: u32,
    /// In which boot it was written.
    pub boot: u32,
    /// The number of its first message, or what the next one gets if it has none.
    pub first_seq: Seq,
    /// When it began.
    pub start: Stamp,
}

/// Messages of one boot and one quality of the clock: their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The boot.
    pub boot: u32,
    /// Whether the clock was right.
    pub clock: Clock,
    /// Monotonic microseconds of the first and the last message.
    pub mono_us: (u64, u64),
    /// Wall clock microseconds of the first and the last message.
    pub wall_us: (i64, i64),
}

/// A group's messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCount {
    /// The group.
    #[serde(with = "codec::group")]
    pub group: GroupName,
    /// How many.
    pub messages: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

/// What is kept in memory of every segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Summary {
    /// The number of its first message, or what the next one gets if it has none.
    pub first_seq: Seq,
    /// The number behind its last message.
    pub next_seq: Seq,
    /// How many messages it has: damage and jumps leave numbers out.
    pub messages: u64,
    /// Their times.
    pub spans: Vec<Span>,
    /// Their groups.
    pub groups: Vec<GroupCount>,
}

#[derive(Debug, Clone, Default)]
struct Object {
    messages: u32,
    last_block: u32,
    postings: Vec<u8>,
}

/// The index of a segment while it grows.
#[derive(Debug, Clone, Default)]
pub struct IndexBuilder {
    blocks: Vec<Block>,
    objects: HashMap<Uid, Object>,
    groups: BTreeMap<GroupName, (u64, u64)>,
    summary: Summary,
    postings_len: usize,
    data_crc: u32,
}

impl IndexBuilder {
    /// Takes up the next batch, which lies at this offset.
    pub fn add(&mut self, offset: u64, head: &BatchHead, batch: &[u8], records: &[u8]) {
        self.begin(offset, head, batch);
        for raw in Records::new(records).filter(|raw| raw.is_numbered()) {
            if let Some(Record::Message(message)) = raw.decode() {
                self.add_message(head, &raw, &message);
            }
        }
    }

    /// The same but for its messages, which follow with [`Self::add_message`].
    pub fn begin(&mut self, offset: u64, head: &BatchHead, batch: &[u8]) {
        self.data_crc = crc32c::crc32c_append(self.data_crc, batch);
        let fresh = self.blocks.last().is_none_or(|block| {
            offset.saturating_sub(block.offset.into()) >= BLOCK_LEN
                || block.boot != head.boot
                || block.start.clock != head.start.clock
        });
        if fresh {
            let offset = u32::try_from(offset).unwrap_or(u32::MAX);
            self.blocks.push(Block { offset, boot: head.boot, first_seq: head.first_seq, start: head.start });
        }
        if self.summary.next_seq == 0 {
            self.summary.first_seq = head.first_seq;
        }
        self.summary.next_seq = head.next_seq();
    }

    /// Takes up a message of the batch that was begun.
    pub fn add_message(&mut self, head: &BatchHead, raw: &Raw<'_>, message: &Message<'_>) {
        let (messages, bytes) = self.groups.entry(message.group).or_default();
        *messages += 1;
        *bytes += raw.bytes.len() as u64;
        self.add_object(message.uid);
        self.summary.messages += 1;
        self.add_time(head, raw.since_us);
    }

    fn add_object(&mut self, uid: Uid) {
        let block = u32::try_from(self.blocks.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let object = self.objects.entry(uid).or_default();
        let before = object.postings.len();
        if object.messages == 0 {
            codec::put_varint(block.into(), &mut object.postings);
        } else if object.last_block != block {
            codec::put_varint(block.saturating_sub(object.last_block).into(), &mut object.postings);
        }
        object.messages += 1;
        object.last_block = block;
        self.postings_len += object.postings.len() - before;
    }

    fn add_time(&mut self, head: &BatchHead, since_us: u64) {
        let (mono, wall) = head.start.later(since_us);
        match self.summary.spans.last_mut() {
            Some(span) if span.boot == head.boot && span.clock == head.start.clock => {
                span.mono_us.1 = mono;
                span.wall_us.1 = wall;
            }
            _ => self.summary.spans.push(Span {
                boot: head.boot,
                clock: head.start.clock,
                mono_us: (mono, mono),
                wall_us: (wall, wall),
            }),
        }
    }

    /// How many messages it has so far.
    pub fn messages(&self) -> u64 {
        self.summary.messages
    }

    /// Its blocks so far.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The blocks with messages of this object, in order.
    pub fn object_blocks(&self, uid: &Uid) -> Vec<u32> {
        self.objects.get(uid).map(|object| decode_postings(&object.postings)).unwrap_or_default()
    }

    /// What is known in short.
    pub fn summary(&self) -> Summary {
        let groups = self.groups.iter().map(|(group, (messages, bytes))| GroupCount {
            group: *group,
            messages: *messages,
            bytes: *bytes,
        });
        Summary { groups: groups.collect(), ..self.summary.clone() }
    }

    /// Bytes that a footer takes at most once a batch with so many messages was added.
    pub fn footer_len_max(&self, messages: u32) -> u64 {
        let messages = u64::from(messages);
        let objects = self.objects.len() as u64 + messages;
        let blocks = self.blocks.len() as u64 + 1;
        let groups = self.groups.len() as u64 + messages;
        let spans = self.summary.spans.len() as u64 + 1;
        let entries = (objects + blocks) * ENTRY_LEN as u64;
        entries + self.postings_len as u64 + messages * 5 + groups * 38 + spans * 46 + 64
    }

    /// The footer of a segment that ends there, and the trailer that leads to it.
    pub fn footer(&self, end: u64, last_crc: u32) -> (Vec<u8>, Trailer) {
        let mut objects: Vec<_> = self.objects.iter().collect();
        objects.sort_unstable_by_key(|(uid, _)| **uid);
        let (mut table, mut postings) = (Vec::new(), Vec::new());
        for (uid, object) in objects {
            table.extend(uid.to_wire());
            table.extend(object.messages.to_le_bytes());
            table.extend(u32::try_from(postings.len()).unwrap_or(u32::MAX).to_le_bytes());
            table.extend(u32::try_from(object.postings.len()).unwrap_or(u32::MAX).to_le_bytes());
            table.extend([0; 4]);
            postings.extend(&object.postings);
        }
        let mut blocks = Vec::new();
        for block in &self.blocks {
            blocks.extend(block.offset.to_le_bytes());
            blocks.extend((block.boot << 1 | u32::from(block.start.clock == Clock::Synced)).to_le_bytes());
            blocks.extend(block.first_seq.to_le_bytes());
            blocks.extend(block.start.wall_us.to_le_bytes());
            blocks.extend(block.start.mono_us.to_le_bytes());
        }
        // Only running out of memory could fail here; a footer without its summary is not believed.
        let summary = postcard::to_stdvec(&self.summary()).unwrap_or_default();
        let parts = [&table, &blocks, &postings, &summary];
        let sums = parts.map(|part| Part {
            len: u32::try_from(part.len()).unwrap_or(u32::MAX),
            crc: crc32c::crc32c(part),
        });
        let trailer = Trailer { end, last_crc, data_crc: self.data_crc, parts: sums };
        (parts.into_iter().flatten().copied().collect(), trailer)
    }
}

/// Finds an object in the first part of a footer: where in the third its postings are.
pub fn find_object(table: &[u8], uid: &Uid) -> Option<std::ops::Range<usize>> {
    let (entries, _) = table.as_chunks::<ENTRY_LEN>();
    let wanted = uid.to_wire();
    let at = entries.binary_search_by(|entry| entry.first_chunk::<NAME_LEN>().cmp(&Some(&wanted))).ok()?;
    let mut fields = Fields(entries.get(at)?.get(NAME_LEN..)?);
    let _messages = fields.u32()?;
    let start = usize::try_from(fields.u32()?).ok()?;
    let len = usize::try_from(fields.u32()?).ok()?;
    Some(start..start.checked_add(len)?)
}

/// Reads the second part of a footer.
pub fn decode_blocks(bytes: &[u8]) -> Option<Vec<Block>> {
    let (entries, rest) = bytes.as_chunks::<ENTRY_LEN>();
    let decode = |entry: &[u8; ENTRY_LEN]| {
        let mut fields = Fields(entry);
        let offset = fields.u32()?;
        let boot = fields.u32()?;
        let clock = if boot & 1 == 1 { Clock::Synced } else { Clock::Unsynced };
        let first_seq = fields.u64()?;
        let start = Stamp { wall_us: fields.i64()?, mono_us: fields.u64()?, clock };
        Some(Block { offset, boot: boot >> 1, first_seq, start })
    };
    rest.is_empty().then(|| entries.iter().map(decode).collect())?
}

/// Reads an object's postings: numbers of blocks, in order.
pub fn decode_postings(mut bytes: &[u8]) -> Vec<u32> {
    let mut blocks = Vec::new();
    let mut at = 0_u64;
    while let Some((distance, rest)) = codec::take_varint(bytes) {
        at = at.saturating_add(distance);
        blocks.push(u32::try_from(at).unwrap_or(u32::MAX));
        bytes = rest;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record;
    use crate::journal::tests::message;

    fn batch(uids: &[&str], first_seq: Seq, wall_us: i64) -> (BatchHead, Vec<u8>) {
        let mut records = Vec::new();
        for uid in uids {
            let record = Record::Message(message(uid, "g", b"data"));
            record::encode(&record, 5, &mut records).unwrap();
        }
        let numbered = uids.len() as u32;
        let start = Stamp { mono_us: 1, wall_us, clock: Clock::Synced };
        let len = records.len() as u32;
        (BatchHead { len, crc: 0, chain: 0, first_seq, numbered, records: numbered, start, boot: 2 }, records)
    }

    #[test]
    fn a_footer_leads_to_every_object() {
        let mut index = IndexBuilder::default();
        let mut seq = 1;
        for round in 0..10_u64 {
            let names = [["a", "b", "c"], ["a", "d", "e"]][usize::from(round % 3 == 0)];
            let (head, records) = batch(&names, seq, round as i64);
            let before = index.footer_len_max(head.numbered);
            index.add(192 + round * BLOCK_LEN, &head, &records, &records);
            assert!(index.footer(0, 0).0.len() as u64 <= before);
            seq += 3;
        }
        let (footer, trailer) = index.footer(9, 9);
        let [objects, blocks, postings, summary] = trailer.parts.map(|part| part.len as usize);
        let (table, rest) = footer.split_at(objects);
        let (blocks, rest) = rest.split_at(blocks);
        let (postings, rest) = rest.split_at(postings);
        assert_eq!(rest.len(), summary);
        assert_eq!(decode_blocks(blocks).unwrap(), index.blocks());
        let of = |uid| {
            let uid = Uid::parse(uid).unwrap();
            let blocks = find_object(table, &uid).map(|range| decode_postings(&postings[range]));
            assert_eq!(blocks.clone().unwrap_or_default(), index.object_blocks(&uid));
            blocks
        };
        assert_eq!(of("a"), Some((0..10).collect()));
        assert_eq!(of("d"), Some(vec![0, 3, 6, 9]));
        assert_eq!(of("b"), Some(vec![1, 2, 4, 5, 7, 8]));
        assert_eq!(of("x"), None);
        let summary: Summary = postcard::from_bytes(rest).unwrap();
        assert_eq!((summary.first_seq, summary.next_seq, summary.messages), (1, 31, 30));
        let [group] = summary.groups.as_slice() else { panic!("{:?}", summary.groups) };
        // Each: two bytes of length and time, and the rest.
        assert_eq!((group.messages, group.bytes % 30), (30, 0));
        assert!((30 * 10..30 * 40).contains(&group.bytes), "{}", group.bytes);
        assert_eq!(summary.spans[0].wall_us, (5, 14));
    }

    #[test]
    fn small_batches_share_a_block() {
        let mut index = IndexBuilder::default();
        for round in 0..100 {
            let (head, records) = batch(&["a"], round + 1, 0);
            index.add(192 + round * 1000, &head, &records, &records);
        }
        assert_eq!(index.blocks().len(), 6);
        assert_eq!(index.object_blocks(&Uid::parse("a").unwrap()), [0, 1, 2, 3, 4, 5]);
    }
}
