//! What is kept: `[access]`, `[journal]`, `[backup]`.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::Folders;
use super::reader::Table;
use super::units::{
    GIB, MIB, TimeOfDay, Url, count, duration, duration_or_zero, name, one_of, size, text, time_of_day,
};

/// Less could not hold a few segments.
pub(super) const JOURNAL_SIZE_MIN: u64 = MIB;
/// The words of `on_expiry`.
pub(super) const ON_EXPIRY: [(&str, OnExpiry); 2] =
    [("delete", OnExpiry::Delete), ("archive", OnExpiry::Archive)];
const DAY: Duration = Duration::from_secs(86_400);

/// The access list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Its file; a missing one is an empty list.
    pub file: PathBuf,
}

/// What is kept of messages and calls, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Bytes in all.
    pub max_size: u64,
    /// At most this much unacknowledged input is lost to a power cut; zero: nothing is forwarded before it is on flash.
    pub commit_interval: Duration,
    /// What is recorded of calls.
    pub calls: CallRecords,
    /// How long messages are kept.
    pub retention: Duration,
    /// What then becomes of them.
    pub on_expiry: OnExpiry,
    /// Folder of the archive.
    pub archive_dir: PathBuf,
    /// What gives way when the journal is full.
    pub on_full: OnFull,
}

/// What is recorded of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallRecords {
    /// Everything, payloads too.
    All,
    /// Who, when and the outcome.
    Headers,
    /// The same, of those that failed.
    Failed,
    /// Nothing.
    None,
}

/// What becomes of messages whose time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExpiry {
    /// They are gone.
    Delete,
    /// They go to the archive's folder, one file a UTC day and group.
    Archive,
}

/// What gives way when the journal is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// The oldest messages.
    DropOldest,
    /// New messages.
    RefuseNew,
}

/// Copies of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Folder.
    pub dir: PathBuf,
    /// How many are kept.
    pub keep: usize,
    /// When the daily one is made.
    pub at: TimeOfDay,
    /// A second place.
    pub copy_to: Option<CopyTo>,
}

/// The second place of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyTo {
    /// A mounted folder.
    Folder(PathBuf),
    /// An https URL to PUT to.
    Url(Url),
}

pub(super) fn read_access(mut table: Table<'_>, folders: &Folders) -> Access {
    let file = folders.state.join(table.read("file", "acl.json".to_owned(), name));
    table.finish();
    Access { file }
}

pub(super) fn read_journal(mut table: Table<'_>, folders: &Folders) -> Journal {
    let calls = [
        ("all", CallRecords::All),
        ("headers", CallRecords::Headers),
        ("failed", CallRecords::Failed),
        ("none", CallRecords::None),
    ];
    let on_full = [("drop-oldest", OnFull::DropOldest), ("refuse-new", OnFull::RefuseNew)];
    let journal = Journal {
        max_size: table.read("max_size", GIB, size(JOURNAL_SIZE_MIN..=u64::MAX)),
        commit_interval: table.read("commit_interval", Duration::from_millis(100), duration_or_zero),
        calls: table.read("calls", CallRecords::Headers, one_of(&calls)),
        retention: table.read("retention", 60 * DAY, duration),
        on_expiry: table.read("on_expiry", OnExpiry::Delete, one_of(&ON_EXPIRY)),
        archive_dir: folders.state.join(table.read("archive_dir", "archive".to_owned(), name)),
        on_full: table.read("on_full", OnFull::DropOldest, one_of(&on_full)),
    };
    table.finish();
    journal
}

pub(super) fn read_backup(mut table: Table<'_>, folders: &Folders) -> Backup {
    let backup = Backup {
        dir: folders.state.join(table.read("dir", "backups".to_owned(), name)),
        keep: table.read("keep", 7, count(1, 10_000)),
        at: table.read("at", TimeOfDay { hour: 3, minute: 15 }, time_of_day),
        copy_to: table.read("copy_to", None, copy_to(folders)),
    };
    table.finish();
    backup
}

/// Empty: no second place. A backup holds every key, so it never leaves the machine without TLS.
fn copy_to(folders: &Folders) -> impl Fn(&DeValue<'_>) -> Result<Option<CopyTo>, String> {
    move |value| {
        let place = text(value)?;
        if place.is_empty() {
            Ok(None)
        } else if place.starts_with("https://") {
            Url::parse(&place).map(|url| Some(CopyTo::Url(url)))
        } else if place.contains("://") {
            Err("must be a folder or a URL that starts with https://".to_owned())
        } else {
            Ok(Some(CopyTo::Folder(folders.config.join(place))))
        }
    }
}
