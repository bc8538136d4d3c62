//! Logins, sessions that are kept or replaced, and their end.

use std::time::Duration;

use iotsocketd::limits::OUTGOING_MAX;
use iotsocketd::router::{Command, Login, LoginRefusal, SessionState};
use iotsocketd::wire::{AclItem, AuthKey, CloseCode};

use crate::bench::*;

fn login_from(bench: &mut Bench, login: Login) -> Effect {
    bench.handle(Command::Login(login));
    bench.raw[0].clone()
}

#[test]
fn only_the_right_key_and_source_come_in() {
    let mut bench = Bench::with_plain(|group| group.allow_from = settings_for_near());
    let right = Login { connection: 1, uid: uid("a"), key: key("a"), source: NEAR, largest: 0 };
    let unknown = Login { uid: uid("x"), key: key("x"), ..right };
    let wrong = Login { key: AuthKey([0xee; 16]), ..right };
    let far = Login { source: FAR, ..right };
    assert_eq!(login_from(&mut bench, unknown), Effect::Refuse(1, LoginRefusal::NotKnown));
    assert_eq!(login_from(&mut bench, wrong), Effect::Refuse(1, LoginRefusal::NotKnown));
    assert_eq!(login_from(&mut bench, far), Effect::Refuse(1, LoginRefusal::Source));
    assert_eq!(login_from(&mut bench, right), Effect::Admit(1));
}

fn settings_for_near() -> iotsocketd::net::AllowFrom {
    iotsocketd::net::AllowFrom(vec!["10.0.0.0/8".parse().unwrap()])
}

#[test]
fn a_second_login_replaces_the_first_and_takes_over_everything() {
    let mut bench = Bench::new();
    let (central, old) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 1, "handed over");
    bench.asks(central, "a", 2, "stuck");
    let stuck = unsent(&bench.raw, old.connection);
    let new = bench.login("a");
    assert_eq!(bench.raw, [Effect::Close(old.connection, CloseCode::ResourcesFreed)]);
    assert_eq!(bench.asks(central, "a", 3, "meanwhile"), NOTHING);
    // The first connection's last words count.
    assert_eq!(bench.answers(old, 1, 0, "r"), [response(central, 1, 0, "r")]);
    let passed = bench.drops(old, stuck);
    assert_eq!(passed, [request(new, 2, "stuck"), request(new, 3, "meanwhile")]);
    assert_eq!(bench.raw[0], Effect::Admit(new.connection));
    assert_eq!(bench.answers(old, 2, 0, "too late"), NOTHING);
    assert_eq!(bench.answers(new, 2, 0, "r"), [response(central, 2, 0, "r")]);
}

#[test]
fn of_three_at_once_the_last_stays() {
    let mut bench = Bench::new();
    let first = bench.login("a");
    let second = bench.login("a");
    let third = bench.login("a");
    assert_eq!(bench.raw, [Effect::Refuse(second.connection, LoginRefusal::Superseded)]);
    bench.drops(first, Vec::new());
    assert_eq!(bench.raw, [Effect::Admit(third.connection)]);
}

#[test]
fn a_successor_that_goes_away_again_leaves_the_session_kept() {
    let mut bench = Bench::new();
    let (first, second) = (bench.login("a"), bench.login("a"));
    bench.drops(second, Vec::new());
    bench.drops(first, Vec::new());
    assert_eq!(bench.router.session_state(uid("a")), SessionState::Kept);
    bench.wait(KEEP);
    assert_eq!(bench.router.session_state(uid("a")), SessionState::Absent);
}

/// B11: what comes for a kept session waits, answers too, and follows the token in order.
#[test]
fn a_kept_session_gets_requests_and_answers_in_order_after_the_token() {
    let mut bench = Bench::new();
    let (central, m) = (bench.login(""), bench.login("m"));
    bench.object_asks(m, 5, "q");
    bench.asks(central, "m", 0, "stuck");
    let stuck = unsent(&bench.raw, m.connection);
    assert_eq!(bench.drops(m, stuck), NOTHING);
    assert_eq!(bench.asks(central, "m", 1, "one"), NOTHING);
    assert_eq!(bench.central_answers(central, "m", 5, "r"), NOTHING);
    assert_eq!(bench.asks(central, "m", 2, "two"), NOTHING);
    let (m, waited) = bench.login_with("m", 0);
    let expected = [
        Seen::Token,
        request(m, 0, "stuck"),
        request(m, 1, "one"),
        response(m, 5, 0, "r"),
        request(m, 2, "two"),
    ];
    assert_eq!(waited, expected);
}

