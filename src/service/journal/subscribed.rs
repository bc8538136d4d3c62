//! What became of a message at subscribers: in memory while it is to come, on flash when it came to its end.

use std::sync::Weak;

use super::seen::Seen;
use crate::delivery::subscriber::{LastFailure, Subscriber};
use crate::hub::Hub;
use crate::hub::history::{Kind, MessageView, Outcome, State, TraceEvent};
use crate::journal::error::JournalError;
use crate::journal::reader::Reader;
use crate::journal::record::{Record, Tried};
use crate::journal::state::Small;
use crate::service::disk::Disk;

/// A subscriber that gets a message.
struct Destination {
    name: String,
    /// The attempt that failed last, if it was one of this message.
    failure: Option<LastFailure>,
    /// Why nothing goes out to it now, if this message waits for that.
    stopped: Option<Stopped>,
}

/// Why nothing goes out to a subscriber.
struct Stopped {
    since_us: i64,
    reason: String,
}

/// A message is delivered when every destination has it, and dead if one of them never took it.
pub fn add_states(hub: &Weak<Hub>, messages: &mut [MessageView]) {
    let Some(hub) = hub.upgrade() else { return };
    hub.look_at_subscribers(|subscribers| {
        for message in messages.iter_mut().filter(|message| may_change(message)) {
            for (_, subscriber) in subscribers.iter() {
                if !gets(subscriber, message) {
                    continue;
                }
                if subscriber.lacks(message.seq, message.group, message.kind) {
                    message.state = State::Waiting;
                } else if message.state == State::Delivered && subscriber.dead().contains(message.seq) {
                    message.state = State::Dead;
                }
            }
        }
    });
}

fn may_change(message: &MessageView) -> bool {
    message.kind == Kind::Telemetry && matches!(message.state, State::Waiting | State::Delivered)
}

fn gets(subscriber: &Subscriber, message: &MessageView) -> bool {
    subscriber.filter().takes_of(message.group, message.kind)
}

/// What subscribers had to do with a message so far.
pub fn events(
    reader: &mut Reader<Disk>,
    seen: &Seen,
    hub: &Weak<Hub>,
    message: &MessageView,
) -> Result<Vec<TraceEvent>, JournalError> {
    let Some(hub) = hub.upgrade() else { return Ok(Vec::new()) };
    let destinations: Vec<_> = hub.look_at_subscribers(|subscribers| {
        let those = subscribers.iter().filter(|(_, subscriber)| gets(subscriber, message));
        let those = those.map(|(name, subscriber)| {
            let lacks = subscriber.lacks(message.seq, message.group, message.kind);
            let last = subscriber.last_failure().filter(|_| lacks);
            let is_of_this = |failure: &&LastFailure| (failure.first..=failure.last).contains(&message.seq);
            let stopped = last.and_then(|failure| stopped(name, subscriber, failure, is_of_this(&failure)));
            Destination { name: name.to_owned(), failure: last.filter(is_of_this).cloned(), stopped }
        });
        those.collect()
    });
    let mut events = Vec::new();
    for Destination { name, failure, stopped } in destinations {
        if let Some(tried) = end_at(reader, seen, &name, message.seq)? {
            events.extend(of_tried(&name, &tried));
            continue;
        }
        if let Some(failure) = failure {
            let of = |what| of(what, &name, failure.attempt, failure.at_us, None);
            events.push(of(Outcome::Sent));
            events.push(TraceEvent { reason: Some(failure.reason.clone()), ..of(Outcome::Refused) });
        }
        if let Some(Stopped { since_us, reason }) = stopped {
            let (to, reason) = (Some(name), Some(reason));
            events.push(TraceEvent { to, reason, ..TraceEvent::new(Outcome::Stopped, since_us) });
        }
    }
    Ok(events)
}

/// Why nothing goes out to a subscriber, as a message that waits for it is told. `is_of_it`: the last attempt brought this
/// message, which tells as much as that attempts fail.
fn stopped(name: &str, subscriber: &Subscriber, last: &LastFailure, is_of_it: bool) -> Option<Stopped> {
    let LastFailure { at_us, reason, first, .. } = last;
    let reason = match (subscriber.is_suspended(), subscriber.is_failing() && !is_of_it) {
        (true, _) => format!("{reason}: `iotsocketd replay {name}`, a reload or a restart goes on"),
        (false, true) => format!("{first} is tried first, and fails: {reason}"),
        (false, false) => return None,
    };
    Some(Stopped { since_us: *at_us, reason })
}

/// How it came to its end at a subscriber, if it did.
fn end_at(
    reader: &mut Reader<Disk>,
    seen: &Seen,
    name: &str,
    seq: u64,
) -> Result<Option<Tried>, JournalError> {
    let is_over = |small: &Small| {
        let is_behind = small.behind.get(name).is_some_and(|behind| behind.backlog.contains(seq));
        !is_behind && small.cursors.get(name).is_some_and(|cursor| seq <= cursor.up_to)
    };
    let found = reader.first_note(&seen.catalog, seq, is_over, |record| match record {
        Record::Tried { destination, tried }
            if destination == name && (tried.from..=tried.to).contains(&seq) =>
        {
            Some(tried)
        }
        _ => None,
    })?;
    Ok(found.map(|(tried, _)| tried))
}

fn of_tried(name: &str, tried: &Tried) -> Vec<TraceEvent> {
    let Tried { attempts, is_dead, at_us, reason, .. } = tried;
    let failed = if *is_dead { *attempts } else { attempts.saturating_sub(1) };
    let mut events = Vec::new();
    if failed > 0 {
        events.push(of(Outcome::Refused, name, failed, *at_us, Some(reason.clone())));
    }
    if *is_dead {
        let reason = Some("it was given up, and is a dead letter".to_owned());
        events.push(of(Outcome::Dropped, name, *attempts, *at_us, reason));
    } else {
        events.push(of(Outcome::Sent, name, *attempts, *at_us, None));
        events.push(of(Outcome::Delivered, name, *attempts, *at_us, None));
    }
    events
}

fn of(what: Outcome, name: &str, attempt: u32, time_us: i64, reason: Option<String>) -> TraceEvent {
    let (to, attempt) = (Some(name.to_owned()), Some(attempt));
    TraceEvent { to, attempt, reason, ..TraceEvent::new(what, time_us) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_with_its_attempts() {
        let tried = |attempts, is_dead| {
            let reason = "it answered status 500".to_owned();
            Tried { from: 1, to: 2, count: 2, attempts, is_dead, at_us: 5, reason }
        };
        let told = |attempts, is_dead| {
            let events = of_tried("erp", &tried(attempts, is_dead)).into_iter();
            events.map(|event| (event.event, event.attempt.unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(told(1, false), [(Outcome::Sent, 1), (Outcome::Delivered, 1)]);
        assert_eq!(told(3, false), [(Outcome::Refused, 2), (Outcome::Sent, 3), (Outcome::Delivered, 3)]);
        assert_eq!(told(3, true), [(Outcome::Refused, 3), (Outcome::Dropped, 3)]);
    }
}
