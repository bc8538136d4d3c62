//! What is there after a restart, a power cut, and damage.

use super::rig::{SEGMENT_LEN, settings, stamp};
use super::{Memory, Rig};
use crate::journal::error::JournalError;
use crate::journal::medium::{Medium as _, Operation};
use crate::journal::record::{Cause, Record};
use crate::journal::recovery::Report;
use crate::journal::scrub::scrub;
use crate::journal::segment::{DATA_START, HEADER_LEN, TAIL_LEN};
use crate::journal::state::CursorState;
use crate::journal::writer::{Settings, Writer};
use crate::thorough::every;

fn all(to: u64) -> Vec<u64> {
    (1..=to).collect()
}

#[test]
fn numbers_are_gap_free_over_restarts_and_power_cuts() {
    let medium = Memory::default();
    let mut appended = 0;
    for round in 0..12 {
        let mut rig = Rig::open(&medium);
        assert_eq!(rig.report, Report::default());
        assert_eq!(rig.front.next_seq(), appended + 1);
        rig.fill(10, 7);
        appended += 70;
        assert_eq!(rig.stored(), all(appended));
        assert_eq!(rig.writer.small().received().next().unwrap().2, appended);
        if round % 2 == 0 {
            medium.cut();
        }
    }
}

#[test]
fn an_unacknowledged_batch_is_lost_or_kept_whole() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    rig.fill(1, 5);
    rig.append(3);
    medium.fail(Operation::Sync, 0);
    medium.fail(Operation::Create, 0);
    medium.fail(Operation::Write, 1);
    assert!(matches!(rig.commit(), Err(JournalError::ReadOnly(_))));
    let killed = medium.copy();
    assert_eq!(Rig::open(&killed).stored(), all(8), "killed: what was written is there");
    medium.cut();
    let cut = medium.copy();
    assert_eq!(Rig::open(&cut).stored(), all(5), "cut: what was flushed is there");
}

#[test]
fn every_truncation_of_the_last_segment_recovers_to_a_prefix() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    rig.fill(6, 2);
    let name = rig.writer.catalog().segments[0].name();
    let end = rig.writer.catalog().segments[0].end.offset;
    let mut seen = std::collections::BTreeSet::new();
    for cut in every(((HEADER_LEN as u64)..=end).rev()) {
        for zeros in [false, true] {
            let torn = medium.copy();
            torn.damage(&name, |bytes| {
                let len = bytes.len();
                bytes.truncate(cut as usize);
                if zeros {
                    bytes.resize(len, 0);
                }
            });
            let mut rig = Rig::open(&torn);
            let stored = rig.stored();
            let count = stored.len() as u64;
            assert_eq!(stored, all(count));
            assert_eq!(count % 2, 0, "whole batches");
            assert!(rig.report.damaged.is_empty());
            assert_eq!(rig.front.next_seq(), count + 1);
            rig.fill(1, 2);
            assert_eq!(rig.stored(), all(count + 2));
            seen.insert(count);
        }
    }
    assert_eq!(seen, [0, 2, 4, 6, 8, 10, 12].into());
}

/// In the last segment, in one that is not sealed, and in one that is.
#[test]
fn every_flipped_bit_is_seen_and_costs_its_batch_at_most() {
    for sealed in [false, true] {
        let medium = Memory::default();
        let mut rig = Rig::open(&medium);
        rig.fill(4, 2);
        if sealed {
            drop(rig);
            // A start turns the segment over.
            rig = Rig::open(&medium);
            rig.writer.upkeep().unwrap();
            rig.fill(1, 2);
        }
        let segment = rig.writer.catalog().segments[0].clone();
        assert_eq!(segment.trailer.is_some(), sealed);
        let bytes = medium.bytes(&segment.name());
        let whole = rig.stored();
        let looked_at = |byte: &usize| sealed || *byte < segment.end.offset as usize + 16;
        for byte in every((0..bytes.len()).filter(looked_at)) {
            // One bit of each byte, another one each time.
            let bit = byte % 8;
            let flipped = medium.copy();
            flipped.damage(&segment.name(), |bytes| bytes[byte] ^= 1 << bit);
            let mut rig = Rig::open(&flipped);
            let stored = rig.stored();
            assert!(stored.is_sorted());
            let lost = whole.len() - stored.len();
            assert!(lost <= 2, "byte {byte}: {stored:?}");
            if lost > 0 && !sealed {
                let seen = !rig.report.damaged.is_empty() || rig.report.torn.is_some();
                assert!(seen, "byte {byte} of an open segment");
            }
            rig.fill(1, 1);
        }
    }
}

