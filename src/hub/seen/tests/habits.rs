//! What is learned of one object, and when it is not as usual.

use super::*;
use crate::hub::seen::habit::{
    CHATTY_MIN, CHATTY_TIMES, CHATTY_WINDOW, IRREGULAR_SPAN, LATE_MIN, LEARNED_GAPS, REGULAR_SPAN, SILENT_MIN,
};

#[test]
fn what_is_known_of_an_object_takes_little_memory() {
    // 20,000 objects, 64 bytes for habits and addresses each: little more than a megabyte.
    assert!(size_of::<Habit>() + size_of::<Addresses>() <= 64, "{}", size_of::<Habit>());
    assert!(size_of::<Object>() <= 144, "{}", size_of::<Object>());
}

#[test]
fn a_regular_object_is_late_after_two_intervals_and_silent_after_three() {
    let mut story = Story::new();
    story.report("pump", MINUTE, 20);
    assert!((story.usual("pump").unwrap() - MINUTE).abs() < 1e-3);
    assert_eq!(story.silent_after(2.0 * MINUTE - 0.1), NOBODY);
    assert_eq!(story.expectation("pump"), Some(Expectation::Met));
    assert_eq!(story.silent_after(0.2), NOBODY);
    assert_eq!(story.expectation("pump"), Some(Expectation::Late));
    assert_eq!(story.silent_after(MINUTE - 0.2), NOBODY);
    assert_eq!(story.silent_after(0.2), ["pump"]);
    assert_eq!(story.expectation("pump"), Some(Expectation::Silent));
    assert_eq!(story.silent_after(DAY), ["pump"], "until it is heard");
    story.send("pump");
    assert_eq!(story.silent_after(0.0), NOBODY);
    assert!((story.usual("pump").unwrap() - MINUTE).abs() < 10.0, "an outage of a day is no habit");
    assert_eq!(story.silent_after(5.0 * MINUTE), ["pump"]);
}

#[test]
fn a_fast_object_is_given_a_minute_and_a_half() {
    let mut story = Story::new();
    story.report("fast", 0.2, 4000);
    assert_eq!(story.silent_after(LATE_MIN + SILENT_MIN - 0.1), NOBODY);
    assert_eq!(story.silent_after(0.2), ["fast"]);
}

#[test]
fn a_habit_is_learned_from_so_many_gaps_and_so_much_time() {
    let mut story = Story::new();
    story.report("slow", HOUR, u32::from(LEARNED_GAPS));
    assert_eq!(story.usual("slow"), None, "a gap less than messages");
    story.report("slow", HOUR, 1);
    assert!(story.usual("slow").is_some());
    let mut story = Story::new();
    story.report("boot", 1.0, REGULAR_SPAN as u32);
    assert_eq!(story.usual("boot"), None);
    story.report("boot", 1.0, 5);
    assert!(story.usual("boot").is_some());
    let mut story = Story::new();
    story.report("once", 1.0, 1);
    assert_eq!(story.silent_after(365.0 * DAY), NOBODY, "it was heard once");
}

#[test]
fn an_irregular_object_is_learned_for_most_of_a_day() {
    let mut story = Story::new();
    let short = std::iter::repeat_n(5.0 * MINUTE, 10);
    let mut gaps = std::iter::once(50.0 * MINUTE).chain(short).cycle();
    story.report("button", HOUR, 1);
    while story.now < IRREGULAR_SPAN {
        story.report("button", gaps.next().unwrap(), 1);
    }
    assert_eq!(story.usual("button"), None);
    while story.now < 0.8 * DAY {
        story.report("button", gaps.next().unwrap(), 1);
    }
    assert!(story.usual("button").is_some());
}

#[test]
fn one_that_sends_a_batch_once_a_day_has_an_interval_of_a_day() {
    let mut story = Story::new();
    for _ in 0..20 {
        story.report("logger", DAY - 99.0 * 0.1, 1);
        story.report("logger", 0.1, 99);
        assert_eq!(story.judge(), Verdict::default());
    }
    let usual = story.usual("logger").unwrap();
    assert!((usual - DAY).abs() < 0.01 * DAY, "{usual}");
    assert_eq!(story.silent_after(1.9 * DAY), NOBODY);
    assert_eq!(story.silent_after(1.2 * DAY), ["logger"]);
}

/// Noise of the radio: jitter, and one message in twenty is lost.
#[test]
fn lost_messages_and_jitter_are_no_silence() {
    let mut random = Random(7);
    let mut story = Story::new();
    let mut false_alarms = 0;
    for interval in [10.0, MINUTE, HOUR] {
        let name = format!("every {interval}");
        for _ in 0..20_000 {
            story.now += interval * (0.9 + 0.2 * random.share());
            if random.share() < 0.95 {
                false_alarms += story.judge().silent.len();
                story.send(&name);
            }
        }
        story.seen.regroup(|_| None);
    }
    assert!(false_alarms <= 2, "{false_alarms} in 60,000 messages, seed 7");
}

#[test]
fn gaps_of_any_length_are_learned_in_time() {
    // Exponentially distributed, as of buttons that are pressed: the longest gaps are many times the mean.
    let mut random = Random(11);
    let mut story = Story::new();
    let mut false_alarms = 0;
    for _ in 0..20_000 {
        story.now -= 10.0 * MINUTE * (1.0 - random.share()).ln();
        false_alarms += story.judge().silent.len();
        story.send("button");
    }
    assert!(false_alarms <= 2, "{false_alarms}, seed 11");
}

