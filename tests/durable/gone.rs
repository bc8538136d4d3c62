//! What became of messages that had to make room: told by their id and number, in an event, and over restarts.

use serde_json::{Value, json};

use crate::bounds::{flood, small_site};
use crate::central::{Session, Shared};
use crate::ledger::Books;
use crate::load::Object;
use crate::support::{Site, eventually, response};

fn message(site: &Site, name: &str) -> Value {
    let reply = site.http().get(&format!("/v1/messages/{name}"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn id_of(site: &Site, seq: u64) -> String {
    message(site, &seq.to_string())["id"].as_str().unwrap().to_owned()
}

/// The last event of its trace: what, to whom, why, when.
fn end(message: &Value) -> (String, String, String, String) {
    let last = message["events"].as_array().unwrap().last().unwrap();
    let [event, to, reason, time] =
        ["event", "to", "reason", "time"].map(|name| last[name].as_str().unwrap_or_default().to_owned());
    (event, to, reason, time)
}

#[test]
fn a_message_that_made_room_is_told_of_by_id_and_number_and_in_an_event() {
    let (site, mut objects) = small_site("drop-oldest");
    objects[0].send(950);
    let first = || site.http().get("/v1/messages?kind=telemetry").json()["messages"][0]["seq"].as_u64();
    eventually("the first is on flash", || first().is_some());
    let number = first().unwrap();
    let id = id_of(&site, number);
    assert_eq!(message(&site, &id)["state"], "waiting");
    flood(&site, &mut objects, 2 << 20, u64::MAX);
    eventually("it had to make room", || message(&site, &id)["state"] == "dropped");
    let told = || {
        let page = site.http().get("/v1/messages?kind=event&limit=1000").json();
        let mut all = page["messages"].as_array().unwrap().clone();
        all.retain(|event| event["payload"]["event"] == "messages_dropped");
        all
    };
    eventually("the event is on flash", || !told().is_empty());
    for restarted in [false, true] {
        if restarted {
            site.kill();
            site.start();
        }
        let by_id = message(&site, &id);
        assert_eq!((&by_id["seq"], &by_id["uid"]), (&json!(number), &Value::Null));
        assert_eq!(by_id["events"][0]["event"], "received");
        let (event, to, reason, time) = end(&by_id);
        assert_eq!((event.as_str(), to.as_str()), ("dropped", "central"));
        assert!(reason.starts_with("the journal was full; it is one of "), "{reason}");
        let received = by_id["events"][0]["time"].as_str().unwrap();
        assert!(time.as_str() > received && received > "2026", "{received} {time}");
        let by_number = message(&site, &number.to_string());
        assert_eq!((&by_number["state"], end(&by_number)), (&json!("dropped"), end(&by_id)));
        assert_eq!(site.http().get("/v1/messages/99999999").status, 404);
    }
    let ran = site.run(&["trace", &number.to_string()]);
    assert!(
        ran.out.contains("dropped") && ran.out.contains("the journal was full"),
        "{}{}",
        ran.out,
        ran.err
    );
    // One event for each time that room was made, not for each message; all that are left add up.
    let events = told();
    let last = &events.last().unwrap()["payload"];
    assert_eq!((&last["event"], &last["to"]), (&json!("messages_dropped"), &json!("central")));
    assert_eq!(
        (&last["reason"], &last["count"]),
        (&json!("the journal was full"), &last["groups"]["Devices"])
    );
    let told: u64 = events.iter().map(|event| event["payload"]["count"].as_u64().unwrap()).sum();
    let books = Books::of(&site);
    assert!(told <= books.made_room && events.len() as u64 * 20 < books.made_room, "{told} {books:?}");
    site.stop();
    let ran = site.run(&["trace", &id, "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&ran.out).unwrap()["state"],
        "dropped",
        "nothing runs: {}",
        ran.err
    );
}

#[test]
fn a_queued_command_goes_last_and_is_told_of_when_it_had_to_go() {
    let (site, mut objects) = small_site("drop-oldest");
    let valve = site.device("valve", "Stations");
    let queue = |payload: &str| {
        let asked = json!({"UID": "valve", "Payload": payload, "Format": "UTF8"});
        let reply = site.post("/v1/commands", &asked);
        assert_eq!(reply.status, 202, "{}", reply.text());
        reply.json()["id"].as_str().unwrap().to_owned()
    };
    eventually("the list is taken up", || site.http().get("/v1/objects/valve").status == 200);
    let (first, got) = (queue("open"), Shared::default());
    // What is delivered goes first, and there is enough of it.
    let central = Session::open(&site, &got).unwrap();
    flood(&site, &mut objects, 3 << 20, u64::MAX);
    eventually("all is delivered", || Books::of(&site).waiting == 0);
    eventually("older ones are gone", || site.http().get("/v1/messages/200").status == 404);
    assert_eq!(message(&site, &first)["state"], "waiting");
    let mut object = site.login(valve);
    let (number, asked) = object.request();
    assert_eq!(asked, b"open");
    object.send(&response(None, number, 0, b"opened"));
    eventually("its end is on flash", || message(&site, &first)["state"] == "delivered");
    drop(object);
    // Without a central nothing is delivered, so a command has to go, too.
    central.leave();
    let second = queue("close");
    flood(&site, &mut objects, 3 << 20, u64::MAX);
    eventually("it had to make room", || message(&site, &second)["state"] == "dropped");
    let (event, to, reason, _) = end(&message(&site, &second));
    assert_eq!((event.as_str(), to.as_str()), ("dropped", "commands"));
    assert!(reason.starts_with("the journal was full"), "{reason}");
    assert_eq!(site.number("/queue/commands"), 0);
}

/// The archive cannot keep up at all: what has to go goes, and it is said how much of it is nowhere else.
#[test]
fn what_goes_before_it_is_archived_is_told() {
    let site = Site::new();
    site.set("time", "trust", "\"always\"");
    site.set("journal", "max_size", "\"1MiB\"");
    site.set("journal", "on_expiry", "\"archive\"");
    // No folder can be made there.
    std::fs::write(site.path("blocked"), b"").unwrap();
    let blocked = site.path("blocked/archive");
    site.set("journal", "archive_dir", &format!("{blocked:?}"));
    let mut objects = [Object::new(&site, "pump-1")];
    site.start();
    objects[0].log_in(&site);
    flood(&site, &mut objects, 2 << 20, u64::MAX);
    let told = || site.http().get("/v1/messages?kind=event&limit=1000").json();
    let is_it = |event: &Value| event["payload"]["event"] == "messages_unarchived";
    eventually("it is told", || told()["messages"].as_array().unwrap().iter().any(is_it));
    let events = told();
    let event = events["messages"].as_array().unwrap().iter().find(|event| is_it(event)).unwrap();
    assert!(event["payload"]["count"].as_u64() > Some(10), "{event}");
}
