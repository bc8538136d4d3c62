//! Webhooks to the central: objects' requests, telemetry and results of queued commands.
//!
//! A fixed set of threads runs what [`Lanes`](crate::delivery::lanes::Lanes) says: one job in flight per object and webhook,
//! a bounded share of the threads per webhook, so that one that hangs delays only itself. Every attempt
//! ends by its deadline, whatever the other side does, and takes bounded memory: redirects are failures,
//! bodies are read to a limit, certificates are always verified.
//!
//! Outcomes come back through [`Outcomes`], never with a lock of the pool held.

mod client;
mod link;
mod message;
mod network;
mod pool;
mod settings;
mod signed;
mod upload;

use core::fmt;
use std::time::Duration;

pub use link::Webhooks;
pub use message::parse_answer;
pub use pool::Pool;
pub use settings::{Settings, SettingsError};
pub use signed::{Secrets, Signed, SignedClient};
pub use upload::upload;

use crate::delivery::lanes;
use crate::wire::Format;

/// Threads that call webhooks, for all of them together.
pub const WEBHOOK_THREADS: usize = 16;

// Every webhook can have its share at the same time.
const _: () = assert!(lanes::Destination::ALL.len() * lanes::SHARE <= WEBHOOK_THREADS);

/// What an object's request was answered.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The response code.
    pub code: u8,
    /// How the payload is meant to be read.
    pub format: Format,
    /// The payload, at most 65,535 bytes.
    pub payload: Vec<u8>,
}

/// Payloads are not for logs.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer(code {}, {}, {} bytes)", self.code, self.format.name(), self.payload.len())
    }
}

/// Why a webhook did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Its name has no address.
    Resolve,
    /// Its name leads to a private address that the configuration does not name.
    Private,
    /// No connection.
    Connect,
    /// TLS failed, most often a certificate that is not trusted.
    Tls,
    /// Not done in time.
    Timeout,
    /// The connection ended in the middle.
    Disconnected,
    /// What came back is not HTTP.
    Protocol,
    /// A status that is neither 2xx nor 3xx.
    Status(u16),
    /// A redirect, which is never followed.
    Redirect(u16),
    /// The body is longer than allowed.
    TooLarge,
    /// The body is not an answer.
    Garbage,
    /// Not tried: the time was up while it waited for its turn.
    Expired,
    /// Not tried: the webhook failed a moment ago.
    Shut,
    /// Not tried: the webhook is not configured any more, or the program stops.
    Gone,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve => f.write_str("its name has no address: check the URL and the name server"),
            Self::Private => f.write_str(
                "its name leads to a private address: write the address into the URL, or its network into allow_to",
            ),
            Self::Connect => {
                f.write_str("no connection: check that it runs and that the network lets us through")
            }
            Self::Tls => f.write_str("TLS failed: check its certificate and ca_file"),
            Self::Timeout => f.write_str("it did not answer in time"),
            Self::Disconnected => f.write_str("it closed the connection before its answer was whole"),
            Self::Protocol => f.write_str("it does not speak HTTP/1.1"),
            Self::Status(status) => write!(f, "it answered status {status}"),
            Self::Redirect(status) => write!(f, "it redirects with status {status}: configure the final URL"),
            Self::TooLarge => f.write_str("its answer is longer than max_body"),
            Self::Garbage => f.write_str("its answer is not an object with Code, Payload and Format"),
            Self::Expired => f.write_str("the time was up before its turn came"),
            Self::Shut => f.write_str("it failed a moment ago"),
            Self::Gone => f.write_str("it is not configured any more, or the program stops"),
        }
    }
}

impl core::error::Error for Failure {}

/// Why the pool does not take a job. The caller keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// As many jobs wait as may.
    Full,
    /// The webhook failed a moment ago (requests only).
    Shut,
    /// There is no such webhook.
    NotConfigured,
    /// The pool stops.
    Stopping,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too much waits for the webhook",
            Self::Shut => "the webhook failed a moment ago",
            Self::NotConfigured => "the webhook is not configured",
            Self::Stopping => "the program stops",
        })
    }
}

