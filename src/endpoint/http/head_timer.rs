//! hyper's deadline for the head of a request, at the cost of one timer a connection instead of one a request.
//!
//! hyper makes a timer for each head and drops it when the head is there. Each would tell the reactor's thread of itself,
//! which are system calls. So the connection keeps one alarm: where a deadline moves away the alarm stays, rings early, and
//! is set again then.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_io::Timer;
use hyper::rt::Sleep;

use crate::hub::lock;

/// The alarm of one connection.
#[derive(Debug)]
pub struct HeadTimer(Arc<Mutex<Alarm>>);

#[derive(Debug)]
struct Alarm {
    timer: Timer,
    /// When it rings, if it is set.
    at: Option<Instant>,
}

/// A deadline that is waited for by the connection's alarm.
struct Deadline {
    at: Instant,
    alarm: Arc<Mutex<Alarm>>,
}

impl Default for HeadTimer {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Alarm { timer: Timer::never(), at: None })))
    }
}

impl hyper::rt::Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, at: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Deadline { at, alarm: Arc::clone(&self.0) })
    }
}

impl Sleep for Deadline {}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut alarm = lock(&self.alarm);
        while Instant::now() < self.at {
            if alarm.at.is_none_or(|at| at > self.at) {
                alarm.timer.set_at(self.at);
                alarm.at = Some(self.at);
            }
            if Pin::new(&mut alarm.timer).poll(context).is_pending() {
                return Poll::Pending;
            }
            // It rang for a deadline that has moved away since.
            alarm.at = None;
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Timer as _;
    use smol::future::{block_on, poll_once};

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const LATER: Duration = Duration::from_secs(3600);

    #[test]
    fn a_deadline_behind_others_is_kept_and_is_not_early() {
        let timer = HeadTimer::default();
        // A head that came at once, one that came after a while, and one that does not come.
        drop(timer.sleep(SOON));
        assert!(block_on(poll_once(timer.sleep(SOON))).is_none());
        let begun = Instant::now();
        block_on(timer.sleep(SOON * 2));
        assert!(begun.elapsed() >= SOON * 2);
    }

    #[test]
    fn a_deadline_before_the_alarm_moves_it_forward() {
        let timer = HeadTimer::default();
        assert!(block_on(poll_once(timer.sleep(LATER))).is_none());
        block_on(timer.sleep(SOON));
    }

    #[test]
    fn the_alarm_of_a_connection_is_set_once_for_all_heads() {
        let timer = HeadTimer::default();
        assert!(block_on(poll_once(timer.sleep(LATER))).is_none());
        let set = lock(&timer.0).at;
        assert!(block_on(poll_once(timer.sleep(LATER * 2))).is_none());
        assert!(set.is_some() && lock(&timer.0).at == set);
    }
}
