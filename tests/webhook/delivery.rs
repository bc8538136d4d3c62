//! Telemetry that waits, is forgotten, or finds no room; the end of the pool.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use iotsocketd::endpoint::webhook::{Failure, Refused, Settings, SettingsError};
use iotsocketd::wire::Format;

use super::support::*;

#[test]
fn telemetry_waits_for_a_failing_webhook_and_keeps_its_order() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let server = Server::start(move |request, stream| {
        let mut log = log.lock().unwrap();
        log.push(request.body.clone());
        if log.len() == 1 { reply(stream, "500 Oops", "", "later") } else { ok(stream) }
    });
    let (pool, recorder) = start(&telemetry_to(&server));
    for seq in 0..3 {
        pool.telemetry(uid(1), seq, Format::Binary, vec![u8::try_from(seq).unwrap()]).unwrap();
    }
    assert_eq!(recorder.wait(3), [Event::Delivered(0), Event::Delivered(1), Event::Delivered(2)]);
    let seen = seen.lock().unwrap();
    let payloads: Vec<_> =
        seen.iter().map(|body| &body[body.find('[').unwrap()..=body.find(']').unwrap()]).collect();
    assert_eq!(payloads, ["[0]", "[0]", "[1]", "[2]"]);
    eventually("the counters", || {
        let counters = pool.counters().telemetry;
        (counters.causes.status, counters.jobs.failed, counters.jobs.delivered) == (1, 1, 3)
    });
}

#[test]
fn retry_after_is_honoured() {
    let first = Arc::new(Mutex::new(None));
    let asked = first.clone();
    let server = Server::start(move |_, stream| {
        let is_first = asked.lock().unwrap().replace(Instant::now()).is_none();
        if is_first { reply(stream, "503 Busy", "Retry-After: 3\r\n", "") } else { ok(stream) }
    });
    let (pool, recorder) = start(&telemetry_to(&server));
    let begin = Instant::now();
    telemetry(&pool, 1, 1);
    let delivered = telemetry_after(&recorder, 1);
    assert!(delivered - begin >= SECOND * 3, "{:?}", delivered - begin);
    assert!(delivered - begin < SECOND * 10, "{:?}", delivered - begin);
}

#[test]
fn no_connection_is_a_failure_that_shuts_the_webhook_for_requests() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (pool, recorder) = start(&Settings { request: Some(format!("http://{address}/")), ..settings() });
    for ticket in 0..3 {
        request(&pool, 1, ticket);
        recorder.wait_for(&Event::Answered(ticket, Err(Failure::Connect)));
    }
    eventually("the breaker", || pool.counters().request.is_failing);
    let refused = pool.request(uid(1), 4, Format::Ascii, *b"", Instant::now() + SECOND);
    assert_eq!(refused, Err(Refused::Shut));
}

#[test]
fn what_was_cleared_is_not_sent() {
    for status in ["200 OK", "500 Oops"] {
        let gate = Arc::new(Gate::default());
        let seen = Arc::new(AtomicUsize::new(0));
        let (held, count) = (gate.clone(), seen.clone());
        let server = Server::start(move |_, stream| {
            count.fetch_add(1, Ordering::SeqCst);
            held.pass();
            reply(stream, status, "", "")
        });
        let (pool, recorder) = start(&Settings { timeout: SECOND * 10, ..telemetry_to(&server) });
        for seq in 0..5 {
            telemetry(&pool, 1, seq);
        }
        eventually("one is in flight", || seen.load(Ordering::SeqCst) == 1);
        pool.clear_telemetry();
        gate.open();
        let expected = if status == "200 OK" { Event::Delivered(0) } else { Event::Forgotten(0) };
        assert_eq!(recorder.wait(1), [expected]);
        telemetry(&pool, 2, 9);
        eventually("a later one is sent", || seen.load(Ordering::SeqCst) >= 2);
        assert!(pool.stop(SECOND * 5));
        assert_eq!(seen.load(Ordering::SeqCst), 2, "what was cleared was sent");
    }
}

#[test]
fn telemetry_is_bounded_and_room_is_told() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let server = Server::start(move |_, stream| {
        held.pass();
        ok(stream)
    });
    let (pool, recorder) = start(&Settings { timeout: SECOND * 10, ..telemetry_to(&server) });
    let room = pool.room();
    assert!(room > 0);
    let mut taken = 0;
    while pool.telemetry(uid(taken % 50), taken, Format::Binary, vec![0; 65_535]).is_ok() {
        taken += 1;
        assert!(taken < 10_000, "unbounded");
    }
    assert_eq!(taken, room as u64, "room counts messages of any size");
    assert_eq!((pool.room(), pool.counters().telemetry.jobs.refused), (0, 1));
    gate.open();
    recorder.wait_for(&Event::Room);
    assert!(pool.room() > 0);
}

#[test]
fn without_a_url_there_is_no_webhook() {
    let server = Server::start(|_, stream| ok(stream));
    let (pool, recorder) = start(&settings());
    assert_eq!(pool.telemetry(uid(1), 1, Format::Ascii, *b"x"), Err(Refused::NotConfigured));
    assert_eq!(pool.room(), 0);
    pool.reconfigure(&telemetry_to(&server)).unwrap();
    telemetry(&pool, 1, 1);
    telemetry_after(&recorder, 1);
    let broken = Settings { telemetry: Some("nonsense".to_owned()), ..settings() };
    assert!(matches!(pool.reconfigure(&broken), Err(SettingsError::Url(_))));
    telemetry(&pool, 1, 2);
    telemetry_after(&recorder, 2);
}

#[test]
fn stopping_cuts_off_what_hangs_and_answers_what_waits() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let server = Server::start(move |_, _| {
        held.pass();
        Ok(false)
    });
    let (pool, recorder) = start(&Settings { timeout: SECOND * 60, ..requests_to(&server) });
    for ticket in 0..6 {
        pool.request(uid(ticket), ticket, Format::Ascii, *b"", Instant::now() + SECOND * 60).unwrap();
    }
    eventually("its share is in flight", || server.open.load(Ordering::SeqCst) == 4);
    let begin = Instant::now();
    assert!(pool.stop(SECOND * 5));
    assert!(begin.elapsed() < SECOND * 4, "{:?}", begin.elapsed());
    let events = recorder.wait(6);
    let gone = events.iter().filter(|event| matches!(event, Event::Answered(_, Err(Failure::Gone)))).count();
    assert_eq!((events.len(), gone), (6, 2), "{events:?}");
    assert_eq!(pool.telemetry(uid(1), 1, Format::Ascii, *b""), Err(Refused::Stopping));
    gate.open();
}
