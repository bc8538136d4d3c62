//! What is on a simulated disk, what is only in the cache above it, and how each operation moves things between the two.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::random::Random;

/// What a disk writes or loses as a whole.
pub const SECTOR: usize = 512;

/// Files by name, as they are found after a power cut: all of it durable.
pub type Image = BTreeMap<String, Rc<Vec<u8>>>;

/// What was done to a disk. Replayed over the same image it leads to the same state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A new file of `len` reserved bytes; gets the next number.
    Create {
        name: String,
        len: usize,
    },
    /// Bytes into the cache of the file of that number.
    Write {
        file: usize,
        offset: usize,
        bytes: Rc<Vec<u8>>,
    },
    /// The file loses what is behind `len`.
    Shrink {
        file: usize,
        len: usize,
    },
    /// A sync that worked.
    Sync {
        file: usize,
    },
    /// A sync that failed: of what was unsynced, a part is on the disk (chosen by the seed), the rest never will be,
    /// though the cache shows it.
    SyncFailed {
        file: usize,
        seed: u64,
    },
    /// A sync of the folder that worked.
    SyncFolder,
    /// One that failed: of the changes some are on the disk (chosen by the seed), the rest never will be, though the
    /// folder shows them.
    SyncFolderFailed {
        seed: u64,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    /// The process ended and another began.
    Restart,
}

/// A change of a file's bytes that no sync covers.
#[derive(Debug, Clone)]
pub enum Change {
    /// The file got longer, with zeros.
    Grow(usize),
    /// The file got shorter.
    Shrink(usize),
    Write {
        offset: usize,
        bytes: Rc<Vec<u8>>,
    },
}

/// A change of the folder that no sync covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Made { name: String, file: usize },
    Renamed { from: String, to: String, file: usize },
    Removed { name: String, file: usize },
}

/// One file, under whatever name.
#[derive(Debug, Clone, Default)]
pub struct File {
    /// What a power cut leaves at least.
    pub synced: Rc<Vec<u8>>,
    /// What a read sees.
    pub cached: Rc<Vec<u8>>,
    /// What leads from one to the other, unless a sync failed.
    pub unsynced: Vec<Change>,
    /// A sync failed: the cache shows what the disk will never hold.
    pub lost: bool,
}

/// A disk with its cache.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub files: Vec<File>,
    /// The folder as it is seen.
    pub names: BTreeMap<String, usize>,
    /// The folder as a power cut leaves it at least.
    pub synced_names: BTreeMap<String, usize>,
    pub unsynced_names: Vec<Entry>,
    /// A sync of the folder failed: `names` shows what the disk will never hold.
    folder_lost: bool,
    /// The file of the last operation, if that was a write that is still unsynced.
    pub last_write: Option<usize>,
}

impl Disk {
    /// A disk that holds this and has nothing unsynced.
    pub fn from_image(image: &Image) -> Self {
        let mut disk = Self::default();
        for (name, bytes) in image {
            disk.names.insert(name.clone(), disk.files.len());
            disk.files.push(File { synced: bytes.clone(), cached: bytes.clone(), ..File::default() });
        }
        disk.synced_names = disk.names.clone();
        disk
    }

    /// Does one operation. What cannot be (a rename of nothing) is the caller's to refuse before.
    pub fn apply(&mut self, op: &Op) {
        self.last_write = None;
        match op {
            Op::Create { name, len } => {
                let file = self.files.len();
                self.files.push(File::default());
                self.files[file].change(Change::Grow(*len));
                self.enter(Entry::Made { name: name.clone(), file });
            }
            Op::Write { file, offset, bytes } => {
                self.files[*file].change(Change::Write { offset: *offset, bytes: bytes.clone() });
                self.last_write = Some(*file);
            }
            Op::Shrink { file, len } => self.files[*file].change(Change::Shrink(*len)),
            Op::Sync { file } => self.files[*file].synced_now(),
            Op::SyncFailed { file, seed } => self.files[*file].lose(*seed),
            Op::SyncFolder => {
                for entry in std::mem::take(&mut self.unsynced_names) {
                    entry.apply(&mut self.synced_names);
                }
            }
            Op::SyncFolderFailed { seed } => {
                let mut random = Random::new(*seed);
                for entry in std::mem::take(&mut self.unsynced_names) {
                    if random.one_in(2) {
                        entry.apply(&mut self.synced_names);
                    }
                }
                self.folder_lost = true;
            }
            Op::Rename { from, to } => {
                if let Some(file) = self.names.get(from).copied() {
                    self.enter(Entry::Renamed { from: from.clone(), to: to.clone(), file });
                }
            }
            Op::Restart => self.restart(),
            Op::Remove { name } => {
                if let Some(file) = self.names.get(name).copied() {
                    self.enter(Entry::Removed { name: name.clone(), file });
                }
            }
        }
    }

    fn enter(&mut self, entry: Entry) {
        entry.apply(&mut self.names);
        self.unsynced_names.push(entry);
    }

