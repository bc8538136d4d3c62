//! ThingPark: numbers as strings, local offsets, what a base station held.

use iotsocketd::ingest::{Fault, Flag, NetworkFormat, Outcome, Source};
use serde_json::json;

use super::support::*;

fn thingpark() -> Source {
    source(NetworkFormat::Thingpark)
}

#[test]
fn numbers_are_strings_and_the_time_has_the_local_offset() {
    let mapped = post(fixture("thingpark-uplink.json")).message(&thingpark());
    assert_eq!((mapped.uid.as_str(), mapped.payload.as_slice()), ("0018B20000000AF1", &[1, 2, 255][..]));
    assert_eq!((mapped.time_us, mapped.flags.len()), (Some(SENT_US + 123_000), 0));
    let network = network(&mapped);
    assert_eq!((&network["port"], &network["counter"]), (&json!(2), &json!(41)));
    assert_eq!(network["dedup"], "0018B20000000AF1:41:1e2d3c4b");
    assert_eq!(network["radio"][0]["LrrESP"], "-97.8");
    assert_eq!(network["decoded"], json!({"battery": 3.61}));
    let numbers = with(json("thingpark-uplink.json"), "/DevEUI_uplink/FCntUp", 41);
    assert_eq!(post(numbers).message(&thingpark()).dedup, mapped.dedup);
}

#[test]
fn what_a_base_station_held_is_marked() {
    for late in [json!("1"), json!(1)] {
        let body = with(json("thingpark-uplink.json"), "/DevEUI_uplink/Late", late);
        let body = with(body, "/DevEUI_uplink/Time", "2026-11-20T08:00:00+01:00");
        assert_eq!(post(body).message(&thingpark()).flags, [Flag::Backfill]);
    }
}

#[test]
fn what_the_body_lacks_may_stand_in_the_query() {
    let body = without(json("thingpark-uplink.json"), "/DevEUI_uplink", "DevEUI");
    let body = without(body, "/DevEUI_uplink", "Time");
    let query = "LrnDevEui=0018B20000000AF1&LrnFPort=2&Time=2026-11-21T19:52:42.123+01:00&Token=00";
    let mapped = post(body).query(query).message(&thingpark());
    assert_eq!((mapped.uid.as_str(), mapped.time_us), ("0018B20000000AF1", Some(SENT_US + 123_000)));
}

#[test]
fn one_base_station_is_radio_too_and_no_payload_is_an_empty_one() {
    let body = without(json("thingpark-uplink.json"), "/DevEUI_uplink", "Lrrs");
    let body = without(body, "/DevEUI_uplink", "payload_hex");
    let decoded = post(&body).message(&thingpark());
    assert_eq!(network(&decoded)["radio"]["LrrSNR"], "7.25");
    assert_eq!(decoded.payload, br#"{"battery":3.61}"#);
    let empty = post(without(body, "/DevEUI_uplink", "payload")).message(&thingpark());
    assert_eq!((empty.has_data, empty.payload.len()), (true, 0));
}

#[test]
fn other_events_are_ignored_and_wrong_fields_kept() {
    assert_eq!(post(r#"{"DevEUI_location":{}}"#).outcome(&thingpark()), Outcome::Ignored("event"));
    assert_eq!(post(r#"{"uplink":{}}"#).fault(&thingpark()), Fault::Missing);
    let body = json("thingpark-uplink.json");
    for (field, value, fault) in [
        ("payload_hex", "0102f", Fault::Payload),
        ("FPort", "300", Fault::Range),
        ("Time", "2026-11-21T19:52:42.123", Fault::Time),
    ] {
        let body = with(body.clone(), &format!("/DevEUI_uplink/{field}"), value);
        assert_eq!(post(body).fault(&thingpark()), fault, "{field}");
    }
}
