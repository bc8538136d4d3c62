//! Requests of objects to the central, by its session or its webhook.

use std::time::Duration;

use iotsocketd::limits::ASKED_PER_OBJECT_MAX;
use iotsocketd::router::{Command, Count, Origin, WebhookRefusal};
use iotsocketd::wire::Uid;

use crate::bench::*;

fn with_webhook() -> Bench {
    let mut settings = settings();
    settings.webhook_timeout = Some(WEBHOOK_TIMEOUT);
    Bench::with(settings)
}

/// The webhook's answer to the request that it was given last.
fn webhook_answers(bench: &mut Bench, from: Origin, answer: Option<(u8, &str)>) -> Vec<Seen> {
    let given = bench.raw.iter().find_map(|effect| match effect {
        Effect::Webhook { number, serial, .. } => Some((*number, *serial)),
        _ => None,
    });
    let (number, serial) = given.unwrap();
    let answer = answer.map(|(code, text)| (code, payload(text)));
    bench.handle(Command::WebhookAnswered { uid: from.uid, number, serial, answer })
}

#[test]
fn a_number_in_use_is_refused_for_its_object_only() {
    let mut bench = Bench::new();
    let (central, a, b) = (bench.login(""), bench.login("a"), bench.login("b"));
    bench.object_asks(a, 7, "first");
    assert_eq!(bench.object_asks(a, 7, "second"), [response(a, 7, 0xa2, "")]);
    assert_eq!(bench.object_asks(b, 7, "other"), [request(central, 7, "other")]);
    assert_eq!(bench.central_answers(central, "a", 7, "r"), [response(a, 7, 0, "r")]);
    assert_eq!(bench.central_answers(central, "a", 7, "again"), NOTHING);
}

#[test]
fn without_central_and_webhook_nothing_is_found() {
    let mut bench = Bench::new();
    let a = bench.login("a");
    assert_eq!(bench.object_asks(a, 0, "q"), [response(a, 0, 0xa0, "")]);
}

#[test]
fn a_central_that_does_not_answer_times_out() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.object_asks(a, 7, "q");
    assert_eq!(bench.wait(REQUEST_TIMEOUT), [response(a, 7, 0xa1, "")]);
    assert_eq!(bench.central_answers(central, "a", 7, "late"), NOTHING);
}

#[test]
fn the_webhook_answers() {
    let mut bench = with_webhook();
    let a = bench.login("a");
    assert_eq!(bench.object_asks(a, 7, "q"), [Seen::Webhook(7, "q".to_owned())]);
    assert_eq!(webhook_answers(&mut bench, a, Some((9, "r"))), [response(a, 7, 9, "r")]);
}

#[test]
fn a_webhook_that_fails_is_not_valid() {
    let mut bench = with_webhook();
    let a = bench.login("a");
    bench.object_asks(a, 7, "q");
    assert_eq!(webhook_answers(&mut bench, a, None), [response(a, 7, 1, "")]);
}

#[test]
fn a_webhook_that_takes_too_long_is_not_valid_and_its_answer_dropped() {
    let mut bench = with_webhook();
    let a = bench.login("a");
    bench.object_asks(a, 7, "q");
    let given = bench.raw.clone();
    assert_eq!(bench.wait(WEBHOOK_TIMEOUT - Duration::from_millis(1)), NOTHING);
    assert_eq!(bench.wait(Duration::from_millis(1)), [response(a, 7, 1, "")]);
    // The same number again: what the webhook says to the first is not for the second.
    bench.object_asks(a, 7, "second");
    let second = std::mem::replace(&mut bench.raw, given);
    assert_eq!(webhook_answers(&mut bench, a, Some((0, "late"))), NOTHING);
    bench.raw = second;
    assert_eq!(webhook_answers(&mut bench, a, Some((0, "r"))), [response(a, 7, 0, "r")]);
}

#[test]
fn a_full_webhook_is_not_found() {
    let mut bench = with_webhook();
    let a = bench.login("a");
    bench.recorder.webhook_refusal = Some(WebhookRefusal::NoRoom);
    let not_found = response(a, 7, 0xa0, "");
    assert_eq!(bench.object_asks(a, 7, "q"), [Seen::Webhook(7, "q".to_owned()), not_found]);
}

