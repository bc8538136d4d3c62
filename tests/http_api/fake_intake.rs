//! An intake that the test plays: it keeps what it is given, and is on flash when the test says so.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use iotsocketd::hub::backend::Pending;
use iotsocketd::hub::history::MessageId;
use iotsocketd::hub::intake::{Arrival, Intake, IntakeError, Receipt, RemapError, Remapped};
use iotsocketd::ingest::{Recalled, Seen, Source};

use super::fake_history::{FIRST_US, id};

#[derive(Default)]
struct Inner {
    taken: Vec<(String, Arrival)>,
    seen: Seen<MessageId>,
    failure: Option<IntakeError>,
    refusal: Option<Receipt>,
    is_held: bool,
    wakers: Vec<Waker>,
}

/// The nth thing that it takes gets [`id`] n.
#[derive(Default)]
pub struct FakeIntake(Arc<Mutex<Inner>>);

impl FakeIntake {
    /// What was taken, with the source's name.
    pub fn taken(&self) -> Vec<(String, Arrival)> {
        self.0.lock().unwrap().taken.clone()
    }

    /// From now on it takes nothing, or everything again.
    pub fn fail(&self, failure: Option<IntakeError>) {
        self.0.lock().unwrap().failure = failure;
    }

    /// From now on every message is against the rules of its group.
    pub fn refuse(&self, receipt: Receipt) {
        self.0.lock().unwrap().refusal = Some(receipt);
    }

    /// From now on nothing gets to flash.
    pub fn hold(&self) {
        self.0.lock().unwrap().is_held = true;
    }

    /// Everything is on flash.
    pub fn release(&self) {
        let mut inner = self.0.lock().unwrap();
        inner.is_held = false;
        inner.wakers.drain(..).for_each(Waker::wake);
    }

    /// Returns when somebody waits for flash.
    pub fn await_waiting(&self, patience: Duration) {
        let begun = Instant::now();
        while self.0.lock().unwrap().wakers.is_empty() {
            assert!(begun.elapsed() < patience, "nobody waits");
            std::thread::yield_now();
        }
    }
}

impl Inner {
    fn take(&mut self, source: &str, arrival: Arrival) -> Receipt {
        if let Some(receipt) = &self.refusal {
            return receipt.clone();
        }
        let next = id(self.taken.len() as u64 + 1);
        let dedup = arrival.mapped().and_then(|(mapped, _)| mapped.dedup.clone());
        let first = dedup.as_deref().and_then(|dedup| match self.seen.recall(source, dedup) {
            Recalled::First(first) => Some(first),
            Recalled::Perhaps(_) | Recalled::Never => None,
        });
        let receipt = match (&arrival, first) {
            (Arrival::Quarantine { .. }, _) => Receipt::Quarantined(next),
            (Arrival::Message { .. }, Some(first)) => return Receipt::Duplicate(first),
            (Arrival::Merge { .. }, Some(first)) => Receipt::Merged(first),
            _ => Receipt::Taken(next),
        };
        if let (Receipt::Taken(id), Some(dedup)) = (&receipt, dedup) {
            self.seen.note(source, &dedup, *id, 1, FIRST_US);
        }
        self.taken.push((source.to_owned(), arrival));
        receipt
    }
}

impl Intake for FakeIntake {
    fn take(&self, source: &str, arrivals: Vec<Arrival>) -> Pending<Result<Vec<Receipt>, IntakeError>> {
        let inner = Arc::clone(&self.0);
        let mut locked = inner.lock().unwrap();
        let receipts = match locked.failure {
            Some(failure) => Err(failure),
            None => Ok(arrivals.into_iter().map(|arrival| locked.take(source, arrival)).collect()),
        };
        drop(locked);
        Box::pin(async move {
            poll_fn(|context| {
                let mut inner = inner.lock().unwrap();
                if !inner.is_held {
                    return Poll::Ready(());
                }
                inner.wakers.push(context.waker().clone());
                Poll::Pending
            })
            .await;
            receipts
        })
    }

    fn remap(&self, source: &Source) -> Pending<Result<Remapped, RemapError>> {
        let inner = self.0.lock().unwrap();
        let in_quarantine = |(of, arrival): &&(String, Arrival)| {
            *of == source.name && matches!(arrival, Arrival::Quarantine { .. })
        };
        let remaining = inner.taken.iter().filter(in_quarantine).count() as u64;
        let remapped = match inner.failure {
            Some(failure) => Err(RemapError::Intake(failure)),
            None => Ok(Remapped { remaining, ..Remapped::default() }),
        };
        Box::pin(async { remapped })
    }

    fn now_us(&self) -> Option<i64> {
        Some(FIRST_US)
    }
}
