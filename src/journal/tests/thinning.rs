//! What single groups lose out of segments that they share, and that its room is given back.

use super::retention::{DAY, cursor, limits, plan_of};
use super::rig::stamp;
use super::{Memory, Rig, message};
use crate::journal::backup::{BackupError, Copy};
use crate::journal::catalog::Catalog;
use crate::journal::medium::Medium as _;
use crate::journal::reader::{Query, Reader};
use crate::journal::record::{Cause, Kind, Message, Record};
use crate::journal::retention::{Limits, Plan};
use crate::journal::segment::{RECLAIM_NAME, VERSION_RECLAIMED};
use crate::journal::{OnFull, Seq};
use crate::thorough::every;
use crate::wire::{GroupName, Uid};

fn group(name: &str) -> GroupName {
    GroupName::parse(name).unwrap()
}

/// Of some length, so that there is something to give back.
fn payload(seq: Seq) -> Vec<u8> {
    format!("message {seq:0200}").into_bytes()
}

/// One group sends a lot, another a little in each segment; nothing of it is delivered.
fn world() -> Rig {
    world_of(Rig::open(&Memory::default()))
}

fn world_of(mut rig: Rig) -> Rig {
    for day in 0..10 {
        rig.now_us = day * DAY;
        for round in 0..40 {
            let name = if round % 8 == 0 { "quiet" } else { "loud" };
            let payload = payload(rig.front.next_seq());
            let uid = ["a", "b"][round % 2];
            rig.front.append(message(uid, name, &payload), stamp(rig.now_us)).unwrap();
            if rig.commit().unwrap().turned {
                rig.writer.upkeep().unwrap();
            }
        }
    }
    cursor(&mut rig, 0, &[]);
    rig
}

/// All messages of a catalog and their groups, each checked against its payload.
fn read(reader: &mut Reader<Memory>, catalog: &Catalog, query: Query) -> Vec<(Seq, GroupName)> {
    let query = Query { limit: usize::MAX, bytes_max: usize::MAX, ..query };
    let page = reader.read(catalog, &query).unwrap();
    assert_eq!(page.damaged, []);
    let check = |stored: crate::journal::stored::Stored| {
        assert_eq!(stored.message.payload, payload(stored.seq));
        (stored.seq, stored.message.group)
    };
    page.messages.into_iter().map(check).collect()
}

fn all(rig: &Rig) -> Vec<(Seq, GroupName)> {
    read(&mut Reader::new(rig.medium.clone()), &rig.writer.catalog(), Query::from(0))
}

fn bytes_of(rig: &Rig, name: &str) -> u64 {
    rig.writer.catalog().segments.iter().map(|segment| segment.bytes_of(group(name))).sum()
}

fn thin(rig: &mut Rig, limits: &Limits, now_us: Option<u64>) -> Plan {
    let plan = plan_of(rig, limits, now_us);
    rig.writer.retire(stamp(rig.now_us), &plan).unwrap();
    plan
}

fn reclaim(rig: &mut Rig) {
    while rig.writer.reclaim().unwrap() {}
}

/// Numbers and lengths of the segments that were written once more.
fn reclaimed(rig: &Rig) -> Vec<(u64, u64)> {
    let segments = rig.writer.catalog().segments.into_iter();
    let reclaimed = segments.filter(|segment| segment.header.version == VERSION_RECLAIMED);
    reclaimed.map(|segment| (segment.number(), segment.file_len)).collect()
}

fn restarted(rig: Rig) -> Rig {
    let medium = rig.medium.clone();
    drop(rig);
    let rig = Rig::open(&medium);
    assert!(!rig.report.is_loss(), "{:?}", rig.report);
    rig
}

#[test]
fn a_group_that_has_too_much_loses_its_oldest_and_takes_nobody_along() {
    let mut rig = world();
    let before = all(&rig);
    let max = bytes_of(&rig, "loud") / 2;
    let limits = Limits { groups_bytes: vec![(group("loud"), max)], ..limits(u64::MAX) };
    let plan = thin(&mut rig, &limits, None);
    assert!(plan.segments.is_empty() && plan.thinned.len() > 2, "{plan:?}");
    assert!(plan.thinned.iter().all(|thinning| thinning.cause == Cause::Full && thinning.is_needed));
    let left = all(&rig);
    let loud = left.iter().filter(|(_, name)| *name == group("loud")).count();
    let share = before.iter().filter(|(_, name)| *name == group("loud")).count();
    assert!(loud < share && loud > share / 3, "{loud} of {share}");
    assert!(bytes_of(&rig, "loud") <= max && bytes_of(&rig, "loud") > max / 2);
    // The oldest of it went, and all of the others' is there.
    let first = left.iter().find(|(_, name)| *name == group("loud")).unwrap().0;
    let stays = |(seq, name): &&(Seq, GroupName)| *seq >= first || *name == group("quiet");
    assert_eq!(left, before.iter().filter(stays).copied().collect::<Vec<_>>());
    assert_eq!(plan_of(&rig, &limits, None), Plan::default(), "enough");
    let rig = restarted(rig);
    assert_eq!(all(&rig), left);
}

