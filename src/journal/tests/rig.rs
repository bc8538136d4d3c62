//! A journal at work: front and writer joined as the program joins them, and a model of what was acknowledged.

use super::{Memory, message};
use crate::journal::Seq;
use crate::journal::error::JournalError;
use crate::journal::front::{Bounds, Front};
use crate::journal::medium::Medium;
use crate::journal::record::{Record, Records};
use crate::journal::recovery::Report;
use crate::journal::scan::{Found, Scanner};
use crate::journal::segment::{Batch, DATA_START};
use crate::journal::stamp::{Clock, Stamp};
use crate::journal::writer::{Committed, Settings, Writer};

/// Small, so that segments turn over often.
pub const SEGMENT_LEN: u64 = 4096;

pub fn settings() -> Settings {
    Settings {
        segment_len: SEGMENT_LEN,
        fresh_id: [7; 16],
        seed: 42,
        boot_id: [1; 16],
        environment: *b"test\0\0\0\0\0\0\0\0\0\0\0\0",
        now: stamp(0),
        restored: false,
    }
}

/// A moment, with a clock that is right.
pub fn stamp(us: u64) -> Stamp {
    Stamp { mono_us: us, wall_us: 1_700_000_000_000_000 + us as i64, clock: Clock::Synced }
}

pub struct Rig {
    pub medium: Memory,
    pub writer: Writer<Memory>,
    pub front: Front,
    pub report: Report,
    /// A batch whose commit failed.
    pub stuck: Option<Batch>,
    pub now_us: u64,
}

impl Rig {
    pub fn open(medium: &Memory) -> Self {
        Self::open_with(medium, &settings())
    }

    pub fn open_with(medium: &Memory, settings: &Settings) -> Self {
        let (writer, report) = Writer::open(medium.clone(), settings).unwrap();
        let front = Front::new(writer.start(), Bounds { pending_max: 1 << 20, tail_max: 1 << 20 });
        Self { medium: medium.clone(), writer, front, report, stuck: None, now_us: 1000 }
    }

    /// Appends messages whose payload is their number.
    pub fn append(&mut self, count: usize) {
        for _ in 0..count {
            self.now_us += 10;
            let payload = format!("message {:04}", self.front.next_seq());
            let uid = ["a", "b", "c"][self.front.next_seq() as usize % 3];
            self.front.append(message(uid, "g", payload.as_bytes()), stamp(self.now_us)).unwrap();
        }
    }

    /// Commits all that was appended.
    pub fn commit(&mut self) -> Result<Committed, JournalError> {
        let mut done = None;
        while let Some(batch) = self.stuck.take().or_else(|| self.front.take_batch()) {
            match self.writer.commit(&batch) {
                Ok(committed) => {
                    self.front.committed(&batch);
                    done = Some(committed);
                }
                Err(error) => {
                    self.stuck = Some(batch);
                    return Err(error);
                }
            }
        }
        done.ok_or(JournalError::OutOfStep)
    }

    /// Appends and commits so many batches of so many messages, with upkeep.
    pub fn fill(&mut self, batches: usize, messages: usize) {
        for _ in 0..batches {
            self.append(messages);
            if self.commit().unwrap().turned {
                self.writer.upkeep().unwrap();
            }
        }
    }

    /// What is on the medium, as the writer believes.
    pub fn stored(&mut self) -> Vec<Seq> {
        stored(&mut self.medium, &self.writer)
    }
}

/// The numbers of all messages of the catalog, each checked against its payload.
pub fn stored(medium: &mut Memory, writer: &Writer<Memory>) -> Vec<Seq> {
    let mut seqs = Vec::new();
    for info in &writer.catalog().segments {
        let file = medium.open(&info.name()).unwrap();
        let mut scanner = Scanner::new(file, info.header.epoch, DATA_START, info.end.offset);
        loop {
            let found = scanner.next(medium).unwrap();
            if let Found::End { .. } = found {
                break;
            }
            let Found::Batch { head, .. } = found else { continue };
            let numbered = Records::new(found.records()).filter(|raw| raw.is_numbered());
            for (seq, raw) in (head.first_seq..).zip(numbered) {
                let Some(Record::Message(message)) = raw.decode() else { panic!("no message") };
                assert_eq!(message.payload, format!("message {seq:04}").as_bytes());
                seqs.push(seq);
            }
        }
        medium.close(file);
    }
    seqs
}
