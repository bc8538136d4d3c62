//! What is told of calls that are over, and of changed access lists.

use std::time::Duration;

use iotsocketd::router::{
    AccessChange, AskedBy, CallEnd, CallRecords, Command, Outcome, Side, WebhookRefusal,
};
use iotsocketd::wire::{AclItem, AuthKey, Format};

use crate::bench::*;

fn recording(calls: CallRecords) -> Bench {
    let mut settings = settings();
    settings.calls = calls;
    settings.webhook_timeout = Some(WEBHOOK_TIMEOUT);
    Bench::with(settings)
}

/// What was told since this was asked last: who was asked, how, the outcome, the code.
fn told(bench: &mut Bench) -> Vec<(Side, AskedBy, Outcome, Option<u8>)> {
    let ended = std::mem::take(&mut bench.recorder.ended);
    ended.into_iter().map(|(end, _)| (end.to, end.by, end.outcome, end.code)).collect()
}

const SESSION: AskedBy = AskedBy::Session;

#[test]
fn every_end_of_a_call_to_an_object_is_told_once() {
    let mut bench = recording(CallRecords::Headers);
    let (central, a) = (bench.login(""), bench.login("a"));
    let to_object = |outcome, code| [(Side::Object, SESSION, outcome, code)];
    bench.asks(central, "b", 1, "q");
    assert_eq!(told(&mut bench), to_object(Outcome::NotFound, Some(0xa0)));
    bench.asks(central, "a", 1, "q");
    assert_eq!(told(&mut bench), [], "not while it is pending");
    bench.asks(central, "a", 1, "q");
    assert_eq!(told(&mut bench), to_object(Outcome::AlreadyUsed, Some(0xa2)));
    bench.answers(a, 1, 9, "r");
    assert_eq!(told(&mut bench), to_object(Outcome::Answered, Some(9)));
    bench.answers(a, 1, 9, "again");
    assert_eq!(told(&mut bench), []);
    bench.asks(central, "a", 1, "q");
    bench.wait(REQUEST_TIMEOUT);
    assert_eq!(told(&mut bench), to_object(Outcome::TimedOut, Some(0xa1)));
    bench.asks(central, "a", 1, "stuck");
    let stuck = unsent(&bench.raw, a.connection);
    bench.ends(a, stuck);
    assert_eq!(told(&mut bench), to_object(Outcome::NotFound, Some(0xa0)));
}

#[test]
fn every_end_of_an_http_call_is_told_once() {
    let mut bench = recording(CallRecords::Headers);
    let http = |outcome, code| [(Side::Object, AskedBy::Http, outcome, code)];
    bench.http(1, "a", "q");
    assert_eq!(told(&mut bench), http(Outcome::NotFound, Some(0xa0)));
    let a = bench.login("a");
    let Seen::Request(_, number, _) = bench.http(2, "a", "q")[0] else { panic!() };
    bench.answers(a, number, 0, "r");
    assert_eq!(told(&mut bench), http(Outcome::Answered, Some(0)));
    bench.http(3, "a", "q");
    bench.handle(Command::HttpAbandoned { ticket: 3 });
    assert_eq!(told(&mut bench), http(Outcome::Abandoned, None));
    bench.handle(Command::HttpAbandoned { ticket: 3 });
    let deadline = bench.now;
    let late = Command::HttpRequest { ticket: 4, uid: uid("a"), payload: payload("q"), deadline };
    bench.handle(late);
    assert_eq!(told(&mut bench), http(Outcome::NotFound, Some(0xa0)));
}

#[test]
fn every_end_of_a_request_of_an_object_is_told_once() {
    let mut bench = recording(CallRecords::Headers);
    let a = bench.login("a");
    let to_central = |outcome, code| [(Side::Central, SESSION, outcome, code)];
    bench.recorder.webhook_refusal = Some(WebhookRefusal::NoRoom);
    bench.object_asks(a, 1, "q");
    assert_eq!(told(&mut bench), to_central(Outcome::NotFound, Some(0xa0)));
    bench.recorder.webhook_refusal = Some(WebhookRefusal::Failing);
    bench.object_asks(a, 1, "q");
    assert_eq!(told(&mut bench), to_central(Outcome::Failed, Some(1)));
    bench.recorder.webhook_refusal = None;
    bench.object_asks(a, 1, "q");
    bench.wait(WEBHOOK_TIMEOUT);
    assert_eq!(told(&mut bench), to_central(Outcome::Failed, Some(1)));
    let central = bench.login("");
    bench.object_asks(a, 1, "q");
    bench.object_asks(a, 1, "q");
    assert_eq!(told(&mut bench), to_central(Outcome::AlreadyUsed, Some(0xa2)));
    bench.central_answers(central, "a", 1, "r");
    assert_eq!(told(&mut bench), to_central(Outcome::Answered, Some(0)));
    bench.object_asks(a, 1, "q");
    bench.wait(REQUEST_TIMEOUT);
    assert_eq!(told(&mut bench), to_central(Outcome::TimedOut, Some(0xa1)));
    bench.object_asks(a, 1, "q");
    bench.ends(a, Vec::new());
    assert_eq!(told(&mut bench), to_central(Outcome::Abandoned, None));
}

