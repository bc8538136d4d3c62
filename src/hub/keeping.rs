//! The journal as the hub uses it: where it appends, and who commits what was appended.
//!
//! The hub appends in memory and rings; the journal's own thread comes with [`Hub::begin_round`], takes the batches, puts
//! them on flash without anybody's lock, and says so with [`Hub::committed`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::durable::{NeverDurable, Waiting};
use super::outbox::Outbox;
use super::recording::{self, Clocks, call_record};
use super::{Hub, Turn};
use crate::delivery::central::Central;
use crate::delivery::feed::Source;
use crate::journal::Seq;
use crate::journal::front::{Front, Refused, Takes, Ticket};
use crate::journal::record::{Cause, Message, Record};
use crate::journal::segment::Batch;
use crate::journal::stamp::{Clock, Stamp};
use crate::journal::state::Small;
use crate::journal::stored::Stored;
use crate::router::{Fact, Router, Serial};
use crate::wire::{GroupName, Uid};

/// How soon something has to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Only progress of destinations: losing it means sending again what was sent.
    Progress,
    /// Input that nobody waits for: within `commit_interval`.
    Input,
    /// Somebody waits for it.
    Now,
}

/// Who runs the journal. Nothing in here blocks.
pub trait Keeper: Send + Sync {
    /// Something is to be committed. Said again only for something more urgent, or after [`Hub::begin_round`].
    fn ring(&self, urgency: Urgency);
    /// The central's messages from here to below there are not in memory: they are to be read, and given to
    /// [`Hub::give`].
    fn read(&self, from: Seq, below: Seq);
    /// What this queued command asks is to be read, and given to [`Hub::give_command`].
    fn read_command(&self, uid: Uid, seq: Seq);
    /// What time it is.
    fn stamp(&self) -> Stamp;
}

/// The journal that a hub starts on.
pub struct Keeping<'a> {
    /// Where it appends.
    pub front: Front,
    /// What was known when the journal was opened.
    pub small: &'a Small,
    /// Who commits.
    pub keeper: Arc<dyn Keeper>,
    /// Nothing is forwarded before it is on flash.
    pub durable_only: bool,
}

impl std::fmt::Debug for Keeping<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeping")
    }
}

/// The hub's side of the journal.
pub(super) struct Log {
    pub(super) front: Front,
    pub(super) durable_only: bool,
    keeper: Arc<dyn Keeper>,
    pub(super) waiting: Waiting,
    /// Records of calls and changes that there was no room for.
    pub(super) unrecorded: u64,
    rung: Option<Urgency>,
    /// What the clock was worth last; right from the start if the time of this boot is recorded already.
    clock: Option<Clock>,
}

impl Log {
    pub(super) fn new(keeping: Keeping<'_>) -> Self {
        let Keeping { front, small, keeper, durable_only } = keeping;
        let clock = small.boots.contains_key(&front.boot()).then_some(Clock::Synced);
        Self { front, durable_only, keeper, waiting: Waiting::default(), unrecorded: 0, rung: None, clock }
    }

    /// What time it is. When the clock is set for the first time since the start of the machine, the time of everything
    /// before becomes known, and is recorded.
    pub(super) fn stamp(&mut self) -> Stamp {
        let now = self.keeper.stamp();
        let before = self.clock.replace(now.clock);
        if now.clock == Clock::Synced && before != Some(Clock::Synced) {
            let mono = i64::try_from(now.mono_us).unwrap_or(i64::MAX);
            let record = Record::BootTime {
                boot: self.front.boot(),
                wall_at_zero_us: now.wall_us.saturating_sub(mono),
            };
            // Not taken: it is said again at the next start.
            _ = self.front.note(&record, now);
        }
        now
    }

    pub(super) fn append(&mut self, message: Message<'_>) -> Result<Seq, Refused> {
        let now = self.stamp();
        self.front.append(message, now)
    }

    /// Appends a message that is worth no trouble if there is no room for it.
    pub(super) fn append_or_count(&mut self, message: Message<'_>) {
        self.unrecorded += u64::from(self.append(message).is_err());
    }

    /// Both clocks at this moment.
    pub(super) fn clocks(&mut self, now: Instant) -> Clocks {
        Clocks { now, wall_us: self.stamp().wall_us }
    }

    /// Records what a restart must not forget; `None`: nothing is recorded any more.
    pub(super) fn note_fact(&mut self, fact: Fact, now: Instant) -> Option<Ticket> {
        let clocks = self.clocks(now);
        self.note(&[recording::fact_record(fact, clocks)])
    }

    /// Records how sessions stand, and ahead of it the calls that they had.
    pub(super) fn note_sessions(
        &mut self,
        sessions: &[Fact],
        router: &mut Router,
        now: Instant,
        wakes: &mut Vec<Waker>,
    ) {
        if sessions.is_empty() && !self.durable_only {
            return;
        }
        let clocks = self.clocks(now);
        let calls = router.take_call_changes().into_iter().map(|change| call_record(change, clocks));
        let sessions = sessions.iter().map(|fact| recording::fact_record(*fact, clocks));
        let records: Vec<_> = calls.chain(sessions).collect();
        if !records.is_empty() {
            self.note(&records);
        }
        self.waiting.let_go_beyond(self.front.newest(), wakes);
    }

    /// Records that calls wait no longer.
    pub(super) fn note_settled(&mut self, calls: &[Serial]) {
        let records: Vec<_> = calls.iter().map(|id| Record::Settled { id: *id }).collect();
        if !records.is_empty() {
            self.note(&records);
        }
    }

