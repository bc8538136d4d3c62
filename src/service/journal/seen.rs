//! What is on flash, as of the last commit, for everybody who reads.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use crate::hub::lock;
use crate::journal::Seq;
use crate::journal::catalog::Catalog;
use crate::journal::chain::Link;
use crate::journal::medium::Medium;
use crate::journal::record::{Gone, State};
use crate::journal::state::{CursorState, Small};
use crate::journal::writer::Writer;

/// What a reader needs to know.
#[derive(Debug)]
pub struct Seen {
    /// Where what lies.
    pub catalog: Catalog,
    /// How far destinations are.
    pub cursors: BTreeMap<String, CursorState>,
    /// The newest commands that are over, and how they ended.
    pub finished: BTreeMap<Seq, State>,
    /// What is gone.
    pub gone: Vec<Gone>,
    /// Where the chain of audit records is.
    pub audit: Link,
    /// Segments before which others were deleted out of the middle.
    pub behind_holes: Vec<u64>,
}

impl Seen {
    /// As of the writer's last commit.
    pub fn of<M: Medium>(writer: &Writer<M>) -> Self {
        Self::as_of(writer.small(), writer.catalog())
    }

    /// As of this moment.
    pub fn as_of(small: &Small, catalog: Catalog) -> Self {
        let (cursors, finished) = (small.cursors.clone(), small.finished.clone());
        let behind_holes = catalog.segments.windows(2).filter_map(|pair| {
            let [before, after] = pair else { return None };
            let previous = after.header.previous.number;
            (previous != before.number() && small.is_retired(previous)).then_some(after.number())
        });
        let behind_holes = behind_holes.collect();
        Self { catalog, cursors, finished, gone: small.gone().to_vec(), audit: small.audit(), behind_holes }
    }
}

#[derive(Debug)]
struct Held {
    seen: Arc<Seen>,
    waiting: Vec<Waker>,
}

/// The newest of it.
#[derive(Debug)]
pub struct Newest(Mutex<Held>);

impl Newest {
    /// To begin with.
    pub fn new(seen: Seen) -> Self {
        Self(Mutex::new(Held { seen: Arc::new(seen), waiting: Vec::new() }))
    }

    /// Something was committed.
    pub fn publish(&self, seen: Seen) {
        let waiting = {
            let mut state = lock(&self.0);
            state.seen = Arc::new(seen);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The newest.
    pub fn get(&self) -> Arc<Seen> {
        Arc::clone(&lock(&self.0).seen)
    }

    /// Resolves when there is a message behind this number.
    pub async fn wait_beyond(&self, seq: Seq) {
        poll_fn(|context| {
            let mut state = lock(&self.0);
            if state.seen.catalog.next_seq > seq.saturating_add(1) {
                return Poll::Ready(());
            }
            if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                state.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
