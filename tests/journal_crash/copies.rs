//! The power fails while an archive or a backup is made: what was said to be there is, nothing is there by half, and the
//! next attempt makes the whole of it. The journal that it is made of rests meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use iotsocketd::journal::archive::{Archiver, Policy, Step};
use iotsocketd::journal::backup::{Other, backup, verify};
use iotsocketd::journal::catalog::Catalog;
use iotsocketd::journal::look::look;
use iotsocketd::journal::medium::Medium;
use iotsocketd::journal::reader::{Query, Reader};
use iotsocketd::journal::retention::Limits;
use iotsocketd::journal::stored::Stored;
use iotsocketd::journal::{OnFull, Seq};

use crate::damage::AtRest;
use crate::medium::{Disk, Random, SimMedium, images};
use crate::power::Count;

/// Long behind everything in the journal.
const NOW_US: i64 = 1_900_000_000_000_000;
const NAME: &str = "copy";

/// A journal that nobody writes to.
struct Source {
    medium: SimMedium,
    catalog: Catalog,
    /// What is to be archived: all but the newest segment.
    lines: BTreeMap<Seq, String>,
}

impl Source {
    fn new(seed: u64, len: usize) -> Result<Self, String> {
        let medium = SimMedium::from_image(&AtRest::new(seed, len)?.image);
        let look = look(&mut medium.clone()).map_err(|error| format!("{error:?}"))?.ok_or("no journal")?;
        let catalog = look.catalog;
        let below = catalog.segments.last().map_or(0, |newest| newest.summary.first_seq);
        let query = Query { below, limit: usize::MAX, bytes_max: usize::MAX, ..Query::from(0) };
        let page =
            Reader::new(medium.clone()).read(&catalog, &query).map_err(|error| format!("{error:?}"))?;
        let lines = page.messages.into_iter().map(|stored| (stored.seq, line(stored, &catalog))).collect();
        Ok(Self { medium, catalog, lines })
    }
}

fn line(stored: Stored, _: &Catalog) -> String {
    format!("{} {:?}", stored.seq, stored.message.payload)
}

/// An archive in a folder.
struct Archive<'a> {
    source: &'a Source,
    folder: SimMedium,
    archiver: Archiver<SimMedium>,
    reader: Reader<SimMedium>,
}

impl<'a> Archive<'a> {
    fn open(source: &'a Source, folder: &SimMedium) -> Result<Self, String> {
        let archiver = Archiver::open(folder.clone(), source.catalog.journal);
        let archiver = archiver.map_err(|error| format!("{error:?}"))?;
        let reader = Reader::new(source.medium.clone());
        Ok(Self { source, folder: folder.clone(), archiver, reader })
    }

    fn policy() -> Policy {
        Policy { usual: true, groups: Vec::new() }
    }

    /// The segments that may go.
    fn archived(&self) -> BTreeSet<u64> {
        let held = self.archiver.held(&self.source.catalog, &Self::policy());
        let held: BTreeSet<_> = held.into_iter().map(|(segment, _)| segment).collect();
        let all = self.source.catalog.segments.iter().map(|segment| segment.number());
        all.filter(|number| !held.contains(number)).collect()
    }

    /// Makes all of it. What may go, by the operations that were done before.
    fn run(&mut self) -> Result<Vec<(usize, BTreeSet<u64>)>, String> {
        let limits = Limits {
            bytes_max: u64::MAX,
            keep_us: 0,
            groups_us: Vec::new(),
            groups_bytes: Vec::new(),
            held: BTreeSet::new(),
            on_full: OnFull::DropOldest,
        };
        let mut marks = Vec::new();
        loop {
            let catalog = &self.source.catalog;
            let policy = Self::policy();
            let step = self.archiver.step(&mut self.reader, catalog, &limits, &policy, Some(NOW_US), &line);
            marks.push((self.folder.ops_len(), self.archived()));
            if step.map_err(|error| format!("{error:?}"))? == Step::Idle {
                return Ok(marks);
            }
        }
    }

    /// The lines of all files that have a manifest; none is there twice.
    fn lines(&self) -> Result<BTreeMap<Seq, String>, String> {
        let mut lines = BTreeMap::new();
        let mut folder = self.folder.clone();
        let entries = folder.list().map_err(|error| error.to_string())?;
        for manifest in entries.iter().filter(|entry| entry.name.ends_with(".json")) {
            let name = manifest.name.replace(".json", ".ndjson.gz");
            let file = folder.open(&name).map_err(|error| format!("{name}: {error}"))?;
            let len = entries.iter().find(|entry| entry.name == name).map_or(0, |entry| entry.len);
            let mut bytes = vec![0; len as usize];
            folder.read_at(file, 0, &mut bytes).map_err(|error| error.to_string())?;
            folder.close(file);
            let mut text = String::new();
            let read = flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut text);
            read.map_err(|error| format!("{name} has a manifest and is no good: {error}"))?;
            for line in text.lines() {
                let seq = line.split(' ').next().and_then(|seq| seq.parse().ok()).ok_or("no number")?;
                if lines.insert(seq, line.to_owned()).is_some() {
                    return Err(format!("{seq} is there twice"));
                }
            }
        }
        Ok(lines)
    }

    /// All messages of the segments that may go are there, as they were.
    fn check(&self, sure: &BTreeSet<u64>) -> Result<(), String> {
        let (archived, lines) = (self.archived(), self.lines()?);
        if let Some(lost) = sure.difference(&archived).next() {
            return Err(format!("segment {lost} was archived, and is no longer"));
        }
        let gone = self.source.catalog.segments.iter().filter(|segment| archived.contains(&segment.number()));
        for segment in gone {
            for seq in segment.summary.first_seq..segment.summary.next_seq {
                if lines.get(&seq) != self.source.lines.get(&seq) {
                    return Err(format!("{seq} is not in the archive, and may go"));
                }
            }
        }
        Ok(())
    }
}

