//! The black box of the running program, and what `why` makes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Site, eventually};
use crate::{send, site_with};

fn why(site: &Site, words: &[&str]) -> String {
    let ran = site.run(&[&["why"], words].concat());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words:?}");
    ran.out
}

fn box_len(site: &Site) -> u64 {
    fs::metadata(site.path("state/blackbox")).map_or(0, |metadata| metadata.len())
}

#[test]
fn starts_ends_and_alerts_are_told_of_a_running_and_of_a_stopped_one() {
    let site = Site::new();
    // A key that everybody knows: an alert from the start.
    let device = site.device("pump-1", "Devices");
    let mut list: serde_json::Value = serde_json::from_str(&site.read("state/acl.json")).unwrap();
    list["weak"] = serde_json::json!({"GroupName": "Devices", "AuthKey": "00000000000000000000000000000000"});
    site.write_acl(&list);
    let ran = site.run(&["why"]);
    assert!(ran.code == 1 && ran.err.contains("there is no black box"), "{}", ran.err);
    site.start();
    eventually("the alert is in the black box", || {
        site.run(&["why"]).out.contains("alert weak_object_keys came up")
    });
    let text = why(&site, &[]);
    assert!(text.contains("it started, version"), "{text}");
    assert!(!text.contains("without a word"), "{text}");
    send(&site, device, 3);
    site.kill();
    site.start();
    eventually("the kill is told", || {
        why(&site, &[]).contains("before, it ended without a word (killed, or a crash)")
    });
    site.stop();
    let text = why(&site, &["0s"]);
    assert!(text.contains("it was asked to stop, and did"), "{text}");
    assert_eq!(text.matches("it started, version").count(), 2, "{text}");
    // Nothing of four days ago is there.
    let ran = site.run(&["why", "4d"]);
    assert!(ran.code == 1 && ran.err.contains("the black box reaches from"), "{}", ran.err);
    let mode = fs::metadata(site.path("state/blackbox")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn it_never_grows_and_damage_keeps_nothing_from_running() {
    let (site, _) = site_with(1);
    let len = box_len(&site);
    assert!((3 << 20..4 << 20).contains(&len), "{len}");
    site.kill();
    let mut bytes = fs::read(site.path("state/blackbox")).unwrap();
    bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x5a);
    bytes.truncate(bytes.len() / 3);
    fs::write(site.path("state/blackbox"), bytes).unwrap();
    site.start();
    eventually("it goes on", || site.run(&["why"]).out.contains("it started"));
    assert_eq!(box_len(&site), len);
    site.stop();
    // It cannot be written at all.
    fs::remove_file(site.path("state/blackbox")).unwrap();
    fs::create_dir(site.path("state/blackbox")).unwrap();
    site.start();
    eventually("it is told", || site.log().contains("event=blackbox_not_written"));
    assert!(site.status()["ready"].as_bool().unwrap());
}
