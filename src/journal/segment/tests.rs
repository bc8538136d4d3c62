//! The layouts, byte by byte.

use super::*;

fn header() -> Header {
    Header {
        version: VERSION,
        number: 7,
        epoch: 0x1122_3344_5566_7788,
        journal: JournalId([9; 16]),
        boot: 3,
        boot_id: [4; 16],
        first_seq: 1000,
        created_us: -6,
        previous: End { number: 6, offset: 5000, crc: 99 },
        oldest: 2,
        environment: *b"production\0\0\0\0\0\0",
        once_more: None,
    }
}

fn batch_head() -> BatchHead {
    let start = Stamp { mono_us: 5, wall_us: 1_700_000_000_000_000, clock: Clock::Synced };
    BatchHead { len: 0, crc: 0, chain: 77, first_seq: 12, numbered: 2, records: 3, start, boot: 4 }
}

#[test]
fn layouts_come_back() {
    assert_eq!(Header::decode(&header().encode()), Ok(header()));
    assert_eq!(Header::decode(&reclaimed().encode()), Ok(reclaimed()));
    let trailer = Trailer { end: 500, last_crc: 1, data_crc: 2, parts: [Part { len: 3, crc: 4 }; 4] };
    assert_eq!(Trailer::decode(&trailer.encode(8), 8), Some(trailer));
    assert_eq!(Trailer::decode(&trailer.encode(8), 9), None, "another epoch");
    let mut bytes = Vec::new();
    let crc = batch_head().encode(b"records", 8, 192, &mut bytes);
    let decoded = BatchHead::decode(&bytes, 8).unwrap();
    assert_eq!(decoded, BatchHead { len: 7, crc, ..batch_head() });
    assert!(decoded.is_intact(&bytes, 8, 192));
    assert!(!decoded.is_intact(&bytes, 9, 192), "another epoch");
    assert!(!decoded.is_intact(&bytes, 8, 193), "another place");
    assert_eq!(decoded.total_len(), bytes.len() as u64);
}

fn reclaimed() -> Header {
    let end = End { number: 7, offset: 4000, crc: 98 };
    Header { version: VERSION_RECLAIMED, once_more: Some(OnceMore { end, without: 97 }), ..header() }
}

#[test]
fn every_flipped_bit_is_seen() {
    for (good, len) in [(header(), ONCE_MORE_AT), (reclaimed(), ONCE_MORE_AT + ONCE_MORE_LEN + 4)] {
        for bit in 0..len * 8 {
            let mut bytes = good.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bytes), Err(HeaderError::Bad), "bit {bit} of the header");
        }
    }
    let mut good = Vec::new();
    batch_head().encode(b"records", 8, 192, &mut good);
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let intact = BatchHead::decode(&bytes, 8).is_some_and(|head| head.is_intact(&bytes, 8, 192));
        assert!(!intact, "bit {bit} of the batch");
    }
}

#[test]
fn a_newer_version_is_told_by_its_number() {
    let mut bytes = header().encode();
    bytes[8] = 4;
    assert_eq!(Header::decode(&bytes), Err(HeaderError::Bad), "its version alone is damaged");
    let crc = crc32c::crc32c(&bytes[..HEADER_CHECKED]);
    bytes[HEADER_CHECKED..HEADER_CHECKED + 4].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(Header::decode(&bytes), Err(HeaderError::Newer(4)));
    assert_eq!(Header::decode(&bytes[..100]), Err(HeaderError::Bad));
    assert_eq!(Header::decode(&[0; HEADER_LEN]), Err(HeaderError::Bad));
}

/// The bytes of format version 1: they must stay readable.
#[test]
fn the_layout_of_version_1() {
    let first = Header { version: 1, ..header() };
    let bytes = first.encode();
    assert_eq!(Header::decode(&bytes), Ok(first));
    assert_eq!(bytes[..24], *b"IOTSJRNL\x01\0\0\0\x03\0\0\0\x07\0\0\0\0\0\0\0");
    assert_eq!(crc32c::crc32c(&bytes[..HEADER_CHECKED]), 2_005_533_694);
    let mut batch = Vec::new();
    batch_head().encode(b"records", 8, 192, &mut batch);
    assert_eq!(crc32c::crc32c(&batch), 3_639_577_793);
}

#[test]
fn names_and_numbers() {
    assert_eq!(name(12), "0000000012.seg");
    assert_eq!(number("0000000012.seg"), Some(12));
    for other in ["12.seg", "spare.tmp", "0000000012.seg2", "000000001x.seg", "", ".seg"] {
        assert_eq!(number(other), None, "{other}");
    }
}
