//! What lies on the medium is damaged long after it was synced: that is found and told, costs no more than the batches
//! that are hit, and harms no other.

use std::ops::Range;

use crate::medium::{Disk, Image, Random, SimMedium};
use crate::subject::{self, HEADER_LEN, Journal, Record, Seq};
use crate::workload::{self, Run, Step};

/// What a medium loses at once, mostly.
const BLOCK: usize = 512;
/// A batch has no more than this in front of its first payload, and behind its last.
const AROUND: usize = 128;

/// A journal of several segments at rest, and what was put into it.
pub struct AtRest {
    /// Its files.
    pub image: Image,
    records: Vec<Record>,
    batches: Vec<Batch>,
}

/// What was committed at once, and where it is.
#[derive(Debug)]
struct Batch {
    from: Seq,
    to: Seq,
    file: String,
    bytes: Range<usize>,
}

/// What came of the damage.
#[derive(Debug, Clone, Copy, Default)]
pub struct Damages {
    /// Damaged copies that were started from.
    pub all: u64,
    /// Those of which nobody noticed anything, and which cost nothing.
    pub unnoticed: u64,
    /// Those that cost records.
    pub costly: u64,
}

impl AtRest {
    /// What the workload of a seed leaves behind when nothing is deleted.
    pub fn new(seed: u64, len: usize) -> Result<Self, String> {
        let steps = workload::steps(seed, len).into_iter().filter(|step| *step != Step::Retire).collect();
        let Run { ops, model } = workload::run(seed, steps)?;
        let mut disk = Disk::default();
        ops.iter().for_each(|op| disk.apply(op));
        let files = disk.names.iter().map(|(name, file)| (name.clone(), disk.files[*file].cached.clone()));
        let image: Image = files.collect();
        let mut batches: Vec<Batch> = Vec::new();
        for (from, to) in model.batches() {
            for seq in from..=to {
                let record = &model.records[seq as usize - 1];
                let (file, bytes) =
                    place(&image, record).ok_or_else(|| format!("{record:?} is in no file"))?;
                match batches.last_mut() {
                    // What is committed at once may be more than one segment takes.
                    Some(batch) if seq > from && batch.file == file => {
                        (batch.to, batch.bytes.end) = (seq, bytes.end + AROUND);
                    }
                    _ => {
                        let bytes = bytes.start.saturating_sub(AROUND)..bytes.end + AROUND;
                        batches.push(Batch { from: seq, to: seq, file, bytes });
                    }
                }
            }
        }
        Ok(Self { image, records: model.records, batches })
    }

    /// The files that are sealed.
    pub fn sealed(&self) -> Vec<String> {
        subject::sealed(&self.image)
    }

    /// Starts from the files with these bytes of one of them changed.
    fn check(
        &self,
        name: &str,
        bytes: Vec<u8>,
        hit: &[Range<usize>],
        sum: &mut Damages,
    ) -> Result<(), String> {
        let mut image = self.image.clone();
        if *bytes == *self.image[name] {
            return Ok(());
        }
        // The header is there twice, at both ends.
        let len = self.image[name].len();
        let at_start = hit.iter().any(|hit| hit.start < HEADER_LEN);
        let no_header = at_start && hit.iter().any(|hit| hit.end > len - subject::TAIL_LEN);
        image.insert(name.to_owned(), bytes.into());
        let may_miss = |seq: Seq| {
            let batch = self.batches.iter().find(|batch| (batch.from..=batch.to).contains(&seq));
            batch.is_some_and(|batch| {
                let touches = |hit: &Range<usize>| hit.start < batch.bytes.end && batch.bytes.start < hit.end;
                batch.file == name && (no_header || hit.iter().any(touches))
            })
        };
        self.start(&image, &may_miss, sum)
    }

    /// Starts from damaged files; `may_miss` says which records that may cost.
    fn start(&self, image: &Image, may_miss: &dyn Fn(Seq) -> bool, sum: &mut Damages) -> Result<(), String> {
        let medium = SimMedium::from_image(image);
        let mut journal = Journal::open(&medium, 1)?;
        let found = journal.found()?;
        let mut last = 0;
        for (seq, record) in &found.records {
            if *seq <= last {
                return Err(format!("record {seq} behind {last}"));
            }
            last = *seq;
            if self.records.get(*seq as usize - 1) != Some(record) {
                return Err(format!("record {seq} is not what was sent: {record:?}"));
            }
        }
        let there = |seq: Seq| found.records.binary_search_by_key(&seq, |(seq, _)| *seq).is_ok();
        let missing: Vec<Seq> = (1..=self.records.len() as Seq).filter(|seq| !there(*seq)).collect();
        if let Some(seq) = missing.iter().find(|seq| !may_miss(**seq)) {
            return Err(format!("record {seq} is missing, which was not hit"));
        }
        let told = journal.damage()?;
        if !missing.is_empty() && told == 0 {
            return Err(format!("{missing:?} are missing, and nothing is said"));
        }
        if found.next != self.records.len() as Seq + 1 {
            return Err(format!("the next number is {}, behind {}", found.next, self.records.len()));
        }
        sum.all += 1;
        sum.unnoticed += u64::from(told == 0);
        sum.costly += u64::from(!missing.is_empty());
        Ok(())
    }

