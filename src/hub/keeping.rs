//! The journal as the hub uses it: where it appends, and who commits what was appended.
//!
//! The hub appends in memory and rings; the journal's own thread comes with [`Hub::begin_round`], takes the batches, puts
//! them on flash without anybody's lock, and says so with [`Hub::committed`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::durable::{NeverDurable, Waiting};
use super::outbox::Outbox;
use super::recording::{self, Clocks, call_record};
use super::rights;
use super::subscribers::Wanted;
use super::{Hub, Turn};
use crate::delivery::feed::Source;
use crate::delivery::subscriber::{CountWanted, ReadWanted};
use crate::journal::Seq;
use crate::journal::front::{Front, Refused, Takes, Ticket};
use crate::journal::record::{self, Kind, Message, Record, TooLarge};
use crate::journal::segment::Batch;
use crate::journal::stamp::{Clock, MessageId, Stamp};
use crate::journal::state::Small;
use crate::journal::stored::Stored;
use crate::router::{Fact, Router, Serial};
use crate::wire::{GroupName, Uid};

/// A right clock that moved against the monotonic one by less, in microseconds, was not set to another time.
const STEP_MAX_US: u64 = 1_000_000;

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
    /// Something of the journal is to be read or counted for this subscriber, and given to [`Hub::give_to`] or
    /// [`Hub::counted_for`].
    fn read_for(&self, subscriber: &str, wanted: Wanted);
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
    /// Messages since the journal was made, by kind.
    pub(super) recorded: BTreeMap<Kind, u64>,
    rung: Option<Urgency>,
    /// What time it was when this boot's monotonic clock was at zero, as it is recorded.
    boot_zero_us: Option<i64>,
    /// Boots whose time is known: the wall clock at their start, in microseconds.
    pub(super) boots: Arc<BTreeMap<u32, i64>>,
    /// What the journal knows of subscribers, until they are there.
    pub(super) destinations: Small,
}

impl Log {
    pub(super) fn new(keeping: Keeping<'_>) -> Self {
        let Keeping { front, small, keeper, durable_only } = keeping;
        let boot_zero_us = small.boots.get(&front.boot()).copied();
        let mut recorded = BTreeMap::new();
        for (_, kind, count) in small.received() {
            *recorded.entry(kind).or_default() += count;
        }
        Self {
            front,
            durable_only,
            keeper,
            waiting: Waiting::default(),
            unrecorded: 0,
            recorded,
            rung: None,
            boot_zero_us,
            boots: Arc::new(small.boots.clone()),
            destinations: small.clone(),
        }
    }

    /// What time it is. When the clock is set for the first time since the start of the machine, the time of everything
    /// before becomes known, and is recorded; again if it is set to another time.
    pub(super) fn stamp(&mut self) -> Stamp {
        let now = self.keeper.stamp();
        if now.clock == Clock::Synced {
            let zero_us = now.wall_us.saturating_sub(i64::try_from(now.mono_us).unwrap_or(i64::MAX));
            let is_recorded = self.boot_zero_us.is_some_and(|known| known.abs_diff(zero_us) <= STEP_MAX_US);
            if !is_recorded {
                self.boot_zero_us = Some(zero_us);
                let boot = self.front.boot();
                Arc::make_mut(&mut self.boots).insert(boot, zero_us);
                let record = Record::BootTime { boot, wall_at_zero_us: zero_us };
                // Not taken: it is said again at the next start.
                _ = self.front.note(&record, now);
            }
        }
        now
    }

    pub(super) fn append(&mut self, message: Message<'_>) -> Result<Seq, Refused> {
        let (now, kind) = (self.stamp(), message.kind);
        let seq = self.front.append(message, now)?;
        *self.recorded.entry(kind).or_default() += 1;
        Ok(seq)
    }

    /// Appends a message of our own and gives its id; `None`: the journal does not take it.
    pub(super) fn append_with_id(&mut self, message: Message<'_>) -> Option<MessageId> {
        let seq = self.append(message).ok()?;
        // What was just appended is in memory.
        let at_us = self.front.get(seq)?.stamp.wall_us;
        Some(MessageId::new(at_us, seq, self.front.journal()))
    }

    /// Appends a message and one that is committed together with it.
    pub(super) fn append_with(&mut self, message: Message<'_>, beside: Message<'_>) -> Result<Seq, Refused> {
        let (now, kinds) = (self.stamp(), [message.kind, beside.kind]);
        let seq = self.front.append_with(message, beside, now)?;
        kinds.into_iter().for_each(|kind| *self.recorded.entry(kind).or_default() += 1);
        Ok(seq)
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
        let rights = sessions.iter().filter_map(|fact| rights::record(router, fact)).collect::<Vec<_>>();
        let sessions = sessions.iter().map(|fact| recording::fact_record(*fact, clocks));
        let records: Vec<_> = calls.chain(rights).chain(sessions).collect();
        if !records.is_empty() {
            self.note(&records);
        }
        self.waiting.let_go_beyond(self.front.newest(), wakes);
    }

