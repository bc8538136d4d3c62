//! The thread that writes: commits what the hub appended, seals, and makes room.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::audit;
use super::bell::Call;
use super::seen::Seen;
use super::{Shared, lock};
use crate::hub::heartbeats::{BEAT, Loop};
use crate::hub::recording::Told;
use crate::hub::{Hub, Lost, Taken, WrittenOff};
use crate::journal::Seq;
use crate::journal::catalog::SegmentInfo;
use crate::journal::error::JournalError;
use crate::journal::front::Takes;
use crate::journal::medium::Medium as _;
use crate::journal::reader::{Query, Reader};
use crate::journal::record::{Cause, Gone, Kind, Moment, Record};
use crate::journal::retention::{Delivered, Limits, Plan, Thinning, plan};
use crate::journal::writer::Writer;
use crate::logfmt::Quoted;
use crate::service::disk::Disk;
use crate::wire::GroupName;

/// How often it is looked whether something is too old.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Segments that are looked through for what goes with them before whatever waits is committed: a second's work on a slow card.
const LOOKED_THROUGH_MAX: usize = 2;
/// Before a batch for which there is no room is tried again, if nothing could be deleted.
const FULL_PAUSE: Duration = Duration::from_millis(200);
/// A medium with less room than that makes old messages go, not the journal's own size.
const ROOM_MIN: u64 = 1 << 20;
/// Messages of a segment that are looked at together before it is deleted.
const LOOK_MESSAGES: usize = 1000;

struct Thread {
    writer: Writer<Disk>,
    reader: Reader<Disk>,
    hub: Arc<Hub>,
    shared: Arc<Shared>,
    takes: Takes,
    /// There was no room for a spare segment.
    is_medium_full: bool,
    /// Something had to go because the medium has no room, and it has none yet.
    is_medium_short: bool,
    /// The policy is to refuse what is new, and there is no room for it.
    refuses: bool,
    /// The same of some groups.
    has_full_group: bool,
    /// What is to be deleted is too much for one go.
    has_more_to_delete: bool,
    /// Thinned segments hold room that can be given back.
    reclaims: bool,
    /// What is gone and could not be recorded yet.
    written_off: Vec<Record<'static>>,
    /// The same, to be told once it is.
    untold: Vec<Told>,
}

/// Starts it.
pub fn start(writer: Writer<Disk>, hub: Arc<Hub>, shared: Arc<Shared>) -> Result<JoinHandle<()>, String> {
    let reader = Reader::new(Disk::new(&shared.folder));
    let mut thread = Thread {
        writer,
        reader,
        hub,
        shared,
        takes: Takes::Everything,
        is_medium_full: false,
        is_medium_short: false,
        refuses: false,
        has_full_group: false,
        has_more_to_delete: false,
        reclaims: false,
        written_off: Vec::new(),
        untold: Vec::new(),
    };
    Builder::new()
        .name("journal".to_owned())
        .spawn(move || thread.run())
        .map_err(|error| format!("the system gives no threads: {error}"))
}

impl Thread {
    fn run(&mut self) {
        self.look_after();
        let mut next_look = Instant::now() + self.look_interval();
        let mut next_audit = Instant::now();
        loop {
            if self.look_at_damage() || next_audit <= Instant::now() {
                next_audit = Instant::now() + audit::start(&self.writer, &self.shared);
            }
            self.hub.heartbeats.beat(Loop::Journal);
            let now = Instant::now();
            // What can be given back is, in the pauses between commits.
            let until = if self.reclaims { now } else { next_look.min(now + BEAT) };
            match self.shared.bell.wait(until) {
                Call::Commit => self.round(),
                Call::Time if self.reclaims && Instant::now() < next_look => {
                    self.reclaim();
                    continue;
                }
                Call::Time if Instant::now() < next_look => continue,
                Call::Time => self.look_after(),
                Call::Stop => {
                    self.round();
                    return;
                }
            }
            let interval = self.look_interval();
            let now = Instant::now();
            next_look = if next_look > now { next_look.min(now + interval) } else { now + interval };
        }
    }

