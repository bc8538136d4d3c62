//! Many objects at once.

use super::*;
use crate::hub::seen::outage::OUTAGE_OBJECTS;
use crate::thorough::every;

#[test]
fn an_outage_is_one_and_who_does_not_come_back_is_told_later() {
    let mut story = Story::new();
    let all = many(100);
    story.report_all(&all, MINUTE, 30);
    for _ in 0..600 {
        story.now += 1.0;
        let verdict = story.judge();
        assert_eq!((names(&verdict.silent), verdict.more_silent), (vec![], 0), "{}", story.now);
    }
    assert_eq!(story.judge().outage, Some(Outage { late: 100, expected: 100 }));
    // Half come back and one more; the others have time.
    story.report_all(&all[..51], MINUTE, 1);
    assert_eq!(story.judge(), Verdict::default());
    story.report_all(&all[..98], MINUTE, 2);
    assert_eq!(story.judge(), Verdict::default());
    story.report_all(&all[..98], MINUTE, 2);
    assert_eq!(names(&story.judge().silent), all[98..]);
}

/// The phases of objects are spread: none is told before it shows that all are late.
#[test]
fn whenever_an_outage_begins_nobody_is_told_alone() {
    for seed in every(1..20) {
        let mut random = Random(seed);
        let mut story = Story::new();
        let all = many(40);
        let intervals: Vec<_> =
            all.iter().map(|_| [10.0, MINUTE, 15.0 * MINUTE][(random.share() * 3.0) as usize]).collect();
        let mut next: Vec<_> = intervals.iter().map(|interval| interval * random.share()).collect();
        let outage = 4.0 * HOUR + HOUR * random.share();
        let mut told = 0;
        while story.now < outage + 2.0 * HOUR {
            story.now += 5.0;
            for (at, name) in all.iter().enumerate() {
                while next[at] <= story.now {
                    next[at] += intervals[at];
                    if story.now < outage {
                        story.send(name);
                    }
                }
            }
            told += story.judge().silent.len();
        }
        assert_eq!(told, 0, "seed {seed}");
        assert!(story.judge().outage.is_some_and(|outage| outage.late == 40), "seed {seed}");
    }
}

#[test]
fn few_objects_are_told_each_by_itself() {
    let mut story = Story::new();
    let all = many(OUTAGE_OBJECTS as usize - 1);
    story.report_all(&all, MINUTE, 30);
    story.now += 3.1 * MINUTE;
    let verdict = story.judge();
    assert_eq!((names(&verdict.silent), verdict.outage), (all, None));
}

#[test]
fn a_groups_outage_leaves_the_others_alone() {
    let mut story = Story::new();
    let (near, far) = (many(30), (0..10).map(|n| format!("far{n}")).collect::<Vec<_>>());
    let send = |story: &mut Story, with_far: bool| {
        story.now += MINUTE;
        near.iter().for_each(|name| story.send(name));
        for name in far.iter().filter(|_| with_far) {
            story.seen.sent(uid(name), group("Far"), None, story.at());
        }
    };
    (0..30).for_each(|_| send(&mut story, true));
    (0..10).for_each(|_| send(&mut story, false));
    let verdict = story.judge();
    assert_eq!(verdict.outages, [(group("Far"), Outage { late: 10, expected: 10 })]);
    assert_eq!((verdict.outage, verdict.silent), (None, vec![]));
    // The group is called otherwise, and one of its objects is not there any more.
    story.seen.regroup(|object| match object {
        object if object == uid("far0") => None,
        object if object.as_str().starts_with("far") => Some(group("Away")),
        _ => Some(group("Devices")),
    });
    let verdict = story.judge();
    assert_eq!(verdict.outages, [(group("Away"), Outage { late: 9, expected: 9 })]);
    assert_eq!(verdict.silent, []);
}

#[test]
fn so_many_are_told_one_by_one_and_stay_so() {
    let mut story = Story::new();
    let all = many(TOLD_MAX + 8);
    story.report_all(&all, MINUTE, 30);
    let fail = |story: &mut Story, failed: usize| {
        // One after the other, so that it is no outage.
        story.report_all(&all[failed..], MINUTE, 4);
        story.judge()
    };
    for failed in 1..=TOLD_MAX {
        let verdict = fail(&mut story, failed);
        assert_eq!((verdict.silent.len(), verdict.more_silent), (failed, 0));
    }
    let verdict = fail(&mut story, TOLD_MAX + 3);
    assert_eq!((names(&verdict.silent), verdict.more_silent), (all[..TOLD_MAX].to_vec(), 3));
    story.send(&all[0]);
    let verdict = story.judge();
    assert_eq!((verdict.silent.len(), verdict.more_silent), (TOLD_MAX, 2));
    assert!(!names(&verdict.silent).contains(&all[0]));
}

#[test]
fn who_is_not_in_the_access_list_any_more_is_forgotten() {
    let mut story = Story::new();
    story.report_all(&many(3), MINUTE, 30);
    assert_eq!(story.silent_after(4.0 * MINUTE).len(), 3);
    let gone = uid("o00001");
    story.seen.regroup(|uid| (uid != gone).then(|| group("Devices")));
    assert_eq!(story.silent_after(0.0), ["o00000", "o00002"]);
    assert_eq!(story.seen.get(gone, false, story.at()), None);
    story.send("o00002");
    assert_eq!(story.silent_after(0.0), ["o00000"], "places were kept apart");
}

#[test]
fn a_list_that_changes_in_the_middle_of_a_sweep_lets_it_begin_anew() {
    let mut story = Story::new();
    story.report_all(&many(SLICE + 1), MINUTE, 30);
    let at = story.at();
    assert!(!story.seen.sweep(|_| false, at), "a slice is not all");
    story.seen.regroup(|_| Some(group("Devices")));
    assert_eq!(story.seen.judge(at), None);
    assert_eq!(story.judge(), Verdict::default());
}
