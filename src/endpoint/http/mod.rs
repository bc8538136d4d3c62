//! The HTTP API.
//!
//! [`api`] turns request values into replies and knows no socket: the HTTPS server and the local maintenance
//! socket share it. [`server`] owns the sockets: places, TLS, deadlines, framing. [`auth`] knows keys and
//! rights, `routes` is the table of paths, `body` reads what is posted, [`ingest`] takes what partner
//! networks bring, `messages` and `events` give what was recorded, `metrics` writes Prometheus
//! text, `console` has the page, [`steering`] what
//! operators do with subscribers.
//!
//! Refusals come in one order, see [`api::Api::judge`]; each is counted by cause and told in the log.

pub mod acts;
pub mod api;
mod audited;
pub mod auth;
mod body;
mod commands;
mod console;
mod error;
mod events;
mod framing;
mod guarded;
mod head_timer;
pub mod ingest;
mod messages;
mod metrics;
mod query;
mod reply;
mod routes;
pub mod server;
pub mod steering;

pub use error::{ApiError, Cause};
pub use messages::{Follow, Recall};
pub use reply::Reply;
