//! What partner networks bring: kept before it is answered, handed on like any telemetry, once, over kills.

use serde_json::{Value, json};

use crate::support::{Act, Hook, Hooks, Reply, Site, eventually};

/// A network whose objects are those of Devices.
fn source(site: &Site, name: &str, format: &str, more: &str) {
    site.append(&format!("[ingest.{name}]\nformat = \"{format}\"\ngroup = \"Devices\"\n{more}"));
}

pub fn bring(site: &Site, source: &str, body: &Value) -> Reply {
    site.post(&format!("/v1/ingest/{source}"), body)
}

/// Brings a message that is taken, and gives its id.
pub fn id_of(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["id"].as_str().unwrap().to_owned()
}

fn plain(uid: &str, payload: Value) -> Value {
    json!({"UID": uid, "Payload": payload, "Format": "JSON"})
}

fn uplink(number: u64) -> Value {
    json!({"device": "1B4C7E", "time": 1_795_287_162 + number, "data": format!("{number:04x}"), "seqNumber": number})
}

pub fn message(site: &Site, id: &str) -> Value {
    let reply = site.http().get(&format!("/v1/messages/{id}"));
    assert_eq!(reply.status, 200, "{id}: {}", reply.text());
    reply.json()
}

pub fn messages(site: &Site, query: &str) -> Vec<Value> {
    let page = site.http().get(&format!("/v1/messages?limit=1000&{query}")).json();
    page["messages"].as_array().unwrap().clone()
}

/// The names of what happened to a message.
pub fn events(message: &Value) -> Vec<&str> {
    message["events"].as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap()).collect()
}

pub fn take_all(_: &Hook) -> Act {
    Act::Answer(200, String::new())
}

