//! Makes the archive, a slice at a time.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::manifest::{FORMAT, Manifest, day_of, hex, stem};
use super::part::{Checking, Pages, Writing};
use super::{ArchiveError, Archived, Policy, next};
use crate::journal::catalog::{Catalog, SegmentInfo};
use crate::journal::medium::{FileEntry, Medium, MediumError};
use crate::journal::reader::Reader;
use crate::journal::retention::Limits;
use crate::journal::stamp::JournalId;
use crate::journal::stored::Stored;
use crate::wire::GroupName;

/// What a file is called while it is written.
const PART: &str = "archive.part";
/// What a manifest is called while the file that it names is not read back.
const MANIFEST_PART: &str = "manifest.part";
/// The ends of names.
const DATA: &str = ".ndjson.gz";
const MANIFEST: &str = ".json";
/// Bytes of a manifest at most: one of a day with a million segments is smaller.
const MANIFEST_MAX: u64 = 64 << 20;

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing: nothing is to be archived now.
    Idle,
    /// A slice; there is more.
    Working,
    /// A file is there and was read back.
    Done {
        /// Its name.
        file: String,
        /// How many messages it holds.
        messages: u64,
    },
}

/// Makes the archive of one journal in one folder.
pub struct Archiver<T> {
    medium: T,
    journal: String,
    archived: Archived,
    work: Option<Work>,
}

enum Work {
    Writing(Pages, Box<Writing>),
    Checking(Pages, Box<Checking>),
}

impl<T> fmt::Debug for Archiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Archiver({})", self.journal)
    }
}

impl<T: Medium> Archiver<T> {
    /// Looks at what is in the folder. The medium should not give what the system holds in memory, since what is read
    /// back is to come from where it was written to.
    pub fn open(mut medium: T, journal: JournalId) -> Result<Self, ArchiveError> {
        let journal = hex(&journal.0);
        clean_up(&mut medium)?;
        let entries = medium.list()?;
        let mut archived = Archived::default();
        for entry in entries.iter().filter(|entry| entry.name.ends_with(MANIFEST)) {
            // What is no manifest is not ours. One that is damaged does not count, and another file is made.
            let Some(manifest) = read_manifest(&mut medium, entry)? else { continue };
            let Some(day) = day_of(&manifest.day) else { continue };
            let Ok(group) = GroupName::parse(&manifest.group) else { continue };
            let is_there = |entry: &FileEntry| entry.name == manifest.file && entry.len == manifest.bytes;
            if manifest.journal == journal && entries.iter().any(is_there) {
                for share in &manifest.segments {
                    archived.add(share.segment, group, day, share.messages);
                }
            }
        }
        Ok(Self { medium, journal, archived, work: None })
    }

    /// Of which segments which groups may not go for their age yet: what is to be archived of them is not. For
    /// [`Limits::held`].
    pub fn held(&self, catalog: &Catalog, policy: &Policy) -> BTreeSet<(u64, GroupName)> {
        let segments = catalog.segments.iter();
        let missing = |segment: &Arc<SegmentInfo>| {
            let number = segment.number();
            self.archived.missing(segment, policy).map(move |group| (number, group)).collect::<Vec<_>>()
        };
        segments.flat_map(missing).collect()
    }

    /// Does a slice of what is to be done: some hundred messages, or a flush or two. After an error the file in the
    /// making is given up, and the next step begins it again. `now_us` is the wall clock in microseconds, if it is right;
    /// `render` makes the line of a message, without its end, the same one each time.
    pub fn step<S: Medium>(
        &mut self,
        reader: &mut Reader<S>,
        catalog: &Catalog,
        limits: &Limits,
        policy: &Policy,
        now_us: Option<i64>,
        render: &dyn Fn(Stored, &Catalog) -> String,
    ) -> Result<Step, ArchiveError> {
        let Some(work) = self.work.take() else {
            self.archived.forget_all_but(catalog);
            let wanted = now_us.and_then(|now_us| next(catalog, limits, policy, &self.archived, now_us));
            let Some(wanted) = wanted else { return Ok(Step::Idle) };
            clean_up(&mut self.medium)?;
            let file = self.medium.create(PART, 0)?;
            let writing = Writing::new(file, &wanted);
            self.work = Some(Work::Writing(Pages::new(wanted, catalog.clone()), Box::new(writing)));
            return Ok(Step::Working);
        };
        match work {
            Work::Writing(mut pages, mut writing) => {
                match writing.step(&mut pages, reader, &mut self.medium, render) {
                    Ok(true) => self.work = Some(Work::Writing(pages, writing)),
                    Ok(false) => return self.written(&pages, *writing),
                    Err(error) => {
                        self.medium.close(writing.file);
                        return Err(error);
                    }
                }
                Ok(Step::Working)
            }
            Work::Checking(mut pages, mut checking) => {
                let checked = checking.step(&mut pages, reader, &mut self.medium, render);
                if checked == Ok(true) {
                    self.work = Some(Work::Checking(pages, checking));
                    return Ok(Step::Working);
                }
                self.medium.close(checking.file);
                checked?;
                self.checked(&pages, checking.manifest)
            }
        }
    }

