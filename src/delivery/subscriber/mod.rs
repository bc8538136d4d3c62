//! Messages to one subscriber: what its next call brings, and when.
//!
//! One call is under way at a time, so a subscriber that hangs holds up itself and nobody else, and what it gets is in
//! order. It has two ways through the journal. The main way goes on from its cursor. Behind is what the cursor has passed
//! and what it did not get: the backlog of an outage, if it wants the newest first, and what is sent once more because
//! somebody asked for it. While both have something they take turns.
//!
//! A call that fails is made again with the same messages, 1 s later, 2 s, up to 30 s: that is its breaker, too, as there
//! is no other call meanwhile. A call that is refused for what is in it is split, until the one message that is not wanted
//! stands alone.
//!
//! Pure: it says what to send ([`Subscriber::next`]) and is told what became of it ([`Subscriber::posted`]).

mod lane;
mod outcome;
mod progress;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::books::Books;
use super::breaker::{Jitter, OPEN_AFTER};
use super::cursor::Thinned;
use super::feed::Source;
use super::lanes::{MESSAGE_DELAY_MAX, RETRY_AFTER_MAX};
use crate::journal::Seq;
use crate::journal::dead::DeadLetters;
use crate::journal::ranges::Ranges;
use crate::journal::record::{Cause, Record, Tried};
use crate::journal::stamp::Stamp;
use crate::journal::state::Small;
use crate::journal::stored::Stored;
use crate::wire::GroupName;
pub use lane::{BATCH_BYTES_MAX, LOOK_MAX, Way};
use lane::{Gathered, InFlight, Lane};
pub use progress::{CountWanted, ReadWanted};
pub use settings::{Filter, Order, Settings};

/// Stretches of a backlog that are told apart; with more of them the next outage's is worked off in its order.
const BACKLOGS_MAX: usize = 64;

/// What time it is, by every clock.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// For what is awaited.
    pub now: Instant,
    /// For what is recorded.
    pub stamp: Stamp,
    /// The boot that the stamp is of.
    pub boot: u32,
}

impl Moment {
    /// How long ago a message came in: by the clock that nobody sets, if it came in since the start of the machine.
    fn age(&self, stored: &Stored) -> Duration {
        let us = if stored.boot == self.boot {
            self.stamp.mono_us.saturating_sub(stored.stamp.mono_us)
        } else {
            u64::try_from(self.stamp.wall_us.saturating_sub(stored.stamp.wall_us)).unwrap_or(0)
        };
        Duration::from_micros(us)
    }
}

/// What is to be done for a subscriber.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// These are to be sent, and [`Subscriber::posted`] told how that went.
    Post(Post),
    /// Ask again at once: others had their turn.
    Again,
    /// Nothing before this moment, unless something comes up.
    WaitUntil(Instant),
    /// Nothing, until something comes up.
    Idle,
}

/// A call.
#[derive(Debug, PartialEq, Eq)]
pub struct Post {
    /// Which one it is.
    pub ticket: u64,
    /// What it brings; one message at least.
    pub messages: Vec<Stored>,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The subscriber has it.
    Delivered,
    /// The subscriber does not want what is in it; why.
    Rejected(String),
    /// It did not work; why, and how long the subscriber asked to be left alone.
    Failed(String, Option<Duration>),
    /// The subscriber wants nothing more.
    Gone,
}

/// The last call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// The first and last number that it stood for.
    pub first: Seq,
    /// The last.
    pub last: Seq,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// When, by the wall clock, in microseconds since 1970.
    pub at_us: i64,
    /// Why.
    pub reason: String,
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls that succeeded.
    pub calls: u64,
    /// Calls that did not.
    pub failures: u64,
    /// Messages that went out once more.
    pub replayed: u64,
}

/// A subscriber as a destination of messages.
#[derive(Debug)]
pub struct Subscriber {
    name: String,
    settings: Settings,
    main: Lane,
    behind: Lane,
    /// What is up to here came to its end or is behind.
    up_to: Seq,
    backlog: Ranges,
    again: Ranges,
    /// What left the journal ahead of its turn and may still lie in memory.
    written_off: Ranges,
    /// The same of single groups.
    thinned: Thinned,
    /// What the main way did not send yet is left behind: it is no longer new.
    skips: bool,
    last_way: Way,
    in_flight: Option<InFlight>,
    next_ticket: u64,
    /// Calls in a row that failed, whatever was in them.
    failures: u32,
    not_before: Option<Instant>,
    /// When its rate allows the next call.
    rate_free: Option<Instant>,
    is_suspended: bool,
    last_failure: Option<LastFailure>,
    jitter: Jitter,
    /// What was asked of the medium under an earlier one was asked with other conditions.
    epoch: u64,
    /// The number behind the last message that is on flash.
    durable: Seq,
    /// What is to be counted, until it is asked for.
    count: Option<CountWanted>,
    /// Which count is to be done or under way.
    counting: Option<u64>,
    count_id: u64,
    books: Books,
    dead: DeadLetters,
    counters: Counters,
    /// What is to be recorded beside its place and its books.
    fresh: Vec<Record<'static>>,
    /// By which way that went out which the last of it tells of, and whether once more.
    delivers: Option<(Way, bool)>,
    has_moved: bool,
    behind_moved: bool,
    recorded_up_to: Seq,
}

