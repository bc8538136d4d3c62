//! Reading back by every condition, from sealed segments and the open one alike.

use std::collections::BTreeMap;

use super::rig::{settings, stamp};
use super::{Memory, Rig, message};
use crate::journal::backup::{backup, verify};
use crate::journal::catalog::Catalog;
use crate::journal::look::look;
use crate::journal::medium::Operation;
use crate::journal::reader::{Order, Query, Reader};
use crate::journal::record::{Kind, Message, Record};
use crate::journal::retention::Plan;
use crate::journal::scrub::scrub;
use crate::journal::stamp::{Clock, MessageId, Stamp};
use crate::journal::stored::{ShownClock, Stored};
use crate::journal::writer::Settings;
use crate::thorough::every;
use crate::wire::{GroupName, Uid};

const OBJECTS: [&str; 5] = ["a", "b", "c", "d", "e"];
const GROUPS: [&str; 2] = ["even", "odd"];

/// Six hundred messages over several segments, the last one open; and the same as a list.
fn world() -> (Memory, Rig, Vec<Stored>) {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    let mut model = Vec::new();
    for number in 0..600_usize {
        // The object "e" is rare.
        let uid = if number % 97 == 0 { "e" } else { OBJECTS[number % 4] };
        let data = number.to_string();
        let kind = Kind::ALL[number % 3];
        let message = Message { kind, ..message(uid, GROUPS[number % 2], data.as_bytes()) };
        let seq = rig.front.append(message, stamp(number as u64 * 1000)).unwrap();
        model.push(rig.front.get(seq).unwrap().clone());
        if number % 4 == 3 && rig.commit().unwrap().turned {
            rig.writer.upkeep().unwrap();
        }
    }
    rig.commit().ok();
    (medium, rig, model)
}

fn expected(model: &[Stored], query: &Query) -> Vec<Stored> {
    let boots = BTreeMap::new();
    let mut list: Vec<_> = model
        .iter()
        .filter(|stored| {
            let message = &stored.message;
            (query.from..query.below).contains(&stored.seq)
                && (query.from_us..query.below_us).contains(&stored.time(&boots).0)
                && query.uid.is_none_or(|uid| message.uid == uid)
                && (query.groups.is_empty() || query.groups.contains(&message.group))
                && (query.kinds.is_empty() || query.kinds.contains(&message.kind))
        })
        .cloned()
        .collect();
    if query.order == Order::NewestFirst {
        list.reverse();
    }
    list
}

/// All pages of a query.
fn read_all(reader: &mut Reader<Memory>, rig: &Rig, query: &Query) -> Vec<Stored> {
    let catalog = rig.writer.catalog();
    let mut query = query.clone();
    let mut all = Vec::new();
    loop {
        let page = reader.read(&catalog, &query).unwrap();
        assert!(page.messages.len() <= query.limit);
        assert!(page.damaged.is_empty());
        all.extend(page.messages);
        match (page.next, query.order) {
            (None, _) => return all,
            (Some(next), Order::OldestFirst) => query.from = next,
            (Some(next), Order::NewestFirst) => query.below = next,
        }
    }
}

const YEAR_US: i64 = 365 * 24 * 3_600 * 1_000_000;

#[test]
fn every_condition_gives_what_a_list_would() {
    let (medium, rig, model) = world();
    let segments = rig.writer.catalog().segments;
    assert!(segments.iter().filter(|segment| segment.trailer.is_some()).count() > 2);
    assert!(segments.last().unwrap().trailer.is_none());
    let mut reader = Reader::new(medium);
    let time = |number: u64| stamp(number * 1000).wall_us;
    let mut queries = vec![Query::from(0), Query::from(250), Query::from(601)];
    queries.push(Query { below: 77, ..Query::from(3) });
    queries.push(Query { from_us: time(100), below_us: time(200), ..Query::from(0) });
    queries.push(Query { bytes_max: 10, ..Query::from(0) });
    for uid in OBJECTS.into_iter().chain(["nobody"]) {
        queries.push(Query { uid: Some(Uid::parse(uid).unwrap()), ..Query::from(0) });
        queries.push(Query { uid: Some(Uid::parse(uid).unwrap()), below: 333, ..Query::from(111) });
    }
    for group in GROUPS.into_iter().chain(["none"]) {
        let groups = vec![GroupName::parse(group).unwrap()];
        queries.push(Query { groups, kinds: vec![Kind::Request], ..Query::from(0) });
    }
    for query in every(queries) {
        for order in [Order::OldestFirst, Order::NewestFirst] {
            for limit in [1, 7, 1000] {
                let query = Query { order, limit, ..query.clone() };
                assert_eq!(read_all(&mut reader, &rig, &query), expected(&model, &query), "{query:?}");
            }
        }
    }
}

