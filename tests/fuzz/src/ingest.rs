//! Bodies of partner networks: malformed, or an outcome for each element, within its bounds.

use iotsocketd::ingest::{
    self, Encoding, Kept, Map, Mapped, NetworkFormat, Outcome, Request, Shape, Source, dedup_of_stored,
};
use iotsocketd::payload_json;
use iotsocketd::wire::{Format, PAYLOAD_DATA_MAX};

const NOW_US: i64 = 1_795_287_163_000_000;
const TYPES: [&str; 4] =
    ["application/json", "text/plain", "application/x-www-form-urlencoded", "application/octet-stream"];

/// The first byte chooses the format, the second the media type; the rest is the body and, up to a line break, the query.
pub fn ingest(data: &[u8]) {
    let Some(([format, kind], rest)) = data.split_first_chunk() else { return };
    let (_, format) = NetworkFormat::NAMES[usize::from(*format) % NetworkFormat::NAMES.len()];
    let content_type = TYPES[usize::from(*kind) % TYPES.len()];
    let (query, body) = match rest.iter().position(|byte| *byte == b'\n') {
        Some(at) => (std::str::from_utf8(&rest[..at]).unwrap_or_default(), &rest[at + 1..]),
        None => ("", rest),
    };
    let pointer = |text: &str| Some(text.to_owned());
    let map = Map {
        uid: "/d".to_owned(),
        payload: "/p/0".to_owned(),
        encoding: Encoding::NAMES[usize::from(*kind) % 4].1,
        time: pointer("/t"),
        id: pointer("/a~1b"),
        port: None,
        counter: pointer("/c"),
    };
    let source = Source { map: Some(map), ..Source::new("net", format) };
    let headers = [("x-soracom-imsi".to_owned(), "440103100000042".to_owned())];
    let request = Request { tail: query, query, headers: &headers, content_type, body };
    let Ok(outcomes) = ingest::map(&source, &request, &|_| true, Some(NOW_US)) else { return };
    assert!(!outcomes.is_empty() && outcomes.len() <= ingest::BATCH_MAX);
    for outcome in outcomes {
        match outcome {
            Outcome::Message(mapped) => {
                assert!(mapped.has_data);
                check(&mapped);
            }
            Outcome::Merge(mapped) => check(&mapped),
            Outcome::Ignored(event) => assert!(!event.is_empty()),
            Outcome::Unmapped(unmapped) => {
                assert_eq!(Shape::parse(&unmapped.shape.to_string()), Some(unmapped.shape));
                // What is kept is the same when it is looked at again.
                let kept = Kept::new(&request, &unmapped, &[]);
                let read =
                    Kept::from_network(kept.to_network().as_bytes()).expect("what was written is read");
                assert_eq!(read, kept);
                let again = ingest::map_kept(&source, &read, &unmapped.raw, &|_| true, Some(NOW_US));
                assert_eq!(again, Outcome::Unmapped(unmapped));
            }
        }
    }
}

fn check(mapped: &Mapped) {
    assert!(!mapped.uid.is_central());
    assert!(
        mapped.payload.len() <= PAYLOAD_DATA_MAX && payload_json::is_valid(mapped.format, &mapped.payload)
    );
    assert!(payload_json::is_valid(Format::Json, mapped.network.as_bytes()));
    assert!(mapped.network.len() <= 64 * 1024);
    assert_eq!(dedup_of_stored(mapped.network.as_bytes()), mapped.dedup);
}
