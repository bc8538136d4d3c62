//! What a new process knows of the one before, killed at the worst moment.

use std::time::Duration;

use iotsocketd::router::access::AccessList;
use iotsocketd::router::{
    About, CallChange, Command, Ending, Fact, PendingCall, Restored, RestoredSession, RestoredToken,
    SessionState, Way,
};
use iotsocketd::wire::{Format, Token, Uid};

use crate::bench::*;

const SECOND: Duration = Duration::from_secs(1);

fn with_webhook() -> Bench {
    let mut settings = settings();
    settings.webhook_timeout = Some(WEBHOOK_TIMEOUT);
    Bench::with(settings)
}

fn access(items: &[iotsocketd::wire::AclItem]) -> AccessList {
    AccessList::build(items.iter().copied(), |_| true).unwrap()
}

#[test]
fn what_waits_for_an_object_waits_on_in_its_order() {
    let mut bench = Bench::new();
    let (central, m) = (bench.login(""), bench.login("m"));
    bench.object_asks(m, 5, "q");
    bench.asks(central, "m", 0, "stuck");
    let stuck = unsent(&bench.raw, m.connection);
    // A second login, whose predecessor hands over nothing: what stuck goes ahead of what came meanwhile.
    let next = bench.login("m");
    bench.asks(central, "m", 1, "one");
    bench.drops(next, Vec::new());
    bench.drops(m, stuck);
    bench.central_answers(central, "m", 5, "r");
    bench.asks(central, "m", 2, "two");
    bench.commit();
    bench.restart_after(SECOND);
    let (m, waited) = bench.login_with("m", 0);
    let expected = [
        Seen::Token,
        request(m, 0, "stuck"),
        request(m, 1, "one"),
        response(m, 5, 0, "r"),
        request(m, 2, "two"),
    ];
    assert_eq!(waited, expected);
    // The central was live and is kept; who awaits which answer is known.
    assert_eq!(bench.answers(m, 1, 0, "r1"), NOTHING);
    let (central, waited) = bench.login_with("", 0);
    assert_eq!(waited, [response(central, 1, 0, "r1")]);
    assert_eq!(bench.answers(m, 0, 0, "r0"), [response(central, 0, 0, "r0")]);
    assert_eq!(bench.answers(m, 0, 0, "again"), NOTHING);
}

#[test]
fn what_was_handed_over_is_not_sent_again() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.object_asks(a, 5, "q");
    bench.drops(a, Vec::new());
    bench.asks(central, "a", 1, "one");
    bench.central_answers(central, "a", 5, "r");
    bench.commit();
    // The facts of the login stand behind what it means for calls, so no later commit is needed.
    let (a, waited) = bench.login_with("a", 0);
    assert_eq!(waited, [request(a, 1, "one"), response(a, 5, 0, "r")]);
    bench.commit();
    bench.restart_after(SECOND);
    let (a, waited) = bench.login_with("a", 0);
    assert_eq!(waited, NOTHING);
    let (central, _) = bench.login_with("", 0);
    assert_eq!(bench.answers(a, 1, 0, "r"), [response(central, 1, 0, "r")]);
}

#[test]
fn deadlines_count_on() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 7, "q");
    bench.object_asks(a, 9, "q");
    bench.wait(5 * SECOND);
    bench.commit();
    bench.restart_after(3 * SECOND);
    let (central, a) = (bench.login(""), bench.login("a"));
    assert_eq!(bench.wait(REQUEST_TIMEOUT - 9 * SECOND), NOTHING);
    let mut over = bench.wait(SECOND);
    over.sort_by_key(|seen| matches!(seen, Seen::Response(_, 9, ..)));
    assert_eq!(over, [response(central, 7, 0xa1, ""), response(a, 9, 0xa1, "")]);
}

#[test]
fn what_was_due_meanwhile_is_answered_at_the_next_login() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 7, "q");
    bench.drops(a, Vec::new());
    bench.asks(central, "a", 8, "waits");
    bench.commit();
    bench.restart_after(REQUEST_TIMEOUT);
    assert_eq!(bench.login_with("a", 0).1, NOTHING, "not delivered late");
    let (central, waited) = bench.login_with("", 0);
    assert_eq!(waited, [response(central, 7, 0xa1, ""), response(central, 8, 0xa1, "")]);
}

