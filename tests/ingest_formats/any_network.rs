//! What holds for every format: nothing panics, what is kept can be mapped again, what is stored leads back to its key.

use iotsocketd::ingest::{
    self, Encoding, Fault, HEADERS, Kept, Map, NetworkFormat, Objects, Outcome, Recalled, SEEN_US, Seen,
    Source,
};
use iotsocketd::payload_json;
use iotsocketd::wire::{Format, GroupName};

use super::support::*;

/// Every fixture with the source and the request that it belongs to.
fn everything() -> Vec<(Source, Post)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("{}/tests/fixtures/ingest", env!("CARGO_MANIFEST_DIR"))).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let format = NetworkFormat::NAMES.into_iter().find(|(format, _)| name.starts_with(format));
        let Some((_, format)) = format else { continue };
        let map = Map {
            uid: "/d".to_owned(),
            payload: "/p".to_owned(),
            encoding: Encoding::Json,
            time: None,
            id: Some("/meta/n".to_owned()),
            port: None,
            counter: None,
        };
        // A stream's name may be longer than a UID.
        let uid = (format == NetworkFormat::LiveObjects).then(|| "source".to_owned());
        let source = Source { map: Some(map), uid, ..source(format) };
        let kind = match name.as_str() {
            "sigfox-form.txt" => "application/x-www-form-urlencoded",
            "sigfox-lines.txt" => "text/plain",
            _ => "application/json",
        };
        let post = post(fixture(&name))
            .of_type(kind)
            .header("x-soracom-imsi", "1")
            .header("x-soracom-timestamp", "5");
        found.push((source, post));
    }
    assert!(found.len() >= 14, "{}", found.len());
    found
}

fn mapped(outcome: Outcome) -> Option<ingest::Mapped> {
    match outcome {
        Outcome::Message(mapped) | Outcome::Merge(mapped) => Some(mapped),
        Outcome::Ignored(_) | Outcome::Unmapped(_) => None,
    }
}

#[test]
fn what_is_stored_leads_back_to_the_key() {
    let mut with_key = 0;
    for (source, post) in everything() {
        for mapped in post.all(&source).into_iter().filter_map(mapped) {
            assert!(payload_json::is_valid(Format::Json, mapped.network.as_bytes()), "{}", mapped.network);
            assert_eq!(ingest::dedup_of_stored(mapped.network.as_bytes()), mapped.dedup);
            with_key += usize::from(mapped.dedup.is_some());
        }
    }
    assert!(with_key >= 12, "{with_key}");
}

/// A restart goes through the stored messages; then a second try is known as before.
#[test]
fn a_second_try_is_known_over_a_restart() {
    let mut seen = Seen::default();
    let source = source(NetworkFormat::Tts);
    let first = post(fixture("tts-uplink.json")).message(&source);
    let stored = first.network.clone();
    assert_eq!(seen.recall("net", first.dedup.as_deref().unwrap()), Recalled::Never);
    seen.note("net", &ingest::dedup_of_stored(stored.as_bytes()).unwrap(), 17_u64, 1, NOW_US);
    let again = post(fixture("tts-uplink.json")).message(&source);
    assert_eq!(seen.recall("net", again.dedup.as_deref().unwrap()), Recalled::First(17));
    assert_eq!(seen.recall("other", again.dedup.as_deref().unwrap()), Recalled::Never, "of another source");
    let hour_us = SEEN_US / 24;
    for hour in 1..=24 {
        seen.note("net", &hour.to_string(), 18, 1, NOW_US + hour * hour_us);
    }
    assert_eq!(seen.recall("net", again.dedup.as_deref().unwrap()), Recalled::First(17), "for 24 hours");
}

