//! What waits to be written to one connection: filled by the hub, emptied by the connection's task.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use super::lock;
use crate::journal::Seq;
use crate::journal::front::Ticket;
use crate::limits::OUTGOING_MAX;
use crate::router::{LoginRefusal, Queued, Serial, Tag};
use crate::wire::{CloseCode, Transmission};

/// What a stretch of the outgoing bytes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request of this call: passes to the next connection if it could not be handed over.
    Request(Serial),
    /// An answer: likewise.
    Response,
    /// A ping, and up to which message its pong acknowledges telemetry.
    Ping(Option<Seq>),
    /// Anything that is worth nothing to a later connection.
    Passing,
}

/// A stretch of the outgoing bytes: one transmission, or some in a row that are worth nothing later.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// Bytes.
    pub len: usize,
    /// What it is.
    pub kind: Kind,
}

/// What a mark takes itself, beside the bytes that it is of: many a transmission is smaller.
pub const MARK_LEN: usize = size_of::<Mark>();

/// Bytes in order, and what they are.
#[derive(Debug, Default)]
pub struct Batch {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their stretches, in order.
    pub marks: Vec<Mark>,
}

impl Batch {
    /// Marks the last so many bytes; gives what they take, mark and all.
    fn mark(&mut self, kind: Kind, len: usize) -> usize {
        match self.marks.last_mut() {
            // Nobody asks later where one of them ends and the next begins.
            Some(last) if kind == Kind::Passing && last.kind == kind => {
                last.len += len;
                len
            }
            _ => {
                self.marks.push(Mark { len, kind });
                len + MARK_LEN
            }
        }
    }
}

/// What the hub decided about a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not yet: an older connection of the same peer ends first.
    Pending,
    /// The session is live.
    Admitted,
    /// No session.
    Refused(LoginRefusal),
}

#[derive(Debug)]
struct Inner {
    batch: Batch,
    verdict: Verdict,
    close: Option<CloseCode>,
    /// Nothing goes out before the record of this place is on flash.
    held: Option<Ticket>,
    waker: Option<Waker>,
}

/// One connection's outgoing queue. Bounded: see [`Outbox::has_room`].
#[derive(Debug)]
pub struct Outbox {
    inner: Mutex<Inner>,
    /// Bytes queued here or taken by the task and not handed over to the system yet, their marks included.
    outstanding: AtomicUsize,
}

/// What the connection's task finds when it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// There are bytes to take.
    Write,
    /// Close with this code.
    Close(CloseCode),
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner {
                batch: Batch::default(),
                verdict: Verdict::Pending,
                close: None,
                held: None,
                waker: None,
            }),
            outstanding: AtomicUsize::new(0),
        }
    }
}

impl Outbox {
    /// Bytes that are not handed over to the system yet, and what their marks take.
    pub fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Whether this many bytes more stay within the bound.
    pub fn has_room(&self, len: usize) -> bool {
        self.outstanding() + len <= OUTGOING_MAX
    }

    /// Queues a transmission; gives the task's waker if it has to be woken.
    pub fn push(&self, kind: Kind, transmission: Transmission<'_>) -> Option<Waker> {
        let mut inner = lock(&self.inner);
        let before = inner.batch.bytes.len();
        transmission.encode(&mut inner.batch.bytes);
        let len = inner.batch.bytes.len() - before;
        let len = inner.batch.mark(kind, len);
        self.outstanding.fetch_add(len, Ordering::Relaxed);
        inner.waker.take()
    }

    /// Queues bytes that are encoded already.
    pub fn push_bytes(&self, kind: Kind, bytes: &[u8]) -> Option<Waker> {
        let mut inner = lock(&self.inner);
        inner.batch.bytes.extend_from_slice(bytes);
        let len = inner.batch.mark(kind, bytes.len());
        self.outstanding.fetch_add(len, Ordering::Relaxed);
        inner.waker.take()
    }

    /// Orders the task to close.
    pub fn order_close(&self, code: CloseCode) -> Option<Waker> {
        let mut inner = lock(&self.inner);
        inner.close.get_or_insert(code);
        inner.waker.take()
    }

    /// Whether it was ordered to.
    pub fn is_closing(&self) -> bool {
        lock(&self.inner).close.is_some()
    }

    /// Keeps back everything that is queued until the record of this place is on flash.
    pub fn hold(&self, until: Ticket) {
        lock(&self.inner).held = Some(until);
    }

    /// The record of this place is on flash; gives the task's waker if it has to be woken.
    pub fn release(&self, durable: Ticket) -> Option<Waker> {
        let mut inner = lock(&self.inner);
        if inner.held.is_none_or(|held| durable < held) {
            return None;
        }
        inner.held = None;
        inner.waker.take()
    }

