//! A message with its place and time, as it is kept in memory and read back.

use std::collections::BTreeMap;

use super::Seq;
use super::record::Message;
use super::segment::BatchHead;
use super::stamp::{Clock, JournalId, MessageId, Stamp};

/// What the shown time of a message is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownClock {
    /// The machine did not know the time, and does not know yet what it was.
    Unsynced,
    /// It did not know it then, but found out later.
    Corrected,
    /// It knew.
    Synced,
}

impl ShownClock {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsynced => "unsynced",
            Self::Corrected => "corrected",
            Self::Synced => "synced",
        }
    }
}

/// A message that was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub seq: Seq,
    /// In which boot it was appended.
    pub boot: u32,
    /// When, as the machine believed; never before the message with the number before.
    pub stamp: Stamp,
    /// The message.
    pub message: Message<'static>,
}

impl Stored {
    /// The stamp of a record of a batch.
    pub fn stamp_of(head: &BatchHead, since_us: u64) -> Stamp {
        let (mono_us, wall_us) = head.start.later(since_us);
        Stamp { mono_us, wall_us, clock: head.start.clock }
    }

    /// Its id: keeps the first time, whatever is found out later.
    pub fn id(&self, journal: JournalId) -> MessageId {
        MessageId::new(self.stamp.wall_us, self.seq, journal)
    }

    /// Its time in microseconds since 1970, corrected if that boot's time is known by now.
    pub fn time(&self, boots: &BTreeMap<u32, i64>) -> (i64, ShownClock) {
        shown_time(&self.stamp, self.boot, boots)
    }
}

/// The time of a stamp of this boot.
pub fn shown_time(stamp: &Stamp, boot: u32, boots: &BTreeMap<u32, i64>) -> (i64, ShownClock) {
    match (stamp.clock, boots.get(&boot)) {
        (Clock::Synced, _) => (stamp.wall_us, ShownClock::Synced),
        (Clock::Unsynced, None) => (stamp.wall_us, ShownClock::Unsynced),
        (Clock::Unsynced, Some(zero)) => {
            let mono = i64::try_from(stamp.mono_us).unwrap_or(i64::MAX);
            (zero.saturating_add(mono), ShownClock::Corrected)
        }
    }
}
