//! What the router counts, by cause.

macro_rules! counts {
    ($($(#[doc = $doc:literal])* $variant:ident => $name:literal,)*) => {
        /// One thing that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Count {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Count {
            /// Every count, in the order of its index.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in status and metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

counts! {
    /// Logins accepted.
    LoginsAccepted => "logins_accepted",
    /// Logins refused: unknown UID, wrong key, wrong source, overtaken.
    LoginsRefused => "logins_refused",
    /// Sessions that another login of the same UID took over.
    SessionsReplaced => "sessions_replaced",
    /// Sessions ended because the access list changed.
    SessionsRevoked => "sessions_revoked",
    /// Sessions kept that nobody came back for.
    SessionsExpired => "sessions_expired",
    /// Requests to objects taken from the central.
    CallsStarted => "calls_started",
    /// Answers of objects handed back.
    CallsAnswered => "calls_answered",
    /// Requests to objects answered "not found".
    CallsNotFound => "calls_not_found",
    /// Requests to objects without answer in time.
    CallsTimedOut => "calls_timed_out",
    /// Requests with a tracking number already in use, either direction.
    NumbersAlreadyUsed => "numbers_already_used",
    /// Calls whose HTTP caller went away.
    CallsAbandoned => "calls_abandoned",
    /// Requests of objects taken for the central.
    RequestsStarted => "requests_started",
    /// Answers of the central handed back.
    RequestsAnswered => "requests_answered",
    /// Requests of objects answered "not found".
    RequestsNotFound => "requests_not_found",
    /// Requests of objects without answer in time.
    RequestsTimedOut => "requests_timed_out",
    /// Requests that the webhook did not answer correctly.
    RequestsFailed => "requests_failed",
    /// Responses that nobody awaits from this sender: late, forged or repeated.
    ResponsesUnexpected => "responses_unexpected",
    /// Responses cut to "not valid" because they do not fit their receiver.
    ResponsesShrunk => "responses_shrunk",
    /// Responses whose receiver is gone.
    ResponsesOrphaned => "responses_orphaned",
    /// Datagrams taken.
    TelemetryTaken => "telemetry_taken",
    /// Datagrams with a token that is not valid.
    TelemetryWrongToken => "telemetry_wrong_token",
    /// Datagrams from a network that is not allowed.
    TelemetryWrongSource => "telemetry_wrong_source",
    /// Telemetry of an object whose group may not send any.
    TelemetryNotAllowed => "telemetry_not_allowed",
    /// Payloads longer than the group's limit.
    PayloadTooLarge => "payload_too_large",
    /// Payloads that are not what their format says.
    PayloadNotItsFormat => "payload_not_its_format",
    /// Messages above the group's rate.
    RateExceeded => "rate_exceeded",
    /// Access lists that took effect.
    AccessListsReplaced => "access_lists_replaced",
}

impl Count {
    /// What was refused or went wrong here and is not counted where it came in.
    pub const REFUSALS: &[Self] = &[
        Self::SessionsReplaced,
        Self::SessionsRevoked,
        Self::SessionsExpired,
        Self::NumbersAlreadyUsed,
        Self::RequestsFailed,
        Self::ResponsesUnexpected,
        Self::ResponsesShrunk,
        Self::ResponsesOrphaned,
        Self::PayloadTooLarge,
        Self::PayloadNotItsFormat,
        Self::RateExceeded,
    ];
}

/// A counter for each [`Count`].
#[derive(Debug, Clone, Default)]
pub struct Counts([u64; Count::ALL.len()]);

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, count: Count) {
        if let Some(counter) = self.0.get_mut(count as usize) {
            *counter += 1;
        }
    }

    /// The number counted.
    pub fn get(&self, count: Count) -> u64 {
        self.0.get(count as usize).copied().unwrap_or_default()
    }
}
