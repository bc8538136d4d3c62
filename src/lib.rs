//! iotsocketd: an IoTSocket concentrator for small Linux gateways.
//!
#![doc = include_str!("ARCHITECTURE.md")]

pub mod cli;
pub mod client;
pub mod delivery;
pub mod endpoint;
pub mod hub;
pub mod ingest;
pub mod journal;
pub mod limits;
pub mod logfmt;
pub mod net;
pub mod payload_json;
pub mod router;
pub mod service;
pub mod session;
pub mod sys;
#[cfg(test)]
mod thorough;
pub mod wire;
