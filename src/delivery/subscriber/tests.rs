//! A subscriber on a journal that is all in memory, of which a part may be read from the medium only.

mod leaving;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use super::*;
use crate::delivery::books::Line;
use crate::journal::front::{Bounds, Front};
use crate::journal::record::{Kind, Message, State, Via};
use crate::journal::segment::Batch;
use crate::journal::stamp::{Clock, JournalId};
use crate::journal::writer::Start;
use crate::wire::{Format, GroupName, Uid};

const SECOND: Duration = Duration::from_secs(1);

fn group(name: &str) -> GroupName {
    GroupName::parse(name).unwrap()
}

fn settings() -> Settings {
    Settings {
        filter: Filter { groups: BTreeSet::new(), kinds: BTreeSet::from([Kind::Telemetry]) },
        order: Order::Strict,
        batch_max: 1,
        batch_wait: Duration::ZERO,
        max_rate: None,
        give_up: None,
    }
}

struct Rig {
    front: Front,
    /// What was committed.
    flash: Vec<Stored>,
    small: Small,
    subscriber: Subscriber,
    payload: Vec<u8>,
    start: Instant,
    now: Instant,
}

impl Rig {
    fn new(settings: Settings) -> Self {
        Self::with_tail(settings, 1 << 20)
    }

    /// Keeps so many bytes in memory of what is on flash.
    fn with_tail(settings: Settings, tail_max: usize) -> Self {
        let journal = JournalId([1; 16]);
        let start = Start { journal, next_seq: 1, boot: 1, floor_us: 0, batch_max: 1 << 20 };
        let front = Front::new(start, Bounds { pending_max: 1 << 24, tail_max });
        let small = Small::default();
        let subscriber = Subscriber::new("erp", settings, &small, 1, 1, 7);
        let now = Instant::now();
        Self { front, flash: Vec::new(), small, subscriber, payload: vec![7], start: now, now }
    }

    fn moment(&self) -> Moment {
        let mono_us = u64::try_from(self.now.duration_since(self.start).as_micros()).unwrap();
        let stamp = Stamp { mono_us, wall_us: mono_us as i64, clock: Clock::Synced };
        Moment { now: self.now, stamp, boot: 1 }
    }

    /// So many messages come in and are flushed.
    fn commit(&mut self, count: usize) {
        self.commit_of(count, "g", Kind::Telemetry);
    }

    fn commit_of(&mut self, count: usize, group_name: &str, kind: Kind) {
        let stamp = self.moment().stamp;
        for _ in 0..count {
            let message = Message {
                uid: Uid::parse("o").unwrap(),
                group: group(group_name),
                kind,
                via: Via::Udp,
                format: Format::Binary,
                state: State::Waiting,
                source: None,
                network: None,
                payload: self.payload.clone().into(),
            };
            self.front.append(message, stamp).unwrap();
        }
        while let Some(batch) = self.front.take_batch() {
            let Batch { head, .. } = &batch;
            let range = head.first_seq..head.next_seq();
            self.flash.extend(range.clone().filter_map(|seq| self.front.get(seq)).cloned());
            let messages = range.filter_map(|seq| self.front.get(seq)).map(|stored| &stored.message);
            self.subscriber.committed(head.first_seq, head.next_seq(), messages);
            self.front.committed(&batch);
        }
    }

    /// What is next, when the medium has given what it was asked for.
    fn next(&mut self) -> Next {
        loop {
            let moment = self.moment();
            let source = Source { front: &self.front, end: self.front.durable() };
            let next = self.subscriber.next(source, moment);
            if let Some(wanted) = self.subscriber.take_read(self.front.tail_start()) {
                let range = wanted.from..wanted.below;
                let found = self.flash.iter().filter(|stored| range.contains(&stored.seq));
                let page: VecDeque<_> = found.take(100).cloned().collect();
                let full = page.len() == 100;
                let to = page.back().filter(|_| full).map_or(wanted.below, |last| last.seq + 1);
                self.subscriber.give(&wanted, page, to);
                // The other way may have something meanwhile.
                if !matches!(next, Next::Post(_)) {
                    continue;
                }
            }
            if next != Next::Again {
                return next;
            }
        }
    }

