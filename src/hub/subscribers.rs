//! Subscribers: each a destination with its own place in the journal, served by a worker of its own.
//!
//! A worker asks what its subscriber's next call brings ([`Hub::next_post`]), makes it, tells how that went
//! ([`Hub::posted`]), and waits at its [`Doorbell`] while there is nothing to do. They see only what is on flash.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::durable::NeverDurable;
use super::history::MessageView;
use super::keeping::Log;
use super::{Hub, Lost, Turn, lock};
use crate::delivery::feed::Source;
use crate::delivery::subscriber::{CountWanted, Moment, Next, Outcome, ReadWanted, Settings, Subscriber};
use crate::journal::Seq;
use crate::journal::front::Ticket;
use crate::journal::record::{Cause, Kind, Record};
use crate::journal::segment::Batch;
use crate::journal::state::{CursorState, Small};
use crate::journal::stored::Stored;
use crate::wire::GroupName;

/// Progress of subscribers is recorded this often at most: with many of them each record of it would be as much as the
/// messages, and losing it costs no more than sending again.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Where a worker waits for something to do.
#[derive(Debug, Default)]
pub struct Doorbell {
    is_rung: Mutex<bool>,
    rung: Condvar,
}

impl Doorbell {
    /// There may be something to do.
    pub fn ring(&self) {
        *lock(&self.is_rung) = true;
        self.rung.notify_one();
    }

    /// Waits until it rings, at once if it did since the last time, or until this moment.
    pub fn wait(&self, until: Option<Instant>) {
        let mut is_rung = lock(&self.is_rung);
        while !*is_rung {
            is_rung = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break,
                Some(left) => self.rung.wait_timeout(is_rung, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.rung.wait(is_rung).unwrap_or_else(PoisonError::into_inner),
            };
        }
        *is_rung = false;
    }
}

/// What a worker is to do.
#[derive(Debug)]
pub enum Job {
    /// To send these, under this ticket.
    Post(u64, Vec<MessageView>),
    /// To ask again at once.
    Again,
    /// To wait until it is rung for, or until this moment.
    Wait(Option<Instant>),
}

#[derive(Debug)]
struct Desk {
    subscriber: Subscriber,
    bell: Arc<Doorbell>,
    /// Where its progress was recorded out of turn.
    noted: Option<Ticket>,
}

/// All subscribers, by name.
#[derive(Debug, Default)]
pub struct Subscribers {
    desks: BTreeMap<String, Desk>,
    recorded: Option<Instant>,
    /// How many there were so far.
    made: u32,
}

impl Subscribers {
    /// Whether there is something to record, some time.
    pub(super) fn has_progress(&self) -> bool {
        self.desks.values().any(|desk| desk.subscriber.has_progress())
    }

