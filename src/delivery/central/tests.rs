//! The central as a destination.

use super::*;
use crate::journal::front::{Bounds, Front};
use crate::journal::record::Via;
use crate::journal::stamp::{Clock, JournalId, Stamp};
use crate::journal::writer::Start;
use crate::wire::{Format, Uid};

const START: Start =
    Start { journal: JournalId([1; 16]), next_seq: 1, boot: 1, floor_us: 0, batch_max: 1 << 20 };

fn front(sizes: &[usize]) -> Front {
    let mut front = Front::new(START, Bounds { pending_max: 1 << 20, tail_max: 1 << 20 });
    sizes.iter().for_each(|size| append(&mut front, *size));
    front
}

fn append(front: &mut Front, size: usize) {
    append_as(front, size, Kind::Telemetry);
}

fn append_as(front: &mut Front, size: usize, kind: Kind) {
    let message = Message {
        uid: Uid::parse("o").unwrap(),
        group: group(),
        kind,
        via: Via::Udp,
        format: Format::Binary,
        state: State::Waiting,
        source: None,
        network: None,
        payload: vec![0; size].into(),
    };
    front.append(message, Stamp { mono_us: 0, wall_us: 0, clock: Clock::Synced }).unwrap();
}

fn group() -> GroupName {
    GroupName::parse("g").unwrap()
}

fn central(webhook: bool) -> Central {
    Central::new(webhook, &Small::default())
}

fn session(connection: ConnectionId, largest: usize) -> Option<CentralSession> {
    Some(CentralSession { connection, largest })
}

fn source(front: &Front) -> Source<'_> {
    Source { front, end: front.next_seq() }
}

/// Sizes of what goes to the session now.
fn sent(central: &mut Central, front: &Front) -> Vec<usize> {
    let mut sizes = Vec::new();
    while let Some(Transmission::Telemetry { payload, .. }) = central.next_for_session(source(front)) {
        sizes.push(payload.data().len());
    }
    sizes
}

fn posted(central: &mut Central, front: &Front) -> Vec<Seq> {
    std::iter::from_fn(|| central.next_for_webhook(source(front)).map(|(seq, _)| seq)).collect()
}

/// The destination after a restart right after what it had to record was.
fn restarted(central: &mut Central, webhook: bool) -> Central {
    let mut small = Small::default();
    central.take_progress().into_iter().for_each(|record| small.apply(record));
    Central::new(webhook, &small)
}

fn delivered(central: &Central) -> u64 {
    central.books().sum().delivered
}

#[test]
fn a_pong_moves_the_cursor_and_what_it_did_not_cover_goes_out_again() {
    let mut front = front(&[1, 2, 3]);
    let mut central = central(false);
    assert_eq!(sent(&mut central, &front), [0usize; 0], "nobody is there");
    central.set_session(session(1, usize::MAX));
    assert_eq!(central.next_ping(), None, "nothing was sent");
    assert_eq!(sent(&mut central, &front), [1, 2, 3]);
    let ping = central.next_ping().unwrap();
    append(&mut front, 4);
    assert_eq!(sent(&mut central, &front), [4]);
    assert_eq!(central.next_ping(), None, "one ping at a time");
    central.acknowledged(1, ping);
    assert_eq!((delivered(&central), central.position()), (3, 4));

    central.set_session(None);
    append(&mut front, 5);
    central.set_session(session(2, usize::MAX));
    central.acknowledged(1, ping);
    assert_eq!(sent(&mut central, &front), [4, 5]);
    let ping = central.next_ping().unwrap();
    central.acknowledged(2, ping);
    assert_eq!((central.position(), delivered(&central)), (6, 5));
    assert_eq!(central.next_ping(), None);
    let mut again = restarted(&mut central, true);
    assert_eq!(posted(&mut again, &front), [0u64; 0]);
}

#[test]
fn what_the_session_cannot_take_waits_and_holds_up_nothing() {
    let mut front = front(&[1, 500, 2]);
    let mut central = central(true);
    central.set_session(session(1, 100));
    assert_eq!(sent(&mut central, &front), [1, 2]);
    let ping = central.next_ping().unwrap();
    central.acknowledged(1, ping);
    assert_eq!((central.position(), central.holes()), (2, 1));
    append(&mut front, 3);
    assert_eq!(sent(&mut central, &front), [3]);
    let mut again = restarted(&mut central, true);
    assert_eq!(posted(&mut again, &front), [2, 4]);
    central.set_session(None);
    assert_eq!(posted(&mut central, &front), [2, 4], "the webhook takes any size");
}

