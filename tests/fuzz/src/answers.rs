//! What files, other versions and webhooks say to the concentrator.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use iotsocketd::endpoint::validity;
use iotsocketd::endpoint::webhook::parse_answer;
use iotsocketd::hub::access_file::{self, AccessFileCause, key_to_hex};
use iotsocketd::journal::chain::Link;
use iotsocketd::payload_json;
use iotsocketd::service::upgrade::signature;
use iotsocketd::service::upgrade::words::Words;
use iotsocketd::wire::{GroupName, INITIATION_LEN, Initiation, PAYLOAD_DATA_MAX, Uid, parse_hex};

/// The file of the access list: taken whole, or refused with sentences that show no key.
pub fn access_list(data: &[u8]) {
    let known = |group: &GroupName| group.as_str() != "Nowhere";
    match access_file::parse(data, known) {
        Ok(list) => {
            let uids: BTreeSet<&Uid> = list.iter().map(|(uid, _)| uid).collect();
            assert_eq!(uids.len(), list.len());
            for (uid, entry) in list.iter() {
                assert!(!uid.is_central() && known(&entry.group));
                // What it is stored as is what it was.
                assert_eq!(parse_hex(&key_to_hex(&entry.key)), Some(entry.key.0));
            }
        }
        Err(AccessFileCause::Objects(sentences)) => {
            assert!(!sentences.is_empty() && sentences.len() <= 100);
            let text = String::from_utf8_lossy(data);
            assert!(!sentences.iter().any(|sentence| shows_a_key(sentence, &text)), "{sentences:?}");
        }
        Err(_) => {}
    }
}

/// Whether a sentence about a list has the digits of a key in it. Names are told as they are: digits that stand in the list
/// more than once may be a name, too.
fn shows_a_key(sentence: &str, list: &str) -> bool {
    let mut runs = sentence.split(|letter: char| !letter.is_ascii_hexdigit()).filter(|run| run.len() >= 64);
    let is_key = |run: &str| list.contains(&format!("\"AuthKey\":\"{run}")) && list.matches(run).count() == 1;
    runs.any(is_key)
}

/// What a webhook answers to an object's request.
pub fn webhook_answer(data: &[u8]) {
    if let Ok(answer) = parse_answer(data) {
        assert!(answer.payload.len() <= PAYLOAD_DATA_MAX);
        assert!(payload_json::is_valid(answer.format, &answer.payload));
        let payload =
            payload_json::to_json(answer.format, &answer.payload).expect("it was taken as this format");
        let name = answer.format.name();
        let again = format!("{{\"Code\":{},\"Format\":\"{name}\",\"Payload\":{payload}}}", answer.code);
        assert_eq!(parse_answer(again.as_bytes()), Ok(answer));
    }
}

/// The first four bytes of a client.
pub fn initiation(data: &[u8]) {
    if let Some(bytes) = data.first_chunk::<INITIATION_LEN>() {
        let initiation = Initiation::decode(*bytes);
        assert_eq!(Initiation::decode(initiation.encode()), initiation);
    }
}

thread_local! {
    static PAIR: (UnixDatagram, Words) = {
        let (one, other) = Words::pair().expect("a pair of sockets");
        (one.into_descriptor().into(), other)
    };
}

/// A word of another version: known, or an error; the pair goes on either way.
pub fn handover(data: &[u8]) {
    // Nothing is the end.
    if data.is_empty() {
        return;
    }
    PAIR.with(|(socket, words)| {
        // More than a socket takes cannot be said.
        if socket.send(data).is_ok()
            && let Ok(word) = words.hear(Duration::from_secs(1))
        {
            assert!(word.is_some(), "a word was lost");
        }
    });
}

/// A signature, certificate or link of the audit log that somebody made: not of our key, and read without a panic.
pub fn signed(data: &[u8]) {
    const KEY: &str =
        "untrusted comment: minisign public key\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n";
    let text = String::from_utf8_lossy(data);
    assert!(signature::verify(b"nobody signed this", &text, KEY, "test").is_err());
    let _no_key = signature::verify(b"nobody signed this", KEY, &text, "test");
    let _claim = signature::claims_system(&text);
    let _end = validity::not_after(data);
    let _link = Link::stated(data);
}
