//! Requests to objects, from the central's session and over HTTP.

use std::time::Duration;

use iotsocketd::limits::OUTGOING_MAX;
use iotsocketd::router::{Command, Count, Sizes};
use iotsocketd::wire::{Format, Payload};

use crate::bench::*;

/// B18: 0 is a tracking number like any other.
#[test]
fn the_first_and_the_last_number_are_numbers() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    for number in [0, 65_535] {
        assert_eq!(bench.asks(central, "a", number, "q"), [request(a, number, "q")]);
        assert_eq!(bench.answers(a, number, 0, "r"), [response(central, number, 0, "r")]);
        assert_eq!(bench.object_asks(a, number, "q"), [request(central, number, "q")]);
        assert_eq!(bench.central_answers(central, "a", number, "r"), [response(a, number, 0, "r")]);
    }
}

#[test]
fn a_number_in_use_is_refused_and_the_pending_call_goes_on() {
    let mut bench = Bench::new();
    let (central, a, _b) = (bench.login(""), bench.login("a"), bench.login("b"));
    bench.asks(central, "a", 7, "first");
    // The central has one number space over all objects.
    assert_eq!(bench.asks(central, "b", 7, "second"), [response(central, 7, 0xa2, "")]);
    assert_eq!(bench.asks(central, "a", 7, "third"), [response(central, 7, 0xa2, "")]);
    assert_eq!(bench.answers(a, 7, 0, "to first"), [response(central, 7, 0, "to first")]);
    assert_eq!(bench.asks(central, "a", 7, "fourth"), [request(a, 7, "fourth")]);
}

/// B18: a code of the element's own is never swallowed.
#[test]
fn codes_of_the_object_pass_unchanged() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    for code in 0..=255 {
        bench.asks(central, "a", 1, "q");
        assert_eq!(bench.answers(a, 1, code, "r"), [response(central, 1, code, "r")]);
    }
}

/// B5: an answer is taken only from the object that was asked.
#[test]
fn another_object_cannot_answer() {
    let mut bench = Bench::new();
    let (central, a, b) = (bench.login(""), bench.login("a"), bench.login("b"));
    bench.asks(central, "a", 7, "q");
    let Seen::Request(_, http_number, _) = bench.http(1, "a", "q")[0] else { panic!() };
    for number in 0..=u16::MAX {
        assert_eq!(bench.answers(b, number, 0, "FORGED"), NOTHING);
    }
    assert_eq!(bench.router.counts().get(Count::ResponsesUnexpected), 65_536);
    assert_eq!(bench.answers(a, http_number, 0, "true"), [answer(1, 0, "true")]);
    assert_eq!(bench.answers(a, 7, 0, "true"), [response(central, 7, 0, "true")]);
}

/// B4: an object speaks for itself only, even if its session let it through.
#[test]
fn an_object_cannot_ask_or_answer_another() {
    let mut bench = Bench::new();
    let (_central, a, b) = (bench.login(""), bench.login("a"), bench.login("b"));
    bench.object_asks(b, 5, "q");
    assert_eq!(bench.asks(a, "b", 1, "open the door"), NOTHING);
    assert_eq!(bench.central_answers(a, "b", 5, "FORGED"), NOTHING);
}

#[test]
fn an_answer_is_taken_once() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 7, "q");
    assert_eq!(bench.answers(a, 7, 0, "r"), [response(central, 7, 0, "r")]);
    assert_eq!(bench.answers(a, 7, 0, "again"), NOTHING);
    assert_eq!(bench.router.counts().get(Count::ResponsesUnexpected), 1);
}

/// B17: what the central asked has an end.
#[test]
fn at_the_deadline_the_call_times_out_and_a_late_answer_is_dropped() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 7, "q");
    assert_eq!(bench.wait(REQUEST_TIMEOUT - Duration::from_millis(1)), NOTHING);
    assert_eq!(bench.wait(Duration::from_millis(1)), [response(central, 7, 0xa1, "")]);
    assert_eq!(bench.answers(a, 7, 0, "late"), NOTHING);
    assert_eq!(bench.asks(central, "a", 7, "anew"), [request(a, 7, "anew")]);
}

