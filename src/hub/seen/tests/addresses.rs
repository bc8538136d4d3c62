//! Where objects speak from.

use super::*;

#[test]
fn moving_on_is_no_second_address_and_speaking_in_turn_is() {
    let mut story = Story::new();
    let address = |last: u8| IpAddr::from([10, 0, 0, last]);
    let heard = |story: &mut Story, last, seconds| {
        story.now += seconds;
        story.seen.sent(uid("car"), group("Devices"), Some(address(last)), story.at())
    };
    for last in 1..200 {
        assert!(!heard(&mut story, last, 10.0), "it roams");
    }
    for number in 0..250 {
        assert!(!heard(&mut story, 1 + number / 6 % 2, 10.0 * MINUTE), "every hour home and back");
    }
    story.now += DAY;
    let turns: Vec<_> = (0..8).map(|number| heard(&mut story, 7 + number % 2, 60.0)).collect();
    assert_eq!(turns, [false, false, false, false, false, false, false, true], "six returns");
    // Its sessions have another address than its datagrams.
    for _ in 0..20 {
        story.now += 10.0;
        assert!(!story.seen.logged_in(uid("phone"), group("Devices"), address(1), story.at()));
        assert!(!story.seen.sent(uid("phone"), group("Devices"), Some(address(2)), story.at()));
    }
    // Two devices with the same key push each other out.
    let pushed: Vec<_> = (0..8)
        .map(|number| story.seen.logged_in(uid("twin"), group("Devices"), address(number % 2), story.at()))
        .collect();
    assert_eq!(pushed.iter().filter(|told| **told).count(), 1);
}

#[test]
fn addresses_of_one_ipv6_line_are_one_and_slow_objects_have_more_time() {
    let mut story = Story::new();
    for number in 0..20_u16 {
        story.now += 10.0;
        let address = IpAddr::from([0x2001, 0xdb8, 0, 1, number, 1, 2, 3]);
        assert!(!story.seen.sent(uid("v6"), group("Devices"), Some(address), story.at()));
    }
    story.report("slow", HOUR, 20);
    let mut told = 0;
    for number in 0..8 {
        story.now += HOUR;
        let address = IpAddr::from([10, 0, 0, number % 2]);
        told += u32::from(story.seen.sent(uid("slow"), group("Devices"), Some(address), story.at()));
    }
    assert_eq!(told, 1);
}
