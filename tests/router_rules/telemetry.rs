//! Telemetry tokens and datagrams.

use std::time::Duration;

use iotsocketd::limits::TOKENS_PER_OBJECT_MAX;
use iotsocketd::net::AllowFrom;
use iotsocketd::router::Count;
use iotsocketd::wire::{AclItem, AuthKey, Token};

use crate::bench::*;

#[test]
fn a_token_is_the_first_thing_after_the_login() {
    let mut bench = Bench::new();
    assert_eq!(bench.login_with("m", 0).1, [Seen::Token]);
    assert_eq!(bench.login_with("a", 0).1, NOTHING, "not where telemetry is not allowed");
    assert!(bench.datagram(bench.tokens[0], NEAR));
    assert!(!bench.datagram(Token([0xff; 8]), NEAR));
    assert_eq!(bench.router.counts().get(Count::TelemetryWrongToken), 1);
}

#[test]
fn a_token_outlives_its_session_and_ends_in_time() {
    let mut bench = Bench::new();
    let m = bench.login("m");
    bench.ends(m, Vec::new());
    bench.wait(TTL - Duration::from_millis(1));
    assert!(bench.datagram(bench.tokens[0], NEAR));
    bench.now += Duration::from_millis(1);
    assert!(!bench.datagram(bench.tokens[0], NEAR), "also before its timer fires");
    bench.wait(Duration::ZERO);
    assert_eq!(bench.router.token_count(), 0);
}

#[test]
fn the_ninth_token_pushes_out_the_first() {
    let mut bench = Bench::new();
    for _ in 0..=TOKENS_PER_OBJECT_MAX {
        let m = bench.login("m");
        bench.ends(m, Vec::new());
    }
    assert_eq!(bench.tokens.len(), TOKENS_PER_OBJECT_MAX + 1);
    let valid: Vec<_> = bench.tokens.clone().into_iter().map(|token| bench.datagram(token, NEAR)).collect();
    assert_eq!(valid.iter().filter(|valid| **valid).count(), TOKENS_PER_OBJECT_MAX);
    assert!(!valid[0]);
    assert_eq!(bench.router.sizes().timers, TOKENS_PER_OBJECT_MAX + 1, "one renewal");
}

#[test]
fn a_connected_object_gets_a_new_token_at_three_quarters_and_the_old_one_stays() {
    let mut bench = Bench::new();
    bench.login("m");
    assert_eq!(bench.wait(TTL * 3 / 4 - Duration::from_millis(1)), NOTHING);
    assert_eq!(bench.wait(Duration::from_millis(1)), [Seen::Token]);
    assert!(bench.datagram(bench.tokens[0], NEAR) && bench.datagram(bench.tokens[1], NEAR));
    bench.wait(TTL / 4);
    assert!(!bench.datagram(bench.tokens[0], NEAR) && bench.datagram(bench.tokens[1], NEAR));
    assert_eq!(bench.wait(TTL / 2), [Seen::Token]);
}

#[test]
fn an_object_that_is_away_gets_no_token() {
    let mut settings = settings();
    settings.keep_session = 2 * TTL;
    let mut bench = Bench::with(settings);
    let m = bench.login("m");
    bench.drops(m, Vec::new());
    assert_eq!(bench.wait(TTL * 3 / 4), NOTHING);
    assert_eq!(bench.login_with("m", 0).1, [Seen::Token]);
}

/// B6: the token of who is revoked is worth nothing, connected or not.
#[test]
fn tokens_end_with_the_right_to_them() {
    let others = [item("a", "plain"), item("b", "plain")];
    let gone = others.to_vec();
    let moved = [&[item("m", "plain")], others.as_slice()].concat();
    let other_key =
        [&[AclItem { key: AuthKey([0xee; 16]), ..item("m", "meters") }], others.as_slice()].concat();
    for list in [gone, moved, other_key] {
        let mut bench = Bench::new();
        let m = bench.login("m");
        bench.ends(m, Vec::new());
        bench.login("m");
        bench.replace_access(&list);
        assert!(!bench.datagram(bench.tokens[0], NEAR) && !bench.datagram(bench.tokens[1], NEAR));
        assert_eq!((bench.router.token_count(), bench.router.sizes().timers), (0, 0));
    }
}

#[test]
fn tokens_end_when_the_group_loses_telemetry() {
    let mut bench = Bench::new();
    bench.login("m");
    bench.reconfigure(|settings| settings.groups.get_mut(&group("meters")).unwrap().telemetry = false);
    assert!(!bench.datagram(bench.tokens[0], NEAR));
    bench.reconfigure(|settings| settings.groups.get_mut(&group("meters")).unwrap().telemetry = true);
    assert!(!bench.datagram(bench.tokens[0], NEAR), "and do not come back");
}

#[test]
fn a_connected_object_gets_its_token_when_its_group_gains_telemetry() {
    let mut bench = Bench::new();
    let a = bench.login("a");
    let b = bench.login("b");
    bench.drops(b, Vec::new());
    let mut gain =
        || bench.reconfigure(|settings| settings.groups.get_mut(&group("plain")).unwrap().telemetry = true);
    assert_eq!(gain(), [Seen::Token], "once, and none for who is away");
    assert_eq!(gain(), NOTHING, "a reload that changes nothing");
    assert!(bench.datagram(bench.tokens[0], NEAR));
    bench.drops(a, Vec::new());
}

#[test]
fn datagrams_come_from_where_the_listener_and_the_group_allow() {
    let near = || AllowFrom(vec!["10.0.0.0/8".parse().unwrap()]);
    let mut bench = Bench::new();
    bench.login("m");
    let token = bench.tokens[0];
    assert!(bench.datagram(token, FAR));
    bench.reconfigure(|settings| settings.telemetry_allow_from = near());
    assert!(bench.datagram(token, NEAR) && !bench.datagram(token, FAR));
    bench.reconfigure(|settings| {
        settings.telemetry_allow_from = AllowFrom::default();
        settings.groups.get_mut(&group("meters")).unwrap().allow_from = near();
    });
    assert!(bench.datagram(token, NEAR) && !bench.datagram(token, FAR));
    assert_eq!(bench.router.counts().get(Count::TelemetryWrongSource), 2);
}

#[test]
fn datagrams_keep_to_the_groups_size_and_rate() {
    let mut settings = settings();
    let meters = settings.groups.get_mut(&group("meters")).unwrap();
    (meters.max_payload, meters.rate) = (4, 2);
    let mut bench = Bench::with(settings);
    bench.login("m");
    let token = bench.tokens[0];
    let taken: Vec<_> = (0..3).map(|_| bench.datagram(token, NEAR)).collect();
    assert_eq!(taken, [true, true, false]);
    bench.wait(Duration::from_millis(500));
    assert!(bench.datagram(token, NEAR), "exactly four bytes");
    bench.reconfigure(|settings| settings.groups.get_mut(&group("meters")).unwrap().max_payload = 3);
    bench.wait(Duration::from_secs(1));
    assert!(!bench.datagram(token, NEAR));
    assert_eq!(bench.router.counts().get(Count::PayloadTooLarge), 1);
    assert_eq!(bench.router.counts().get(Count::RateExceeded), 1);
}
