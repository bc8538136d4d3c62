//! A site to try the real program on: its folder, its process, and everybody who speaks with it.
#![allow(dead_code, unused_imports, reason = "each test that includes this uses a part of it")]

mod authority;
pub mod chaos;
pub mod crowd;
pub mod forged;
mod hooks;
mod http;
pub mod network;
mod peer;
pub mod receiver;
pub mod signing;
mod site;
pub mod slow;

use std::time::{Duration, Instant};

pub use authority::{Authority, authority};
pub use hooks::{Act, Hook, Hooks};
pub use http::{Http, Reply};
pub use peer::{Peer, Said, request, response};
pub use site::{Device, PROGRAM, Ran, Site, iotsocketd};

/// Nothing that is awaited takes longer.
pub const PATIENCE: Duration = Duration::from_secs(25);

/// Looks until it is so.
pub fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    within(PATIENCE, what, is_so);
}

/// The same with a patience of its own, for what thousands have to do.
pub fn within(patience: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
