//! Sigfox: the user's template, second deliveries, events.

use iotsocketd::ingest::{Fault, Flag, NetworkFormat, Outcome, Source};
use iotsocketd::wire::Format;
use serde_json::json;

use super::support::*;

const FORM: &str = "application/x-www-form-urlencoded";

fn sigfox() -> Source {
    source(NetworkFormat::Sigfox)
}

#[test]
fn numbers_are_strings_and_identities_are_in_upper_case() {
    let mapped = post(fixture("sigfox-uplink.json")).message(&sigfox());
    assert_eq!((mapped.uid.as_str(), mapped.format), ("1B4C7E", Format::Binary));
    assert_eq!(mapped.payload, [0x00, 0xff, 0x17, 0xa2]);
    assert_eq!((mapped.time_us, mapped.wants_downlink), (Some(SENT_US), false));
    assert_eq!(
        network(&mapped),
        json!({"counter": 1187, "time": "2026-11-21T18:52:42.000000Z",
               "radio": {"rssi": -121.0, "snr": 9.5, "station": "3AF2"}, "dedup": "1B4C7E:1187:1795287162"})
    );
}

#[test]
fn forms_lines_and_queries_say_the_same() {
    let json = post(fixture("sigfox-uplink.json")).message(&sigfox());
    let form = post(fixture("sigfox-form.txt")).of_type(FORM).message(&sigfox());
    assert_eq!((form.uid, &form.payload, &form.dedup), (json.uid, &json.payload, &json.dedup));
    assert_eq!(network(&form)["radio"], json!({"rssi": -121.0}), "null is not a station");
    let twice = post("device=1B4C7E&data=01&data=02&time=5").of_type(FORM).message(&sigfox());
    assert_eq!(twice.payload, [1], "the first of two");
    let query = "device=1B4C7E&time=1795287162&seqNumber=1187";
    let split = post(r#"{"data":"00ff17a2","device":null}"#).query(query).message(&sigfox());
    assert_eq!((split.uid, &split.payload, &split.dedup), (json.uid, &json.payload, &json.dedup));
    let lines = post(fixture("sigfox-lines.txt")).of_type("text/plain").all(&sigfox());
    let lines: Vec<_> = lines.into_iter().map(message).collect();
    assert_eq!((lines.len(), &lines[0].dedup), (2, &json.dedup));
    assert_eq!((lines[1].uid.as_str(), lines[1].payload.len()), ("1B4C7F", 0));
}

#[test]
fn the_text_null_is_no_value() {
    let body = r#"{"device":"1B4C7E","time":"null","data":"01","seqNumber":"null","ack":"null"}"#;
    let mapped = post(body).message(&sigfox());
    assert_eq!((mapped.time_us, mapped.dedup), (None, None));
    assert_eq!(post(r#"{"device":"null","data":"01"}"#).fault(&sigfox()), Fault::Missing);
    assert_eq!(post(r#"{"device":"1B4C7E","data":"null"}"#).fault(&sigfox()), Fault::Missing);
}

#[test]
fn the_second_delivery_is_merged_with_the_first() {
    let first = post(fixture("sigfox-uplink.json")).message(&sigfox());
    let Outcome::Merge(second) = post(fixture("sigfox-advanced.json")).outcome(&sigfox()) else {
        panic!("counted twice")
    };
    assert_eq!((second.uid, &second.dedup, second.has_data), (first.uid, &first.dedup, false));
    let radio = &network(&second)["radio"];
    assert_eq!((&radio["lqi"], &radio["computedLocation"]["radius"]), (&json!("GOOD"), &json!(1200)));
}

#[test]
fn a_device_that_waits_for_a_downlink_is_known() {
    let bidir = json("sigfox-bidir.json");
    assert!(post(&bidir).message(&sigfox()).wants_downlink);
    assert!(post(with(bidir.clone(), "/ack", "true")).message(&sigfox()).wants_downlink);
    assert!(!post(with(bidir, "/ack", false)).message(&sigfox()).wants_downlink);
}

#[test]
fn a_counter_that_wraps_makes_no_duplicate() {
    let body = json("sigfox-uplink.json");
    let first = post(&body).message(&sigfox()).dedup;
    assert_eq!(post(&body).message(&sigfox()).dedup, first);
    for (field, value) in [("/time", "1795287163"), ("/seqNumber", "1188"), ("/device", "1B4C7F")] {
        assert_ne!(post(with(body.clone(), field, value)).message(&sigfox()).dedup, first, "{field}");
    }
    let uncounted = without(body, "", "seqNumber");
    let key = post(&uncounted).message(&sigfox()).dedup.unwrap();
    assert_ne!(post(with(uncounted, "/data", "01")).message(&sigfox()).dedup.unwrap(), key);
}

#[test]
fn events_without_data_are_ignored() {
    for (body, event) in [
        (r#"{"device":"1B4C7E","infoCode":0,"downlinkAck":true}"#, "acknowledge"),
        (r#"{"device":"1B4C7E","batt":"3.10","temp":21}"#, "status"),
        (r#"{"device":"1B4C7E","severity":"WARN"}"#, "error"),
    ] {
        assert_eq!(post(body).outcome(&sigfox()), Outcome::Ignored(event));
    }
}

#[test]
fn what_is_out_of_bounds_has_its_own_fault() {
    let body = json("sigfox-uplink.json");
    for (field, value, fault) in [
        ("/data", "0", Fault::Payload),
        ("/data", "0g", Fault::Payload),
        ("/data", "00112233445566778899aabbcc", Fault::Payload),
        ("/device", "123456789", Fault::Identity),
        ("/device", "xyz", Fault::Identity),
        ("/seqNumber", "-1", Fault::Range),
        ("/seqNumber", "4294967296", Fault::Range),
        ("/seqNumber", "many", Fault::Type),
        ("/time", "soon", Fault::Time),
        ("/time", "-5", Fault::Time),
        ("/time", "99999999999999", Fault::Time),
    ] {
        assert_eq!(post(with(body.clone(), field, value)).fault(&sigfox()), fault, "{field} {value}");
    }
    assert!(
        post(with(body.clone(), "/data", "00112233445566778899aabb")).message(&sigfox()).payload.len() == 12
    );
    assert!(post(with(body.clone(), "/data", "")).message(&sigfox()).payload.is_empty());
    assert_eq!(post(without(body, "", "data")).fault(&sigfox()), Fault::Missing);
}

#[test]
fn times_of_1970_and_of_the_future_are_kept_and_marked() {
    let at = |time: i64| post(with(json("sigfox-uplink.json"), "/time", time)).message(&sigfox());
    assert_eq!(at(0).flags, [Flag::UnsetTime]);
    let future = at(SENT_US / 1_000_000 + 86_400);
    assert_eq!(future.flags, [Flag::FutureTime]);
    assert_eq!(network(&future)["flags"], json!(["future-time"]));
    assert_eq!(at(SENT_US / 1_000_000 - 86_400).flags, [Flag::Backfill]);
}

#[test]
fn text_that_is_nothing_of_the_kind_is_malformed() {
    for body in ["", "hello", "{\"device\":1}"] {
        assert!(post(body).of_type("text/plain").is_malformed(&sigfox()), "{body}");
    }
    assert!(post("device=1").is_malformed(&sigfox()), "said to be JSON");
}
