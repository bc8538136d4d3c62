//! `messages`, `trace` and `export` of a concentrator that does not run.

use std::fs;

use crate::support::Site;
use crate::{files, messages, site_with};

#[test]
fn what_was_kept_is_shown_without_a_concentrator_and_nothing_is_changed_by_that() {
    let (site, _) = site_with(30);
    let running = messages(&site);
    assert_eq!(running.len(), 30);
    let id = site.run(&["trace", &running[7].0.to_string(), "--json"]).out;
    for kill in [true, false] {
        if kill {
            site.kill();
        } else {
            site.start();
            site.stop();
        }
        let before = files(&site.path("state"));
        assert_eq!(messages(&site), running);
        let trace = site.run(&["trace", &running[7].0.to_string(), "--json"]);
        assert_eq!((trace.code, trace.out), (0, id.clone()), "{}", trace.err);
        let export = site.run(&["export", "--kind", "telemetry"]);
        assert_eq!((export.code, export.out.lines().count()), (0, 30), "{}", export.err);
        assert!(site.run(&["messages"]).out.contains("[29]"));
        assert!(files(&site.path("state")) == before, "nothing is written by looking");
    }
    let ran = site.run(&["trace", "999999"]);
    assert_eq!((ran.code, ran.err.lines().count()), (1, 1), "{}", ran.err);
    assert!(ran.err.contains("no message with this id"), "{}", ran.err);
}

#[test]
fn where_nothing_ever_ran_that_is_said() {
    let site = Site::new();
    for words in [&["messages"][..], &["trace", "1"], &["export"]] {
        let ran = site.run(words);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.lines().count()), (1, "", 1), "{}", ran.err);
        assert!(ran.err.contains("nothing ever ran on it"), "{}", ran.err);
    }
}

/// Something runs there that cannot be asked: its files are left alone.
#[test]
fn a_state_that_somebody_holds_is_left_alone() {
    let site = Site::started();
    fs::remove_file(site.path("state/maintenance.sock")).unwrap();
    for words in [&["messages"][..], &["backup", "copy"]] {
        let ran = site.run(words);
        assert_eq!((ran.code, ran.err.lines().count()), (1, 1), "{}", ran.err);
        assert!(ran.err.contains("runs on it and does not answer"), "{}", ran.err);
    }
}
