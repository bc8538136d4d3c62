//! What follows from how a call went.

use super::lane::{InFlight, Way};
use super::{LastFailure, MESSAGE_DELAY_MAX, Moment, Order, Outcome, RETRY_AFTER_MAX, Subscriber};
use crate::journal::Seq;
use crate::journal::record::{Cause, Record};

impl Subscriber {
    /// A call ended.
    pub fn posted(&mut self, ticket: u64, outcome: Outcome, moment: Moment) {
        let Some(call) = self.in_flight.take_if(|call| call.ticket == ticket) else { return };
        match outcome {
            Outcome::Delivered => self.delivered(call, moment),
            Outcome::Rejected(reason) if call.count > 1 => {
                self.counters.failures += 1;
                self.note_failure(&call, reason, moment);
                let start = self.start_again(&call);
                let lane = self.lane(call.way);
                lane.cap = Some(call.count / 2);
                lane.limit = None;
                lane.go_to(start);
            }
            Outcome::Rejected(reason) => {
                self.counters.failures += 1;
                let lane = self.lane(call.way);
                lane.attempts = lane.attempts.saturating_add(1);
                let attempts = lane.attempts;
                self.note_failure(&call, reason, moment);
                let delay = self.jitter.delay(attempts, MESSAGE_DELAY_MAX);
                if call.way == Way::Main && self.settings.order == Order::LiveFirst {
                    // The others do not wait for it.
                    self.backlog.insert(self.start_again(&call), call.last);
                    self.up_to = self.up_to.max(call.last);
                    (self.has_moved, self.behind_moved) = (true, true);
                    self.main.forget_failures();
                    self.behind.not_before = Some(moment.now + delay);
                } else {
                    self.lane(call.way).not_before = Some(moment.now + delay);
                    self.try_again(&call);
                }
            }
            Outcome::Failed(reason, asked_for) => {
                self.counters.failures += 1;
                self.failures = self.failures.saturating_add(1);
                let lane = self.lane(call.way);
                lane.attempts = lane.attempts.saturating_add(1);
                self.note_failure(&call, reason, moment);
                let asked_for = asked_for.unwrap_or_default().min(RETRY_AFTER_MAX);
                let delay = self.jitter.delay(self.failures, MESSAGE_DELAY_MAX).max(asked_for);
                self.not_before = Some(moment.now + delay);
                self.put_back(&call);
            }
            Outcome::Gone => {
                self.counters.failures += 1;
                self.note_failure(&call, "it answered status 410: it wants nothing more".to_owned(), moment);
                self.is_suspended = true;
                self.put_back(&call);
            }
        }
    }

    fn put_back(&mut self, call: &InFlight) {
        self.skips |= self.settings.order == Order::LiveFirst;
        self.try_again(call);
        // What the other way has gathered may get old meanwhile.
        let other = if call.way == Way::Main { Way::Behind } else { Way::Main };
        let other = self.lane(other);
        other.go_to(other.start());
    }

    /// The same messages go out next, but for what left the journal meanwhile.
    fn try_again(&mut self, call: &InFlight) {
        let start = self.start_again(call);
        let lane = self.lane(call.way);
        lane.limit = Some(call.last).filter(|last| start <= *last);
        lane.go_to(start);
    }

    fn start_again(&self, call: &InFlight) -> Seq {
        match call.way {
            Way::Main => call.first.max(self.up_to.saturating_add(1)),
            // What it looks at is in the backlog, or not.
            Way::Behind => call.first,
        }
    }

    fn note_failure(&mut self, call: &InFlight, reason: String, moment: Moment) {
        let attempt = self.failures.max(self.lane(call.way).attempts).max(1);
        let (first, last, at_us) = (call.first, call.last, moment.stamp.wall_us);
        self.last_failure = Some(LastFailure { first, last, attempt, at_us, reason });
    }

    fn delivered(&mut self, call: InFlight, moment: Moment) {
        self.counters.calls += 1;
        let attempts = self.failures.max(self.lane(call.way).attempts);
        self.note_delivered(&call, attempts, moment);
        self.failures = 0;
        self.not_before = None;
        self.lane(call.way).forget_failures();
        if call.is_again {
            self.counters.replayed += call.messages.len() as u64;
        } else {
            call.messages.iter().for_each(|(_, group)| self.books.settle(*group, Cause::Delivered));
        }
        self.pass(call.way, call.is_again, call.last);
        self.has_moved = true;
    }

    /// Records what was delivered: one record for calls that went well one after the other by the same way.
    fn note_delivered(&mut self, call: &InFlight, failed: u32, moment: Moment) {
        let way = (call.way, call.is_again);
        if let Some(Record::Tried { tried, .. }) = self.fresh.last_mut()
            && failed == 0
            && self.delivers == Some(way)
            && !tried.is_dead
        {
            tried.to = call.last;
            tried.count += call.count as u64;
            tried.at_us = moment.stamp.wall_us;
            return;
        }
        let mut tried = self.tried((call.first, call.last), call.count, failed + 1, false, moment);
        if failed == 0 {
            tried.reason.clear();
        }
        self.fresh.push(Record::Tried { destination: self.name.clone(), tried });
        self.delivers = (failed == 0).then_some(way);
    }
}
