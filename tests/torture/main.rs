//! The network does its worst while everybody works: see `README.md` beside this.
//!
//! `IOTSOCKETD_RUNS` says how many logins objects try over bad links, `IOTSOCKETD_SOAK` how many seconds everything goes on at
//! once, `IOTSOCKETD_FULL=1` makes the other suites as large as the plan has them, `IOTSOCKETD_SEED` repeats a run.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod endpoints;
mod floods;
mod herd;
mod links;
mod lists;
mod partitions;
mod scarce;
mod soak;
mod storms;
mod watch;

/// A number from the environment.
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Whether everything is to be as large and as long as the plan has it.
fn is_full() -> bool {
    variable("IOTSOCKETD_FULL").is_some_and(|full| full != 0)
}

/// The seed of this run, which is told.
fn seed() -> u64 {
    let seed = variable("IOTSOCKETD_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("IOTSOCKETD_SEED={seed}");
    seed
}
