//! What a power cut can leave of a disk.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::disk::{Change, Disk, Entry, File, Image, SECTOR};
use super::random::Random;

/// The ways to lose, in the order of the table in the reliability plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// Nothing of what was unsynced is there.
    Everything,
    /// All of it is there.
    Nothing,
    /// Each unsynced sector is as it was at a moment of its own.
    SomeSectors,
    /// The last write is there up to a byte, all before it is.
    TornWrite,
    /// Some unsynced files are there, others not.
    Reordered,
    /// Lengths and names are there, the data is not: zeros, or what other files left there.
    MetadataOnly,
    /// Data is there, lengths and names are not.
    DataOnly,
    /// The name of a new file is not there, the rest is.
    EntryLost,
    /// A rename or a removal did not happen, the rest did.
    ChangeLost,
}

impl Loss {
    pub const ALL: [Self; 9] = [
        Self::Everything,
        Self::Nothing,
        Self::SomeSectors,
        Self::TornWrite,
        Self::Reordered,
        Self::MetadataOnly,
        Self::DataOnly,
        Self::EntryLost,
        Self::ChangeLost,
    ];
}

/// What is there of the folder.
enum Names {
    Synced,
    Current,
    /// All changes but that one.
    Without(usize),
    /// Each by chance.
    Some,
}

/// Every image that a power cut now may leave, each once, with the way of losing that led to it.
pub fn images(disk: &Disk, random: &mut Random) -> Vec<(Loss, Image)> {
    let mut made = Made { disk, stale: stale(disk), seen: HashSet::new(), images: Vec::new() };
    for loss in Loss::ALL {
        made.images_of(loss, random);
    }
    made.images
}

struct Made<'a> {
    disk: &'a Disk,
    /// Bytes that blocks of removed files hold.
    stale: Rc<Vec<u8>>,
    seen: HashSet<u64>,
    images: Vec<(Loss, Image)>,
}

impl Made<'_> {
    fn images_of(&mut self, loss: Loss, random: &mut Random) {
        let stale = self.stale.clone();
        match loss {
            Loss::Everything => self.add(loss, &Names::Synced, random, |file, _| file.synced.clone()),
            Loss::Nothing => self.add(loss, &Names::Current, random, present),
            Loss::SomeSectors => {
                for _ in 0..3 {
                    self.add(loss, &Names::Some, random, |file, random| {
                        if file.unsynced.is_empty() {
                            return file.synced.clone();
                        }
                        let stale: &[u8] = if random.one_in(2) { &stale } else { &[] };
                        Rc::new(file.some_sectors(random, stale))
                    });
                }
            }
            Loss::TornWrite => self.torn(random),
            Loss::Reordered => {
                for _ in 0..3 {
                    self.add(loss, &Names::Some, random, |file, random| {
                        if random.one_in(2) { present(file, random) } else { file.synced.clone() }
                    });
                }
            }
            Loss::MetadataOnly => {
                for stale in [&[], stale.as_slice()] {
                    self.add(loss, &Names::Current, random, |file, _| grown(file, stale));
                }
            }
            Loss::DataOnly => self.add(loss, &Names::Synced, random, |file, _| {
                let writes = file.unsynced.iter().filter(|change| matches!(change, Change::Write { .. }));
                let mut bytes = file.synced.to_vec();
                writes.for_each(|change| change.apply(&mut bytes));
                bytes.truncate(file.synced.len());
                Rc::new(bytes)
            }),
            Loss::EntryLost | Loss::ChangeLost => {
                for (at, entry) in self.disk.unsynced_names.iter().enumerate() {
                    if matches!(entry, Entry::Made { .. }) == (loss == Loss::EntryLost) {
                        self.add(loss, &Names::Without(at), random, present);
                    }
                }
            }
        }
    }

    /// The last write up to each sector's end within it, and up to a byte.
    fn torn(&mut self, random: &mut Random) {
        let Some(last) = self.disk.last_write else { return };
        let file = &self.disk.files[last];
        let Some((Change::Write { offset, bytes }, before)) = file.unsynced.split_last() else { return };
        let mut start = file.synced.to_vec();
        before.iter().for_each(|change| change.apply(&mut start));
        let first = SECTOR - offset % SECTOR;
        let mut cuts: Vec<usize> = (first..bytes.len()).step_by(SECTOR).collect();
        cuts.push(random.below(bytes.len()));
        for cut in cuts {
            let mut torn = start.clone();
            Change::Write { offset: *offset, bytes: Rc::new(bytes[..cut].to_vec()) }.apply(&mut torn);
            let torn = Rc::new(torn);
            let of = |each: &File, random: &mut Random| {
                if std::ptr::eq(each, file) { torn.clone() } else { present(each, random) }
            };
            self.add(Loss::TornWrite, &Names::Current, random, of);
        }
    }

    fn add(
        &mut self,
        loss: Loss,
        names: &Names,
        random: &mut Random,
        content: impl Fn(&File, &mut Random) -> Rc<Vec<u8>>,
    ) {
        let names = self.names(names, random);
        let mut image = Image::new();
        for (name, file) in names {
            image.insert(name, content(&self.disk.files[file], random));
        }
        let mut hasher = DefaultHasher::new();
        for (name, bytes) in &image {
            (name, bytes.as_slice()).hash(&mut hasher);
        }
        if self.seen.insert(hasher.finish()) {
            self.images.push((loss, image));
        }
    }

    fn names(&self, names: &Names, random: &mut Random) -> BTreeMap<String, usize> {
        if matches!(names, Names::Current) {
            return self.disk.present_names();
        }
        let mut found = self.disk.synced_names.clone();
        for (at, entry) in self.disk.unsynced_names.iter().enumerate() {
            let kept = match names {
                Names::Synced => false,
                Names::Current => true,
                Names::Without(lost) => at != *lost,
                Names::Some => random.one_in(2),
            };
            if kept {
                entry.apply(&mut found);
            }
        }
        found
    }
}

/// The file as the disk would hold it, had everything unsynced been written.
fn present(file: &File, _: &mut Random) -> Rc<Vec<u8>> {
    if !file.lost {
        return file.cached.clone();
    }
    let mut bytes = file.synced.to_vec();
    file.unsynced.iter().for_each(|change| change.apply(&mut bytes));
    Rc::new(bytes)
}

/// The file with its new length, and none of its new data.
fn grown(file: &File, stale: &[u8]) -> Rc<Vec<u8>> {
    let (old, new) = (file.synced.len(), file.len_after(file.unsynced.len()));
    if old == new {
        return file.synced.clone();
    }
    let mut bytes = file.synced.to_vec();
    bytes.resize(new, 0);
    let end = new.min(stale.len());
    if old < end {
        bytes[old..end].copy_from_slice(&stale[old..end]);
    }
    Rc::new(bytes)
}

/// The content of the last file that went out of the folder, else of any other: what its blocks show to a file that
/// gets them without having written them.
fn stale(disk: &Disk) -> Rc<Vec<u8>> {
    let gone = (0..disk.files.len()).rev().find(|at| !disk.names.values().any(|used| used == at));
    let any = disk.names.values().next().copied();
    gone.or(any).map_or_else(Rc::default, |at| disk.files[at].synced.clone())
}
