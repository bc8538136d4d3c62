//! Threads that read the journal: reading takes time, and nobody who answers the network may spend it.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::seen::{Newest, Seen};
use crate::journal::reader::Reader;
use crate::service::disk::Disk;

/// Questions that wait for a thread at most.
const QUEUE_MAX: usize = 64;

/// A question: it reads, and sends its answer to whoever asked.
type Job = Box<dyn FnOnce(&mut Reader<Disk>, &Seen) + Send>;

/// A thread that answers one question after the other. Ends when this is dropped.
#[derive(Debug)]
pub struct Worker {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// Too many questions wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl Worker {
    /// Starts one that reads the journal in this folder.
    pub fn start(name: &str, folder: &Path, newest: &Arc<Newest>) -> Result<Self, String> {
        let (jobs, queue) = sync_channel(QUEUE_MAX);
        let newest = Arc::clone(newest);
        let reader = Reader::new(Disk::new(folder));
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || run(reader, &newest, &queue))
            .map_err(|error| format!("the system gives no threads: {error}"))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Asks a question.
    pub fn ask(&self, job: impl FnOnce(&mut Reader<Disk>, &Seen) + Send + 'static) -> Result<(), Busy> {
        let jobs = self.jobs.as_ref().ok_or(Busy)?;
        jobs.try_send(Box::new(job)).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Busy,
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn run(mut reader: Reader<Disk>, newest: &Newest, queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        job(&mut reader, &newest.get());
    }
}
