//! The archive's folder, and what the configuration says about it.

use std::path::Path;

use super::config::{Config, Group, OnExpiry};
use super::disk::Disk;
use super::state::make_folder;
use crate::hub::history::MessageView;
use crate::journal::archive::{Archiver, Policy};
use crate::journal::catalog::Catalog;
use crate::journal::stamp::JournalId;
use crate::journal::stored::Stored;

/// Makes the folder if it is missing, and looks at what is in it. The sentence says what is wrong.
pub fn open(folder: &Path, journal: JournalId) -> Result<Archiver<Disk>, String> {
    let failed = |error: String| format!("[journal] archive_dir {}: {error}", folder.display());
    make_folder(folder).map_err(|error| failed(format!("cannot be made: {error}")))?;
    Archiver::open(Disk::uncached(folder), journal).map_err(|error| failed(with_cause(&error)))
}

/// Which messages are archived.
pub fn policy(config: &Config) -> Policy {
    let own = |(name, group): (_, &Group)| Some((name, group.on_expiry? == OnExpiry::Archive));
    let groups = config.groups.iter().filter_map(|(name, group)| own((*name, group)));
    Policy { usual: config.journal.on_expiry == OnExpiry::Archive, groups: groups.collect() }
}

/// The line of a message: the JSON that the API gives, in its state at insertion.
pub fn line(stored: Stored, catalog: &Catalog) -> String {
    let mut text = String::new();
    MessageView::of_stored(stored, catalog).write_json(&mut text);
    text
}

/// An error with everything that led to it.
pub(super) fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::journal::OnFull;
    use crate::journal::archive::Step;
    use crate::journal::front::{Bounds, Front};
    use crate::journal::reader::Reader;
    use crate::journal::record::{Kind, Message, State, Via};
    use crate::journal::retention::Limits;
    use crate::journal::stamp::{Clock, Stamp};
    use crate::journal::writer::{Settings, Writer};
    use crate::wire::{Format, GroupName, Uid};

    /// On real files, and as anyone reads it.
    #[test]
    fn what_is_archived_is_what_the_api_gives() {
        let folder = tempfile::tempdir().unwrap();
        let now = Stamp { mono_us: 1, wall_us: 1_700_000_000_000_000, clock: Clock::Synced };
        let settings = Settings {
            segment_len: 4096,
            fresh_id: [1; 16],
            seed: 7,
            boot_id: [2; 16],
            environment: [0; 16],
            now,
            restored: false,
        };
        let (mut writer, _) = Writer::open(Disk::new(folder.path()), &settings).unwrap();
        let mut front = Front::new(writer.start(), Bounds { pending_max: 1 << 20, tail_max: 0 });
        for number in 0..100 {
            let message = Message {
                uid: Uid::parse("o").unwrap(),
                group: GroupName::parse("g").unwrap(),
                kind: Kind::Telemetry,
                via: Via::Udp,
                format: Format::Json,
                state: State::Waiting,
                source: None,
                network: None,
                payload: format!("[{number}]").into_bytes().into(),
            };
            front.append(message, now).unwrap();
            let batch = front.take_batch().unwrap();
            writer.commit(&batch).unwrap();
            front.committed(&batch);
        }
        let catalog = writer.catalog();
        let limits = Limits {
            bytes_max: u64::MAX,
            keep_us: 1,
            groups_us: Vec::new(),
            groups_bytes: Vec::new(),
            held: Default::default(),
            on_full: OnFull::DropOldest,
        };
        let archive = folder.path().join("deep/archive");
        let mut archiver = open(&archive, catalog.journal).unwrap();
        let policy = Policy { usual: true, groups: Vec::new() };
        let mut reader = Reader::new(Disk::new(folder.path()));
        let mut step =
            || archiver.step(&mut reader, &catalog, &limits, &policy, Some(now.wall_us + 2), &line).unwrap();
        let done = loop {
            match step() {
                Step::Working => {}
                other => break other,
            }
        };
        let old = catalog.segments.last().unwrap().summary.first_seq - 1;
        assert!(old > 10);
        let file = "2023-11-14.g.ndjson.gz".to_owned();
        assert_eq!(done, Step::Done { file: file.clone(), messages: old });
        assert_eq!(step(), Step::Idle);
        let mut text = String::new();
        let bytes = std::fs::read(archive.join(&file)).unwrap();
        flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("{\"id\":") && first.contains("\"payload\":[0]"), "{first}");
        assert_eq!(text.lines().count() as u64, old);
        for entry in std::fs::read_dir(&archive).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_is_told_by_its_key() {
        let error = open(Path::new("/proc/no/archive"), JournalId([0; 16])).unwrap_err();
        assert!(error.starts_with("[journal] archive_dir /proc/no/archive: cannot be made"), "{error}");
    }
}
