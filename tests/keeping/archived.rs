//! The archive of the real program.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;

use flate2::read::MultiGzDecoder;
use iotsocketd::wire::Format;
use serde_json::Value;

use crate::support::{Site, eventually};

/// Bytes of a message here: a small journal's segments turn over soon.
const PAYLOAD: usize = 2_000;

/// The numbers of all telemetry in the archive's folder, each from a file that has its manifest.
fn archived(site: &Site) -> BTreeSet<u64> {
    let mut seqs = BTreeSet::new();
    let Ok(entries) = fs::read_dir(site.path("state/archive")) else { return seqs };
    for entry in entries {
        let path = entry.unwrap().path();
        if !path.to_str().unwrap().ends_with(".json") {
            continue;
        }
        let manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let file = path.with_file_name(manifest["file"].as_str().unwrap());
        let mut text = String::new();
        MultiGzDecoder::new(fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
        for line in text.lines() {
            let message: Value = serde_json::from_str(line).unwrap();
            if message["kind"] != "telemetry" {
                continue;
            }
            assert_eq!(message["uid"], "pump-1");
            assert!(seqs.insert(message["seq"].as_u64().unwrap()), "twice: {line}");
        }
    }
    seqs
}

#[test]
fn what_expires_is_in_the_archive_before_it_leaves_the_journal() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.set("journal", "max_size", "\"4MiB\"");
    site.set("journal", "retention", "\"1s\"");
    site.set("journal", "on_expiry", "\"archive\"");
    site.set("time", "trust", "\"always\"");
    site.start();
    // Somebody has them: what is not delivered is not the matter here.
    let mut central = site.login(site.central());
    let (_object, token) = site.login_with_token(pump);
    let mut sent = 0_u64;
    let mut send = |count: u64| {
        for _ in 0..count {
            site.telemetry(token, Format::Utf8, "x".repeat(PAYLOAD).as_bytes());
            central.telemetry();
        }
        sent += count;
        sent
    };
    send(600);
    eventually("something is archived", || archived(&site).len() > 100);
    let first = || {
        let page = site.http().get("/v1/messages?kind=telemetry&limit=1").json();
        page["messages"][0]["seq"].as_u64().unwrap_or(u64::MAX)
    };
    let oldest = first();
    eventually("it leaves the journal", || {
        send(20);
        first() > oldest
    });
    let in_journal = || {
        let (mut seqs, mut after) = (BTreeSet::new(), 0);
        loop {
            let path = format!("/v1/messages?kind=telemetry&limit=500&after={after}");
            let page = site.http().get(&path).json();
            let messages = page["messages"].as_array().unwrap();
            if messages.is_empty() {
                break seqs;
            }
            seqs.extend(messages.iter().map(|message| message["seq"].as_u64().unwrap()));
            after = page["next"].as_u64().unwrap();
        }
    };
    eventually("every message is in the journal or in the archive", || {
        // Looked at first: what leaves the journal meanwhile is in the archive already.
        let in_journal = in_journal();
        let archived = archived(&site);
        let first = in_journal.first().copied().unwrap_or(u64::MAX);
        let has_left = archived.iter().any(|seq| *seq < first);
        has_left && archived.union(&in_journal).count() as u64 == site.number("/books/received")
    });
}