    pub(super) fn note(&mut self, records: &[Record<'_>]) -> Option<Ticket> {
        let now = self.stamp();
        self.front.note_together(records, now).ok()
    }

    /// Resolves when everything that was recorded so far is on flash.
    pub(super) fn wait_for_all(&mut self) -> impl Future<Output = Result<(), NeverDurable>> + Send + use<> {
        let newest = self.front.newest();
        self.waiting.wait(newest, self.front.is_durable(newest))
    }

    /// Holds connections' bytes back until everything that was recorded so far is on flash.
    pub(super) fn hold_all(&mut self, outboxes: &[Arc<Outbox>]) {
        let newest = self.front.newest();
        if !self.front.is_durable(newest) && self.front.takes_notes() {
            outboxes.iter().for_each(|outbox| self.waiting.hold(outbox, newest));
        }
    }

    /// Holds a connection's bytes back until what is recorded next is on flash, if nothing may be forwarded before.
    pub(super) fn hold_if_asked(&mut self, outbox: &Arc<Outbox>) {
        if self.durable_only && self.front.takes_notes() {
            self.waiting.hold(outbox, self.front.next_place());
        }
    }

    /// What destinations may read now.
    pub(super) fn source(&self) -> Source<'_> {
        let end = if self.durable_only { self.front.durable() } else { self.front.next_seq() };
        Source { front: &self.front, end }
    }

    pub(super) fn read_command(&self, uid: Uid, seq: Seq) {
        self.keeper.read_command(uid, seq);
    }

    pub(super) fn read(&self, from: Seq) {
        self.keeper.read(from, self.front.tail_start());
    }

    /// Rings if there is something to commit that was not rung for.
    pub(super) fn ring(&mut self, has_progress: bool) {
        let urgency = match self.front.pending_batches() {
            0 if has_progress => Some(Urgency::Progress),
            0 => None,
            _ if self.durable_only || !self.waiting.is_empty() => Some(Urgency::Now),
            _ => Some(Urgency::Input),
        };
        if urgency > self.rung {
            self.rung = urgency;
            urgency.into_iter().for_each(|urgency| self.keeper.ring(urgency));
        }
    }

    fn note_progress(&mut self, central: &mut Central, router: &mut Router) {
        let clocks = self.clocks(Instant::now());
        if self.front.takes_notes() {
            let changes = router.take_call_changes().into_iter().map(|change| call_record(change, clocks));
            let records: Vec<_> = changes.collect();
            if !records.is_empty() {
                self.note(&records);
            }
        }
        if central.has_progress() && self.front.takes_notes() {
            let records = central.take_progress();
            let now = self.stamp();
            // It takes notes: it was asked.
            _ = self.front.note_together(&records, now);
        }
    }
}

impl Hub {
    /// A round of commits begins: how many batches there are to take. What is appended from now on is for the next.
    pub fn begin_round(&self) -> usize {
        let mut core = super::lock(&self.core);
        let super::Core { log, central, router, .. } = &mut *core;
        log.note_progress(central, router);
        log.rung = None;
        log.front.pending_batches()
    }

    /// Takes the oldest batch. Whoever takes it commits it, as often as it needs, before the next.
    pub fn take_batch(&self) -> Option<Batch> {
        super::lock(&self.core).log.front.take_batch()
    }

    /// The batch that was taken last is on flash.
    pub fn committed(&self, batch: &Batch) {
        let mut turn = self.turn(Instant::now());
        let Turn { core, wakes, .. } = &mut turn;
        let log = &mut core.log;
        log.front.committed(batch);
        let durable = log.front.durable_place();
        log.waiting.durable(durable, wakes);
        let is_held_back = log.durable_only;
        turn.start_durable_commands(durable);
        if is_held_back {
            turn.pump();
        }
    }

    /// Resolves when everything that was recorded so far is on flash.
    pub fn all_recorded(&self) -> impl Future<Output = Result<(), NeverDurable>> + Send + use<> {
        let mut turn = self.turn(Instant::now());
        let log = &mut turn.core.log;
        log.wait_for_all()
    }

    /// Changes what the journal takes from now on.
    pub fn set_takes(&self, takes: Takes) {
        let mut turn = self.turn(Instant::now());
        let Turn { core, wakes, .. } = &mut turn;
        core.log.front.set_takes(takes);
        if takes == Takes::Nothing {
            let newest = core.log.front.newest();
            core.log.waiting.give_up(newest, wakes);
        }
    }

    /// The messages for the central that were asked for by [`Keeper::read`]: all from `from` to below `to`. `to` equal to
    /// `from`: reading failed, and is asked for again.
    pub fn give(&self, from: Seq, page: VecDeque<Stored>, to: Seq) {
        let mut turn = self.turn(Instant::now());
        turn.core.central.give(from, page, to);
        turn.pump();
    }

    /// The messages for the central from `first` to `last` are leaving the journal: these. Records what of them is lost,
    /// and gives how many that are; once that is committed they can go.
    pub fn write_off(&self, first: Seq, last: Seq, messages: &[(Seq, GroupName)], cause: Cause) -> u64 {
        let mut turn = self.turn(Instant::now());
        let super::Core { log, central, .. } = &mut *turn.core;
        let count = central.write_off(first, last, messages, cause);
        if count > 0 && log.front.takes_notes() {
            let mut records = vec![Record::Dropped { from: first, to: last, count, cause }];
            records.extend(central.take_progress());
            let now = log.stamp();
            _ = log.front.note_together(&records, now);
        }
        count
    }
}
