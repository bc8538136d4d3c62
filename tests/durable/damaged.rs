//! Messages that the medium lost: told, booked, and passed over.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::bounds::{flood, has_alert, settled, small_site};
use crate::central::{Session, Shared, counts, drain};
use crate::ledger::{Books, Ledger};
use crate::support::{Site, eventually};

/// The journal's segments, oldest first.
fn segments(site: &Site) -> Vec<PathBuf> {
    let entries = fs::read_dir(site.path("state/journal")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = entries.filter(|path| path.extension().unwrap() == "seg").collect();
    segments.sort();
    segments
}

/// Changes a byte in the middle of what was written to a file.
fn damage(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    let end = bytes.len() - 512;
    let written = bytes[..end].iter().rposition(|byte| *byte != 0).unwrap();
    bytes[written / 2] ^= 0x55;
    fs::write(path, bytes).unwrap();
}

/// Holds what is told against what is there; how many messages are lost.
fn look(site: &Site, sent: u64) -> u64 {
    eventually("it is told", || site.log().contains("event=messages_lost"));
    eventually("the alert is up", || has_alert(site, "journal_damaged"));
    let mut ledger = Ledger { may_have_gaps: true, ..Ledger::default() };
    let there = ledger.count(site);
    let lost = sent - there;
    assert!(lost > 0 && there > 0, "{lost} of {sent}");
    eventually("what waits by the books is there", || Books::of(site).waiting == there);
    let is_it = |event: &&Value| event["payload"]["reason"] == "the medium lost it";
    let mut event = Value::Null;
    eventually("the event is on flash", || {
        let events = site.http().get("/v1/messages?kind=event&limit=1000").json();
        event = events["messages"].as_array().unwrap().iter().find(is_it).cloned().unwrap_or_default();
        !event.is_null()
    });
    assert_eq!(event["payload"]["to"], "central");
    let seq = event["payload"]["first"].as_u64().unwrap();
    assert!(!ledger.shown.contains_key(&seq), "{seq} is there");
    let reply = site.http().get(&format!("/v1/messages/{seq}"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let gone = reply.json();
    assert_eq!(gone["state"], "dropped");
    let reason = gone["events"].as_array().unwrap().last().unwrap()["reason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("the medium lost it"), "{reason}");
    // The central gets what is left, and nothing waits for what is not.
    let got = Shared::default();
    let central = Session::open(site, &got).unwrap();
    drain(site);
    central.leave();
    assert_eq!(counts(&got).0, there);
    assert!(!site.log().contains("books_differ"), "{}", site.log());
    lost
}

#[test]
fn what_a_sealed_segment_lost_is_booked_as_damaged() {
    let (site, mut objects) = small_site("drop-oldest");
    flood(&site, &mut objects, 300_000, u64::MAX);
    settled(&site);
    let sent = Books::of(&site).received;
    site.kill();
    damage(&segments(&site)[1]);
    site.start();
    let lost = look(&site, sent);
    let books = Books::of(&site);
    assert_eq!((books.received, books.damaged, books.delivered), (sent, lost, sent - lost), "{books:?}");
    site.stop();
    site.start();
    let again = Books { numbered: books.numbered, ..Books::of(&site) };
    assert_eq!(again, books, "over a restart, and once");
}

#[test]
fn what_the_newest_segment_lost_is_told() {
    let (site, mut objects) = small_site("drop-oldest");
    // Several batches.
    for _ in 0..5 {
        flood(&site, &mut objects, 6_000, u64::MAX);
        settled(&site);
    }
    let sent = Books::of(&site).received;
    site.kill();
    damage(segments(&site).last().unwrap());
    site.start();
    let lost = look(&site, sent);
    let books = Books::of(&site);
    // What came in is known by what is there: of the rest nobody knows what it was.
    assert_eq!((books.received, books.damaged), (sent - lost, 0), "{books:?}");
}