#[test]
fn an_http_caller_waits_as_long_as_it_said() {
    let mut bench = Bench::new();
    let a = bench.login("a");
    bench.http(1, "a", "q");
    assert_eq!(bench.wait(Duration::from_secs(9)), NOTHING);
    assert_eq!(bench.wait(Duration::from_secs(1)), [answer(1, 0xa1, "")]);
    let Seen::Request(_, number, _) = bench.http(2, "a", "q")[0] else { panic!() };
    bench.handle(Command::HttpAbandoned { ticket: 2 });
    assert_eq!(bench.answers(a, number, 0, "r"), NOTHING);
    assert_eq!(bench.router.counts().get(Count::CallsAbandoned), 1);
}

#[test]
fn an_http_caller_gets_its_answer_while_a_central_is_connected() {
    let mut bench = Bench::new();
    let (_central, a) = (bench.login(""), bench.login("a"));
    let Seen::Request(_, number, _) = bench.http(9, "a", "q")[0] else { panic!() };
    assert_eq!(bench.answers(a, number, 3, "r"), [answer(9, 3, "r")]);
}

#[test]
fn a_number_that_an_http_call_has_at_the_object_is_translated() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    let Seen::Request(_, taken, _) = bench.http(1, "a", "http")[0] else { panic!() };
    let Seen::Request(_, other, _) = bench.asks(central, "a", taken, "tcp")[0] else { panic!() };
    assert_ne!(other, taken);
    assert_eq!(bench.answers(a, other, 0, "to tcp"), [response(central, taken, 0, "to tcp")]);
    assert_eq!(bench.answers(a, taken, 0, "to http"), [answer(1, 0, "to http")]);
}

#[test]
fn an_http_call_gets_a_number_that_is_free_at_the_object() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    for number in 0..100 {
        bench.asks(central, "a", number, "tcp");
    }
    let Seen::Request(_, number, _) = bench.http(1, "a", "http")[0] else { panic!() };
    assert!(number >= 100);
    assert_eq!(bench.answers(a, number, 0, "r"), [answer(1, 0, "r")]);
}

#[test]
fn who_is_not_there_is_not_found_at_once() {
    let mut bench = Bench::new();
    let central = bench.login("");
    assert_eq!(bench.asks(central, "a", 7, "q"), [response(central, 7, 0xa0, "")]);
    assert_eq!(bench.asks(central, "nobody", 7, "q"), [response(central, 7, 0xa0, "")]);
    assert_eq!(bench.asks(central, "", 7, "q"), [response(central, 7, 0xa0, "")]);
    assert_eq!(bench.http(1, "a", "q"), [answer(1, 0xa0, "")]);
}

#[test]
fn a_request_larger_than_the_object_takes_is_not_found() {
    let mut bench = Bench::new();
    let central = bench.login("");
    let (a, _) = bench.login_with("a", 10);
    // Type, number, payload head: six bytes.
    assert_eq!(bench.asks(central, "a", 1, "1234"), [request(a, 1, "1234")]);
    assert_eq!(bench.asks(central, "a", 2, "12345"), [response(central, 2, 0xa0, "")]);
}

#[test]
fn an_answer_larger_than_the_central_takes_becomes_not_valid() {
    let mut bench = Bench::new();
    let (central, _) = bench.login_with("", 30);
    let a = bench.login("a");
    // Type, UID, number, code, payload head: 23 bytes.
    bench.asks(central, "a", 1, "q");
    assert_eq!(bench.answers(a, 1, 5, "1234567"), [response(central, 1, 5, "1234567")]);
    bench.asks(central, "a", 1, "q");
    assert_eq!(bench.answers(a, 1, 5, "12345678"), [response(central, 1, 1, "")]);
    assert_eq!(bench.router.counts().get(Count::ResponsesShrunk), 1);
}

