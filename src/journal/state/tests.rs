//! What is small, over snapshots.

use super::*;
use crate::journal::record::{Moment, Tried};
use crate::journal::stamp::{Clock, Stamp};
use crate::journal::tests::message;

#[test]
fn what_records_add_up_to_survives_a_snapshot() {
    let uid = Uid::parse("o").unwrap();
    let group = GroupName::parse("g").unwrap();
    let mut small = Small::default();
    for record in [
        Record::Message(message("o", "g", b"1")),
        Record::Message(message("p", "g", b"2")),
        Record::Cursor { destination: "central".into(), up_to: 2, holes: vec![1] },
        Record::Dropped { from: 1, to: 1, count: 1, cause: Cause::Full },
        Record::BootTime { boot: 2, wall_at_zero_us: 1000 },
        Record::Session { uid, session: SessionRecord::Live },
        Record::Waiting { id: 1, data: vec![1] },
        Record::Waiting { id: 2, data: vec![2] },
        Record::Settled { id: 1 },
        Record::Command { seq: 2, state: State::Waiting, data: vec![] },
        Record::Tally { group, destination: "central".into(), cause: Cause::Delivered, add: 5 },
        Record::Tally { group, destination: "central".into(), cause: Cause::Delivered, add: 6 },
        Record::Retired { segments: vec![1, 2, 3, 7] },
    ] {
        small.apply(record);
    }
    let small = Small::decode(&small.encode()).unwrap();
    assert_eq!(small.received().collect::<Vec<_>>(), [(group, Kind::Telemetry, 2)]);
    assert_eq!(small.cursors["central"], CursorState { up_to: 2, holes: vec![1] });
    assert_eq!(small.waiting.keys().collect::<Vec<_>>(), [&2]);
    assert_eq!(small.tallies().collect::<Vec<_>>(), [(group, "central", Cause::Delivered, 11)]);
    assert_eq!(small.sessions().collect::<Vec<_>>(), [(uid, SessionRecord::Live)]);
    assert_eq!((small.corrected(2, 5), small.corrected(1, 5)), (Some(1005), None));
    assert_eq!((small.commands.len(), small.gone().len()), (1, 1));
    let retired = |small: &Small| (0..9).filter(|number| small.is_retired(*number)).collect::<Vec<_>>();
    assert_eq!(retired(&small), [1, 2, 3, 7]);
    let mut small = small;
    small.forget_retired(4);
    assert_eq!(retired(&small), [0, 1, 2, 3, 7]);
    assert_eq!(Small::decode(b""), None);
}

#[test]
fn traces_of_what_is_gone_stay_though_only_so_many_ranges_do() {
    let mut small = Small::default();
    let causes = [Cause::Full, Cause::Expired, Cause::Damaged];
    let gone = |round: u64| Gone {
        from: round * 100,
        to: round * 100 + 9,
        count: 10,
        cause: causes[round as usize % 3],
        destination: "d".to_owned(),
        at: Some(Moment { boot: 1, stamp: Stamp { mono_us: round, wall_us: 0, clock: Clock::Synced } }),
    };
    for round in 0..1000 {
        small.apply(Record::Gone(gone(round)));
        assert!(small.gone().len() <= GONE_MAX);
    }
    assert_eq!(small.gone()[GONE_MAX - 1], gone(999));
    assert_eq!(small.gone()[GONE_MAX - 200], gone(800), "the newest are as they were");
    let mut again = Small::decode(&small.encode()).unwrap();
    assert_eq!(again.gone(), small.gone());
    again.apply(Record::Gone(Gone { destination: "e".to_owned(), ..gone(1000) }));
    for small in [small, again] {
        for round in 0..1000 {
            let mut found = small.gone().iter().filter(|gone| (gone.from..=gone.to).contains(&(round * 100)));
            assert!(found.any(|gone| gone.cause == causes[round as usize % 3]), "{round}");
        }
    }
}

#[test]
fn if_no_two_ranges_are_alike_the_oldest_is_forgotten() {
    let mut small = Small::default();
    for round in 0..=GONE_MAX as u64 {
        let (destination, at) = (round.to_string(), None);
        small.apply(Record::Gone(Gone {
            from: round,
            to: round,
            count: 1,
            cause: Cause::Full,
            destination,
            at,
        }));
    }
    assert_eq!((small.gone().len(), small.gone()[0].from), (GONE_MAX, 1));
    assert_eq!(small.dropped[&Cause::Full], GONE_MAX as u64 + 1);
}

