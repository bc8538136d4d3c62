//! Everybody comes back at once.

use crate::support::crowd::{Crowd, Plan, prepare};
use crate::support::{Site, eventually};

/// A site at work.
const PLAN: Plan = Plan { sessions: 150, datagrams: 50, calls: 20, brought: 20 };
const KILLS: usize = 3;

/// All have their sessions again, and what was acknowledged to the partner network is there.
#[test]
fn everybody_comes_back_after_a_kill_and_what_was_acknowledged_is_there() {
    let site = Site::new();
    let devices = prepare(&site, PLAN);
    site.start();
    let crowd = Crowd::start(&site, PLAN, devices);
    for _ in 0..KILLS {
        eventually("something is acknowledged", || !crowd.tally.acknowledged.lock().unwrap().is_empty());
        site.kill();
        eventually("everybody notices", || !crowd.is_whole());
        site.start();
        eventually("all sessions are back", || crowd.is_whole());
        let (acknowledged, lost) = crowd.lost(&site);
        assert!(acknowledged > 0);
        assert_eq!(lost, Vec::<String>::new());
        assert!(site.memory_kib() < 64 * 1024, "{} KiB", site.memory_kib());
    }
}
