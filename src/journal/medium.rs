//! What the journal asks of the place where it keeps its bytes: one flat folder of files.
//!
//! The real one is files of the operating system (`service::disk`), tests put a simulated one in its place that loses,
//! tears and damages what was not synced. What the journal may assume of either is in [`super::segment`]; in short:
//! nothing is durable before the sync that covers it returned `Ok`, and after a failed one nothing is known.

use std::fmt;

/// A file that is open, as its medium counts them. Means nothing to another medium, nor after [`Medium::close`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name: ASCII letters, digits, `-`, `.`; no folder.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
}

/// What was asked of the medium when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// [`Medium::list`].
    List,
    /// [`Medium::create`].
    Create,
    /// [`Medium::open`].
    Open,
    /// [`Medium::write_at`].
    Write,
    /// [`Medium::shrink`].
    Shrink,
    /// [`Medium::read_at`].
    Read,
    /// [`Medium::sync`].
    Sync,
    /// [`Medium::sync_folder`].
    SyncFolder,
    /// [`Medium::rename`].
    Rename,
    /// [`Medium::remove`].
    Remove,
    /// [`Medium::free_bytes`].
    FreeBytes,
}

/// Why the medium did not do it. Callers treat the four differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediumError {
    /// No file of that name, or no open file of that id.
    NotFound,
    /// There is a file of that name already.
    Exists,
    /// The medium, or the share of it that we may use, is full. What was written so far is unknown.
    NoSpace,
    /// Anything else.
    Failed {
        /// What was asked.
        operation: Operation,
        /// The operating system's number, 0 if it gave none.
        code: i32,
        /// What it says about it, for the log.
        sentence: String,
    },
}

impl fmt::Display for MediumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("there is no such file"),
            Self::Exists => f.write_str("there is a file of that name already"),
            Self::NoSpace => {
                f.write_str("no space is left on the medium: free some, or lower the journal's size")
            }
            Self::Failed { operation, sentence, .. } => {
                write!(f, "{operation} failed: {sentence}: the medium or its mount needs repair")
            }
        }
    }
}

impl std::error::Error for MediumError {}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "listing the folder",
            Self::Create => "creating a file",
            Self::Open => "opening a file",
            Self::Write => "writing",
            Self::Shrink => "shortening a file",
            Self::Read => "reading",
            Self::Sync => "flushing a file",
            Self::SyncFolder => "flushing the folder",
            Self::Rename => "renaming a file",
            Self::Remove => "removing a file",
            Self::FreeBytes => "asking for free space",
        })
    }
}

/// One flat folder of files. Object-safe; every call may block; no call panics.
///
/// One thread at a time uses one value; a second reader of the same folder has a value of its own, and sees what was
/// written by the first (synced or not), as files of one operating system do.
pub trait Medium {
    /// Every file of the folder, in no order.
    fn list(&mut self) -> Result<Vec<FileEntry>, MediumError>;

    /// Makes a new file and opens it. It has `len` bytes that read as zeros and whose space is reserved, without
    /// writing them (fallocate). `Exists` if the name is taken; on any other error the name may or may not exist.
    /// Neither the file nor its name is durable before [`Self::sync`] and [`Self::sync_folder`].
    fn create(&mut self, name: &str, len: u64) -> Result<FileId, MediumError>;

    /// Opens a file for reading and writing. The same file may be open more than once.
    fn open(&mut self, name: &str) -> Result<FileId, MediumError>;

    /// Ends the use of an id. Flushes nothing. An id that is not open is ignored.
    fn close(&mut self, file: FileId);

    /// Writes all of `bytes`, making the file longer where they end behind its end. After an error any part of them,
    /// in any order, may have been written. Not durable before [`Self::sync`].
    fn write_at(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), MediumError>;

    /// Fills `into` from `offset`; gives how many bytes there were: fewer than asked for only at the end of the file.
    fn read_at(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, MediumError>;

    /// Cuts the file to `len` bytes, which is not more than it has, and gives back the space behind. Not durable before
    /// [`Self::sync`]; until then a power cut leaves the old length or the new one, and the bytes before `len` as they
    /// were.
    fn shrink(&mut self, file: FileId, len: u64) -> Result<(), MediumError>;

    /// Makes every write to this file durable, and its length (fdatasync). After an error nothing is known of any
    /// write since the last success, and a later `Ok` says nothing about them: callers never ask twice.
    fn sync(&mut self, file: FileId) -> Result<(), MediumError>;

    /// Makes every create, rename and remove so far durable (fsync of the folder).
    fn sync_folder(&mut self) -> Result<(), MediumError>;

    /// Gives a file another name, in one step; `to` is replaced if it exists. Open ids stay with their file.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), MediumError>;

    /// Takes a file out of the folder. Open ids stay usable until closed.
    fn remove(&mut self, name: &str) -> Result<(), MediumError>;

    /// Bytes that can still be reserved by [`Self::create`], roughly.
    fn free_bytes(&mut self) -> Result<u64, MediumError>;
}

impl<M: Medium + ?Sized> Medium for &mut M {
    fn list(&mut self) -> Result<Vec<FileEntry>, MediumError> {
        (**self).list()
    }
    fn create(&mut self, name: &str, len: u64) -> Result<FileId, MediumError> {
        (**self).create(name, len)
    }
    fn open(&mut self, name: &str) -> Result<FileId, MediumError> {
        (**self).open(name)
    }
    fn close(&mut self, file: FileId) {
        (**self).close(file);
    }
    fn write_at(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), MediumError> {
        (**self).write_at(file, offset, bytes)
    }
    fn read_at(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        (**self).read_at(file, offset, into)
    }
    fn shrink(&mut self, file: FileId, len: u64) -> Result<(), MediumError> {
        (**self).shrink(file, len)
    }
    fn sync(&mut self, file: FileId) -> Result<(), MediumError> {
        (**self).sync(file)
    }
    fn sync_folder(&mut self) -> Result<(), MediumError> {
        (**self).sync_folder()
    }
    fn rename(&mut self, from: &str, to: &str) -> Result<(), MediumError> {
        (**self).rename(from, to)
    }
    fn remove(&mut self, name: &str) -> Result<(), MediumError> {
        (**self).remove(name)
    }
    fn free_bytes(&mut self) -> Result<u64, MediumError> {
        (**self).free_bytes()
    }
}