    /// Where there is no room, it is soon seen that there is again.
    fn look_interval(&self) -> Duration {
        if self.has_more_to_delete {
            return Duration::ZERO;
        }
        let lacks_room = self.is_medium_full || self.is_medium_short || self.refuses || self.has_full_group;
        if lacks_room { FULL_PAUSE } else { LOOK_INTERVAL }
    }

    /// Commits all that was appended before. What cannot be committed stays in memory, and is not said to be.
    fn round(&mut self) {
        if lock(&self.shared.health).read_only.is_some() {
            return;
        }
        for _ in 0..self.hub.begin_round() {
            let Some(mut taken) = self.hub.take_batch() else { return };
            let Some(turned) = self.commit(&mut taken) else { return };
            // What is on flash is to be seen before it is let go of in memory.
            self.shared.newest.publish(Seen::of(&self.writer));
            self.hub.committed(taken);
            if turned {
                self.look_after();
            }
        }
    }

    /// Puts a batch on flash, however long that takes: whether a new segment was begun. `None`: it gave up for good.
    fn commit(&mut self, taken: &mut Taken) -> Option<bool> {
        let mut is_stuck = false;
        loop {
            match self.writer.commit(taken.batch()) {
                Ok(committed) => {
                    if committed.recovered {
                        log::error!(
                            "event=journal_write_failed action=\"check the medium; a new file was begun\""
                        );
                        lock(&self.shared.health).failed_writes += 1;
                    }
                    if is_stuck {
                        self.hub.set_stuck(false);
                    }
                    return Some(committed.turned);
                }
                Err(JournalError::Full) => {
                    self.is_medium_full = true;
                    self.set_takes();
                    // What makes room has to be recorded before this batch.
                    let is_empty = self.hub.without_progress(taken);
                    let made = self.make_room(true);
                    if is_empty {
                        return Some(false);
                    }
                    if !made && self.shared.bell.is_stopping() {
                        log::error!("event=journal_full action=\"make room: what came in last is lost\"");
                        return None;
                    }
                    if !made {
                        // It waits for room, and looks.
                        self.hub.heartbeats.beat(Loop::Journal);
                        is_stuck = true;
                        self.hub.set_stuck(true);
                        std::thread::sleep(FULL_PAUSE);
                    }
                }
                Err(error) => {
                    self.give_up(&error);
                    return None;
                }
            }
        }
    }

    fn give_up(&mut self, error: &JournalError) {
        let cause = std::error::Error::source(error);
        let sentence = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
        let mut health = lock(&self.shared.health);
        if health.read_only.is_none() {
            log::error!("event=journal_read_only error={}", Quoted(&sentence));
            health.read_only = Some(sentence);
        }
        drop(health);
        self.set_takes();
    }

    /// Seals, deletes what is too old or too much, and sees that there is room for more.
    fn look_after(&mut self) {
        self.upkeep();
        if self.is_medium_full && self.make_room(true) {
            self.upkeep();
        }
        let room = |thread: &mut Self| thread.writer.medium().free_bytes().unwrap_or(0);
        self.is_medium_short = self.is_medium_short && room(self) < ROOM_MIN;
        self.make_room(false);
        if !self.is_medium_full && !self.writer.has_spare() {
            self.upkeep();
        }
        self.set_takes();
        self.reclaims = !self.is_medium_full;
        self.shared.newest.publish(Seen::of(&self.writer));
    }

    /// Gives back a slice of the room that thinned segments hold.
    fn reclaim(&mut self) {
        let before = self.writer.catalog().bytes();
        let reclaimed = self.writer.reclaim();
        if let Err(error) = &reclaimed {
            log::warn!("event=journal_reclaim_failed error={}", Quoted(error));
        }
        self.reclaims = reclaimed == Ok(true);
        if self.writer.catalog().bytes() != before {
            self.shared.newest.publish(Seen::of(&self.writer));
        }
    }