#[test]
fn a_call_is_told_with_its_times_and_its_payload_only_if_all_is_wanted() {
    for (calls, expected) in [(CallRecords::All, Some("what")), (CallRecords::Headers, None)] {
        let mut bench = recording(calls);
        let (central, a) = (bench.login(""), bench.login("a"));
        let started = bench.now;
        bench.asks(central, "a", 1, "what");
        bench.object_asks(a, 1, "what");
        bench.wait(Duration::from_secs(3));
        bench.answers(a, 1, 0, "r");
        bench.central_answers(central, "a", 1, "r");
        bench.asks(central, "b", 1, "what");
        let ended = std::mem::take(&mut bench.recorder.ended);
        let expected = expected.map(|text| text.as_bytes().to_vec());
        assert!(ended.iter().all(|(_, payload)| *payload == expected), "{calls:?}");
        let first = CallEnd {
            uid: uid("a"),
            group: Some(group("plain")),
            to: Side::Object,
            by: SESSION,
            outcome: Outcome::Answered,
            code: Some(0),
            started,
            format: Format::Ascii,
            payload: None,
        };
        let second = CallEnd { to: Side::Central, ..first };
        let (uid, outcome, started) = (uid("b"), Outcome::NotFound, bench.now);
        let third = CallEnd { uid, outcome, started, code: Some(0xa0), ..first };
        assert_eq!(ended.iter().map(|(end, _)| *end).collect::<Vec<_>>(), [first, second, third]);
        bench.asks(central, "nobody", 1, "what");
        assert_eq!(bench.recorder.ended[0].0.group, None);
    }
}

#[test]
fn only_failures_are_told_if_only_they_are_wanted() {
    for (calls, expected) in [(CallRecords::Failed, vec![Some(7), Some(0xa0)]), (CallRecords::None, vec![])] {
        let mut bench = recording(calls);
        let (central, a) = (bench.login(""), bench.login("a"));
        for code in [0, 7] {
            bench.asks(central, "a", 1, "q");
            bench.answers(a, 1, code, "r");
        }
        bench.asks(central, "b", 1, "q");
        let codes: Vec<_> = told(&mut bench).into_iter().map(|(.., code)| code).collect();
        assert_eq!(codes, expected, "{calls:?}");
    }
}

/// Its asker went with the process; what was asked of it is over.
#[test]
fn a_restart_tells_of_calls_that_do_not_go_on() {
    let mut bench = recording(CallRecords::All);
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 1, "q");
    bench.drops(central, Vec::new());
    bench.object_asks(a, 2, "q");
    bench.drops(a, Vec::new());
    bench.commit();
    bench.restart_after(KEEP);
    let mut ended = std::mem::take(&mut bench.recorder.ended);
    ended.sort_by_key(|(end, _)| end.to == Side::Central);
    let ends: Vec<_> = ended.iter().map(|(end, payload)| (end.to, end.outcome, payload.clone())).collect();
    let expected = [Side::Object, Side::Central].map(|to| (to, Outcome::Abandoned, None));
    assert_eq!(ends, expected);
    bench.commit();
    assert_eq!(bench.flash.waiting.len(), 0);
}

#[test]
fn a_new_list_is_told_in_numbers() {
    let mut bench = Bench::new();
    let other_key = AclItem { key: AuthKey([0xee; 16]), ..item("a", "plain") };
    bench.replace_access(&[other_key, item("b", "meters"), item("x", "plain"), item("y", "plain")]);
    let change = AccessChange { before: 3, after: 4, added: 2, removed: 1, changed: 2 };
    assert_eq!(bench.recorder.access, [change]);
}
