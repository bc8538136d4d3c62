//! A medium that loses, tears, reorders and damages what was not synced, and fails on demand.
//!
//! [`SimMedium`] records what is done to it. The record, replayed over the image it started from, gives the state at
//! every operation's boundary ([`Disk`]), and from each of those every image that a power cut could leave ([`images`]).
#![allow(dead_code, reason = "each test that includes this uses a part of it")]

mod disk;
mod loss;
mod random;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use iotsocketd::journal::medium::{FileEntry, FileId, Medium, MediumError, Operation};

pub use disk::{Disk, Image, Op};
pub use loss::{Loss, images};
pub use random::Random;

/// What goes wrong with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// `NoSpace`, without any effect.
    NoSpace,
    /// An error without any effect, like EIO.
    Error,
    /// An error after a part of it happened.
    Partly,
    /// `NoSpace` after a part of it happened.
    NoSpacePartly,
}

impl Failure {
    pub const ALL: [Self; 4] = [Self::NoSpace, Self::Error, Self::Partly, Self::NoSpacePartly];
}

/// Which operation goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Its number among all operations that count, from 0.
    pub at: u64,
    /// All from there on, not that one alone.
    pub lasting: bool,
    /// How.
    pub failure: Failure,
    /// Only operations of this kind count; all of them if `None`.
    pub only: Option<Operation>,
}

#[derive(Debug, Default)]
struct State {
    disk: Disk,
    open: BTreeMap<FileId, usize>,
    next_id: u32,
    ops: Vec<Op>,
    faults: Vec<(Fault, u64)>,
    /// Faults that count from the first failure.
    waiting: Vec<(Fault, u64)>,
    /// What failed on demand, and how many operations had changed something before.
    struck: Vec<(Operation, usize)>,
    random: u64,
    capacity: Option<usize>,
    reads: u64,
    /// Files of which a write or a sync failed: whoever goes on with them believes a lie.
    doubted: BTreeSet<usize>,
    violations: Vec<String>,
}

/// The medium. Clones share one state, like processes that share a folder.
#[derive(Debug, Clone, Default)]
pub struct SimMedium(Rc<RefCell<State>>);

impl SimMedium {
    /// An empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a power cut left.
    pub fn from_image(image: &Image) -> Self {
        Self::from_disk(Disk::from_image(image))
    }

    /// What a killed process left: the cache is still there.
    pub fn from_disk(mut disk: Disk) -> Self {
        disk.restart();
        let medium = Self::default();
        medium.0.borrow_mut().disk = disk;
        medium
    }

    /// Lets an operation fail.
    pub fn inject(&self, fault: Fault) {
        let mut state = self.0.borrow_mut();
        // Another fault, another part of what is lost.
        state.random += fault.at << 32;
        state.faults.push((fault, 0));
    }

    /// Lets an operation fail that comes behind the first failure: it is counted from there.
    pub fn inject_behind(&self, fault: Fault) {
        self.0.borrow_mut().waiting.push((fault, 0));
    }

    /// The process that used it is gone, with all it had open and knew.
    pub fn restart(&self) {
        let mut state = self.0.borrow_mut();
        state.apply(Op::Restart);
        state.open.clear();
        state.doubted.clear();
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.0.borrow_mut().faults.clear();
    }

    /// What failed on demand, and how many operations had changed something before.
    pub fn struck(&self) -> Vec<(Operation, usize)> {
        self.0.borrow().struck.clone()
    }

    /// Bytes that all files together may have.
    pub fn set_capacity(&self, bytes: usize) {
        self.0.borrow_mut().capacity = Some(bytes);
    }

    /// Operations so far that changed something.
    pub fn ops_len(&self) -> usize {
        self.0.borrow().ops.len()
    }

    /// What changed something, in order.
    pub fn ops(&self) -> Vec<Op> {
        self.0.borrow().ops.clone()
    }

    /// Reads so far.
    pub fn reads(&self) -> u64 {
        self.0.borrow().reads
    }

    /// The state of now.
    pub fn disk(&self) -> Disk {
        self.0.borrow().disk.clone()
    }