#[test]
fn a_request_whose_deadline_passed_is_not_delivered_late() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.drops(a, Vec::new());
    bench.asks(central, "a", 7, "q");
    assert_eq!(bench.wait(REQUEST_TIMEOUT), [response(central, 7, 0xa1, "")]);
    assert_eq!(bench.router.sizes().waiting_bytes, 0, "nor is room taken");
    assert_eq!(bench.login_with("a", 0).1, NOTHING);
}

#[test]
fn nor_is_one_to_a_central_that_was_away() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.drops(central, Vec::new());
    bench.object_asks(a, 7, "q");
    assert_eq!(bench.wait(REQUEST_TIMEOUT), [response(a, 7, 0xa1, "")]);
    assert_eq!(bench.router.sizes().waiting_bytes, 0);
    assert_eq!(bench.login_with("", 0).1, NOTHING);
}

#[test]
fn room_that_is_free_again_is_used_again() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.drops(central, Vec::new());
    let large = "x".repeat(60_000);
    for _ in 0..3 {
        for number in 0..4 {
            assert_eq!(bench.object_asks(a, number, &large), NOTHING);
        }
        assert_eq!(bench.object_asks(a, 4, &large), [response(a, 4, 0xa0, "")]);
        bench.wait(REQUEST_TIMEOUT - Duration::from_secs(1));
        bench.wait(Duration::from_secs(1));
    }
}

#[test]
fn nor_when_its_object_returns_before_the_timer_fires() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.drops(a, Vec::new());
    bench.asks(central, "a", 7, "q");
    bench.now += REQUEST_TIMEOUT;
    assert_eq!(bench.login_with("a", 0).1, [response(central, 7, 0xa1, "")]);
}

#[test]
fn an_abandoned_call_is_not_delivered_late() {
    let mut bench = Bench::new();
    let a = bench.login("a");
    bench.drops(a, Vec::new());
    bench.http(1, "a", "q");
    bench.handle(Command::HttpAbandoned { ticket: 1 });
    assert_eq!(bench.router.sizes().waiting_bytes, 0);
    assert_eq!(bench.login_with("a", 0).1, NOTHING);
}

#[test]
fn when_the_keep_time_ends_what_waited_is_not_found() {
    let mut settings = settings();
    settings.request_timeout = 2 * KEEP;
    let mut bench = Bench::with(settings);
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 1, "handed over");
    bench.drops(a, Vec::new());
    bench.asks(central, "a", 2, "waits");
    assert_eq!(bench.wait(KEEP), [response(central, 2, 0xa0, "")]);
    assert_eq!(bench.wait(KEEP), [response(central, 1, 0xa1, "")]);
}

#[test]
fn when_a_session_ends_for_good_what_was_not_handed_over_is_not_found_at_once() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 1, "handed over");
    bench.asks(central, "a", 2, "stuck");
    let stuck = unsent(&bench.raw, a.connection);
    assert_eq!(bench.ends(a, stuck), [response(central, 2, 0xa0, "")]);
    assert_eq!(bench.wait(REQUEST_TIMEOUT), [response(central, 1, 0xa1, "")]);
}

/// The same for a session that the access list ended: its connection says later what it did not hand over.
#[test]
fn what_a_revoked_object_was_not_handed_is_not_found() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 1, "stuck");
    let stuck = unsent(&bench.raw, a.connection);
    assert_eq!(bench.replace_access(&[item("b", "plain")]), NOTHING);
    assert_eq!(bench.ends(a, stuck), [response(central, 1, 0xa0, "")]);
}

/// B10: what waits for a kept session is bounded as well.
#[test]
fn a_kept_session_takes_no_more_than_a_live_one() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.drops(central, Vec::new());
    let large = "x".repeat(60_000);
    let waits = (0..10).filter(|number| bench.object_asks(a, *number, &large).is_empty()).count();
    assert_eq!(waits, OUTGOING_MAX / 60_022);
    assert!(bench.router.sizes().waiting_bytes <= OUTGOING_MAX);
    assert_eq!(bench.object_asks(a, 99, &large), [response(a, 99, 0xa0, "")]);
}

