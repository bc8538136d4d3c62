//! Sessions: replaced, kept, resumed, ended; tracking numbers; the largest transmission.

use std::time::{Duration, Instant};

use iotsocketd::wire::{CloseCode, Format, Payload, Transmission, Uid};
use serde_json::Value;

use crate::support::{Peer, Said, Site, eventually, request, response};

fn live(site: &Site) -> u64 {
    site.number("/sessions/live")
}

fn kept(site: &Site) -> u64 {
    site.number("/sessions/kept")
}

/// Asks an object that reads nothing until neither the system nor the concentrator takes more: more than socket
/// buffers hold, and the 256 KiB of the concentrator's queue. Gives the last number that was taken.
pub fn fill_up(central: &mut Peer, uid: Uid, first: u16) -> u16 {
    let block = vec![b'x'; 60_000];
    let mut next = first;
    let mut refused = 0;
    while refused < 20 {
        // A short one behind a refused one wakes the connection, so that the system takes all that it can.
        let data = if refused % 2 == 0 { &block } else { &block[..1] };
        central.send(&request(Some(uid), next, data));
        central.send(&Transmission::Ping);
        match central.next() {
            Said::Pong if data.len() == 1 => (next, refused) = (next + 1, refused + 1),
            Said::Pong => (next, refused) = (next + 1, 0),
            Said::Response { number, code, .. } => {
                assert_eq!((number, code), (next, 0xA0), "a full queue is told to who asks");
                assert_eq!(central.next(), Said::Pong);
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    next - 1
}

/// B19: what the first connection did not take is not lost, and nothing comes twice.
#[test]
fn a_second_login_replaces_the_first_and_takes_over_its_calls_and_what_was_not_sent() {
    // A system whose buffers still grew when the second came has taken all: then there was nothing to pass on.
    const ATTEMPTS: usize = 5;
    assert!((0..ATTEMPTS).any(|_| replace_a_full_session()), "nothing was ever left to pass on");
}

/// Whether something was left to pass on.
fn replace_a_full_session() -> bool {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.set("sessions", "request_timeout", "\"20s\"");
    site.start();
    let mut central = site.login(site.central());
    let (first, _) = site.login_with_token(pump);
    let mut first = first.with_room(200_000);
    central.send(&request(Some(pump.uid), 1, b"handed over"));
    assert_eq!(first.request(), (1, b"handed over".to_vec()));
    let sent = fill_up(&mut central, pump.uid, 2);
    // Of these, the first connection reads some only after the second is there.
    let start = Instant::now();
    let (mut second, _) = site.login_with_token(pump);
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "a first connection that takes nothing holds nobody up"
    );
    let mut by_first = Vec::new();
    loop {
        match first.next() {
            Said::Request { number, .. } => by_first.push(number),
            Said::Close(code) => {
                assert_eq!(code, 0xA1);
                break;
            }
            // Cut inside a transmission: nothing may follow it.
            Said::End => break,
            other => panic!("{other:?}"),
        }
    }
    let mut by_second = Vec::new();
    while by_first.len() + by_second.len() < usize::from(sent - 1) {
        by_second.push(second.request().0);
    }
    let all: Vec<_> = by_first.iter().chain(&by_second).copied().collect();
    assert_eq!(all, (2..=sent).collect::<Vec<_>>(), "in order, each once");
    // Who takes over may answer what the first was asked.
    second.send(&response(None, 1, 0, b"by the second"));
    assert_eq!(central.response(), (1, 0, b"by the second".to_vec()));
    second.is_alive();
    !by_second.is_empty()
}

#[test]
fn a_replaced_connection_is_told_and_closed() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let mut central = site.login(site.central());
    let (mut first, _) = site.login_with_token(pump);
    let (mut second, _) = site.login_with_token(pump);
    assert_eq!(first.closed(), 0xA1);
    second.is_alive();
    let mut other_central = site.login(site.central());
    assert_eq!(central.closed(), 0xA1);
    other_central.is_alive();
    assert_eq!(site.refused("router.sessions_replaced"), 2);
}

/// B11: answers wait for a kept session, too.
#[test]
fn what_comes_for_a_kept_session_waits_and_follows_its_token_in_order() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let mut central = site.login(site.central());
    let (mut object, old) = site.login_with_token(pump);
    object.send(&request(None, 7, b"how much?"));
    assert_eq!(central.request(), (7, b"how much?".to_vec()));
    object.leave(CloseCode::Sleep);
    eventually("the session is kept", || kept(&site) == 1);
    central.send(&request(Some(pump.uid), 1, b"one"));
    central.send(&response(Some(pump.uid), 7, 0, b"this much"));
    central.send(&request(Some(pump.uid), 2, b"two"));
    central.is_alive();
    let (mut object, fresh) = site.login_with_token(pump);
    assert_ne!(old, fresh);
    assert_eq!(object.request(), (1, b"one".to_vec()));
    assert_eq!(object.response(), (7, 0, b"this much".to_vec()));
    assert_eq!(object.request(), (2, b"two".to_vec()));
    object.send(&response(None, 2, 0, b"2"));
    assert_eq!(central.response(), (2, 0, b"2".to_vec()));
    // The token of before the break is still good.
    site.telemetry(old, Format::Utf8, b"old token");
    assert_eq!(central.telemetry().1, b"old token");
}