#[test]
fn a_message_is_found_by_its_number_and_its_id() {
    let (medium, rig, model) = world();
    let catalog = rig.writer.catalog();
    let mut reader = Reader::new(medium);
    for stored in model.iter().step_by(13) {
        assert_eq!(reader.get(&catalog, stored.seq).unwrap().as_ref(), Some(stored));
        let id = stored.id(catalog.journal);
        assert_eq!(reader.get_by_id(&catalog, id).unwrap().as_ref(), Some(stored));
        let other = MessageId::new(stored.stamp.wall_us + 1_000_000, stored.seq, catalog.journal);
        assert_eq!(reader.get_by_id(&catalog, other).unwrap(), None, "another time");
    }
    assert_eq!(reader.get(&catalog, 0).unwrap(), None);
    assert_eq!(reader.get(&catalog, 601).unwrap(), None);
}

#[test]
fn only_what_is_acknowledged_is_seen() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    let mut reader = Reader::new(medium.clone());
    rig.fill(1, 3);
    let before = rig.writer.catalog();
    rig.append(2);
    let batch = rig.front.take_batch().unwrap();
    rig.writer.commit(&batch).unwrap();
    let count = |reader: &mut Reader<Memory>, catalog: &Catalog| {
        reader.read(catalog, &Query::from(0)).unwrap().messages.len()
    };
    assert_eq!(count(&mut reader, &before), 3);
    assert_eq!(count(&mut reader, &rig.writer.catalog()), 5);
    assert_eq!(count(&mut reader, &before), 3, "an older view stays what it was");
}

#[test]
fn a_rare_object_costs_few_reads() {
    let (medium, rig, _) = world();
    let catalog = rig.writer.catalog();
    let mut reader = Reader::new(medium.clone());
    reader.read(&catalog, &Query::from(0)).unwrap();
    let before = medium.count(Operation::Read);
    let query = Query { uid: Some(Uid::parse("nobody").unwrap()), ..Query::from(0) };
    reader.read(&catalog, &query).unwrap();
    assert!(medium.count(Operation::Read) - before <= 2 * catalog.segments.len());
}

#[test]
fn damage_is_reported_and_its_neighbours_are_served() {
    let (medium, rig, model) = world();
    let catalog = rig.writer.catalog();
    let segment = &*catalog.segments[1];
    let whole = medium.bytes(&segment.name());
    assert_eq!(scrub(&mut medium.clone(), segment).unwrap(), []);
    for byte in every((0..segment.end.offset as usize).step_by(5)) {
        medium.damage(&segment.name(), |bytes| bytes[byte] ^= 0x10);
        let mut reader = Reader::new(medium.clone());
        let page = reader.read(&catalog, &Query { limit: 1000, ..Query::from(0) }).unwrap();
        let lost = model.len() - page.messages.len();
        assert!(lost <= 4, "byte {byte}");
        assert!(lost == 0 || !page.damaged.is_empty());
        assert!(!scrub(&mut medium.clone(), segment).unwrap().is_empty(), "byte {byte}");
        medium.damage(&segment.name(), |bytes| bytes.clone_from(&whole));
    }
    for byte in every((segment.end.offset as usize..whole.len() - 512).step_by(3)) {
        medium.damage(&segment.name(), |bytes| bytes[byte] ^= 0x10);
        let mut reader = Reader::new(medium.clone());
        for uid in [None, Some(Uid::parse("e").unwrap())] {
            let query = Query { limit: 1000, uid, ..Query::from(0) };
            assert_eq!(reader.read(&catalog, &query).unwrap().messages, expected(&model, &query));
        }
        assert!(!scrub(&mut medium.clone(), segment).unwrap().is_empty(), "byte {byte} of the footer");
        medium.damage(&segment.name(), |bytes| bytes.clone_from(&whole));
    }
}

