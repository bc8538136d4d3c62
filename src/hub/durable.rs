//! What waits until a record is on flash: connections that may not write before, callers that may not be answered before.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use super::lock;
use super::outbox::Outbox;
use crate::journal::front::Ticket;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waits,
    OnFlash,
    /// Nothing is written any more.
    Never,
}

/// Where a caller hears of its record.
#[derive(Debug)]
struct Notice(Mutex<(Fate, Option<Waker>)>);

/// Nothing is written any more: the journal is read-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeverDurable;

#[derive(Debug)]
enum Waiter {
    Connection(Arc<Outbox>),
    Caller(Arc<Notice>),
}

/// Who waits for which record, in their order.
#[derive(Debug, Default)]
pub struct Waiting {
    queue: VecDeque<(Ticket, Waiter)>,
    /// There is no room on the medium: sessions and calls go on without, whoever is acknowledged something waits.
    is_stuck: bool,
}

impl Waiting {
    /// Whether anybody waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Holds a connection's bytes back until the record, the newest that there is, is on flash.
    pub fn hold(&mut self, outbox: &Arc<Outbox>, until: Ticket) {
        if self.is_stuck {
            return;
        }
        outbox.hold(until);
        self.queue.push_back((until, Waiter::Connection(Arc::clone(outbox))));
    }

    /// Resolves when the record, the newest that there is, is on flash, or never will be; at once if it is already.
    pub fn wait(
        &mut self,
        until: Ticket,
        is_durable: bool,
    ) -> impl Future<Output = Result<(), NeverDurable>> + Send + use<> {
        let fate = if is_durable { Fate::OnFlash } else { Fate::Waits };
        let notice = Arc::new(Notice(Mutex::new((fate, None))));
        if !is_durable {
            self.queue.push_back((until, Waiter::Caller(Arc::clone(&notice))));
        }
        poll_fn(move |context| {
            let (fate, waker) = &mut *lock(&notice.0);
            match fate {
                Fate::Waits => {
                    *waker = Some(context.waker().clone());
                    Poll::Pending
                }
                Fate::OnFlash => Poll::Ready(Ok(())),
                Fate::Never => Poll::Ready(Err(NeverDurable)),
            }
        })
    }

    /// All records up to this one are on flash.
    pub fn durable(&mut self, up_to: Ticket, wakes: &mut Vec<Waker>) {
        while self.queue.front().is_some_and(|(ticket, _)| *ticket <= up_to)
            && let Some((_, waiter)) = self.queue.pop_front()
        {
            waiter.end(Fate::OnFlash, up_to, wakes);
        }
    }

    /// Lets go of connections that wait for a record that was not made after all.
    pub fn let_go_beyond(&mut self, newest: Ticket, wakes: &mut Vec<Waker>) {
        while self.queue.back().is_some_and(|(ticket, _)| *ticket > newest)
            && let Some((ticket, waiter)) = self.queue.pop_back()
        {
            waiter.end(Fate::OnFlash, ticket, wakes);
        }
    }

    /// The medium has no room, or has it again. Without room connections go on, callers wait.
    pub fn set_stuck(&mut self, is_stuck: bool, newest: Ticket, wakes: &mut Vec<Waker>) {
        self.is_stuck = is_stuck;
        if is_stuck {
            let (free, held): (VecDeque<_>, _) =
                self.queue.drain(..).partition(|(_, waiter)| matches!(waiter, Waiter::Connection(_)));
            self.queue = held;
            free.into_iter().for_each(|(_, waiter)| waiter.end(Fate::Never, newest, wakes));
        }
    }

    /// Nothing is written any more. Connections go on, callers hear of it.
    pub fn give_up(&mut self, newest: Ticket, wakes: &mut Vec<Waker>) {
        self.queue.drain(..).for_each(|(_, waiter)| waiter.end(Fate::Never, newest, wakes));
    }
}

impl Waiter {
    fn end(self, fate: Fate, up_to: Ticket, wakes: &mut Vec<Waker>) {
        match self {
            Self::Connection(outbox) => wakes.extend(outbox.release(up_to)),
            Self::Caller(notice) => {
                let (said, waker) = &mut *lock(&notice.0);
                *said = fate;
                wakes.extend(waker.take());
            }
        }
    }
}
