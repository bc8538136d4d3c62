//! When what happened to a message.

use super::rig::stamp;
use super::{Memory, Rig};
use crate::journal::reader::Reader;
use crate::journal::record::Record;
use crate::journal::state::Small;

/// A cursor that follows ten messages behind, over many segments.
#[test]
fn the_record_that_settled_a_message_is_found_in_any_segment() {
    let medium = Memory::default();
    let mut rig = Rig::open(&medium);
    for round in 0..200_u64 {
        rig.append(3);
        let cursor =
            Record::Cursor { destination: "x".into(), up_to: (round * 3).saturating_sub(10), holes: vec![] };
        rig.front.note(&cursor, stamp(1_000_000 + round * 1000)).unwrap();
        if rig.commit().unwrap().turned {
            rig.writer.upkeep().unwrap();
        }
    }
    let catalog = rig.writer.catalog();
    assert!(catalog.segments.len() > 10);
    let mut reader = Reader::new(medium.clone());
    for seq in 1..=600_u64 {
        let has = |small: &Small| small.cursors.get("x").is_some_and(|cursor| cursor.up_to >= seq);
        let moved = |record: Record<'_>| match record {
            Record::Cursor { up_to, .. } if up_to >= seq => Some(up_to),
            _ => None,
        };
        let found = reader.first_note(&catalog, seq, has, moved).unwrap();
        let expected = (0..200_u64).find(|round| (round * 3).saturating_sub(10) >= seq);
        let expected = expected.map(|round| {
            let at = stamp(1_000_000 + round * 1000).wall_us;
            ((round * 3).saturating_sub(10), at)
        });
        assert_eq!(found, expected, "{seq}");
    }
}
