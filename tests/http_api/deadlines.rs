//! Slow clients.

use std::io::Write;
use std::time::Instant;

use iotsocketd::endpoint::http::Cause;

use super::world::*;

/// B13: the deadline of a header is one for all its lines, so slow ones end; others go on meanwhile.
#[test]
fn slow_headers_end_at_their_deadline() {
    let mut short = settings();
    short.header_timeout = SHORT;
    let world = world_with(short, limits());
    let begun = Instant::now();
    let mut slow: Vec<_> = (0..20).map(|_| world.connect()).collect();
    for client in &mut slow {
        client.send("GET /healthz HTTP/1.1\r\n");
    }
    assert_eq!(world.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
    // A line now and then does not put the deadline off. The last writes may meet a closed connection.
    let mut dripping = world.connect();
    while dripping.stream.write_all(b"X: y\r\n").is_ok() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(SHORT / 10);
    }
    for client in &mut slow {
        assert!(client.is_closed());
    }
    assert!(begun.elapsed() >= SHORT);
}

#[test]
fn a_slow_body_is_408_and_an_idle_connection_is_closed() {
    let mut short = settings();
    short.body_timeout = SHORT;
    let world = world_with(short, limits());
    let mut client = world.connect();
    let request = post("/request", CENTRAL, &request_body("echo"));
    client.send(&request[..request.len() - 5]);
    let late = client.receive();
    assert_eq!(late.status, 408);
    assert!(client.is_closed());

    let mut short = settings();
    short.header_timeout = SHORT;
    world.api.set_settings(short);
    let mut client = world.connect();
    assert_eq!(client.ask(&request).status, 200);
    assert!(client.is_closed(), "idle between requests");
}

/// A reader that takes nothing of a large answer is closed; it does not hold the answer for ever.
#[test]
fn a_slow_reader_is_closed() {
    let mut short = settings();
    short.write_timeout = SHORT;
    let world = world_with(short, limits());
    let mut client = world.connect();
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(4096).unwrap();
    let body = format!(r#"{{"UID":"echo","Payload":"{}","Format":"ASCII"}}"#, "x".repeat(65_000));
    let request = post("/request", CENTRAL, &body);
    client.stream.set_write_timeout(Some(SHORT)).unwrap();
    let begun = Instant::now();
    while world.api.refusals.get(Cause::SlowReader) == 0 {
        assert!(begun.elapsed() < PATIENCE);
        // Blocks, then fails, once the server waits for its answers to be taken.
        let _stuck = client.stream.write_all(request.as_bytes());
    }
}
