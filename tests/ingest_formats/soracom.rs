//! Soracom Beam: the body passes through, the headers say who.

use iotsocketd::ingest::{Fault, NetworkFormat, Source};
use iotsocketd::wire::Format;

use super::support::*;

fn soracom() -> Source {
    source(NetworkFormat::Soracom)
}

fn beam(body: impl ToString) -> Post {
    post(body)
        .header("x-soracom-imsi", "440103100000042")
        .header("x-soracom-imei", "861585040000042")
        .header("x-soracom-timestamp", "1795287162123")
}

#[test]
fn identity_and_time_are_in_the_headers() {
    let mapped = beam(r#"{"t": 21.50}"#).message(&soracom());
    assert_eq!((mapped.uid.as_str(), mapped.format), ("440103100000042", Format::Json));
    assert_eq!(
        (mapped.payload.as_slice(), mapped.time_us),
        (&br#"{"t": 21.50}"#[..], Some(SENT_US + 123_000))
    );
    let by_imei = Source { uid: Some("imei".to_owned()), ..soracom() };
    assert_eq!(beam("1").message(&by_imei).uid.as_str(), "861585040000042");
    assert_eq!(post("1").fault(&soracom()), Fault::Missing);
    let late = post("1").header("x-soracom-imsi", "1").header("x-soracom-timestamp", "now");
    assert_eq!(late.fault(&soracom()), Fault::Time);
}

#[test]
fn a_datagram_is_wrapped_in_base64() {
    let mapped = beam(fixture("soracom-datagram.json")).message(&soracom());
    assert_eq!((mapped.format, mapped.payload.as_slice()), (Format::Binary, &[1, 2, 255][..]));
    let own = beam(r#"{"payload":"AQL/","more":1}"#).message(&soracom());
    assert_eq!(own.format, Format::Json, "the device's own JSON");
}

#[test]
fn bodies_of_any_type_pass_through() {
    let text = beam("21.5").of_type("text/plain; charset=utf-8").message(&soracom());
    assert_eq!((text.format, text.payload.as_slice()), (Format::Utf8, &b"21.5"[..]));
    let bytes = Post { body: vec![0xff, 0], ..beam("") };
    for kind in ["application/octet-stream", "text/plain"] {
        let mapped = Post { headers: bytes.headers.clone(), body: bytes.body.clone(), ..post("") };
        let mapped = mapped.of_type(kind).message(&soracom());
        assert_eq!((mapped.format, mapped.payload.as_slice()), (Format::Binary, &[0xff, 0][..]), "{kind}");
    }
    let list = beam("[1,2]").message(&soracom());
    assert_eq!(list.payload, b"[1,2]", "one message, not two");
    assert!(beam("{").is_malformed(&soracom()));
}

#[test]
fn the_same_at_the_same_moment_is_the_same_message() {
    let key = |body: &str| beam(body).message(&soracom()).dedup.unwrap();
    assert_eq!(key("1"), key("1"));
    assert_ne!(key("1"), key("2"));
    assert_eq!(post("1").header("x-soracom-imsi", "1").message(&soracom()).dedup, None);
}