    /// All is written: makes it and its manifest durable, gives it its name, and begins to read it back.
    fn written(&mut self, pages: &Pages, writing: Writing) -> Result<Step, ArchiveError> {
        let wanted = pages.wanted();
        if writing.is_empty() {
            // No message of that day and group is in these segments: known until the next start.
            self.medium.close(writing.file);
            for source in &wanted.segments {
                self.archived.add(source.segment, wanted.group, wanted.day, 0);
            }
            return Ok(Step::Working);
        }
        let file = writing.file;
        let finished = writing.finish(wanted, self.journal.clone(), &mut self.medium);
        let synced = finished.and_then(|manifest| Ok(self.medium.sync(file).map(|()| manifest)?));
        self.medium.close(file);
        let mut manifest = synced?;
        let entries = self.medium.list()?;
        let taken = |name: &str| entries.iter().any(|entry| entry.name == name);
        let stem_of = |part| stem(wanted.day, wanted.group, part);
        while taken(&(stem_of(manifest.part) + DATA)) || taken(&(stem_of(manifest.part) + MANIFEST)) {
            manifest.part += 1;
        }
        manifest.file = stem_of(manifest.part) + DATA;
        // Plain numbers and texts: that cannot fail.
        let text = serde_json::to_string_pretty(&manifest).unwrap_or_default() + "\n";
        let file = self.medium.create(MANIFEST_PART, 0)?;
        let written = self.medium.write_at(file, 0, text.as_bytes()).and_then(|()| self.medium.sync(file));
        self.medium.close(file);
        written?;
        // Durable before the name is, so that what was not read back is known to be ours to take away.
        self.medium.sync_folder()?;
        self.medium.rename(PART, &manifest.file)?;
        self.medium.sync_folder()?;
        let file = self.medium.open(&manifest.file)?;
        let checking = Box::new(Checking::new(file, manifest));
        self.work = Some(Work::Checking(pages.again(), checking));
        Ok(Step::Working)
    }

    /// It is what it should be: from now on it counts.
    fn checked(&mut self, pages: &Pages, manifest: Manifest) -> Result<Step, ArchiveError> {
        let wanted = pages.wanted();
        self.medium.rename(MANIFEST_PART, &(stem(wanted.day, wanted.group, manifest.part) + MANIFEST))?;
        self.medium.sync_folder()?;
        for share in &manifest.segments {
            self.archived.add(share.segment, wanted.group, wanted.day, share.messages);
        }
        Ok(Step::Done { file: manifest.file, messages: manifest.messages })
    }
}

/// Takes away what was not finished.
fn clean_up<T: Medium>(medium: &mut T) -> Result<(), MediumError> {
    let entries = medium.list()?;
    let is_there = |name: &str| entries.iter().any(|entry| entry.name == name);
    if let Some(entry) = entries.iter().find(|entry| entry.name == MANIFEST_PART)
        && let Some(manifest) = read_manifest(medium, entry)?
        && let Some(stem) = manifest.file.strip_suffix(DATA)
        && !is_there(&format!("{stem}{MANIFEST}"))
        && is_there(&manifest.file)
    {
        medium.remove(&manifest.file)?;
        // Not known as ours any more once the manifest is gone.
        medium.sync_folder()?;
    }
    for name in [PART, MANIFEST_PART] {
        if is_there(name) {
            medium.remove(name)?;
        }
    }
    Ok(())
}

fn read_manifest<T: Medium>(medium: &mut T, entry: &FileEntry) -> Result<Option<Manifest>, MediumError> {
    if entry.len > MANIFEST_MAX {
        return Ok(None);
    }
    let file = medium.open(&entry.name)?;
    let mut bytes = vec![0; usize::try_from(entry.len).unwrap_or(0)];
    let read = medium.read_at(file, 0, &mut bytes);
    medium.close(file);
    bytes.truncate(read?);
    let manifest: Option<Manifest> = serde_json::from_slice(&bytes).ok();
    Ok(manifest.filter(|manifest| manifest.format == FORMAT))
}