#[test]
fn what_is_out_of_time_goes_though_others_stay() {
    let mut rig = world();
    let before = all(&rig);
    let limits = Limits { groups_us: vec![(group("loud"), DAY as i64)], ..limits(u64::MAX) };
    assert_eq!(plan_of(&rig, &limits, None), Plan::default(), "not by a clock that is not right");
    let plan = thin(&mut rig, &limits, Some(9 * DAY));
    assert!(plan.segments.is_empty() && plan.thinned.iter().all(|it| it.cause == Cause::Expired), "{plan:?}");
    let left = all(&rig);
    let of = |name: &str, all: &[(Seq, GroupName)]| all.iter().filter(|(_, it)| *it == group(name)).count();
    assert!(of("loud", &left) < of("loud", &before) / 2, "{} left", of("loud", &left));
    assert_eq!(of("quiet", &left), of("quiet", &before));
    // When the others' time is over, too, the whole segment goes.
    let later = thin(&mut rig, &limits, Some(30 * DAY));
    assert!(!later.segments.is_empty() && later.thinned.is_empty(), "{later:?}");
}

#[test]
fn what_belongs_to_no_group_stays_and_what_is_not_archived_does() {
    let mut rig = world();
    let none = Limits { groups_bytes: vec![], keep_us: 10 * DAY as i64, ..limits(u64::MAX) };
    let own = Limits { groups_us: vec![(GroupName::NONE, 0)], ..none.clone() };
    assert_eq!(plan_of(&rig, &own, Some(5 * DAY)), plan_of(&rig, &none, Some(5 * DAY)));
    let mut loud = Limits { groups_us: vec![(group("loud"), 0)], ..none };
    let wanted = plan_of(&rig, &loud, Some(5 * DAY)).thinned;
    loud.held = wanted.iter().skip(1).map(|thinning| (thinning.segment, thinning.group)).collect();
    assert_eq!(thin(&mut rig, &loud, Some(5 * DAY)).thinned, wanted[..1]);
}

#[test]
fn what_stays_of_a_group_is_found_by_it() {
    let mut rig = Rig::open(&Memory::default());
    let seq = rig.front.next_seq();
    let payload = payload(seq);
    let audit = Message { kind: Kind::Audit, ..message("a", "loud", &payload) };
    rig.front.append(audit, stamp(0)).unwrap();
    rig.commit().unwrap();
    let mut rig = world_of(rig);
    let limits = Limits { groups_us: vec![(group("loud"), 0)], ..limits(u64::MAX) };
    let plan = thin(&mut rig, &limits, Some(9 * DAY));
    assert!(plan.segments.is_empty() && !plan.thinned.is_empty(), "{plan:?}");
    let query = || Query { groups: vec![group("loud")], kinds: vec![Kind::Audit], ..Query::from(0) };
    let find = |rig: &Rig| read(&mut Reader::new(rig.medium.clone()), &rig.writer.catalog(), query());
    assert_eq!(find(&rig), [(seq, group("loud"))]);
    reclaim(&mut rig);
    assert_eq!(find(&rig), [(seq, group("loud"))], "written once more");
}

#[test]
fn by_policy_new_input_of_the_group_is_refused_and_of_no_other() {
    let mut rig = world();
    let loud = vec![(group("loud"), bytes_of(&rig, "loud") / 2)];
    let limits = Limits { groups_bytes: loud, on_full: OnFull::RefuseNew, ..limits(u64::MAX) };
    let plan = plan_of(&rig, &limits, None);
    assert_eq!(plan, Plan { refused: [group("loud")].into(), ..Plan::default() });
    rig.front.set_full_groups(&plan.refused);
    let mut offer = |name| rig.front.append(message("a", name, b"x"), stamp(rig.now_us)).is_ok();
    assert_eq!(["loud", "quiet"].map(&mut offer), [false, true]);
    // What was delivered may go, and then there is room.
    rig.commit().unwrap();
    let newest = rig.front.next_seq() - 1;
    cursor(&mut rig, newest, &[]);
    let plan = thin(&mut rig, &limits, None);
    assert!(plan.refused.is_empty() && !plan.thinned.iter().any(|thinning| thinning.is_needed), "{plan:?}");
}

