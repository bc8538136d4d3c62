//! The journal as it runs: its folder, its threads, its clock.
//!
//! [`Opened`] is what there was at the start; the hub is made on it, and [`Journal::run`] then starts the one thread that
//! writes ([`thread`]). Others read ([`worker`]) from what [`seen`] says is on flash.

mod archiving;
mod audit;
mod audited;
mod before;
mod bell;
mod clock;
mod damage;
mod history;
mod linked;
mod networks;
mod recollection;
mod seen;
mod stopped;
mod subscribed;
mod thread;
mod wanted;
mod worker;

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use ring::rand::SecureRandom as _;

use super::config::{self, Config};
use super::disk::Disk;
use super::state::make_folder;
use crate::hub::subscribers::Wanted;
use crate::hub::{Hub, Keeper, Keeping, Urgency, lock};
use crate::journal::catalog::Catalog;
use crate::journal::front::{Bounds, Front};
use crate::journal::reader::{Query, Reader};
use crate::journal::record::Kind;
use crate::journal::recovery::{Damage, Report};
use crate::journal::retention::Limits;
use crate::journal::stamp::Stamp;
use crate::journal::state::Small;
use crate::journal::stored::Stored;
use crate::journal::writer::{Settings, Writer};
use crate::journal::{OnFull, Seq};
use crate::limits::{JOURNAL_PENDING_MAX, JOURNAL_TAIL_MAX};
use crate::logfmt::Quoted;
use crate::wire::Uid;
use archiving::{Archive, Archiving};
use bell::Bell;
use clock::WallClock;
pub use clock::boot_id;
use damage::Noticed;
pub use history::Records;
pub use networks::Networks;
use recollection::Recollection;
use seen::{Newest, Seen};
pub use stopped::{Stopped, jump};
use worker::Worker;

/// The journal's folder, in the state folder.
pub(super) const FOLDER: &str = "journal";
/// A segment is this share of the journal's size, so that what makes room is a small part of it.
const SEGMENTS: u64 = 16;
/// Bytes of a segment unless the journal is small.
const SEGMENT_LEN: u64 = 8 << 20;
/// One page of what the central was away for: bounds the memory that a backlog takes.
const PAGE_MESSAGES: usize = 4096;
const PAGE_BYTES: usize = 1 << 20;
/// Before a part of the journal that could not be read is tried again.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// A journal that was opened and does not run yet.
#[derive(Debug)]
pub struct Opened {
    writer: Writer<Disk>,
    small: Small,
    /// What was found wrong.
    pub report: Report,
    shared: Arc<Shared>,
}

/// A journal that runs.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    /// Answers questions about the past.
    history: Arc<Worker>,
    archiving: Mutex<Option<Archiving>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    clock: WallClock,
    bell: Bell,
    newest: Arc<Newest>,
    limits: Mutex<Limits>,
    health: Mutex<Health>,
    hub: OnceLock<Weak<Hub>>,
    /// Damage that was found.
    noticed: Arc<Noticed>,
    /// The books are held against the journal at the moment.
    is_audited: AtomicBool,
    /// What partner networks brought before the start is known to the hub, or read for it.
    looks_back: AtomicBool,
    /// A quarantine is being mapped.
    is_remapping: AtomicBool,
    /// Reads what the central was away for, so that no question about the past keeps it waiting.
    refill: Worker,
    /// What of that was asked for last: from which number, below which. What was asked before is no longer wanted.
    wanted: Arc<Mutex<Option<(Seq, Seq)>>>,
    /// Queued commands that are wanted.
    commands: Arc<Mutex<VecDeque<(Uid, Seq)>>>,
    /// Reads for all subscribers, so that none of their backlogs keeps the central waiting.
    for_subscribers: Worker,
    /// What they want.
    queue: Arc<wanted::Queue>,
    /// Looks for what partner networks brought longer ago than memory goes.
    recollection: Recollection,
    archive: Archive,
}

/// How the journal is, for alerts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Nothing can be written any more: why.
    pub read_only: Option<String>,
    /// There is no room for what comes in.
    pub is_full: bool,
    /// A write failed and was made good elsewhere: how often since the start.
    pub failed_writes: u64,
    /// What was found damaged at the start.
    pub found_damaged: bool,
    /// What the books say is waiting is not what is there.
    pub books_differ: bool,
    /// What is to be archived cannot be, and stays for now: why.
    pub archive_failed: Option<String>,
}

