//! What leaves the journal is in the archive first, all of it and once, wherever it is interrupted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use super::rig::stamp;
use super::{Memory, Rig, message};
use crate::journal::OnFull;
use crate::journal::archive::{ArchiveError, Archiver, Policy, Step};
use crate::journal::catalog::Catalog;
use crate::journal::medium::Operation;
use crate::journal::reader::Reader;
use crate::journal::retention::{Delivered, Limits, plan};
use crate::journal::stored::Stored;
use crate::thorough::every;
use crate::wire::GroupName;

const DAY: u64 = 86_400_000_000;
/// The moment of `stamp(0)`, in days.
const FIRST_DAY: &str = "2023-11-14";

fn render(stored: Stored, catalog: &Catalog) -> String {
    format!("{{\"id\":\"{}\",\"seq\":{}}}", stored.id(catalog.journal), stored.seq)
}

fn limits() -> Limits {
    Limits {
        bytes_max: u64::MAX,
        keep_us: 10 * DAY as i64,
        groups_us: vec![],
        groups_bytes: vec![],
        held: Default::default(),
        on_full: OnFull::DropOldest,
    }
}

fn everything() -> Policy {
    Policy { usual: true, groups: vec![] }
}

/// Four days of two groups.
fn world() -> Rig {
    let mut rig = Rig::open(&Memory::default());
    for day in 0..4 {
        rig.now_us = day * DAY;
        for round in 0..120 {
            let seq = rig.front.next_seq();
            let group = ["Devices", "Sta/tions"][usize::from(round % 5 == 0)];
            let payload = format!("message {seq:04}");
            rig.now_us += 10;
            rig.front.append(message("a", group, payload.as_bytes()), stamp(rig.now_us)).unwrap();
            if round % 3 == 0 && rig.commit().unwrap().turned {
                rig.writer.upkeep().unwrap();
            }
        }
    }
    rig.commit().unwrap();
    rig
}

/// An archive at work on a journal.
struct Work {
    archiver: Archiver<Memory>,
    reader: Reader<Memory>,
    catalog: Catalog,
    policy: Policy,
    now_us: i64,
}

impl Work {
    fn open(rig: &Rig, folder: &Memory, policy: &Policy, days: u64) -> Result<Self, ArchiveError> {
        let catalog = rig.writer.catalog();
        let archiver = Archiver::open(folder.clone(), catalog.journal)?;
        let reader = Reader::new(rig.medium.clone());
        let now_us = stamp(days * DAY).wall_us;
        Ok(Self { archiver, reader, catalog, policy: policy.clone(), now_us })
    }

    fn step(&mut self) -> Result<Step, ArchiveError> {
        let (catalog, limits) = (&self.catalog, limits());
        self.archiver.step(&mut self.reader, catalog, &limits, &self.policy, Some(self.now_us), &render)
    }

    /// Until there is nothing to do; the files that were made.
    fn run(&mut self) -> Result<Vec<String>, ArchiveError> {
        let mut files = Vec::new();
        loop {
            match self.step()? {
                Step::Idle => return Ok(files),
                Step::Working => {}
                Step::Done { file, .. } => files.push(file),
            }
        }
    }
}

/// The lines of all files, by their numbers; none may be there twice.
fn lines(folder: &Memory) -> BTreeMap<u64, String> {
    let mut lines = BTreeMap::new();
    for name in folder.names() {
        let Some(stem) = name.strip_suffix(".ndjson.gz") else {
            assert!(name.ends_with(".json"), "{name}");
            continue;
        };
        assert!(folder.names().contains(&format!("{stem}.json")), "{name} has no manifest");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&*folder.bytes(&name)).read_to_string(&mut text).unwrap();
        let manifest: serde_json::Value =
            serde_json::from_slice(&folder.bytes(&format!("{stem}.json"))).unwrap();
        assert_eq!(manifest["messages"], text.lines().count());
        assert_eq!(manifest["content_bytes"], text.len());
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let seq = value["seq"].as_u64().unwrap();
            assert_eq!(lines.insert(seq, name.clone()), None, "{seq} is there twice");
        }
    }
    lines
}

/// The messages of all segments but the one that is written to.
fn old(rig: &Rig) -> Vec<u64> {
    let segments = rig.writer.catalog().segments;
    (1..segments.last().unwrap().summary.first_seq).collect()
}