    /// The numbers of the next call, which must be possible now.
    fn post(&mut self) -> (u64, Vec<Seq>) {
        match self.next() {
            Next::Post(post) => (post.ticket, post.messages.iter().map(|stored| stored.seq).collect()),
            other => panic!("{other:?}"),
        }
    }

    fn deliver(&mut self) -> Vec<Seq> {
        let (ticket, seqs) = self.post();
        self.end(ticket, Outcome::Delivered);
        seqs
    }

    fn fail(&mut self) -> Vec<Seq> {
        let (ticket, seqs) = self.post();
        self.end(ticket, Outcome::Failed("status 500".to_owned(), None));
        seqs
    }

    fn end(&mut self, ticket: u64, outcome: Outcome) {
        let moment = self.moment();
        self.subscriber.posted(ticket, outcome, moment);
    }

    /// Everything that goes out until nothing does, in its order; waiting where that is asked for.
    fn drain(&mut self) -> Vec<Seq> {
        let mut all = Vec::new();
        loop {
            match self.next() {
                Next::Post(post) => {
                    all.extend(post.messages.iter().map(|stored| stored.seq));
                    self.end(post.ticket, Outcome::Delivered);
                }
                Next::WaitUntil(at) => self.now = at,
                Next::Idle => return all,
                Next::Again => unreachable!(),
            }
        }
    }

    fn line(&self) -> Line {
        self.subscriber.books().sum()
    }

    /// The process ends and another one begins, with what was recorded.
    fn restart(&mut self, settings: Settings) {
        let records = self.subscriber.take_progress();
        records.into_iter().for_each(|record| self.small.apply(record));
        self.small = Small::decode(&self.small.encode()).unwrap();
        let durable = self.front.durable();
        self.subscriber = Subscriber::new("erp", settings, &self.small, durable, 2, 8);
        self.count();
    }

    fn count(&mut self) {
        let Some(wanted) = self.subscriber.take_count() else { return };
        let mut found = BTreeMap::new();
        for stored in &self.flash {
            let is_in = wanted.ranges.iter().any(|(from, to)| (*from..=*to).contains(&stored.seq));
            if is_in && wanted.filter.takes(&stored.message) {
                *found.entry(stored.message.group).or_default() += 1;
            }
        }
        self.subscriber.counted(wanted.id, &found);
    }
}

fn seqs(range: std::ops::RangeInclusive<Seq>) -> Vec<Seq> {
    range.collect()
}

#[test]
fn messages_go_out_in_their_order_and_only_what_is_wanted() {
    let filter = Filter {
        groups: BTreeSet::from([group("g")]),
        kinds: BTreeSet::from([Kind::Telemetry, Kind::Event]),
    };
    let mut rig = Rig::new(Settings { filter, ..settings() });
    rig.commit(2);
    rig.commit_of(1, "other", Kind::Telemetry);
    rig.commit_of(1, "g", Kind::Event);
    rig.commit_of(1, "g", Kind::Request);
    assert_eq!(rig.line().waiting(), 3);
    assert_eq!(rig.deliver(), [1]);
    assert_eq!(rig.drain(), [2, 4]);
    assert_eq!((rig.line().delivered, rig.line().waiting()), (3, 0));
    assert_eq!(rig.subscriber.place_before(100).up_to, 5, "what it does not get is no hindrance");
}

#[test]
fn a_new_one_begins_at_the_end_and_a_known_one_where_it_was() {
    let mut rig = Rig::new(settings());
    rig.commit(3);
    rig.subscriber = Subscriber::new("erp", settings(), &Small::default(), rig.front.durable(), 1, 7);
    assert!(rig.subscriber.has_progress(), "that it is there must be known after a restart");
    rig.restart(settings());
    assert_eq!(rig.next(), Next::Idle);
    rig.commit(4);
    assert_eq!(rig.deliver(), [4]);
    rig.restart(settings());
    assert_eq!((rig.line().delivered, rig.line().waiting()), (1, 3), "counted again");
    assert_eq!(rig.drain(), [5, 6, 7]);
}

