//! The backup of every night: made, proven, kept, copied to a second place, by a thread of its own.
//!
//! A backup gets its name when a trial restore of it was read whole. Only then an older one is taken away, and only one of
//! those that were made here and by this. What fails is tried again every hour. While the clock is not known to be right no
//! night comes.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::Duration;

use jiff::Timestamp;

use super::record::{Failed, Made, Record};
use super::{Good, RunningCopies, file, verify};
use crate::endpoint::maintenance::{Copies as _, CopyStream};
use crate::endpoint::webhook::upload;
use crate::hub::lock;
use crate::hub::status::Backups;
use crate::logfmt::Quoted;
use crate::service::config::{Backup, Config, CopyTo};
use crate::sys::disk_space;

/// The record's file, in the state folder.
const RECORD: &str = "backup.json";
/// How often the time is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes that stay free beside a backup and its trial restore.
const ROOM_MIN: u64 = 64 << 20;

/// Makes them. Dropped, it makes no more; one that is being made is given up.
#[derive(Debug)]
pub struct Nightly {
    shared: Arc<Shared>,
    _stop: SyncSender<()>,
}

#[derive(Debug)]
struct Shared {
    copies: Arc<RunningCopies>,
    config: Mutex<Backup>,
    record: Mutex<Record>,
    path: PathBuf,
    state_dir: PathBuf,
    is_ending: AtomicBool,
}

impl Nightly {
    /// Makes them of this concentrator from now on.
    pub fn start(copies: Arc<RunningCopies>, config: &Config) -> Result<Self, String> {
        let path = config.state_dir.join(RECORD);
        let shared = Arc::new(Shared {
            copies,
            config: Mutex::new(config.backup.clone()),
            record: Mutex::new(Record::load(&path)),
            path,
            state_dir: config.state_dir.clone(),
            is_ending: AtomicBool::new(false),
        });
        let (stop, stopped) = sync_channel(0);
        let working = Arc::clone(&shared);
        // Not waited for at the end: a trial restore takes its time, and what it leaves the next one takes away.
        Builder::new()
            .name("backup".to_owned())
            .spawn(move || working.run(&stopped))
            .map_err(|error| format!("the system gives no threads: {error}"))?;
        Ok(Self { shared, _stop: stop })
    }

    /// Takes up a changed configuration.
    pub fn reconfigure(&self, config: &Config) {
        let mut current = lock(&self.shared.config);
        if current.copy_to != config.backup.copy_to {
            // Another place has nothing yet, and nothing failed there.
            let mut record = lock(&self.shared.record);
            (record.copied, record.copy_failed) = (None, None);
        }
        *current = config.backup.clone();
    }

    /// How they are.
    pub fn status(&self) -> Backups {
        let config = lock(&self.shared.config);
        let record = lock(&self.shared.record);
        record.status(self.shared.now(), config.at, config.copy_to.is_some())
    }
}

impl Drop for Nightly {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn run(&self, stopped: &Receiver<()>) {
        let is_over = || stopped.recv_timeout(LOOK_INTERVAL) != Err(RecvTimeoutError::Timeout);
        let mut waits = false;
        // Held to the end of this thread.
        let _held = loop {
            match self.hold() {
                Ok(held) => break held,
                Err(why) if !waits => log::warn!("event=backups_wait reason={}", Quoted(why)),
                Err(_) => {}
            }
            waits = true;
            if is_over() {
                return;
            }
        };
        if waits {
            // Whoever held it may have made one.
            *lock(&self.record) = Record::load(&self.path);
        }
        loop {
            self.look();
            if is_over() {
                return;
            }
        }
    }

