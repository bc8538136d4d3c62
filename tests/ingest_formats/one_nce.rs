//! 1NCE: strings of milliseconds, base64, long identities, batches.

use iotsocketd::ingest::{Aliases, BATCH_MAX, Fault, NetworkFormat, Outcome, Source};
use iotsocketd::wire::Format;
use serde_json::json;

use super::support::*;

fn one_nce() -> Source {
    source(NetworkFormat::OneNce)
}

#[test]
fn telemetry_has_its_time_as_a_string_of_milliseconds() {
    let mapped = post(fixture("1nce-telemetry.json")).message(&one_nce());
    assert_eq!((mapped.uid.as_str(), mapped.format), ("901405100000042", Format::Json));
    assert_eq!(
        (mapped.payload.as_slice(), mapped.time_us),
        (&br#"{"t": 21.50}"#[..], Some(SENT_US + 123_000))
    );
    assert_eq!(mapped.dedup.as_deref(), Some("8c1e9f10-33a7-4c55-9a10-b0b1b2b3b4b5"));
    assert_eq!(network(&mapped)["radio"]["source"], "UDP");
}

#[test]
fn raw_payloads_are_base64() {
    let raw = |value: &str| {
        with(json("1nce-telemetry.json"), "/payload", json!({"type": "BINARY", "value": value}))
    };
    let mapped = post(raw("AQL/")).message(&one_nce());
    assert_eq!((mapped.format, mapped.payload.as_slice()), (Format::Binary, &[1, 2, 255][..]));
    assert_eq!(post(raw("AQL/!")).fault(&one_nce()), Fault::Payload);
}

#[test]
fn an_iccid_needs_an_alias() {
    let by_iccid = Source { uid: Some("iccid".to_owned()), ..one_nce() };
    let body = fixture("1nce-telemetry.json");
    assert_eq!(post(&body).fault(&by_iccid), Fault::Identity);
    let aliases = Aliases::parse(r#"{"8988280666000000042":"tracker-7"}"#).unwrap();
    let mapped = post(&body).message(&Source { aliases, ..by_iccid });
    assert_eq!(mapped.uid.as_str(), "tracker-7");
    assert_eq!(network(&mapped)["device"], "8988280666000000042");
}

#[test]
fn events_of_the_network_come_alone_or_in_arrays_of_thousands() {
    for (kind, event) in
        [("LIFECYCLE", "lifecycle"), ("LOCATION", "location"), ("TEST_MESSAGE", "test_message")]
    {
        let body = with(json("1nce-telemetry.json"), "/type", kind);
        assert_eq!(post(body).outcome(&one_nce()), Outcome::Ignored(event));
    }
    let usage = vec![r#"{"id":1,"volume":{"rx":0.01},"traffic_type":{"id":5}}"#; BATCH_MAX];
    let outcomes = post(format!("[{}]", usage.join(","))).all(&one_nce());
    assert_eq!(outcomes.len(), BATCH_MAX);
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Ignored("usage")));
    assert!(post(format!("[{},{{}}]", usage.join(","))).is_malformed(&one_nce()));
    assert!(post("[]").is_malformed(&one_nce()));
}

#[test]
fn unknown_types_are_kept() {
    assert_eq!(post(with(json("1nce-telemetry.json"), "/type", "NEWS")).fault(&one_nce()), Fault::Kind);
    assert_eq!(post("{}").fault(&one_nce()), Fault::Missing);
}