/// B10: a queue is bounded; beyond it requests are not found.
#[test]
fn a_full_queue_takes_no_more_requests() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    let large = "x".repeat(60_000);
    let mut handed = 0;
    while bench.asks(central, "a", handed, &large) == [request(a, handed, &large)] {
        handed += 1;
    }
    assert_eq!(usize::from(handed), OUTGOING_MAX / 60_006);
    assert_eq!(bench.asks(central, "a", 99, &large), [response(central, 99, 0xa0, "")]);
    assert_eq!(bench.asks(central, "a", 98, "small"), [request(a, 98, "small")]);
}

#[test]
fn an_answer_to_a_full_queue_becomes_not_valid() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 1, "q");
    bench.recorder.outstanding.insert(central.connection, OUTGOING_MAX - 10);
    assert_eq!(bench.answers(a, 1, 0, "r"), [response(central, 1, 1, "")]);
}

#[test]
fn payloads_beyond_the_groups_limit_are_refused_both_ways() {
    let mut bench = Bench::with_plain(|group| group.max_payload = 4);
    let (central, a) = (bench.login(""), bench.login("a"));
    assert_eq!(bench.asks(central, "a", 1, "1234"), [request(a, 1, "1234")]);
    assert_eq!(bench.asks(central, "a", 2, "12345"), [response(central, 2, 0xa0, "")]);
    assert_eq!(bench.answers(a, 1, 0, "12345"), [response(central, 1, 1, "")]);
    assert_eq!(bench.object_asks(a, 3, "12345"), [response(a, 3, 0xa0, "")]);
    assert_eq!(bench.object_asks(a, 3, "1234"), [request(central, 3, "1234")]);
    assert_eq!(bench.router.counts().get(Count::PayloadTooLarge), 3);
}

#[test]
fn a_group_may_ask_for_payloads_that_are_what_they_say() {
    let mut bench = Bench::with_plain(|group| group.validate = true);
    let (central, a) = (bench.login(""), bench.login("a"));
    let mut object_asks = |number, text: &str| {
        let payload = Payload::new(Format::Json, text.as_bytes()).unwrap();
        bench.handle(Command::Request { origin: a, uid: None, number, payload })
    };
    assert_eq!(object_asks(1, "{\"ok\":1}"), [request(central, 1, "{\"ok\":1}")]);
    assert_eq!(object_asks(2, ""), [request(central, 2, "")], "empty payloads are valid in every format");
    assert_eq!(object_asks(3, "{oops"), [response(a, 3, 0xa0, "")]);
    assert_eq!(bench.router.counts().get(Count::PayloadNotItsFormat), 1);
}

#[test]
fn contents_are_not_looked_at_unless_the_group_asks() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    let payload = Payload::new(Format::Json, b"{oops").unwrap();
    let seen = bench.handle(Command::Request { origin: a, uid: None, number: 1, payload });
    assert_eq!(seen, [request(central, 1, "{oops")]);
}

#[test]
fn what_a_central_that_ended_asked_is_answered_to_nobody() {
    let mut bench = Bench::new();
    let (old, a) = (bench.login(""), bench.login("a"));
    bench.asks(old, "a", 7, "old");
    bench.ends(old, Vec::new());
    let new = bench.login("");
    let Seen::Request(_, number, _) = bench.asks(new, "a", 7, "new")[0] else { panic!() };
    assert_eq!(bench.answers(a, 7, 0, "to old"), NOTHING);
    assert_eq!(bench.answers(a, number, 0, "to new"), [response(new, 7, 0, "to new")]);
}

#[test]
fn nothing_stays_when_all_is_over() {
    let mut bench = Bench::new();
    let (central, a, m) = (bench.login(""), bench.login("a"), bench.login("m"));
    bench.asks(central, "a", 1, "q");
    bench.http(1, "m", "q");
    bench.object_asks(a, 1, "q");
    for origin in [central, a, m] {
        bench.drops(origin, Vec::new());
    }
    assert_ne!(bench.router.sizes(), Sizes::default());
    bench.wait(TTL);
    assert_eq!(bench.router.sizes(), Sizes::default());
}
