//! Random lives of a subscriber: messages, successes, failures, restarts with and without what was recorded last, segments
//! that leave. Whatever happens, what it gets is delivered or in its books, in order, and what waits is what was counted.

use super::*;
use crate::thorough::every;

/// Random enough (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

struct World {
    rig: Rig,
    settings: Settings,
    /// Messages that it gets.
    wanted: BTreeSet<Seq>,
    delivered: BTreeSet<Seq>,
    gone: BTreeSet<Seq>,
    /// The newest that went out for the first time, in strict order.
    newest: Seq,
}

impl World {
    fn commit(&mut self, random: &mut Random) {
        let before = self.rig.front.next_seq();
        for _ in 0..=random.below(3) {
            let (group, kind) = match random.below(4) {
                0 => ("other", Kind::Telemetry),
                1 => ("g", Kind::Event),
                _ => ("g", Kind::Telemetry),
            };
            self.rig.commit_of(1 + usize::try_from(random.below(5)).unwrap(), group, kind);
        }
        let fresh = self.rig.flash.iter().filter(|stored| stored.seq >= before);
        let fresh = fresh.filter(|stored| self.settings.filter.takes(&stored.message));
        self.wanted.extend(fresh.map(|stored| stored.seq));
    }

    fn call(&mut self, random: &mut Random, works: bool) {
        match self.rig.next() {
            Next::Post(post) => {
                let seqs: Vec<_> = post.messages.iter().map(|stored| stored.seq).collect();
                assert!(!seqs.is_empty() && seqs.len() <= self.settings.batch_max, "{seqs:?}");
                assert!(seqs.is_sorted() && seqs.iter().all(|seq| self.wanted.contains(seq)), "{seqs:?}");
                assert!(seqs.iter().all(|seq| !self.gone.contains(seq)), "{seqs:?} left the journal");
                if works {
                    if self.settings.order == Order::Strict {
                        for seq in &seqs {
                            let is_new = !self.delivered.contains(seq);
                            assert!(!is_new || *seq > self.newest, "{seq} behind {}", self.newest);
                            self.newest = self.newest.max(*seq);
                        }
                    }
                    self.delivered.extend(seqs);
                    self.rig.end(post.ticket, Outcome::Delivered);
                } else {
                    let outcome = match random.below(4) {
                        0 => Outcome::Rejected("status 422".to_owned()),
                        1 => Outcome::Gone,
                        _ => Outcome::Failed("status 500".to_owned(), None),
                    };
                    self.rig.end(post.ticket, outcome);
                }
            }
            Next::WaitUntil(at) => self.rig.now = at,
            Next::Idle | Next::Again => {}
        }
    }

    /// The oldest messages leave.
    fn retire(&mut self, random: &mut Random) {
        let Some(first) = self.rig.flash.first().map(|stored| stored.seq) else { return };
        let last = (first + random.below(10)).min(self.rig.front.durable().saturating_sub(1));
        let leaving = self.rig.flash.iter().filter(|stored| stored.seq <= last);
        let leaving: Vec<_> =
            leaving.map(|stored| (stored.seq, stored.message.group, stored.message.kind)).collect();
        for (seq, _) in self.rig.subscriber.write_off(first, last, &leaving, Cause::Full) {
            assert!(self.wanted.contains(&seq));
            self.gone.insert(seq);
        }
        self.gone.extend(leaving.iter().map(|(seq, ..)| *seq));
        self.rig.flash.retain(|stored| stored.seq > last);
        // What is recorded goes with it.
        let records = self.rig.subscriber.take_progress();
        records.into_iter().for_each(|record| self.rig.small.apply(record));
        self.rig.count();
    }

    fn restart(&mut self, is_recorded: bool) {
        if !is_recorded {
            // A crash: what was not recorded is not known.
            let _lost = self.rig.subscriber.take_progress();
            let durable = self.rig.front.durable();
            self.rig.subscriber =
                Subscriber::new("erp", self.settings.clone(), &self.rig.small, durable, 3, 9);
            self.rig.count();
            self.newest = 0;
        } else {
            self.rig.restart(self.settings.clone());
        }
    }

    fn check(&self) {
        let lacking = self.wanted.iter().filter(|seq| {
            self.rig.subscriber.lacks(**seq, group("g"), Kind::Telemetry) && !self.gone.contains(seq)
        });
        let lacking = lacking.count() as u64;
        let lost = self.wanted.iter().filter(|seq| {
            let lacks = self.rig.subscriber.lacks(**seq, group("g"), Kind::Telemetry);
            !lacks && !self.delivered.contains(seq) && !self.gone.contains(seq)
        });
        assert_eq!(lost.collect::<Vec<_>>(), Vec::<&Seq>::new(), "lost");
        let waiting = self.rig.line().waiting();
        assert_eq!(waiting, lacking, "what waits is what is there");
    }
}

fn live(seed: u64) {
    let mut random = Random(seed);
    let order = if random.below(2) == 0 { Order::Strict } else { Order::LiveFirst };
    let filter = Filter {
        groups: BTreeSet::from([group("g")]),
        kinds: BTreeSet::from([Kind::Telemetry, Kind::Event]),
    };
    let batch_max = 1 + usize::try_from(random.below(7)).unwrap();
    let settings = Settings { order, batch_max, filter, ..settings() };
    let tail = 1000 + usize::try_from(random.below(20_000)).unwrap();
    let mut rig = Rig::with_tail(settings.clone(), tail);
    let records = rig.subscriber.take_progress();
    records.into_iter().for_each(|record| rig.small.apply(record));
    let mut world = World {
        rig,
        settings,
        wanted: BTreeSet::new(),
        delivered: BTreeSet::new(),
        gone: BTreeSet::new(),
        newest: 0,
    };
    let mut is_up = true;
    for _ in 0..300 {
        match random.below(20) {
            0..5 => world.commit(&mut random),
            5 => is_up = !is_up,
            6 => world.restart(true),
            7 => world.restart(false),
            8 if random.below(3) == 0 => world.retire(&mut random),
            9 if random.below(3) == 0 => world.rig.subscriber.resume(),
            _ => world.call(&mut random, is_up),
        }
        world.check();
    }
    world.rig.subscriber.resume();
    for _ in 0..4000 {
        world.call(&mut random, true);
    }
    world.check();
    assert_eq!(world.rig.next(), Next::Idle);
    assert_eq!(world.rig.line().waiting(), 0, "all of it arrived or is in the books");
}

#[test]
fn every_message_arrives_or_is_counted_in_every_life() {
    for seed in every(0..200) {
        println!("seed {seed}");
        live(seed);
    }
}

#[test]
fn what_left_the_journal_is_no_dead_letter_any_more() {
    let mut rig = Rig::new(Settings { give_up: Some(SECOND), ..settings() });
    rig.commit(5);
    rig.now += SECOND * 2;
    rig.fail();
    rig.now += SECOND * 2;
    assert_eq!((rig.next(), rig.subscriber.dead().count()), (Next::Idle, 5));
    rig.subscriber.left_below(1);
    assert_eq!(rig.subscriber.dead().count(), 5);
    rig.subscriber.left_below(4);
    assert_eq!((rig.subscriber.dead().count(), rig.subscriber.dead().contains(3)), (2, false));
    rig.restart(settings());
    assert_eq!((rig.subscriber.dead().count(), rig.line().dead), (2, 5), "the books know them all");
}