#[test]
fn a_call_that_failed_is_made_again_with_the_same_messages_later_and_later() {
    let mut rig = Rig::new(Settings { batch_max: 3, ..settings() });
    rig.commit(2);
    let mut waited = Vec::new();
    for attempt in 1..=7 {
        assert_eq!(rig.fail(), [1, 2], "attempt {attempt}");
        // What comes in meanwhile is no part of it.
        rig.commit(1);
        let Next::WaitUntil(at) = rig.next() else { panic!() };
        waited.push(at - rig.now);
        rig.now = at;
    }
    for (at, full) in [1, 2, 4, 8, 16, 30, 30].into_iter().enumerate() {
        let full = SECOND * full;
        assert!(waited[at] >= full / 2 && waited[at] <= full, "{waited:?}");
    }
    assert!(rig.subscriber.is_failing());
    assert_eq!(rig.subscriber.last_failure().unwrap().attempt, 7);
    assert_eq!(rig.deliver(), [1, 2]);
    assert!(!rig.subscriber.is_failing());
    let tried = rig.subscriber.take_progress().into_iter().find_map(|record| match record {
        Record::Tried { tried, .. } => Some(tried),
        _ => None,
    });
    let tried = tried.unwrap();
    assert_eq!((tried.from, tried.to, tried.attempts, tried.is_dead), (1, 2, 8, false));
    assert_eq!(tried.reason, "status 500");
    assert_eq!(rig.deliver(), [3, 4, 5]);
}

#[test]
fn it_is_left_alone_as_long_as_it_asks_for_up_to_a_bound() {
    let mut rig = Rig::new(settings());
    rig.commit(1);
    for (asked, waits) in [(SECOND * 100, SECOND * 100), (SECOND * 1_000_000, RETRY_AFTER_MAX)] {
        let (ticket, _) = rig.post();
        rig.end(ticket, Outcome::Failed("status 503".to_owned(), Some(asked)));
        let Next::WaitUntil(at) = rig.next() else { panic!() };
        assert_eq!(at - rig.now, waits);
        rig.now = at;
    }
}

#[test]
fn a_batch_waits_until_it_is_full_or_long_enough() {
    let mut rig = Rig::new(Settings { batch_max: 3, batch_wait: SECOND, ..settings() });
    rig.commit(2);
    let Next::WaitUntil(at) = rig.next() else { panic!() };
    assert_eq!(at, rig.now + SECOND);
    rig.commit(2);
    assert_eq!(rig.deliver(), [1, 2, 3], "full");
    let Next::WaitUntil(at) = rig.next() else { panic!() };
    rig.now = at;
    assert_eq!(rig.deliver(), [4], "long enough");
}

#[test]
fn a_batch_has_so_many_bytes_at_most_and_takes_as_many_turns_as_it_needs() {
    let mut rig = Rig::new(Settings { batch_max: 10_000, ..settings() });
    rig.commit(LOOK_MAX * 3);
    assert_eq!(rig.deliver().len(), LOOK_MAX * 3);
    let half = BATCH_BYTES_MAX / 2;
    for len in [half, half, half, half + 1, BATCH_BYTES_MAX + 1, 1] {
        rig.payload = vec![0; len];
        rig.commit(1);
    }
    let batches: Vec<_> = (0..4).map(|_| rig.deliver().len()).collect();
    assert_eq!(batches, [2, 1, 1, 1], "at the bound, below it, and one is always given");
}

