//! The journal's medium on real files: one folder, each file readable by its owner only.
//!
//! Space is reserved by fallocate, not by writing zeros, so that a segment costs the flash what is written to it. Flushes
//! are fdatasync: lengths are set when a file is made, so there is nothing else to flush.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::journal::medium::{FileEntry, FileId, Medium, MediumError, Operation};
use crate::sys;

/// Access rights of every file.
const MODE: u32 = 0o600;

/// A folder of files. Several values may be over one folder: one that writes, and one for each reader.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    open: BTreeMap<u32, File>,
    next: u32,
    uncached: bool,
}

impl Disk {
    /// Over a folder that exists.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), open: BTreeMap::new(), next: 0, uncached: false }
    }

    /// The same, for whoever wants to know whether what was written is there: what is opened is read from where it was
    /// written to, and not from what the system holds of it in memory.
    pub fn uncached(folder: &Path) -> Self {
        Self { uncached: true, ..Self::new(folder) }
    }

    /// The same, for whoever finds out what is there after the end of another process. What the system holds of the
    /// files is forgotten first: after a flush that failed it may show what the medium never got.
    pub fn after_restart(folder: &Path) -> Self {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // It is advice. What cannot be opened now is found out, and told, by whoever reads it.
            _ = File::open(entry.path()).and_then(|file| sys::drop_cache(file.as_fd()));
        }
        Self::new(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn keep(&mut self, file: File) -> FileId {
        self.next = self.next.wrapping_add(1);
        self.open.insert(self.next, file);
        FileId(self.next)
    }

    fn file(&self, file: FileId) -> Result<&File, MediumError> {
        self.open.get(&file.0).ok_or(MediumError::NotFound)
    }
}

impl Medium for Disk {
    fn list(&mut self) -> Result<Vec<FileEntry>, MediumError> {
        let list = || {
            let mut entries = Vec::new();
            for entry in fs::read_dir(&self.folder)? {
                let entry = entry?;
                // What has no name of ours is not ours.
                let Ok(name) = entry.file_name().into_string() else { continue };
                match entry.metadata() {
                    Ok(metadata) if metadata.is_file() => {
                        entries.push(FileEntry { name, len: metadata.len() })
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(entries)
        };
        list().map_err(|error| failed(Operation::List, &error))
    }

    fn create(&mut self, name: &str, len: u64) -> Result<FileId, MediumError> {
        let path = self.path(name);
        let create = || {
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(&path)?;
            let reserved = sys::reserve(file.as_fd(), len).or_else(|error| match error.kind() {
                // A file system without reservations: it may be full one day when a segment is written to, which is
                // treated as a failed write.
                ErrorKind::Unsupported => file.set_len(len),
                _ => Err(error),
            });
            if reserved.is_err() {
                // Half of it helps nobody, and the space may be needed.
                _ = fs::remove_file(&path);
            }
            reserved.map(|()| file)
        };
        let file = create().map_err(|error| failed(Operation::Create, &error))?;
        Ok(self.keep(file))
    }

    fn open(&mut self, name: &str) -> Result<FileId, MediumError> {
        let opened = OpenOptions::new().read(true).write(true).open(self.path(name));
        // A copy on a medium that is read-only can still be read.
        let opened = opened.or_else(|error| match error.kind() {
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => File::open(self.path(name)),
            _ => Err(error),
        });
        let file = opened.map_err(|error| failed(Operation::Open, &error))?;
        if self.uncached {
            // It is advice.
            _ = sys::drop_cache(file.as_fd());
        }
        Ok(self.keep(file))
    }

    fn close(&mut self, file: FileId) {
        self.open.remove(&file.0);
    }

    fn write_at(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), MediumError> {
        self.file(file)?.write_all_at(bytes, offset).map_err(|error| failed(Operation::Write, &error))
    }

    fn read_at(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        let file = self.file(file)?;
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(Operation::Read, &error)),
            }
        }
        Ok(done)
    }

    fn shrink(&mut self, file: FileId, len: u64) -> Result<(), MediumError> {
        self.file(file)?.set_len(len).map_err(|error| failed(Operation::Shrink, &error))
    }

    fn sync(&mut self, file: FileId) -> Result<(), MediumError> {
        self.file(file)?.sync_data().map_err(|error| failed(Operation::Sync, &error))
    }

    fn sync_folder(&mut self) -> Result<(), MediumError> {
        let sync = || File::open(&self.folder)?.sync_all();
        sync().map_err(|error| failed(Operation::SyncFolder, &error))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), MediumError> {
        fs::rename(self.path(from), self.path(to)).map_err(|error| failed(Operation::Rename, &error))
    }

    fn remove(&mut self, name: &str) -> Result<(), MediumError> {
        fs::remove_file(self.path(name)).map_err(|error| failed(Operation::Remove, &error))
    }

    fn free_bytes(&mut self) -> Result<u64, MediumError> {
        let free = sys::disk_space(&self.folder).map(|(_total, free)| free);
        free.map_err(|error| failed(Operation::FreeBytes, &error))
    }
}