#[test]
fn keep_times_count_on_and_begin_for_who_was_live() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.drops(a, Vec::new());
    bench.wait(KEEP - 5 * SECOND);
    bench.asks(central, "a", 1, "waits");
    bench.commit();
    bench.restart_after(2 * SECOND);
    let until = bench.now + KEEP;
    assert_eq!(bench.facts, [Fact::SessionKept { uid: Uid::CENTRAL, until }]);
    bench.wait(2 * SECOND);
    assert_eq!(bench.router.session_state(uid("a")), SessionState::Kept);
    bench.wait(SECOND);
    assert_eq!(bench.router.session_state(uid("a")), SessionState::Absent);
    // Killed again: it does not begin anew.
    bench.restart_after(KEEP - 4 * SECOND);
    assert_eq!(bench.facts, []);
    let (central, waited) = bench.login_with("", 0);
    assert_eq!(waited, [response(central, 1, 0xa0, "")]);
    bench.ends(central, Vec::new());
    bench.commit();
    assert_eq!(bench.router.sizes(), Default::default());
    bench.restart_after(SECOND);
    assert_eq!(bench.router.sizes(), Default::default(), "nothing of an ended session comes back");
}

#[test]
fn a_session_whose_keep_time_is_over_does_not_come_back() {
    let mut bench = Bench::new();
    let mut settings = settings();
    settings.request_timeout = 3 * KEEP;
    bench.reconfigure(|current| *current = settings);
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 1, "handed over");
    bench.object_asks(a, 2, "q");
    bench.drops(a, Vec::new());
    bench.asks(central, "a", 3, "waits");
    bench.commit();
    bench.restart_after(KEEP);
    assert!(bench.facts.contains(&Fact::SessionEnded { uid: uid("a") }), "{:?}", bench.facts);
    let (central, waited) = bench.login_with("", 0);
    assert_eq!(waited, [response(central, 3, 0xa0, "")]);
    // Nobody hears the answer to what it asked.
    let a = bench.login("a");
    assert_eq!(bench.central_answers(central, "a", 2, "r"), NOTHING);
    assert_eq!(bench.answers(a, 1, 0, "r"), [response(central, 1, 0, "r")]);
}

#[test]
fn a_later_session_of_the_central_does_not_get_the_answers_of_an_earlier_one() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 7, "q");
    bench.commit();
    bench.ends(central, Vec::new());
    bench.login("");
    // No commit behind: the facts themselves brought the calls along.
    bench.restart_after(SECOND);
    let (central, again) = (bench.login(""), bench.login("a"));
    assert_eq!(bench.answers(again, 7, 0, "r"), NOTHING);
    assert_eq!(bench.asks(central, "a", 7, "anew"), [request(again, 7, "anew")]);
    assert_eq!(a.uid, again.uid);
}

#[test]
fn what_the_webhook_was_asked_fails_at_its_deadline() {
    for down in [SECOND, WEBHOOK_TIMEOUT] {
        let mut bench = with_webhook();
        let a = bench.login("a");
        bench.object_asks(a, 7, "q");
        let given = bench.raw.iter().find_map(|effect| match effect {
            Effect::Webhook { serial, .. } => Some(*serial),
            _ => None,
        });
        bench.commit();
        bench.restart_after(down);
        let (a, waited) = bench.login_with("a", 0);
        let failed = [response(a, 7, 1, "")];
        if down == WEBHOOK_TIMEOUT {
            assert_eq!(waited, failed);
        } else {
            assert_eq!(waited, NOTHING);
            assert_eq!(bench.wait(WEBHOOK_TIMEOUT - down), failed);
        }
        let late = Some((0, payload("late")));
        let late =
            Command::WebhookAnswered { uid: uid("a"), number: 7, serial: given.unwrap(), answer: late };
        assert_eq!(bench.handle(late), NOTHING);
    }
}

#[test]
fn a_call_that_is_over_before_the_commit_costs_nothing() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    for number in 0..5_000 {
        bench.asks(central, "a", number, "q");
        bench.answers(a, number, 0, "r");
        bench.object_asks(a, number, "q");
        bench.central_answers(central, "a", number, "r");
    }
    assert_eq!(bench.commit(), []);
}