    /// Flips every `step`-th bit of a file, one at a time.
    pub fn flip_bits(&self, name: &str, step: usize) -> Result<Damages, String> {
        let mut sum = Damages::default();
        let whole = &self.image[name];
        for bit in (0..whole.len() * 8).step_by(step) {
            let mut bytes = whole.to_vec();
            let at = bit / 8;
            bytes[at] ^= 1 << (bit % 8);
            self.check(name, bytes, std::slice::from_ref(&(at..at + 1)), &mut sum)
                .map_err(|error| format!("bit {bit} of {name} flipped: {error}"))?;
        }
        Ok(sum)
    }

    /// Zeroes each block of a file, puts each in the place of another, swaps two, and puts each where an older file has
    /// its own.
    pub fn mix_blocks(&self, name: &str, seed: u64) -> Result<Damages, String> {
        let mut sum = Damages::default();
        let mut random = Random::new(seed);
        let whole = &self.image[name];
        let blocks = whole.len() / BLOCK;
        let range = |block: usize| block * BLOCK..(block + 1) * BLOCK;
        for block in 0..blocks {
            let said = |what: &str, error: String| format!("block {block} of {name} {what}: {error}");
            let mut zeroed = whole.to_vec();
            zeroed[range(block)].fill(0);
            self.check(name, zeroed, &[range(block)], &mut sum).map_err(|error| said("zeroed", error))?;
            let other = random.below(blocks);
            let mut doubled = whole.to_vec();
            doubled.copy_within(range(other), block * BLOCK);
            self.check(name, doubled, &[range(block)], &mut sum)
                .map_err(|error| said(&format!("overwritten by {other}"), error))?;
            let mut swapped = whole.to_vec();
            swapped.copy_within(range(other), block * BLOCK);
            swapped[range(other)].copy_from_slice(&whole[range(block)]);
            self.check(name, swapped, &[range(block), range(other)], &mut sum)
                .map_err(|error| said(&format!("swapped with {other}"), error))?;
            for (donor, stale) in self.image.iter().filter(|(donor, _)| *donor != name) {
                if let Some(from) = stale.get(range(block)) {
                    let mut bytes = whole.to_vec();
                    bytes[range(block)].copy_from_slice(from);
                    self.check(name, bytes, &[range(block)], &mut sum)
                        .map_err(|error| said(&format!("from {donor}"), error))?;
                }
            }
        }
        Ok(sum)
    }

    /// Puts the header of each other file in the place of this one's first: something was written to the wrong place.
    pub fn mix_headers(&self, name: &str) -> Result<Damages, String> {
        let mut sum = Damages::default();
        let whole = &self.image[name];
        for (donor, other) in self.image.iter().filter(|(donor, _)| *donor != name) {
            let Some(header) = other.get(..HEADER_LEN) else { continue };
            let mut bytes = whole.to_vec();
            bytes[..HEADER_LEN].copy_from_slice(header);
            self.check(name, bytes, std::slice::from_ref(&(0..HEADER_LEN)), &mut sum)
                .map_err(|error| format!("{name} with the header of {donor}: {error}"))?;
        }
        Ok(sum)
    }

    /// Cuts a file at every `step`-th byte.
    pub fn truncate(&self, name: &str, step: usize) -> Result<Damages, String> {
        let mut sum = Damages::default();
        let whole = &self.image[name];
        for len in (0..whole.len()).step_by(step) {
            self.check(name, whole[..len].to_vec(), std::slice::from_ref(&(len..whole.len())), &mut sum)
                .map_err(|error| format!("{name} cut to {len} bytes: {error}"))?;
        }
        Ok(sum)
    }

    /// Takes a file away.
    pub fn without(&self, name: &str) -> Result<Damages, String> {
        let mut sum = Damages::default();
        let mut image = self.image.clone();
        image.remove(name);
        let in_it = |seq: Seq| {
            self.batches.iter().any(|batch| batch.file == name && (batch.from..=batch.to).contains(&seq))
        };
        self.start(&image, &in_it, &mut sum).map_err(|error| format!("without {name}: {error}"))?;
        Ok(sum)
    }
}

impl std::ops::AddAssign for Damages {
    fn add_assign(&mut self, other: Self) {
        self.all += other.all;
        self.unnoticed += other.unnoticed;
        self.costly += other.costly;
    }
}

/// Where the payload of a record is.
fn place(image: &Image, record: &Record) -> Option<(String, Range<usize>)> {
    let payload = subject::payload(record);
    image.iter().find_map(|(name, bytes)| {
        let at = bytes.windows(payload.len()).position(|window| window == payload)?;
        Some((name.clone(), at..at + payload.len()))
    })
}
