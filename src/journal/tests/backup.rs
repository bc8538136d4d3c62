//! Copies of a running journal.

use super::rig::{settings, stamp, stored};
use super::{Memory, Rig};
use crate::journal::backup::{BackupError, Contents, Copy, Other, backup, restore, verify};
use crate::journal::medium::{Medium, Operation};
use crate::journal::retention::Plan;
use crate::journal::writer::{Settings, Writer};

const NAME: &str = "copy.iotsbackup";

fn others() -> Vec<Other> {
    vec![Other { name: "acl.json".into(), bytes: b"[]".to_vec() }]
}

fn world() -> Rig {
    let mut rig = Rig::open(&Memory::default());
    rig.fill(80, 3);
    rig
}

#[test]
fn what_is_restored_is_what_was_acknowledged_and_numbers_jump() {
    let mut rig = world();
    let catalog = rig.writer.catalog();
    // What comes later is not in it.
    rig.fill(30, 3);
    let mut place = Memory::default();
    let contents = backup(&mut rig.medium.clone(), &catalog, &others(), &mut place, NAME).unwrap();
    let segments = catalog.segments.len() as u64;
    assert_eq!(contents, Contents { segments, messages: 240, first_seq: 1, next_seq: 241 });
    assert_eq!(verify(&mut place, NAME, &mut Memory::default()).unwrap(), (contents, others()));

    let mut target = Memory::default();
    assert_eq!(restore(&mut place, NAME, &mut target).unwrap(), (contents, others()));
    assert_eq!(restore(&mut place, NAME, &mut target), Err(BackupError::NotEmpty));
    target.cut();
    let (writer, report) = Writer::open(target.clone(), &Settings { restored: true, ..settings() }).unwrap();
    assert!(!report.is_loss(), "{report:?}");
    assert_eq!(stored(&mut target, &writer), (1..=240).collect::<Vec<_>>());
    assert_eq!(writer.start().next_seq, 241 + (1 << 20));
}

#[test]
fn a_damaged_or_cut_copy_is_seen_wherever_it_is() {
    let mut rig = Rig::open(&Memory::default());
    rig.fill(5, 3);
    let mut place = Memory::default();
    backup(&mut rig.medium.clone(), &rig.writer.catalog(), &others(), &mut place, NAME).unwrap();
    let good = place.bytes(NAME);
    for byte in (0..good.len()).step_by(7) {
        place.damage(NAME, |bytes| bytes[byte] ^= 4);
        let mut scratch = Memory::default();
        assert!(verify(&mut place, NAME, &mut scratch).is_err(), "byte {byte}");
        assert!(scratch.names().is_empty(), "nothing is written of a damaged one");
        place.damage(NAME, |bytes| bytes.clone_from(&good));
    }
    for len in (0..good.len()).step_by(11) {
        place.damage(NAME, |bytes| bytes.truncate(len));
        assert!(verify(&mut place, NAME, &mut Memory::default()).is_err(), "cut to {len}");
        place.damage(NAME, |bytes| bytes.clone_from(&good));
    }
    place.damage(NAME, |bytes| bytes.push(0));
    assert!(verify(&mut place, NAME, &mut Memory::default()).is_err(), "something behind its end");
    place.damage(NAME, |bytes| bytes.clone_from(&good));
    place.damage(NAME, |bytes| bytes[8] = 2);
    assert_eq!(verify(&mut place, NAME, &mut Memory::default()), Err(BackupError::NewerFormat(2)));
}

#[test]
fn one_that_is_interrupted_leaves_the_one_before_and_harms_nothing() {
    let mut rig = world();
    let mut place = Memory::default();
    let catalog = rig.writer.catalog();
    let first = backup(&mut rig.medium.clone(), &catalog, &others(), &mut place, NAME).unwrap();
    rig.fill(3, 3);
    for operation in [Operation::Create, Operation::Write, Operation::Sync, Operation::Rename] {
        for nth in [0, 3] {
            place.fail(operation, nth);
            let copied = backup(&mut rig.medium.clone(), &rig.writer.catalog(), &[], &mut place, NAME);
            if copied.is_err() {
                assert_eq!(place.names(), [NAME]);
                assert_eq!(verify(&mut place, NAME, &mut Memory::default()).unwrap().0, first);
            }
            place.heal();
            backup(&mut rig.medium.clone(), &catalog, &others(), &mut place, NAME).unwrap();
        }
    }
    rig.fill(3, 3);
    assert_eq!(rig.stored(), (1..=258).collect::<Vec<_>>());
}

#[test]
fn what_is_deleted_before_it_begins_is_told_and_what_is_deleted_meanwhile_is_in_it() {
    let mut rig = world();
    let catalog = rig.writer.catalog();
    let plan = |segments| Plan { segments, ..Plan::default() };
    rig.writer.retire(stamp(rig.now_us), &plan(vec![2])).unwrap();
    let mut place = Memory::default();
    let begun = backup(&mut rig.medium.clone(), &catalog, &[], &mut place, NAME);
    assert_eq!((begun, place.names()), (Err(BackupError::Changed), vec![]));

    let catalog = rig.writer.catalog();
    let mut copy = Copy::begin(rig.medium.clone(), &catalog, &others()).unwrap();
    let (left, len) = (rig.stored(), copy.rest_len());
    rig.writer.retire(stamp(rig.now_us), &plan(vec![1, 3, 4])).unwrap();
    // What is not sealed yet is sealed, and cut to its length.
    rig.fill(30, 3);
    rig.writer.upkeep().unwrap();
    let (file, mut at) = (place.create(NAME, 0).unwrap(), 0);
    while let Some(piece) = copy.next_piece().unwrap() {
        place.write_at(file, at, &piece).unwrap();
        at += piece.len() as u64;
    }
    assert_eq!((at, copy.rest_len()), (len, 0));
    let contents = copy.contents();
    assert_eq!((contents.segments, contents.messages), (catalog.segments.len() as u64, left.len() as u64));
    assert_eq!(verify(&mut place, NAME, &mut Memory::default()), Ok((contents, others())));
    // What was deleted long before is no loss when it is restored.
    let mut target = Memory::default();
    restore(&mut place, NAME, &mut target).unwrap();
    let (writer, report) = Writer::open(target.clone(), &Settings { restored: true, ..settings() }).unwrap();
    assert!(!report.is_loss(), "{report:?}");
    assert_eq!(stored(&mut target, &writer), left);
}

#[test]
fn damage_of_the_running_journal_makes_no_good_copy() {
    let rig = world();
    let catalog = rig.writer.catalog();
    rig.medium.damage(&catalog.segments[1].name(), |bytes| bytes[1000] ^= 1);
    let mut place = Memory::default();
    backup(&mut rig.medium.clone(), &catalog, &[], &mut place, NAME).unwrap();
    assert_eq!(verify(&mut place, NAME, &mut Memory::default()), Err(BackupError::Differs));
}