#[test]
fn a_file_a_day_and_group_with_every_message_once() {
    let mut rig = world();
    let folder = Memory::default();
    let mut work = Work::open(&rig, &folder, &everything(), 100).unwrap();
    let held = work.archiver.held(&work.catalog, &work.policy);
    let segments: BTreeSet<_> = held.iter().map(|(segment, _)| *segment).collect();
    assert_eq!(segments.len(), work.catalog.segments.len(), "none of it is archived");
    let files = work.run().unwrap();
    let name = |day: &str, group: &str| format!("2023-11-{day}.{group}.ndjson.gz");
    let days = ["14", "15", "16", "17"];
    let expected: Vec<_> =
        days.iter().flat_map(|day| [name(day, "Devices"), name(day, "Sta-2ftions")]).collect();
    assert_eq!(files, expected);
    let found = lines(&folder);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), old(&rig));
    assert_eq!(found[&1], format!("{FIRST_DAY}.Sta-2ftions.ndjson.gz"));
    // Now they may go, and only the newest may not.
    let held = work.archiver.held(&work.catalog, &work.policy);
    let newest = work.catalog.segments.last().unwrap().number();
    assert!(!held.is_empty() && held.iter().all(|(segment, _)| *segment == newest), "{held:?}");
    let limits = Limits { held, ..limits() };
    let delivered = Delivered::of(rig.writer.small().cursors.values());
    let plan = plan(&work.catalog, &delivered, &limits, Some(work.now_us));
    assert_eq!(plan.segments.len(), work.catalog.segments.len() - 1);
    rig.writer.retire(stamp(rig.now_us), &plan).unwrap();
    // Nothing is archived twice, after a restart neither.
    assert_eq!(Work::open(&rig, &folder, &everything(), 100).unwrap().run().unwrap(), [""; 0]);
    // What comes later of a day is a further part.
    rig.fill(40, 3);
    let before: Vec<_> = files.iter().map(|name| folder.bytes(name)).collect();
    let mut work = Work::open(&rig, &folder, &Policy { usual: true, groups: vec![] }, 100).unwrap();
    let more = work.run().unwrap();
    assert!(more.contains(&name("17", "Devices.2")), "{more:?}");
    assert_eq!(files.iter().map(|name| folder.bytes(name)).collect::<Vec<_>>(), before);
    assert_eq!(lines(&folder).keys().copied().collect::<Vec<_>>(), old(&rig));
}

#[test]
fn what_is_not_due_or_not_wanted_stays_out() {
    let rig = world();
    let folder = Memory::default();
    assert_eq!(Work::open(&rig, &folder, &everything(), 5).unwrap().run().unwrap(), [""; 0]);
    // On the day on which the first one's time is over nothing is due yet; on the next all of it is.
    let early = Work::open(&rig, &folder, &everything(), 10).unwrap().run().unwrap();
    assert!(early.is_empty(), "{early:?}");
    let first = Work::open(&rig, &folder, &everything(), 11).unwrap().run().unwrap();
    assert!(!first.is_empty() && first.iter().all(|file| file.starts_with(FIRST_DAY)), "{first:?}");
    let stations = GroupName::parse("Sta/tions").unwrap();
    let policy = Policy { usual: false, groups: vec![(stations, true)] };
    let mut work = Work::open(&rig, &folder, &policy, 100).unwrap();
    let later = work.run().unwrap();
    assert!(later.iter().all(|file| file.contains("tions")), "{later:?}");
    assert_eq!(work.archiver.held(&work.catalog, &policy).len(), 1);
    let none = Policy { usual: false, groups: vec![] };
    assert_eq!(work.archiver.held(&work.catalog, &none).len(), 0);
    let mut work = Work::open(&rig, &folder, &everything(), 100).unwrap();
    let idle = work.archiver.step(&mut work.reader, &work.catalog, &limits(), &work.policy, None, &render);
    assert_eq!(idle, Ok(Step::Idle), "not by a clock that is not right");
}

/// The process ends behind any step, or the power fails: the next start goes on, and all is there once.
#[test]
fn interrupted_anywhere_it_goes_on() {
    let rig = world();
    for cut in [false, true] {
        for steps in every(0..) {
            let folder = Memory::default();
            let mut work = Work::open(&rig, &folder, &everything(), 100).unwrap();
            let ended = (0..steps).any(|_| work.step().unwrap() == Step::Idle);
            let sure = work.archiver.held(&work.catalog, &work.policy);
            drop(work);
            if cut {
                folder.cut();
            }
            let mut work = Work::open(&rig, &folder, &everything(), 100).unwrap();
            let held = work.archiver.held(&work.catalog, &work.policy);
            assert!(held.is_subset(&sure), "what was archived is");
            work.run().unwrap();
            assert_eq!(lines(&folder).keys().copied().collect::<Vec<_>>(), old(&rig), "after {steps}");
            if ended {
                break;
            }
        }
    }
}