/// Header copies, batches, footer, trailer, and the zeros between them.
#[test]
fn scrub_sees_every_flipped_bit_of_a_sealed_segment() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    rig.fill(4, 2);
    drop(rig);
    let mut rig = Rig::open(&medium);
    rig.writer.upkeep().unwrap();
    for open in [false, true] {
        let segments = rig.writer.catalog().segments;
        let segment = if open { segments.last() } else { segments.first() }.unwrap();
        assert_eq!(segment.trailer.is_none(), open);
        assert_eq!(scrub(&mut medium.clone(), segment).unwrap(), []);
        let len = medium.bytes(&segment.name()).len();
        // Behind the end of an open one may be anything, up to its second header.
        let free = segment.end.offset as usize..len - TAIL_LEN;
        for byte in (0..len).filter(|byte| !open || !free.contains(byte)) {
            let hurt = medium.copy();
            hurt.damage(&segment.name(), |bytes| bytes[byte] ^= 1 << (byte % 8));
            assert!(!scrub(&mut hurt.clone(), segment).unwrap().is_empty(), "byte {byte}, open: {open}");
        }
        for cut in [1, TAIL_LEN, len - HEADER_LEN] {
            let hurt = medium.copy();
            hurt.damage(&segment.name(), |bytes| bytes.truncate(len - cut));
            assert!(!scrub(&mut hurt.clone(), segment).unwrap().is_empty(), "{cut} cut off");
        }
        let hurt = medium.copy();
        hurt.damage(&segment.name(), |bytes| bytes.push(0));
        assert!(!scrub(&mut hurt.clone(), segment).unwrap().is_empty(), "something behind its end");
    }
}

#[test]
fn a_missing_file_is_reported_and_the_rest_is_served() {
    let medium = Memory::default();
    Rig::open(&medium).fill(120, 3);
    let segments = Rig::open(&medium).writer.catalog().segments;
    assert!(segments.len() > 4);
    let gone = segments[2].clone();
    let mut hurt = medium.copy();
    crate::journal::medium::Medium::remove(&mut hurt, &gone.name()).unwrap();
    let mut rig = Rig::open(&hurt);
    assert_eq!(rig.report.missing, [gone.number()]);
    let expected: Vec<_> = all(360)
        .into_iter()
        .filter(|seq| !(gone.summary.first_seq..gone.summary.next_seq).contains(seq))
        .collect();
    assert_eq!(rig.stored(), expected);
}

#[test]
fn when_the_newest_segment_is_lost_numbers_jump() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    rig.fill(60, 3);
    let newest = rig.writer.catalog().segments.last().unwrap().clone();
    drop(rig);
    for remove in [true, false] {
        let mut hurt = medium.copy();
        if remove {
            crate::journal::medium::Medium::remove(&mut hurt, &newest.name()).unwrap();
        } else {
            hurt.damage(&newest.name(), |bytes| bytes.fill(0x55));
        }
        let mut rig = Rig::open(&hurt);
        assert!(rig.report.is_loss());
        assert!(rig.front.next_seq() > 1 << 20);
        assert_eq!(rig.stored(), all(newest.summary.first_seq - 1));
        let next = rig.front.next_seq();
        drop(rig);
        let mut rig = Rig::open(&hurt);
        assert_eq!(rig.front.next_seq(), next, "once");
        rig.fill(2, 2);
        drop(rig);
        assert_eq!(Rig::open(&hurt).front.next_seq(), next + 4);
    }
}

