//! Answers, and the order and number of what is in flight.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use iotsocketd::endpoint::webhook::{Answer, Failure, Settings};
use iotsocketd::wire::Format;

use super::support::*;

/// B15: the answer of the central's webhook must reach the object, and the call must be the one specified.
#[test]
fn a_request_is_answered() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let server = Server::start(move |request, stream| {
        log.lock().unwrap().push((request.head.clone(), request.body.clone()));
        ok(stream)
    });
    let (pool, recorder) = start(&requests_to(&server));
    request(&pool, 1, 42);
    let answer = Answer { code: 7, format: Format::Binary, payload: vec![1, 2] };
    assert_eq!(recorder.wait(1), [Event::Answered(42, Ok(answer))]);
    let (head, body) = seen.lock().unwrap()[0].clone();
    assert_eq!(body, r#"{"UID":"obj1","Payload":{"a":1.0},"Format":"JSON"}"#);
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /hook http/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: bearer 0123456789abcdef0123456789abcdef\r\n"), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    eventually("the counter", || pool.counters().request.jobs.delivered == 1);
}

#[test]
fn a_host_may_have_a_name_and_several_addresses() {
    let server = Server::start(|_, stream| ok(stream));
    let url = format!("http://localhost:{}/hook", server.address.port());
    let (pool, recorder) = start(&Settings { telemetry: Some(url), ..settings() });
    telemetry(&pool, 1, 1);
    telemetry_after(&recorder, 1);
}

#[test]
fn telemetry_keeps_its_order_and_its_connection() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let server = Server::start(move |request, stream| {
        log.lock().unwrap().push(request.body.clone());
        reply(stream, "204 No Content", "", "")
    });
    let (pool, recorder) = start(&telemetry_to(&server));
    for seq in 0..30 {
        pool.telemetry(uid(1), seq, Format::Binary, vec![u8::try_from(seq).unwrap()]).unwrap();
    }
    assert_eq!(recorder.wait(30), (0..30).map(Event::Delivered).collect::<Vec<_>>());
    let expected: Vec<_> =
        (0..30).map(|n| format!(r#"{{"UID":"obj1","Payload":[{n}],"Format":"BINARY"}}"#)).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn an_endpoint_may_close_after_each_answer() {
    for head in [
        "HTTP/1.0 200 OK\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nConnection: close",
        "HTTP/1.0 200 OK",
    ] {
        let server = Server::start(move |_, stream| {
            write!(stream, "{head}\r\n\r\nok")?;
            Ok(false)
        });
        let (pool, recorder) = start(&telemetry_to(&server));
        for seq in 0..30 {
            telemetry(&pool, 1, seq);
        }
        recorder.wait(30);
        assert_eq!(pool.counters().telemetry.jobs.failed, 0, "{head}");
    }
}

#[test]
fn a_payload_that_is_not_its_format_goes_as_binary_and_is_counted() {
    let server = Server::start(|request, stream| {
        let is_binary = request.body.ends_with(r#""Payload":[123],"Format":"BINARY"}"#);
        reply(stream, if is_binary { "200 OK" } else { "400 Bad Request" }, "", "")
    });
    let (pool, recorder) = start(&telemetry_to(&server));
    pool.telemetry(uid(1), 1, Format::Json, *b"{").unwrap();
    telemetry_after(&recorder, 1);
    eventually("the counter", || pool.counters().telemetry.sent_as_binary == 1);
}

#[test]
fn results_carry_their_id_and_code() {
    let seen = Arc::new(Mutex::new(String::new()));
    let log = seen.clone();
    let server = Server::start(move |request, stream| {
        *log.lock().unwrap() = request.body.clone();
        ok(stream)
    });
    let (pool, recorder) = start(&Settings { result: Some(server.url()), ..settings() });
    pool.result(uid(1), 9, "0193", 160, Format::Utf8, "é".as_bytes()).unwrap();
    assert_eq!(recorder.wait(1), [Event::ResultDelivered(9)]);
    let expected = r#"{"UID":"obj1","Id":"0193","Code":160,"Payload":"é","Format":"UTF8"}"#;
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn an_object_has_one_call_in_flight() {
    let flying: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let most = Arc::new(AtomicUsize::new(0));
    let all = Arc::new(AtomicUsize::new(0));
    let (flying_in, most_in, all_in) = (flying, most.clone(), all.clone());
    let server = Server::start(move |request, stream| {
        let count = {
            let mut flying = flying_in.lock().unwrap();
            *flying.entry(request.uid()).or_default() += 1;
            all_in.fetch_max(flying.values().sum(), Ordering::SeqCst);
            flying[&request.uid()]
        };
        most_in.fetch_max(count, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        *flying_in.lock().unwrap().get_mut(&request.uid()).unwrap() -= 1;
        ok(stream)
    });
    let (pool, recorder) = start(&requests_to(&server));
    for ticket in 0..60 {
        request(&pool, ticket % 6, ticket);
    }
    let events = recorder.wait(60);
    assert_eq!(most.load(Ordering::SeqCst), 1, "calls of one object overlap");
    assert_eq!(all.load(Ordering::SeqCst), 4, "a quarter of the threads for one webhook");
    for object in 0..6 {
        let order: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Answered(ticket, Ok(_)) if ticket % 6 == object => Some(*ticket),
                _ => None,
            })
            .collect();
        assert_eq!(order, (0..10).map(|n| object + 6 * n).collect::<Vec<_>>());
    }
}

/// B16: a webhook that swallows everything must not hold up the caller, nor the other webhooks.
#[test]
fn one_that_hangs_delays_only_itself() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let hangs = Server::start(move |_, _| {
        held.pass();
        Ok(false)
    });
    let works = Server::start(|_, stream| ok(stream));
    let settings = Settings {
        request: Some(hangs.url()),
        telemetry: Some(works.url()),
        timeout: SECOND * 10,
        ..settings()
    };
    let (pool, recorder) = start(&settings);
    let begin = Instant::now();
    for ticket in 0..50 {
        request(&pool, ticket, ticket);
    }
    eventually("its share is in flight", || hangs.open.load(Ordering::SeqCst) == 4);
    for seq in 0..50 {
        telemetry(&pool, seq, seq);
    }
    let events = recorder.wait(50);
    assert!(events.iter().all(|event| matches!(event, Event::Delivered(_))), "{events:?}");
    assert!(begin.elapsed() < SECOND * 4, "telemetry waited for the webhook that hangs");
    gate.open();
}

/// B15: without a timeout each call leaked a descriptor.
#[test]
fn one_that_hangs_costs_no_connection_for_long() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let (failure, took, server) = failure_of(requests_to, move |_, _| {
        held.pass();
        Ok(true)
    });
    assert_eq!(failure, Failure::Timeout);
    assert!(took >= SECOND && took < SECOND * 4, "{took:?}");
    gate.open();
    eventually("the connection is closed", || server.open.load(Ordering::SeqCst) == 0);
}

