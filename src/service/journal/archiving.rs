//! The thread that archives, and what it keeps from being deleted.
//!
//! It makes the archive's files out of what will leave the journal, in slices, and says which segments are whole in it.
//! Until then they stay, however old they are; only room that is needed takes them earlier.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::Shared;
use crate::hub::lock;
use crate::journal::Seq;
use crate::journal::archive::{Policy, Step};
use crate::journal::catalog::Catalog;
use crate::journal::reader::Reader;
use crate::journal::retention::{Limits, Plan};
use crate::logfmt::Quoted;
use crate::service::archive::{self, with_cause};
use crate::service::config::Config;
use crate::service::disk::Disk;
use crate::wire::GroupName;

/// How often it is looked whether there is something to archive, and before what failed is tried again.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// What the configuration says, and how far it is.
#[derive(Debug)]
pub struct Archive {
    wanted: Mutex<Wanted>,
    /// Of which segments which groups are whole in the archive.
    whole: Mutex<BTreeSet<(u64, GroupName)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    folder: PathBuf,
    policy: Policy,
}

impl Wanted {
    fn of(config: &Config) -> Self {
        Self { folder: config.journal.archive_dir.clone(), policy: archive::policy(config) }
    }

    fn is_nothing(&self) -> bool {
        !self.policy.usual && self.policy.groups.iter().all(|(_, takes)| !takes)
    }
}

impl Archive {
    /// As configured, with nothing known to be archived.
    pub fn new(config: &Config) -> Self {
        Self { wanted: Mutex::new(Wanted::of(config)), whole: Mutex::default() }
    }

    /// Takes up a changed configuration.
    pub fn reconfigure(&self, config: &Config) {
        let wanted = Wanted::of(config);
        let mut held = lock(&self.wanted);
        if *held != wanted {
            *held = wanted;
            lock(&self.whole).clear();
        }
    }

    /// How many messages that go by this plan are to be archived and are not, and their first and last number.
    pub fn missing(&self, catalog: &Catalog, plan: &Plan, limits: &Limits) -> Option<(u64, Seq, Seq)> {
        let mut missing: Option<(u64, Seq, Seq)> = None;
        for segment in &catalog.segments {
            let goes = |group| plan.segments.contains(&segment.number()) || plan.takes(segment, group);
            let is_held = |group| limits.held.contains(&(segment.number(), group));
            let counts = segment.groups().filter(|count| is_held(count.group) && goes(count.group));
            let count: u64 = counts.map(|count| count.messages).sum();
            let (first, last) = (segment.summary.first_seq, segment.summary.next_seq.saturating_sub(1));
            let (before, from, to) = missing.unwrap_or((0, first, last));
            if count > 0 {
                missing = Some((before + count, from.min(first), to.max(last)));
            }
        }
        missing
    }

    /// Of which segments which groups may not go for their age yet.
    pub fn held(&self, catalog: &Catalog) -> BTreeSet<(u64, GroupName)> {
        let policy = lock(&self.wanted).policy.clone();
        let whole = lock(&self.whole);
        archived_groups(catalog, &policy).filter(|pair| !whole.contains(pair)).collect()
    }
}

/// The groups of each segment with messages that are to be archived.
fn archived_groups(catalog: &Catalog, policy: &Policy) -> impl Iterator<Item = (u64, GroupName)> {
    catalog.segments.iter().flat_map(|segment| {
        let taken = segment.groups().filter(|count| policy.takes(count.group));
        taken.map(|count| (segment.number(), count.group))
    })
}

/// The thread. Ends, at the next slice, when this is dropped.
#[derive(Debug)]
pub struct Archiving {
    go_on: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Archiving {
    /// Starts it.
    pub fn start(shared: Arc<Shared>) -> Result<Self, String> {
        let (go_on, stopped) = sync_channel(0);
        let thread = Builder::new()
            .name("journal-archive".to_owned())
            .spawn(move || run(&shared, &stopped))
            .map_err(|error| format!("the system gives no threads: {error}"))?;
        Ok(Self { go_on: Some(go_on), thread: Some(thread) })
    }
}

impl Drop for Archiving {
    fn drop(&mut self) {
        self.go_on = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn run(shared: &Shared, stopped: &Receiver<()>) {
    loop {
        let wanted = lock(&shared.archive.wanted).clone();
        if !wanted.is_nothing() {
            let failed = archive_all(shared, &wanted, stopped).err();
            if let Some(error) = &failed {
                log::error!("event=archive_failed error={}", Quoted(error));
            }
            lock(&shared.health).archive_failed = failed;
        }
        match stopped.recv_timeout(LOOK_INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Archives what is due, in slices, until there is nothing more or the program ends.
fn archive_all(shared: &Shared, wanted: &Wanted, stopped: &Receiver<()>) -> Result<(), String> {
    let journal = shared.newest.get().catalog.journal;
    let mut archiver = archive::open(&wanted.folder, journal)?;
    let mut reader = Reader::new(Disk::new(&shared.folder));
    loop {
        let catalog = shared.newest.get().catalog.clone();
        let held = archiver.held(&catalog, &wanted.policy);
        let whole = archived_groups(&catalog, &wanted.policy).filter(|pair| !held.contains(pair));
        *lock(&shared.archive.whole) = whole.collect();
        let limits = lock(&shared.limits).clone();
        let now_us = shared.clock.right_us();
        let step = archiver.step(&mut reader, &catalog, &limits, &wanted.policy, now_us, &archive::line);
        match step.map_err(|error| with_cause(&error))? {
            Step::Idle => return Ok(()),
            Step::Working => {}
            Step::Done { file, messages } => {
                log::info!("event=archived file={} messages={messages}", Quoted(file));
            }
        }
        if *lock(&shared.archive.wanted) != *wanted || stopped.try_recv() == Err(TryRecvError::Disconnected) {
            return Ok(());
        }
    }
}
