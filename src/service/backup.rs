//! Copies of everything: the journal, with the tokens in it, the access list, and whose state it is.
//!
//! A copy is one file (see [`crate::journal::backup`]), for its owner only. It is made of a running concentrator, which
//! hands its bytes out, or of a state folder on which nothing runs. It is restored into a folder beside the state folder,
//! which then takes its name in one step: there is all of it or nothing.

pub mod file;
pub mod nightly;
mod record;
mod restore;

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use restore::{Good, check, restore, verify};

use super::archive::with_cause;
use super::config::Config;
use super::disk::Disk;
use super::journal::{FOLDER, Journal, Stopped};
use super::state::{self, ENVIRONMENT};
use crate::endpoint::maintenance::{Copies, CopyStream};
use crate::hub::access_keeper::AccessKeeper;
use crate::journal::backup::{BackupError, Copy, Other};
use crate::journal::catalog::Catalog;

/// What the access list is called in a copy.
const ACCESS: &str = "acl.json";
/// How often a copy is begun that the journal's deleting came before.
const ATTEMPTS: usize = 5;

/// Makes copies of a running concentrator.
#[derive(Debug)]
pub struct RunningCopies {
    /// Its state folder.
    pub state_dir: PathBuf,
    /// Its journal.
    pub journal: Arc<Journal>,
    /// Its access list.
    pub access: Arc<AccessKeeper>,
}

impl Copies for RunningCopies {
    fn begin(&self) -> Result<CopyStream, String> {
        let others = others(&self.state_dir, &self.access.path())?;
        begin(&self.state_dir.join(FOLDER), || self.journal.catalog(), &others)
    }
}

/// Begins a copy of a state folder on which nothing runs.
pub fn of_stopped(config: &Config) -> Result<CopyStream, String> {
    // What is opened now stays readable, whatever is started then.
    let _nothing_starts = state::look_into(&config.state_dir)?;
    let stopped = Stopped::look(&config.state_dir)?;
    let others = others(&config.state_dir, &config.access.file)?;
    begin(stopped.folder(), || stopped.catalog().clone(), &others)
}

fn begin(folder: &Path, catalog: impl Fn() -> Catalog, others: &[Other]) -> Result<CopyStream, String> {
    let mut attempts = 1;
    loop {
        match Copy::begin(Disk::new(folder), &catalog(), others) {
            Ok(copy) => {
                let bytes = Box::new(Pieces { copy, piece: io::Cursor::default() });
                return Ok(CopyStream { len: bytes.copy.rest_len(), bytes });
            }
            Err(BackupError::Changed) if attempts < ATTEMPTS => attempts += 1,
            Err(error) => return Err(format!("backup: {}", with_cause(&error))),
        }
    }
}

/// The files beside the journal. The list is replaced in one step, so it is whole.
fn others(state_dir: &Path, access: &Path) -> Result<Vec<Other>, String> {
    let mut others = Vec::new();
    for (name, path) in [(ENVIRONMENT, state_dir.join(ENVIRONMENT)), (ACCESS, access.to_owned())] {
        match fs::read(&path) {
            Ok(bytes) => others.push(Other { name: name.to_owned(), bytes }),
            // No list is an empty one.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(format!("backup: {} cannot be read: {error}", path.display())),
        }
    }
    Ok(others)
}

/// The bytes of a copy.
struct Pieces {
    copy: Copy<Disk>,
    piece: io::Cursor<Vec<u8>>,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.piece.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            match self.copy.next_piece() {
                Ok(Some(piece)) => self.piece = io::Cursor::new(piece),
                Ok(None) => return Ok(0),
                Err(error) => return Err(io::Error::other(with_cause(&error))),
            }
        }
    }
}
