//! What subscribers want of the journal, read by one thread for all of them in turns: a page, or a step of a count.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};

use super::READ_PAUSE;
use super::seen::Seen;
use super::worker::Worker;
use crate::delivery::subscriber::{CountWanted, Filter, ReadWanted};
use crate::hub::subscribers::Wanted;
use crate::hub::{Hub, lock};
use crate::journal::Seq;
use crate::journal::error::JournalError;
use crate::journal::reader::{Page, Query, Reader};
use crate::journal::stored::Stored;
use crate::logfmt::Quoted;
use crate::service::disk::Disk;
use crate::wire::GroupName;

/// One page: bounds the memory that each subscriber's backlog takes.
const PAGE_MESSAGES: usize = 512;
const PAGE_BYTES: usize = 256 * 1024;

#[derive(Debug)]
enum Task {
    Read(ReadWanted),
    Count { wanted: CountWanted, found: BTreeMap<GroupName, u64> },
}

/// Who wants what, in turn. Each subscriber has one page and one count in here at most.
#[derive(Debug, Default)]
pub struct Queue(Mutex<VecDeque<(String, Task)>>);

impl Queue {
    /// Has something read by this worker, and given to the hub.
    pub fn ask(self: &Arc<Self>, worker: &Worker, hub: &Weak<Hub>, subscriber: &str, wanted: Wanted) {
        let task = match wanted {
            Wanted::Read(wanted) => Task::Read(wanted),
            Wanted::Count(wanted) => Task::Count { wanted, found: BTreeMap::new() },
        };
        lock(&self.0).push_back((subscriber.to_owned(), task));
        let (queue, hub) = (Arc::clone(self), Weak::clone(hub));
        // No room: one that waits there already does all that is wanted.
        let _queued = worker.ask(move |reader, seen| queue.work(reader, seen, &hub));
    }

    fn work(&self, reader: &mut Reader<Disk>, seen: &Seen, hub: &Weak<Hub>) {
        loop {
            let Some((subscriber, task)) = lock(&self.0).pop_front() else { return };
            let Some(hub) = hub.upgrade() else { return };
            match task {
                Task::Read(wanted) => {
                    let (page, to) = read_page(reader, seen, &wanted);
                    hub.give_to(&subscriber, &wanted, page, to);
                }
                Task::Count { mut wanted, mut found } => {
                    if count_step(reader, seen, &mut wanted, &mut found) {
                        hub.counted_for(&subscriber, wanted.id, &found);
                    } else {
                        lock(&self.0).push_back((subscriber, Task::Count { wanted, found }));
                    }
                }
            }
        }
    }
}

fn page(
    reader: &mut Reader<Disk>,
    seen: &Seen,
    (from, below): (Seq, Seq),
    filter: &Filter,
) -> Result<Page, JournalError> {
    let query = Query {
        below,
        groups: filter.groups.iter().copied().collect(),
        kinds: filter.kinds.iter().copied().collect(),
        limit: PAGE_MESSAGES,
        bytes_max: PAGE_BYTES,
        ..Query::from(from)
    };
    let page = reader.read(&seen.catalog, &query);
    if let Err(error) = &page {
        log::error!("event=journal_unreadable error={}", Quoted(error));
        std::thread::sleep(READ_PAUSE);
    }
    page
}

/// What is wanted, and up to where that is all; nothing and nowhere, after a pause, if the medium cannot be read.
fn read_page(reader: &mut Reader<Disk>, seen: &Seen, wanted: &ReadWanted) -> (VecDeque<Stored>, Seq) {
    let below = wanted.below.min(seen.catalog.next_seq);
    match page(reader, seen, (wanted.from, below), &wanted.filter) {
        Ok(page) => (page.messages.into(), page.next.unwrap_or(below)),
        Err(_) => (VecDeque::new(), wanted.from),
    }
}

/// Counts a page's worth; whether that was all.
fn count_step(
    reader: &mut Reader<Disk>,
    seen: &Seen,
    wanted: &mut CountWanted,
    found: &mut BTreeMap<GroupName, u64>,
) -> bool {
    let Some((from, to)) = wanted.ranges.first_mut() else { return true };
    let Ok(page) = page(reader, seen, (*from, to.saturating_add(1)), &wanted.filter) else { return false };
    page.messages.iter().for_each(|stored| *found.entry(stored.message.group).or_default() += 1);
    match page.next.filter(|next| *next <= *to) {
        Some(next) => *from = next,
        None => _ = wanted.ranges.remove(0),
    }
    wanted.ranges.is_empty()
}
