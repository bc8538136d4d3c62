//! The Things Stack: what is left out, where identities may stand, events.

use iotsocketd::ingest::{Fault, Flag, NetworkFormat, Outcome, Source};
use iotsocketd::wire::Format;
use serde_json::json;

use super::support::*;

fn tts() -> Source {
    source(NetworkFormat::Tts)
}

#[test]
fn an_uplink_has_everything_of_the_network_beside_its_payload() {
    let mapped = post(fixture("tts-uplink.json")).message(&tts());
    assert_eq!((mapped.uid.as_str(), mapped.format), ("0018B20000000AF1", Format::Binary));
    assert_eq!(mapped.payload, [1, 2, 255]);
    assert_eq!(mapped.time_us, Some(SENT_US + 123_456), "of the application server");
    let network = network(&mapped);
    assert_eq!((&network["port"], &network["counter"]), (&json!(2), &json!(41)));
    assert_eq!(network["dedup"], "as:up:01KAM8Y6Q3W7T2");
    assert_eq!(network["decoded"], json!({"battery": 3.61}));
    assert_eq!(network["radio"][0]["rssi"], -97);
    assert_eq!(network["settings"]["settings"]["frequency"], "868300000", "a string there");
}

#[test]
fn fields_that_are_zero_are_left_out() {
    let body = without(json("tts-uplink.json"), "/uplink_message", "f_cnt");
    let body = without(without(body, "/uplink_message", "frm_payload"), "/uplink_message", "decoded_payload");
    let mapped = post(without(body, "/uplink_message", "f_port")).message(&tts());
    assert_eq!((mapped.format, mapped.payload.len(), mapped.has_data), (Format::Binary, 0, true));
    assert_eq!((&network(&mapped)["counter"], &network(&mapped)["port"]), (&json!(0), &json!(0)));
}

#[test]
fn only_decoded_data_is_json() {
    let mapped = post(without(json("tts-uplink.json"), "/uplink_message", "frm_payload")).message(&tts());
    assert_eq!((mapped.format, mapped.payload.as_slice()), (Format::Json, &br#"{"battery":3.61}"#[..]));
}

#[test]
fn identities_that_a_mask_left_out_stand_in_the_path_or_the_query() {
    let masked = without(json("tts-uplink.json"), "", "end_device_ids");
    assert_eq!(post(&masked).fault(&tts()), Fault::Missing);
    assert_eq!(
        post(&masked).query("devEUI=0018b20000000af1").message(&tts()).uid.as_str(),
        "0018B20000000AF1"
    );
    let by_name = Source { uid: Some("device_id".to_owned()), ..tts() };
    let mut in_path = post(&masked);
    in_path.tail = "up/tracker-7";
    assert_eq!(in_path.message(&by_name).uid.as_str(), "tracker-7");
    assert_eq!(post(fixture("tts-uplink.json")).message(&by_name).uid.as_str(), "tracker-7");
}

#[test]
fn without_a_correlation_id_session_and_counter_tell_a_second_delivery() {
    let body = without(json("tts-uplink.json"), "", "correlation_ids");
    assert_eq!(post(&body).message(&tts()).dedup.as_deref(), Some("0018B20000000AF1:AZqm:41"));
    let unknown = without(body, "/uplink_message", "session_key_id");
    assert_eq!(post(unknown).message(&tts()).dedup, None);
}

#[test]
fn a_normalized_uplink_is_merged_with_its_uplink() {
    let mut body = json("tts-uplink.json");
    let uplink = body.as_object_mut().unwrap().remove("uplink_message").unwrap();
    let body = with(body, "/uplink_normalized", uplink);
    let Outcome::Merge(mapped) = post(body).outcome(&tts()) else { panic!("counted twice") };
    assert_eq!(mapped.dedup, post(fixture("tts-uplink.json")).message(&tts()).dedup);
}

#[test]
fn other_events_are_ignored_and_unknown_ones_kept() {
    for event in ["join_accept", "downlink_ack", "downlink_failed", "location_solved", "service_data"] {
        let body = json!({"end_device_ids": {"device_id": "a"}, event: {"x": 1}});
        assert!(matches!(post(body).outcome(&tts()), Outcome::Ignored(name) if name == event));
    }
    assert_eq!(post(json!({"surprise": {}})).fault(&tts()), Fault::Kind);
}

#[test]
fn simulated_uplinks_are_marked() {
    let body = with(json("tts-uplink.json"), "/simulated", true);
    assert_eq!(post(body).message(&tts()).flags, [Flag::Simulated]);
}

#[test]
fn what_is_wrong_has_its_own_fault() {
    let body = json("tts-uplink.json");
    for (field, value, fault) in [
        ("/uplink_message/frm_payload", json!("AQ="), Fault::Payload),
        ("/uplink_message/frm_payload", json!(7), Fault::Type),
        ("/uplink_message/f_port", json!(256), Fault::Range),
        ("/uplink_message/f_cnt", json!(4_294_967_296_u64), Fault::Range),
        ("/received_at", json!("2026-11-21 18:52"), Fault::Time),
        ("/uplink_message", json!([]), Fault::Type),
        ("/end_device_ids/dev_eui", json!("0018B20000000AF1F"), Fault::Identity),
    ] {
        assert_eq!(post(with(body.clone(), field, value)).fault(&tts()), fault, "{field}");
    }
}
