//! What was acknowledged stays, whatever happens: the real program over real sockets and files.
//!
//! `IOTSOCKETD_RUNS` says how often it is killed, `IOTSOCKETD_SEED` repeats a run. The faults of the medium and the kills
//! at the n-th write are made by strace.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod central;
mod clock;
mod damaged;
mod faults;
mod first_start;
mod gone;
mod groups;
mod kills;
mod ledger;
mod load;
mod story;
mod ways;