#[test]
fn so_many_that_do_not_fit_hold_up_what_follows() {
    let mut front = Front::new(START, Bounds { pending_max: 8 << 20, tail_max: 8 << 20 });
    let mut central = central(false);
    central.set_session(session(1, 40));
    (0..SET_ASIDE_MAX).for_each(|_| append(&mut front, 50));
    append(&mut front, 1);
    assert_eq!(sent(&mut central, &front), [1]);
    append(&mut front, 50);
    append(&mut front, 2);
    assert_eq!(sent(&mut central, &front), [0usize; 0]);
    central.set_session(session(2, 100));
    assert_eq!(sent(&mut central, &front).len(), SET_ASIDE_MAX + 3);
}

/// The workers keep what they have under way when the rest is recalled; should it fail after all, nothing newer
/// of the same object may have gone ahead.
#[test]
fn what_the_workers_still_have_is_finished_before_the_webhook_goes_on() {
    let mut front = front(&[1, 2]);
    let mut central = central(true);
    assert_eq!(posted(&mut central, &front), [1, 2]);
    central.set_session(session(1, usize::MAX));
    central.webhook_returned(2);
    central.set_session(None);
    append(&mut front, 3);
    assert_eq!(posted(&mut central, &front), [0u64; 0]);
    central.webhook_returned(1);
    assert_eq!(posted(&mut central, &front), [1, 2, 3]);
}

#[test]
fn never_both_ways_at_a_time() {
    let front = front(&[1, 2, 3]);
    let mut central = central(true);
    assert_eq!(posted(&mut central, &front), [1, 2, 3]);
    central.set_session(session(1, usize::MAX));
    assert_eq!(sent(&mut central, &front), [0usize; 0], "the workers still have some");
    central.webhook_delivered(2);
    central.webhook_returned(1);
    central.webhook_returned(3);
    assert_eq!(sent(&mut central, &front), [1, 3]);
    assert_eq!(posted(&mut central, &front), [0u64; 0]);
    let ping = central.next_ping().unwrap();
    central.acknowledged(1, ping);
    assert_eq!((central.position(), delivered(&central)), (4, 3));
}

#[test]
fn a_restart_posts_again_only_what_was_not_acknowledged() {
    let front = front(&[1, 2, 3, 4]);
    let mut central = central(true);
    assert_eq!(posted(&mut central, &front), [1, 2, 3, 4]);
    central.webhook_delivered(2);
    central.webhook_delivered(4);
    let mut again = restarted(&mut central, true);
    assert_eq!(delivered(&again), 2);
    assert_eq!(posted(&mut again, &front), [1, 3]);
}

#[test]
fn other_kinds_are_passed_over() {
    let mut front = front(&[1]);
    append_as(&mut front, 2, Kind::Event);
    append(&mut front, 3);
    let mut central = central(true);
    assert_eq!(posted(&mut central, &front), [1, 3]);
}

#[test]
fn what_leaves_the_journal_is_written_off_once() {
    let mut front = front(&[1, 2, 3]);
    let mut central = central(true);
    (0..3).for_each(|_| central.received(group()));
    assert_eq!(posted(&mut central, &front), [1, 2, 3]);
    central.webhook_delivered(2);
    let messages = [(1, group()), (2, group()), (3, group())];
    assert_eq!(central.write_off(1, 3, &messages, Cause::Full).len(), 2);
    central.webhook_delivered(1);
    let sum = central.books().sum();
    assert_eq!((sum.delivered, sum.made_room, sum.waiting()), (1, 2, 0));
    append(&mut front, 4);
    assert_eq!(posted(&mut central, &front), [4]);
}

