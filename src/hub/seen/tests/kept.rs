//! What a restart takes over.

use super::*;

/// The wall clock at which stories end, in microseconds since 1970.
const THEN: i64 = 1_760_000_000_000_000;
const SECOND: i64 = 1_000_000;
/// What version 1 wrote of `pump` of [`reporting`] and of one that was heard once.
const VERSION_1: &[u8] = include_bytes!("../../../../tests/fixtures/habits-1");

/// An object that reports every minute, and how it goes on.
fn reporting() -> Story {
    let mut story = Story::new();
    story.report("pump", MINUTE, 100);
    story.send("once");
    story
}

fn kept(story: &Story, wall_us: Option<i64>) -> Vec<u8> {
    story.seen.snapshot(wall_us, story.at()).encode()
}

/// A new run that goes on with what was kept.
fn next(bytes: &[u8], wall_us: Option<i64>, told: &[&str]) -> Story {
    let mut story = Story::new();
    let is_told = |uid: Uid| told.contains(&uid.as_str());
    assert!(story.seen.restore(bytes, wall_us, |_| Some(group("Devices")), is_told, false));
    story
}

#[test]
fn habits_are_known_after_a_restart_and_downtime_is_no_silence() {
    let mut story = reporting();
    story.now += MINUTE;
    for downtime in [0, 3600, 30 * 86_400] {
        let mut next = next(&kept(&story, Some(THEN)), Some(THEN + downtime * SECOND), &[]);
        assert!((next.usual("pump").unwrap() - MINUTE).abs() < 1.0);
        let known = next.seen.get(uid("pump"), false, next.at()).unwrap();
        assert_eq!((known.heard, known.changed), (Some(When::At(THEN - 60 * SECOND)), None), "{downtime}");
        assert_eq!(next.silent_after(START_GRACE - 1.0), NOBODY);
        assert_eq!(next.silent_after(2.0), ["pump"], "it had its time to come back");
        next.send("pump");
        assert_eq!(next.silent_after(0.0), NOBODY);
        assert!((next.usual("pump").unwrap() - MINUTE).abs() < 1.0, "a gap over a restart is not its own");
    }
}

#[test]
fn it_may_send_what_it_kept_while_nothing_ran() {
    let story = reporting();
    let after_a_day = |wall_us| {
        let mut next = next(&kept(&story, Some(THEN)), wall_us, &[]);
        next.report("pump", 0.01, 24 * 60);
        names(&next.judge().chatty)
    };
    assert_eq!(after_a_day(Some(THEN + 86_400 * SECOND)), NOBODY);
    assert_eq!(after_a_day(Some(THEN - 86_400 * SECOND)), ["pump"], "a clock that went back says nothing");
    assert_eq!(after_a_day(None), ["pump"], "nor one that is not known to be right");
}

#[test]
fn who_was_told_stays_so_until_it_is_heard() {
    let mut story = reporting();
    assert_eq!(story.silent_after(10.0 * MINUTE), ["pump"]);
    // What is kept may be of an hour ago: the alert is newer.
    for bytes in [kept(&story, Some(THEN)), kept(&reporting(), Some(THEN))] {
        let mut next = next(&bytes, Some(THEN), &["pump", "unknown"]);
        assert_eq!(next.silent_after(0.0), ["pump"]);
        assert_eq!(next.silent_after(START_GRACE), ["pump"]);
        next.send("pump");
        assert_eq!(next.silent_after(0.0), NOBODY);
    }
}

#[test]
fn a_time_that_is_not_known_is_not_told() {
    let story = reporting();
    let second = next(&kept(&story, None), Some(THEN), &[]);
    assert_eq!(second.seen.get(uid("pump"), false, second.at()).unwrap().heard, None);
    // What was known of a run before that goes on.
    let second = next(&kept(&story, Some(THEN)), None, &[]);
    let third = next(&kept(&second, None), Some(THEN), &[]);
    assert_eq!(third.seen.get(uid("pump"), false, third.at()).unwrap().heard, Some(When::At(THEN)));
}

#[test]
fn an_outage_goes_on_until_it_can_be_judged() {
    let mut story = Story::new();
    let all = many(20);
    story.report_all(&all, MINUTE, 30);
    story.now += 10.0 * MINUTE;
    assert!(story.judge().outage.is_some());
    let mut next = Story::new();
    let bytes = kept(&story, Some(THEN));
    assert!(next.seen.restore(&bytes, Some(THEN), |_| Some(group("Devices")), |_| false, true));
    assert!(next.judge().is_early);
    next.now += START_GRACE;
    next.report_all(&all[..15], 1.0, 1);
    assert_eq!(next.judge(), Verdict::default(), "most are back, the others have time");
    next.report_all(&all[..15], MINUTE, 4);
    assert_eq!(names(&next.judge().silent), all[15..]);
}

#[test]
fn who_has_no_group_any_more_is_not_taken_over() {
    let mut next = Story::new();
    let bytes = kept(&reporting(), Some(THEN));
    let listed = |object: Uid| (object == uid("once")).then(|| group("Devices"));
    assert!(next.seen.restore(&bytes, Some(THEN), listed, |_| false, false));
    assert_eq!(next.seen.get(uid("pump"), false, next.at()), None);
    assert!(next.seen.get(uid("once"), false, next.at()).is_some());
}

#[test]
fn what_is_damaged_or_makes_no_sense_is_left_out() {
    let bytes = kept(&reporting(), Some(THEN));
    let mut seen = Seen::new(Instant::now());
    let mut restore = |bytes: &[u8]| seen.restore(bytes, None, |_| Some(group("Devices")), |_| true, false);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(!restore(&damaged), "byte {at}");
        assert!(!restore(&bytes[..at]), "{at} bytes");
    }
    // A number that nobody learned, with the right checksum.
    let mut story = reporting();
    let place = story.seen.place(uid("pump")).unwrap();
    story.seen.objects[place].habit.spoil();
    let next = next(&kept(&story, None), None, &[]);
    assert_eq!(next.seen.get(uid("pump"), false, next.at()), None);
}

#[test]
fn what_version_1_wrote_is_read() {
    let next = next(VERSION_1, Some(THEN), &[]);
    assert!((next.usual("pump").unwrap() - MINUTE).abs() < 1.0);
    let heard = |name| next.seen.get(uid(name), false, next.at()).unwrap().heard;
    assert_eq!([heard("pump"), heard("once")], [Some(When::At(THEN)); 2]);
    assert_eq!(kept(&reporting(), Some(THEN)), VERSION_1, "and written: nobody changed it unawares");
}