    /// Decides the login.
    pub fn decide(&self, verdict: Verdict) -> Option<Waker> {
        let mut inner = lock(&self.inner);
        inner.verdict = verdict;
        inner.waker.take()
    }

    /// What was decided about the login; registers for a wake-up while nothing was.
    pub fn poll_verdict(&self, waker: &Waker) -> Verdict {
        let mut inner = lock(&self.inner);
        if inner.verdict == Verdict::Pending {
            register(&mut inner.waker, waker);
        }
        inner.verdict
    }

    /// What is to be done; registers for a wake-up if nothing is. A task whose peer takes nothing now cannot write,
    /// but must hear the order to close.
    pub fn poll_order(&self, waker: &Waker, can_write: bool) -> Option<Order> {
        let mut inner = lock(&self.inner);
        if let Some(code) = inner.close {
            return Some(Order::Close(code));
        }
        if can_write && inner.held.is_none() && !inner.batch.marks.is_empty() {
            return Some(Order::Write);
        }
        register(&mut inner.waker, waker);
        None
    }

    /// Swaps what is queued and may go out into an empty batch.
    pub fn take(&self, into: &mut Batch) {
        let mut inner = lock(&self.inner);
        if inner.held.is_none() {
            std::mem::swap(&mut inner.batch, into);
        }
    }

    /// Swaps all that is queued into an empty batch: the connection is at its end.
    pub fn take_all(&self, into: &mut Batch) {
        std::mem::swap(&mut lock(&self.inner).batch, into);
    }

    /// The task handed over so many bytes, marks that are over included.
    pub fn settle(&self, len: usize) {
        self.outstanding.fetch_sub(len, Ordering::Relaxed);
    }
}

fn register(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(known) if known.will_wake(waker) => {}
        other => *other = Some(waker.clone()),
    }
}

impl From<Tag> for Kind {
    fn from(tag: Tag) -> Self {
        match tag {
            Tag::Request(serial) => Self::Request(serial),
            Tag::Response => Self::Response,
            Tag::Token => Self::Passing,
        }
    }
}

/// What of a batch the next connection should get: whole transmissions, the first of them at the first mark.
pub fn unsent(batch: &Batch) -> Vec<Queued> {
    let mut unsent = Vec::new();
    let mut rest = batch.bytes.as_slice();
    for mark in &batch.marks {
        let (bytes, behind) = rest.split_at_checked(mark.len).unwrap_or((rest, &[]));
        rest = behind;
        let tag = match mark.kind {
            Kind::Request(serial) => Tag::Request(serial),
            Kind::Response => Tag::Response,
            Kind::Ping(_) | Kind::Passing => continue,
        };
        unsent.push(Queued { tag, bytes: bytes.into() });
    }
    unsent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_out_before_its_record_is_on_flash() {
        let mut front = crate::hub::testing::front();
        let tickets = [1, 2].map(|id| crate::hub::testing::note(&mut front, id));
        let outbox = Outbox::default();
        let mut batch = Batch::default();
        let _waker = outbox.push_bytes(Kind::Response, b"first");
        outbox.hold(tickets[1]);
        assert_eq!(outbox.poll_order(Waker::noop(), true), None);
        outbox.take(&mut batch);
        assert!(batch.bytes.is_empty());
        assert!(outbox.release(tickets[0]).is_none(), "not that one yet");
        assert!(outbox.release(tickets[1]).is_some(), "whoever waits is woken");
        assert_eq!(outbox.poll_order(Waker::noop(), true), Some(Order::Write));
        outbox.take(&mut batch);
        assert_eq!(batch.bytes, b"first");
        outbox.hold(tickets[1]);
        let _waker = outbox.push_bytes(Kind::Response, b"second");
        let mut batch = Batch::default();
        outbox.take_all(&mut batch);
        assert_eq!(unsent(&batch).len(), 1, "what is held back passes to the next connection, too");
    }

    #[test]
    fn the_bound_is_one_of_memory_however_small_the_transmissions_are() {
        let serial = Kind::Request(1);
        for kinds in [[Kind::Passing; 2], [Kind::Response, Kind::Passing], [Kind::Ping(None), serial]] {
            let outbox = Outbox::default();
            let mut kinds_in_turn = kinds.iter().cycle();
            while outbox.has_room(1) {
                let _waker = outbox.push_bytes(*kinds_in_turn.next().unwrap(), &[10]);
            }
            let mut batch = Batch::default();
            outbox.take(&mut batch);
            let taken = batch.bytes.len() + batch.marks.len() * MARK_LEN;
            assert!(taken <= OUTGOING_MAX + MARK_LEN, "{taken} bytes of {kinds:?}");
            assert_eq!(taken, outbox.outstanding());
            assert_eq!(batch.marks.iter().map(|mark| mark.len).sum::<usize>(), batch.bytes.len());
        }
    }
}
