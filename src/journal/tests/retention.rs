//! What is deleted when.

use super::rig::{settings, stamp};
use super::{Memory, Rig, message};
use crate::journal::OnFull;
use crate::journal::record::{Cause, Record};
use crate::journal::retention::{Delivered, Limits, Plan, plan};
use crate::journal::stamp::{Clock, Stamp};
use crate::journal::writer::Settings;
use crate::wire::GroupName;

pub(super) const DAY: u64 = 86_400_000_000;

pub(super) fn limits(bytes_max: u64) -> Limits {
    Limits {
        bytes_max,
        keep_us: 10 * DAY as i64,
        groups_us: vec![],
        groups_bytes: vec![],
        held: Default::default(),
        on_full: OnFull::DropOldest,
    }
}

/// Segments of several days, a cursor that has everything up to this number but the holes.
fn world(up_to: u64, holes: &[u64]) -> Rig {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    for day in 0..8 {
        rig.now_us = day * DAY;
        rig.fill(18, 3);
    }
    cursor(&mut rig, up_to, holes);
    rig
}

pub(super) fn cursor(rig: &mut Rig, up_to: u64, holes: &[u64]) {
    let record = Record::Cursor { destination: "central".into(), up_to, holes: holes.to_vec() };
    rig.front.note(&record, stamp(rig.now_us)).unwrap();
    rig.commit().unwrap();
}

pub(super) fn plan_of(rig: &Rig, limits: &Limits, now_us: Option<u64>) -> Plan {
    let now_us = now_us.map(|now_us| stamp(now_us).wall_us);
    plan(&rig.writer.catalog(), &Delivered::of(rig.writer.small().cursors.values()), limits, now_us)
}

#[test]
fn nothing_goes_without_a_reason() {
    let rig = world(0, &[]);
    assert_eq!(plan_of(&rig, &limits(u64::MAX), Some(9 * DAY)), Plan::default());
    assert_eq!(plan_of(&rig, &limits(u64::MAX), None), Plan::default());
}

#[test]
fn by_age_whole_segments_go_delivered_or_not() {
    let mut rig = world(10, &[]);
    let plan = plan_of(&rig, &limits(u64::MAX), Some(14 * DAY));
    let segments = rig.writer.catalog().segments;
    assert!(plan.segments.len() > 1 && plan.segments.len() < segments.len() - 1);
    let dropped: u64 = rig.stored().iter().filter(|seq| **seq > 10).count() as u64;
    rig.writer.retire(stamp(rig.now_us), &plan).unwrap();
    let left = rig.stored();
    assert_eq!(rig.writer.small().dropped[&Cause::Expired], dropped - left.len() as u64);
    assert!(left[0] > 10 && left.ends_with(&[432]));
    // Over a restart, too.
    let medium = rig.medium.clone();
    drop(rig);
    let mut rig = Rig::open(&medium);
    assert!(!rig.report.is_loss(), "{:?}", rig.report);
    assert_eq!(rig.stored(), left);
    assert!(!rig.writer.small().gone().is_empty(), "remembered for traces");
}

#[test]
fn what_is_needed_goes_by_parts_and_all_of_it_goes() {
    let mut rig = world(10, &[]);
    let all = plan_of(&rig, &limits(u64::MAX), Some(14 * DAY));
    assert!(all.dropped.len() > 2, "{all:?}");
    let (mut segments, mut dropped, mut is_over) = (Vec::new(), Vec::new(), false);
    while !is_over {
        let catalog = rig.writer.catalog();
        let plan = plan_of(&rig, &limits(u64::MAX), Some(14 * DAY));
        let (part, has_more) = plan.clone().first_part(&catalog, 2);
        assert!(part.dropped.len() <= 2 && !part.is_empty(), "{part:?}");
        assert_eq!(has_more, part != plan);
        let needed = catalog.segments.iter().filter(|segment| part.why_dropped(segment).is_some());
        assert!(needed.clone().all(|segment| part.segments.contains(&segment.number())));
        assert_eq!(needed.count(), part.dropped.len());
        rig.writer.retire(stamp(rig.now_us), &part).unwrap();
        segments.extend(part.segments);
        dropped.extend(part.dropped);
        is_over = !has_more;
    }
    assert_eq!((segments, dropped), (all.segments, all.dropped));
    assert_eq!(plan_of(&rig, &limits(u64::MAX), Some(14 * DAY)), Plan::default());
}

