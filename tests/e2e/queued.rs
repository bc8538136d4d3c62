//! Queued commands, and what survives `kill -9`: over real sockets, with the real binary.

use iotsocketd::wire::{CloseCode, Format};
use serde_json::{Value, json};

use crate::support::{Act, Hooks, Site, eventually, request, response};

fn queue(site: &Site, body: &Value) -> String {
    let reply = site.post("/v1/commands", body);
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.json()["id"].as_str().unwrap().to_owned()
}

fn message(site: &Site, id: &str) -> Value {
    site.http().get(&format!("/v1/messages/{id}")).json()
}

fn valve(payload: &str) -> Value {
    json!({"UID": "valve", "Payload": payload, "Format": "UTF8"})
}

#[test]
fn a_command_waits_over_a_kill_and_its_answer_is_in_the_trace_and_at_the_webhook() {
    let site = Site::new();
    let device = site.device("valve", "Devices");
    let hooks = Hooks::start(|_| Act::respond(0, Value::Null, "JSON"));
    site.set("central.webhooks", "result", &hooks.url("/result"));
    site.start();
    let first = queue(&site, &valve("open"));
    let second = queue(&site, &valve("close"));
    assert_eq!(message(&site, &first)["state"], "waiting");
    site.kill();
    site.start();
    let (mut object, _) = site.login_with_token(device);
    let (number, asked) = object.request();
    assert_eq!(asked, b"open");
    // The session ends for good before it answers: it is sent again.
    object.leave(CloseCode::Maintenance);
    let (mut object, _) = site.login_with_token(device);
    let (again, asked) = object.request();
    assert_eq!(asked, b"open", "first {number}, now {again}");
    object.send(&response(None, again, 7, b"opened"));
    let (number, asked) = object.request();
    assert_eq!(asked, b"close");
    object.send(&response(None, number, 0, b"closed"));
    let said = hooks.wait(2);
    let bodies: Vec<Value> = said.iter().map(|hook| hook.body.clone()).collect();
    let answer = |id: &str, code: u8, payload: &str| json!({"UID": "valve", "Id": id, "Code": code, "Payload": payload, "Format": "UTF8"});
    assert_eq!(bodies, [answer(&first, 7, "opened"), answer(&second, 0, "closed")]);
    eventually("the end is on flash", || message(&site, &first)["state"] == "delivered");
    let traced = message(&site, &first);
    let events = traced["events"].as_array().unwrap();
    let sent = events.iter().find(|event| event["event"] == "sent").unwrap();
    assert_eq!((&sent["attempt"], &sent["to"]), (&json!(2), &json!("valve")));
    let delivered = events.last().unwrap();
    assert_eq!((&delivered["event"], &delivered["code"]), (&json!("delivered"), &json!(7)));
    assert_eq!(delivered["payload"], "opened");
    eventually("the other's is, too", || message(&site, &second)["state"] == "delivered");
    site.kill();
    site.start();
    let (mut object, _) = site.login_with_token(device);
    object.is_alive();
    assert_eq!(message(&site, &second)["state"], "delivered", "and is not sent again");
}

#[test]
fn keys_deadlines_and_names_do_what_they_say() {
    let site = Site::new();
    let device = site.device("valve", "Devices");
    site.set("time", "trust", "\"always\"");
    site.start();
    let mut http = site.http();
    http.header = Some(("Idempotency-Key".to_owned(), "k1".to_owned()));
    let mut post = |body: &Value| http.post("/v1/commands", body.to_string().as_bytes());
    let named = |payload: &str| json!({"UID": "valve", "Payload": payload, "Format": "UTF8", "Supersedes": "position"});
    let first = post(&named("10"));
    let again = post(&named("10"));
    assert_eq!((first.status, again.status, first.text()), (202, 202, again.text()));
    assert_eq!(post(&named("11")).status, 409);
    let first = first.json()["id"].as_str().unwrap().to_owned();
    let short = queue(&site, &json!({"UID": "valve", "Payload": "late", "Format": "UTF8", "Deadline": 1}));
    let newer = queue(&site, &named("20"));
    assert_eq!(message(&site, &first)["state"], "dropped");
    eventually("its time is up", || message(&site, &short)["state"] == "expired");
    site.kill();
    site.start();
    let mut http = site.http();
    http.header = Some(("Idempotency-Key".to_owned(), "k1".to_owned()));
    let after = http.post("/v1/commands", named("10").to_string().as_bytes());
    assert_eq!((after.status, after.json()["id"].as_str()), (202, Some(first.as_str())));
    let (mut object, _) = site.login_with_token(device);
    let (number, asked) = object.request();
    assert_eq!(asked, b"20", "only the newest of its name");
    object.send(&response(None, number, 0, b""));
    eventually("it is delivered", || message(&site, &newer)["state"] == "delivered");
    let unknown = json!({"UID": "nobody", "Payload": "x", "Format": "UTF8"});
    assert_eq!(site.post("/v1/commands", &unknown).status, 404);
}