    /// Sees that nobody else makes backups here, by a lock on the folder itself. While a newer version takes over, and when
    /// this one is back, the one before may still end its last.
    fn hold(&self) -> Result<File, String> {
        let failed = |what: String| format!("state_dir {}: {what}", self.state_dir.display());
        let folder =
            File::open(&self.state_dir).map_err(|error| failed(format!("cannot be read: {error}")))?;
        match folder.try_lock() {
            Ok(()) => Ok(folder),
            Err(TryLockError::WouldBlock) => Err(failed("the version before still ends a backup".to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(format!("cannot be locked: {error}"))),
        }
    }

    /// Seconds since 1970, if the clock is right.
    fn now(&self) -> Option<i64> {
        self.copies.journal.right_us().map(|us| us / 1_000_000)
    }

    /// Does what is due.
    fn look(&self) {
        let Some(now) = self.now() else { return };
        let config = lock(&self.config).clone();
        if lock(&self.record).since.is_none() {
            self.note(|record| record.since = Some(now));
        }
        let is_due = lock(&self.record).is_due(now, config.at);
        if is_due {
            self.make(&config, now);
        }
        let to_copy = lock(&self.record).to_copy(now).cloned();
        if let (Some(place), Some(made)) = (&config.copy_to, to_copy) {
            self.copy(&config, place, &made, now);
        }
    }

    /// Changes the record, in memory and on flash.
    fn note(&self, change: impl FnOnce(&mut Record)) {
        let mut record = lock(&self.record);
        change(&mut record);
        if let Err(error) = record.save(&self.path) {
            log::error!("event=backup_record_not_written error={}", Quoted(error));
        }
    }

    fn make(&self, config: &Backup, now: i64) {
        let outcome = self.try_make(&config.dir, now);
        if self.is_ending.load(Ordering::Relaxed) && outcome.is_err() {
            return;
        }
        match outcome {
            Ok(made) => {
                let (bytes, messages) = (made.bytes, made.messages);
                log::info!("event=backup_made file={} bytes={bytes} messages={messages}", Quoted(&made.name));
                self.retire(&config.dir, &made.name, config.keep);
                self.note(|record| (record.made, record.failed) = (Some(made), None));
            }
            Err(why) => {
                log::error!("event=backup_failed error={}", Quoted(&why));
                self.note(|record| record.failed = Some(Failed { at: now, why }));
            }
        }
    }

    fn try_make(&self, dir: &Path, now: i64) -> Result<Made, String> {
        file::make(dir)?;
        let CopyStream { len, mut bytes } = self.copies.begin()?;
        let (_, free) = disk_space(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let needed = len.saturating_mul(2).saturating_add(ROOM_MIN);
        if free < needed {
            return Err(format!(
                "[backup] dir {}: needs {needed} bytes free for a backup and its trial restore, and has {free}: make room, keep fewer, or set another folder",
                dir.display()
            ));
        }
        let time = Timestamp::from_second(now).map_err(|error| error.to_string())?;
        let name = format!("{}{}{}", self.prefix(), file::moment(time), file::ENDING);
        let goes_on = |_| !self.is_ending.load(Ordering::Relaxed);
        let good = file::keep_if(&dir.join(&name), &mut bytes, len, goes_on, verify)?;
        let Good { journal, objects, .. } = good;
        Ok(Made { at: now, name, bytes: len, messages: journal.messages, objects: objects as u64 })
    }

    fn copy(&self, config: &Backup, place: &CopyTo, made: &Made, now: i64) {
        let outcome = self.try_copy(&config.dir.join(&made.name), place, &made.name);
        if self.is_ending.load(Ordering::Relaxed) && outcome.is_err() {
            return;
        }
        // The place may have been changed meanwhile; then this tells nothing of the new one.
        let is_same = || lock(&self.config).copy_to.as_ref() == Some(place);
        match outcome {
            Ok(()) => {
                log::info!("event=backup_copied file={}", Quoted(&made.name));
                if let CopyTo::Folder(folder) = place {
                    self.retire(folder, &made.name, config.keep);
                }
                if is_same() {
                    let copied = Some((made.name.clone(), now));
                    self.note(|record| (record.copied, record.copy_failed) = (copied, None));
                }
            }
            Err(why) => {
                log::error!("event=backup_copy_failed error={}", Quoted(&why));
                if is_same() {
                    self.note(|record| record.copy_failed = Some(Failed { at: now, why }));
                }
            }
        }
    }

    fn try_copy(&self, source: &Path, place: &CopyTo, name: &str) -> Result<(), String> {
        match place {
            CopyTo::Folder(folder) => {
                // Not made here: where nothing is mounted it would fill another medium.
                if !folder.is_dir() {
                    return Err(format!("[backup] copy_to {}: is not there: mount it", folder.display()));
                }
                let unreadable = |error| format!("{}: cannot be read: {error}", source.display());
                let mut bytes = File::open(source).map_err(unreadable)?;
                let len = bytes.metadata().map_err(unreadable)?.len();
                let goes_on = |_| !self.is_ending.load(Ordering::Relaxed);
                file::keep(&folder.join(name), &mut bytes, len, goes_on).map(drop)
            }
            CopyTo::Url(url) => {
                let uri = match url.uri().path().ends_with('/') {
                    true => url.below(name)?,
                    false => url.uri().clone(),
                };
                upload(&uri, source, &self.is_ending)
            }
        }
    }

    /// What the names of these backups begin with: several concentrators may have one second place.
    fn prefix(&self) -> String {
        let [a, b, c, d, ..] = self.copies.journal.catalog().journal.0;
        format!("nightly-{a:02x}{b:02x}{c:02x}{d:02x}-")
    }

    /// Takes away what is older than the newest few, and never the one that was just proven.
    fn retire(&self, folder: &Path, newest: &str, keep: usize) {
        let prefix = self.prefix();
        let is_older = |name: &String| {
            name.starts_with(&prefix) && name.ends_with(file::ENDING) && name.as_str() != newest
        };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut older: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        older.retain(is_older);
        older.sort_unstable_by(|one, other| other.cmp(one));
        for name in older.iter().skip(keep.saturating_sub(1)) {
            match fs::remove_file(folder.join(name)) {
                Ok(()) => log::info!("event=backup_removed file={}", Quoted(name)),
                Err(error) => {
                    log::warn!("event=backup_not_removed file={} error={}", Quoted(name), Quoted(error));
                }
            }
        }
    }
}
