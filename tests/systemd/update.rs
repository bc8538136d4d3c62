//! What the service manager is told of an update: whose the service is, by who is the main process, and when that is understood.

use std::path::PathBuf;

use crate::supervisor::{Event, Supervisor};
use crate::support::signing::Maker;
use crate::support::{Site, eventually};

#[test]
fn the_older_version_hands_the_service_over_and_the_newer_one_is_silent_until_then() {
    let site = Site::new();
    let maker = Maker::new(5);
    maker.trusted_by(&site);
    let supervisor = Supervisor::start(&site);
    for version in ["1.0.0", "1.0.1"] {
        let told = supervisor.events().len();
        let old = supervisor.main_pid();
        let ran = site.run(&["upgrade", maker.good(&site, version).to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        let words = || -> Vec<String> {
            let events = supervisor.events().into_iter().skip(told);
            events
                .map(|(_, event)| if let Event::Told(text) = event { text } else { format!("{event:?}") })
                .collect()
        };
        // NotifyAccess=main: what another than the main process says is not heard.
        eventually("all is told", || words().len() >= 3);
        let new = supervisor.main_pid();
        assert_ne!(new, old);
        assert_eq!(words(), [format!("MAINPID={new}"), "BARRIER=1".to_owned(), "READY=1".to_owned()]);
        eventually("the older one is gone", || !PathBuf::from(format!("/proc/{old}/exe")).exists());
        assert_eq!(site.status()["ready"], true);
    }
    supervisor.stop();
    assert!(site.log().contains("event=stopped"));
}
