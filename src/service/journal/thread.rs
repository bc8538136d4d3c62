//! The thread that writes: commits what the hub appended, seals, and makes room.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::bell::Call;
use super::seen::Seen;
use super::{Shared, lock};
use crate::hub::Hub;
use crate::journal::catalog::SegmentInfo;
use crate::journal::error::JournalError;
use crate::journal::front::Takes;
use crate::journal::reader::{Query, Reader};
use crate::journal::record::{Cause, Kind};
use crate::journal::retention::{Delivered, Limits, Plan, plan};
use crate::journal::segment::Batch;
use crate::journal::writer::Writer;
use crate::journal::{OnFull, Seq};
use crate::logfmt::Quoted;
use crate::service::disk::Disk;
use crate::wire::GroupName;

/// How often it is looked whether something is too old.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Before a batch for which there is no room is tried again, if nothing could be deleted.
const FULL_PAUSE: Duration = Duration::from_millis(200);
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
    /// The policy is to refuse what is new, and there is no room for it.
    refuses: bool,
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
        refuses: false,
    };
    Builder::new()
        .name("journal".to_owned())
        .spawn(move || thread.run())
        .map_err(|error| format!("the system gives no threads: {error}"))
}

impl Thread {
    fn run(&mut self) {
        self.look_after();
        let mut next_look = Instant::now() + LOOK_INTERVAL;
        loop {
            match self.shared.bell.wait(next_look) {
                Call::Commit => self.round(),
                Call::Time => {
                    self.look_after();
                    next_look = Instant::now() + LOOK_INTERVAL;
                }
                Call::Stop => {
                    self.round();
                    return;
                }
            }
        }
    }

    /// Commits all that was appended before.
    fn round(&mut self) {
        let mut has_turned = false;
        for _ in 0..self.hub.begin_round() {
            let Some(batch) = self.hub.take_batch() else { break };
            has_turned |= self.commit(&batch);
            // What is on flash is to be seen before it is let go of in memory.
            self.shared.newest.publish(Seen::of(&self.writer));
            self.hub.committed(&batch);
        }
        if has_turned {
            self.look_after();
        }
    }

    /// Puts a batch on flash, however long that takes, or gives up for good; whether a new segment was begun.
    fn commit(&mut self, batch: &Batch) -> bool {
        loop {
            match self.writer.commit(batch) {
                Ok(committed) => {
                    if committed.recovered {
                        log::error!(
                            "event=journal_write_failed action=\"check the medium; a new file was begun\""
                        );
                        lock(&self.shared.health).failed_writes += 1;
                    }
                    return committed.turned;
                }
                Err(JournalError::Full) if self.shared.bell.is_stopping() => {
                    log::error!("event=journal_full action=\"make room: what came in last is lost\"");
                    return false;
                }
                Err(JournalError::Full) => {
                    self.is_medium_full = true;
                    self.set_takes();
                    if !self.make_room(true) {
                        std::thread::sleep(FULL_PAUSE);
                    }
                }
                Err(error) => {
                    self.give_up(&error);
                    return false;
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
        self.make_room(false);
        self.set_takes();
        self.shared.newest.publish(Seen::of(&self.writer));
    }

    fn upkeep(&mut self) {
        match self.writer.upkeep() {
            Ok(()) => self.is_medium_full = false,
            Err(JournalError::Full) => self.is_medium_full = true,
            Err(error @ JournalError::ReadOnly(_)) => self.give_up(&error),
            Err(error) => log::warn!("event=journal_upkeep_failed error={}", Quoted(error)),
        }
    }

    /// Deletes by age and by size, or, if the medium is full, at least one segment; whether anything was deleted.
    fn make_room(&mut self, at_least_one: bool) -> bool {
        let catalog = self.writer.catalog();
        let mut limits: Limits = lock(&self.shared.limits).clone();
        if at_least_one {
            let last = catalog.segments.last().map_or(0, |segment| segment.file_len);
            limits.bytes_max = limits.bytes_max.min(catalog.bytes().saturating_sub(last));
        } else {
            // The segment in reserve counts, too.
            let spare = catalog.segments.last().map_or(0, |segment| segment.file_len);
            limits.bytes_max = limits.bytes_max.saturating_sub(spare);
        }
        let delivered = Delivered::from_cursors(self.writer.small());
        let plan = plan(&catalog, &delivered, &limits, self.shared.clock.right_us());
        self.refuses = plan.refuse && limits.on_full == OnFull::RefuseNew;
        if plan.segments.is_empty() {
            return false;
        }
        for segment in catalog.segments.iter().filter(|segment| plan.segments.contains(&segment.number())) {
            self.write_off(segment, &plan);
        }
        // What is lost is in the books before it is.
        self.commit_books();
        let now = self.shared.clock.stamp();
        let retired = self.writer.retire(now, &Plan { dropped: Vec::new(), ..plan });
        if let Err(error) = &retired {
            log::warn!("event=journal_delete_failed error={}", Quoted(error));
        }
        retired.is_ok()
    }

    /// Tells the hub of what leaves the journal with a segment.
    fn write_off(&mut self, segment: &SegmentInfo, plan: &Plan) {
        let summary = &segment.summary;
        let last = summary.next_seq.saturating_sub(1);
        if last < self.hub.look(|_, _, central| central.position()) {
            return;
        }
        let messages = self.messages_of(segment);
        let is_expired = !plan.dropped.iter().any(|record| {
            matches!(record, crate::journal::record::Record::Dropped { from, to, cause: Cause::Full, .. }
                if *from <= last && summary.first_seq <= *to)
        });
        let cause = if is_expired { Cause::Expired } else { Cause::Full };
        let lost = self.hub.write_off(summary.first_seq, last, &messages, cause);
        if lost > 0 {
            log::warn!(
                "event=messages_dropped count={lost} from={} to={last} cause={}",
                summary.first_seq,
                if is_expired { "expired" } else { "full" }
            );
        }
    }

    fn messages_of(&mut self, segment: &SegmentInfo) -> Vec<(Seq, GroupName)> {
        let catalog = self.writer.catalog();
        let mut messages = Vec::new();
        let mut from = segment.summary.first_seq;
        loop {
            let query = Query {
                below: segment.summary.next_seq,
                kinds: vec![Kind::Telemetry],
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
            messages.extend(page.messages.iter().map(|stored| (stored.seq, stored.message.group)));
            match page.next {
                Some(next) => from = next,
                None => return messages,
            }
        }
    }

    fn commit_books(&mut self) {
        for _ in 0..self.hub.begin_round() {
            let Some(batch) = self.hub.take_batch() else { break };
            if let Err(error) = self.writer.commit(&batch) {
                self.give_up(&error);
            }
            self.shared.newest.publish(Seen::of(&self.writer));
            self.hub.committed(&batch);
        }
    }

    fn set_takes(&mut self) {
        let mut health = lock(&self.shared.health);
        health.is_full = self.refuses || self.is_medium_full;
        let takes = if health.read_only.is_some() {
            Takes::Nothing
        } else if health.is_full {
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