    /// Whether there is something to record now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let is_early =
            self.recorded.is_some_and(|recorded| now.saturating_duration_since(recorded) < PROGRESS_INTERVAL);
        !is_early && self.has_progress()
    }

    /// What is to be recorded together.
    pub(super) fn take_progress(&mut self, now: Instant) -> Vec<Record<'static>> {
        self.recorded = Some(now);
        let desks = self.desks.values_mut().filter(|desk| desk.subscriber.has_progress());
        desks.flat_map(|desk| desk.subscriber.take_progress()).collect()
    }

    /// What is to be recorded ahead of what waits to be committed: not of those of whom something waits there that is older.
    pub(super) fn take_progress_ahead(&mut self, now: Instant, log: &Log) -> Vec<Record<'static>> {
        self.recorded = Some(now);
        let is_ready = |desk: &&mut Desk| {
            desk.noted.is_none_or(|noted| log.front.is_durable(noted)) && desk.subscriber.has_progress()
        };
        let desks = self.desks.values_mut().filter(is_ready);
        desks.flat_map(|desk| desk.subscriber.take_progress()).collect()
    }

    /// What was taken is recorded with the next batch that is committed.
    pub(super) fn record_soon(&mut self) {
        self.recorded = None;
    }

    /// What was taken could not be recorded.
    pub(super) fn take_back(&mut self, records: &[Record<'_>]) {
        self.record_soon();
        for record in records {
            let name = match record {
                Record::Cursor { destination, .. }
                | Record::Behind { destination, .. }
                | Record::Tally { destination, .. }
                | Record::Tried { destination, .. }
                | Record::DeadSettled { destination, .. } => destination,
                _ => continue,
            };
            if let Some(desk) = self.desks.get_mut(name) {
                desk.subscriber.take_back(record);
            }
        }
    }

    /// How far each is, by what is before `end`.
    pub(super) fn places(&self, end: Seq) -> impl Iterator<Item = (String, CursorState)> {
        self.desks.iter().map(move |(name, desk)| (name.clone(), desk.subscriber.place_before(end)))
    }

    /// These messages, from `first` to `last`, are leaving the journal. Gives who never gets which.
    pub(super) fn write_off(
        &mut self,
        first: Seq,
        last: Seq,
        messages: &[(Seq, GroupName, Kind)],
        cause: Cause,
    ) -> Vec<Lost> {
        let mut lost = Vec::new();
        for (name, desk) in &mut self.desks {
            let numbers = desk.subscriber.write_off(first, last, messages, cause);
            lost.push(Lost { destination: name.clone(), numbers });
            desk.bell.ring();
        }
        lost
    }

    /// These messages of a group, from `first` to `last`, are leaving the journal. Gives who never gets which.
    pub(super) fn thin(
        &mut self,
        first: Seq,
        last: Seq,
        group: GroupName,
        messages: &[(Seq, Kind)],
        cause: Cause,
    ) -> Vec<Lost> {
        let mut lost = Vec::new();
        for (name, desk) in &mut self.desks {
            let numbers = desk.subscriber.thin(first, last, group, messages, cause);
            lost.push(Lost { destination: name.clone(), numbers });
            desk.bell.ring();
        }
        lost
    }

    /// Nothing below this number is in the journal any more.
    pub(super) fn left_below(&mut self, oldest: Seq) {
        self.desks.values_mut().for_each(|desk| desk.subscriber.left_below(oldest));
    }

    /// A batch is on flash. Those that get something of it are told.
    pub(super) fn committed(&mut self, log: &Log, batch: &Batch) {
        let (first, next) = (batch.head.first_seq, batch.head.next_seq());
        if first == next {
            return;
        }
        for desk in self.desks.values_mut() {
            let messages = (first..next).filter_map(|seq| log.front.get(seq)).map(|stored| &stored.message);
            if desk.subscriber.committed(first, next, messages) {
                desk.bell.ring();
            }
        }
    }

    /// Each of them with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Subscriber)> {
        self.desks.iter().map(|(name, desk)| (name.as_str(), &desk.subscriber))
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<&Subscriber> {
        self.desks.get(name).map(|desk| &desk.subscriber)
    }
}

impl Hub {
    /// Puts these subscribers in force, and no others. One that is new begins with what comes from now on; what is known of
    /// one that is gone is forgotten.
    pub fn set_subscribers(&self, wanted: Vec<(String, Settings)>) {
        let mut turn = self.turn(Instant::now());
        let super::Core { log, subscribers, .. } = &mut *turn.core;
        let is_wanted = |name: &str| wanted.iter().any(|(wanted, _)| wanted == name);
        let gone: Vec<_> = log.destinations.cursors.keys().chain(subscribers.desks.keys()).cloned().collect();
        for destination in gone {
            if destination == crate::delivery::central::NAME || is_wanted(&destination) {
                continue;
            }
            if subscribers.desks.remove(&destination).is_some() {
                log::info!("event=subscriber_removed subscriber={destination}");
            }
            log.destinations.apply(Record::Forgotten { destination: destination.clone() });
            log.note(&[Record::Forgotten { destination }]);
        }
        for (name, settings) in wanted {
            match subscribers.desks.get_mut(&name) {
                Some(desk) => {
                    desk.subscriber.reconfigure(settings);
                    desk.bell.ring();
                }
                None => {
                    subscribers.made += 1;
                    let (number, known) = (subscribers.made, &log.destinations);
                    let seed = u64::from(std::process::id()) << 32 | u64::from(number);
                    let durable = log.front.durable();
                    let subscriber = Subscriber::new(&name, settings, known, durable, number, seed);
                    subscribers.desks.insert(name, Desk { subscriber, bell: Arc::default(), noted: None });
                }
            }
        }
        // From now on they know best.
        log.destinations = Small::default();
        subscribers.record_soon();
        turn.ask_for_subscribers();
    }

    /// Where the worker of this subscriber waits.
    pub fn doorbell(&self, name: &str) -> Option<Arc<Doorbell>> {
        lock(&self.core).subscribers.desks.get(name).map(|desk| Arc::clone(&desk.bell))
    }