#[test]
fn times_are_corrected_once_the_clock_is_set() {
    let medium = Memory::default();
    let unset = |us| Stamp { mono_us: us, wall_us: 500, clock: Clock::Unsynced };
    let mut rig = Rig::open_with(&medium, &Settings { now: unset(0), ..settings() });
    for number in 0..10 {
        rig.front.append(message("a", "g", b""), unset(1000 + number)).unwrap();
    }
    rig.commit().unwrap();
    let id = rig.front.get(3).unwrap().id(rig.writer.catalog().journal);
    let boot = rig.writer.start().boot;
    let true_time = 1_700_000_000_000_000;
    let record = Record::BootTime { boot, wall_at_zero_us: true_time };
    rig.front.note(&record, stamp(5000)).unwrap();
    rig.front.append(message("a", "g", b""), stamp(6000)).unwrap();
    rig.commit().unwrap();

    drop(rig);
    let rig = Rig::open_with(&medium, &Settings { boot_id: [2; 16], ..settings() });
    let catalog = rig.writer.catalog();
    let mut reader = Reader::new(medium);
    let query = Query { from_us: true_time + 1002, below_us: true_time + 1005, ..Query::from(0) };
    let found = reader.read(&catalog, &query).unwrap().messages;
    assert_eq!(found.iter().map(|stored| stored.seq).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(found[0].time(&catalog.boots), (true_time + 1002, ShownClock::Corrected));
    assert_eq!(found[0].id(catalog.journal), id, "the id keeps its first time");
    let last = reader.get(&catalog, 11).unwrap().unwrap();
    assert_eq!(last.time(&catalog.boots), (true_time + 6000, ShownClock::Synced));
}

/// A chip that lost its battery, or a card from another machine.
#[test]
fn a_clock_that_ran_ahead_leaves_no_wrong_times_behind() {
    let medium = Memory::default();
    let right = |us| stamp(us);
    let ahead = |us| Stamp { wall_us: right(us).wall_us + 14 * YEAR_US, clock: Clock::Unsynced, ..right(us) };
    let mut rig = Rig::open_with(&medium, &Settings { now: ahead(0), ..settings() });
    rig.front.append(message("a", "g", b""), ahead(1000)).unwrap();
    let boot_time =
        |rig: &Rig| Record::BootTime { boot: rig.writer.start().boot, wall_at_zero_us: right(0).wall_us };
    rig.front.note(&boot_time(&rig), right(2000)).unwrap();
    rig.front.append(message("a", "g", b""), right(3000)).unwrap();
    rig.commit().unwrap();
    drop(rig);
    let mut rig = Rig::open_with(&medium, &Settings { boot_id: [2; 16], ..settings() });
    rig.front.note(&boot_time(&rig), right(4000)).unwrap();
    rig.front.append(message("a", "g", b""), right(5000)).unwrap();
    rig.commit().unwrap();

    let catalog = rig.writer.catalog();
    let found = Reader::new(medium).read(&catalog, &Query::from(0)).unwrap().messages;
    let times: Vec<_> = found.iter().map(|stored| stored.time(&catalog.boots)).collect();
    let expected = [1000, 3000, 5000].map(|us| (right(us).wall_us, ShownClock::Corrected));
    assert_eq!(times, expected);
    assert!(found.is_sorted_by_key(|stored| stored.id(catalog.journal)), "ids never go back");
}

#[test]
fn what_was_deleted_meanwhile_is_passed_over() {
    let (medium, mut rig, _) = world();
    let before = rig.writer.catalog();
    let keep = before.segments[2].clone();
    let plan = Plan { segments: (1..keep.number()).collect(), ..Plan::default() };
    rig.writer.retire(stamp(0), &plan).unwrap();
    let page = Reader::new(medium).read(&before, &Query { limit: 1000, ..Query::from(0) }).unwrap();
    assert_eq!(page.messages[0].seq, keep.summary.first_seq);
    assert_eq!(page.messages.last().unwrap().seq, 600);
}

/// Whoever only looks sees what the next start will have, the last batch included, and changes nothing.
#[test]
fn looking_sees_everything_and_writes_nothing() {
    assert!(look(&mut Memory::default()).unwrap().is_none());
    let (medium, rig, model) = world();
    let small = rig.writer.small().clone();
    drop(rig);
    let before = medium.copy();
    let found = look(&mut medium.clone()).unwrap().unwrap();
    assert!(!found.report.is_loss());
    let query = Query { limit: 10_000, bytes_max: usize::MAX, ..Query::from(0) };
    let page = Reader::new(medium.clone()).read(&found.catalog, &query).unwrap();
    assert_eq!(page.messages, model);
    assert_eq!(found.small, small);
    assert_eq!(medium.names(), before.names());
    for name in medium.names() {
        assert!(medium.bytes(&name) == before.bytes(&name), "{name}");
    }
    let mut place = Memory::default();
    let contents = backup(&mut medium.clone(), &found.catalog, &[], &mut place, "copy").unwrap();
    assert_eq!(contents.messages, model.len() as u64);
    assert_eq!(verify(&mut place, "copy", &mut Memory::default()), Ok((contents, vec![])));
}
