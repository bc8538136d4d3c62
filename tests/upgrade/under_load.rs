//! Updates while everybody is busy. How long it takes for them is measured by `cargo bench --bench upgrade`.

use crate::support::crowd::{Crowd, Plan, prepare};
use crate::support::signing::Maker;
use crate::support::{Site, eventually};

/// A small site at work.
const PLAN: Plan = Plan { sessions: 60, datagrams: 300, calls: 60, brought: 20 };

#[test]
fn nothing_is_lost_and_nobody_refused_while_versions_change_under_load() {
    let site = Site::new();
    let maker = Maker::new(4);
    maker.trusted_by(&site);
    let devices = prepare(&site, PLAN);
    site.start();
    let old = site.pid();
    let mut crowd = Crowd::start(&site, PLAN, devices);
    for version in ["1.0.0", "1.0.1", "1.0.2"] {
        let ran = site.run(&["upgrade", maker.good(&site, version).to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        eventually("all sessions are back", || crowd.is_whole());
        let datagrams = crowd.datagrams(&site);
        assert!(datagrams.sent > 0 && datagrams.repeated == 0, "{datagrams:?}");
        assert_eq!(datagrams.lost(), 0, "{datagrams:?}");
        let tally = &crowd.tally;
        let none = (0, String::new());
        for (what, met) in [
            ("connections refused", &tally.refused),
            ("logins broken", &tally.broken),
            ("calls without an answer", &tally.unanswered),
            ("calls that failed", &tally.failed),
        ] {
            assert_eq!(met.take(), none, "{what} at {version}");
        }
        let (acknowledged, lost) = crowd.lost(&site);
        assert!(acknowledged > 0);
        assert_eq!(lost, Vec::<String>::new());
        assert!(tally.gaps.lock().unwrap().len() >= PLAN.sessions, "everybody was told to come back");
        tally.gaps.lock().unwrap().clear();
    }
    drop(crowd);
    site.adopt(old);
}