#[test]
fn after_a_restore_numbers_jump_once() {
    let medium = Memory::default();
    Rig::open(&medium).fill(3, 3);
    let rig = Rig::open_with(&medium, &Settings { restored: true, ..settings() });
    let next = rig.front.next_seq();
    assert_eq!(next, 10 + (1 << 20));
    drop(rig);
    assert_eq!(Rig::open(&medium).front.next_seq(), next);
}

/// A single failure to open or read, anywhere in a start, is not worth a thing.
#[test]
fn what_cannot_be_read_once_is_read_again() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    rig.fill(40, 3);
    let cursor = Record::Cursor { destination: "central".into(), up_to: 100, holes: vec![] };
    rig.front.note(&cursor, stamp(rig.now_us)).unwrap();
    rig.commit().unwrap();
    drop(rig);
    let calm = medium.copy();
    let good = Rig::open(&calm);
    for operation in [Operation::List, Operation::Open, Operation::Read] {
        let count = calm.count(operation);
        assert!(count > 0);
        for nth in 0..count {
            let medium = medium.copy();
            medium.fail(operation, nth);
            let rig = Rig::open(&medium);
            assert_eq!(rig.report, Report::default(), "{operation:?} {nth}");
            assert_eq!(rig.writer.small(), good.writer.small(), "{operation:?} {nth}");
            assert_eq!(rig.front.next_seq(), 121);
        }
    }
}

/// Whose tokens ended is not known then, so nobody's are valid.
#[test]
fn a_newest_segment_that_stays_unreadable_is_told_and_no_token_outlives_it() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    let uid = crate::wire::Uid::parse("a").unwrap();
    let token = Record::Token { uid, token: [1; 8], expires_us: i64::MAX };
    rig.front.note(&token, stamp(0)).unwrap();
    rig.fill(40, 3);
    rig.front.note(&Record::TokensEnded { uid }, stamp(rig.now_us)).unwrap();
    rig.commit().unwrap();
    let newest = rig.writer.catalog().segments.last().unwrap().name();
    drop(rig);
    let hurt = medium.copy();
    hurt.damage(&newest, |bytes| bytes.fill(0x55));
    let rig = Rig::open(&hurt);
    assert!(rig.report.is_loss() && rig.report.state_incomplete, "{:?}", rig.report);
    assert_eq!(rig.writer.small().tokens().count(), 0);
}

#[test]
fn damage_in_the_middle_is_no_torn_tail() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    rig.fill(5, 2);
    let name = rig.writer.catalog().segments[0].name();
    let bytes = medium.bytes(&name);
    let third = bytes.windows(12).position(|window| window == b"message 0005").unwrap();
    medium.damage(&name, |bytes| bytes[third] = 0);
    let mut rig = Rig::open(&medium);
    assert_eq!((rig.report.damaged.len(), &rig.report.torn), (1, &None));
    assert_eq!(rig.stored(), [1, 2, 3, 4, 7, 8, 9, 10]);
    rig.writer.upkeep().unwrap();
    drop(rig);
    assert_eq!(Rig::open(&medium).report.damaged.len(), 1, "reported at each start");
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let medium = Memory::default();
    Rig::open(&medium).fill(1, 1);
    let name = "0000000001.seg";
    let newer = |bytes: &mut [u8], sum: bool| {
        bytes[8] = 9;
        if sum {
            let crc = crc32c::crc32c(&bytes[..128]);
            bytes[128..132].copy_from_slice(&crc.to_le_bytes());
        }
    };
    let hurt = medium.copy();
    hurt.damage(name, |bytes| newer(bytes, false));
    assert_eq!(Rig::open(&hurt).stored(), [1], "one damaged version is none");
    medium.damage(name, |bytes| {
        let second = bytes.len() - TAIL_LEN;
        newer(bytes, true);
        newer(&mut bytes[second..], true);
    });
    let error = Writer::open(medium, &settings()).map(|_| ()).unwrap_err();
    assert_eq!(error, JournalError::NewerFormat { file: name.into(), version: 9 });
}

