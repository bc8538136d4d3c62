//! Who can go to a newer process at once, and whose calls are finished in the older one.

use std::time::Duration;

use iotsocketd::router::{CallChange, Serial};

use crate::bench::*;

const SECOND: Duration = Duration::from_secs(1);

/// Whether each of these could go.
fn may_go<const N: usize>(bench: &Bench, last: Serial, of: [iotsocketd::router::Origin; N]) -> [bool; N] {
    let idle = bench.router.idle_connections(last);
    of.map(|origin| idle.contains(&origin.connection))
}

#[test]
fn who_owes_an_answer_that_can_still_be_given_here_goes_last() {
    let mut bench = Bench::new();
    let (central, a, b) = (bench.login(""), bench.login("a"), bench.login("b"));
    assert_eq!(may_go(&bench, Serial::MAX, [central, a, b]), [true; 3]);
    // An HTTP caller waits for one of them: the central has no part in it.
    let sent = bench.http(1, "a", "q");
    let [Seen::Request(_, number, _)] = sent[..] else { panic!("{sent:?}") };
    assert_eq!(may_go(&bench, Serial::MAX, [central, a, b]), [true, false, true]);
    bench.answers(a, number, 0, "r");
    assert_eq!(may_go(&bench, Serial::MAX, [central, a, b]), [true; 3]);
    // A call between the two, in either direction, keeps both.
    bench.asks(central, "a", 7, "q");
    assert_eq!(may_go(&bench, Serial::MAX, [central, a, b]), [false, false, true]);
    bench.answers(a, 7, 0, "r");
    bench.object_asks(b, 9, "q");
    assert_eq!(may_go(&bench, Serial::MAX, [central, a, b]), [false, true, false]);
    bench.central_answers(central, "b", 9, "r");
    assert_eq!(may_go(&bench, Serial::MAX, [central, a, b]), [true; 3]);
}

#[test]
fn a_call_whose_other_end_is_away_keeps_nobody() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 7, "q");
    bench.drops(central, Vec::new());
    assert_eq!(may_go(&bench, Serial::MAX, [a]), [true]);
    // It is left to whoever takes over, which knows of it.
    bench.commit();
    bench.router.keep_calls_here();
    assert_eq!(bench.commit(), []);
    bench.restart_after(SECOND);
    let (central, a) = (bench.login(""), bench.login("a"));
    assert_eq!(bench.answers(a, 7, 0, "r"), [response(central, 7, 0, "r")]);
}

#[test]
fn calls_that_are_finished_here_are_over_to_whoever_takes_over() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 7, "q");
    assert!(matches!(bench.commit()[..], [CallChange::Waiting { .. }]));
    let last = bench.router.keep_calls_here();
    assert!(matches!(bench.commit()[..], [CallChange::Settled { .. }]));
    // A later one is not finished here, and is in nobody's way.
    assert_eq!(may_go(&bench, last, [central, a]), [false, false]);
    assert_eq!(bench.answers(a, 7, 0, "r"), [response(central, 7, 0, "r")]);
    bench.asks(central, "a", 8, "later");
    assert_eq!(may_go(&bench, last, [central, a]), [true, true]);
    assert_eq!(may_go(&bench, Serial::MAX, [central, a]), [false, false]);
    // The newer process answers the first one no second time.
    bench.restart_after(SECOND);
    let (_, a) = (bench.login(""), bench.login("a"));
    assert_eq!(bench.answers(a, 7, 0, "again"), NOTHING);
    assert_eq!(bench.wait(REQUEST_TIMEOUT), NOTHING);
}

#[test]
fn the_answer_of_a_webhook_is_awaited_here() {
    let mut settings = settings();
    settings.webhook_timeout = Some(WEBHOOK_TIMEOUT);
    let mut bench = Bench::with(settings);
    let a = bench.login("a");
    bench.object_asks(a, 5, "q");
    assert_eq!(may_go(&bench, Serial::MAX, [a]), [false]);
    bench.commit();
    bench.router.keep_calls_here();
    assert!(matches!(bench.commit()[..], [CallChange::Settled { .. }]));
    bench.restart_after(SECOND);
    bench.login("a");
    assert_eq!(bench.wait(WEBHOOK_TIMEOUT), NOTHING);
}
