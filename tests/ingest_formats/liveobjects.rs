//! Live Objects: streams, LoRa payloads in hex.

use iotsocketd::ingest::{Fault, NetworkFormat, Source};
use iotsocketd::wire::Format;
use serde_json::json;

use super::support::*;

fn live_objects() -> Source {
    source(NetworkFormat::LiveObjects)
}

#[test]
fn a_lora_payload_is_hex_inside_of_the_value() {
    let mapped = post(fixture("liveobjects-lora.json")).message(&live_objects());
    assert_eq!((mapped.uid.as_str(), mapped.format), ("0018B20000000AF1", Format::Binary));
    assert_eq!((mapped.payload.as_slice(), mapped.time_us), (&[1, 2, 255][..], Some(SENT_US + 123_000)));
    let network = network(&mapped);
    assert_eq!((&network["port"], &network["counter"]), (&json!(2), &json!(41)));
    assert_eq!(network["settings"]["location"]["lat"], 48.85);
    assert!(mapped.dedup.unwrap().contains("41"));
    let wrong = with(json("liveobjects-lora.json"), "/value/payload", "0102f");
    assert_eq!(post(wrong).fault(&live_objects()), Fault::Payload);
}

#[test]
fn other_connectors_bring_json() {
    let by_source = Source { uid: Some("source".to_owned()), ..live_objects() };
    let mapped = post(fixture("liveobjects-mqtt.json")).message(&by_source);
    assert_eq!((mapped.uid.as_str(), mapped.format), ("boiler-3", Format::Json));
    assert_eq!(mapped.payload, br#"{"t": 21.50}"#);
    let stream = post(fixture("liveobjects-mqtt.json"));
    assert_eq!(stream.fault(&live_objects()), Fault::Identity, "18 bytes");
}

#[test]
fn two_values_of_one_moment_are_two_messages() {
    let by_source = Source { uid: Some("source".to_owned()), ..live_objects() };
    let body = json("liveobjects-mqtt.json");
    let key = |body: &serde_json::Value| post(body).message(&by_source).dedup.unwrap();
    assert_eq!(key(&body), key(&body));
    assert_ne!(key(&with(body.clone(), "/value", 7)), key(&body));
}

#[test]
fn several_come_in_an_array() {
    let body = json!([json("liveobjects-lora.json"), json("liveobjects-lora.json")]);
    assert_eq!(post(body).all(&live_objects()).len(), 2);
}