    /// What the user of this medium did against the rules.
    pub fn violations(&self) -> Vec<String> {
        self.0.borrow().violations.clone()
    }
}

impl State {
    /// The failure of this operation, if it is to fail.
    fn failure(&mut self, operation: Operation) -> Option<Failure> {
        let mut found = None;
        for (fault, count) in &mut self.faults {
            if fault.only.is_some_and(|only| only != operation) {
                continue;
            }
            let number = *count;
            *count += 1;
            if number == fault.at || (fault.lasting && number > fault.at) {
                found = Some(fault.failure);
            }
        }
        if found.is_some() {
            self.struck.push((operation, self.ops.len()));
            let waiting = std::mem::take(&mut self.waiting);
            self.faults.extend(waiting);
        }
        found
    }

    /// Fails if this operation is to fail without an effect; tells whether it is to happen in part.
    fn check(&mut self, operation: Operation) -> Result<Option<MediumError>, MediumError> {
        match self.failure(operation) {
            None => Ok(None),
            Some(Failure::NoSpace) => Err(MediumError::NoSpace),
            Some(Failure::Error) => Err(failed(operation)),
            Some(Failure::Partly) => Ok(Some(failed(operation))),
            Some(Failure::NoSpacePartly) => Ok(Some(MediumError::NoSpace)),
        }
    }

    fn apply(&mut self, op: Op) {
        self.disk.apply(&op);
        self.ops.push(op);
    }

    fn file(&self, id: FileId) -> Result<usize, MediumError> {
        self.open.get(&id).copied().ok_or(MediumError::NotFound)
    }

    fn opened(&mut self, file: usize) -> FileId {
        self.next_id += 1;
        self.open.insert(FileId(self.next_id), file);
        FileId(self.next_id)
    }

    fn random(&mut self) -> Random {
        self.random += 1;
        Random::new(self.random)
    }

    fn used(&self) -> usize {
        self.disk.names.values().map(|file| self.disk.files[*file].cached.len()).sum()
    }

    fn has_room(&self, more: usize) -> bool {
        self.capacity.is_none_or(|capacity| self.used() + more <= capacity)
    }

    fn violation(&mut self, what: String) {
        self.violations.push(what);
    }
}

fn failed(operation: Operation) -> MediumError {
    MediumError::Failed { operation, code: 5, sentence: "input/output error".to_owned() }
}

impl Medium for SimMedium {
    fn list(&mut self) -> Result<Vec<FileEntry>, MediumError> {
        let mut state = self.0.borrow_mut();
        if let Some(error) = state.check(Operation::List)? {
            return Err(error);
        }
        let len = |file: &usize| state.disk.files[*file].cached.len() as u64;
        // In no order that is any use.
        let entries = state.disk.names.iter().rev();
        Ok(entries.map(|(name, file)| FileEntry { name: name.clone(), len: len(file) }).collect())
    }

    fn create(&mut self, name: &str, len: u64) -> Result<FileId, MediumError> {
        let mut state = self.0.borrow_mut();
        if state.disk.names.contains_key(name) {
            return Err(MediumError::Exists);
        }
        let partly = state.check(Operation::Create)?;
        let len = usize::try_from(len).map_err(|_| MediumError::NoSpace)?;
        if let Some(error) = partly {
            let len = state.random().below(len + 1);
            state.apply(Op::Create { name: name.to_owned(), len });
            return Err(error);
        }
        if !state.has_room(len) {
            return Err(MediumError::NoSpace);
        }
        let file = state.disk.files.len();
        state.apply(Op::Create { name: name.to_owned(), len });
        Ok(state.opened(file))
    }

    fn open(&mut self, name: &str) -> Result<FileId, MediumError> {
        let mut state = self.0.borrow_mut();
        if let Some(error) = state.check(Operation::Open)? {
            return Err(error);
        }
        let file = state.disk.names.get(name).copied().ok_or(MediumError::NotFound)?;
        Ok(state.opened(file))
    }

    fn close(&mut self, file: FileId) {
        self.0.borrow_mut().open.remove(&file);
    }