#[test]
fn each_change_is_told_once() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.asks(central, "a", 7, "q");
    let stuck = unsent(&bench.raw, a.connection);
    let about = About { started: bench.now, deadline: bench.now + REQUEST_TIMEOUT, format: Format::Ascii };
    let told = bench.commit();
    let [
        CallChange::Waiting {
            id,
            call: PendingCall::ToObject { number: 7, central_number: 7, about: known, waits: None, .. },
        },
    ] = told.as_slice()
    else {
        panic!("{told:?}")
    };
    assert_eq!(*known, about);
    assert_eq!(bench.commit(), []);
    let handed_over = bench.flash.waiting[id].len();
    // The fact of the session that is kept now brought its calls along.
    bench.drops(a, stuck);
    assert!(bench.flash.waiting[id].len() > handed_over, "recorded with its bytes");
    assert_eq!(bench.commit(), []);
    bench.wait(REQUEST_TIMEOUT);
    assert_eq!(bench.commit(), [CallChange::Settled { id: *id }]);
    assert_eq!(bench.flash.waiting.len(), 0);
}

#[test]
fn an_answer_that_waits_is_told_until_it_is_sent() {
    let mut bench = Bench::new();
    let (central, a) = (bench.login(""), bench.login("a"));
    bench.object_asks(a, 7, "q");
    bench.drops(a, Vec::new());
    bench.central_answers(central, "a", 7, "r");
    let told = bench.commit();
    let answered = told.iter().any(
        |change| matches!(change, CallChange::Waiting { call: PendingCall::Answer { to, .. }, .. } if *to == a.uid),
    );
    assert!(answered, "{told:?}");
    bench.login("a");
    bench.commit();
    assert_eq!(bench.flash.waiting.len(), 0);
    assert_eq!(bench.commit(), []);
}

#[test]
fn the_calls_of_http_callers_end_with_the_process() {
    let mut bench = Bench::new();
    let a = bench.login("a");
    bench.http(1, "a", "q");
    bench.drops(a, Vec::new());
    bench.http(2, "a", "waits");
    assert_eq!(bench.commit(), []);
    bench.restart_after(SECOND);
    assert_eq!(bench.login_with("a", 0).1, NOTHING);
}

/// A late answer to a call of the process before must not answer a call of this one.
#[test]
fn numbers_of_http_calls_begin_where_no_earlier_ones_were() {
    let mut bench = Bench::new();
    bench.login("a");
    let Seen::Request(_, before, _) = bench.http(1, "a", "q")[0] else { panic!() };
    let list = access(&[item("a", "plain")]);
    bench.restart_with(SECOND, 30_000, list);
    let a = bench.login("a");
    let Seen::Request(_, after, _) = bench.http(2, "a", "q")[0] else { panic!() };
    assert!(after > 30_000 && before < 100, "{before} {after}");
    assert_eq!(bench.answers(a, before, 0, "late"), NOTHING);
    assert_eq!(bench.answers(a, after, 0, "r"), [answer(2, 0, "r")]);
}

#[test]
fn tokens_are_valid_until_their_end() {
    let mut bench = Bench::new();
    let m = bench.login("m");
    let expires = bench.now + TTL;
    let issued = Fact::TokenIssued { uid: uid("m"), token: bench.tokens[0], expires };
    assert_eq!(bench.facts, [Fact::SessionLive { uid: uid("m") }, issued]);
    bench.ends(m, Vec::new());
    bench.restart_after(TTL - SECOND);
    assert!(bench.datagram(bench.tokens[0], NEAR));
    bench.wait(SECOND);
    assert!(!bench.datagram(bench.tokens[0], NEAR));
    bench.restart_after(SECOND);
    assert_eq!(bench.router.sizes(), Default::default());
    bench.login("m");
    assert!(bench.datagram(bench.tokens[1], NEAR), "after the restart as before");
}

/// The journal keeps the newest eight and knows no clock. Tokens that end before older ones do must not make a
/// difference.
#[test]
fn the_same_tokens_make_room_here_and_in_the_journal() {
    let mut bench = Bench::new();
    let logins = |bench: &mut Bench, count| {
        for _ in 0..count {
            let m = bench.login("m");
            bench.ends(m, Vec::new());
        }
    };
    logins(&mut bench, 4);
    bench.reconfigure(|settings| settings.groups.get_mut(&group("meters")).unwrap().token_ttl = SECOND);
    logins(&mut bench, 3);
    bench.wait(2 * SECOND);
    bench.reconfigure(|settings| settings.groups.get_mut(&group("meters")).unwrap().token_ttl = TTL);
    logins(&mut bench, 3);
    let valid = |bench: &mut Bench| -> Vec<bool> {
        bench.tokens.clone().into_iter().map(|token| bench.datagram(token, NEAR)).collect()
    };
    let before = valid(&mut bench);
    assert_eq!(before, [false, false, true, true, false, false, false, true, true, true]);
    bench.restart_after(SECOND);
    assert_eq!(valid(&mut bench), before);
    logins(&mut bench, 1);
    assert!(!bench.datagram(bench.tokens[2], NEAR) && bench.datagram(bench.tokens[3], NEAR));
}

