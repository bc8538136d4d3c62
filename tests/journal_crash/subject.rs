//! The journal as the tests drive it: what the concentrator does with it, without threads and clocks.

use std::borrow::Cow;
use std::collections::BTreeMap;

use iotsocketd::journal::OnFull;
use iotsocketd::journal::error::JournalError;
use iotsocketd::journal::front::{Bounds, Front, Refused};
use iotsocketd::journal::reader::{Query, Reader};
use iotsocketd::journal::record::{self, Kind, Message, State, Via};
use iotsocketd::journal::recovery::Report;
use iotsocketd::journal::retention::{Delivered, Limits, Plan, plan};
use iotsocketd::journal::scrub::scrub;
use iotsocketd::journal::segment::{self, Batch};
use iotsocketd::journal::stamp::{Clock, Stamp};
use iotsocketd::journal::writer::{Settings, Writer};
use iotsocketd::wire::{Format, GroupName, Uid};

use crate::medium::{Image, SimMedium};
use crate::model::Destination;

pub use iotsocketd::journal::Seq;
pub use segment::{HEADER_LEN, TAIL_LEN};

/// A message, as it is handed over and read back.
pub type Record = Message<'static>;

/// The smallest there is, so that a short workload fills several.
const SEGMENT_LEN: u64 = segment::SEGMENT_LEN_MIN;

/// Bytes that all segments may have: two of them, so that some are deleted.
const BYTES_MAX: u64 = 2 * SEGMENT_LEN;
/// The group that may have little, and how much.
pub const THINNED: &str = "Devices";
const GROUP_BYTES_MAX: u64 = SEGMENT_LEN / 4;
/// Messages that are read at once: few, so that pages begin and end everywhere.
const PAGE: usize = 7;

/// What a reader sees.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// All messages, oldest first.
    pub records: Vec<(Seq, Record)>,
    /// The number that comes next.
    pub next: Seq,
    /// Where the destinations are.
    pub cursors: BTreeMap<Destination, Seq>,
    /// How many messages the books say were ever received.
    pub received: u64,
}

/// Why something was not done.
#[derive(Debug)]
pub enum Refusal {
    /// Wait, then try again.
    Later,
    /// Not before a restart.
    ReadOnly,
    /// Something that must not be.
    Other(String),
}

pub struct Journal {
    writer: Writer<SimMedium>,
    medium: SimMedium,
    reader: Reader<SimMedium>,
    report: Report,
    /// Damaged places that reading came upon.
    gaps: usize,
    front: Front,
    /// What was to be committed and could not be.
    stuck: Option<Batch>,
    now_us: u64,
}

/// A record that says which one it is, so that none is like another.
pub fn record(seq: Seq, salt: u64, len: usize) -> Record {
    let mut payload = Vec::with_capacity(len + 16);
    payload.extend(seq.to_be_bytes());
    payload.extend(salt.to_be_bytes());
    payload.extend((0..len).map(|at| (seq as usize + at) as u8));
    let source = salt.is_multiple_of(3).then(|| Cow::Owned(format!("partner {seq}")));
    Message {
        uid: Uid::parse(["Pump", "Valve", "Meter 3"][seq as usize % 3]).unwrap(),
        group: GroupName::parse([THINNED, "Plant"][seq as usize % 2]).unwrap(),
        kind: Kind::ALL[seq as usize % Kind::ALL.len()],
        via: Via::Udp,
        format: Format::Binary,
        state: State::Waiting,
        network: source.as_ref().map(|_| Cow::Owned(b"{\"rssi\":-90}".to_vec())),
        source,
        payload: payload.into(),
    }
}

/// The bytes of it that are found in a file as they are.
pub fn payload(record: &Record) -> &[u8] {
    &record.payload
}

/// The segments of these files that are sealed: all but the last.
pub fn sealed(image: &Image) -> Vec<String> {
    let mut names: Vec<String> =
        image.keys().filter(|name| segment::number(name).is_some()).cloned().collect();
    names.pop();
    names
}

impl Journal {
    /// Starts. What is there can be seen before anything is tidied up, which is [`Self::upkeep`].
    pub fn open(medium: &SimMedium, salt: u64) -> Result<Self, String> {
        let settings = Settings {
            segment_len: SEGMENT_LEN,
            fresh_id: [7; 16],
            seed: salt,
            boot_id: [salt as u8; 16],
            environment: *b"test\0\0\0\0\0\0\0\0\0\0\0\0",
            now: stamp(salt % 1000),
            restored: false,
        };
        let (writer, report) =
            Writer::open(medium.clone(), &settings).map_err(|error| format!("{error:?}"))?;
        // The tail in memory is as small as can be: what is read comes from the medium.
        let front = Front::new(writer.start(), Bounds { pending_max: 1 << 20, tail_max: 0 });
        let journal = Self {
            writer,
            medium: medium.clone(),
            reader: Reader::new(medium.clone()),
            report,
            gaps: 0,
            front,
            stuck: None,
            now_us: salt % 1000,
        };
        Ok(journal)
    }

    /// Takes a message; it is pending.
    pub fn append(&mut self, message: Record) -> Result<Seq, Refusal> {
        let now = self.now();
        self.front.append(message, now).map_err(refused)
    }

    /// Moves the cursor of a destination; that is pending.
    pub fn move_cursor(&mut self, to: Destination, up_to: Seq) -> Result<(), Refusal> {
        let now = self.now();
        let record = record::Record::Cursor { destination: format!("{to}"), up_to, holes: Vec::new() };
        self.front.note(&record, now).map(drop).map_err(refused)
    }

    fn now(&mut self) -> Stamp {
        self.now_us += 10;
        stamp(self.now_us)
    }

