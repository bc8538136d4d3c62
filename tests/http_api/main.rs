//! The HTTPS API over real loopback sockets, with a hub that the tests play.
#![cfg(test)]

mod calls;
mod commands;
mod console;
mod deadlines;
mod fake_history;
mod fake_intake;
mod framing;
mod ingest;
mod local;
mod messages;
mod over_tls;
mod queued;
mod refusals;
mod stream;
mod world;
