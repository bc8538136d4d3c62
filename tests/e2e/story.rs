//! The user story: an object, its central over TCP, HTTPS and webhooks.

use std::thread;

use iotsocketd::wire::{CloseCode, Format, Payload, Transmission, Uid};
use serde_json::{Value, json};

use crate::support::{Act, Hooks, Said, Site, eventually, request, response};

/// Numbers that no f64 or u64 holds.
const NUMBERS: &str = r#"{"a":1e400,"b":12345678901234567890,"c":0.10,"d":-0}"#;

#[test]
fn an_object_logs_in_gets_its_token_first_and_its_telemetry_reaches_the_central_over_tcp() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let mut central = site.login(site.central());
    let (mut object, token) = site.login_with_token(pump);
    for (format, data) in [
        (Format::Json, NUMBERS.as_bytes()),
        (Format::Utf8, "21 °C".as_bytes()),
        (Format::Ascii, b"21 C"),
        (Format::Binary, &[0, 255, 7]),
        (Format::Binary, b""),
    ] {
        site.telemetry(token, format, data);
        assert_eq!(central.next(), Said::Telemetry { uid: pump.uid, format, data: data.to_vec() });
    }
    object.is_alive();
    eventually("the books close", || {
        central.is_alive();
        site.number("/books/delivered") == 5
    });
    assert_eq!((site.number("/books/received"), site.number("/books/waiting")), (5, 0));
}

#[test]
fn an_object_of_a_group_without_telemetry_gets_no_token() {
    let site = Site::new();
    let station = site.device("station", "Stations");
    site.start();
    let mut object = site.login(station);
    object.is_alive();
}

/// B12: a body of 60 bytes is answered at once. B18: every number and code comes back.
#[test]
fn the_central_calls_an_object_over_https_in_all_four_formats() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (mut object, _) = site.login_with_token(pump);
    let calls = [
        (Format::Json, "JSON", NUMBERS.to_owned(), NUMBERS.as_bytes().to_vec()),
        (Format::Utf8, "UTF8", "\"21 °C\"".to_owned(), "21 °C".as_bytes().to_vec()),
        (Format::Ascii, "ASCII", "\"on\"".to_owned(), b"on".to_vec()),
        (Format::Binary, "BINARY", "[0,255,7]".to_owned(), vec![0, 255, 7]),
    ];
    let echo = thread::spawn(move || {
        for code in [0, 1, 7, 255] {
            let Said::Request { uid: None, number, format, data } = object.next() else { panic!() };
            let payload = Payload::new(format, &data).unwrap();
            object.send(&Transmission::Response { uid: None, number, code, payload });
        }
        object
    });
    let mut http = site.http();
    for ((_, name, payload, _), code) in calls.iter().zip([0, 1, 7, 255]) {
        let body = format!("{{\"UID\":\"pump-1\",\"Payload\":{payload},\"Format\":\"{name}\"}}");
        let reply = http.post("/request", body.as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
        let text = reply.text();
        assert!(text.contains(payload.as_str()), "{payload} in {text}");
        assert!(text.contains(&format!("\"Format\":\"{name}\"")), "{text}");
        assert!(text.contains(&format!("\"Code\":{code}")), "{text}");
    }
    let _object = echo.join().unwrap();
}

#[test]
fn an_answer_that_is_not_what_its_format_says_is_502() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (mut object, _) = site.login_with_token(pump);
    let liar = thread::spawn(move || {
        let (number, _) = object.request();
        let payload = Payload::new(Format::Json, b"{no").unwrap();
        object.send(&Transmission::Response { uid: None, number, code: 0, payload });
        object
    });
    let reply = site.post("/request", &json!({"UID": "pump-1", "Payload": 1, "Format": "JSON"}));
    assert_eq!(reply.status, 502, "{}", reply.text());
    liar.join().unwrap().is_alive();
}