#[test]
fn a_call_that_is_refused_is_split_until_the_unwanted_one_stands_alone() {
    let mut rig = Rig::new(Settings { batch_max: 8, ..settings() });
    rig.commit(8);
    let mut taken = Vec::new();
    for _ in 0..20 {
        let (ticket, seqs) = rig.post();
        if seqs.contains(&6) {
            rig.end(ticket, Outcome::Rejected("status 422".to_owned()));
            if seqs == [6] {
                break;
            }
        } else {
            rig.end(ticket, Outcome::Delivered);
            taken.extend(seqs);
        }
    }
    assert_eq!(taken, [1, 2, 3, 4, 5]);
    let Next::WaitUntil(at) = rig.next() else { panic!("it holds up what is behind it") };
    rig.now = at;
    assert_eq!(rig.drain(), [6, 7, 8]);
}

#[test]
fn who_wants_the_newest_first_is_not_held_up_by_one_that_it_does_not_want() {
    let mut rig = Rig::new(Settings { order: Order::LiveFirst, ..settings() });
    assert_eq!(rig.next(), Next::Idle);
    rig.commit(2);
    let (ticket, seqs) = rig.post();
    assert_eq!(seqs, [1]);
    rig.end(ticket, Outcome::Rejected("status 422".to_owned()));
    assert_eq!(rig.deliver(), [2]);
    rig.commit(1);
    assert_eq!(rig.deliver(), [3]);
    assert_eq!(rig.line().waiting(), 1);
    rig.restart(Settings { order: Order::LiveFirst, ..settings() });
    assert_eq!((rig.line().waiting(), rig.drain()), (1, vec![1]));
}

#[test]
fn after_an_outage_the_newest_go_at_once_while_the_backlog_drains() {
    let live_first = Settings { order: Order::LiveFirst, ..settings() };
    let mut rig = Rig::with_tail(live_first.clone(), 2000);
    rig.next();
    rig.commit(1);
    assert_eq!(rig.fail(), [1]);
    for _ in 0..30 {
        rig.commit(10);
    }
    rig.now += SECOND;
    assert_eq!(rig.deliver(), [1], "the backlog is what there is to find out with");
    rig.commit(2);
    let order: Vec<_> = (0..6).map(|_| rig.deliver()[0]).collect();
    assert_eq!(order, [302, 2, 303, 3, 4, 5], "in turns as long as there are both");
    assert!(rig.subscriber.place_before(1000).up_to == 5, "what is behind stays in the journal");
    rig.restart(live_first);
    assert_eq!(rig.line().waiting(), 296);
    rig.commit(1);
    // After a restart nothing is live yet.
    assert_eq!(rig.drain(), (6..=301).chain([304]).collect::<Vec<_>>());
    assert_eq!((rig.line().delivered, rig.line().waiting()), (304, 0));
}

#[test]
fn what_was_away_for_long_is_read_from_the_medium_in_order() {
    let mut rig = Rig::with_tail(Settings { batch_max: 7, ..settings() }, 2000);
    for _ in 0..50 {
        rig.commit(10);
    }
    assert!(rig.front.tail_start() > 400, "most of it is not in memory");
    assert_eq!(rig.drain(), seqs(1..=500));
}

/// What was read from the medium is let go of when memory has what follows: a call that failed reads it again.
#[test]
fn a_call_that_was_read_from_the_medium_and_from_memory_is_made_again_as_it_was() {
    let mut rig = Rig::with_tail(Settings { batch_max: 100, ..settings() }, 2000);
    (0..5).for_each(|_| rig.commit(10));
    assert!(rig.front.tail_start() > 1);
    assert_eq!(rig.fail(), seqs(1..=50));
    rig.now += SECOND;
    assert_eq!(rig.deliver(), seqs(1..=50));
}

#[test]
fn no_more_messages_a_second_than_it_wants() {
    let max_rate = NonZeroU32::new(10);
    let mut rig = Rig::new(Settings { max_rate, batch_max: 4, ..settings() });
    rig.commit(100);
    let start = rig.now;
    assert_eq!(rig.drain().len(), 100);
    let took = rig.now - start;
    assert!(took >= SECOND * 9 && took <= SECOND * 11, "{took:?}");
    let rig = Rig::new(Settings { max_rate, batch_max: 400, ..settings() });
    assert_eq!(rig.subscriber.settings.batch_now(), 10);
}