    /// Records that calls wait no longer, and what else did not come back after a restart.
    pub(super) fn note_restored(&mut self, calls: &[Serial], ended: &[Record<'static>]) {
        let settled = calls.iter().map(|id| Record::Settled { id: *id });
        let records: Vec<_> = settled.chain(ended.iter().cloned()).collect();
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

    pub(super) fn read_for(&self, subscriber: &str, wanted: ReadWanted) {
        self.keeper.read_for(subscriber, Wanted::Read(wanted));
    }

    pub(super) fn count_for(&self, subscriber: &str, wanted: CountWanted) {
        self.keeper.read_for(subscriber, Wanted::Count(wanted));
    }

    pub(super) fn read(&self, from: Seq) {
        self.keeper.read(from, self.front.tail_start());
    }

    /// Rings if there is something to commit that was not rung for.
    pub(super) fn ring(&mut self, has_progress: impl Fn() -> bool) {
        let urgency = match self.front.pending_batches() {
            0 if self.rung.is_none() && has_progress() => Some(Urgency::Progress),
            0 => None,
            _ if self.durable_only || !self.waiting.is_empty() || self.front.is_filling() => {
                Some(Urgency::Now)
            }
            _ => Some(Urgency::Input),
        };
        if urgency > self.rung {
            self.rung = urgency;
            urgency.into_iter().for_each(|urgency| self.keeper.ring(urgency));
        }
    }

    /// Records what changed with calls.
    fn note_calls(&mut self, router: &mut Router) {
        let clocks = self.clocks(Instant::now());
        if self.front.takes_notes() {
            let changes = router.take_call_changes().into_iter().map(|change| call_record(change, clocks));
            let records: Vec<_> = changes.collect();
            if !records.is_empty() {
                self.note(&records);
            }
        }
    }
}

/// A batch to be committed, and behind it, in the same batch, what destinations got.
#[derive(Debug)]
pub struct Taken {
    batch: Batch,
    /// Bytes and records of it without their progress.
    plain: (usize, u32),
    progress: Vec<Record<'static>>,
}

impl Taken {
    /// What is to be committed.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    fn add(&mut self, progress: Vec<Record<'static>>, now: Stamp) -> Result<(), TooLarge> {
        self.progress = progress;
        let since = now.mono_us.saturating_sub(self.batch.head.start.mono_us);
        let since = u32::try_from(since).unwrap_or(u32::MAX);
        for record in &self.progress {
            record::encode(record, since, &mut self.batch.records)?;
            self.batch.head.records += 1;
        }
        Ok(())
    }

    fn cut(&mut self) -> Vec<Record<'static>> {
        self.batch.records.truncate(self.plain.0);
        self.batch.head.records = self.plain.1;
        std::mem::take(&mut self.progress)
    }
}

impl Hub {
    /// A round of commits begins: how many batches there are to take. What is appended from now on is for the next.
    pub fn begin_round(&self) -> usize {
        let mut core = super::lock(&self.core);
        let super::Core { log, central, subscribers, router, .. } = &mut *core;
        log.note_calls(router);
        log.rung = None;
        let has_progress = central.has_progress() || subscribers.is_due(Instant::now());
        log.front.pending_batches().max(usize::from(has_progress))
    }

    /// Takes the oldest batch; the last one with what destinations got. Whoever takes it commits it, as often as it needs,
    /// before the next.
    pub fn take_batch(&self) -> Option<Taken> {
        let mut core = super::lock(&self.core);
        let super::Core { log, central, subscribers, .. } = &mut *core;
        let (now, instant) = (log.stamp(), Instant::now());
        let are_due = subscribers.is_due(instant);
        let has_progress = central.has_progress() || are_due;
        let batch = match log.front.take_batch() {
            None if has_progress => log.front.empty_batch(now),
            batch => batch?,
        };
        let plain = (batch.records.len(), batch.head.records);
        let mut taken = Taken { batch, plain, progress: Vec::new() };
        if has_progress && log.front.pending_batches() == 0 {
            let mut progress = if central.has_progress() { central.take_progress() } else { Vec::new() };
            if are_due {
                progress.extend(subscribers.take_progress(instant));
            }
            if taken.add(progress, now).is_err() {
                core.take_back(&taken.cut());
            }
        }
        Some(taken)
    }

