//! What partner networks bring, over the API: who may, what is answered, what is on flash.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use iotsocketd::endpoint::http::Cause;
use iotsocketd::endpoint::http::api::Settings;
use iotsocketd::endpoint::http::auth::{Keys, Right};
use iotsocketd::endpoint::http::ingest::{Door, Doors};
use iotsocketd::hub::intake::{Arrival, IntakeError, QUARANTINE_MAX, Receipt};
use iotsocketd::ingest::{Mapped, NetworkFormat, Objects, Source};
use iotsocketd::wire::{AuthKey, Format, GroupName};
use serde_json::{Value, json};

use super::fake_history::id;
use super::world::*;

/// "net:sesame" in base64.
const BASIC: &str = "bmV0OnNlc2FtZQ==";

fn group(name: &str) -> GroupName {
    GroupName::parse(name).unwrap()
}

/// Doors of several networks; the group of objects that are not listed is Devices.
fn doors() -> Doors {
    let source = |name: &str, format| Source { group: Some(group("Devices")), ..Source::new(name, format) };
    let doors = [
        Door::new(source("plain", NetworkFormat::Plain), Some(("net", "sesame"))),
        Door::new(source("sigfox", NetworkFormat::Sigfox), None),
        Door::new(source("tts", NetworkFormat::Tts), None),
        Door::new(source("beam", NetworkFormat::Soracom), None),
        Door::new(
            Source { objects: Objects::Listed, group: None, ..source("listed", NetworkFormat::Plain) },
            None,
        ),
        Door::new(Source { rate: 2, ..source("slow", NetworkFormat::Plain) }, None),
        Door::new(Source { max_body: 100, ..source("small", NetworkFormat::Plain) }, None),
        Door::new(Source { max_body: 1 << 20, ..source("large", NetworkFormat::Plain) }, None),
        Door::new(
            Source { allow_from: networks(&["192.0.2.0/24"]), ..source("far", NetworkFormat::Plain) },
            None,
        ),
    ];
    doors.into_iter().map(|door| (door.source.name.clone(), Arc::new(door))).collect()
}

fn with_doors() -> Settings {
    let keys = [
        key("reader", "aa11", &[Right::Read], &[], &[]),
        key("stations", "bb22", &Right::ALL, &["Stations"], &[]),
        key("partner", "ee55", &[Right::Ingest], &[], &[]),
        key("foreman", "ff66", &[Right::Admin], &["Devices"], &[]),
    ];
    let keys = Keys::new("test", &AuthKey::parse(CENTRAL).unwrap(), keys);
    Settings { ingest: doors(), keys, ..settings() }
}

fn ingesting() -> World {
    world_with(with_doors(), limits())
}