#[test]
fn a_journal_of_another_environment_is_left_as_it_is() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    rig.append(3);
    rig.commit().unwrap();
    let production = Settings { environment: *b"production\0\0\0\0\0\0", ..settings() };
    let error = Writer::open(medium.clone(), &production).map(|_| ()).unwrap_err();
    let (found, wanted) = ("test".to_owned(), "production".to_owned());
    assert_eq!(error, JournalError::OtherEnvironment { found, wanted });
    assert_eq!(Rig::open(&medium).writer.start().next_seq, 4);
}

#[test]
fn cursors_and_books_survive_damage_of_the_newest_snapshot() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    rig.fill(5, 3);
    let cursor = Record::Cursor { destination: "central".into(), up_to: 9, holes: vec![4] };
    rig.front.note(&cursor, stamp(rig.now_us)).unwrap();
    rig.commit().unwrap();
    rig.fill(40, 3);
    let newest = rig.writer.catalog().segments.last().unwrap().clone();
    assert!(newest.number() > 2);
    drop(rig);
    for hurt in [false, true] {
        let medium = medium.copy();
        if hurt {
            medium.damage(&newest.name(), |bytes| bytes[DATA_START as usize + 60] ^= 1);
        }
        let rig = Rig::open(&medium);
        assert_eq!(rig.report.is_loss(), hurt);
        assert!(!rig.report.state_incomplete);
        let small = rig.writer.small();
        assert_eq!((small.cursors["central"].up_to, small.received().next().unwrap().2), (9, 135));
    }
}

#[test]
fn a_restart_leaves_small_files() {
    let medium = Memory::default();
    for _ in 0..20 {
        let mut rig = Rig::open(&medium);
        rig.writer.upkeep().unwrap();
        rig.fill(1, 1);
    }
    let bytes = Rig::open(&medium).writer.catalog().bytes();
    assert!(bytes < 20 * 2048 + 2 * SEGMENT_LEN, "{bytes}");
}

#[test]
fn boots_are_counted() {
    let medium = Memory::default();
    let boot = |id: u8| {
        let mut rig = Rig::open_with(&medium, &Settings { boot_id: [id; 16], ..settings() });
        rig.fill(1, 1);
        rig.writer.start().boot
    };
    assert_eq!([boot(1), boot(1), boot(2), boot(2), boot(1)], [1, 1, 2, 2, 3]);
}

#[test]
fn tokens_whose_time_is_over_are_not_carried_on() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    let uid = crate::wire::Uid::parse("a").unwrap();
    for hours in [1, 100] {
        let expires_us = stamp(hours * 3_600_000_000).wall_us;
        rig.front.note(&Record::Token { uid, token: [hours as u8; 8], expires_us }, stamp(0)).unwrap();
    }
    rig.commit().unwrap();
    assert_eq!(rig.writer.small().tokens().next().unwrap().1.len(), 2);
    rig.now_us = 2 * 3_600_000_000;
    rig.fill(40, 3);
    drop(rig);
    let rig = Rig::open(&medium);
    let (owner, tokens) = rig.writer.small().tokens().next().unwrap();
    assert_eq!((owner, tokens.len(), tokens[0].token), (uid, 1, [100; 8]));
}