fn failed(operation: Operation, error: &io::Error) -> MediumError {
    match error.kind() {
        ErrorKind::NotFound => MediumError::NotFound,
        ErrorKind::AlreadyExists => MediumError::Exists,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => MediumError::NoSpace,
        _ => MediumError::Failed {
            operation,
            code: error.raw_os_error().unwrap_or(0),
            sentence: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;
    use crate::journal::record::Record;
    use crate::journal::recovery::Report;
    use crate::journal::stamp::{Clock, Stamp};
    use crate::journal::writer::{Settings, Writer};

    fn disk() -> (tempfile::TempDir, Disk) {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path());
        (folder, disk)
    }

    #[test]
    fn a_file_is_reserved_reads_as_zeros_and_is_its_owners_only() {
        let (folder, mut disk) = disk();
        let file = disk.create("a.seg", 1 << 20).unwrap();
        let mut bytes = [9; 8];
        assert_eq!(disk.read_at(file, (1 << 20) - 4, &mut bytes).unwrap(), 4);
        assert_eq!(bytes, [0, 0, 0, 0, 9, 9, 9, 9]);
        let metadata = fs::metadata(folder.path().join("a.seg")).unwrap();
        assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (1 << 20, 0o600));
        assert!(metadata.blocks() * 512 >= 1 << 20, "reserved: {}", metadata.blocks());
        assert_eq!(disk.list().unwrap(), [FileEntry { name: "a.seg".into(), len: 1 << 20 }]);
    }

    #[test]
    fn what_is_written_is_read_and_shrinks_and_grows() {
        let (_folder, mut disk) = disk();
        let file = disk.create("a.seg", 100).unwrap();
        disk.write_at(file, 98, b"abcd").unwrap();
        disk.sync(file).unwrap();
        disk.sync_folder().unwrap();
        disk.close(file);
        assert_eq!(disk.sync(file), Err(MediumError::NotFound));
        let file = disk.open("a.seg").unwrap();
        let mut bytes = [0; 10];
        assert_eq!(disk.read_at(file, 97, &mut bytes).unwrap(), 5);
        assert_eq!(&bytes[..5], b"\0abcd");
        disk.shrink(file, 99).unwrap();
        assert_eq!(disk.list().unwrap()[0].len, 99);
        assert_eq!(disk.read_at(file, 200, &mut bytes).unwrap(), 0);
    }

    #[test]
    fn names_are_taken_missing_replaced() {
        let (_folder, mut disk) = disk();
        let file = disk.create("a", 0).unwrap();
        disk.write_at(file, 0, b"first").unwrap();
        assert_eq!(disk.create("a", 0), Err(MediumError::Exists));
        assert_eq!(disk.open("b"), Err(MediumError::NotFound));
        assert_eq!(disk.remove("b"), Err(MediumError::NotFound));
        disk.create("b", 7).unwrap();
        disk.rename("a", "b").unwrap();
        assert_eq!(disk.list().unwrap(), [FileEntry { name: "b".into(), len: 5 }]);
        disk.remove("b").unwrap();
        let mut bytes = [0; 5];
        assert_eq!(disk.read_at(file, 0, &mut bytes).unwrap(), 5, "open files stay usable");
    }

    #[test]
    fn more_than_there_is_cannot_be_reserved_and_leaves_nothing() {
        let (_folder, mut disk) = disk();
        assert!(disk.free_bytes().unwrap() > 1 << 20);
        assert_eq!(disk.create("a", 1 << 50), Err(MediumError::NoSpace));
        assert_eq!(disk.list().unwrap(), []);
    }

    #[test]
    fn a_folder_that_is_gone_is_told_by_what_was_asked() {
        let mut disk = Disk::new(Path::new("/nowhere/at/all"));
        assert_eq!(disk.list(), Err(MediumError::NotFound));
        let full = failed(Operation::Write, &io::Error::from_raw_os_error(libc::EDQUOT));
        assert_eq!(full, MediumError::NoSpace);
        let broken = failed(Operation::Sync, &io::Error::from_raw_os_error(libc::EIO));
        assert!(matches!(&broken, MediumError::Failed { operation: Operation::Sync, code: libc::EIO, .. }));
        assert!(broken.to_string().starts_with("flushing a file failed"));
    }

    /// The whole journal on real files, over restarts.
    #[test]
    fn a_journal_on_it_keeps_what_was_committed() {
        let (folder, _) = disk();
        let now = Stamp { mono_us: 1, wall_us: 1_700_000_000_000_000, clock: Clock::Synced };
        let settings = Settings {
            segment_len: 64 * 1024,
            fresh_id: [1; 16],
            seed: 7,
            boot_id: [2; 16],
            environment: [0; 16],
            now,
            restored: false,
        };
        let note = |id| Record::Waiting { id, data: vec![7; 5000] };
        for round in 0..4 {
            let (mut writer, report) = Writer::open(Disk::after_restart(folder.path()), &settings).unwrap();
            assert_eq!(report, Report::default());
            assert_eq!(writer.small().waiting.len(), round * 30);
            for id in 0..30 {
                writer.note(now, &[note((round * 30 + id) as u64)]).unwrap();
                writer.upkeep().unwrap();
            }
            assert!(writer.catalog().segments.iter().rev().skip(1).all(|segment| segment.trailer.is_some()));
        }
    }
}
