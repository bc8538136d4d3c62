//! Where a request ends: lengths, chunks, pipelines, headers.

use iotsocketd::endpoint::http::Cause;

use super::world::*;

#[test]
fn bodies_are_held_to_their_limit_by_length_and_by_chunks() {
    let world = world();
    let large = format!(r#"{{"UID":"echo","Payload":"{}","Format":"UTF8"}}"#, "x".repeat(200_000));
    assert_eq!(world.post("/request", &large).status, 413);
    assert_eq!(world.ask(&chunked(&large)).status, 413);
    let acl = format!("[{}]", " ".repeat(250_000));
    assert_eq!(
        world.post("/acl", &acl).status,
        503,
        "/acl has a limit of its own, and an empty list goes on"
    );
    assert_eq!(world.ask(&chunked(&request_body("echo"))).status, 200);
}

#[test]
fn lying_content_lengths_are_refused_and_nothing_behind_them_is_executed() {
    let world = world();
    for (lie, status) in [
        ("Content-Length: abc\r\n", 400),
        ("Content-Length: -1\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("Content-Length: 4000000000000000\r\n", 413),
        ("Content-Length: 99999999999999999999999\r\n", 400),
    ] {
        let mut client = world.connect();
        client.send(format!(
            "POST /request HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CENTRAL}\r\n\
             Content-Type: application/json\r\n{lie}\r\n{}",
            post("/request", CENTRAL, &request_body("echo"))
        ));
        assert_eq!(client.receive().status, status, "{lie}");
        assert!(client.is_closed(), "{lie}");
        assert!(client.read.is_empty(), "{lie}");
    }
    assert!(world.hub.timeouts.lock().unwrap().is_empty());
}

#[test]
fn a_length_beside_chunks_is_refused() {
    let world = world();
    let body = request_body("echo");
    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\ncontent-LENGTH:5\r\n",
    ] {
        let mut client = world.connect();
        // A request before it on the same connection does not hide it.
        client.send(post("/request", CENTRAL, &body));
        client.send(format!(
            "POST /request HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CENTRAL}\r\n\
             Content-Type: application/json\r\n{headers}\r\n{chunk}"
        ));
        assert_eq!(client.receive().status, 200);
        let refused = client.receive();
        assert!(refused.status == 400 && refused.error().contains("Transfer-Encoding"), "{headers}");
        assert!(client.is_closed());
    }
    assert_eq!(world.api.refusals.get(Cause::Framing), 3);
}

#[test]
fn lines_of_a_body_are_no_lengths_and_hide_none() {
    let world = world();
    let body = request_body("echo");
    let lines = format!("content-length: 1\ncontent-length: 2\n{body}");
    let chunk = |headers: &str| {
        format!(
            "POST /request HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CENTRAL}\r\n\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n{headers}\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        )
    };
    let mut client = world.connect();
    assert_eq!(client.ask(&post("/request", CENTRAL, &lines)).status, 400, "no JSON");
    assert_eq!(client.ask(&chunk("")).status, 200, "a false alarm");
    assert_eq!(client.ask(&post("/request", CENTRAL, &lines)).status, 400);
    assert_eq!(client.ask(&chunk("Content-Length: 5\r\n")).status, 400);
    assert!(client.is_closed());
    assert_eq!(world.api.refusals.get(Cause::Framing), 1);
}

#[test]
fn heads_that_can_be_understood_in_two_ways_are_refused() {
    let world = world();
    let body = request_body("echo");
    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let key = format!("Authorization: Bearer {CENTRAL}\r\n");
    let chunked = "Transfer-Encoding: chunked\r\n";
    let other = "Authorization: Bearer 00\r\n";
    for (headers, status, word) in [
        (format!("Host: x\r\n{key}Transfer-Encoding: gzip, chunked\r\n"), 501, "Transfer-Encoding"),
        (format!("Host: x\r\n{key}{chunked}{chunked}"), 501, "Transfer-Encoding"),
        (format!("Host: x\r\n{key}{other}{chunked}"), 400, "Authorization"),
        (format!("Host: x\r\n{other}{key}{chunked}"), 400, "Authorization"),
        (format!("Host: x\r\nHost: y\r\n{key}{chunked}"), 400, "Host"),
        (format!("{key}{chunked}"), 400, "Host"),
    ] {
        let mut client = world.connect();
        let head = format!("POST /request HTTP/1.1\r\n{headers}Content-Type: application/json\r\n\r\n");
        let refused = client.ask(&format!("{head}{chunk}"));
        assert!(refused.status == status && refused.error().contains(word), "{headers}: {}", refused.status);
        assert!(client.is_closed(), "{headers}");
    }
    assert_eq!(world.api.refusals.get(Cause::Framing), 6);
    assert!(world.hub.timeouts.lock().unwrap().is_empty(), "nothing was executed");
    assert_eq!(world.ask("GET /healthz HTTP/1.0\r\n\r\n").status, 200, "1.0 has no Host");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let world = world();
    let mut client = world.connect();
    let numbered = |n: u32| format!(r#"{{"UID":"echo","Payload":{n},"Format":"JSON"}}"#);
    let all: String = (0..20).map(|n| post("/request", CENTRAL, &numbered(n))).collect();
    client.send(all);
    for n in 0..20 {
        assert_eq!(client.receive().body, format!(r#"{{"Code":0,"Payload":{n},"Format":"JSON"}}"#));
    }
}

#[test]
fn http_1_0_works_and_closes() {
    let world = world();
    let mut client = world.connect();
    let answered =
        client.ask(&post("/request", CENTRAL, &request_body("echo")).replace("HTTP/1.1", "HTTP/1.0"));
    assert_eq!(answered.status, 200);
    assert!(client.is_closed());
}

#[test]
fn a_client_that_expects_100_continue_gets_it_before_its_body_or_the_refusal() {
    let world = world();
    let body = request_body("echo");
    let head = |length: usize| {
        post("/request", CENTRAL, "").replace(
            "Content-Length: 0\r\n",
            &format!("Content-Length: {length}\r\nExpect: 100-continue\r\n"),
        )
    };
    let mut client = world.connect();
    assert_eq!(client.ask(&head(body.len())).status, 100);
    assert_eq!(client.ask(&body).status, 200);
    assert_eq!(world.ask(&head(10_000_000)).status, 413, "without asking for the body");
}

#[test]
fn a_body_one_byte_at_a_time_is_taken() {
    let world = world();
    let mut client = world.connect();
    for byte in post("/request", CENTRAL, &request_body("echo")).bytes() {
        client.send([byte]);
    }
    assert_eq!(client.receive().status, 200);
}

/// B13: headers are bounded in size and number.
#[test]
fn a_flood_of_headers_is_refused() {
    let world = world();
    let many: String = (0..1000).map(|n| format!("X-{n}: 1\r\n")).collect();
    assert_eq!(world.ask(&format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{many}\r\n")).status, 431);
    let long = "y".repeat(17_000);
    assert_eq!(world.ask(&format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n")).status, 431);
    world.await_count(Cause::Parser, 2);
}