/// B15: what the central's webhook answers must reach the object.
#[test]
fn an_object_asks_and_the_request_webhook_answers() {
    let hooks = Hooks::start(|hook| match hook.body["Format"].as_str().unwrap() {
        "JSON" => Act::Answer(200, format!(r#"{{"Code":7,"Payload":{NUMBERS},"Format":"JSON"}}"#)),
        _ => Act::respond(0, json!("yes"), "UTF8"),
    });
    let site = Site::new();
    site.set("central.webhooks", "request", &hooks.url("/request"));
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (mut object, _) = site.login_with_token(pump);
    object.send(&request(None, 0, b"may I?"));
    assert_eq!(object.response(), (0, 0, b"yes".to_vec()));
    let payload = Payload::new(Format::Json, b"{\"t\":21.50}").unwrap();
    object.send(&Transmission::Request { uid: None, number: 65_535, payload });
    assert_eq!(object.response(), (65_535, 7, NUMBERS.as_bytes().to_vec()));
    let calls = hooks.wait(2);
    assert_eq!(calls[0].path, "/request");
    assert_eq!(calls[0].body, json!({"UID": "pump-1", "Payload": "may I?", "Format": "UTF8"}));
    let bearer = site.read("central.key").lines().last().unwrap().to_owned();
    assert!(calls[0].head.to_lowercase().contains(&format!("authorization: bearer {bearer}")));
}

#[test]
fn without_a_central_the_webhook_gets_telemetry_and_a_central_over_tcp_takes_it_over() {
    let hooks = Hooks::start(|_| Act::Answer(204, String::new()));
    let site = Site::new();
    site.set("central.webhooks", "telemetry", &hooks.url("/telemetry"));
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (_object, token) = site.login_with_token(pump);
    site.telemetry(token, Format::Utf8, b"first");
    let first = &hooks.wait(1)[0];
    assert_eq!(first.path, "/telemetry");
    assert_eq!(first.body, json!({"UID": "pump-1", "Payload": "first", "Format": "UTF8"}));

    let mut central = site.login(site.central());
    for number in 0..20_u8 {
        site.telemetry(token, Format::Binary, &[number]);
        assert_eq!(central.telemetry(), (pump.uid, vec![number]));
    }
    eventually("the central's pongs are in", || {
        central.is_alive();
        site.number("/books/waiting") == 0
    });
    assert_eq!(hooks.seen().len(), 1, "never both ways");
    // Kept is not live: what comes now goes to the webhook.
    central.leave(CloseCode::Sleep);
    eventually("the central is away", || site.status()["sessions"]["central"] == Value::Bool(false));
    site.telemetry(token, Format::Utf8, b"last");
    assert_eq!(hooks.wait(2)[1].body["Payload"], "last");
    assert_eq!(hooks.seen().len(), 2);
}

#[test]
fn an_http_caller_gets_its_answer_while_a_central_is_connected_over_tcp() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let mut central = site.login(site.central());
    let (mut object, _) = site.login_with_token(pump);
    thread::scope(|scope| {
        let caller = scope.spawn(|| site.call("pump-1", json!("over http"), "UTF8"));
        let (by_http, asked) = object.request();
        assert_eq!(asked, b"over http");
        // The central picks the very number that the HTTP call has at the object.
        central.send(&request(Some(pump.uid), by_http, b"over tcp"));
        let (by_tcp, asked) = object.request();
        assert_eq!(asked, b"over tcp");
        assert_ne!(by_http, by_tcp);
        object.send(&response(None, by_tcp, 2, b"to tcp"));
        assert_eq!(central.response(), (by_http, 2, b"to tcp".to_vec()));
        object.send(&response(None, by_http, 3, b"to http"));
        assert_eq!(caller.join().unwrap(), json!({"Code": 3, "Payload": "to http", "Format": "UTF8"}));
    });
    central.is_alive();
}

#[test]
fn the_central_and_an_object_ask_each_other_over_tcp() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let mut central = site.login(site.central());
    let (mut object, _) = site.login_with_token(pump);
    object.send(&request(None, 5, b"up"));
    let up = Said::Request { uid: Some(pump.uid), number: 5, format: Format::Utf8, data: b"up".to_vec() };
    assert_eq!(central.next(), up);
    central.send(&request(Some(pump.uid), 5, b"down"));
    let down = Said::Request { uid: None, number: 5, format: Format::Utf8, data: b"down".to_vec() };
    assert_eq!(object.next(), down);
    object.send(&response(None, 5, 0xFE, b"from below"));
    assert_eq!(central.response(), (5, 0xFE, b"from below".to_vec()));
    central.send(&response(Some(pump.uid), 5, 0x42, b"from above"));
    assert_eq!(object.response(), (5, 0x42, b"from above".to_vec()));
}

/// B17: the central's requests end at their deadline.
#[test]
fn who_is_not_there_is_160_and_who_is_silent_is_161() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.device("asleep", "Devices");
    site.set("sessions", "request_timeout", "\"1s\"");
    site.start();
    let nobody = |code: u8| json!({"Code": code, "Payload": null, "Format": "JSON"});
    assert_eq!(site.call("asleep", json!(1), "JSON"), nobody(0xA0));
    assert_eq!(site.call("stranger", json!(1), "JSON"), nobody(0xA0));
    let (mut object, _) = site.login_with_token(pump);
    // No central and no webhook: nobody takes the object's request.
    assert_eq!(object.ask(None, 1, b"anybody?"), (0xA0, vec![]));
    assert_eq!(site.call_for("pump-1", json!(1), "JSON", 1), nobody(0xA1));
    let mut central = site.login(site.central());
    let (late, _) = object.request();
    object.send(&response(None, late, 0, b"late"));
    assert_eq!(central.ask(Some(pump.uid), 9, b"?"), (0xA1, vec![]));
    assert_eq!(central.ask(Some(Uid::parse("asleep").unwrap()), 9, b"?"), (0xA0, vec![]));
    let (number, _) = object.request();
    object.send(&response(None, number, 0, b"late"));
    eventually("both late answers are counted", || site.refused("router.responses_unexpected") == 2);
    central.is_alive();
    object.is_alive();
}