    /// Makes all that is pending durable. Gives how many operations the medium had done when that was acknowledged.
    pub fn commit(&mut self) -> Result<usize, Refusal> {
        let mut ops = self.medium.ops_len();
        let mut turned = false;
        while let Some(batch) = self.stuck.take().or_else(|| self.front.take_batch()) {
            let newest = self.front.newest();
            if self.front.is_durable(newest) {
                return Err(Refusal::Other("acknowledged before it was committed".to_owned()));
            }
            let committed = match self.writer.commit(&batch) {
                Ok(committed) => committed,
                Err(error) => {
                    self.stuck = Some(batch);
                    return Err(refusal(error));
                }
            };
            self.front.committed(&batch);
            ops = self.medium.ops_len();
            turned |= committed.turned;
            if committed.next_seq != batch.head.next_seq() {
                let error = format!("committed up to {committed:?}, not {}", batch.head.next_seq());
                return Err(Refusal::Other(error));
            }
        }
        if !self.front.is_durable(self.front.newest()) || self.front.durable() != self.front.next_seq() {
            return Err(Refusal::Other("committed and not acknowledged".to_owned()));
        }
        if turned {
            self.upkeep()?;
        }
        Ok(ops)
    }

    /// What is done while nobody waits. That it fails is no reason to stop.
    pub fn upkeep(&mut self) -> Result<(), Refusal> {
        match self.writer.upkeep().map_err(refusal) {
            Err(Refusal::Other(error)) if error.starts_with("OutOfStep") => Err(Refusal::Other(error)),
            _ => Ok(()),
        }
    }

    /// What has to make room now: of all, and of one group that shares every segment with the other.
    pub fn plan(&self) -> Plan {
        let limits = Limits {
            bytes_max: BYTES_MAX,
            keep_us: i64::MAX,
            groups_us: Vec::new(),
            groups_bytes: vec![(GroupName::parse(THINNED).unwrap(), GROUP_BYTES_MAX)],
            held: Default::default(),
            on_full: OnFull::DropOldest,
        };
        plan(&self.writer.catalog(), &Delivered::of(self.writer.small().cursors.values()), &limits, None)
    }

    /// The last number in the segments of a plan.
    pub fn last_of(&self, plan: &Plan) -> Seq {
        let catalog = self.writer.catalog();
        let planned = catalog.segments.iter().filter(|segment| plan.segments.contains(&segment.number()));
        planned.map(|segment| segment.summary.next_seq - 1).max().unwrap_or(0)
    }

    /// The last number in the segments that a plan thins.
    pub fn last_thinned(&self, plan: &Plan) -> Seq {
        let catalog = self.writer.catalog();
        let is_thinned = |number| plan.thinned.iter().any(|thinning| thinning.segment == number);
        let planned = catalog.segments.iter().filter(|segment| is_thinned(segment.number()));
        planned.map(|segment| segment.summary.next_seq - 1).max().unwrap_or(0)
    }

    /// Gives back the room of what went. That it fails is no reason to stop.
    pub fn reclaim(&mut self) {
        while self.writer.reclaim() == Ok(true) {}
    }

    /// Deletes what was planned.
    pub fn retire(&mut self, plan: &Plan) -> Result<(), Refusal> {
        let now = self.now();
        self.writer.retire(now, plan).map_err(refusal)
    }

    /// Everything that is there.
    pub fn found(&mut self) -> Result<Found, String> {
        let catalog = self.writer.catalog();
        let durable = self.front.durable();
        if catalog.next_seq != durable {
            return Err(format!("the last batch is not written again: {} of {durable}", catalog.next_seq));
        }
        let small = self.writer.small();
        let mut found = Found { next: catalog.next_seq, ..Found::default() };
        found.received = small.received().map(|(_, _, count)| count).sum();
        for (name, cursor) in &small.cursors {
            let to = name.parse().map_err(|_| format!("a cursor {name:?}"))?;
            found.cursors.insert(to, cursor.up_to);
        }
        let mut next = Some(0);
        while let Some(from) = next {
            let query = Query { limit: PAGE, ..Query::from(from) };
            let page = self.reader.read(&catalog, &query).map_err(|error| format!("{error:?}"))?;
            self.gaps += page.damaged.len();
            found.records.extend(page.messages.into_iter().map(|stored| (stored.seq, stored.message)));
            next = page.next;
        }
        Ok(found)
    }

    /// What was told to be damaged or missing at the start.
    pub fn loss(&self) -> Option<&Report> {
        Some(&self.report).filter(|report| report.is_loss() || report.state_incomplete)
    }

    /// How many damaged places were told: at the start, while reading, or by looking through everything.
    pub fn damage(&mut self) -> Result<usize, String> {
        let Report { damaged, missing, set_aside, .. } = &self.report;
        let mut told = self.gaps + damaged.len() + missing.len() + set_aside.len();
        for segment in &self.writer.catalog().segments {
            told += scrub(&mut self.medium, segment).map_err(|error| format!("{error:?}"))?.len();
        }
        Ok(told)
    }

    /// Ends it the orderly way.
    pub fn close(self) {}
}

fn stamp(mono_us: u64) -> Stamp {
    Stamp { mono_us, wall_us: 1_800_000_000_000_000 + mono_us as i64, clock: Clock::Synced }
}

fn refused(refused: Refused) -> Refusal {
    match refused {
        Refused::Behind | Refused::Full => Refusal::Later,
        Refused::ReadOnly => Refusal::ReadOnly,
        Refused::TooLarge => Refusal::Other("too large".to_owned()),
    }
}

fn refusal(error: JournalError) -> Refusal {
    match error {
        JournalError::Full | JournalError::Medium(_) => Refusal::Later,
        JournalError::ReadOnly(_) => Refusal::ReadOnly,
        other => Refusal::Other(format!("{other:?}")),
    }
}