impl core::error::Error for Refused {}

/// Where outcomes go. Called from the pool's threads and from those that call the pool, without a lock held.
/// What the central took comes in the order of the object; a request that was never tried may overtake.
pub trait Outcomes: Send + Sync {
    /// The request with this ticket has its answer, or never gets one. Called once per accepted request.
    fn answered(&self, ticket: u64, answer: Result<Answer, Failure>);
    /// The telemetry with this number was taken by the central.
    fn telemetry_delivered(&self, seq: u64);
    /// The telemetry with this number was in flight when [`Pool::clear_telemetry`] was called, and failed; or it
    /// waited when its webhook was taken out of the configuration.
    fn telemetry_forgotten(&self, seq: u64);
    /// There is room for telemetry again, after [`Pool::room`] was 0 or telemetry was refused.
    fn telemetry_room(&self);
    /// The result with this number was taken by the central.
    fn result_delivered(&self, seq: u64);
}

/// Failed attempts by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Causes {
    /// [`Failure::Resolve`] and [`Failure::Private`].
    pub resolve: u64,
    /// [`Failure::Connect`].
    pub connect: u64,
    /// [`Failure::Tls`].
    pub tls: u64,
    /// [`Failure::Timeout`].
    pub timeout: u64,
    /// [`Failure::Disconnected`].
    pub disconnected: u64,
    /// [`Failure::Protocol`].
    pub protocol: u64,
    /// [`Failure::Status`].
    pub status: u64,
    /// [`Failure::Redirect`].
    pub redirect: u64,
    /// [`Failure::TooLarge`].
    pub too_large: u64,
    /// [`Failure::Garbage`].
    pub garbage: u64,
}

impl Causes {
    fn count(&mut self, failure: Failure) {
        let counter = match failure {
            Failure::Resolve | Failure::Private => &mut self.resolve,
            Failure::Connect => &mut self.connect,
            Failure::Tls => &mut self.tls,
            Failure::Timeout => &mut self.timeout,
            Failure::Disconnected => &mut self.disconnected,
            Failure::Protocol => &mut self.protocol,
            Failure::Status(_) => &mut self.status,
            Failure::Redirect(_) => &mut self.redirect,
            Failure::TooLarge => &mut self.too_large,
            Failure::Garbage => &mut self.garbage,
            // Not attempts; the schedule counts them.
            Failure::Expired | Failure::Shut | Failure::Gone => return,
        };
        *counter += 1;
    }
}

/// What one webhook did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WebhookCounters {
    /// What the schedule counts: delivered, failed, expired, refused.
    pub jobs: lanes::Counters,
    /// Failed attempts by cause.
    pub causes: Causes,
    /// Attempts that sent a payload as BINARY because it is not what its format says.
    pub sent_as_binary: u64,
    /// Whether it fails right now.
    pub is_failing: bool,
}

/// What all webhooks did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// The request webhook.
    pub request: WebhookCounters,
    /// The telemetry webhook.
    pub telemetry: WebhookCounters,
    /// The result webhook.
    pub result: WebhookCounters,
}

/// Which webhooks fail right now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failing {
    /// The request webhook.
    pub request: bool,
    /// The telemetry webhook.
    pub telemetry: bool,
    /// The result webhook.
    pub result: bool,
}

/// An attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// Why.
    pub failure: Failure,
    /// How long the webhook asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, retry_after: None }
    }
}

impl Failed {
    /// What the schedule should make of it: some failures tell of one message and not of the webhook.
    pub(super) fn outcome(self) -> lanes::Outcome {
        match self.failure {
            Failure::Garbage | Failure::Status(400 | 409 | 413 | 415 | 422) => lanes::Outcome::Rejected,
            _ => lanes::Outcome::Failed { retry_after: self.retry_after },
        }
    }
}