impl Subscriber {
    /// The subscriber as the journal knows it; one that it does not know begins behind everything that is on flash, below
    /// `durable`. `number` is its own, so that no two of one name share a ticket; `seed` differs between concentrators, so that
    /// they do not all come back at once.
    pub fn new(name: &str, settings: Settings, small: &Small, durable: Seq, number: u32, seed: u64) -> Self {
        let known = small.cursors.get(name);
        let up_to = known.map_or(durable.saturating_sub(1), |cursor| cursor.up_to);
        let behind = small.behind.get(name).cloned().unwrap_or_default();
        let mut subscriber = Self {
            name: name.to_owned(),
            skips: settings.order == Order::LiveFirst,
            settings,
            main: Lane::default(),
            behind: Lane::default(),
            up_to,
            backlog: behind.backlog,
            again: behind.again,
            written_off: Ranges::default(),
            thinned: Thinned::default(),
            last_way: Way::Behind,
            in_flight: None,
            next_ticket: u64::from(number) << 32,
            failures: 0,
            not_before: None,
            rate_free: None,
            is_suspended: false,
            last_failure: None,
            jitter: Jitter::new(seed),
            epoch: 0,
            durable,
            count: None,
            counting: None,
            count_id: 0,
            books: Books::counted(name, small),
            dead: small.dead.get(name).cloned().unwrap_or_default(),
            counters: Counters::default(),
            fresh: Vec::new(),
            delivers: None,
            has_moved: known.is_none(),
            behind_moved: false,
            recorded_up_to: up_to,
        };
        subscriber.main.go_to(up_to.saturating_add(1));
        subscriber.begin_count();
        subscriber
    }

    /// Takes up changed settings; whoever was suspended or waits after a failure is tried again.
    pub fn reconfigure(&mut self, settings: Settings) {
        let has_new_filter = settings.filter != self.settings.filter;
        self.settings = settings;
        self.resume();
        if has_new_filter {
            self.epoch += 1;
            self.main = Lane::default();
            self.behind = Lane::default();
            let from = self.in_flight.as_ref().filter(|call| call.way == Way::Main).map(|call| call.last);
            self.main.go_to(from.unwrap_or(self.up_to).saturating_add(1));
            self.begin_count();
        }
    }

    /// It is tried again at once.
    pub fn resume(&mut self) {
        self.is_suspended = false;
        self.not_before = None;
        self.main.not_before = None;
        self.behind.not_before = None;
    }

    /// What is to be done now. `source` is what is on flash.
    pub fn next(&mut self, source: Source<'_>, moment: Moment) -> Next {
        if self.is_suspended || self.in_flight.is_some() {
            return Next::Idle;
        }
        let waits = [self.not_before, self.rate_free].into_iter().flatten().max();
        if let Some(until) = waits.filter(|until| moment.now < *until) {
            return Next::WaitUntil(until);
        }
        self.leave_behind(source);
        let mut until: Option<Instant> = None;
        let mut again = false;
        let ways = match self.last_way {
            Way::Main => [Way::Behind, Way::Main],
            Way::Behind => [Way::Main, Way::Behind],
        };
        for way in ways {
            match self.look(way, source, moment) {
                Look::Ready => return Next::Post(self.post(way, moment.now)),
                Look::Again => again = true,
                Look::WaitUntil(at) => until = Some(until.map_or(at, |earlier| earlier.min(at))),
                Look::Nothing => {}
            }
        }
        if again { Next::Again } else { until.map_or(Next::Idle, Next::WaitUntil) }
    }

    /// What is no longer new goes behind.
    fn leave_behind(&mut self, source: Source<'_>) {
        let is_late = self.main.start() < source.front.tail_start().min(source.end);
        let wants = self.settings.order == Order::LiveFirst && (self.skips || is_late);
        if !wants || self.backlog.as_slice().len() >= BACKLOGS_MAX {
            return;
        }
        self.skips = false;
        let last = source.end.saturating_sub(1);
        if last > self.up_to {
            self.backlog.insert(self.up_to + 1, last);
            self.up_to = last;
            self.delivers = None;
            self.has_moved = true;
            self.behind_moved = true;
            self.main.go_to(source.end);
            self.main.forget_failures();
        }
    }