/// A token, a kept session and a call that waits for it survive; the object's answer finds the central.
#[test]
fn tokens_sessions_and_waiting_calls_survive_a_kill() {
    let site = Site::new();
    let device = site.device("valve", "Devices");
    site.start();
    let mut central = site.login(site.central());
    let (object, token) = site.login_with_token(device);
    drop(object);
    eventually("it is kept", || site.number("/sessions/kept") == 1);
    central.send(&request(Some(device.uid), 9, b"waits"));
    central.is_alive();
    // Within the commit interval it is on flash.
    let size = || site.number("/books/received");
    site.telemetry(token, Format::Utf8, b"1");
    central.telemetry();
    eventually("the record behind it is on flash", || {
        let page = site.http().get("/v1/messages?kind=telemetry").json();
        page["messages"].as_array().is_some_and(|messages| messages.len() == 1)
    });
    site.kill();
    site.start();
    assert_eq!(site.number("/sessions/kept"), 1);
    assert_eq!(size(), 1);
    let mut central = site.login(site.central());
    site.telemetry(token, Format::Utf8, b"2");
    let mut seen = central.telemetry().1;
    if seen == b"1" {
        // Its pong was not recorded before the kill: at least once.
        seen = central.telemetry().1;
    }
    assert_eq!(seen, b"2", "the token is still valid");
    let (mut object, _) = site.login_with_token(device);
    let (number, asked) = object.request();
    assert_eq!((number, asked), (9, b"waits".to_vec()));
    object.send(&response(None, number, 0, b"done"));
    assert_eq!(central.response(), (9, 0, b"done".to_vec()));
}

/// Keys and groups that are changed while nothing runs: what was given for the old ones is over.
#[test]
fn a_key_or_group_changed_while_nothing_runs_ends_tokens_and_sessions() {
    let site = Site::new();
    site.append("[groups.Others]\n");
    let devices = ["same", "rekeyed", "moved", "removed"].map(|name| site.device(name, "Devices"));
    site.start();
    let tokens = devices.map(|device| site.login_with_token(device).1);
    eventually("all are kept", || site.number("/sessions/kept") == 4);
    for token in tokens {
        site.telemetry(token, Format::Utf8, b"before");
    }
    eventually("all tokens are valid", || site.number("/books/received") == 4);
    site.kill();
    let mut list: Value = serde_json::from_str(&site.read("state/acl.json")).unwrap();
    list["rekeyed"]["AuthKey"] = list["same"]["AuthKey"].clone();
    list["moved"]["GroupName"] = json!("Others");
    list.as_object_mut().unwrap().remove("removed");
    site.write_acl(&list);
    // What is zero is left out.
    let wrong_tokens = || site.status()["refusals"]["telemetry.wrong_token"].as_u64().unwrap_or(0);
    for _ in 0..2 {
        site.start();
        assert_eq!(site.number("/sessions/kept"), 1, "only that of whom nothing was changed");
        let before = (site.number("/books/received"), wrong_tokens());
        for token in tokens {
            site.telemetry(token, Format::Utf8, b"after");
        }
        eventually("one token is valid", || {
            (site.number("/books/received"), wrong_tokens()) == (before.0 + 1, before.1 + 3)
        });
        site.kill();
    }
    // The central's key is looked at, too.
    site.start();
    drop(site.login(site.central()));
    eventually("its session is kept", || site.status()["sessions"]["central"] == false);
    site.stop();
    assert!(!site.log().contains("event=rights_changed count=1"));
    let key = iotsocketd::hub::access_file::key_to_hex(&site.stranger("x").key);
    std::fs::write(site.path("central.key"), key + "\n").unwrap();
    site.start();
    assert!(site.log().contains("event=rights_changed count=1"), "{}", site.log());
}
