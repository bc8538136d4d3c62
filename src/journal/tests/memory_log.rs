//! The log in memory.

use crate::journal::*;

fn message(len: usize) -> Message {
    Message {
        uid: Uid::parse("o").unwrap(),
        group: GroupName::parse("g").unwrap(),
        format: Format::Binary,
        data: vec![0; len].into(),
    }
}

fn assert_books(log: &MemoryLog) {
    let totals = log.totals();
    assert_eq!(totals.appended, totals.released + totals.dropped + log.usage().messages as u64);
}

#[test]
fn numbers_are_gap_free_and_messages_found_by_them() {
    let mut log = MemoryLog::new(1 << 20, OnFull::DropOldest);
    for expected in 1..=10 {
        assert_eq!(log.append(message(expected as usize)), Ok(expected));
    }
    assert_eq!(log.from(7).unwrap().1.data.len(), 7);
    assert_eq!(log.from(0).unwrap().0, 1);
    assert_eq!(log.from(11), None);
    assert_books(&log);
}

#[test]
fn release_out_of_order_keeps_the_others() {
    let mut log = MemoryLog::new(1 << 20, OnFull::DropOldest);
    for len in 1..=3 {
        log.append(message(len)).unwrap();
    }
    assert!(log.release(2));
    assert!(!log.release(2));
    assert_eq!(log.from(2).unwrap().0, 3);
    assert_eq!(log.usage().messages, 2);
    log.release(1);
    log.release(3);
    assert_eq!(log.usage(), Usage { messages: 0, bytes: 0, limit: 1 << 20 });
    assert_books(&log);
}

#[test]
fn at_the_limit_the_oldest_makes_room_or_the_new_is_refused() {
    let limit = 3 * (RECORD_OVERHEAD + 10);
    for on_full in [OnFull::DropOldest, OnFull::RefuseNew] {
        let mut log = MemoryLog::new(limit, on_full);
        for _ in 0..3 {
            log.append(message(10)).unwrap();
        }
        assert_eq!(log.usage().bytes, limit);
        match on_full {
            OnFull::DropOldest => {
                assert_eq!(log.append(message(10)), Ok(4));
                assert_eq!((log.from(0).unwrap().0, log.totals().dropped), (2, 1));
            }
            OnFull::RefuseNew => {
                assert_eq!(log.append(message(10)), Err(Full));
                assert_eq!((log.from(0).unwrap().0, log.totals().refused), (1, 1));
            }
        }
        assert_books(&log);
    }
}