/// What version 1 wrote: two segments with every record that it knew, in the places where they were found.
#[test]
fn a_journal_of_version_1_is_read_and_gone_on_with() {
    let medium = Memory::default();
    for (name, bytes) in [
        ("0000000001.seg", include_bytes!("../../../tests/fixtures/journal-1/0000000001.seg").as_slice()),
        ("0000000002.seg", include_bytes!("../../../tests/fixtures/journal-1/0000000002.seg")),
    ] {
        let mut medium = medium.clone();
        let file = medium.create(name, 0).unwrap();
        medium.write_at(file, 0, bytes).unwrap();
        medium.close(file);
    }
    let mut rig = Rig::open(&medium.copy());
    assert_eq!(rig.report, Report::default());
    assert_eq!(rig.stored(), all(91));
    for _ in 0..3 {
        let small = rig.writer.small_with_carry();
        assert_eq!(small.cursors["central"], CursorState { up_to: 2, holes: vec![1] });
        assert_eq!(small.received().map(|(_, _, count)| count).sum::<u64>(), rig.front.next_seq() - 1);
        assert_eq!(small.tallies().map(|(.., count)| count).collect::<Vec<_>>(), [1]);
        assert_eq!((small.tokens().count(), small.sessions().count()), (1, 1));
        assert_eq!((small.waiting.len(), small.commands.len()), (1, 1));
        assert_eq!(small.corrected(1, 5), Some(1005));
        let [gone] = small.gone() else { panic!("{:?}", small.gone()) };
        assert_eq!((gone.from, gone.to, gone.count, gone.cause, gone.at), (1, 1, 1, Cause::Full, None));
        rig.fill(10, 7);
        rig = Rig::open(&rig.medium.copy());
    }
}

/// What an earlier segment left in the blocks of a later one is not believed, wherever it lies.
#[test]
fn batches_of_another_segment_are_not_believed() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    rig.fill(30, 5);
    let catalog = rig.writer.catalog();
    let (first, last) = (catalog.segments[0].clone(), catalog.segments.last().unwrap().clone());
    let start = DATA_START as usize;
    let old = medium.bytes(&first.name())[start..first.end.offset as usize].to_vec();
    medium.damage(&last.name(), |bytes| bytes[start..start + old.len()].copy_from_slice(&old));
    let mut rig = Rig::open(&medium.copy());
    let stored = rig.stored();
    assert!(stored.is_sorted_by(|a, b| a < b), "{stored:?}");
    assert!(stored.len() as u64 >= last.header.first_seq - 1);
    // Behind the end, in place of what was never written.
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    rig.fill(20, 5);
    let catalog = rig.writer.catalog();
    let (first, last) = (catalog.segments[0].clone(), catalog.segments.last().unwrap().clone());
    let (all, end) = (rig.stored(), last.end.offset as usize);
    let old = medium.bytes(&first.name());
    let len = last.file_len as usize - TAIL_LEN - end;
    let piece: Vec<u8> = old.iter().skip(end).take(len).copied().collect();
    medium.damage(&last.name(), |bytes| bytes[end..end + piece.len()].copy_from_slice(&piece));
    assert_eq!(Rig::open(&medium.copy()).stored(), all);
}

/// The newest segment cannot be read at a start, and can at the next: what is in it comes back.
#[test]
fn what_could_not_be_read_comes_back() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    rig.fill(30, 5);
    let (all, count) = (rig.stored(), rig.writer.catalog().segments.len());
    // As often as it is tried.
    (0..3).for_each(|attempt| medium.fail(Operation::Open, count - 1 + attempt));
    let mut rig = Rig::open(&medium);
    assert!(rig.report.state_incomplete && rig.report.set_aside.len() == 1, "{:?}", rig.report);
    assert!(rig.stored().len() < all.len());
    medium.heal();
    rig.fill(1, 2);
    rig.writer.upkeep().unwrap();
    let mut rig = Rig::open(&medium);
    let stored = rig.stored();
    assert_eq!(stored[..all.len()], all);
    assert_eq!(stored.len(), all.len() + 2);
}

/// While the last batch could not be written again its segment stays as it is: a footer would lie on it.
#[test]
fn the_last_batch_is_not_sealed_over() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    rig.fill(5, 3);
    let all = rig.stored();
    let full = medium.copy();
    full.set_full(true);
    let mut rig = Rig::open(&full);
    assert_eq!(rig.writer.upkeep(), Err(JournalError::Full));
    assert_eq!(rig.stored(), all);
    full.set_full(false);
    assert_eq!(Rig::open(&full.copy()).stored(), all);
}