    fn upkeep(&mut self) {
        match self.writer.upkeep() {
            Ok(()) => self.is_medium_full = false,
            Err(JournalError::Full) => self.is_medium_full = true,
            Err(error @ JournalError::ReadOnly(_)) => self.give_up(&error),
            Err(error) => log::warn!("event=journal_upkeep_failed error={}", Quoted(error)),
        }
    }

    /// Deletes by age and by size, or, if the medium is full, at least one segment; whether anything was deleted. Not
    /// while a batch with progress of destinations is under way.
    fn make_room(&mut self, at_least_one: bool) -> bool {
        let catalog = self.writer.catalog();
        let mut limits: Limits = lock(&self.shared.limits).clone();
        limits.held = self.shared.archive.held(&catalog);
        // The segment in reserve counts, too.
        let spare = catalog.segments.last().map_or(0, |segment| segment.file_len);
        limits.bytes_max = if at_least_one {
            limits.bytes_max.min(catalog.bytes().saturating_sub(spare))
        } else {
            limits.bytes_max.saturating_sub(spare)
        };
        let on_flash = catalog.next_seq;
        let mut cursors = self.writer.small().cursors.clone();
        cursors.extend(self.hub.places(on_flash));
        let plan = plan(&catalog, &Delivered::of(cursors.values()), &limits, self.shared.clock.right_us());
        self.refuses = plan.refuse;
        self.has_full_group = !plan.refused.is_empty();
        self.hub.set_full_groups(&plan.refused);
        let (plan, has_more) = plan.first_part(&catalog, LOOKED_THROUGH_MAX);
        self.has_more_to_delete = has_more;
        if plan.is_empty() {
            return false;
        }
        self.is_medium_short |= at_least_one;
        for segment in &catalog.segments {
            self.write_off(segment, &plan);
        }
        let unarchived = self.shared.archive.missing(&catalog, &plan, &limits);
        let progress = self.hub.take_progress(on_flash);
        // What is lost is in the books by the same batch that lets go of it.
        let dropped = self.written_off.iter().chain(&progress).cloned().collect();
        let retired = self.writer.retire(self.shared.clock.stamp(), &Plan { dropped, ..plan });
        match retired {
            Ok(()) => {}
            // The files are left for later, but the record is there.
            Err(JournalError::Medium(error)) => {
                log::warn!("event=journal_delete_failed error={}", Quoted(&error));
            }
            Err(error) => {
                self.hub.take_back(&progress);
                log::warn!("event=journal_delete_failed error={}", Quoted(&error));
                return false;
            }
        }
        self.written_off.clear();
        self.shared.newest.publish(Seen::of(&self.writer));
        self.untold.drain(..).for_each(|told| self.hub.tell_gone(&told));
        if let Some((count, first, last)) = unarchived {
            log::warn!("event=messages_unarchived count={count} first={first} last={last}");
            self.hub.tell_unarchived(count, first, last);
        }
        if let Some(oldest) = self.writer.catalog().segments.first() {
            self.hub.left_below(oldest.summary.first_seq);
        }
        true
    }

    /// Records what damage has taken; whether something was found. Not while a batch with progress is under way.
    fn look_at_damage(&mut self) -> bool {
        if self.shared.noticed.is_empty() {
            return false;
        }
        let now = self.shared.clock.stamp();
        let on_flash = self.writer.catalog().next_seq;
        let Some((mut records, told)) = self.shared.noticed.take(&mut self.writer, &self.hub, now) else {
            return false;
        };
        lock(&self.shared.health).found_damaged = true;
        let progress = self.hub.take_progress(on_flash);
        records.extend(progress.iter().cloned());
        if records.is_empty() {
            return true;
        }
        if let Err(error) = self.writer.note(now, &records) {
            // It is found again at the next start.
            self.hub.take_back(&progress);
            log::warn!("event=journal_damage_not_recorded error={}", Quoted(error));
            return false;
        }
        self.shared.newest.publish(Seen::of(&self.writer));
        told.iter().for_each(|told| self.hub.tell_gone(told));
        true
    }

