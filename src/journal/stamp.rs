//! When something was recorded, and the id that follows from it.
//!
//! The journal asks no clock: whoever appends says what time it is, by two clocks. Order never depends on either.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Seq;

/// Whether the wall clock was known to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Clock {
    /// The machine did not know the time yet.
    Unsynced,
    /// The machine's clock was set by somebody who knows.
    Synced,
}

/// A moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Microseconds since the machine started, sleep included; never goes backwards while it runs.
    pub mono_us: u64,
    /// Microseconds since 1970 in UTC, as the machine believed.
    pub wall_us: i64,
    /// What that belief was worth.
    pub clock: Clock,
}

impl Stamp {
    /// Both clocks so many microseconds later.
    pub fn later(&self, since_us: u64) -> (u64, i64) {
        let wall = self.wall_us.saturating_add(i64::try_from(since_us).unwrap_or(i64::MAX));
        (self.mono_us.saturating_add(since_us), wall)
    }
}

/// Bits of the journal's own number in an id.
const TAG_BITS: u32 = 26;
/// Bits of the sequence number in an id: 2^47 messages are 4 years at a million a second.
const SEQ_BITS: u32 = 47;
const SEQ_MAX: u64 = (1 << SEQ_BITS) - 1;
/// The bit above the sequence number: set in the id of a record that stands in for its message.
const BESIDE: u128 = 1 << 75;
const TAG_MASK: u32 = (1 << TAG_BITS) - 1;

/// The id of a message: a UUIDv7 that is computed, not stored.
///
/// It consists of the record's first time (48 bits of milliseconds), the version, a bit that is zero, 11 bits of the
/// sequence number, the variant, its other 36 bits, and 26 bits of the journal's own random number. So it leads back to its
/// record, ids of one journal are in order of insertion, and two journals hardly ever give the same one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(u128);

impl MessageId {
    /// The id of the record with this number and first time, in the journal with this random number.
    pub fn new(wall_us: i64, seq: Seq, journal: JournalId) -> Self {
        let ms = u128::from(u64::try_from(wall_us / 1000).unwrap_or(0) & ((1 << 48) - 1));
        let high = u128::from((seq & SEQ_MAX) >> 36);
        let low = u128::from(seq & ((1 << 36) - 1));
        let tag = u128::from(journal.tag());
        Self(ms << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low << TAG_BITS | tag)
    }

    /// The number of the record that this id belongs to, if it is one of this journal's. Whether the record has
    /// indeed this id is left to compare: the time of it is in there too.
    pub fn seq(self, journal: JournalId) -> Option<Seq> {
        let version = self.0 >> 76 & 0xf;
        let variant = self.0 >> 62 & 0b11;
        let tag = u32::try_from(self.0 & u128::from(TAG_MASK)).ok()?;
        let high = u64::try_from(self.of_message().0 >> 64 & 0xfff).ok()?;
        let low = u64::try_from(self.0 >> TAG_BITS & ((1 << 36) - 1)).ok()?;
        (version == 7 && variant == 0b10 && tag == journal.tag()).then_some(high << 36 | low)
    }

    /// The id of the record that stands in for a message which got its id before it could be one: the same with the bit
    /// that is zero else.
    pub fn beside(self) -> Self {
        Self(self.0 | BESIDE)
    }

    /// The id of the message that the record stands for: its own, unless it stands in for another.
    pub fn of_message(self) -> Self {
        Self(self.0 & !BESIDE)
    }

    /// The first time of its record in microseconds since 1970, to the millisecond.
    pub fn time_us(self) -> i64 {
        i64::try_from(self.0 >> 80).unwrap_or(0).saturating_mul(1000)
    }

    /// Reads the form that [`fmt::Display`] writes, hex digits of either case.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return None;
        }
        let mut value = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if [8, 13, 18, 23].contains(&at) {
                if *byte != b'-' {
                    return None;
                }
            } else {
                value = value << 4 | u128::from(char::from(*byte).to_digit(16)?);
            }
        }
        Some(Self(value))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: the general machinery takes a thousand instructions for it.
        let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' - 10 + value };
        let mut text = heapless::Vec::<u8, 36>::new();
        for (at, byte) in self.0.to_be_bytes().into_iter().enumerate() {
            // There is room for all of it.
            if matches!(at, 4 | 6 | 8 | 10) {
                _ = text.push(b'-');
            }
            _ = text.push(digit(byte >> 4));
            _ = text.push(digit(byte & 0xf));
        }
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The random number that a journal gets when it is made, and keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalId(pub [u8; 16]);

impl JournalId {
    fn tag(self) -> u32 {
        self.0.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes)) & TAG_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOURNAL: JournalId = JournalId([0xff, 0xee, 0xdd, 0xcc, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);

    #[test]
    fn an_id_leads_back_to_its_number() {
        for seq in [1, 2, 0xff_ffff, 1 << 36, (1 << 36) - 1, SEQ_MAX] {
            let id = MessageId::new(1_795_300_000_123_456, seq, JOURNAL);
            assert_eq!(id.seq(JOURNAL), Some(seq));
            assert_eq!((id.seq(JournalId([1; 16])), id.time_us()), (None, 1_795_300_000_123_000));
            assert_eq!(MessageId::parse(&id.to_string()), Some(id));
            assert_eq!(MessageId::parse(&id.to_string().to_uppercase()), Some(id));
        }
    }

    #[test]
    fn an_id_is_a_uuid_of_version_7_with_its_time_first() {
        let id = MessageId::new(0x0193_0a2b_4c5d * 1000 + 999, 1, JOURNAL).to_string();
        assert_eq!(&id[..15], "01930a2b-4c5d-7");
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }

    #[test]
    fn a_record_beside_its_message_has_an_id_of_its_own() {
        for seq in [1, SEQ_MAX] {
            let id = MessageId::new(1_795_300_000_123_456, seq, JOURNAL);
            assert_ne!(id.beside(), id);
            assert_eq!((id.of_message(), id.beside().of_message()), (id, id));
            assert_eq!(id.beside().seq(JOURNAL), Some(seq));
        }
    }

    #[test]
    fn ids_are_in_order_of_insertion() {
        let ids: Vec<_> = (1..100).map(|seq| MessageId::new(5_000_000, seq, JOURNAL)).collect();
        assert!(ids.is_sorted());
        assert!(ids.iter().map(MessageId::to_string).is_sorted());
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let good = MessageId::new(1_000_000, 7, JOURNAL).to_string();
        assert_eq!(MessageId::parse(""), None);
        assert_eq!(MessageId::parse(&good[1..]), None);
        assert_eq!(MessageId::parse(&good.replace('-', "0")), None);
        assert_eq!(MessageId::parse(&good.replacen('0', "g", 1)), None);
        let foreign = MessageId::parse("01930a2b-4c5d-4000-8000-000000000000").unwrap();
        assert_eq!(foreign.seq(JournalId([0; 16])), None, "version 4");
    }

    #[test]
    fn a_time_before_1970_is_taken_as_1970() {
        assert_eq!(MessageId::new(-5, 9, JOURNAL).seq(JOURNAL), Some(9));
    }
}