#[test]
fn a_message_goes_to_the_central_by_its_session_and_by_its_webhook() {
    let hooks = Hooks::start(take_all);
    let site = Site::new();
    source(&site, "net", "sigfox", "");
    source(&site, "own", "plain", "");
    site.set("central.webhooks", "telemetry", &hooks.url("/telemetry"));
    site.start();
    let first = id_of(&bring(&site, "net", &uplink(7)));
    let hook = hooks.wait(1).remove(0);
    assert_eq!(hook.body, json!({"UID": "1B4C7E", "Payload": [0, 7], "Format": "BINARY"}));
    let mut central = site.login(site.central());
    let second = id_of(&bring(&site, "own", &plain("boiler", json!({"t": 21.5}))));
    let (uid, data) = central.telemetry();
    assert_eq!((uid.as_str(), data.as_slice()), ("boiler", br#"{"t":21.5}"#.as_slice()));
    for id in [&first, &second] {
        eventually("it is delivered", || {
            // Answers the ping behind it.
            central.is_alive();
            message(&site, id)["state"] == "delivered"
        });
    }
    let told = message(&site, &first);
    assert_eq!(
        (&told["via"], &told["source"], &told["group"]),
        (&json!("ingest"), &json!("net"), &json!("Devices"))
    );
    assert_eq!((&told["network"]["counter"], &told["kind"]), (&json!(7), &json!("telemetry")));
    assert_eq!(events(&told), ["received", "stored", "delivered"]);
    assert_eq!(site.number("/books/received"), 2);
}

#[test]
fn a_second_try_is_the_first_message_over_a_kill_too() {
    let hooks = Hooks::start(take_all);
    let site = Site::new();
    source(&site, "net", "sigfox", "");
    site.set("central.webhooks", "telemetry", &hooks.url("/telemetry"));
    site.start();
    let first = id_of(&bring(&site, "net", &uplink(7)));
    let again = bring(&site, "net", &uplink(7));
    assert_eq!((id_of(&again), &again.json()["duplicate"]), (first.clone(), &json!(true)));
    site.kill();
    site.start();
    let again = bring(&site, "net", &uplink(7));
    assert_eq!((id_of(&again), &again.json()["duplicate"]), (first.clone(), &json!(true)));
    let more = json!({"device": "1B4C7E", "time": 1_795_287_169, "seqNumber": 7, "lqi": "GOOD",
        "computedLocation": {"lat": 48.85, "lng": 2.35}});
    let merged = bring(&site, "net", &more);
    assert_eq!((id_of(&merged), &merged.json()["merged"]), (first.clone(), &json!(true)));
    site.kill();
    site.start();
    let again = bring(&site, "net", &more);
    assert_eq!((id_of(&again), &again.json()["duplicate"]), (first.clone(), &json!(true)), "told once");
    let next = id_of(&bring(&site, "net", &uplink(8)));
    assert_eq!(site.refused("ingest.duplicate"), 1, "of this run");
    eventually("it is delivered", || message(&site, &next)["state"] == "delivered");
    let payloads: Vec<Value> = hooks.seen().iter().map(|hook| hook.body["Payload"].clone()).collect();
    // At least once: the kills may have come before it was recorded that the first arrived.
    assert_eq!(payloads.iter().filter(|payload| **payload == json!([0, 8])).count(), 1, "{payloads:?}");
    assert_eq!(messages(&site, "kind=telemetry").len(), 2);
    let told = message(&site, &first);
    let mut counted = events(&told);
    counted.sort_unstable();
    let wanted = ["delivered", "duplicate", "duplicate", "duplicate", "merged", "received", "stored"];
    assert_eq!(counted, wanted, "{told:#}");
    let merged = told["events"].as_array().unwrap().iter().find(|event| event["event"] == "merged").unwrap();
    assert_eq!(merged["network"]["radio"]["lqi"], "GOOD", "{merged}");
    let record = message(&site, merged["id"].as_str().unwrap());
    assert_eq!((&record["kind"], &record["network"]["merged"]), (&json!("event"), &json!(first)));
    assert_eq!(site.number("/books/received"), 2, "what is no message of its own is in no book");
}

#[test]
fn rules_of_a_group_are_told_to_who_brings() {
    let site = Site::new();
    source(&site, "own", "plain", "");
    for (key, value) in [("validate", "\"format\""), ("max_payload", "\"10B\""), ("rate", "\"2/s\"")] {
        site.set("groups.Devices", key, value);
    }
    site.append("[groups.Quiet]\ntelemetry = false\n[ingest.quiet]\ngroup = \"Quiet\"");
    site.start();
    let of = |payload: &str| json!({"UID": "a", "Payload": payload, "Format": "UTF8"});
    let large = bring(&site, "own", &of("01234567890"));
    assert_eq!(large.status, 422);
    assert!(large.text().contains("Devices") && large.text().contains("11 bytes"), "{}", large.text());
    // At the same moment, so that the rate is exact.
    let batch = json!([of("0123456789"), of("x"), of("x"), plain("b", json!(1))]);
    let results = bring(&site, "own", &batch).json()["results"].clone();
    for taken in [0, 1, 3] {
        assert!(results[taken]["id"].is_string(), "{results}");
    }
    assert!(results[2]["error"].as_str().unwrap().contains("try again later"), "{results}");
    assert_eq!(bring(&site, "quiet", &plain("c", json!(1))).status, 422);
    for (cause, count) in [("payload_too_large", 1), ("rate_exceeded", 1)] {
        assert_eq!(site.refused(&format!("router.{cause}")), count, "{cause}");
    }
    assert_eq!(site.refused("ingest.refused"), 3);
    assert_eq!(messages(&site, "kind=telemetry").len(), 3);
}

/// A network knows one answer for all that it posted. What can be told from its second try is asked for again.
#[test]
fn a_batch_that_is_too_fast_for_an_object_is_asked_for_again_if_that_brings_nothing_twice() {
    let site = Site::new();
    source(&site, "net", "sigfox", "");
    source(&site, "own", "plain", "");
    site.set("groups.Devices", "rate", "\"2/s\"");
    site.start();
    let other = json!({"device": "AA", "time": 1_795_287_162, "data": "01", "seqNumber": 1});
    let batch = json!([uplink(1), uplink(2), uplink(3), uplink(4), other]);
    let late = bring(&site, "net", &batch);
    assert_eq!(late.status, 429, "{}", late.text());
    assert!(late.head.contains("retry-after: 1"), "{}", late.head);
    let results = late.json()["results"].clone();
    assert!(results[3]["error"].as_str().unwrap().contains("Devices"), "{results}");
    let first = results[0]["id"].clone();
    assert!(first.is_string() && results[4]["id"].is_string(), "{results}");
    let mut last = late;
    eventually("all of it is taken", || {
        if last.status == 429 {
            last = bring(&site, "net", &batch);
        }
        last.status == 200
    });
    let again = last.json()["results"][0].clone();
    assert_eq!((&again["id"], &again["duplicate"]), (&first, &json!(true)));
    assert_eq!(messages(&site, "kind=telemetry").len(), 5, "each once");
    // Nothing would tell these from their second try.
    let batch =
        json!([plain("a", json!(1)), plain("a", json!(2)), plain("a", json!(3)), plain("a", json!(4))]);
    let told = bring(&site, "own", &batch);
    assert_eq!(told.status, 200, "{}", told.text());
    assert!(told.json()["results"][3]["error"].is_string(), "{}", told.text());
}

#[test]
fn a_source_comes_and_goes_with_the_configuration() {
    let site = Site::started();
    assert_eq!(bring(&site, "own", &plain("a", json!(1))).status, 404);
    source(&site, "own", "plain", "");
    site.signal("HUP");
    eventually("the source is there", || bring(&site, "own", &plain("a", json!(1))).status == 200);
}

#[test]
fn the_examples_of_the_readme_are_taken() {
    const README: &str = include_str!("../../README.md");
    let site = Site::new();
    for (format, more) in [
        ("plain", ""),
        ("sigfox", ""),
        ("tts", ""),
        ("chirpstack", ""),
        ("thingpark", ""),
        ("1nce", ""),
        ("liveobjects", ""),
        ("generic", "map = { uid = \"/d\", payload = \"/p\", id = \"/n\" }"),
    ] {
        source(&site, format, format, more);
    }
    site.start();
    let mut examples = 0;
    for line in README.lines().filter(|line| line.starts_with("post ")) {
        let (name, body) = line[5..].split_once(" '{").unwrap();
        let body = format!("{{{}", body.rsplit_once("}'").unwrap().0) + "}";
        let path = format!("/v1/ingest/{}", name.trim_matches('\''));
        let reply = site.http().post(&path, body.as_bytes());
        assert_eq!(
            (reply.status, &reply.json()["quarantined"]),
            (200, &Value::Null),
            "{line}: {}",
            reply.text()
        );
        examples += 1;
    }
    assert_eq!((examples, messages(&site, "kind=telemetry").len()), (8, 8));
}

/// No room, no 200; what the network tries again is taken once there is room.
#[test]
fn a_full_journal_says_when_to_try_again_and_takes_it_later() {
    let site = Site::new();
    source(&site, "own", "plain", "");
    site.set("journal", "max_size", "\"1MiB\"");
    site.set("journal", "on_full", "\"refuse-new\"");
    site.start();
    let large = |number: usize| json!({"UID": "a", "Payload": format!("{number:030000}"), "Format": "UTF8"});
    let mut taken = 0;
    let refused = loop {
        let reply = bring(&site, "own", &large(taken));
        match reply.status {
            200 => taken += 1,
            _ => break reply,
        }
        assert!(taken < 100, "more than a MiB");
    };
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.head.contains("retry-after: 30") && refused.text().contains("full"), "{}", refused.head);
    let quarantined = bring(&site, "own", &json!({}));
    assert_eq!(quarantined.status, 503, "what would be kept is not, either");
    assert_eq!(messages(&site, "kind=telemetry").len(), taken, "what was answered 200 and nothing else");
    assert_eq!(site.number("/books/received"), taken as u64, "what was not taken is in no book");
    let mut central = site.login(site.central());
    (0..taken).for_each(|_| _ = central.telemetry());
    eventually("there is room again", || {
        central.is_alive();
        bring(&site, "own", &large(taken)).status == 200
    });
}
