//! What a load counts and measures, readable while it runs.

use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::{Distribution, Histogram};

/// Everything that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Logins that led to a session.
    LoggedIn,
    /// Requests to objects that were sent.
    Called,
    /// Requests to objects that were answered rightly.
    Answered,
    /// Requests that objects sent to the central.
    Asked,
    /// Requests of objects that were answered with code 0x00.
    AskAnswered,
    /// Telemetry datagrams that left the socket.
    TelemetrySent,
    /// Telemetry that arrived at the central.
    TelemetryReceived,
    /// Logins that the concentrator refused: UID or key.
    LoginRefused,
    /// Logins that failed otherwise.
    LoginFailed,
    /// Sessions that ended before the load did.
    SessionLost,
    /// Requests to objects answered 0xA0.
    CallNotFound,
    /// Requests to objects answered 0xA1.
    CallTimedOut,
    /// Requests to objects answered with any other code than 0x00.
    CallOtherCode,
    /// Answers that are not what was asked, or to nothing that was asked.
    CallWrong,
    /// API calls that failed: connection, status or body.
    ApiFailed,
    /// Requests of objects answered with another code than 0x00.
    AskFailed,
    /// Telemetry that the own socket did not take.
    TelemetryFailed,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::LoggedIn,
        Self::Called,
        Self::Answered,
        Self::Asked,
        Self::AskAnswered,
        Self::TelemetrySent,
        Self::TelemetryReceived,
        Self::LoginRefused,
        Self::LoginFailed,
        Self::SessionLost,
        Self::CallNotFound,
        Self::CallTimedOut,
        Self::CallOtherCode,
        Self::CallWrong,
        Self::ApiFailed,
        Self::AskFailed,
        Self::TelemetryFailed,
    ];

    /// A name for tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::LoggedIn => "logged_in",
            Self::Called => "calls_sent",
            Self::Answered => "calls_answered",
            Self::Asked => "object_requests_sent",
            Self::AskAnswered => "object_requests_answered",
            Self::TelemetrySent => "telemetry_sent",
            Self::TelemetryReceived => "telemetry_received",
            Self::LoginRefused => "login_refused",
            Self::LoginFailed => "login_failed",
            Self::SessionLost => "session_lost",
            Self::CallNotFound => "call_not_found",
            Self::CallTimedOut => "call_timed_out",
            Self::CallOtherCode => "call_other_code",
            Self::CallWrong => "call_wrong_answer",
            Self::ApiFailed => "api_call_failed",
            Self::AskFailed => "object_request_failed",
            Self::TelemetryFailed => "telemetry_not_sent",
        }
    }

    /// Whether a load without trouble leaves this at zero.
    pub fn is_error(self) -> bool {
        self as usize >= Self::LoginRefused as usize
    }
}

/// Counters and histograms that all threads of a load share.
#[derive(Default)]
pub struct Counters {
    counts: [AtomicU64; Kind::ALL.len()],
    first_errors: Mutex<[Option<String>; Kind::ALL.len()]>,
    /// From the sending of a request to an object until its answer.
    pub calls: Histogram,
    /// From the sending of an object's request until its answer.
    pub asks: Histogram,
    /// From the start of connecting to the verdict.
    pub logins: Histogram,
}

/// What [`Counters`] held at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Time since the load's measurement began.
    pub elapsed: Duration,
    /// Objects logged in now.
    pub online: usize,
    /// See [`Counters::calls`].
    pub calls: Distribution,
    /// See [`Counters::asks`].
    pub asks: Distribution,
    /// See [`Counters::logins`].
    pub logins: Distribution,
    counts: [u64; Kind::ALL.len()],
    first_errors: [Option<String>; Kind::ALL.len()],
}

impl Counters {
    /// Counts so many more.
    pub fn add(&self, kind: Kind, more: u64) {
        if let Some(count) = self.counts.get(kind as usize) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Counts one error, and keeps what the first one of its kind said.
    pub fn fail(&self, kind: Kind, error: &dyn Error) {
        self.add(kind, 1);
        let mut first_errors = self.first_errors.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(first @ None) = first_errors.get_mut(kind as usize) {
            *first = Some(chain(error));
        }
    }

    /// How many there are now.
    pub fn get(&self, kind: Kind) -> u64 {
        self.counts.get(kind as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Everything at this moment. What is counted meanwhile may be in one number and not yet in another.
    pub fn snapshot(&self, elapsed: Duration, online: usize) -> Snapshot {
        let first_errors = self.first_errors.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        Snapshot {
            elapsed,
            online,
            calls: self.calls.distribution(),
            asks: self.asks.distribution(),
            logins: self.logins.distribution(),
            counts: Kind::ALL.map(|kind| self.get(kind)),
            first_errors,
        }
    }
}

impl Snapshot {
    /// How many there were.
    pub fn get(&self, kind: Kind) -> u64 {
        self.counts.get(kind as usize).copied().unwrap_or(0)
    }

    /// How many there were in each second of [`Snapshot::elapsed`].
    pub fn per_second(&self, kind: Kind) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.get(kind) as f64 / seconds } else { 0.0 }
    }

    /// The errors that there were: kind, count, and what the first one said if it said something.
    pub fn errors(&self) -> impl Iterator<Item = (Kind, u64, Option<&str>)> {
        let kinds = Kind::ALL.into_iter().zip(self.counts).zip(&self.first_errors);
        kinds
            .filter(|((kind, count), _)| kind.is_error() && *count > 0)
            .map(|((kind, count), first)| (kind, count, first.as_deref()))
    }

    /// What happened after `earlier`, a former state of the same counters.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        for (count, before) in counts.iter_mut().zip(earlier.counts) {
            *count = count.saturating_sub(before);
        }
        Self {
            elapsed: self.elapsed.saturating_sub(earlier.elapsed),
            online: self.online,
            calls: self.calls.since(&earlier.calls),
            asks: self.asks.since(&earlier.asks),
            logins: self.logins.since(&earlier.logins),
            counts,
            first_errors: self.first_errors.clone(),
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbered_in_their_order_and_errors_come_last() {
        assert!(Kind::ALL.iter().enumerate().all(|(index, kind)| *kind as usize == index));
        let first_error = Kind::ALL.iter().position(|kind| kind.is_error()).unwrap();
        assert!(Kind::ALL[first_error..].iter().all(|kind| kind.is_error()));
        assert!(!Kind::TelemetryReceived.is_error());
    }

    #[test]
    fn errors_are_told_with_the_first_text_of_each_kind() {
        let counters = Counters::default();
        counters.add(Kind::LoggedIn, 3);
        counters.fail(Kind::LoginFailed, &std::io::Error::other("the first"));
        counters.fail(Kind::LoginFailed, &std::io::Error::other("the second"));
        counters.add(Kind::CallWrong, 1);
        let snapshot = counters.snapshot(Duration::from_secs(2), 1);
        let errors: Vec<_> = snapshot.errors().collect();
        assert_eq!(errors, [(Kind::LoginFailed, 2, Some("the first")), (Kind::CallWrong, 1, None)]);
        assert_eq!(snapshot.per_second(Kind::LoggedIn), 1.5);
    }

    #[test]
    fn a_difference_counts_only_what_came_after() {
        let counters = Counters::default();
        counters.add(Kind::Answered, 3);
        let before = counters.snapshot(Duration::from_secs(1), 1);
        counters.add(Kind::Answered, 4);
        let difference = counters.snapshot(Duration::from_secs(3), 1).since(&before);
        assert_eq!((difference.get(Kind::Answered), difference.per_second(Kind::Answered)), (4, 2.0));
    }
}
