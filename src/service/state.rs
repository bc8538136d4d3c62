//! The state folder: one running concentrator each, of one environment.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use super::config::Environment;

/// Holds the state folder for this process. Given back when dropped, or when the process ends, however it ends.
#[derive(Debug)]
pub struct StateFolder {
    lock: File,
}

impl StateFolder {
    /// Makes the folder if it is missing, takes it, and sees that it belongs to this environment.
    pub fn take(path: &Path, environment: Environment) -> Result<Self, String> {
        let name = path.display();
        make_folder(path).map_err(|error| format!("state_dir {name}: cannot be made: {error}"))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(|error| format!("state_dir {name}: cannot be written: {error}"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!(
                    "state_dir {name}: another iotsocketd runs on it; stop that one or give this one a folder of its own"
                ));
            }
            Err(TryLockError::Error(error)) => {
                return Err(format!("state_dir {name}: cannot be locked: {error}"));
            }
        }
        mark(path, environment)?;
        Ok(Self { lock })
    }

    /// Goes on with the lock of another process, which handed it over: the folder was never free in between.
    pub fn inherit(lock: OwnedFd, path: &Path, environment: Environment) -> Result<Self, String> {
        let lock = File::from(lock);
        let name = path.display();
        let is_same = || {
            let (ours, theirs) = (lock.metadata()?, fs::metadata(path.join(LOCK))?);
            Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()))
        };
        match is_same().map_err(|error: io::Error| format!("state_dir {name}: cannot be read: {error}"))? {
            true => {
                lock.try_lock().map_err(|_| format!("state_dir {name}: is not held by the version before"))?
            }
            false => return Err(format!("state_dir {name}: the version before runs on another folder")),
        }
        mark(path, environment)?;
        Ok(Self { lock })
    }

    /// The lock, to be handed over.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

/// Looks into a state folder on which nothing runs; nothing starts on it before what this gives is dropped. It is to be
/// short: a concentrator that is started meanwhile fails, and is started again.
pub fn look_into(path: &Path) -> Result<File, String> {
    let name = path.display();
    let lock = File::open(path.join(LOCK)).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("state_dir {name}: nothing ever ran on it"),
        _ => format!("state_dir {name}: cannot be read: {error}"),
    })?;
    match lock.try_lock_shared() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(format!("state_dir {name}: an iotsocketd runs on it and does not answer on its socket"))
        }
        Err(TryLockError::Error(error)) => Err(format!("state_dir {name}: cannot be locked: {error}")),
    }
}

/// The mark of an environment, as [`StateFolder::take`] leaves it.
pub const ENVIRONMENT: &str = "environment";
/// The file that is locked.
pub const LOCK: &str = "lock";

/// Makes a folder for its owner only, and what is missing above it, unless it is there. What is flushed in there would be
/// gone all the same if a power failure took its name, so that is flushed, too.
pub fn make_folder(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let create = || fs::DirBuilder::new().mode(0o700).create(path);
    let created = create().or_else(|error| match error.kind() {
        ErrorKind::NotFound if path.parent().is_some() => make_folder(parent).and_then(|()| create()),
        _ => Err(error),
    });
    let flushed = || File::open(parent)?.sync_all();
    match created {
        Ok(()) => flushed(),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {
            // Whoever made it may have been killed before this. A place that cannot be flushed, such as a read-only
            // system that a medium is mounted in, was not made by us.
            _ = flushed();
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Marks a new folder with its environment, and compares that of an old one.
fn mark(path: &Path, environment: Environment) -> Result<(), String> {
    let file = path.join(ENVIRONMENT);
    let failed = |error| format!("{}: cannot be written: {error}", file.display());
    match fs::read_to_string(&file) {
        Ok(text) if text.trim() == environment.name() => Ok(()),
        // A power failure left the name without its content.
        Ok(text) if text.trim_matches(['\0', '\n']).is_empty() => {
            write_mark(&file, environment).map_err(failed)
        }
        Ok(text) => Err(format!(
            "state_dir {}: belongs to environment \"{}\", the configuration says \"{}\"; use a state folder of its own for each",
            path.display(),
            text.trim().escape_debug(),
            environment.name()
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => write_mark(&file, environment).map_err(failed),
        Err(error) => Err(format!("{}: cannot be read: {error}", file.display())),
    }
}

/// The mark is there whole or not at all, and stays.
fn write_mark(path: &Path, environment: Environment) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    writeln!(file, "{}", environment.name())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Takes a folder that was given back. A program that another test of this process starts just then holds the lock, too,
    /// until it runs.
    fn take_freed(path: &Path, environment: Environment) -> Result<StateFolder, String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match StateFolder::take(path, environment) {
                Err(error) if error.contains("another iotsocketd") && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                taken => return taken,
            }
        }
    }

    #[test]
    fn one_instance_and_one_environment_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let held = StateFolder::take(&path, Environment::Test).unwrap();
        let second = StateFolder::take(&path, Environment::Test).unwrap_err();
        assert!(second.contains("another iotsocketd") && second.contains(path.to_str().unwrap()), "{second}");
        drop(held);
        let other = take_freed(&path, Environment::Production).unwrap_err();
        assert!(other.contains("\"test\"") && other.contains("\"production\""), "{other}");
        take_freed(&path, Environment::Test).unwrap();
    }

    #[test]
    fn a_lock_is_handed_over_and_the_folder_is_never_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let older = StateFolder::take(&path, Environment::Test).unwrap();
        let lock = older.descriptor().try_clone_to_owned().unwrap();
        let newer = StateFolder::inherit(lock, &path, Environment::Test).unwrap();
        drop(older);
        assert!(StateFolder::take(&path, Environment::Test).unwrap_err().contains("another iotsocketd"));
        let lock = newer.descriptor().try_clone_to_owned().unwrap();
        let other = folder.path().join("other");
        drop(StateFolder::take(&other, Environment::Test).unwrap());
        assert!(
            StateFolder::inherit(lock, &other, Environment::Test).unwrap_err().contains("another folder")
        );
        drop(newer);
        take_freed(&path, Environment::Test).unwrap();
    }
}
