//! Who is refused, and in which order.

use std::net::Ipv4Addr;

use iotsocketd::endpoint::admission::Limits;
use iotsocketd::endpoint::http::Cause;

use super::world::*;

#[test]
fn refusals_come_in_their_order() {
    let mut closed = settings();
    closed.allow_from = networks(&["192.0.2.0/24"]);
    let world = world_with(closed, limits());
    let everything_wrong =
        "PUT /nothing HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 9999999\r\n\r\n";
    assert_eq!(world.ask(everything_wrong).status, 403, "source network before everything");
    assert_eq!(world.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status, 403);
    world.api.set_settings(settings());
    let unknown = world.ask(everything_wrong);
    assert_eq!(unknown.status, 401, "key before route");
    assert_eq!(unknown.headers["www-authenticate"], "Bearer");
    let with_key = |method: &str, path: &str, token: &str, rest: &str| {
        world.ask(&format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{rest}\r\n"
        ))
    };
    assert_eq!(with_key("PUT", "/request", "dd44", "").status, 403, "a key's own networks");
    assert_eq!(with_key("PUT", "/nothing", "aa11", "").status, 404, "route before right");
    let method = with_key("GET", "/request", "aa11", "");
    assert_eq!((method.status, method.headers["allow"].as_str()), (405, "POST"));
    let method = with_key("POST", "/v1/objects", "aa11", "Content-Length: 0\r\n");
    assert_eq!((method.status, method.headers["allow"].as_str()), (405, "GET, HEAD"));
    let right =
        with_key("POST", "/request", "aa11", "Content-Type: text/plain\r\nContent-Length: 9999999\r\n");
    assert_eq!(right.status, 403, "right before body");
    assert!(right.error().contains("\"request\""));
    let media =
        with_key("POST", "/request", CENTRAL, "Content-Type: text/plain\r\nContent-Length: 9999999\r\n");
    assert_eq!(media.status, 415, "type before length");
    let large = with_key(
        "POST",
        "/request",
        CENTRAL,
        "Content-Type: application/json\r\nContent-Length: 9999999\r\n",
    );
    assert_eq!(large.status, 413);
    assert_eq!(with_key("POST", "/request", CENTRAL, "Content-Type: application/json\r\n").status, 411);
    assert_eq!(with_key("POST", "/request", CENTRAL, "Content-Length: 0\r\n").status, 400);
    for (cause, count) in [(Cause::SourceNetwork, 3), (Cause::Key, 1), (Cause::Route, 3), (Cause::Right, 1)] {
        assert_eq!(world.api.refusals.get(cause), count, "{cause:?}");
    }
}

#[test]
fn a_key_of_some_groups_sees_no_others() {
    let world = world();
    assert_eq!(world.ask(&post("/request", "bb22", &request_body("echo"))).status, 200);
    for uid in ["o1", "unknown"] {
        assert_eq!(world.ask(&post("/request", "bb22", &request_body(uid))).status, 404, "{uid}");
        assert_eq!(world.get(&format!("/v1/objects/{uid}"), "bb22").status, 404, "{uid}");
    }
    let list = world.get("/v1/objects", "bb22");
    assert_eq!(list.body, r#"{"objects":[{"uid":"echo","group":"Stations","state":"absent"}],"next":null}"#);
    // The list is everybody's, and so is what subscribers get.
    for path in
        ["/acl", "/v1/deadletters/drop?subscriber=a", "/v1/deadletters/replay?subscriber=a", "/v1/replay/a"]
    {
        let refused = world.connect().ask(&post(path, "cc33", "[]"));
        assert!(refused.status == 403 && refused.error().contains("without groups"), "{path}");
    }
}

#[test]
fn silent_connections_make_room_and_authenticated_ones_stay() {
    let few = Limits { max_connections: 4, max_unauthenticated: 4, max_unauthenticated_per_source: 2 };
    let world = world_with(settings(), few);
    let mut known = world.connect();
    assert_eq!(known.ask(&post("/request", CENTRAL, &request_body("echo"))).status, 200);
    let mut silent: Vec<_> = (0..10).map(|_| world.connect_from(Ipv4Addr::new(127, 0, 0, 2))).collect();
    let last = silent.split_off(8);
    for client in &mut silent {
        assert!(client.is_closed());
    }
    assert_eq!(world.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status, 200, "another source");
    assert_eq!(known.ask(&post("/request", CENTRAL, &request_body("echo"))).status, 200);
    drop(last);
    world.await_count(Cause::PushedOut, 8);
}

/// Failed keys slow only their own refusals down: a right one works at once.
#[test]
fn failed_keys_never_lock_a_source_out() {
    let world = world();
    for _ in 0..40 {
        assert_eq!(world.get("/v1/status", "0000").status, 401);
    }
    assert_eq!(world.get("/v1/status", "aa11").status, 200);
}