#[test]
fn what_a_token_was_given_for_is_kept_as_long_as_it() {
    let [a, b] = ["a", "b"].map(|name| Uid::parse(name).unwrap());
    let mut small = Small::default();
    for uid in [a, b] {
        small.apply(Record::Rights { uid, rights: [1; 8] });
    }
    small.apply(Record::Rights { uid: a, rights: [2; 8] });
    small.apply(Record::Token { uid: a, token: [0; 8], expires_us: 9 });
    let mut small = Small::decode(&small.encode()).unwrap();
    assert_eq!((small.rights_of(&a), small.rights_of(&b)), (Some([2; 8]), Some([1; 8])));
    small.expire(1);
    assert_eq!((small.rights_of(&a), small.rights_of(&b)), (Some([2; 8]), None));
    small.expire(9);
    assert_eq!(small.rights_of(&a), None);
}

#[test]
fn tokens_make_room_end_and_expire() {
    let uid = Uid::parse("o").unwrap();
    let mut small = Small::default();
    for number in 0..10 {
        small.apply(Record::Token { uid, token: [number; 8], expires_us: number.into() });
    }
    let tokens: Vec<_> = small.tokens().flat_map(|(_, tokens)| tokens).map(|token| token.token[0]).collect();
    assert_eq!(tokens, [2, 3, 4, 5, 6, 7, 8, 9]);
    small.expire(8);
    assert_eq!(small.tokens().next().unwrap().1.len(), 1);
    small.apply(Record::TokensEnded { uid });
    assert_eq!(small.tokens().count(), 0);
}

#[test]
fn what_is_kept_by_name_survives_and_only_so_many_names_do() {
    let mut small = Small::default();
    let kept = |name: usize, byte| Record::Kept { name: name.to_string(), data: vec![byte] };
    for name in 0..=KEPT_MAX {
        small.apply(kept(name, 1));
    }
    small.apply(kept(0, 2));
    let small = Small::decode(&small.encode()).unwrap();
    let found = ["0", "15", "16"].map(|name| small.kept(name));
    assert_eq!(found, [Some(&[2][..]), Some(&[1]), None]);
}

/// The bytes of the first snapshots: they must stay readable.
#[test]
fn the_bytes_of_version_1() {
    let mut bytes = vec![0; 15];
    // The time of boot 3, the floor of numbers.
    bytes.splice(4..5, [1, 3, 10]);
    bytes.push(7);
    let small = Small::decode(&bytes).unwrap();
    assert_eq!((small.corrected(3, 1), small.seq_floor), (Some(6), 7));
}

#[test]
fn what_is_known_of_a_destination_survives_a_snapshot_and_can_be_forgotten() {
    let group = GroupName::parse("g").unwrap();
    let erp = || "erp".to_owned();
    let tried = |from, to, is_dead| {
        let reason = "status 500".into();
        Tried { from, to, count: 1, attempts: 2, is_dead, at_us: 3, reason }
    };
    let mut small = Small::default();
    let plain = small.encode();
    for record in [
        Record::Cursor { destination: erp(), up_to: 20, holes: vec![] },
        Record::Behind { destination: erp(), backlog: vec![(2, 5), (7, 9)], again: vec![(1, 1)] },
        Record::Tried { destination: erp(), tried: tried(10, 12, true) },
        Record::Tried { destination: erp(), tried: tried(13, 13, false) },
        Record::DeadSettled { destination: erp(), from: 12, to: 12 },
        Record::Tally { group, destination: erp(), cause: Cause::Dead, add: 1 },
    ] {
        small.apply(record);
    }
    let read = Small::decode(&small.encode()).unwrap();
    assert_eq!(read, small);
    assert_eq!(read.behind["erp"].backlog.as_slice(), [(2, 5), (7, 9)]);
    assert_eq!(read.behind["erp"].again.as_slice(), [(1, 1)]);
    assert!(read.dead["erp"].contains(11) && !read.dead["erp"].contains(12));
    small.apply(Record::Forgotten { destination: erp() });
    assert_eq!((small.encode(), small.cursors.len()), (plain, 0));
    small.apply(Record::Behind { destination: erp(), backlog: vec![], again: vec![] });
    assert!(small.behind.is_empty());
}
