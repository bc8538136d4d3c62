//! What each fuzz target does with its bytes. Also run by `cargo test`, see `tests/fuzz_replay.rs`.

mod answers;
mod api_json;
mod config;
mod http;
mod ingest;
mod journal;
#[allow(unused_imports, reason = "a part of it is used")]
#[path = "../../support/medium/mod.rs"]
mod medium;
mod router;
mod session;

use iotsocketd::wire::{
    ACL_ITEM_LEN, AclItem, Datagram, Decoded, InitiationReply, PAYLOAD_DATA_MAX, PAYLOAD_HEAD_LEN, PROOF_LEN,
    Payload, Proof, TRANSMISSION_MAX, Transmission, WireError,
};

pub use answers::{access_list, handover, initiation, signed, webhook_answer};
pub use api_json::api_json;
pub use config::config;
pub use http::http;
pub use ingest::ingest;
pub use journal::{backup_file, recovery, segment};
pub use router::router;
pub use session::session;

/// Takes an input; panics if it was not handled as it should be.
pub type Body = fn(&[u8]);

/// Every body by the name of its target.
pub const TARGETS: &[(&str, Body)] = &[
    ("access_list", access_list),
    ("acl_item", acl_item),
    ("api_json", api_json),
    ("backup_file", backup_file),
    ("config", config),
    ("datagram", datagram),
    ("handover", handover),
    ("http", http),
    ("ingest", ingest),
    ("initiation", initiation),
    ("payload", payload),
    ("proof", proof),
    ("recovery", recovery),
    ("reply", reply),
    ("router", router),
    ("segment", segment),
    ("session", session),
    ("signed", signed),
    ("transmission", transmission),
    ("webhook_answer", webhook_answer),
];

/// What every streaming decoder owes, for an input and for its first half.
fn promises<'a, T: PartialEq + std::fmt::Debug>(
    data: &'a [u8],
    max: usize,
    decode: impl Fn(&'a [u8]) -> Result<Decoded<T>, WireError>,
) -> Option<(T, usize)> {
    let whole = decode(data);
    let half = &data[..data.len() / 2];
    match decode(half) {
        Ok(Decoded::Need(n)) => assert!(n > half.len() && n <= max),
        // What was said of the beginning stays true when more arrives.
        said => assert_eq!(said, whole),
    }
    match whole {
        Ok(Decoded::Done(value, used)) => {
            assert!(used > 0 && used <= data.len() && used <= max);
            Some((value, used))
        }
        Ok(Decoded::Need(n)) => {
            assert!(n > data.len() && n <= max);
            None
        }
        Err(_) => None,
    }
}

/// A stream: one transmission behind the other until one is cut or wrong.
pub fn transmission(mut data: &[u8]) {
    while let Some((value, used)) = promises(data, TRANSMISSION_MAX, Transmission::decode) {
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        assert_eq!(bytes.len(), used);
        assert_eq!(value.wire_len(), used);
        // Reserved bits of byte 0 are not kept, everything else is.
        assert_eq!(bytes[0], data[0] & !0x07);
        assert_eq!(bytes[1..], data[1..used]);
        assert_eq!(Transmission::decode(&bytes), Ok(Decoded::Done(value, used)));
        data = &data[used..];
    }
}

/// One payload block, with anything behind it.
pub fn payload(data: &[u8]) {
    if let Some((value, used)) = promises(data, PAYLOAD_HEAD_LEN + PAYLOAD_DATA_MAX, Payload::decode) {
        assert_eq!([&value.encode_head(), value.data()].concat(), data[..used]);
    }
}

/// The concentrator's reply, with anything behind it.
pub fn reply(data: &[u8]) {
    if let Some((value, used)) = promises(data, 2 + 1 + 255 + 2, InitiationReply::decode) {
        let bytes = value.encode().expect("what was read fits");
        assert_eq!(bytes.len(), used);
        assert_eq!(InitiationReply::decode(&bytes), Ok(Decoded::Done(value, used)));
    }
}

/// A whole datagram.
pub fn datagram(data: &[u8]) {
    if let Ok(value) = Datagram::decode(data) {
        assert_eq!([value.encode_head().as_slice(), value.payload.data()].concat(), data);
    }
}

/// One item of an access list.
pub fn acl_item(data: &[u8]) {
    if let Some(bytes) = data.first_chunk::<ACL_ITEM_LEN>()
        && let Ok(item) = AclItem::decode(bytes)
    {
        assert_eq!(item.encode(), *bytes);
    }
}

/// A client's proof.
pub fn proof(data: &[u8]) {
    if let Some(bytes) = data.first_chunk::<PROOF_LEN>()
        && let proof = Proof::decode(bytes)
        && let Some(uid) = proof.uid
    {
        assert_eq!(Proof::encode(uid, &proof.mac), *bytes);
    }
}
