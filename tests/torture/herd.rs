//! Everybody comes back at once.

use std::time::Duration;

use crate::is_full;
use crate::support::crowd::{Crowd, Plan, prepare};
use crate::support::{Site, eventually, within};
use crate::watch::{Bounds, tell, watched};

/// A site at work: a part of `cargo test`, and all of it.
const PLANS: [Plan; 2] = [
    Plan { sessions: 300, datagrams: 50, calls: 20, brought: 20 },
    Plan { sessions: 10_000, datagrams: 200, calls: 50, brought: 50 },
];
const KILLS: usize = 3;
/// There is a place for one of so many who are on their way to their login: about as the defaults have it for the largest herd.
const PLACE_FOR: usize = 10;
/// All have their sessions again within this time.
const BACK_MAX: Duration = Duration::from_secs(90);

/// All have their sessions again, and what was acknowledged to the partner network is there.
#[test]
fn everybody_comes_back_after_a_kill_and_what_was_acknowledged_is_there() {
    println!("seed: none, nothing is random");
    let plan = PLANS[usize::from(is_full())];
    let site = Site::new();
    site.set("sessions", "max_connections", "15000");
    site.set("sessions", "max_unauthenticated", &(plan.sessions / PLACE_FOR).to_string());
    let devices = prepare(&site, plan);
    site.start();
    let bounds = Bounds { memory_kib: 64 * 1024 + plan.sessions as u64 * 24, files: plan.sessions + 400 };
    let ((), seen) = watched(&site, bounds, |watch| {
        let crowd = Crowd::start(&site, plan, devices);
        for _ in 0..KILLS {
            eventually("something is acknowledged", || !crowd.tally.acknowledged.lock().unwrap().is_empty());
            crowd.tally.gaps.lock().unwrap().clear();
            site.kill();
            eventually("everybody notices", || !crowd.is_whole());
            site.start();
            within(BACK_MAX, "all sessions are back", || {
                watch.check();
                crowd.is_whole() && site.number("/sessions/live") == plan.sessions as u64
            });
            tell("back", &mut crowd.tally.gaps.lock().unwrap());
            let (acknowledged, lost) = crowd.lost(&site);
            assert!(acknowledged > 0);
            assert_eq!(lost, Vec::<String>::new());
            let (refused, first) = crowd.tally.broken.take();
            println!("{acknowledged} receipts kept; told to come again: {refused}, {first}");
        }
    });
    println!("{} KiB and {} files at most", seen.memory_kib, seen.files);
}