#[test]
fn the_group_that_is_kept_longest_keeps_the_segment() {
    let rig = world(0, &[]);
    let other = GroupName::parse("other").unwrap();
    let mut limits = limits(u64::MAX);
    limits.groups_us = vec![(other, 99 * DAY as i64)];
    assert!(!plan_of(&rig, &limits, Some(90 * DAY)).segments.is_empty());
    limits.groups_us = vec![(GroupName::parse("g").unwrap(), 99 * DAY as i64)];
    assert!(plan_of(&rig, &limits, Some(90 * DAY)).segments.is_empty());
}

#[test]
fn by_bytes_what_is_delivered_goes_first() {
    let rig = world(432, &[5]);
    let segments = rig.writer.catalog().segments;
    let bytes = rig.writer.catalog().bytes();
    let plan = plan_of(&rig, &limits(bytes - 1), None);
    assert_eq!((plan.segments, plan.dropped), (vec![2], vec![]), "the first one has a hole");
    let plan = plan_of(&rig, &limits(0), None);
    assert_eq!(plan.segments.len(), segments.len() - 1);
    assert_eq!(plan.segments.last(), Some(&1));
    assert_eq!(plan.dropped, [Record::Dropped { from: 5, to: 5, count: 1, cause: Cause::Full }]);
}

#[test]
fn a_segment_out_of_the_middle_is_no_loss() {
    let mut rig = world(432, &[5]);
    let plan = plan_of(&rig, &limits(rig.writer.catalog().bytes() - 1), None);
    assert_eq!(plan.segments, [2]);
    rig.writer.retire(stamp(rig.now_us), &plan).unwrap();
    let left = rig.stored();
    for _ in 0..3 {
        let medium = rig.medium.clone();
        drop(rig);
        rig = Rig::open(&medium);
        assert!(!rig.report.is_loss(), "{:?}", rig.report);
        assert_eq!(rig.stored(), left);
        rig.writer.upkeep().unwrap();
    }
    let plan = plan_of(&rig, &limits(0), None);
    rig.writer.retire(stamp(rig.now_us), &plan).unwrap();
    let medium = rig.medium.clone();
    drop(rig);
    assert!(!Rig::open(&medium).report.is_loss());
}

#[test]
fn by_policy_the_oldest_is_dropped_or_new_input_refused() {
    let rig = world(0, &[]);
    let bytes = rig.writer.catalog().bytes();
    let mut limits = limits(bytes - 1);
    let first = rig.writer.catalog().segments[0].summary.clone();
    let plan = plan_of(&rig, &limits, None);
    let count = first.messages;
    let dropped = Record::Dropped { from: 1, to: first.next_seq - 1, count, cause: Cause::Full };
    assert_eq!(plan, Plan { segments: vec![1], dropped: vec![dropped], ..Plan::default() });
    limits.on_full = OnFull::RefuseNew;
    assert_eq!(plan_of(&rig, &limits, None), Plan { refuse: true, ..Plan::default() });
}

#[test]
fn nothing_expires_by_a_clock_that_was_not_set() {
    let medium = Memory::default();
    let unset = |us| Stamp { mono_us: us, wall_us: 0, clock: Clock::Unsynced };
    let mut rig = Rig::open_with(&medium, &Settings { now: unset(0), ..settings() });
    for round in 0..300 {
        rig.front.append(message("a", "g", b""), unset(round)).unwrap();
        if rig.commit().unwrap().turned {
            rig.writer.upkeep().unwrap();
        }
    }
    let now = Some(99 * DAY);
    assert_eq!(plan_of(&rig, &limits(u64::MAX), now), Plan::default());
    let boot = rig.writer.start().boot;
    let wall_at_zero_us = stamp(0).wall_us;
    rig.front.note(&Record::BootTime { boot, wall_at_zero_us }, stamp(1)).unwrap();
    rig.commit().unwrap();
    assert!(!plan_of(&rig, &limits(u64::MAX), now).segments.is_empty(), "once it is known");
}
