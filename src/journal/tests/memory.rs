//! A medium in memory: what was synced, what was not, and what is to fail.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::journal::medium::{FileEntry, FileId, Medium, MediumError, Operation};

/// One folder; clones share it, as processes share a folder.
#[derive(Debug, Clone, Default)]
pub struct Memory(Rc<RefCell<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// What is read now.
    names: BTreeMap<String, u32>,
    files: BTreeMap<u32, File>,
    /// What is left after a power cut.
    durable_names: BTreeMap<String, u32>,
    open: BTreeMap<u32, u32>,
    next: u32,
    fail: Vec<(Operation, usize)>,
    full: bool,
    pub log: Vec<Operation>,
    failed_syncs: Vec<u32>,
}

#[derive(Debug, Clone, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
}

impl Memory {
    /// The `nth` next operation of this kind fails; 0 is the next one.
    pub fn fail(&self, operation: Operation, nth: usize) {
        self.0.borrow_mut().fail.push((operation, nth));
    }

    /// Nothing more is made to fail.
    pub fn heal(&self) {
        self.0.borrow_mut().fail.clear();
    }

    /// Whether nothing new can be made.
    pub fn set_full(&self, full: bool) {
        self.0.borrow_mut().full = full;
    }

    /// How often that was asked for.
    pub fn count(&self, operation: Operation) -> usize {
        self.0.borrow().log.iter().filter(|done| **done == operation).count()
    }

    /// The power fails, and what was not synced is gone.
    pub fn cut(&self) {
        let mut inner = self.0.borrow_mut();
        inner.names = inner.durable_names.clone();
        inner.open.clear();
        for file in inner.files.values_mut() {
            file.now = file.durable.clone();
        }
    }

    /// A folder of its own with the same content, all of it durable.
    pub fn copy(&self) -> Self {
        let inner = self.0.borrow();
        let files: BTreeMap<_, _> = inner
            .files
            .iter()
            .map(|(id, file)| (*id, File { now: file.now.clone(), durable: file.now.clone() }))
            .collect();
        let (names, next) = (inner.names.clone(), inner.next);
        Self(Rc::new(RefCell::new(Inner {
            durable_names: names.clone(),
            names,
            files,
            next,
            ..Inner::default()
        })))
    }

    pub fn names(&self) -> Vec<String> {
        self.0.borrow().names.keys().cloned().collect()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let inner = self.0.borrow();
        inner.files[&inner.names[name]].now.clone()
    }

    /// Changes a file behind the journal's back.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.0.borrow_mut();
        let id = inner.names[name];
        let file = inner.files.get_mut(&id).unwrap();
        change(&mut file.now);
        file.durable = file.now.clone();
    }
}

impl Inner {
    fn begin(&mut self, operation: Operation) -> Result<(), MediumError> {
        self.log.push(operation);
        let mut failed = false;
        self.fail.retain_mut(|(kind, left)| {
            if *kind != operation {
                return true;
            }
            let hit = *left == 0;
            failed |= hit;
            *left = left.saturating_sub(1);
            !hit
        });
        if failed {
            return Err(MediumError::Failed { operation, code: 5, sentence: "made to fail".into() });
        }
        Ok(())
    }

    fn file(&mut self, file: FileId) -> Result<&mut File, MediumError> {
        let id = self.open.get(&file.0).ok_or(MediumError::NotFound)?;
        self.files.get_mut(id).ok_or(MediumError::NotFound)
    }

    fn open(&mut self, id: u32) -> FileId {
        self.next += 1;
        self.open.insert(self.next, id);
        FileId(self.next)
    }
}

impl Medium for Memory {
    fn list(&mut self) -> Result<Vec<FileEntry>, MediumError> {
        let mut inner = self.0.borrow_mut();
        inner.begin(Operation::List)?;
        let entry = |(name, id): (&String, &u32)| FileEntry {
            name: name.clone(),
            len: inner.files[id].now.len() as u64,
        };
        Ok(inner.names.iter().map(entry).collect())
    }

    fn create(&mut self, name: &str, len: u64) -> Result<FileId, MediumError> {
        let mut inner = self.0.borrow_mut();
        inner.begin(Operation::Create)?;
        if inner.names.contains_key(name) {
            return Err(MediumError::Exists);
        }
        if inner.full {
            return Err(MediumError::NoSpace);
        }
        inner.next += 1;
        let id = inner.next;
        inner.files.insert(id, File { now: vec![0; len as usize], durable: Vec::new() });
        inner.names.insert(name.to_owned(), id);
        Ok(inner.open(id))
    }

    fn open(&mut self, name: &str) -> Result<FileId, MediumError> {
        let mut inner = self.0.borrow_mut();
        inner.begin(Operation::Open)?;
        let id = *inner.names.get(name).ok_or(MediumError::NotFound)?;
        Ok(inner.open(id))
    }

    fn close(&mut self, file: FileId) {
        self.0.borrow_mut().open.remove(&file.0);
    }

    fn write_at(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), MediumError> {
        let mut inner = self.0.borrow_mut();
        inner.begin(Operation::Write)?;
        let file = inner.file(file)?;
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        if file.now.len() < end {
            file.now.resize(end, 0);
        }
        file.now[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        let mut inner = self.0.borrow_mut();
        inner.begin(Operation::Read)?;
        let file = inner.file(file)?;
        let rest = file.now.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn shrink(&mut self, file: FileId, len: u64) -> Result<(), MediumError> {
        let mut inner = self.0.borrow_mut();
        inner.begin(Operation::Shrink)?;
        inner.file(file)?.now.truncate(len as usize);
        Ok(())
    }

    fn sync(&mut self, file: FileId) -> Result<(), MediumError> {
        let mut inner = self.0.borrow_mut();
        let id = inner.open.get(&file.0).copied().ok_or(MediumError::NotFound)?;
        assert!(!inner.failed_syncs.contains(&id), "a file whose sync failed was synced again");
        if let Err(error) = inner.begin(Operation::Sync) {
            inner.failed_syncs.push(id);
            return Err(error);
        }
        let file = inner.file(file)?;
        file.durable = file.now.clone();
        Ok(())
    }

    fn sync_folder(&mut self) -> Result<(), MediumError> {
        let mut inner = self.0.borrow_mut();
        inner.begin(Operation::SyncFolder)?;
        inner.durable_names = inner.names.clone();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), MediumError> {
        let mut inner = self.0.borrow_mut();
        inner.begin(Operation::Rename)?;
        let id = inner.names.remove(from).ok_or(MediumError::NotFound)?;
        inner.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), MediumError> {
        let mut inner = self.0.borrow_mut();
        inner.begin(Operation::Remove)?;
        inner.names.remove(name).map(|_| ()).ok_or(MediumError::NotFound)
    }

    fn free_bytes(&mut self) -> Result<u64, MediumError> {
        let mut inner = self.0.borrow_mut();
        inner.begin(Operation::FreeBytes)?;
        Ok(if inner.full { 0 } else { 1 << 40 })
    }
}
