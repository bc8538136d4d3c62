//! The network does its worst while everybody works: see `README.md` beside this.
//!
//! `IOTSOCKETD_RUNS` says how many logins objects try over bad links, `IOTSOCKETD_SEED` repeats a run.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod floods;
mod herd;
mod links;

/// A number from the environment.
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// The seed of this run, which is told.
fn seed() -> u64 {
    let seed = variable("IOTSOCKETD_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("IOTSOCKETD_SEED={seed}");
    seed
}