fn body(uid: &str) -> String {
    format!(r#"{{"UID":"{uid}","Payload":{{"t": 21.50}},"Format":"JSON"}}"#)
}

fn bring(world: &World, source: &str, body: &str) -> Answered {
    world.ask(&post(&format!("/v1/ingest/{source}"), "ee55", body))
}

fn parsed(answered: &Answered) -> Value {
    serde_json::from_str(&answered.body).unwrap_or_else(|_| panic!("{answered:?}"))
}

/// Everything that was taken as a message.
fn messages(world: &World) -> Vec<(GroupName, Mapped)> {
    let taken = world.intake.taken().into_iter();
    taken
        .filter_map(|(_, arrival)| match arrival {
            Arrival::Message { group, mapped } => Some((group, mapped)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_message_is_answered_with_its_id() {
    let world = ingesting();
    let answered = bring(&world, "plain", &body("o1"));
    assert_eq!((answered.status, parsed(&answered)), (200, json!({"id": id(1).to_string()})));
    let [(of, mapped)] = <[_; 1]>::try_from(messages(&world)).unwrap();
    assert_eq!((of, mapped.uid.as_str(), mapped.format), (group("Devices"), "o1", Format::Json));
    assert_eq!(mapped.payload, br#"{"t": 21.50}"#);
    assert_eq!(world.intake.taken()[0].0, "plain");
}

/// The answer is the proof: nothing is said before the intake says that it is on flash.
#[test]
fn nothing_is_answered_before_it_is_on_flash() {
    let world = ingesting();
    world.intake.hold();
    let mut client = world.connect();
    client.send(post("/v1/ingest/plain", "ee55", &body("o1")));
    world.intake.await_waiting(PATIENCE);
    client.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let early = std::io::Read::read(&mut client.stream, &mut [0; 1]).unwrap_err();
    assert!(matches!(early.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{early}");
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    world.intake.release();
    assert_eq!(client.receive().status, 200);
}

#[test]
fn an_intake_that_takes_nothing_asks_to_try_again() {
    let world = ingesting();
    for (failure, seconds) in [
        (IntakeError::Starting, "1"),
        (IntakeError::Busy, "1"),
        (IntakeError::Full, "30"),
        (IntakeError::ReadOnly, "30"),
    ] {
        world.intake.fail(Some(failure));
        let answered = bring(&world, "plain", &body("o1"));
        assert_eq!((answered.status, answered.headers["retry-after"].as_str()), (503, seconds));
        let quarantined = bring(&world, "plain", "{}");
        assert_eq!(quarantined.status, 503, "what would be kept is not, either");
    }
    world.intake.fail(None);
    assert_eq!(bring(&world, "plain", &body("o1")).status, 200);
    assert_eq!(world.api.refusals.get(Cause::Storage), 8);
}

#[test]
fn refusals_come_in_their_order() {
    let world = ingesting();
    let ask = |method: &str, path: &str, authorization: &str, rest: &str| {
        world.ask(&format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n{rest}\r\n"
        ))
    };
    let wrong_body = "Content-Type: text/html\r\nContent-Length: 9999999\r\n";
    let unknown = ask("PUT", "/v1/ingest/nobody", "Bearer 00", wrong_body);
    let far = ask("PUT", "/v1/ingest/far", "Bearer 00", wrong_body);
    assert_eq!(
        (far.status, &far.body),
        (401, &unknown.body),
        "no stranger is told that there is such a source"
    );
    assert_eq!(unknown.status, 401, "key before route");
    let known = ask("PUT", "/v1/ingest/plain", "Bearer 00", wrong_body);
    assert_eq!(known.headers["www-authenticate"], unknown.headers["www-authenticate"]);
    let method = ask("GET", "/v1/ingest/nobody", "Bearer aa11", "");
    assert_eq!((method.status, method.headers["allow"].as_str()), (405, "POST"));
    assert_eq!(
        ask("POST", "/v1/ingest/nobody", "Bearer aa11", wrong_body).status,
        403,
        "right before source"
    );
    assert_eq!(ask("POST", "/v1/ingest/nobody", "Bearer ee55", wrong_body).status, 404, "source before body");
    let far = ask("POST", "/v1/ingest/far", "Bearer ee55", wrong_body);
    assert!(far.status == 403 && far.error().contains("[ingest.far] allow_from"), "networks before body");
    assert_eq!(ask("POST", "/v1/ingest/", "Bearer ee55", wrong_body).status, 404);
    assert_eq!(ask("POST", "/v1/ingest/plain", "Bearer ee55", wrong_body).status, 415, "type before length");
    let json = "Content-Type: application/json\r\n";
    let large = format!("{json}Content-Length: 9999999\r\n");
    assert_eq!(ask("POST", "/v1/ingest/plain", "Bearer ee55", &large).status, 413);
    assert_eq!(ask("POST", "/v1/ingest/plain", "Bearer ee55", json).status, 411);
    let empty = format!("{json}Content-Length: 0\r\n");
    assert_eq!(ask("POST", "/v1/ingest/plain", "Bearer ee55", &empty).status, 400);
    assert!(world.intake.taken().is_empty());
}

#[test]
fn basic_credentials_open_their_own_door() {
    let world = ingesting();
    let with = |source: &str, authorization: &str| {
        let request = post(&format!("/v1/ingest/{source}"), "x", &body("o1"));
        world.ask(&request.replace("Bearer x", authorization)).status
    };
    assert_eq!(with("plain", &format!("Basic {BASIC}")), 200);
    assert_eq!(with("plain", "Basic bmV0Ondyb25n"), 401);
    assert_eq!(with("tts", &format!("Basic {BASIC}")), 401, "another door");
    assert_eq!(with("nobody", &format!("Basic {BASIC}")), 401);
    let status = format!("GET /v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {BASIC}\r\n\r\n");
    assert_eq!(world.ask(&status).status, 401);
    assert_eq!(world.api.refusals.get(Cause::Key), 4);
}

#[test]
fn networks_of_a_source_are_held_at_its_door() {
    let mut settings = with_doors();
    let source = Source { group: Some(group("Devices")), ..Source::new("near", NetworkFormat::Plain) };
    let source = Source { allow_from: networks(&["127.0.0.2"]), ..source };
    settings.ingest.insert("near".to_owned(), Arc::new(Door::new(source, None)));
    let world = world_with(settings, limits());
    let request = post("/v1/ingest/near", "ee55", &body("o1"));
    assert_eq!(world.ask(&request).status, 403);
    assert_eq!(world.connect_from(Ipv4Addr::new(127, 0, 0, 2)).ask(&request).status, 200);
}

#[test]
fn what_is_not_json_is_refused_and_what_cannot_be_mapped_is_kept() {
    let world = ingesting();
    for wrong in ["{", "hello", "[]", "{} {}"] {
        assert_eq!(bring(&world, "plain", wrong).status, 400, "{wrong}");
    }
    assert!(world.intake.taken().is_empty());
    for (wrong, fault) in [
        ("{}", "missing"),
        (r#"{"UID":"12345678901234567","Payload":1,"Format":"JSON"}"#, "identity"),
        (r#"{"UID":"a","Payload":[256],"Format":"BINARY"}"#, "payload"),
        (r#"{"UID":"a","Payload":1,"Format":"XML"}"#, "kind"),
    ] {
        let answered = bring(&world, "plain", wrong);
        assert_eq!(answered.status, 200);
        let answer = parsed(&answered);
        assert_eq!(answer["quarantined"], fault);
        assert!(answer["reason"].is_string() && answer["id"].is_string());
        let (_, Arrival::Quarantine { kept, raw, group: of }) = world.intake.taken().pop().unwrap() else {
            panic!("{wrong} came in")
        };
        assert_eq!(
            (raw.as_slice(), kept.fault.as_str(), of),
            (wrong.as_bytes(), fault, Some(group("Devices")))
        );
        assert_eq!(world.api.status().refusals[&format!("ingest.{fault}")], 1);
    }
}

#[test]
fn bodies_have_the_bound_of_their_source_and_the_quarantine_its_own() {
    let world = ingesting();
    let padded = |len: usize| format!("{}{}", body("o1"), " ".repeat(len - body("o1").len()));
    assert_eq!(bring(&world, "small", &padded(100)).status, 200);
    assert_eq!(bring(&world, "small", &padded(101)).status, 413);
    let unmappable = |len: usize| format!("\"{}\"", "x".repeat(len - 2));
    assert_eq!(bring(&world, "large", &unmappable(QUARANTINE_MAX)).status, 200);
    assert_eq!(bring(&world, "large", &unmappable(QUARANTINE_MAX + 1)).status, 413);
    assert_eq!(world.intake.taken().len(), 2);
}

#[test]
fn a_second_try_is_answered_with_the_first_id() {
    let world = ingesting();
    let uplink = r#"{"device":"1B4C7E","time":1795287162,"data":"01","seqNumber":7}"#;
    let first = bring(&world, "sigfox", uplink);
    assert_eq!(parsed(&first), json!({"id": id(1).to_string()}));
    let again = bring(&world, "sigfox", uplink);
    assert_eq!((again.status, parsed(&again)), (200, json!({"id": id(1).to_string(), "duplicate": true})));
    let more = bring(&world, "sigfox", r#"{"device":"1B4C7E","time":1795287162,"seqNumber":7,"lqi":"GOOD"}"#);
    assert_eq!(parsed(&more), json!({"id": id(1).to_string(), "merged": true}));
    assert_eq!(messages(&world).len(), 1);
    let counts = world.api.status().refusals;
    assert_eq!((counts["ingest.duplicate"], counts["ingest.merged"]), (1, 1));
}

#[test]
fn networks_get_the_answers_that_they_need() {
    let world = ingesting();
    let bidir = bring(
        &world,
        "sigfox",
        r#"{"device":"1B4C7E","time":1795287162,"data":"01","seqNumber":7,"ack":true}"#,
    );
    assert_eq!((bidir.status, bidir.body.as_str()), (204, ""), "nothing that could be taken for a downlink");
    let form = "device=1B4C7E&time=1795287163&data=02&seqNumber=8";
    let form = post("/v1/ingest/sigfox", "ee55", form)
        .replace("application/json", "application/x-www-form-urlencoded");
    assert_eq!(world.ask(&form).status, 200);
    let join = bring(&world, "tts", r#"{"end_device_ids":{},"join_accept":{}}"#);
    assert_eq!((join.status, parsed(&join)), (200, json!({"ignored": "join_accept"})));
    let by_query = r#"{"uplink_message":{"f_cnt":1},"received_at":"2026-11-21T18:52:42Z"}"#;
    assert_eq!(bring(&world, "tts/up?devEUI=0018B20000000AF1", by_query).status, 200);
    let beam = "x-soracom-imsi: 440103100000042\r\nX-Soracom-Timestamp: 1795287162123\r\nHost: x";
    let beam = post("/v1/ingest/beam", "ee55", "21.5")
        .replace("application/json", "text/plain")
        .replace("Host: x", beam);
    assert_eq!(world.ask(&beam).status, 200);
    assert_eq!(
        world.ask(&beam.replace("Content-Type: text/plain\r\n", "").replace("21.5", "22.5")).status,
        200,
        "bytes of no type"
    );
    let uids: Vec<_> = messages(&world).iter().map(|(_, mapped)| mapped.uid.as_str().to_owned()).collect();
    assert_eq!(uids, ["1B4C7E", "1B4C7E", "0018B20000000AF1", "440103100000042", "440103100000042"]);
}

#[test]
fn odd_times_are_answered_and_counted() {
    let world = ingesting();
    let at = |time: u64| format!(r#"{{"device":"1B4C7E","time":{time},"data":"01","seqNumber":{time}}}"#);
    assert_eq!(parsed(&bring(&world, "sigfox", &at(5)))["flags"], json!(["unset-time"]));
    assert_eq!(parsed(&bring(&world, "sigfox", &at(1_895_287_162)))["flags"], json!(["future-time"]));
    let counts = world.api.status().refusals;
    assert_eq!((counts["ingest.unset_time"], counts["ingest.future_time"]), (1, 1));
}

#[test]
fn each_element_of_a_batch_has_its_result() {
    let world = ingesting();
    let answered = bring(&world, "plain", &format!("[{},{{}},{}]", body("o1"), body("o2")));
    assert_eq!(answered.status, 200);
    let results = parsed(&answered)["results"].clone();
    assert_eq!(results[0], json!({"id": id(1).to_string()}));
    assert_eq!(results[1]["quarantined"], "missing");
    assert_eq!(results[2], json!({"id": id(3).to_string()}));
    assert_eq!(world.intake.taken().len(), 3);
}

#[test]
fn objects_that_are_not_listed_come_in_only_where_they_may() {
    let world = ingesting();
    assert_eq!(bring(&world, "plain", &body("stranger")).status, 200);
    let listed = bring(&world, "listed", &body("echo"));
    assert_eq!(listed.status, 200);
    let groups: Vec<_> = messages(&world).iter().map(|(of, _)| *of).collect();
    assert_eq!(groups, [group("Devices"), group("Stations")], "an object's own group before the source's");
    assert_eq!(parsed(&bring(&world, "listed", &body("stranger")))["quarantined"], "not_listed");
}

#[test]
fn a_key_of_some_groups_brings_no_others() {
    let world = ingesting();
    let with = |uid: &str| world.ask(&post("/v1/ingest/plain", "bb22", &body(uid))).status;
    assert_eq!((with("echo"), with("o1"), with("stranger")), (200, 403, 403));
    assert_eq!(messages(&world).len(), 1);
}

#[test]
fn more_than_a_source_s_rate_is_put_off() {
    let world = ingesting();
    let batch = format!("[{}]", vec![body("o1"); 50].join(","));
    assert_eq!(bring(&world, "slow", &batch).status, 200, "25 seconds of its rate");
    let late = bring(&world, "slow", &body("o1"));
    assert_eq!((late.status, late.headers["retry-after"].as_str()), (429, "1"));
    assert_eq!(bring(&world, "plain", &body("o1")).status, 200, "another source");
    assert_eq!((messages(&world).len(), world.api.refusals.get(Cause::Rate)), (51, 1));
}

#[test]
fn the_rules_of_a_group_are_told() {
    let world = ingesting();
    world
        .intake
        .refuse(Receipt::Refused("the payload is longer than 10 bytes, the most of its group".into()));
    let answered = bring(&world, "plain", &body("o1"));
    assert_eq!(answered.status, 422);
    assert!(answered.error().contains("10 bytes"));
    let batch = bring(&world, "plain", &format!("[{0},{0}]", body("o1")));
    assert!(parsed(&batch)["results"][1]["error"].is_string());
    world.intake.refuse(Receipt::TooFast(
        "more than the group `Devices` may send of one object: try again later".into(),
    ));
    let late = bring(&world, "plain", &body("o1"));
    assert_eq!((late.status, late.headers["retry-after"].as_str()), (429, "1"));
    assert!(late.error().contains("Devices"));
    assert_eq!((world.api.refusals.get(Cause::Group), world.api.refusals.get(Cause::Rate)), (2, 0));
}

#[test]
fn a_quarantine_is_mapped_by_who_may_administer() {
    let world = ingesting();
    bring(&world, "plain", "{}");
    let remap = |method: &str, source: &str, token: &str| {
        let head = format!("{method} /v1/remap/{source} HTTP/1.1\r\nHost: x\r\n");
        world.ask(&format!("{head}Authorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"))
    };
    let remapped = remap("POST", "plain", CENTRAL);
    let wanted = json!({"mapped": 0, "duplicates": 0, "ignored": 0, "remaining": 1, "reasons": {}});
    assert_eq!((remapped.status, parsed(&remapped)), (200, wanted));
    assert_eq!(remap("POST", "plain", "ee55").status, 403, "a right of its own");
    assert_eq!(remap("POST", "plain", "ff66").status, 403, "what is mapped may be of any group");
    assert_eq!(remap("GET", "plain", CENTRAL).headers["allow"], "POST");
    assert_eq!(remap("POST", "nobody", CENTRAL).status, 404);
    assert_eq!(remap("POST", "far", CENTRAL).status, 200, "networks of a source are those that bring");
    world.intake.fail(Some(IntakeError::Full));
    assert_eq!(remap("POST", "plain", CENTRAL).status, 503);
}
