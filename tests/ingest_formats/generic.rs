//! JSON of any shape, by pointers.

use iotsocketd::ingest::{Encoding, Fault, Map, NetworkFormat, Source};
use iotsocketd::wire::Format;
use serde_json::json;

use super::support::*;

fn map() -> Map {
    Map {
        uid: "/d".to_owned(),
        payload: "/p".to_owned(),
        encoding: Encoding::Json,
        time: Some("/t".to_owned()),
        id: Some("/meta/n".to_owned()),
        port: Some("/meta/port".to_owned()),
        counter: Some("/meta/seq".to_owned()),
    }
}

fn generic(map: Map) -> Source {
    Source { map: Some(map), ..source(NetworkFormat::Generic) }
}

#[test]
fn pointers_say_where_what_is() {
    let mapped = post(fixture("generic.json")).message(&generic(map()));
    assert_eq!((mapped.uid.as_str(), mapped.format), ("boiler-3", Format::Json));
    assert_eq!((mapped.payload.as_slice(), mapped.time_us), (&br#"{"t": 21.50}"#[..], Some(SENT_US)));
    assert_eq!(mapped.dedup.as_deref(), Some("boiler-3:17"));
    assert_eq!((&network(&mapped)["port"], &network(&mapped)["counter"]), (&json!(2), &json!(41)));
}

#[test]
fn times_are_text_or_numbers_of_any_unit() {
    for time in [json!(1_795_287_162_000_i64), json!("1795287162"), json!("2026-11-21T20:52:42+02:00")] {
        let body = with(json("generic.json"), "/t", time);
        assert_eq!(post(body).message(&generic(map())).time_us, Some(SENT_US));
    }
    assert_eq!(post(with(json("generic.json"), "/t", "soon")).fault(&generic(map())), Fault::Time);
    assert_eq!(post(without(json("generic.json"), "", "t")).message(&generic(map())).time_us, None);
}

#[test]
fn payloads_may_be_text_hex_or_base64() {
    for (encoding, text, format, bytes) in [
        (Encoding::Json, "AQL/", Format::Json, &b"\"AQL/\""[..]),
        (Encoding::Text, "AQL/", Format::Utf8, b"AQL/"),
        (Encoding::Hex, "0102ff", Format::Binary, &[1, 2, 255]),
        (Encoding::Base64, "AQL/", Format::Binary, &[1, 2, 255]),
    ] {
        let source = generic(Map { encoding, ..map() });
        let mapped = post(with(json("generic.json"), "/p", text)).message(&source);
        assert_eq!((mapped.format, mapped.payload.as_slice()), (format, bytes));
        if encoding != Encoding::Json {
            assert_eq!(post(fixture("generic.json")).fault(&source), Fault::Payload);
        }
    }
}

#[test]
fn what_the_pointers_do_not_find_is_missing() {
    for member in ["d", "p"] {
        assert_eq!(post(without(json("generic.json"), "", member)).fault(&generic(map())), Fault::Missing);
    }
    let null = post(with(json("generic.json"), "/p", json!(null))).message(&generic(map()));
    assert_eq!(null.payload, b"null");
}

#[test]
fn an_array_is_a_batch() {
    let body = json!([json("generic.json"), with(json("generic.json"), "/d", 17)]);
    let outcomes = post(body).all(&generic(map()));
    assert_eq!(message(outcomes[1].clone()).uid.as_str(), "17");
}
