//! What the router promises, held in many random worlds: lossy peers, slow readers, logins on top of each other,
//! forged answers, lists and settings that change, jumps of time.
//!
//! `IOTSOCKETD_RUNS` sets how many worlds are tried, `IOTSOCKETD_SEED` tries one; a failure names its seed.
#![cfg(test)]

#[path = "support/effects.rs"]
mod effects;
#[path = "support/world/mod.rs"]
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use world::World;

const STEPS: usize = 2_500;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}

#[test]
fn every_promise_holds_in_every_world() {
    if let Some(seed) = number("IOTSOCKETD_SEED") {
        return World::new(seed).run(STEPS);
    }
    let runs = number("IOTSOCKETD_RUNS").unwrap_or(300);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let seed = next.fetch_add(1, Ordering::Relaxed)
                    && seed < runs
                {
                    World::new(seed).run(STEPS);
                }
            });
        }
    });
}
