//! The decided rules of the protocol that the router holds, one short test each.
#![cfg(test)]

mod bench;
mod calls;
#[path = "../support/effects.rs"]
mod effects;
mod handover;
mod records;
mod requests;
mod restarts;
mod sessions;
mod telemetry;
