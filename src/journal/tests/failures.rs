//! A medium that fails: what is acknowledged is there, what is not is never said to be.

use super::rig::{settings, stamp};
use super::{Memory, Rig};
use crate::journal::error::JournalError;
use crate::journal::medium::Operation;
use crate::journal::retention::Plan;
use crate::journal::writer::{Health, Writer};

const OPERATIONS: [Operation; 7] = [
    Operation::Create,
    Operation::Open,
    Operation::Write,
    Operation::Sync,
    Operation::SyncFolder,
    Operation::Rename,
    Operation::Shrink,
];

/// The medium itself asserts that no file is synced again after a failed sync.
#[test]
fn one_failure_anywhere_loses_nothing_and_stops_nothing() {
    for operation in OPERATIONS {
        for nth in 0..12 {
            let medium = Memory::default();
            let mut rig = Rig::open(&medium);
            medium.fail(operation, nth);
            for _ in 0..30 {
                rig.append(4);
                if rig.commit().unwrap_or_else(|error| panic!("{operation:?} {nth}: {error:?}")).turned {
                    _ = rig.writer.upkeep();
                }
            }
            medium.heal();
            let whole: Vec<_> = (1..=120).collect();
            assert_eq!(rig.stored(), whole, "{operation:?} {nth}");
            medium.cut();
            let mut rig = Rig::open(&medium.copy());
            assert_eq!(rig.stored(), whole, "{operation:?} {nth} after a cut");
            assert!(!rig.report.is_loss(), "{operation:?} {nth}: {:?}", rig.report);
        }
    }
}

#[test]
fn a_second_failure_makes_it_read_only_and_acknowledges_nothing() {
    for first in [Operation::Write, Operation::Sync] {
        for second in [Operation::Write, Operation::Sync, Operation::Rename, Operation::SyncFolder] {
            let medium = Memory::default();
            let mut rig = Rig::open(&medium);
            rig.fill(3, 2);
            rig.append(2);
            medium.fail(first, 0);
            medium.fail(second, usize::from(first == second));
            let syncs = medium.count(Operation::Sync);
            assert!(matches!(rig.commit(), Err(JournalError::ReadOnly(_))), "{first:?} {second:?}");
            assert!(matches!(rig.writer.health(), Health::ReadOnly(_)));
            assert_eq!((rig.front.durable(), rig.writer.catalog().next_seq), (7, 7));
            assert!(medium.count(Operation::Sync) <= syncs + 2);
            assert!(matches!(rig.commit(), Err(JournalError::ReadOnly(_))), "until a restart");
            assert_eq!(rig.stored(), [1, 2, 3, 4, 5, 6], "what was acknowledged is served");
            medium.cut();
            let mut rig = Rig::open(&medium.copy());
            assert!(rig.stored().starts_with(&[1, 2, 3, 4, 5, 6]));
            assert!(!rig.report.is_loss());
        }
    }
}

#[test]
fn a_full_medium_is_waited_for() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    rig.fill(1, 1);
    rig.writer.upkeep().unwrap();
    assert!(rig.writer.has_spare());
    medium.set_full(true);
    let mut batches = 0;
    loop {
        rig.append(4);
        match rig.commit() {
            Ok(committed) if committed.turned => assert_eq!(rig.writer.upkeep(), Err(JournalError::Full)),
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, JournalError::Full);
                break;
            }
        }
        batches += 1;
    }
    assert!(batches > 20, "the spare segment was used: {batches}");
    assert!(!rig.writer.has_spare());
    assert_eq!(rig.commit(), Err(JournalError::Full), "still");
    // Something small still fits.
    medium.set_full(false);
    rig.commit().unwrap();
    rig.writer.upkeep().unwrap();
    let count = rig.front.next_seq() - 1;
    assert_eq!(rig.stored(), (1..=count).collect::<Vec<_>>());
    assert!(rig.writer.has_spare());
}

#[test]
fn a_cut_between_any_two_operations_of_a_start_loses_nothing() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    rig.fill(50, 3);
    drop(rig);
    for operation in OPERATIONS {
        for nth in 0..6 {
            let medium = medium.copy();
            medium.fail(operation, nth);
            {
                let mut rig = Rig::open(&medium);
                _ = rig.writer.upkeep();
                medium.heal();
                rig.append(1);
                rig.commit().unwrap();
            }
            medium.cut();
            let mut rig = Rig::open(&medium.copy());
            assert!(!rig.report.is_loss(), "{operation:?} {nth}: {:?}", rig.report);
            let stored = rig.stored();
            assert_eq!(
                (stored.len(), &stored[..150]),
                (151, &(1..=150).collect::<Vec<_>>()[..]),
                "{operation:?} {nth}"
            );
            rig.fill(1, 1);
        }
    }
}

#[test]
fn deleted_segments_stay_deleted_whatever_happens_to_the_files() {
    for (operation, nth) in [(Operation::FreeBytes, 0), (Operation::Remove, 0), (Operation::Remove, 1)] {
        let medium = Memory::default();
        let mut rig = Rig::open(&medium);
        rig.fill(80, 3);
        let keep = rig.writer.catalog().segments[2].clone();
        medium.fail(operation, nth);
        let segments = (1..keep.number()).collect();
        let plan = Plan { segments, ..Plan::default() };
        let retired = rig.writer.retire(stamp(rig.now_us), &plan);
        assert_eq!(retired.is_ok(), operation == Operation::FreeBytes);
        assert_eq!(rig.writer.catalog().first_seq(), keep.summary.first_seq);
        drop(rig);
        medium.cut();
        let mut rig = Rig::open(&medium);
        assert!(!rig.report.is_loss(), "{:?}", rig.report);
        assert_eq!(rig.stored(), (keep.summary.first_seq..=240).collect::<Vec<_>>());
        rig.writer.upkeep().unwrap();
        assert!(!medium.names().contains(&"0000000001.seg".to_owned()));
        rig.fill(30, 3);
        drop(rig);
        assert!(!Rig::open(&medium).report.is_loss());
    }
}

#[test]
fn a_batch_out_of_step_is_refused() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    rig.append(1);
    let mut batch = rig.front.take_batch().unwrap();
    batch.head.first_seq += 1;
    assert_eq!(rig.writer.commit(&batch), Err(JournalError::OutOfStep));
}

#[test]
fn a_batch_larger_than_a_segment_gets_one_that_fits() {
    let medium = Memory::default();
    let (mut writer, _) = Writer::open(medium.clone(), &settings()).unwrap();
    let data = vec![7; 50_000];
    let record = crate::journal::record::Record::Waiting { id: 1, data };
    writer.note(stamp(1), &[record]).unwrap();
    writer.upkeep().unwrap();
    drop(writer);
    let (writer, report) = Writer::open(medium, &settings()).unwrap();
    assert!(!report.is_loss());
    assert_eq!(writer.small().waiting[&1].len(), 50_000);
}