#[test]
fn its_room_is_given_back_and_nothing_else_changes() {
    let mut rig = world();
    let limits = Limits { groups_us: vec![(group("loud"), 0)], ..limits(u64::MAX) };
    let old = rig.writer.catalog();
    let had = bytes_of(&rig, "loud");
    thin(&mut rig, &limits, Some(9 * DAY));
    let gone = had - bytes_of(&rig, "loud");
    let (left, before) = (all(&rig), rig.writer.catalog().bytes());
    let mut reader = Reader::new(rig.medium.clone());
    let of_a = Query { uid: Some(Uid::parse("a").unwrap()), ..Query::from(0) };
    let own = read(&mut reader, &rig.writer.catalog(), of_a.clone());
    reclaim(&mut rig);
    let catalog = rig.writer.catalog();
    let given_back = before - catalog.bytes();
    assert!(given_back > gone / 10 * 9, "{given_back} of {gone}");
    assert!(reclaimed(&rig).len() > 2 && !rig.writer.reclaim().unwrap());
    let before = reclaimed(&rig);
    assert_eq!(read(&mut reader, &catalog, Query::from(0)), left);
    assert_eq!(read(&mut reader, &catalog, of_a.clone()), own);
    // Whoever still goes by what was known before finds what is left, and no damage.
    let quiet = Query { groups: vec![group("quiet")], ..Query::from(0) };
    let found = read(&mut Reader::new(rig.medium.clone()), &old, quiet);
    let is_quiet = |(_, name): &&(Seq, GroupName)| *name == group("quiet");
    assert_eq!(found, left.iter().filter(is_quiet).copied().collect::<Vec<_>>());
    let copy = Copy::begin(rig.medium.clone(), &old, &[]);
    assert!(matches!(copy, Err(BackupError::Changed)), "there is a newer catalog");
    let rig = restarted(rig);
    assert_eq!(all(&rig), left);
    assert_eq!(reclaimed(&rig), before);
    // Its footer gone, what is left is found by reading it through.
    let segment = rig.writer.catalog().segments[0].clone();
    rig.medium.damage(&segment.name(), |bytes| {
        let len = bytes.len();
        bytes[len - 128..].fill(0);
    });
    let rig = restarted(rig);
    assert_eq!(all(&rig), left);
}

/// Interrupted anywhere, or failing, the next attempt makes all of it.
#[test]
fn interrupted_anywhere_it_begins_again() {
    for failing in every(0..12) {
        let mut rig = world();
        let limits = Limits { groups_us: vec![(group("loud"), 0)], ..limits(u64::MAX) };
        thin(&mut rig, &limits, Some(9 * DAY));
        let left = all(&rig);
        for _ in 0..failing {
            rig.writer.reclaim().unwrap();
        }
        let was_begun = rig.medium.list().unwrap().iter().any(|entry| entry.name == RECLAIM_NAME);
        assert_eq!(was_begun, failing % 2 == 1, "an attempt has two slices here");
        let mut rig = restarted(rig);
        assert_eq!(all(&rig), left);
        rig.writer.upkeep().unwrap();
        assert!(rig.medium.list().unwrap().iter().all(|entry| entry.name != RECLAIM_NAME));
        reclaim(&mut rig);
        assert_eq!(all(&rig), left);
    }
}

/// A segment that is damaged stays as it is: a copy may mend it.
#[test]
fn what_is_damaged_is_not_written_once_more() {
    let mut rig = world();
    let limits = Limits { groups_us: vec![(group("loud"), 0)], ..limits(u64::MAX) };
    thin(&mut rig, &limits, Some(9 * DAY));
    let first = rig.writer.catalog().segments[0].clone();
    rig.medium.damage(&first.name(), |bytes| bytes[first.end.offset as usize / 2] ^= 1);
    let before = rig.medium.bytes(&first.name());
    reclaim(&mut rig);
    assert_eq!(rig.medium.bytes(&first.name()), before);
    assert_eq!(rig.writer.catalog().segments[1].header.version, VERSION_RECLAIMED, "its neighbours are");
}

/// What went by a plan that an older program does not know of is said once, in the books as in what is remembered.
#[test]
fn it_is_remembered_with_the_small_state() {
    let mut rig = world();
    let limits = Limits { groups_us: vec![(group("loud"), 0)], ..limits(u64::MAX) };
    let thinned = thin(&mut rig, &limits, Some(9 * DAY)).thinned;
    let number = thinned[0].segment;
    assert_eq!(rig.writer.small().thinned(number), [group("loud")].into());
    let small = crate::journal::state::Small::decode(&rig.writer.small().encode()).unwrap();
    assert_eq!(small.thinned(number), [group("loud")].into());
    rig.front.note(&Record::Retired { segments: vec![number] }, stamp(rig.now_us)).unwrap();
    rig.commit().unwrap();
    assert!(rig.writer.small().thinned(number).is_empty(), "forgotten with the segment");
}