#[test]
fn a_connection_that_drops_without_a_word_keeps_its_session() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (object, _) = site.login_with_token(pump);
    drop(object);
    eventually("the session is kept", || kept(&site) == 1 && live(&site) == 0);
}

#[test]
fn a_goodbye_for_good_ends_the_session() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    for code in [CloseCode::ProtocolError, CloseCode::Maintenance, CloseCode::Unknown(0xB7)] {
        let (object, _) = site.login_with_token(pump);
        object.leave(code);
        eventually("the session is gone", || live(&site) + kept(&site) == 0);
    }
}

/// B17: kept sessions and pending calls come to their end, whoever made them.
#[test]
fn when_the_keep_time_is_over_what_waited_is_160() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.set("sessions", "keep_session", "\"1s\"");
    site.set("sessions", "request_timeout", "\"5s\"");
    site.start();
    let mut central = site.login(site.central());
    let (object, _) = site.login_with_token(pump);
    object.leave(CloseCode::Sleep);
    eventually("the session is kept", || kept(&site) == 1);
    let start = Instant::now();
    assert_eq!(central.ask(Some(pump.uid), 0, b"anybody?"), (0xA0, vec![]));
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(kept(&site), 0);
    let (mut object, _) = site.login_with_token(pump);
    object.is_alive();
}

/// B18: tracking number 0 is a number like any other.
#[test]
fn tracking_numbers_0_and_65535_are_answered_both_ways() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let mut central = site.login(site.central());
    let (mut object, _) = site.login_with_token(pump);
    for number in [0, u16::MAX] {
        central.send(&request(Some(pump.uid), number, b"down"));
        assert_eq!(object.request().0, number);
        object.send(&response(None, number, 0, b"ok"));
        assert_eq!(central.response(), (number, 0, b"ok".to_vec()));
        object.send(&request(None, number, b"up"));
        assert_eq!(central.request().0, number);
        central.send(&response(Some(pump.uid), number, 0, b"ok"));
        assert_eq!(object.response(), (number, 0, b"ok".to_vec()));
    }
}

#[test]
fn a_number_in_use_is_162_and_the_pending_request_goes_on() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    let other = site.device("pump-2", "Devices");
    site.start();
    let mut central = site.login(site.central());
    let (mut object, _) = site.login_with_token(pump);
    let (mut elsewhere, _) = site.login_with_token(other);
    central.send(&request(Some(pump.uid), 0, b"once"));
    // One number space over all objects.
    assert_eq!(central.ask(Some(pump.uid), 0, b"twice"), (0xA2, vec![]));
    assert_eq!(central.ask(Some(other.uid), 0, b"twice"), (0xA2, vec![]));
    assert_eq!(object.answer(0, b"fine"), b"once");
    assert_eq!(central.response(), (0, 0, b"fine".to_vec()));
    object.send(&request(None, 3, b"once"));
    assert_eq!(object.ask(None, 3, b"twice"), (0xA2, vec![]));
    // Another object has numbers of its own.
    elsewhere.send(&request(None, 3, b"mine"));
    assert_eq!(central.request(), (3, b"once".to_vec()));
    assert_eq!(central.request(), (3, b"mine".to_vec()));
    central.send(&response(Some(other.uid), 3, 0, b"yours"));
    central.send(&response(Some(pump.uid), 3, 0, b"done"));
    assert_eq!(object.response(), (3, 0, b"done".to_vec()));
    assert_eq!(elsewhere.response(), (3, 0, b"yours".to_vec()));
    assert_eq!(site.refused("router.numbers_already_used"), 3);
}

/// B5: an answer counts only from the object that was asked, by its number, once.
#[test]
fn an_object_cannot_answer_for_another() {
    let site = Site::new();
    let victim = site.device("victim", "Devices");
    let forger = site.device("forger", "Devices");
    site.start();
    let (mut object, _) = site.login_with_token(victim);
    let (mut liar, _) = site.login_with_token(forger);
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| site.call("victim", Value::from("?"), "UTF8"));
        let (number, _) = object.request();
        let mut forged = Vec::new();
        for any in 0..=u16::MAX {
            response(None, any, 0, b"FORGED").encode(&mut forged);
        }
        liar.send_raw(&forged);
        // They took effect before this pong.
        liar.is_alive();
        object.send(&response(None, number.wrapping_add(1), 0, b"wrong number"));
        object.send(&response(None, number, 0, b"true"));
        object.send(&response(None, number, 0, b"again"));
        object.is_alive();
        assert_eq!(caller.join().unwrap()["Payload"], "true");
    });
    assert_eq!(site.refused("router.responses_unexpected"), 65_536 + 2);
}