/// Every operation on the archive fails once, then the power fails.
#[test]
fn failures_cost_nothing_but_another_attempt() {
    let rig = world();
    let calm = Memory::default();
    Work::open(&rig, &calm, &everything(), 100).unwrap().run().unwrap();
    for operation in [
        Operation::List,
        Operation::Create,
        Operation::Open,
        Operation::Write,
        Operation::Read,
        Operation::Sync,
        Operation::SyncFolder,
        Operation::Rename,
        Operation::Remove,
    ] {
        for nth in every(0..calm.count(operation).min(40)) {
            let folder = Memory::default();
            folder.fail(operation, nth);
            let sure = Work::open(&rig, &folder, &everything(), 100).map(|mut work| {
                let failed = (0..1000).find_map(|_| match work.step() {
                    Ok(Step::Idle) => Some(true),
                    Ok(_) => None,
                    Err(_) => Some(false),
                });
                assert!(failed.is_some());
                work.archiver.held(&work.catalog, &work.policy)
            });
            folder.heal();
            folder.cut();
            let mut work = Work::open(&rig, &folder, &everything(), 100).unwrap();
            let held = work.archiver.held(&work.catalog, &work.policy);
            assert!(sure.is_err() || held.is_subset(&sure.unwrap()), "{operation:?} {nth}");
            work.run().unwrap();
            assert_eq!(lines(&folder).keys().copied().collect::<Vec<_>>(), old(&rig), "{operation:?} {nth}");
        }
    }
}

#[test]
fn what_reads_back_otherwise_does_not_count() {
    let rig = world();
    let name = format!("{FIRST_DAY}.Devices.ndjson.gz");
    for byte in every(0..40) {
        let folder = Memory::default();
        let mut work = Work::open(&rig, &folder, &everything(), 100).unwrap();
        let before = work.archiver.held(&work.catalog, &work.policy);
        // As soon as it has its name it is damaged.
        while !folder.names().contains(&name) {
            assert_eq!(work.step(), Ok(Step::Working));
        }
        folder.damage(&name, |bytes| {
            let at = bytes.len() * byte / 40;
            match byte % 3 {
                0 => bytes[at] ^= 1,
                1 => bytes.truncate(at),
                _ => bytes.push(0),
            }
        });
        let refused = loop {
            match work.step() {
                Ok(Step::Working) => {}
                other => break other,
            }
        };
        assert_eq!(refused, Err(ArchiveError::Differs(name.clone())), "{byte}");
        assert_eq!(work.archiver.held(&work.catalog, &work.policy), before);
        work.run().unwrap();
        assert_eq!(lines(&folder).keys().copied().collect::<Vec<_>>(), old(&rig));
    }
}

/// Somebody's files, and files whose manifest is gone or damaged, are never written over.
#[test]
fn what_is_not_its_own_is_left_alone() {
    let rig = world();
    let folder = Memory::default();
    let files = Work::open(&rig, &folder, &everything(), 100).unwrap().run().unwrap();
    let manifest = format!("{FIRST_DAY}.Devices.json");
    folder.damage(&manifest, |bytes| bytes.truncate(10));
    let before = folder.bytes(&files[0]);
    let again = Work::open(&rig, &folder, &everything(), 100).unwrap().run().unwrap();
    assert_eq!(again, [format!("{FIRST_DAY}.Devices.2.ndjson.gz")]);
    assert_eq!(folder.bytes(&files[0]), before);
    assert_eq!(folder.bytes(&manifest).len(), 10);
}

/// A segment with messages of several groups or days is held until the last of their files is there.
#[test]
fn a_segment_is_held_until_all_of_it_is_archived() {
    let (rig, folder) = (world(), Memory::default());
    let mut work = Work::open(&rig, &folder, &everything(), 100).unwrap();
    let (mut checked, mut there) = (0, BTreeMap::new());
    loop {
        let held = work.archiver.held(&work.catalog, &work.policy);
        let is_held = |number: u64| held.iter().any(|(segment, _)| *segment == number);
        for segment in work.catalog.segments.iter().filter(|segment| !is_held(segment.number())) {
            let summary = &segment.summary;
            let missing = (summary.first_seq..summary.next_seq).find(|seq| !there.contains_key(seq));
            assert_eq!(missing, None, "segment {} may go", segment.number());
            checked += 1;
        }
        match work.step().unwrap() {
            Step::Idle => break,
            Step::Working => {}
            Step::Done { .. } => there = lines(&folder),
        }
    }
    assert!(checked > 0);
}