impl Opened {
    /// Opens the journal of this state folder, or makes it. Damage does not keep it from starting; the sentence says what
    /// does.
    pub fn open(config: &Config) -> Result<Self, String> {
        let folder = config.state_dir.join(FOLDER);
        let made = make_folder(&folder);
        made.map_err(|error| format!("journal {}: cannot be made: {error}", folder.display()))?;
        let clock = WallClock::new(config.time.trust);
        let settings = settings(config, clock.stamp())?;
        let opened = Writer::open(Disk::after_restart(&folder), &settings);
        let (writer, report) = opened.map_err(|error| format!("journal {}: {error}", folder.display()))?;
        let newest = Arc::new(Newest::new(Seen::of(&writer)));
        let shared = Arc::new(Shared {
            clock,
            bell: Bell::new(config.journal.commit_interval),
            limits: Mutex::new(limits(config)),
            health: Mutex::new(Health { found_damaged: report.is_loss(), ..Health::default() }),
            hub: OnceLock::new(),
            noticed: Arc::default(),
            is_audited: AtomicBool::new(false),
            looks_back: AtomicBool::new(false),
            is_remapping: AtomicBool::new(false),
            refill: Worker::start("journal-refill", &folder, &newest)?,
            wanted: Arc::default(),
            commands: Arc::default(),
            for_subscribers: Worker::start("journal-others", &folder, &newest)?,
            queue: Arc::default(),
            recollection: Recollection::start(&folder, &newest)?,
            archive: Archive::new(config),
            newest,
            folder,
        });
        shared.noticed.notice(&report.damaged);
        if !report.missing.is_empty() || !report.set_aside.is_empty() {
            // What is missing is found between the others.
            shared.noticed.notice(&[Damage { segment: 0, from: 0, to: 0 }]);
        }
        Ok(Self { small: writer.small_with_carry(), writer, report, shared })
    }

    /// What the program kept for itself under this name.
    pub fn kept(&self, name: &str) -> Option<Vec<u8>> {
        self.small.kept(name).map(<[u8]>::to_vec)
    }

    /// What a hub needs to begin with.
    pub fn keeping(&self, config: &Config) -> Keeping<'_> {
        let pending_max = match config.journal.on_full {
            config::OnFull::DropOldest => JOURNAL_PENDING_MAX,
            // What was taken cannot be refused any more, so it is little beside what there may be.
            config::OnFull::RefuseNew => {
                let share = usize::try_from(config.journal.max_size / SEGMENTS).unwrap_or(usize::MAX);
                JOURNAL_PENDING_MAX.min(share)
            }
        };
        let bounds = Bounds { pending_max, tail_max: JOURNAL_TAIL_MAX };
        Keeping {
            front: Front::new(self.writer.start(), bounds),
            small: &self.small,
            keeper: Arc::clone(&self.shared) as Arc<dyn Keeper>,
            durable_only: config.journal.commit_interval.is_zero(),
        }
    }

    /// Starts to write what the hub appends.
    pub fn run(self, hub: &Arc<Hub>) -> Result<Journal, String> {
        let _only_once = self.shared.hub.set(Arc::downgrade(hub));
        let history = Worker::start("journal-history", &self.shared.folder, &self.shared.newest)?;
        let thread = thread::start(self.writer, Arc::clone(hub), Arc::clone(&self.shared))?;
        let archiving = Archiving::start(Arc::clone(&self.shared))?;
        Ok(Journal {
            shared: self.shared,
            history: Arc::new(history),
            archiving: Mutex::new(Some(archiving)),
            thread: Mutex::new(Some(thread)),
        })
    }
}

impl Journal {
    /// What was recorded.
    pub fn records(&self) -> Records {
        let hub = self.shared.hub.get().cloned().unwrap_or_default();
        Records::new(Arc::clone(&self.shared.newest), Arc::clone(&self.history), hub)
    }

    /// Where messages of partner networks go.
    pub fn networks(&self, hub: &Arc<Hub>) -> Networks {
        Networks::new(hub, &self.shared)
    }

    /// Reads what partner networks brought before the start, once, and tells the hub: it takes nothing of them before.
    pub fn look_back(&self) -> Result<(), String> {
        if self.shared.looks_back.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        before::start(&self.shared)
    }

    /// Where what lies, as of the last commit.
    pub fn catalog(&self) -> Catalog {
        self.shared.newest.get().catalog.clone()
    }

    /// Now, by the clocks that records are stamped with.
    pub fn stamp(&self) -> Stamp {
        self.shared.clock.stamp()
    }

    /// The wall clock in microseconds since 1970, if it is right.
    pub fn right_us(&self) -> Option<i64> {
        self.shared.clock.right_us()
    }

    /// Takes up a changed configuration.
    pub fn reconfigure(&self, config: &Config) {
        self.shared.clock.set_trust(config.time.trust);
        self.shared.bell.set_commit_interval(config.journal.commit_interval);
        *lock(&self.shared.limits) = limits(config);
        self.shared.archive.reconfigure(config);
    }

    /// Whether the books are held against what lies in it at the moment.
    pub fn is_audited(&self) -> bool {
        self.shared.is_audited.load(Ordering::Acquire)
    }

    /// How it is.
    pub fn health(&self) -> Health {
        lock(&self.shared.health).clone()
    }

    /// Whether the machine knows the time.
    pub fn knows_time(&self) -> bool {
        self.right_us().is_some()
    }