/// B4: an object that names another one is closed, and the other one hears nothing.
#[test]
fn an_object_that_names_an_object_is_closed_and_the_other_hears_nothing() {
    let site = Site::new();
    let victim = site.device("victim", "Stations");
    let attacker = site.device("attacker", "Devices");
    site.start();
    let mut object = site.login(victim);
    for what in [request(Some(victim.uid), 1, b"open"), response(Some(victim.uid), 1, 0, b"open")] {
        let (mut bad, _) = site.login_with_token(attacker);
        bad.send(&what);
        assert_eq!(bad.closed(), 0x00);
    }
    object.is_alive();
    assert_eq!(site.refused("sessions.object_sent_uid"), 2);
}

#[test]
fn the_largest_transmission_of_a_peer_is_honoured() {
    let site = Site::new();
    let small = site.device("small", "Devices");
    let pump = site.device("pump-1", "Devices");
    site.start();
    let tls = site.tls();
    let mut central = site.login_as(site.central(), None, Some(&tls), 100).unwrap();
    let mut object = site.login_as(small, None, Some(&tls), 40).unwrap();
    object.token();
    // 1 + 2 + 3 bytes of head towards the object.
    assert_eq!(central.ask(Some(small.uid), 1, &[b'x'; 35]), (0xA0, vec![]));
    central.send(&request(Some(small.uid), 2, &[b'x'; 34]));
    assert_eq!(object.answer(0, b"it fits"), vec![b'x'; 34]);
    assert_eq!(central.response(), (2, 0, b"it fits".to_vec()));
    // 1 + 16 + 2 + 1 + 3 bytes of head towards the central.
    for (number, len, code) in [(3, 77, 9), (4, 78, 1)] {
        central.send(&request(Some(small.uid), number, b""));
        object.answer(9, &vec![b'y'; len]);
        let expected = if code == 1 { vec![] } else { vec![b'y'; len] };
        assert_eq!(central.response(), (number, code, expected));
    }
    // A response to the object that is too large.
    object.send(&request(None, 5, b""));
    assert_eq!(central.request().0, 5);
    central.send(&response(Some(small.uid), 5, 0, &[b'z'; 60]));
    assert_eq!(object.response(), (5, 1, vec![]));
    // Telemetry that does not fit waits, and holds nothing up.
    let (_object, token) = site.login_with_token(pump);
    site.telemetry(token, Format::Binary, &[1; 90]);
    site.telemetry(token, Format::Binary, &[2; 10]);
    assert_eq!(central.telemetry(), (pump.uid, vec![2; 10]));
    let mut wide = site.login(site.central());
    assert_eq!(wide.telemetry(), (pump.uid, vec![1; 90]));
}

#[test]
fn pings_are_answered_and_a_silent_peer_is_pinged_then_closed_and_kept() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.set("sessions", "ping_interval", "\"1s\"");
    site.start();
    let (mut object, _) = site.login_with_token(pump);
    object.is_alive();
    let end = Instant::now() + Duration::from_secs(5);
    let mut said = Vec::new();
    while let Some(what) = object.next_raw(end) {
        said.push(what.clone());
        if what == Said::End {
            break;
        }
    }
    assert_eq!(said, [Said::Ping, Said::Close(0xA1), Said::End]);
    assert_eq!(kept(&site), 1);
    assert_eq!(site.refused("sessions.peer_silent"), 1);
}

#[test]
fn the_central_s_own_rules_are_kept() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (mut object, _) = site.login_with_token(pump);
    let payload = Payload::new(Format::Utf8, b"x").unwrap();
    for (wrong, cause) in [
        (request(None, 1, b"whom?"), "central_without_uid"),
        (response(None, 1, 0, b"whom?"), "central_without_uid"),
        (Transmission::Token(iotsocketd::wire::Token([1; 8])), "central_sent_token"),
        (Transmission::Telemetry { uid: pump.uid, payload }, "central_sent_telemetry"),
    ] {
        let before = site.refused(&format!("sessions.{cause}"));
        let mut central = site.login(site.central());
        central.send(&wrong);
        assert_eq!(central.closed(), 0x00);
        assert_eq!(site.refused(&format!("sessions.{cause}")), before + 1);
    }
    let mut central = site.login(site.central());
    assert_eq!(central.ask(Some(Uid::parse("nobody").unwrap()), 1, b""), (0xA0, vec![]));
    object.is_alive();
}