    /// What a process that starts now sees. What a failed sync lost is gone from the cache, too: the medium drops
    /// from the cache what is clean when it opens a file, or a reader would believe what the disk does not have.
    pub fn restart(&mut self) {
        self.last_write = None;
        if self.folder_lost {
            self.names = self.present_names();
            self.folder_lost = false;
        }
        for file in self.files.iter_mut().filter(|file| file.lost) {
            let mut bytes = file.synced.to_vec();
            file.unsynced.iter().for_each(|change| change.apply(&mut bytes));
            file.cached = Rc::new(bytes);
            file.lost = false;
        }
    }

    /// The folder as the disk would hold it, had all changes been written.
    pub fn present_names(&self) -> BTreeMap<String, usize> {
        let mut names = self.synced_names.clone();
        self.unsynced_names.iter().for_each(|entry| entry.apply(&mut names));
        names
    }

    /// Whether a power cut now could lose anything.
    pub fn has_unsynced(&self) -> bool {
        !self.unsynced_names.is_empty() || self.files.iter().any(|file| !file.unsynced.is_empty())
    }
}

impl Entry {
    /// Makes the change in a folder. What it takes out is the file that it was meant for, whatever else went by that
    /// name because a change before this one was lost.
    pub fn apply(&self, names: &mut BTreeMap<String, usize>) {
        let mut take_out = |name: &str, file: usize| {
            if names.get(name) == Some(&file) {
                names.remove(name);
            }
        };
        match self {
            Self::Made { name, file } => {
                names.insert(name.clone(), *file);
            }
            Self::Renamed { from, to, file } => {
                take_out(from, *file);
                names.insert(to.clone(), *file);
            }
            Self::Removed { name, file } => take_out(name, *file),
        }
    }
}

impl File {
    fn change(&mut self, change: Change) {
        change.apply(Rc::make_mut(&mut self.cached));
        self.unsynced.push(change);
    }

    fn synced_now(&mut self) {
        // Not `cached`: that may show what a failed sync lost.
        if self.lost {
            let synced = Rc::make_mut(&mut self.synced);
            self.unsynced.iter().for_each(|change| change.apply(synced));
        } else {
            self.synced = self.cached.clone();
        }
        self.unsynced.clear();
    }

    fn lose(&mut self, seed: u64) {
        self.synced = Rc::new(self.some_sectors(&mut Random::new(seed), &[]));
        self.unsynced.clear();
        self.lost = true;
    }

    /// The length with the first `changes` of what is unsynced.
    pub fn len_after(&self, changes: usize) -> usize {
        self.unsynced[..changes].iter().fold(self.synced.len(), |len, change| match change {
            Change::Shrink(to) => len.min(*to),
            change => len.max(change.end()),
        })
    }

    /// The file when every sector was written as of a moment of its own between the last sync and now, and its length
    /// as of another. Where it grew, sectors that were never written show `stale` bytes: blocks that belonged to
    /// another file before.
    pub fn some_sectors(&self, random: &mut Random, stale: &[u8]) -> Vec<u8> {
        let old_len = self.synced.len();
        let len = self.len_after(random.below(self.unsynced.len() + 1));
        let mut bytes = self.synced.to_vec();
        bytes.resize(len, 0);
        let stale_end = len.min(stale.len());
        if old_len < stale_end {
            bytes[old_len..stale_end].copy_from_slice(&stale[old_len..stale_end]);
        }
        for start in (0..len).step_by(SECTOR) {
            let sector = start..(start + SECTOR).min(len);
            // Up to its first change a sector cannot differ, so the choice is among the changes that touch it.
            let touching: Vec<&Change> =
                self.unsynced.iter().filter(|change| change.touches(&sector)).collect();
            let kept = random.below(touching.len() + 1);
            for change in &touching[..kept] {
                change.apply_within(&mut bytes, sector.clone());
            }
        }
        bytes
    }
}

impl Change {
    /// The changed file's least length, or its length if it was shortened.
    pub fn end(&self) -> usize {
        match self {
            Self::Grow(len) | Self::Shrink(len) => *len,
            Self::Write { offset, bytes } => offset + bytes.len(),
        }
    }

    pub fn apply(&self, to: &mut Vec<u8>) {
        if let Self::Shrink(len) = self {
            return to.truncate(*len);
        }
        if to.len() < self.end() {
            to.resize(self.end(), 0);
        }
        if let Self::Write { offset, bytes } = self {
            to[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }

    fn touches(&self, sector: &std::ops::Range<usize>) -> bool {
        match self {
            Self::Grow(_) | Self::Shrink(_) => false,
            Self::Write { offset, bytes } => *offset < sector.end && sector.start < offset + bytes.len(),
        }
    }

    fn apply_within(&self, to: &mut [u8], sector: std::ops::Range<usize>) {
        if let Self::Write { offset, bytes } = self {
            let (from, until) =
                (sector.start.max(*offset), sector.end.min(offset + bytes.len()).min(to.len()));
            to[from..until].copy_from_slice(&bytes[from - offset..until - offset]);
        }
    }
}
