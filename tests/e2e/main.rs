//! The real program over real sockets: TLS, UDP, HTTPS and webhooks, as users have them.
//!
//! Each test has a site of its own: a folder made by `init`, an address of its own in 127.0.0.0/8, and a process. At
//! the end of each, the process must stop by SIGTERM in time and with exit 0, and no key or token may stand in its log.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod again;
mod alert_rules;
mod alerts;
mod audit;
mod bad_ingest;
mod bad_input;
mod environments;
mod expecting;
mod in_between;
mod ingest;
mod networks;
mod operation;
mod quarantine;
mod queued;
mod sessions;
mod slow_and_many;
mod sources;
mod story;
mod subscribers;
mod undisturbed;
mod unruly;
mod webhooks;