#[test]
fn what_is_not_in_memory_is_asked_for_and_comes_in_order() {
    let mut front = Front::new(START, Bounds { pending_max: 1 << 20, tail_max: 0 });
    [1, 2, 3].into_iter().for_each(|size| append(&mut front, size));
    let pages: VecDeque<_> = (1..=2).map(|seq| front.get(seq).unwrap().clone()).collect();
    let batch = front.take_batch().unwrap();
    front.committed(&batch);
    append(&mut front, 4);
    let mut central = central(false);
    central.set_session(session(1, usize::MAX));
    assert_eq!(sent(&mut central, &front), [0usize; 0]);
    assert_eq!((central.take_read(), central.take_read()), (Some(1), None));
    central.give(7, pages.clone(), 9);
    assert_eq!((sent(&mut central, &front), central.take_read()), (vec![], None), "not what was asked for");
    central.give(1, pages.clone(), 3);
    assert_eq!(sent(&mut central, &front), [1, 2]);
    assert_eq!(central.take_read(), Some(3));
    central.give(3, VecDeque::new(), 3);
    assert_eq!(sent(&mut central, &front), [0usize; 0]);
    assert_eq!(central.take_read(), Some(3), "reading failed");
    central.set_session(None);
    central.set_session(session(2, usize::MAX));
    assert_eq!((sent(&mut central, &front), central.take_read()), (vec![], Some(1)), "from the start again");
    central.give(1, pages.clone(), 3);
    assert_eq!(sent(&mut central, &front), [1, 2]);
    assert_eq!(central.take_read(), Some(3));
    central.give(3, VecDeque::new(), 4);
    assert_eq!(sent(&mut central, &front), [4], "what the medium lost is passed over");
}

#[test]
fn what_arrived_by_either_way_says_once_when_it_was_taken() {
    let mut front = front(&[1, 2]);
    let mut central = central(true);
    central.set_session(session(1, usize::MAX));
    assert_eq!(sent(&mut central, &front), [1, 2]);
    assert_eq!(central.take_arrived(), []);
    let ping = central.next_ping().unwrap();
    central.acknowledged(1, ping);
    assert_eq!(central.take_arrived(), [Taken { boot: 1, mono_us: 0 }; 2]);
    assert_eq!(central.take_arrived(), []);
    central.set_session(None);
    append(&mut front, 3);
    let (seq, _) = central.next_for_webhook(source(&front)).unwrap();
    central.webhook_returned(seq);
    assert_eq!(central.take_arrived(), []);
    let (seq, _) = central.next_for_webhook(source(&front)).unwrap();
    central.webhook_delivered(seq);
    assert_eq!(central.take_arrived(), [Taken { boot: 1, mono_us: 0 }]);
}

#[test]
fn only_what_waits_keeps_others_from_leaving() {
    let mut front = front(&[]);
    append_as(&mut front, 1, Kind::Request);
    append(&mut front, 2);
    let mut central = central(false);
    assert_eq!(central.place_before(3).up_to, 2, "nobody told it of any");
    central.received(group());
    assert_eq!(central.place_before(3).up_to, 0);
    central.set_session(session(1, 100));
    assert_eq!(sent(&mut central, &front), [2]);
    let ping = central.next_ping().unwrap();
    central.acknowledged(1, ping);
    assert_eq!(central.place_before(2).up_to, 1);
    assert_eq!(central.place_before(9), CursorState { up_to: 8, holes: vec![] });
}

#[test]
fn what_is_not_on_flash_is_recorded_later() {
    let mut front = front(&[1, 2, 3]);
    let mut central = central(false);
    (0..3).for_each(|_| central.received(group()));
    central.set_session(session(1, 100));
    assert_eq!(sent(&mut central, &front).len(), 3);
    let ping = central.next_ping().unwrap();
    central.acknowledged(1, ping);
    let mut small = Small::default();
    (0..2).for_each(|seq| small.apply(Record::Message(front.get(seq + 1).unwrap().message.clone())));
    let records = central.take_progress_before(3, front.from(3));
    central.take_back(&records);
    let records = central.take_progress_before(3, front.from(3));
    records.into_iter().for_each(|record| small.apply(record));
    let again = Central::new(false, &small);
    let sum = again.books().sum();
    assert_eq!((again.position(), sum.received, sum.delivered), (3, 2, 2));
    assert!(central.has_progress());
    small.apply(Record::Message(front.get(3).unwrap().message.clone()));
    central.take_progress().into_iter().for_each(|record| small.apply(record));
    assert!(!central.has_progress());
    let sum = Central::new(false, &small).books().sum();
    assert_eq!((sum.received, sum.delivered, sum.waiting()), (3, 3, 0));
    append(&mut front, 4);
    assert_eq!(sent(&mut central, &front), [4]);
}
