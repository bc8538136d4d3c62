//! Records and their bytes.

use super::*;
use crate::journal::stamp::{Clock, Stamp};

fn message(payload: &[u8]) -> Message<'_> {
    Message {
        uid: Uid::parse("ObjTest").unwrap(),
        group: GroupName::parse("Devices").unwrap(),
        kind: Kind::Telemetry,
        via: Via::Udp,
        format: Format::Json,
        state: State::Waiting,
        source: None,
        network: None,
        payload: payload.into(),
    }
}

fn every_record() -> Vec<Record<'static>> {
    let uid = Uid::parse("o").unwrap();
    let group = GroupName::parse("g").unwrap();
    let full = Message {
        source: Some("ttn".into()),
        network: Some(b"{\"port\":1}".as_slice().into()),
        payload: vec![7; 70_000].into(),
        ..message(b"")
    };
    vec![
        Record::Message(message(b"{}").into_owned()),
        Record::Message(full),
        Record::Cursor { destination: "central".into(), up_to: 5, holes: vec![2, 3] },
        Record::Dropped { from: 1, to: 9, count: 7, cause: Cause::Full },
        Record::BootTime { boot: 3, wall_at_zero_us: -5 },
        Record::Token { uid, token: *b"12345678", expires_us: i64::MAX },
        Record::TokensEnded { uid },
        Record::Session { uid, session: SessionRecord::Kept { until_us: 9 } },
        Record::Waiting { id: 1, data: vec![1, 2] },
        Record::Settled { id: 1 },
        Record::Command { seq: 4, state: State::Dead, data: vec![] },
        Record::Jump { from: 4, to: 1000, reason: JumpReason::Restore },
        Record::Snapshot { data: vec![0; 300] },
        Record::Retired { segments: vec![3, 4] },
        Record::Tally { group, destination: "c".into(), cause: Cause::Delivered, add: 1 },
        Record::Kept { name: "alerts".into(), data: vec![49, 50] },
        Record::Idempotency { key: [1; 16], body: [2; 16], seq: 3, at_us: 4 },
        Record::Gone(Gone {
            from: 1,
            to: 9,
            count: 7,
            cause: Cause::Expired,
            destination: "c".into(),
            at: Some(Moment { boot: 1, stamp: Stamp { mono_us: 1, wall_us: 2, clock: Clock::Synced } }),
        }),
        Record::Rights { uid, rights: [9; 8] },
        Record::Received { group, kind: Kind::Telemetry, add: 2 },
        Record::Behind { destination: "erp".into(), backlog: vec![(2, 9)], again: vec![] },
        Record::Tried { destination: "erp".into(), tried: tried() },
        Record::DeadSettled { destination: "erp".into(), from: 2, to: 9 },
        Record::Forgotten { destination: "erp".into() },
    ]
}

fn tried() -> Tried {
    let reason = "it answered status 500".into();
    Tried { from: 2, to: 9, count: 3, attempts: 5, is_dead: true, at_us: 7, reason }
}

#[test]
fn every_record_comes_back_as_it_went_in() {
    let mut bytes = Vec::new();
    for (since, record) in every_record().iter().enumerate() {
        encode(record, u32::try_from(since * 1000).unwrap(), &mut bytes).unwrap();
    }
    let raws: Vec<_> = Records::new(&bytes).collect();
    let decoded: Vec<_> = raws.iter().map(|raw| raw.decode().unwrap()).collect();
    assert_eq!(decoded, every_record());
    assert_eq!(raws[3].since_us, 3000);
    for (raw, record) in raws.iter().zip(every_record()) {
        assert_eq!(raw.is_numbered(), record.is_numbered());
    }
    assert_eq!(raws[0].uid(), Some(b"ObjTest".as_slice()));
    assert_eq!(raws[2].uid(), None);
}

/// The bytes of format version 1: they must stay readable.
#[test]
fn the_bytes_of_version_1() {
    let mut bytes = Vec::new();
    encode(&Record::Message(message(b"{}")), 300, &mut bytes).unwrap();
    encode(&Record::Settled { id: 5 }, 0, &mut bytes).unwrap();
    assert_eq!(
        bytes,
        b"\x1c\xac\x02\x00\x07ObjTest\x07Devices\x00\x01\x0a\x01\x00\x00\x02{}\x03\x00\x08\x05"
    );
}

#[test]
fn a_record_from_the_future_is_skipped_and_its_neighbours_are_read() {
    let mut bytes = vec![4, 0, 99, 1, 2];
    // A known one with a field more.
    bytes.extend([5, 0, 8, 7, 42, 42]);
    let decoded: Vec<_> = Records::new(&bytes).map(|raw| raw.decode()).collect();
    assert_eq!(decoded, [None, Some(Record::Settled { id: 7 })]);
}

#[test]
fn a_record_that_is_too_large_leaves_nothing_behind() {
    let mut bytes = vec![1, 2, 3];
    assert_eq!(encode(&Record::Message(message(&[0; RECORD_MAX])), 0, &mut bytes), Err(TooLarge));
    assert_eq!(bytes, [1, 2, 3]);
}

#[test]
fn bytes_that_make_no_sense_end_the_records() {
    for bytes in [&[200_u8][..], &[5, 0], &[0xff; 20], &[0]] {
        assert_eq!(Records::new(bytes).count(), 0);
    }
}

#[test]
fn nothing_secret_is_printed() {
    let text = format!("{:?}", every_record());
    assert!(!text.contains("12345678") && !text.contains("49, 50") && !text.contains("{}"), "{text}");
}

#[test]
fn a_hundred_bytes_cost_little_more() {
    let mut bytes = Vec::new();
    encode(&Record::Message(message(&[0; 100])), 90_000, &mut bytes).unwrap();
    assert!(bytes.len() < 132, "{}", bytes.len());
}