#[test]
fn one_that_wants_nothing_more_is_left_alone_until_somebody_resumes_it() {
    let mut rig = Rig::new(settings());
    rig.commit(2);
    let (ticket, _) = rig.post();
    rig.end(ticket, Outcome::Gone);
    rig.now += SECOND * 1_000_000;
    assert_eq!(rig.next(), Next::Idle);
    assert!(rig.subscriber.is_suspended());
    rig.subscriber.reconfigure(settings());
    assert_eq!(rig.drain(), [1, 2]);
}

#[test]
fn what_is_too_old_is_dead_once_it_was_tried_and_can_be_replayed() {
    let give_up = Some(SECOND * 60);
    let mut rig = Rig::new(Settings { give_up, ..settings() });
    rig.commit(5);
    rig.now += SECOND * 3600;
    rig.commit(1);
    assert_eq!(rig.fail(), [1], "however old, it is tried");
    rig.now += SECOND * 2;
    assert_eq!(rig.fail(), [6], "all that are too old are dead when an attempt failed");
    assert_eq!((rig.line().dead, rig.line().waiting()), (5, 1));
    let dead = rig.subscriber.dead().clone();
    assert_eq!((dead.count(), dead.contains(1), dead.contains(6)), (5, true, false));
    rig.restart(Settings { give_up, ..settings() });
    assert_eq!(rig.subscriber.dead(), &dead);
    assert_eq!(rig.drain(), [6]);
    assert_eq!(rig.subscriber.settle_dead(5, 5, false), 1, "dropped");
    assert_eq!(rig.subscriber.settle_dead(0, Seq::MAX, true), 4);
    rig.restart(Settings { give_up, ..settings() });
    assert_eq!(rig.drain(), [1, 2, 3, 4]);
    assert_eq!((rig.subscriber.counters().replayed, rig.line().dead), (4, 5));
    assert!(rig.subscriber.dead().is_empty());
}

#[test]
fn what_is_asked_for_again_goes_out_beside_what_comes_in() {
    let mut rig = Rig::new(settings());
    rig.commit(6);
    assert_eq!(rig.drain(), seqs(1..=6));
    rig.subscriber.replay(2, 100);
    rig.commit(2);
    let order: Vec<_> = (0..7).map(|_| rig.deliver()[0]).collect();
    assert_eq!(order, [2, 7, 3, 8, 4, 5, 6]);
    assert_eq!((rig.line().delivered, rig.subscriber.counters().replayed), (8, 5));
    assert_eq!(rig.next(), Next::Idle);
}

#[test]
fn a_changed_filter_holds_for_what_waits() {
    let mut rig = Rig::new(settings());
    rig.commit_of(2, "g", Kind::Telemetry);
    rig.commit_of(2, "h", Kind::Telemetry);
    let filter = Filter { groups: BTreeSet::from([group("h")]), ..settings().filter };
    let (ticket, seqs) = rig.post();
    assert_eq!(seqs, [1]);
    rig.subscriber.reconfigure(Settings { filter, ..settings() });
    rig.count();
    rig.end(ticket, Outcome::Delivered);
    assert_eq!(rig.drain(), [3, 4]);
    assert_eq!(rig.line().waiting(), 0);
}

#[test]
fn what_is_not_recorded_after_all_is_recorded_again() {
    let mut rig = Rig::new(Settings { give_up: Some(SECOND), ..settings() });
    rig.commit(2);
    rig.now += SECOND * 2;
    rig.fail();
    rig.now += SECOND * 2;
    rig.next();
    rig.subscriber.replay(1, 1);
    let records = rig.subscriber.take_progress();
    assert!(!rig.subscriber.has_progress());
    records.iter().for_each(|record| rig.subscriber.take_back(record));
    assert!(rig.subscriber.has_progress());
    let mut again = rig.subscriber.take_progress();
    let sorted = |records: &mut Vec<Record<'static>>| records.sort_by_key(|record| format!("{record:?}"));
    let mut records = records;
    sorted(&mut records);
    sorted(&mut again);
    assert_eq!(records, again);
}
