//! What is learned of objects, in a file of the state folder: read at the start, written every hour and at the end. A thread
//! of its own, since a medium may hang.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::hub::Hub;
use crate::logfmt::Quoted;

/// The file, in the state folder.
const FILE: &str = "habits";
/// What is learned in less may be lost. With 20,000 objects a file has 1.3 MB: 31 MB a day.
const INTERVAL: Duration = Duration::from_secs(3600);
/// Bytes of a file that is read: several times what the largest access list makes.
const FILE_MAX: u64 = 8 << 20;

/// The thread. Dropped, it writes a last time and ends.
#[derive(Debug)]
pub struct Habits {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Habits {
    /// Has the hub go on with what is in the file, and keeps that up to date from now on.
    pub fn start(hub: Arc<Hub>, state_dir: &Path) -> Result<Self, String> {
        let path = state_dir.join(FILE);
        load(&hub, &path);
        let (stop, stopped) = mpsc::channel::<()>();
        let keep = move || {
            loop {
                let is_over = stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout);
                if let Err(error) = store(&path, &hub.keep_objects()) {
                    let (file, error) = (Quoted(path.display()), Quoted(error));
                    log::error!(
                        "event=habits_not_written file={file} error={error} action=\"make room on the disk of state_dir, or mend it\""
                    );
                }
                if is_over {
                    break;
                }
            }
        };
        let thread = Builder::new()
            .name("habits".to_owned())
            .spawn(keep)
            .map_err(|error| format!("the system gives no threads: {error}"))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Habits {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// What cannot be read is learned anew.
fn load(hub: &Hub, path: &Path) {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_MAX).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    let reason = match read() {
        Ok(bytes) if hub.restore_objects(&bytes) => return,
        Ok(_) => "it is damaged, or of a newer version".to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => error.to_string(),
    };
    log::warn!(
        "event=habits_not_read file={} reason={} action=\"none: they are learned anew\"",
        Quoted(path.display()),
        Quoted(reason)
    );
}

/// Writes the file anew, in one step.
fn store(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new: PathBuf = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(new, path)
}