#[test]
fn who_lost_the_right_to_it_is_forgotten() {
    let start = || {
        let mut bench = Bench::new();
        let (central, m) = (bench.login(""), bench.login("m"));
        bench.object_asks(m, 3, "q");
        bench.drops(m, Vec::new());
        bench.asks(central, "m", 4, "waits");
        bench.commit();
        bench
    };
    let mut bench = start();
    bench.restart_with(SECOND, 0, access(&[item("a", "plain")]));
    assert!(!bench.datagram(bench.tokens[0], NEAR));
    assert_eq!(bench.login_with("", 0).1, [Seen::Response(3, 4, 0xa0, String::new())]);
    bench.commit();
    assert_eq!((bench.flash.tokens().count(), bench.flash.waiting.len()), (0, 0));
    assert_eq!(bench.flash.sessions().count(), 1);

    // Its group lost telemetry: the session stays.
    let mut bench = start();
    bench.settings.groups.get_mut(&group("meters")).unwrap().telemetry = false;
    bench.restart_after(SECOND);
    assert!(!bench.datagram(bench.tokens[0], NEAR));
    assert_eq!(bench.flash.tokens().count(), 0);
    let (m, waited) = bench.login_with("m", 0);
    assert_eq!(waited, [request(m, 4, "waits")]);

    // Its group is gone.
    let mut bench = start();
    bench.settings.groups.remove(&group("meters"));
    bench.restart_after(SECOND);
    assert_eq!((bench.flash.tokens().count(), bench.flash.sessions().count()), (0, 1));
}

/// A machine without a clock may wake up in the past.
#[test]
fn no_time_lies_further_ahead_than_the_settings_allow() {
    let mut bench = with_webhook();
    let far = bench.now + Duration::from_secs(1_000_000);
    let about = About { started: bench.now, deadline: far, format: Format::Binary };
    let object = uid("m");
    let call = |number, way| PendingCall::ToCentral { object, number, way, about, waits: None };
    let found = Restored {
        serial_floor: 0,
        tokens: vec![RestoredToken { uid: object, token: Token([7; 8]), expires: far }],
        sessions: vec![(object, RestoredSession::Kept { until: far })],
        calls: vec![(1, call(1, Way::Session)), (2, call(2, Way::Webhook))],
    };
    bench.router.restore(bench.now, found, &mut bench.recorder);
    bench.wait(REQUEST_TIMEOUT);
    let (m, waited) = bench.login_with("m", 0);
    assert_eq!(waited, [Seen::Token, response(m, 2, 1, ""), response(m, 1, 0xa1, "")]);
    bench.drops(m, Vec::new());
    bench.wait(KEEP);
    assert!(bench.datagram(Token([7; 8]), NEAR));
    bench.wait(TTL);
    assert_eq!(bench.router.sizes(), Default::default());
}

#[test]
fn sessions_tell_how_they_stand() {
    let mut bench = Bench::new();
    let told = |bench: &mut Bench| std::mem::take(&mut bench.facts);
    let uid = uid("a");
    let a = bench.login("a");
    assert_eq!(told(&mut bench), [Fact::SessionLive { uid }]);
    bench.drops(a, Vec::new());
    assert_eq!(told(&mut bench), [Fact::SessionKept { uid, until: bench.now + KEEP }]);
    let a = bench.login("a");
    assert_eq!(told(&mut bench), [Fact::SessionLive { uid }]);
    bench.handle(Command::Disconnected { origin: a, ending: Ending::Ended, unsent: Vec::new() });
    assert_eq!(told(&mut bench), [Fact::SessionEnded { uid }]);
    let a = bench.login("a");
    bench.drops(a, Vec::new());
    told(&mut bench);
    bench.wait(KEEP);
    assert_eq!(told(&mut bench), [Fact::SessionEnded { uid }]);
    let m = bench.login("m");
    told(&mut bench);
    bench.replace_access(&[]);
    let revoked = [Fact::TokensEnded { uid: m.uid }, Fact::SessionEnded { uid: m.uid }];
    assert_eq!(told(&mut bench), revoked);
}