#[test]
fn an_object_that_is_slower_from_now_on_is_told_twice_and_has_another_habit_then() {
    let mut story = Story::new();
    story.report("pump", MINUTE, 100);
    let mut told = 0;
    for _ in 0..40 {
        story.now += HOUR;
        told += story.judge().silent.len();
        story.send("pump");
    }
    assert_eq!(told, 3);
    assert!((story.usual("pump").unwrap() - HOUR).abs() < 1.0);
}

/// It works for an hour and rests for an hour: the rest is told at first, and is usual then.
#[test]
fn a_rest_that_comes_again_and_again_is_told_a_few_times() {
    let mut story = Story::new();
    let mut told = Vec::new();
    for round in 0..48 {
        story.report("mill", MINUTE, 60);
        story.now += HOUR - 1.0;
        if !story.judge().silent.is_empty() {
            told.push(round);
        }
    }
    assert!(told.len() <= 12 && told.iter().all(|round| *round < 12), "{told:?}");
}

#[test]
fn an_object_that_is_faster_from_now_on_has_another_habit_in_days() {
    let mut story = Story::new();
    story.report("pump", HOUR, 100);
    story.report("pump", MINUTE, 5 * 24 * 60);
    let usual = story.usual("pump").unwrap();
    assert!(usual < 2.0 * MINUTE, "{usual}");
}

#[test]
fn one_that_only_logs_in_is_well_while_it_is_connected() {
    let mut story = Story::new();
    let home = IpAddr::from([10, 0, 0, 1]);
    for _ in 0..12 {
        story.now += DAY;
        story.seen.logged_in(uid("sleeper"), group("Devices"), home, story.at());
        story.now += MINUTE;
        story.seen.left(uid("sleeper"), story.at());
    }
    assert!((story.usual("sleeper").unwrap() - DAY).abs() < 2.0 * MINUTE);
    assert_eq!(story.silent_after(3.1 * DAY), ["sleeper"]);
    story.seen.logged_in(uid("sleeper"), group("Devices"), home, story.at());
    story.connected = vec![uid("sleeper")];
    assert_eq!(story.silent_after(100.0 * DAY), NOBODY, "it is connected");
    story.seen.left(uid("sleeper"), story.at());
    story.connected.clear();
    assert_eq!(story.silent_after(DAY), NOBODY, "it was there until a day ago");
    assert_eq!(story.silent_after(6.0 * DAY), ["sleeper"]);
}

#[test]
fn one_that_sends_data_is_silent_though_it_is_connected_and_logs_in() {
    let mut story = Story::new();
    story.report("meter", MINUTE, 30);
    story.connected = vec![uid("meter")];
    for _ in 0..4 {
        story.now += MINUTE;
        story.seen.logged_in(uid("meter"), group("Devices"), IpAddr::from([10, 0, 0, 1]), story.at());
        story.seen.answered(uid("meter"), story.at());
    }
    assert_eq!(story.silent_after(0.0), ["meter"]);
    let known = story.seen.get(uid("meter"), true, story.at()).unwrap();
    assert_eq!(known.heard, Some(When::Ago(Duration::ZERO)), "it was seen all the same");
}

#[test]
fn nobody_is_late_before_the_grace_of_the_start_is_over() {
    let mut story = Story::new();
    story.report("fast", 0.05, 13_000);
    let said = story.now;
    assert!(said > START_GRACE);
    let mut story = Story::new();
    story.seen.sent(uid("fast"), group("Devices"), None, story.at());
    story.seen.objects[0].habit = {
        let mut other = Story::new();
        other.report("fast", 1.0, 1000);
        other.seen.objects[0].habit
    };
    assert_eq!(story.silent_after(START_GRACE - 1.0), NOBODY);
    assert_eq!(story.silent_after(1.0), ["fast"]);
}

#[test]
fn ten_times_as_much_as_usual_is_chatty_and_a_hundred_messages_at_least() {
    let mut story = Story::new();
    story.report("pump", MINUTE, 2000);
    story.report("pump", 0.001, CHATTY_MIN as u32 - 1);
    assert_eq!(names(&story.judge().chatty), NOBODY, "with the one before a hundred");
    story.report("pump", 0.001, 1);
    assert_eq!(names(&story.judge().chatty), ["pump"]);
    assert_eq!(story.expectation("pump"), Some(Expectation::Chatty));
    story.report("pump", MINUTE, CHATTY_WINDOW as u32 / 60);
    assert_eq!(names(&story.judge().chatty), NOBODY);

    // Steadily: up to ten times as often is borne.
    story.report("pump", MINUTE, 2000);
    story.report("pump", MINUTE / (CHATTY_TIMES - 1.0), 500);
    assert_eq!(names(&story.judge().chatty), NOBODY);
    story.report("pump", MINUTE / (2.5 * CHATTY_TIMES), 500);
    assert_eq!(names(&story.judge().chatty), ["pump"]);
    story.now += HOUR;
    assert_eq!(names(&story.judge().chatty), NOBODY, "it is quiet again");
}

#[test]
fn what_was_kept_through_an_outage_may_come_at_once() {
    let mut story = Story::new();
    story.report("tracker", MINUTE, 2000);
    story.now += DAY;
    story.report("tracker", 0.01, 24 * 60);
    assert_eq!(names(&story.judge().chatty), NOBODY);
    story.report("tracker", 0.01, CHATTY_MIN as u32 + 60);
    assert_eq!(names(&story.judge().chatty), ["tracker"], "more than it owed");
}

#[test]
fn a_large_batch_is_told_once_and_known_then() {
    let mut story = Story::new();
    story.report("logger", HOUR, 100);
    let mut told = 0;
    for _ in 0..10 {
        story.report("logger", 0.01, 150);
        told += story.judge().chatty.len();
        story.report("logger", HOUR, 12);
        assert_eq!(names(&story.judge().chatty), NOBODY);
    }
    assert_eq!(told, 1);
}