    fn look(&mut self, way: Way, source: Source<'_>, moment: Moment) -> Look {
        let target = match way {
            Way::Main => None,
            Way::Behind => match self.backlog.first().or(self.again.first()) {
                Some(target) => Some(target),
                None => return Look::Nothing,
            },
        };
        let is_failing = self.failures > 0;
        let Self { settings, written_off, thinned, main, behind, .. } = self;
        let lane = if way == Way::Main { main } else { behind };
        if let Some(until) = lane.not_before.filter(|until| moment.now < *until) {
            return Look::WaitUntil(until);
        }
        if let Some((from, to)) = target
            && !(from..=to).contains(&lane.start())
        {
            lane.go_to(from);
        }
        let mut end = target.map_or(source.end, |(_, to)| source.end.min(to.saturating_add(1)));
        if let Some(limit) = lane.limit {
            end = end.min(limit.saturating_add(1));
        }
        let limit = lane.limit;
        let mut given_up = Vec::new();
        let gathered = lane.gather(
            Source { end, ..source },
            settings.batch_now(),
            moment.now,
            |stored| {
                let message = &stored.message;
                let is_thinned = message.kind.goes_with_group() && thinned.has(stored.seq, message.group);
                settings.filter.takes(message) && !is_thinned && !written_off.contains(stored.seq)
            },
            |stored| {
                let was_tried = is_failing || limit.is_some_and(|limit| stored.seq <= limit);
                let is_old = settings.give_up.is_some_and(|most| moment.age(stored) > most);
                let is_dead = was_tried && is_old;
                if is_dead {
                    given_up.push((stored.seq, stored.message.group));
                }
                is_dead
            },
        );
        let (start, is_empty) = (lane.start(), lane.messages.is_empty());
        let due = lane.since.map(|since| since + settings.batch_wait);
        let is_again = target.is_some() && self.backlog.is_empty();
        self.give_up(&given_up, is_again, way, moment);
        self.pass(way, is_again, start.saturating_sub(1));
        match gathered {
            Gathered::Enough => Look::Again,
            Gathered::Full => Look::Ready,
            Gathered::Unread => Look::Nothing,
            Gathered::All if is_empty => {
                // What was tried again is gone, or a stretch is done: there may be more behind it.
                let lane = self.lane(way);
                let has_more = lane.limit.is_some() || way == Way::Behind;
                lane.limit = None;
                if has_more { Look::Again } else { Look::Nothing }
            }
            Gathered::All if way == Way::Behind || limit.is_some() => Look::Ready,
            Gathered::All => match due.filter(|due| moment.now < *due) {
                Some(due) => Look::WaitUntil(due),
                None => Look::Ready,
            },
        }
    }

    fn lane(&mut self, way: Way) -> &mut Lane {
        match way {
            Way::Main => &mut self.main,
            Way::Behind => &mut self.behind,
        }
    }

    /// Everything of this way up to here came to its end.
    fn pass(&mut self, way: Way, is_again: bool, up_to: Seq) {
        match way {
            Way::Main => self.up_to = self.up_to.max(up_to),
            Way::Behind if is_again => self.behind_moved |= self.again.remove(0, up_to),
            Way::Behind => self.behind_moved |= self.backlog.remove(0, up_to),
        }
    }

    fn give_up(&mut self, messages: &[(Seq, GroupName)], is_again: bool, way: Way, moment: Moment) {
        let (Some((from, _)), Some((to, _))) = (messages.first(), messages.last()) else { return };
        if !is_again {
            messages.iter().for_each(|(_, group)| self.books.settle(*group, Cause::Dead));
        }
        let attempts = self.failures.max(self.lane(way).attempts);
        let tried = self.tried((*from, *to), messages.len(), attempts, true, moment);
        self.dead.add(tried.clone());
        self.fresh.push(Record::Tried { destination: self.name.clone(), tried });
        self.has_moved = true;
    }

    fn tried(
        &self,
        (from, to): (Seq, Seq),
        count: usize,
        attempts: u32,
        is_dead: bool,
        moment: Moment,
    ) -> Tried {
        let reason = self.last_failure.as_ref().map_or_else(String::new, |failure| failure.reason.clone());
        Tried { from, to, count: count as u64, attempts, is_dead, at_us: moment.stamp.wall_us, reason }
    }

    fn post(&mut self, way: Way, now: Instant) -> Post {
        self.last_way = way;
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let is_again = way == Way::Behind && self.backlog.is_empty();
        let lane = self.lane(way);
        let first = lane.start();
        let last = lane.feed.position().saturating_sub(1);
        let messages = lane.take();
        if let Some(rate) = self.settings.max_rate {
            let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
            let takes = Duration::from_secs(1).saturating_mul(count) / rate.get();
            self.rate_free = Some(self.rate_free.map_or(now, |free| free.max(now)) + takes);
        }
        let numbers = messages.iter().map(|stored| (stored.seq, stored.message.group)).collect();
        let count = messages.len();
        self.in_flight = Some(InFlight { ticket, way, is_again, messages: numbers, first, last, count });
        Post { ticket, messages }
    }

    /// A page from the medium; see [`super::feed::Feed::give`].
    pub fn give(&mut self, wanted: &ReadWanted, page: VecDeque<Stored>, to: Seq) {
        if wanted.epoch == self.epoch {
            self.lane(wanted.way).feed.give(wanted.from, page, to);
        }
    }

    /// Whether it is failing: calls are made now and then only, to find out.
    pub fn is_failing(&self) -> bool {
        self.failures.max(self.main.attempts).max(self.behind.attempts) >= OPEN_AFTER
    }

    /// Whether it said that it wants nothing more.
    pub fn is_suspended(&self) -> bool {
        self.is_suspended
    }
}

enum Look {
    Ready,
    Again,
    WaitUntil(Instant),
    Nothing,
}