/// Fails at every operation on the archive's folder, and, after one failure in `again`, a second time while the next
/// start goes on.
pub fn archive_everywhere(seed: u64, len: usize, again: usize) -> Result<Count, String> {
    let source = Source::new(seed, len)?;
    let mut count = Count::default();
    let mut random = Random::new(seed);
    let start = Disk::default();
    archive(&source, &start, &BTreeSet::new(), again, &mut random, &mut count)?;
    Ok(count)
}

/// Makes the archive from this state of its folder; then, unless `again` is 0, fails at every operation of that. After
/// one such failure in `again` the next start goes through the same, if it is not the second one: 1.
fn archive(
    source: &Source,
    start: &Disk,
    sure: &BTreeSet<u64>,
    again: usize,
    random: &mut Random,
    count: &mut Count,
) -> Result<(), String> {
    let folder = SimMedium::from_disk(start.clone());
    let mut made = Archive::open(source, &folder)?;
    made.check(sure)?;
    let marks = made.run()?;
    if made.lines()? != source.lines {
        return Err("not everything is in the archive once".to_owned());
    }
    let entries = folder.clone().list().map_err(|error| error.to_string())?;
    let names: BTreeSet<_> = entries.into_iter().map(|entry| entry.name).collect();
    let left = names.iter().find(|name| {
        let manifest = name.strip_suffix(".ndjson.gz").map(|stem| format!("{stem}.json"));
        manifest.map_or(!name.ends_with(".json"), |manifest| !names.contains(&manifest))
    });
    if let Some(left) = left {
        return Err(format!("{left} is left, and nobody needs it"));
    }
    if again == 0 {
        return Ok(());
    }
    let mut disk = start.clone();
    let ops = folder.ops();
    for boundary in 0..=ops.len() {
        if boundary > 0 {
            disk.apply(&ops[boundary - 1]);
        }
        count.boundaries += 1;
        let mark = marks.iter().rev().find(|(ops, _)| *ops <= boundary);
        let sure = mark.map_or(sure, |(_, archived)| archived);
        for (loss, image) in images(&disk, random) {
            let next = if again == 1 { 0 } else { usize::from(random.one_in(again)) };
            count.first += u64::from(again > 1);
            count.second += u64::from(again == 1);
            archive(source, &Disk::from_image(&image), sure, next, random, count).map_err(|error| {
                format!("operation {boundary} ({:?}), {loss:?}: {error}", ops.get(boundary))
            })?;
        }
    }
    Ok(())
}

/// Fails at every operation of a backup that takes the place of another: one of the two is there, whole.
pub fn backup_everywhere(seed: u64, len: usize) -> Result<Count, String> {
    let source = Source::new(seed, len)?;
    let mut count = Count::default();
    let mut random = Random::new(seed);
    let folder = SimMedium::new();
    let failed = |error| format!("{error:?}");
    let make = |others: &[Other], folder: &SimMedium| {
        backup(&mut source.medium.clone(), &source.catalog, others, &mut folder.clone(), NAME).map_err(failed)
    };
    let old = [Other { name: "which".to_owned(), bytes: b"the old one".to_vec() }];
    let new = [Other { name: "which".to_owned(), bytes: b"the new one".to_vec() }];
    let expected = make(&old, &folder)?;
    let before = folder.ops_len();
    make(&new, &folder)?;
    let ops = folder.ops();
    let mut disk = Disk::default();
    for (boundary, op) in ops.iter().enumerate() {
        disk.apply(op);
        if boundary + 1 < before {
            continue;
        }
        count.boundaries += 1;
        for (loss, image) in images(&disk, &mut random) {
            count.first += 1;
            let said = |what: String| format!("operation {boundary} ({op:?}), {loss:?}: {what}");
            let folder = SimMedium::from_image(&image);
            let found = verify(&mut folder.clone(), NAME, &mut SimMedium::new());
            let (contents, others) = found.map_err(|error| said(format!("{error:?}")))?;
            let is_last = boundary + 1 == ops.len();
            if contents != expected || others != new && (others != old || is_last) {
                return Err(said(format!("{contents:?} with {others:?}")));
            }
            let again = make(&new, &folder).map_err(said)?;
            if again != expected {
                return Err(format!("made again it is {again:?}"));
            }
        }
    }
    Ok(count)
}
