//! The other machine: it holds the record of what was acknowledged, out of reach of the plug.
//!
//! Lines of text over TCP, from whoever is tested: `RUN run` begins a run, a number is acknowledged, `LAST` asks for
//! the newest run (answered `RUN run number` or `NONE`), `SAYS text` is a verdict to be shown.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use crate::cli::output;
use crate::cli::recall::harmless;
use crate::hub::lock;

/// Bytes of a line at most.
const LINE_MAX: u64 = 256;
/// Bytes of a run in the record: 16 digits of the run, a blank, 20 digits of the number, the end of the line.
const ENTRY: usize = 16 + 1 + 20 + 1;
/// Who is silent for so long is gone: its power was cut.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A run, and the last of its numbers that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub id: u64,
    pub last: u64,
}

/// The record: a line for each run, of which the number is written over and over.
pub(super) struct Record {
    file: File,
    runs: u64,
    newest: Option<Run>,
}

impl Record {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut text = String::new();
        (&file).read_to_string(&mut text)?;
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "it is no record of storage-test");
        let mut record = Self { file, runs: 0, newest: None };
        for line in text.lines() {
            record.newest = Some(parse_run(line).filter(|_| line.len() + 1 == ENTRY).ok_or_else(broken)?);
            record.runs += 1;
        }
        Ok(record)
    }

    fn begin(&mut self, id: u64) -> io::Result<()> {
        self.runs += 1;
        self.put(Run { id, last: 0 })
    }

    fn acknowledge(&mut self, id: u64, last: u64) -> io::Result<()> {
        // Lines of a run that another one came after are late.
        match self.newest {
            Some(newest) if newest.id == id && newest.last < last => self.put(Run { id, last }),
            _ => Ok(()),
        }
    }

    fn put(&mut self, run: Run) -> io::Result<()> {
        let Run { id, last } = run;
        let at = self.runs.saturating_sub(1) * ENTRY as u64;
        self.file.write_all_at(format!("{id:016x} {last:020}\n").as_bytes(), at)?;
        self.newest = Some(run);
        Ok(())
    }
}

/// `run number`, as the record and the answer to `LAST` have it.
pub(super) fn parse_run(text: &str) -> Option<Run> {
    let (id, last) = text.split_once(' ')?;
    Some(Run { id: u64::from_str_radix(id, 16).ok()?, last: last.parse().ok()? })
}

/// Listens and records, for ever.
pub(super) fn serve(address: SocketAddr, path: &Path) -> Result<(), String> {
    let record =
        Record::open(path).map_err(|error| format!("{}: cannot be used: {error}", path.display()))?;
    let failed = |error: io::Error| format!("{address}: cannot listen: {error}");
    let listener = TcpListener::bind(address).map_err(failed)?;
    output::say(&format!("listens on {}", listener.local_addr().map_err(failed)?));
    let record = Mutex::new(record);
    // Those whose power was cut are still waited for: each has a thread.
    std::thread::scope(|threads| {
        for stream in listener.incoming().map_while(Result::ok) {
            let record = &record;
            threads.spawn(move || {
                if let Err(error) = hear(stream, record) {
                    output::say(&format!("the connection ended: {error}"));
                }
            });
        }
    });
    Err("no more connections can be taken".to_owned())
}

fn hear(stream: TcpStream, record: &Mutex<Record>) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut answers = stream.try_clone()?;
    let mut lines = BufReader::new(stream);
    let mut run = None;
    loop {
        let mut line = String::new();
        if lines.by_ref().take(LINE_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        match (line.split_once(' '), run) {
            (Some(("RUN", id)), _) => {
                let id = u64::from_str_radix(id, 16).map_err(|_| io::ErrorKind::InvalidData)?;
                lock(record).begin(id)?;
                run = Some(id);
                answers.write_all(b"GO\n")?;
                output::say(&format!("run {id:016x} has begun"));
            }
            (Some(("SAYS", text)), _) => output::say(&harmless(text)),
            (None, _) if line == "LAST" => {
                let answer = match lock(record).newest {
                    Some(Run { id, last }) => format!("{id:016x} {last}\n"),
                    None => "NONE\n".to_owned(),
                };
                answers.write_all(answer.as_bytes())?;
            }
            (None, Some(run)) => {
                let number = line.parse().map_err(|_| io::ErrorKind::InvalidData)?;
                lock(record).acknowledge(run, number)?;
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_survives_and_only_the_newest_run_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        let mut record = Record::open(&path).unwrap();
        assert_eq!(record.newest, None);
        record.begin(7).unwrap();
        record.acknowledge(7, 3).unwrap();
        record.acknowledge(7, 2).unwrap();
        record.begin(u64::MAX).unwrap();
        record.acknowledge(7, 99).unwrap();
        record.acknowledge(u64::MAX, u64::MAX).unwrap();
        let newest = Some(Run { id: u64::MAX, last: u64::MAX });
        assert_eq!(record.newest, newest);
        drop(record);
        assert_eq!(Record::open(&path).unwrap().newest, newest);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("0000000000000007 00000000000000000003\n"), "{text}");
        std::fs::write(&path, "a letter to somebody\n").unwrap();
        assert!(Record::open(&path).is_err());
    }
}
