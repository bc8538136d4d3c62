//! The proof of the journal: no acknowledged record is missing or changed, none is invented, and order and numbers hold,
//! wherever the power, the process or the medium fails.
//!
//! `cargo test` runs a slice. `IOTSOCKETD_IMAGES=1000000` recovers from at least so many images of failures (a build with
//! `CARGO_PROFILE_DEV_OPT_LEVEL=1` does it in minutes), `IOTSOCKETD_SEED=7` runs that seed alone and all of it.
#![cfg(test)]

#[path = "../support/medium/mod.rs"]
mod medium;

mod copies;
mod damage;
mod faults;
mod model;
mod power;
mod subject;
mod workload;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use damage::{AtRest, Damages};
use faults::Tried;
use power::Count;

/// Images that the slice recovers from, at least.
const SLICE: u64 = 5_000;
/// Steps of a workload: enough to fill several segments.
const STEPS: usize = 60;
/// In the slice, of how many first failures one is followed by a second.
const SECOND_IN_SLICE: usize = 25;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.replace('_', "").parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn with_seed<T>(seed: u64, what: &str, result: Result<T, String>) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error} (IOTSOCKETD_SEED={seed} runs it again)"))
}

/// Runs seeds on every core until enough was done.
fn each_seed(enough: impl Fn() -> bool + Sync, run: impl Fn(u64) + Sync) {
    if let Some(seed) = number("IOTSOCKETD_SEED") {
        return run(seed);
    }
    let next = AtomicU64::new(1);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !enough() {
                    run(next.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
    });
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_fails() {
    let begun = Instant::now();
    let wanted = number("IOTSOCKETD_IMAGES");
    let whole = wanted.is_some() || number("IOTSOCKETD_SEED").is_some();
    let again = if whole { 1 } else { SECOND_IN_SLICE };
    let done = AtomicU64::new(0);
    let total = std::sync::Mutex::new((0_u64, Count::default()));
    each_seed(
        || done.load(Ordering::Relaxed) >= wanted.unwrap_or(SLICE),
        |seed| {
            let run = with_seed(seed, "the workload", workload::run(seed, workload::steps(seed, STEPS)));
            let count = with_seed(seed, "power failure", power::fail_everywhere(&run, seed, again));
            done.fetch_add(count.all(), Ordering::Relaxed);
            let mut total = total.lock().unwrap();
            total.0 += 1;
            total.1 += count;
        },
    );
    let (seeds, count) = *total.lock().unwrap();
    println!(
        "{seeds} workloads, {count}, by {} ways of losing and kill, in {:.1} s",
        power::losses(),
        begun.elapsed().as_secs_f32()
    );
    assert!(count.first > 0 && count.second > 0);
}

#[test]
fn nothing_is_lost_or_acknowledged_falsely_wherever_the_medium_fails() {
    let begun = Instant::now();
    let whole = number("IOTSOCKETD_IMAGES").is_some() || number("IOTSOCKETD_SEED").is_some();
    let of = if whole { 1 } else { 30 };
    let seeds = if whole { 8 } else { 2 };
    let total = std::sync::Mutex::new(Tried::default());
    let started = AtomicU64::new(0);
    each_seed(
        || started.fetch_add(1, Ordering::Relaxed) >= seeds,
        |seed| {
            let mut tried = with_seed(seed, "one fault", faults::fail_everything(seed, STEPS, of));
            tried += with_seed(seed, "two faults", faults::fail_twice(seed, STEPS, of));
            *total.lock().unwrap() += tried;
        },
    );
    let tried = *total.lock().unwrap();
    println!(
        "{} workloads with failures, {} of them ended read-only; {}; in {:.1} s",
        tried.workloads,
        tried.read_only,
        tried.images,
        begun.elapsed().as_secs_f32()
    );
    assert!(tried.workloads > 100 && tried.read_only > 0);
}

#[test]
fn archives_and_backups_are_whole_wherever_the_power_fails() {
    let begun = Instant::now();
    let whole = number("IOTSOCKETD_IMAGES").is_some() || number("IOTSOCKETD_SEED").is_some();
    let (seeds, again) = if whole { (50, 2) } else { (2, SECOND_IN_SLICE) };
    let total = std::sync::Mutex::new(Count::default());
    let started = AtomicU64::new(0);
    each_seed(
        || started.fetch_add(1, Ordering::Relaxed) >= seeds,
        |seed| {
            let mut count = with_seed(seed, "the archive", copies::archive_everywhere(seed, STEPS, again));
            count += with_seed(seed, "the backup", copies::backup_everywhere(seed, STEPS));
            *total.lock().unwrap() += count;
        },
    );
    let count = *total.lock().unwrap();
    println!("archives and backups: {count}, in {:.1} s", begun.elapsed().as_secs_f32());
    assert!(count.first > 0 && count.second > 0);
}

#[test]
fn damage_of_what_was_synced_is_told_and_harms_no_neighbour() {
    let begun = Instant::now();
    let whole = number("IOTSOCKETD_IMAGES").is_some() || number("IOTSOCKETD_SEED").is_some();
    let seed = number("IOTSOCKETD_SEED").unwrap_or(1);
    let at_rest = with_seed(seed, "the workload", AtRest::new(seed, STEPS));
    let sealed = at_rest.sealed();
    assert!(!sealed.is_empty(), "no segment of the workload is sealed");
    // A prime, so that every bit of a byte has its turn.
    let (bits, bytes) = if whole { (1, 1) } else { (29, 29) };
    let mut sum = Damages::default();
    for name in if whole { &sealed[..] } else { &sealed[..1] } {
        sum += with_seed(seed, "a bit", at_rest.flip_bits(name, bits));
        sum += with_seed(seed, "a block", at_rest.mix_blocks(name, seed));
        sum += with_seed(seed, "a header", at_rest.mix_headers(name));
        sum += with_seed(seed, "a cut", at_rest.truncate(name, bytes));
        sum += with_seed(seed, "a file", at_rest.without(name));
    }
    let Damages { all, unnoticed, costly } = sum;
    println!(
        "{all} damaged copies: {costly} cost a batch, {unnoticed} were not noticed; in {:.1} s",
        begun.elapsed().as_secs_f32()
    );
    assert_eq!(unnoticed, 0, "every byte of a sealed segment is looked at");
}