    /// What the worker of this subscriber is to do; `None`: there is no such subscriber any more.
    pub fn next_post(&self, name: &str) -> Option<Job> {
        let mut turn = self.turn(Instant::now());
        let moment = turn.moment();
        let super::Core { log, subscribers, .. } = &mut *turn.core;
        let desk = subscribers.desks.get_mut(name)?;
        let source = Source { front: &log.front, end: log.front.durable() };
        let job = match desk.subscriber.next(source, moment) {
            Next::Post(post) => {
                let journal = log.front.journal();
                let views = post.messages.into_iter();
                let views = views.map(|stored| MessageView::of(stored, journal, &log.boots));
                Job::Post(post.ticket, views.collect())
            }
            Next::Again => Job::Again,
            Next::WaitUntil(at) => Job::Wait(Some(at)),
            Next::Idle => Job::Wait(None),
        };
        if let Some(wanted) = desk.subscriber.take_read(log.front.tail_start()) {
            log.read_for(name, wanted);
        }
        Some(job)
    }

    /// A call of this subscriber's worker ended.
    pub fn posted(&self, name: &str, ticket: u64, outcome: Outcome) {
        let mut turn = self.turn(Instant::now());
        let moment = turn.moment();
        if let Some(desk) = turn.core.subscribers.desks.get_mut(name) {
            desk.subscriber.posted(ticket, outcome, moment);
        }
    }

    /// What was asked for by [`super::Keeper::read_for`]: everything that is wanted, from its start to below `to`. `to`
    /// equal to its start: reading failed, and is asked for again.
    pub fn give_to(&self, name: &str, wanted: &ReadWanted, page: VecDeque<Stored>, to: Seq) {
        let mut turn = self.turn(Instant::now());
        if let Some(desk) = turn.core.subscribers.desks.get_mut(name) {
            desk.subscriber.give(wanted, page, to);
            desk.bell.ring();
        }
    }

    /// What was asked for by [`super::Keeper::count_for`]: how many there are of each group.
    pub fn counted_for(&self, name: &str, id: u64, found: &BTreeMap<GroupName, u64>) {
        let mut turn = self.turn(Instant::now());
        if let Some(desk) = turn.core.subscribers.desks.get_mut(name) {
            desk.subscriber.counted(id, found);
        }
    }

    /// The next batch that is committed records how far subscribers are.
    pub fn record_soon(&self) {
        self.turn(Instant::now()).core.subscribers.record_soon();
    }

    /// Looks at the subscribers.
    pub fn look_at_subscribers<T>(&self, look: impl FnOnce(&Subscribers) -> T) -> T {
        look(&lock(&self.core).subscribers)
    }

    /// Does something with a subscriber, and gives what came of it; `None`: there is none of this name. What changed is on
    /// flash when the future resolves.
    pub fn with_subscriber(
        &self,
        name: &str,
        work: &dyn Fn(&mut Subscriber) -> u64,
    ) -> Option<(u64, impl Future<Output = Result<(), NeverDurable>> + Send + use<>)> {
        let mut turn = self.turn(Instant::now());
        let super::Core { log, subscribers, .. } = &mut *turn.core;
        let desk = subscribers.desks.get_mut(name)?;
        let done = work(&mut desk.subscriber);
        desk.bell.ring();
        let records = desk.subscriber.take_progress();
        match log.note(&records) {
            Some(noted) => desk.noted = Some(noted),
            None => records.iter().for_each(|record| desk.subscriber.take_back(record)),
        }
        Some((done, log.wait_for_all()))
    }
}

impl Turn<'_> {
    fn moment(&mut self) -> Moment {
        let stamp = self.core.log.stamp();
        Moment { now: self.now, stamp, boot: self.core.log.front.boot() }
    }

    /// Has counted what waits, where that is not known.
    pub(super) fn ask_for_subscribers(&mut self) {
        let super::Core { log, subscribers, .. } = &mut *self.core;
        for (name, desk) in &mut subscribers.desks {
            if let Some(wanted) = desk.subscriber.take_count() {
                log.count_for(name, wanted);
            }
        }
    }
}

/// What is asked of whoever runs the journal on behalf of subscribers.
#[derive(Debug)]
pub enum Wanted {
    /// A part of it.
    Read(ReadWanted),
    /// A count.
    Count(CountWanted),
}