    /// Bytes of files that have what is not delivered up to this position, and bytes that the journal may take.
    pub fn backlog(&self, position: Seq) -> (u64, u64) {
        let seen = self.shared.newest.get();
        let segments = seen.catalog.segments.iter();
        let behind = segments.filter(|segment| segment.summary.next_seq > position);
        (behind.map(|segment| segment.file_len).sum(), lock(&self.shared.limits).bytes_max)
    }

    /// Commits what there is and ends.
    pub fn stop(&self) {
        drop(lock(&self.archiving).take());
        self.shared.bell.stop();
        if let Some(thread) = lock(&self.thread).take() {
            let _ended = thread.join();
        }
    }
}

impl Keeper for Shared {
    fn ring(&self, urgency: Urgency) {
        self.bell.ring(urgency);
    }

    fn read(&self, from: Seq, below: Seq) {
        let Some(hub) = self.hub.get().cloned() else { return };
        *lock(&self.wanted) = Some((from, below));
        let (wanted, noticed) = (Arc::clone(&self.wanted), Arc::clone(&self.noticed));
        // No room: one that waits there already takes what is wanted now.
        let _queued = self.refill.ask(move |reader, seen| {
            let Some((from, below)) = lock(&wanted).take() else { return };
            let (page, to) = read_page(reader, seen, from, below, &noticed);
            if let Some(hub) = hub.upgrade() {
                hub.give(from, page, to);
            }
        });
    }

    fn read_command(&self, uid: Uid, seq: Seq) {
        let Some(hub) = self.hub.get().cloned() else { return };
        lock(&self.commands).push_back((uid, seq));
        let commands = Arc::clone(&self.commands);
        // No room: one that waits there already reads all that are wanted.
        let _queued = self.refill.ask(move |reader, seen| {
            let wanted = std::mem::take(&mut *lock(&commands));
            for (uid, seq) in wanted {
                let Some(hub) = hub.upgrade() else { return };
                let asked = reader.get(&seen.catalog, seq);
                if asked == Ok(None) && seen.catalog.has_let_go(seq) {
                    hub.lose_command(seq);
                    continue;
                }
                let asked = asked.ok().flatten();
                let asked = asked.map(|stored| (stored.message.format, stored.message.payload.into_owned()));
                hub.give_command(uid, seq, asked);
            }
        });
    }

    fn read_for(&self, subscriber: &str, wanted: Wanted) {
        if let Some(hub) = self.hub.get() {
            self.queue.ask(&self.for_subscribers, hub, subscriber, wanted);
        }
    }

    fn stamp(&self) -> Stamp {
        self.clock.stamp()
    }
}

/// The central's messages from here, and up to where that is all; nothing and nowhere, after a pause, if the medium
/// cannot be read.
fn read_page(
    reader: &mut Reader<Disk>,
    seen: &Seen,
    from: Seq,
    below: Seq,
    noticed: &Noticed,
) -> (VecDeque<Stored>, Seq) {
    let query = Query {
        below,
        kinds: vec![Kind::Telemetry],
        limit: PAGE_MESSAGES,
        bytes_max: PAGE_BYTES,
        ..Query::from(from)
    };
    match reader.read(&seen.catalog, &query) {
        Ok(page) => {
            noticed.notice(&page.damaged);
            (page.messages.into(), page.next.unwrap_or(below.min(seen.catalog.next_seq)))
        }
        Err(error) => {
            log::error!("event=journal_unreadable error={}", Quoted(error));
            std::thread::sleep(READ_PAUSE);
            (VecDeque::new(), from)
        }
    }
}

fn settings(config: &Config, now: Stamp) -> Result<Settings, String> {
    let random = ring::rand::SystemRandom::new();
    let (mut fresh_id, mut seed, mut unknown_boot) = ([0; 16], [0; 8], [0; 16]);
    let filled = [&mut fresh_id[..], &mut seed, &mut unknown_boot].map(|bytes| random.fill(bytes).is_ok());
    if filled != [true; 3] {
        return Err("the system gives no random numbers".to_owned());
    }
    let mut environment = [0; 16];
    let name = config.environment.name().as_bytes();
    environment.iter_mut().zip(name).for_each(|(byte, letter)| *byte = *letter);
    Ok(Settings {
        segment_len: (config.journal.max_size / SEGMENTS).min(SEGMENT_LEN),
        fresh_id,
        seed: u64::from_le_bytes(seed),
        boot_id: boot_id().unwrap_or(unknown_boot),
        environment,
        now,
        restored: false,
    })
}

fn limits(config: &Config) -> Limits {
    let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    let groups = config.groups.iter();
    Limits {
        bytes_max: config.journal.max_size,
        keep_us: micros(config.journal.retention),
        groups_us: groups
            .clone()
            .filter_map(|(name, group)| Some((*name, micros(group.retention?))))
            .collect(),
        groups_bytes: groups.filter_map(|(name, group)| Some((*name, group.max_size?))).collect(),
        held: BTreeSet::new(),
        on_full: match config.journal.on_full {
            config::OnFull::DropOldest => OnFull::DropOldest,
            config::OnFull::RefuseNew => OnFull::RefuseNew,
        },
    }
}
