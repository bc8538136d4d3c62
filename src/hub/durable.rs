//! What waits until a record is on flash: connections that may not write before, callers that may not be answered before.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::lock;
use super::outbox::Outbox;
use crate::journal::front::Ticket;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waits,
    OnFlash,
    /// It is not waited for any longer.
    Never(NeverDurable),
}

/// Where a caller hears of its record.
#[derive(Debug)]
struct Notice(Mutex<(Fate, Option<Waker>)>);

/// Why a record is not waited for any longer. It may be written later all the same, but for the first of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeverDurable {
    /// Nothing is written any more: the journal is read-only.
    ReadOnly,
    /// There is no room on the medium.
    Full,
    /// The medium took longer than [`WAIT_MAX`].
    Late,
}

/// Whoever waits to be answered waits no longer than this for flash.
pub const WAIT_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum Waiter {
    Connection(Arc<Outbox>),
    /// Since when.
    Caller(Arc<Notice>, Instant),
}

/// Who waits for which record, in their order.
#[derive(Debug, Default)]
pub struct Waiting {
    queue: VecDeque<(Ticket, Waiter)>,
    /// There is no room on the medium: sessions and calls go on without, nobody is acknowledged anything.
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
        let fate = match is_durable {
            true => Fate::OnFlash,
            false if self.is_stuck => Fate::Never(NeverDurable::Full),
            false => Fate::Waits,
        };
        let notice = Arc::new(Notice(Mutex::new((fate, None))));
        if fate == Fate::Waits {
            self.queue.push_back((until, Waiter::Caller(Arc::clone(&notice), Instant::now())));
        }
        poll_fn(move |context| {
            let (fate, waker) = &mut *lock(&notice.0);
            match fate {
                Fate::Waits => {
                    *waker = Some(context.waker().clone());
                    Poll::Pending
                }
                Fate::OnFlash => Poll::Ready(Ok(())),
                Fate::Never(why) => Poll::Ready(Err(*why)),
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

    /// The medium has no room, or has it again. Without room connections go on, callers hear of it.
    pub fn set_stuck(&mut self, is_stuck: bool, newest: Ticket, wakes: &mut Vec<Waker>) {
        self.is_stuck = is_stuck;
        if is_stuck {
            self.end_all(NeverDurable::Full, newest, wakes);
        }
    }

    /// Callers who have waited for too long hear of it.
    pub fn end_late(&mut self, now: Instant, newest: Ticket, wakes: &mut Vec<Waker>) {
        let is_late = |waiter: &Waiter| match waiter {
            Waiter::Caller(_, since) => now.saturating_duration_since(*since) >= WAIT_MAX,
            Waiter::Connection(_) => false,
        };
        let (late, others): (VecDeque<_>, _) = self.queue.drain(..).partition(|(_, waiter)| is_late(waiter));
        self.queue = others;
        late.into_iter().for_each(|(_, waiter)| waiter.end(Fate::Never(NeverDurable::Late), newest, wakes));
    }

    /// Nothing is written any more. Connections go on, callers hear of it.
    pub fn give_up(&mut self, newest: Ticket, wakes: &mut Vec<Waker>) {
        self.end_all(NeverDurable::ReadOnly, newest, wakes);
    }

    fn end_all(&mut self, why: NeverDurable, newest: Ticket, wakes: &mut Vec<Waker>) {
        self.queue.drain(..).for_each(|(_, waiter)| waiter.end(Fate::Never(why), newest, wakes));
    }
}

impl Waiter {
    fn end(self, fate: Fate, up_to: Ticket, wakes: &mut Vec<Waker>) {
        match self {
            Self::Connection(outbox) => wakes.extend(outbox.release(up_to)),
            Self::Caller(notice, _) => {
                let (said, waker) = &mut *lock(&notice.0);
                *said = fate;
                wakes.extend(waker.take());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::testing::{front, note};

    fn polled(future: impl Future<Output = Result<(), NeverDurable>>) -> Option<Result<(), NeverDurable>> {
        let mut future = std::pin::pin!(future);
        let mut context = std::task::Context::from_waker(Waker::noop());
        match future.as_mut().poll(&mut context) {
            Poll::Ready(fate) => Some(fate),
            Poll::Pending => None,
        }
    }

    #[test]
    fn nobody_waits_for_longer_than_it_makes_sense() {
        let (mut front, mut waiting, mut wakes) = (front(), Waiting::default(), Vec::new());
        let places = [1, 2, 3].map(|id| note(&mut front, id));
        let begun = Instant::now();
        let [first, second] = [places[0], places[1]].map(|place| waiting.wait(place, false));
        waiting.durable(places[0], &mut wakes);
        assert_eq!(polled(first), Some(Ok(())));
        let mut second = std::pin::pin!(second);
        assert_eq!(polled(second.as_mut()), None);
        waiting.end_late(begun + WAIT_MAX - Duration::from_millis(1), places[2], &mut wakes);
        assert_eq!(polled(second.as_mut()), None);
        waiting.end_late(Instant::now() + WAIT_MAX, places[2], &mut wakes);
        assert_eq!(polled(second.as_mut()), Some(Err(NeverDurable::Late)));
        assert!(waiting.is_empty());
        let third = waiting.wait(places[2], false);
        waiting.set_stuck(true, places[2], &mut wakes);
        assert_eq!(polled(third), Some(Err(NeverDurable::Full)));
        assert_eq!(polled(waiting.wait(places[2], false)), Some(Err(NeverDurable::Full)), "at once");
        assert_eq!(polled(waiting.wait(places[2], true)), Some(Ok(())));
        waiting.set_stuck(false, places[2], &mut wakes);
        let fourth = waiting.wait(places[2], false);
        waiting.give_up(places[2], &mut wakes);
        assert_eq!(polled(fourth), Some(Err(NeverDurable::ReadOnly)));
    }
}