    fn write_at(&mut self, id: FileId, offset: u64, bytes: &[u8]) -> Result<(), MediumError> {
        let mut state = self.0.borrow_mut();
        let file = state.file(id)?;
        if state.doubted.contains(&file) {
            state.violation(format!("a write at {offset} to a file whose write or sync failed"));
        }
        let checked = state.check(Operation::Write);
        if !matches!(checked, Ok(None)) {
            state.doubted.insert(file);
        }
        let partly = checked?;
        let offset = usize::try_from(offset).map_err(|_| MediumError::NoSpace)?;
        let grows = (offset + bytes.len()).saturating_sub(state.disk.files[file].cached.len());
        if !state.has_room(grows) {
            return Err(MediumError::NoSpace);
        }
        let kept = if partly.is_some() { state.random().below(bytes.len() + 1) } else { bytes.len() };
        let bytes = Rc::new(bytes[..kept].to_vec());
        state.apply(Op::Write { file, offset, bytes });
        partly.map_or(Ok(()), Err)
    }

    fn read_at(&mut self, id: FileId, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        let mut state = self.0.borrow_mut();
        let file = state.file(id)?;
        state.reads += 1;
        if let Some(error) = state.check(Operation::Read)? {
            into.fill(0xee);
            return Err(error);
        }
        let bytes = &state.disk.files[file].cached;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let len = into.len().min(bytes.len() - from);
        into[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn shrink(&mut self, id: FileId, len: u64) -> Result<(), MediumError> {
        let mut state = self.0.borrow_mut();
        let file = state.file(id)?;
        let now = state.disk.files[file].cached.len();
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > now {
            state.violation(format!("shortening a file of {now} bytes to {len}"));
        }
        let checked = state.check(Operation::Shrink);
        if !matches!(checked, Ok(None)) {
            state.doubted.insert(file);
        }
        let partly = checked?;
        state.apply(Op::Shrink { file, len });
        partly.map_or(Ok(()), Err)
    }

    fn sync(&mut self, id: FileId) -> Result<(), MediumError> {
        let mut state = self.0.borrow_mut();
        let file = state.file(id)?;
        if state.doubted.contains(&file) {
            state.violation("a sync of a file whose write or sync failed".to_owned());
        }
        let failure = match state.check(Operation::Sync) {
            Ok(None) => None,
            Ok(Some(error)) | Err(error) => Some(error),
        };
        let Some(error) = failure else {
            state.apply(Op::Sync { file });
            return Ok(());
        };
        state.doubted.insert(file);
        let seed = state.random().next();
        state.apply(Op::SyncFailed { file, seed });
        Err(error)
    }

    fn sync_folder(&mut self) -> Result<(), MediumError> {
        let mut state = self.0.borrow_mut();
        let failure = match state.check(Operation::SyncFolder) {
            Ok(None) => None,
            Ok(Some(error)) | Err(error) => Some(error),
        };
        let seed = state.random().next();
        state.apply(if failure.is_some() { Op::SyncFolderFailed { seed } } else { Op::SyncFolder });
        failure.map_or(Ok(()), Err)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), MediumError> {
        let mut state = self.0.borrow_mut();
        if !state.disk.names.contains_key(from) {
            return Err(MediumError::NotFound);
        }
        let partly = state.check(Operation::Rename)?;
        state.apply(Op::Rename { from: from.to_owned(), to: to.to_owned() });
        partly.map_or(Ok(()), Err)
    }

    fn remove(&mut self, name: &str) -> Result<(), MediumError> {
        let mut state = self.0.borrow_mut();
        if !state.disk.names.contains_key(name) {
            return Err(MediumError::NotFound);
        }
        let partly = state.check(Operation::Remove)?;
        state.apply(Op::Remove { name: name.to_owned() });
        partly.map_or(Ok(()), Err)
    }

    fn free_bytes(&mut self) -> Result<u64, MediumError> {
        let mut state = self.0.borrow_mut();
        if let Some(error) = state.check(Operation::FreeBytes)? {
            return Err(error);
        }
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used()) as u64))
    }
}
