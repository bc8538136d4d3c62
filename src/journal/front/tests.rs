//! What is appended, in which batch, and what is kept of it.

use super::*;
use crate::journal::record::Records;
use crate::journal::tests::message;

const START: Start =
    Start { journal: JournalId([1; 16]), next_seq: 10, boot: 2, floor_us: 5_000_000, batch_max: 1000 };
const BOUNDS: Bounds = Bounds { pending_max: 4000, tail_max: 2000 };

fn at(mono_us: u64, wall_us: i64) -> Stamp {
    Stamp { mono_us, wall_us, clock: Clock::Synced }
}

#[test]
fn numbers_follow_and_both_clocks_never_go_back() {
    let mut front = Front::new(START, BOUNDS);
    for (seq, now) in [at(100, 4_500_000), at(90, 7_000_000), at(300, 6_000_000)].into_iter().enumerate() {
        assert_eq!(front.append(message("o", "g", b"x"), now), Ok(10 + seq as u64));
    }
    let stamps: Vec<_> = (10..13).map(|seq| front.get(seq).unwrap().stamp).collect();
    assert_eq!(stamps, [at(100, 5_000_000), at(100, 5_000_000), at(300, 5_000_200)]);
    let batch = front.take_batch().unwrap();
    assert_eq!((batch.head.first_seq, batch.head.numbered, batch.head.boot), (10, 3, 2));
    assert_eq!(Records::new(&batch.records).map(|raw| raw.since_us).collect::<Vec<_>>(), [0, 0, 200]);
    front.append(message("o", "g", b"x"), at(400, 4_500_000)).unwrap();
    assert_eq!(front.get(13).unwrap().stamp, at(400, 5_000_200));
}

#[test]
fn a_time_that_an_earlier_clock_ran_ahead_to_is_not_told_as_right() {
    let mut front = Front::new(START, BOUNDS);
    let edge = START.floor_us - AHEAD_MAX_US;
    let unsynced = |mono_us| Stamp { clock: Clock::Unsynced, ..at(mono_us, START.floor_us) };
    assert_eq!(front.empty_batch(at(1, edge)).head.start, at(1, START.floor_us));
    assert_eq!(front.empty_batch(at(1, edge - 1)).head.start, unsynced(1));
    for (now, stamp) in [
        (at(1, edge), at(1, START.floor_us)),
        (at(2, edge - 1), unsynced(2)),
        (at(3, START.floor_us), at(3, START.floor_us)),
    ] {
        let seq = front.append(message("o", "g", b"x"), now).unwrap();
        assert_eq!(front.get(seq).unwrap().stamp, stamp);
    }
    assert_eq!(front.pending_batches(), 3, "one for each clock");
}

#[test]
fn what_belongs_together_is_in_one_batch() {
    let mut front = Front::new(START, Bounds { pending_max: 10_000, ..BOUNDS });
    front.append(message("o", "g", &[0; 900]), at(0, 0)).unwrap();
    let waiting = |id| Record::Waiting { id, data: vec![0; 500] };
    front.note_together(&[waiting(1), waiting(2), waiting(3)], at(0, 0)).unwrap();
    front.note(&waiting(4), at(0, 0)).unwrap();
    assert_eq!(front.pending_batches(), 2);
    assert_eq!(front.take_batch().unwrap().head.records, 4);
    assert_eq!(front.take_batch().unwrap().head.records, 1);
}

#[test]
fn a_message_and_the_one_beside_it_are_in_one_batch_however_full_it_is() {
    let mut front = Front::new(START, BOUNDS);
    for len in [0, 950, 1000, 3990, 10_000] {
        let seq =
            front.append_with(message("o", "g", &vec![0; len]), message("", "g", b"x"), at(0, 0)).unwrap();
        assert_eq!(&*front.get(seq + 1).unwrap().message.payload, b"x");
        let batch = front.take_batch().unwrap();
        assert_eq!((batch.head.first_seq, batch.head.numbered), (seq, 2), "{len}");
        front.committed(&batch);
    }
}

#[test]
fn durable_is_what_was_committed() {
    let mut front = Front::new(START, BOUNDS);
    let ticket = front.note(&Record::Settled { id: 1 }, at(0, 0)).unwrap();
    front.append(message("o", "g", b"x"), at(0, 0)).unwrap();
    let batch = front.take_batch().unwrap();
    front.append(message("o", "g", b"y"), at(0, 0)).unwrap();
    assert_eq!((front.durable(), front.is_durable(ticket)), (10, false));
    front.committed(&batch);
    assert_eq!((front.durable(), front.is_durable(ticket)), (11, true));
    assert!(!front.is_durable(front.newest()));
}

#[test]
fn what_waits_is_bounded_and_what_is_kept_too() {
    let mut front = Front::new(START, BOUNDS);
    let mut taken = 0;
    while front.append(message("o", "g", &[0; 100]), at(0, 0)).is_ok() {
        taken += 1;
    }
    assert_eq!(front.append(message("o", "g", b""), at(0, 0)), Err(Refused::Behind));
    assert!((4000..4200).contains(&front.waiting_bytes()));
    assert_eq!(front.tail_start(), 10, "what is not on the medium stays");
    let mut batches = 0;
    while let Some(batch) = front.take_batch() {
        assert!(batch.records.len() < 1000 + 200);
        front.committed(&batch);
        batches += 1;
    }
    assert!(batches > 3);
    assert_eq!((front.waiting_bytes(), front.durable()), (0, 10 + taken));
    assert!(front.tail_start() > 10 && front.get(10).is_none());
    let kept = front.next_seq() - front.tail_start();
    assert!((1..20).contains(&kept));
    assert_eq!(front.get(front.tail_start()).unwrap().seq, front.tail_start());
}

#[test]
fn a_set_clock_begins_a_batch() {
    let mut front = Front::new(START, BOUNDS);
    let unsynced = Stamp { clock: Clock::Unsynced, ..at(1, 0) };
    front.append(message("o", "g", b"x"), unsynced).unwrap();
    front.append(message("o", "g", b"x"), at(2, 9_000_000)).unwrap();
    assert_eq!(front.take_batch().unwrap().head.start, Stamp { wall_us: 5_000_000, ..unsynced });
    assert_eq!(front.take_batch().unwrap().head.start, at(2, 9_000_000));
    assert_eq!(front.take_batch(), None);
}

#[test]
fn refusals_leave_no_trace() {
    let mut front = Front::new(START, BOUNDS);
    let huge = vec![0; record::RECORD_MAX];
    assert_eq!(front.append(message("o", "g", &huge), at(0, 0)), Err(Refused::TooLarge));
    front.set_takes(Takes::Essentials);
    assert_eq!(front.append(message("o", "g", b""), at(0, 0)), Err(Refused::Full));
    let event = Message { via: record::Via::Local, ..message("o", "g", b"") };
    front.set_takes(Takes::Nothing);
    assert_eq!(front.append(event.clone(), at(0, 0)), Err(Refused::ReadOnly));
    assert_eq!((front.take_batch(), front.next_seq()), (None, 10));
    front.set_takes(Takes::Essentials);
    assert_eq!(front.append(event, at(0, 0)), Ok(10));
}
