//! Queued commands, step by step and over restarts.

use super::*;

fn uid(name: &str) -> Uid {
    Uid::parse(name).unwrap()
}

fn new(name: &str) -> New {
    New { uid: uid(name), once: None, now_us: 0, deadline_us: None, supersedes: None }
}

struct World {
    commands: Commands,
    small: Small,
}

impl World {
    fn new(has_webhook: bool) -> Self {
        let small = Small::default();
        Self { commands: Commands::new(&small, has_webhook), small }
    }

    fn accept(&mut self, seq: Seq, new: New) -> Vec<Seq> {
        let told = self.commands.accept(seq, new);
        self.record(told)
    }

    fn record(&mut self, (records, ended): (Vec<Record<'static>>, Vec<Ended>)) -> Vec<Seq> {
        records.into_iter().for_each(|record| self.small.apply(record));
        ended.into_iter().map(|ended| ended.seq).collect()
    }

    fn restart(&mut self, has_webhook: bool) {
        self.commands = Commands::new(&self.small, has_webhook);
    }
}

#[test]
fn one_at_a_time_in_order_until_it_is_answered() {
    let mut world = World::new(false);
    world.accept(1, new("a"));
    world.accept(2, new("a"));
    world.accept(3, new("b"));
    assert_eq!(world.commands.next(uid("a")), Some(1));
    assert_eq!(world.commands.next(uid("a")), None, "one is under way");
    let (deadline, sent) = world.commands.sent(1, 500).unwrap();
    assert_eq!(deadline, None);
    world.small.apply(sent);
    assert_eq!(world.commands.put_back(uid("a")), Some(1));
    world.restart(false);
    assert_eq!(world.commands.next(uid("a")), Some(1), "the session ended: again");
    let (_, sent) = world.commands.sent(1, 900).unwrap();
    let Record::Command { data, .. } = &sent else { panic!() };
    assert_eq!(Kept::decode(data).unwrap().sent(), Some((2, 900)));
    let told = world.commands.answered(1, Outcome::answered(0, Format::Utf8, b"ok".to_vec()));
    world.record(told);
    assert_eq!(world.commands.next(uid("a")), Some(2));
    world.restart(false);
    assert_eq!((world.commands.waiting(), world.commands.next(uid("b"))), (2, Some(3)));
}

#[test]
fn only_the_newest_of_a_name_is_delivered_but_what_is_under_way_goes_on() {
    let mut world = World::new(true);
    let named = |name: &str| New { supersedes: Some(name.into()), ..new("a") };
    world.accept(1, named("x"));
    assert_eq!(world.commands.next(uid("a")), Some(1));
    assert_eq!(world.accept(2, named("x")), [0u64; 0], "that one is on its way already");
    world.accept(3, named("y"));
    assert_eq!(world.accept(4, named("x")), [2]);
    assert_eq!(world.accept(5, New { uid: uid("b"), ..named("x") }), [0u64; 0], "of each object");
    world.commands.put_back(uid("a"));
    let told = world.commands.answered(1, Outcome::answered(0, Format::Binary, vec![]));
    assert_eq!(world.record(told), [1]);
    assert_eq!(world.commands.next(uid("a")), Some(3));
}

#[test]
fn time_is_up_by_the_wall_clock_over_restarts() {
    let mut world = World::new(true);
    world.accept(1, New { deadline_us: Some(100), ..new("a") });
    world.accept(2, New { deadline_us: Some(50), ..new("a") });
    world.restart(true);
    assert_eq!(world.commands.next_deadline_us(), Some(50));
    let told = world.commands.expire(49);
    assert_eq!(world.record(told), [0u64; 0]);
    let told = world.commands.expire(50);
    assert_eq!(world.record(told), [2]);
    world.restart(true);
    let ended: Vec<_> = world.commands.ended().collect();
    assert_eq!(ended.len(), 1, "its outcome waits for the webhook");
    assert_eq!((ended[0].outcome.state, ended[0].outcome.code), (State::Expired, RESPONSE_TIMED_OUT));
    assert_eq!(ended[0].outcome.payload(), None);
    let over = world.commands.result_delivered(2).unwrap();
    world.small.apply(over);
    world.restart(true);
    assert_eq!((world.commands.ended().count(), world.commands.waiting()), (0, 1));
    assert!(world.commands.result_delivered(1).is_none(), "it did not end");
}

#[test]
fn without_a_webhook_nobody_waits_for_outcomes() {
    let mut world = World::new(true);
    world.accept(1, new("a"));
    let told = world.commands.answered(1, Outcome::answered(7, Format::Json, b"1".to_vec()));
    assert_eq!(world.record(told), [1]);
    let over = world.commands.set_webhook(false);
    over.into_iter().for_each(|record| world.small.apply(record));
    assert_eq!(world.small.commands.len(), 0);
}

#[test]
fn a_key_means_the_same_command_for_a_day() {
    let mut world = World::new(false);
    let once = Once { key: [1; 16], body: [2; 16] };
    assert_eq!(world.commands.known(&once, 0), None);
    world.accept(7, New { once: Some(once), now_us: 5, ..new("a") });
    world.restart(false);
    assert_eq!(world.commands.known(&once, IDEMPOTENCY_US + 4), Some(Known::Same(7, 5)));
    assert_eq!(world.commands.known(&Once { body: [3; 16], ..once }, 6), Some(Known::Other));
    assert_eq!(world.commands.known(&once, IDEMPOTENCY_US + 5), None);
    assert_eq!(world.commands.known(&Once { key: [9; 16], ..once }, 6), None);
}

#[test]
fn so_many_wait_and_no_more() {
    let mut world = World::new(false);
    for seq in 0..COMMANDS_PER_OBJECT_MAX as u64 {
        assert_eq!(world.commands.has_room(uid("a")), Ok(()));
        world.accept(seq, new("a"));
    }
    assert_eq!(world.commands.has_room(uid("a")), Err(TooMany));
    let objects = COMMANDS_MAX / COMMANDS_PER_OBJECT_MAX;
    for seq in 100..(COMMANDS_MAX as u64) {
        world.accept(seq, new(&(seq as usize % objects).to_string()));
    }
    assert_eq!(world.commands.has_room(uid("z")), Err(TooMany));
}

#[test]
fn what_left_the_journal_ends_and_says_why() {
    let mut world = World::new(true);
    for seq in 1..=4 {
        world.accept(seq, new(["a", "b"][seq as usize % 2]));
    }
    assert_eq!(world.commands.needed(4), [1, 2, 3]);
    assert_eq!(world.commands.next(uid("b")), Some(1));
    let told = world.commands.lost(1..=2, Cause::Full, false);
    assert_eq!(world.record(told), [2], "what is under way may arrive yet");
    let told = world.commands.lost(1..=1, Cause::Full, true);
    assert_eq!(world.record(told), [1]);
    let told = world.commands.lost(4..=9, Cause::Expired, false);
    let [ended] = told.1.as_slice() else { panic!("{told:?}") };
    assert_eq!((ended.outcome.state, ended.outcome.code), (State::Expired, RESPONSE_TIMED_OUT));
    assert_eq!(
        (ended.outcome.reason(), ended.outcome.payload()),
        (Some("its time of keeping was over"), None)
    );
    world.record(told);
    assert_eq!((world.commands.needed(9), world.commands.next(uid("b"))), (vec![3], Some(3)));
    world.restart(true);
    let ended: Vec<_> = world.commands.ended().map(|ended| (ended.seq, ended.outcome.state)).collect();
    assert_eq!(ended, [(1, State::Dropped), (2, State::Dropped), (4, State::Expired)]);
}