#[test]
fn a_deadline_shorter_than_the_timeout_holds() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let server = Server::start(move |_, _| {
        held.pass();
        Ok(false)
    });
    let (pool, recorder) = start(&Settings { timeout: SECOND * 10, ..requests_to(&server) });
    let begin = Instant::now();
    let deadline = begin + SECOND / 2;
    for ticket in 0..2 {
        pool.request(uid(1), ticket, Format::Binary, *b"", deadline).unwrap();
    }
    let mut events = recorder.wait(2);
    events.sort_by_key(|event| matches!(event, Event::Answered(1, _)));
    let timed_out = Event::Answered(0, Err(Failure::Timeout));
    assert_eq!(events, [timed_out, Event::Answered(1, Err(Failure::Expired))]);
    assert!(begin.elapsed() < SECOND * 4, "{:?}", begin.elapsed());
    gate.open();
}

#[test]
fn a_request_expires_in_time_behind_one_that_hangs() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let server = Server::start(move |_, _| {
        held.pass();
        Ok(false)
    });
    let (pool, recorder) = start(&Settings { timeout: SECOND * 60, ..requests_to(&server) });
    let begin = Instant::now();
    pool.request(uid(1), 1, Format::Binary, *b"", begin + SECOND * 60).unwrap();
    eventually("it hangs", || server.open.load(Ordering::SeqCst) == 1);
    pool.request(uid(1), 2, Format::Binary, *b"", begin + SECOND).unwrap();
    pool.request(uid(1), 3, Format::Binary, *b"", begin + SECOND / 2).unwrap();
    assert_eq!(
        recorder.wait(2),
        [Event::Answered(3, Err(Failure::Expired)), Event::Answered(2, Err(Failure::Expired))]
    );
    gate.open();
}
