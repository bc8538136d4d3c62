//! The other end of the protocol: logins, sessions, telemetry and API calls, as `simulate`, `demo`, benchmarks and
//! end-to-end tests need them.
//!
//! - [`login`] leads from an address and a key to a connection on which a session lives;
//! - [`drive`] runs a session by callbacks, for thousands at once; [`Talk`] runs one step by step;
//! - [`datagram`] sends telemetry, many datagrams in a system call;
//! - [`http`] calls the API over a kept connection;
//! - [`load`] puts them together to objects, a central and callers that measure what they do.

pub mod datagram;
pub mod http;
pub mod load;

mod connect;
mod counters;
mod histogram;
mod session;
mod talk;
mod tls;

#[cfg(test)]
pub(crate) mod fake;

pub use connect::{Login, LoginError, Stream, login, open};
pub use counters::{Counters, Kind, Snapshot};
pub use histogram::{Distribution, Histogram};
pub use session::{End, Handler, Outbox, SessionError, drive};
pub use talk::{Talk, upload_acl};
pub use tls::{Tls, TlsError};
