//! ChirpStack v4: what is left out, clocks of gateways, events in the query.

use iotsocketd::ingest::{Fault, Flag, NetworkFormat, Outcome, Source};
use iotsocketd::wire::Format;
use serde_json::json;

use super::support::*;

fn chirpstack() -> Source {
    source(NetworkFormat::Chirpstack)
}

fn up(body: impl ToString) -> Post {
    post(body).query("event=up")
}

#[test]
fn an_uplink_has_its_identity_in_upper_case() {
    let mapped = up(fixture("chirpstack-up.json")).message(&chirpstack());
    assert_eq!((mapped.uid.as_str(), mapped.format), ("0018B20000000AF1", Format::Binary));
    assert_eq!((mapped.payload.as_slice(), mapped.time_us), (&[1, 2, 255][..], Some(SENT_US + 500_000)));
    let network = network(&mapped);
    assert_eq!((&network["port"], &network["counter"]), (&json!(2), &json!(41)));
    assert_eq!(network["dedup"], "5e6f7a80-1b2c-4d3e-8f90-a1b2c3d4e5f6");
    assert_eq!(network["radio"][0]["snr"], 7.2);
    assert_eq!(network["settings"]["txInfo"]["frequency"], 868_300_000);
    let by_name = Source { uid: Some("device_name".to_owned()), ..chirpstack() };
    assert_eq!(up(fixture("chirpstack-up.json")).message(&by_name).uid.as_str(), "tracker-7");
}

#[test]
fn defaults_are_left_out() {
    let mut body = json("chirpstack-up.json");
    for member in ["fCnt", "fPort", "adr", "confirmed", "data", "object"] {
        body = without(body, "", member);
    }
    let mapped = up(body).message(&chirpstack());
    assert_eq!((&network(&mapped)["counter"], mapped.payload.len()), (&json!(0), 0));
}

#[test]
fn a_gateway_that_never_knew_the_time_does_not_stop_its_messages() {
    for year in ["1980", "2012"] {
        let body = with(json("chirpstack-up.json"), "/time", format!("{year}-01-06T00:00:10Z"));
        let mapped = up(body).message(&chirpstack());
        assert_eq!(mapped.flags, [Flag::UnsetTime], "{year}");
        assert!(network(&mapped)["time"].as_str().unwrap().starts_with(year));
    }
}

#[test]
fn without_an_id_address_and_counter_tell_a_second_delivery() {
    let body = without(json("chirpstack-up.json"), "", "deduplicationId");
    assert_eq!(up(body).message(&chirpstack()).dedup.as_deref(), Some("0018B20000000AF1:01a2b3c4:41"));
}

#[test]
fn the_query_names_the_event_and_a_lost_one_is_guessed_from_uplinks_only() {
    for event in ["join", "status", "ack", "txack", "log", "location", "integration"] {
        let outcome =
            post(fixture("chirpstack-up.json")).query(&format!("event={event}")).outcome(&chirpstack());
        assert!(matches!(outcome, Outcome::Ignored(name) if name == event));
    }
    assert!(post(fixture("chirpstack-up.json")).message(&chirpstack()).has_data);
    assert_eq!(post(r#"{"deviceInfo":{"devEui":"aa"}}"#).fault(&chirpstack()), Fault::Kind);
    assert_eq!(post("{}").query("event=party").fault(&chirpstack()), Fault::Kind);
}

#[test]
fn version_3_is_told_apart() {
    let body = json!({"applicationID": "1", "devEUI": "ABiyAAAACvE=", "fPort": 2, "data": "AQL/"});
    let unmapped = up(body).unmapped(&chirpstack());
    assert_eq!(unmapped.fault, Fault::Kind);
    assert!(unmapped.sentence.contains("v3"), "{}", unmapped.sentence);
}

#[test]
fn what_only_the_join_server_can_read_is_marked() {
    let body = with(json("chirpstack-up.json"), "/joinServerContext", json!({"sessionKeyId": "0a"}));
    assert_eq!(up(body).message(&chirpstack()).flags, [Flag::Encrypted]);
}

#[test]
fn only_decoded_data_is_json() {
    let body = without(json("chirpstack-up.json"), "", "data");
    assert_eq!(up(body).message(&chirpstack()).payload, br#"{"battery":3.61}"#);
}