#[test]
fn what_waited_is_measured_by_the_size_that_the_new_connection_states() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.object_asks(a, 5, "q");
    bench.drops(a, Vec::new());
    bench.asks(central, "a", 1, "a long question");
    bench.asks(central, "a", 2, "short");
    bench.central_answers(central, "a", 5, "a long answer");
    let (a, waited) = bench.login_with("a", 12);
    assert_eq!(waited, [response(central, 1, 0xa0, ""), request(a, 2, "short"), response(a, 5, 1, "")]);
}

/// B6: who is revoked is out at once.
#[test]
fn a_change_of_the_access_list_ends_sessions_right_then() {
    let gone = [item("b", "plain"), item("m", "meters")];
    let moved = [item("a", "meters"), gone[0], gone[1]];
    let other_key = [AclItem { key: AuthKey([0xee; 16]), ..item("a", "plain") }, gone[0], gone[1]];
    for list in [gone.as_slice(), &moved, &other_key] {
        let mut bench = Bench::new();
        let (central, a, b) = (bench.login(""), bench.login("a"), bench.login("b"));
        bench.asks(central, "a", 1, "q");
        bench.replace_access(list);
        assert_eq!(bench.raw, [Effect::Close(a.connection, CloseCode::Maintenance)]);
        assert_eq!(bench.object_asks(a, 1, "q"), NOTHING);
        assert_eq!(bench.answers(a, 1, 0, "r"), NOTHING);
        assert_eq!(bench.asks(central, "a", 2, "q"), [response(central, 2, 0xa0, "")]);
        assert_eq!(bench.asks(central, "b", 3, "q"), [request(b, 3, "q")], "others are not disturbed");
    }
}

#[test]
fn a_list_that_says_the_same_disturbs_nobody() {
    let mut bench = Bench::new();
    bench.login("a");
    bench.replace_access(&[item("m", "meters"), item("a", "plain"), item("b", "plain")]);
    assert_eq!(bench.raw, []);
}

#[test]
fn a_kept_session_and_a_waiting_login_are_revoked_too() {
    let mut bench = Bench::new();
    let (a, _old, next) = (bench.login("a"), bench.login("b"), bench.login("b"));
    bench.drops(a, Vec::new());
    bench.http(1, "a", "q");
    let answered = bench.replace_access(&[]);
    assert_eq!(answered, [answer(1, 0xa0, "")]);
    assert_eq!(bench.raw[1], Effect::Refuse(next.connection, LoginRefusal::NotKnown));
    assert_eq!(bench.router.session_counts(), (0, 0));
}

#[test]
fn a_new_key_of_the_central_ends_its_session() {
    let mut bench = Bench::new();
    let central = bench.login("");
    bench.reconfigure(|settings| settings.central_key = AuthKey([0xcc; 16]));
    assert!(bench.raw.contains(&Effect::Close(central.connection, CloseCode::Maintenance)));
    assert!(bench.raw.contains(&Effect::Central(None)));
    bench.login("");
    assert!(matches!(bench.raw[0], Effect::Refuse(_, LoginRefusal::NotKnown)));
}

#[test]
fn a_group_that_is_gone_from_the_configuration_gives_no_rights() {
    let mut bench = Bench::new();
    let (a, m) = (bench.login("a"), bench.login("m"));
    let token = bench.tokens[0];
    bench.reconfigure(|settings| drop(settings.groups.remove(&group("meters"))));
    assert_eq!(bench.raw, [Effect::Close(m.connection, CloseCode::Maintenance)]);
    assert!(!bench.datagram(token, NEAR));
    bench.login("m");
    assert!(matches!(bench.raw[0], Effect::Refuse(_, LoginRefusal::NotKnown)));
    assert_eq!(bench.object_asks(a, 1, "q"), [response(a, 1, 0xa0, "")]);
}

#[test]
fn the_central_is_kept_and_replaced_like_any_other() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 7, "q");
    bench.drops(central, Vec::new());
    assert!(bench.raw.contains(&Effect::Central(None)));
    assert_eq!(bench.answers(a, 7, 0, "r"), NOTHING);
    bench.wait(Duration::from_secs(30));
    let (central, waited) = bench.login_with("", 0);
    assert_eq!(waited, [response(central, 7, 0, "r")]);
    let next = bench.login("");
    assert!(bench.raw.contains(&Effect::Central(None)), "telemetry waits until the new one is live");
    bench.drops(central, Vec::new());
    let Effect::Central(Some(session)) = bench.raw[1] else { panic!("{:?}", bench.raw) };
    assert_eq!(session.connection, next.connection);
}
