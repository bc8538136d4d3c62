//! What the routes give.

use std::net::TcpStream;
use std::time::Duration;

use super::world::*;

/// B12: a body of 60 bytes is answered at once, it need not fill any buffer.
#[test]
fn a_call_is_answered_with_what_the_object_says() {
    let world = world();
    let answered = world.post("/request", &request_body("echo"));
    assert_eq!(answered.status, 200);
    assert_eq!(answered.body, r#"{"Code":0,"Payload":{"t": 1.50},"Format":"JSON"}"#);
    assert_eq!(answered.headers["content-type"], "application/json");
    let binary = world.post("/request", r#"{"UID":"echo","Payload":[1,255],"Format":"BINARY","Timeout":7}"#);
    assert_eq!(binary.body, r#"{"Code":0,"Payload":[1,255],"Format":"BINARY"}"#);
    assert_eq!(*world.hub.timeouts.lock().unwrap(), [Duration::from_secs(30), Duration::from_secs(7)]);
}

#[test]
fn an_object_without_a_session_is_code_160_and_a_false_answer_is_502() {
    let world = world();
    let absent = world.post("/request", &request_body("absent"));
    assert_eq!((absent.status, &*absent.body), (200, r#"{"Code":160,"Payload":null,"Format":"JSON"}"#));
    let liar = world.post("/request", &request_body("liar"));
    assert_eq!(liar.status, 502);
    assert!(liar.error().contains("JSON"));
}

#[test]
fn bearer_tokens_are_taken_in_either_case() {
    let world = world();
    for token in [CENTRAL.to_ascii_uppercase().as_str(), CENTRAL, "bb22", "BB22"] {
        assert_eq!(world.ask(&post("/request", token, &request_body("echo"))).status, 200, "{token}");
    }
}

#[test]
fn objects_come_in_pages() {
    let world = world();
    let (mut path, mut seen) = ("/v1/objects?limit=3".to_owned(), Vec::new());
    loop {
        let page: serde_json::Value = serde_json::from_str(&world.get(&path, "aa11").body).unwrap();
        let objects = page["objects"].as_array().unwrap();
        assert!(!objects.is_empty() && objects.len() <= 3);
        seen.extend(objects.iter().map(|object| object["uid"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/v1/objects?limit=3&after={next}");
    }
    assert_eq!(seen, ["café/1", "echo", "o0", "o1", "o2", "o3", "o4"]);
    assert_eq!(world.get("/v1/objects/caf%C3%A9%2F1", "aa11").status, 200);
    assert_eq!(world.get("/v1/objects/caf%C3", "aa11").status, 404);
    for (query, name) in [("limit=0", "limit"), ("limit=x", "limit"), ("after=%ff", "after")] {
        let bad = world.get(&format!("/v1/objects?{query}"), "aa11");
        assert!(bad.status == 400 && bad.error().contains(name), "{query}");
    }
}

#[test]
fn health_needs_no_key_and_metrics_none_from_loopback() {
    let world = world();
    let open = |path: &str| world.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_eq!((open("/healthz").status, &*open("/healthz").body), (200, "ok"));
    let ready = open("/readyz");
    assert_eq!(
        (ready.status, &*ready.body, ready.headers.contains_key("retry-after")),
        (503, "starting", true)
    );
    assert!(open("/metrics").body.contains("iotsocketd_telemetry_received_total 0\n"));
    assert_eq!(open("/v1/status").status, 401);
    let status: serde_json::Value = serde_json::from_str(&world.get("/v1/status", "aa11").body).unwrap();
    assert_eq!((status["version"].as_str(), status["refusals"]["api.key"].as_u64()), (Some("9.9"), Some(1)));
}

#[test]
fn access_lists_are_replaced_or_refused_by_item_field_and_value() {
    let world = world();
    let list = |group: &str| format!(r#"[{{"GroupName":"{group}","UID":"a","AuthKey":"{CENTRAL}"}}]"#);
    let taken = world.post("/acl", &list("Devices"));
    assert_eq!((taken.status, &*taken.body), (200, ""));
    assert_eq!(world.hub.lists.lock().unwrap().len(), 1);
    let refused = world.post("/acl", &list("Nowhere"));
    assert_eq!(refused.status, 400);
    assert_eq!(refused.error(), "item 0: GroupName `Nowhere` is not a configured group");
    let full = world.post("/acl", "[]");
    assert_eq!((full.status, full.headers.contains_key("retry-after")), (503, true));
    let right = world.ask(&post("/acl", "aa11", "[]"));
    assert!(right.status == 403 && right.error().contains("admin"));
    assert_eq!(world.hub.lists.lock().unwrap().len(), 1);
}

#[test]
fn held_calls_are_answered_as_their_answers_come() {
    let world = world();
    let mut clients: Vec<_> = (0..5).map(|_| world.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(post("/request", CENTRAL, &request_body(&format!("hold{n}"))));
        assert_eq!(world.await_held(), Held::Begun(format!("hold{n}")));
    }
    for n in [3, 0, 4, 1, 2] {
        world.release(&format!("hold{n}"), n);
        let answered = clients[usize::from(n)].receive();
        assert_eq!(answered.body, format!(r#"{{"Code":{n},"Payload":null,"Format":"JSON"}}"#));
    }
}

#[test]
fn a_client_that_goes_away_abandons_its_call() {
    let world = world();
    let mut client = world.connect();
    client.send(post("/request", CENTRAL, &request_body("hold")));
    assert_eq!(world.await_held(), Held::Begun("hold".to_owned()));
    drop(client);
    assert_eq!(world.await_held(), Held::Abandoned);
}

#[test]
fn draining_answers_held_calls_and_closes_idle_connections() {
    let mut world = world();
    let mut idle = world.connect();
    assert_eq!(idle.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
    let mut held = world.connect();
    held.send(post("/request", CENTRAL, &request_body("hold")));
    assert_eq!(world.await_held(), Held::Begun("hold".to_owned()));
    world.server.drain();
    assert!(idle.is_closed());
    world.release("hold", 0xA1);
    let last = held.receive();
    assert_eq!((last.status, &*last.body), (200, r#"{"Code":161,"Payload":null,"Format":"JSON"}"#));
    assert!(held.is_closed());
    let refused = TcpStream::connect(world.address);
    assert!(refused.is_err(), "nobody listens any more");
}

#[test]
fn who_has_a_connection_open_is_answered_once_more_before_it_closes() {
    let mut world = world();
    let (mut used, mut fresh, mut idle) = (world.connect(), world.connect(), world.connect());
    let ask = post("/request", CENTRAL, &request_body("echo"));
    assert_eq!(used.ask(&ask).status, 200);
    assert_eq!(idle.ask(&ask).status, 200);
    world.server.say_goodbye();
    for client in [&mut used, &mut fresh] {
        let answered = client.ask(&ask);
        assert_eq!((answered.status, answered.headers["connection"].as_str()), (200, "close"));
        assert!(client.is_closed());
    }
    world.server.drain();
    assert!(idle.is_closed());
}