#[test]
fn a_webhook_that_failed_a_moment_ago_is_not_valid() {
    let mut bench = with_webhook();
    let a = bench.login("a");
    bench.recorder.webhook_refusal = Some(WebhookRefusal::Failing);
    let not_valid = response(a, 7, 1, "");
    assert_eq!(bench.object_asks(a, 7, "q"), [Seen::Webhook(7, "q".to_owned()), not_valid]);
}

#[test]
fn a_kept_central_is_waited_for_and_the_webhook_not_asked() {
    let mut bench = with_webhook();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.drops(central, Vec::new());
    assert_eq!(bench.object_asks(a, 7, "q"), NOTHING);
    let (central, waited) = bench.login_with("", 0);
    assert_eq!(waited, [request(central, 7, "q")]);
}

#[test]
fn a_central_cannot_answer_what_the_webhook_was_asked() {
    let mut bench = with_webhook();
    let a = bench.login("a");
    bench.object_asks(a, 7, "q");
    let given = bench.raw.clone();
    let central = bench.login("");
    assert_eq!(bench.central_answers(central, "a", 7, "r"), NOTHING);
    bench.raw = given;
    assert_eq!(webhook_answers(&mut bench, a, Some((0, "r"))), [response(a, 7, 0, "r")]);
}

#[test]
fn an_answer_larger_than_the_object_takes_becomes_not_valid() {
    let mut bench = Bench::new();
    let central = bench.login("");
    let (a, _) = bench.login_with("a", 12);
    // Type, number, code, payload head: seven bytes.
    bench.object_asks(a, 1, "q");
    assert_eq!(bench.central_answers(central, "a", 1, "12345"), [response(a, 1, 0, "12345")]);
    bench.object_asks(a, 1, "q");
    assert_eq!(bench.central_answers(central, "a", 1, "123456"), [response(a, 1, 1, "")]);
}

/// B10: one object cannot fill the concentrator with requests that nobody answers.
#[test]
fn one_object_may_have_so_many_requests_open() {
    let mut bench = Bench::new();
    let (central, a, b) = (bench.login(""), bench.login("a"), bench.login("b"));
    for number in 0..ASKED_PER_OBJECT_MAX as u16 {
        assert_eq!(bench.object_asks(a, number, "q"), [request(central, number, "q")]);
    }
    assert_eq!(bench.object_asks(a, 5_000, "q"), [response(a, 5_000, 0xa0, "")]);
    assert_eq!(bench.object_asks(b, 5_000, "q"), [request(central, 5_000, "q")]);
    bench.central_answers(central, "a", 0, "r");
    assert_eq!(bench.object_asks(a, 5_000, "q"), [request(central, 5_000, "q")]);
}

#[test]
fn a_group_may_limit_the_rate() {
    let mut bench = Bench::with_plain(|group| group.rate = 4);
    let (central, a, b) = (bench.login(""), bench.login("a"), bench.login("b"));
    for number in 0..4 {
        assert_eq!(bench.object_asks(a, number, "q"), [request(central, number, "q")]);
    }
    assert_eq!(bench.object_asks(a, 4, "q"), [response(a, 4, 0xa0, "")]);
    assert_eq!(bench.object_asks(b, 4, "q"), [request(central, 4, "q")]);
    bench.wait(Duration::from_millis(250));
    assert_eq!(bench.object_asks(a, 4, "q"), [request(central, 4, "q")]);
    assert_eq!(bench.object_asks(a, 5, "q"), [response(a, 5, 0xa0, "")]);
    assert_eq!(bench.router.counts().get(Count::RateExceeded), 2);
}

#[test]
fn an_object_that_ended_hears_no_more_answers() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.object_asks(a, 7, "q");
    bench.ends(a, Vec::new());
    bench.login("a");
    assert_eq!(bench.central_answers(central, "a", 7, "r"), NOTHING);
    assert_eq!(bench.central_answers(central, "", 7, "r"), NOTHING);
    assert_eq!(central.uid, Uid::CENTRAL);
}