    /// The batch that was taken last is on flash.
    pub fn committed(&self, mut taken: Taken) {
        let mut turn = self.turn(Instant::now());
        let Turn { core, wakes, .. } = &mut turn;
        let super::Core { log, subscribers, .. } = &mut **core;
        taken.cut();
        subscribers.committed(log, &taken.batch);
        log.front.committed(&taken.batch);
        let durable = log.front.durable_place();
        log.waiting.durable(durable, wakes);
        let is_held_back = log.durable_only;
        turn.start_durable_commands(durable);
        if is_held_back {
            turn.pump();
        }
        // Many at once: whoever of them is first asks for the lock while the others are still being woken.
        let wakes = std::mem::take(&mut turn.wakes);
        drop(turn);
        wakes.into_iter().for_each(Waker::wake);
    }

    /// Whoever has waited for flash for too long hears of it; to be called every second.
    pub fn end_late_waits(&self) {
        let mut turn = self.turn(Instant::now());
        let Turn { core, wakes, now, .. } = &mut turn;
        let newest = core.log.front.newest();
        core.log.waiting.end_late(*now, newest, wakes);
    }

    /// Resolves when everything that was recorded so far is on flash.
    pub fn all_recorded(&self) -> impl Future<Output = Result<(), NeverDurable>> + Send + use<> {
        let mut turn = self.turn(Instant::now());
        let log = &mut turn.core.log;
        log.wait_for_all()
    }

    /// The batch that was taken last has to wait: what destinations got is taken out of it, to be recorded with
    /// [`Hub::take_progress`] or later. Whether there is nothing else in it.
    pub fn without_progress(&self, taken: &mut Taken) -> bool {
        let progress = taken.cut();
        if !progress.is_empty() {
            super::lock(&self.core).take_back(&progress);
        }
        taken.plain.1 == 0
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

    /// Messages of these groups are refused from now on, and of no others.
    pub fn set_full_groups(&self, groups: &BTreeSet<GroupName>) {
        super::lock(&self.core).log.front.set_full_groups(groups);
    }

    /// The medium has no room for the batch that was taken last, or has it again.
    pub fn set_stuck(&self, is_stuck: bool) {
        let mut turn = self.turn(Instant::now());
        let Turn { core, wakes, .. } = &mut turn;
        let newest = core.log.front.newest();
        core.log.waiting.set_stuck(is_stuck, newest, wakes);
    }

    /// The messages for the central that were asked for by [`Keeper::read`]: all from `from` to below `to`. `to` equal to
    /// `from`: reading failed, and is asked for again.
    pub fn give(&self, from: Seq, page: VecDeque<Stored>, to: Seq) {
        let mut turn = self.turn(Instant::now());
        turn.core.central.give(from, page, to);
        turn.pump();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::hub::{lock, testing};
    use crate::journal::record::Records;

    /// A machine whose clock is set by the test.
    struct Machine(Mutex<Stamp>);

    impl Keeper for Machine {
        fn ring(&self, _: Urgency) {}

        fn read(&self, _: Seq, _: Seq) {}

        fn read_for(&self, _: &str, _: Wanted) {}

        fn read_command(&self, _: Uid, _: Seq) {}

        fn stamp(&self) -> Stamp {
            *lock(&self.0)
        }
    }

    #[test]
    fn the_time_of_a_boot_is_recorded_when_it_is_known_and_when_it_changes() {
        let unset = Stamp { mono_us: 5, wall_us: 70_000_000, clock: Clock::Unsynced };
        let machine = Arc::new(Machine(Mutex::new(unset)));
        let keeper = Arc::clone(&machine) as Arc<dyn Keeper>;
        let small = Small::default();
        let mut log =
            Log::new(Keeping { front: testing::front(), small: &small, keeper, durable_only: false });
        let mut recorded = |mono_us: u64, wall_us: i64, clock| {
            *lock(&machine.0) = Stamp { mono_us, wall_us, clock };
            log.stamp();
            let mut zeros = Vec::new();
            while let Some(batch) = log.front.take_batch() {
                zeros.extend(Records::new(&batch.records).filter_map(|raw| match raw.decode()? {
                    Record::BootTime { wall_at_zero_us, .. } => Some(wall_at_zero_us),
                    _ => None,
                }));
            }
            zeros
        };
        assert_eq!(recorded(5, 70_000_000, Clock::Unsynced), [0; 0]);
        assert_eq!(recorded(10, 50_000_010, Clock::Synced), [50_000_000]);
        assert_eq!(recorded(20, 51_000_020, Clock::Synced), [0; 0], "a second is no other time");
        assert_eq!(recorded(30, 50_000_030, Clock::Unsynced), [0; 0]);
        assert_eq!(recorded(40, 50_000_040, Clock::Synced), [0; 0], "it is known");
        assert_eq!(recorded(50, 51_000_051, Clock::Synced), [51_000_001], "set to another time");
    }
}
