//! The journal of a state folder on which nothing runs: looking at it, and what a restored one needs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::clock::WallClock;
use super::seen::{Newest, Seen};
use super::worker::Worker;
use super::{FOLDER, Records, settings};
use crate::journal::catalog::Catalog;
use crate::journal::look::{Look, look};
use crate::journal::writer::{Settings, Writer};
use crate::service::archive::with_cause;
use crate::service::config::Config;
use crate::service::disk::Disk;

/// A journal that nobody writes to.
#[derive(Debug)]
pub struct Stopped {
    folder: PathBuf,
    look: Look,
}

impl Stopped {
    /// Looks at the journal in this state folder. The sentence says why it cannot be read, or that there is none.
    pub fn look(state_dir: &Path) -> Result<Self, String> {
        let folder = state_dir.join(FOLDER);
        let looked = look(&mut Disk::new(&folder));
        let looked =
            looked.map_err(|error| format!("journal {}: {}", folder.display(), with_cause(&error)))?;
        let look = looked.ok_or_else(|| format!("journal {}: there is none", folder.display()))?;
        Ok(Self { folder, look })
    }

    /// Where what lies.
    pub fn catalog(&self) -> &Catalog {
        &self.look.catalog
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was recorded.
    pub fn records(self) -> Result<Records, String> {
        let seen = Seen::as_of(&self.look.small, self.look.catalog);
        let newest = Arc::new(Newest::new(seen));
        let worker = Worker::start("journal-history", &self.folder, &newest)?;
        Ok(Records::new(newest, Arc::new(worker), Weak::new()))
    }
}

/// Opens a journal that was just restored into this folder, leaves numbers out that may have been given away since the
/// copy was made, and seals its segments, so that the first start is a quick one.
pub fn jump(folder: &Path, config: &Config) -> Result<(), String> {
    let failed = |error: String| format!("journal {}: {error}", folder.display());
    let now = WallClock::new(config.time.trust).stamp();
    let settings = Settings { restored: true, ..settings(config, now)? };
    let (mut writer, report) =
        Writer::open(Disk::new(folder), &settings).map_err(|error| failed(with_cause(&error)))?;
    if report.state_incomplete || writer.small().seq_floor != writer.start().next_seq {
        return Err(failed("what was restored cannot be written to".to_owned()));
    }
    writer.upkeep().map_err(|error| failed(with_cause(&error)))
}
