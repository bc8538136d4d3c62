//! `{"UID", "Payload", "Format"}`.

use iotsocketd::ingest::{Fault, NetworkFormat, Source};
use iotsocketd::wire::Format;

use super::support::*;

fn plain() -> Source {
    source(NetworkFormat::Plain)
}

#[test]
fn the_documented_body_is_a_message() {
    let mapped = post(fixture("plain.json")).message(&plain());
    assert_eq!((mapped.uid.as_str(), mapped.format), ("ObjTest", Format::Json));
    assert_eq!(mapped.payload, br#"{"t": 21.50}"#, "as it was written");
    assert_eq!((mapped.network.as_str(), mapped.dedup), ("{}", None));
}

#[test]
fn every_format_of_a_payload() {
    for (payload, format, bytes) in [
        ("[0,255]", "BINARY", &[0, 255][..]),
        ("\"abc\"", "ASCII", b"abc"),
        ("\"\\u00e9\"", "UTF8", "é".as_bytes()),
        ("null", "JSON", b"null"),
    ] {
        let body = format!(r#"{{"UID":"a","Payload":{payload},"Format":"{format}"}}"#);
        let mapped = post(body).message(&plain());
        assert_eq!((mapped.format.name(), mapped.payload.as_slice()), (format, bytes));
    }
}

#[test]
fn what_is_wrong_is_told_by_its_kind() {
    let fault = |body: &str| post(body).fault(&plain());
    assert_eq!(fault(r#"{"Payload":1,"Format":"JSON"}"#), Fault::Missing);
    assert_eq!(fault(r#"{"UID":"","Payload":1,"Format":"JSON"}"#), Fault::Missing);
    assert_eq!(fault(r#"{"UID":"a","Format":"JSON"}"#), Fault::Missing);
    assert_eq!(fault(r#"{"UID":"a","Payload":1}"#), Fault::Missing);
    assert_eq!(fault(r#"{"UID":7,"Payload":1,"Format":"JSON"}"#), Fault::Type);
    assert_eq!(fault(r#"{"UID":"12345678901234567","Payload":1,"Format":"JSON"}"#), Fault::Identity);
    assert_eq!(fault(r#"{"UID":"a","Payload":[256],"Format":"BINARY"}"#), Fault::Payload);
    assert_eq!(fault(r#"{"UID":"a","Payload":1,"Format":"json"}"#), Fault::Kind);
    assert_eq!(fault(r#"{"UID":"a","UID":"b","Payload":1,"Format":"JSON"}"#), Fault::Type);
    assert_eq!(fault("7"), Fault::Type);
}

#[test]
fn an_array_is_a_batch_and_each_element_stands_for_itself() {
    let outcomes = post(
        r#"[{"UID":"a","Payload":1,"Format":"JSON"},{"UID":"b"},{"UID":"c","Payload":[],"Format":"BINARY"}]"#,
    )
    .all(&plain());
    assert_eq!(outcomes.len(), 3);
    assert_eq!(message(outcomes[0].clone()).uid.as_str(), "a");
    assert_eq!(message(outcomes[2].clone()).uid.as_str(), "c");
}

#[test]
fn an_idempotency_key_tells_a_second_try() {
    let body = fixture("plain.json");
    let keyed = |key: &str| post(&body).header("idempotency-key", key).message(&plain()).dedup.unwrap();
    assert_eq!(keyed("1"), keyed("1"));
    assert_ne!(keyed("1"), keyed("2"));
    let batch = r#"[{"UID":"a","Payload":1,"Format":"JSON"},{"UID":"a","Payload":2,"Format":"JSON"}]"#;
    let keys: Vec<_> = post(batch).header("idempotency-key", "1").all(&plain());
    assert_ne!(message(keys[0].clone()).dedup, message(keys[1].clone()).dedup);
}

#[test]
fn another_member_may_hold_the_uid() {
    let source = Source { uid: Some("dev_eui".to_owned()), ..plain() };
    let body = r#"{"dev_eui":"x","UID":"y","Payload":1,"Format":"JSON"}"#;
    assert_eq!(post(body).message(&source).uid.as_str(), "x");
    assert_eq!(post(fixture("plain.json")).message(&source).uid.as_str(), "ObjTest");
}