    /// Tells the hub of what leaves the journal with a segment, or out of it.
    fn write_off(&mut self, segment: &SegmentInfo, plan: &Plan) {
        let number = segment.number();
        let numbers = segment.summary.first_seq..segment.summary.next_seq;
        let last = numbers.end.saturating_sub(1);
        if plan.segments.contains(&number) {
            if let Some(cause) = plan.why_dropped(segment) {
                let messages = self.messages_of(segment, None);
                self.take_up(self.hub.write_off(numbers.start, last, &messages, cause), cause);
            }
            return;
        }
        let needed = plan.thinned.iter().filter(|thinning| thinning.segment == number && thinning.is_needed);
        for Thinning { group, cause, .. } in needed.copied() {
            let messages = self.messages_of(segment, Some(group));
            let goes = |(_, _, kind): &(Seq, GroupName, Kind)| kind.goes_with_group();
            let gone = messages.into_iter().filter(goes).map(|(seq, _, kind)| (seq, kind));
            let messages: Vec<_> = gone.collect();
            self.take_up(self.hub.thin(numbers.start, last, group, &messages, cause), cause);
        }
    }

    /// What is gone is to be recorded, and told.
    fn take_up(&mut self, written_off: WrittenOff, cause: Cause) {
        let WrittenOff { lost, records } = written_off;
        self.written_off.extend(records);
        for Lost { destination, numbers } in lost {
            let Some(told) = Told::of(&destination, cause, &numbers) else { continue };
            let (from, to) = told.numbers;
            let (count, (state, reason)) = (told.count(), cause.says());
            log::warn!(
                "event=messages_{} to={destination} count={count} first={from} last={to} reason={}",
                state.name(),
                Quoted(reason)
            );
            let at = Some(Moment { boot: self.writer.start().boot, stamp: self.shared.clock.stamp() });
            self.written_off.push(Record::Gone(Gone { from, to, count, cause, destination, at }));
            if !self.untold.iter_mut().any(|before| before.take_up(&told)) {
                self.untold.push(told);
            }
        }
    }

    /// The messages of a segment, or those of one group.
    fn messages_of(
        &mut self,
        segment: &SegmentInfo,
        group: Option<GroupName>,
    ) -> Vec<(Seq, GroupName, Kind)> {
        let catalog = self.writer.catalog();
        let mut messages = Vec::new();
        let mut from = segment.summary.first_seq;
        loop {
            let query = Query {
                below: segment.summary.next_seq,
                groups: group.into_iter().collect(),
                limit: LOOK_MESSAGES,
                ..Query::from(from)
            };
            let page = match self.reader.read(&catalog, &query) {
                Ok(page) => page,
                Err(error) => {
                    log::error!("event=journal_unreadable error={}", Quoted(error));
                    return messages;
                }
            };
            let found = page.messages.iter();
            messages.extend(found.map(|stored| (stored.seq, stored.message.group, stored.message.kind)));
            match page.next {
                Some(next) => from = next,
                None => return messages,
            }
        }
    }

    fn set_takes(&mut self) {
        let mut health = lock(&self.shared.health);
        health.is_full = self.refuses || self.is_medium_full || self.is_medium_short;
        let takes = if health.read_only.is_some() {
            Takes::Nothing
        } else if self.refuses || self.is_medium_full {
            Takes::Essentials
        } else {
            Takes::Everything
        };
        drop(health);
        if takes != self.takes {
            self.takes = takes;
            self.hub.set_takes(takes);
            log::warn!("event=journal_takes what={takes:?}");
        }
    }
}