#[test]
fn what_is_kept_is_mapped_when_the_configuration_was_mended() {
    for (source, post) in everything() {
        let broken = Source { objects: Objects::Listed, ..source.clone() };
        let outcomes = ingest::map(&broken, &post.request(), &|_| false, Some(NOW_US)).unwrap();
        let expected = post.all(&source);
        assert_eq!(outcomes.len(), expected.len());
        for (outcome, expected) in outcomes.into_iter().zip(expected) {
            let Outcome::Unmapped(unmapped) = outcome else { panic!("came in: {outcome:?}") };
            assert_eq!(unmapped.fault, Fault::NotListed);
            let groups = ["Stations", "\"odd\"", "Stations"].map(|name| GroupName::parse(name).unwrap());
            let kept = Kept::new(&post.request(), &unmapped, &groups);
            let read = Kept::from_network(kept.to_network().as_bytes()).unwrap();
            assert_eq!(read, kept);
            let again = ingest::map_kept(&source, &read, &unmapped.raw, &|_| true, Some(NOW_US));
            assert_eq!(again, expected);
        }
    }
    assert_eq!(Kept::from_network(b"{}"), None);
}

#[test]
fn a_list_in_a_batch_stays_one_element() {
    let source = source(NetworkFormat::Plain);
    let one = r#"{"UID":"a","Payload":1,"Format":"JSON"}"#;
    let post = post(format!("[{one},[{one},{one}]]"));
    let outcomes = post.all(&source);
    let [Outcome::Message(_), Outcome::Unmapped(list)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(list.raw, format!("[{one},{one}]").as_bytes());
    let kept = Kept::new(&post.request(), list, &[]);
    let again = ingest::map_kept(&source, &kept, &list.raw, &|_| true, Some(NOW_US));
    assert_eq!(again, outcomes[1]);
}

#[test]
fn what_is_no_json_is_mapped_by_the_network_that_passes_it_on_only() {
    let beam = source(NetworkFormat::Soracom);
    let post = post("21.5").of_type("text/plain");
    let [Outcome::Unmapped(unmapped)] = <[_; 1]>::try_from(post.all(&beam)).unwrap() else {
        panic!("without an identity")
    };
    let kept = Kept::new(&post.request(), &unmapped, &[]);
    let again =
        ingest::map_kept(&source(NetworkFormat::Plain), &kept, &unmapped.raw, &|_| true, Some(NOW_US));
    let Outcome::Unmapped(again) = again else { panic!("came in: {again:?}") };
    assert_eq!(again.fault, Fault::Kind);
}

/// Cut and bent at every byte, each body is still one of the outcomes, and what is taken keeps its bounds.
#[test]
fn no_body_makes_a_format_panic() {
    for (source, post) in everything() {
        let bodies = (0..post.body.len()).flat_map(|at| {
            let mut bent = post.body.clone();
            bent[at] ^= 1 << (at % 8);
            [post.body[..at].to_vec(), bent]
        });
        for body in bodies.collect::<Vec<_>>() {
            let request = ingest::Request { body: &body, ..post.request() };
            for mapped in ingest::map(&source, &request, &|_| true, None)
                .unwrap_or_default()
                .into_iter()
                .filter_map(mapped)
            {
                assert!(!mapped.uid.is_central());
                assert!(payload_json::is_valid(mapped.format, &mapped.payload));
                assert!(payload_json::is_valid(Format::Json, mapped.network.as_bytes()));
            }
        }
    }
}

#[test]
fn shapes_are_the_same_for_every_device() {
    let tts = source(NetworkFormat::Tts);
    let body = without(json("tts-uplink.json"), "/end_device_ids", "dev_eui");
    let shape = post(&body).unmapped(&tts).shape;
    assert_eq!(post(with(body.clone(), "/end_device_ids/device_id", "other")).unmapped(&tts).shape, shape);
    assert_ne!(post(without(body, "", "received_at")).unmapped(&tts).shape, shape);
}

#[test]
fn headers_that_a_format_reads_are_in_the_list() {
    for identity in NetworkFormat::Soracom.identities() {
        let name = format!("x-soracom-{}", identity.replace('_', "-"));
        assert!(HEADERS.contains(&name.as_str()), "{name}");
    }
    assert!(HEADERS.iter().all(|name| *name == name.to_ascii_lowercase()));
}
