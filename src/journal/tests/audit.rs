//! The books, held against what is there.

use super::rig::stamp;
use super::{Memory, Rig};
use crate::journal::audit::Audit;
use crate::journal::reader::Reader;
use crate::journal::record::{Cause, Kind, Record};
use crate::journal::retention::Plan;
use crate::wire::GroupName;

fn tally(rig: &mut Rig, cause: Cause, add: u64) {
    let group = GroupName::parse("g").unwrap();
    let record = Record::Tally { group, destination: "central".into(), cause, add };
    rig.front.note(&record, stamp(rig.now_us)).unwrap();
    rig.commit().unwrap();
}

fn audit(rig: &Rig) -> Audit {
    Audit::new(rig.writer.catalog(), rig.writer.small(), "central", Kind::Telemetry)
}

fn differences(rig: &Rig) -> Vec<(i128, i128)> {
    let mut audit = audit(rig);
    let mut reader = Reader::new(rig.medium.clone());
    while !audit.step(&mut reader, |_| true).unwrap() {}
    assert!(audit.is_valid(&rig.writer.catalog()));
    audit.differences().map(|(_, line)| (line.by_books, line.found)).collect()
}

#[test]
fn the_books_are_held_against_what_is_there() {
    let mut rig = Rig::open(&Memory::default());
    rig.fill(500, 3);
    let count = rig.stored().len() as u64;
    assert_eq!(differences(&rig), []);
    // Half of it arrived, but for two.
    let place = Record::Cursor { destination: "central".into(), up_to: count / 2, holes: vec![3, count / 4] };
    rig.front.note(&place, stamp(rig.now_us)).unwrap();
    let all = i128::from(count);
    assert_eq!(differences(&rig), [], "not committed yet");
    tally(&mut rig, Cause::Delivered, count / 2 - 3);
    assert_eq!(differences(&rig), [(all - all / 2 + 3, all - all / 2 + 2)]);
    tally(&mut rig, Cause::Refused, 7);
    tally(&mut rig, Cause::Full, 1);
    assert_eq!(differences(&rig), []);
    tally(&mut rig, Cause::Delivered, count);
    assert_eq!(differences(&rig), [(2 - all / 2 + all % 2, all - all / 2 + 2)], "more than came in");
}

#[test]
fn what_is_deleted_meanwhile_makes_it_void() {
    let mut rig = Rig::open(&Memory::default());
    rig.fill(500, 3);
    let audit = audit(&rig);
    assert!(audit.is_valid(&rig.writer.catalog()));
    let oldest = rig.writer.catalog().segments[0].number();
    rig.writer.retire(stamp(0), &Plan { segments: vec![oldest], ..Plan::default() }).unwrap();
    assert!(!audit.is_valid(&rig.writer.catalog()));
}
