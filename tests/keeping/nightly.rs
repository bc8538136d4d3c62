//! The backup of every night, made by the running program.

use std::fs::{self, File};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::shelf::{Fault, Shelf};
use crate::support::{Site, eventually};
use crate::{messages, site_with};

/// A site on which nights were missed: its first backup is due as soon as it starts.
fn missed(messages: usize) -> Site {
    let (site, _) = site_with(messages);
    site.stop();
    site.set("time", "trust", "\"always\"");
    missed_again(&site);
    site
}

/// Makes the last backup one of long ago.
fn missed_again(site: &Site) {
    let text = site.read("state/backup.json");
    let mut record: Value = serde_json::from_str(&text).unwrap_or_else(|_| json!({}));
    record["since"] = json!(1_700_000_000);
    if record["made"].is_object() {
        record["made"]["at"] = json!(1_700_000_000);
    }
    record["failed"] = Value::Null;
    record["copy_failed"] = Value::Null;
    fs::write(site.path("state/backup.json"), record.to_string()).unwrap();
}

/// Lets a copy that failed be tried at once.
fn try_copy_again(site: &Site) {
    let mut record: Value = serde_json::from_str(&site.read("state/backup.json")).unwrap();
    record["copy_failed"]["at"] = json!(1_700_000_000);
    fs::write(site.path("state/backup.json"), record.to_string()).unwrap();
}

fn backups(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn wait_for_log(site: &Site, words: &str) {
    eventually(words, || site.log().contains(words));
}

fn alerts(site: &Site) -> Vec<String> {
    let status = site.status();
    let names = status["alerts"].as_array().unwrap().iter();
    names.map(|alert| alert["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_missed_night_is_made_good_proven_and_told() {
    let site = missed(30);
    let kept = messages(&site);
    site.start();
    eventually("there is a backup", || site.status()["backup"]["last"].is_string());
    let status = site.status();
    let file = status["backup"]["file"].as_str().unwrap();
    assert!(status["backup"]["messages"].as_u64().unwrap() >= 30);
    assert!(status["backup"]["next"].is_string() && status["backup"]["error"].is_null());
    assert_eq!(backups(&site.path("state/backups")), [file]);
    assert!(file.starts_with("nightly-") && file.ends_with("Z.iotsbackup"), "{file}");
    assert!(site.run(&["status"]).out.contains(file));
    // It is no older than the next night, so a restart makes none.
    site.stop();
    site.start();
    eventually("it is known after a restart", || site.status()["backup"]["file"] == file);
    site.stop();
    assert_eq!(site.log().matches("event=backup_made").count(), 1);
    let verified = site.run(&["verify"]);
    assert!(verified.out.contains(file) && verified.code == 0, "{}", verified.err);
    fs::rename(site.path("state"), site.path("lost")).unwrap();
    let copy = site.path("lost/backups").join(file);
    assert_eq!(site.run(&["restore", copy.to_str().unwrap()]).code, 0);
    assert_eq!(messages(&site), kept);
}

#[test]
fn nothing_is_made_while_the_clock_is_not_right() {
    let (site, _) = site_with(1);
    site.stop();
    missed_again(&site);
    // No kernel says that of a clock before this version was made; where it says nothing, `auto` does not trust it.
    if iotsocketd::sys::clock_is_synchronised() == Some(true) {
        return;
    }
    site.start();
    site.run(&["status"]);
    assert!(site.status()["backup"]["next"].is_null());
    site.stop();
    assert!(!site.log().contains("event=backup_") && !site.path("state/backups").exists());
}

#[test]
fn old_ones_go_when_a_newer_one_is_proven_and_only_then() {
    let site = missed(5);
    site.set("backup", "keep", "2");
    let folder = site.path("state/backups");
    site.start();
    wait_for_log(&site, "event=backup_made");
    let first = backups(&folder);
    let prefix = first[0].split_at(17).0;
    // Older ones of this journal, one of another, and what somebody else put there.
    for name in ["20260101T000000Z", "20260102T000000Z"] {
        fs::write(folder.join(format!("{prefix}{name}.iotsbackup")), "").unwrap();
    }
    let others =
        ["backup-20200101T000000Z.iotsbackup", "nightly-00000000-20200101T000000Z.iotsbackup", "notes"];
    others.iter().for_each(|name| fs::write(folder.join(name), "").unwrap());
    site.stop();
    // There is no place for a new one.
    missed_again(&site);
    let before = backups(&folder);
    site.set("backup", "dir", "\"/proc/backups\"");
    site.start();
    wait_for_log(&site, "event=backup_failed");
    eventually("it is told", || alerts(&site).contains(&"backup".to_owned()));
    assert_eq!(backups(&folder), before, "nothing goes");
    site.set("backup", "dir", "\"backups\"");
    site.stop();
    missed_again(&site);
    site.start();
    eventually("another one is made", || site.log().matches("event=backup_made").count() == 2);
    eventually("nothing is wrong", || !alerts(&site).contains(&"backup".to_owned()));
    let after = backups(&folder);
    assert_eq!(after.len(), others.len() + 2, "{after:?}");
    assert!(others.iter().all(|name| after.contains(&(*name).to_owned())) && after.contains(&first[0]));
}

#[test]
fn a_folder_gets_a_checked_copy_and_is_missed_when_it_is_gone() {
    let site = missed(20);
    let second = site.path("stick");
    site.set("backup", "copy_to", &format!("{second:?}"));
    site.start();
    wait_for_log(&site, "event=backup_copy_failed");
    eventually("it is told", || alerts(&site).contains(&"backup_copy".to_owned()));
    assert!(!second.exists(), "where nothing is mounted nothing is made");
    fs::create_dir(&second).unwrap();
    site.stop();
    try_copy_again(&site);
    site.start();
    eventually("it is copied", || site.status()["backup"]["copied"].is_string());
    eventually("nothing is wrong", || !alerts(&site).contains(&"backup_copy".to_owned()));
    let names = backups(&second);
    assert_eq!(names, backups(&site.path("state/backups")));
    let (one, other) = (site.path("state/backups").join(&names[0]), second.join(&names[0]));
    assert!(fs::read(one).unwrap() == fs::read(&other).unwrap());
    assert_eq!(site.run(&["verify", other.to_str().unwrap()]).code, 0);
    assert_eq!(site.log().matches("event=backup_made").count(), 1, "copied later, not made again");
}

#[test]
fn a_backup_by_hand_without_a_name_lies_with_the_others() {
    let (site, _) = site_with(3);
    let said = site.run(&["backup"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let names = backups(&site.path("state/backups"));
    assert!(names.len() == 1 && names[0].starts_with("backup-") && said.out.contains(&names[0]), "{names:?}");
    assert!(site.run(&["verify"]).out.contains(&names[0]));
}

#[test]
fn a_place_on_the_network_gets_a_copy_that_was_read_back() {
    let site = missed(20);
    let shelf = Shelf::start(&site.path("tls"));
    let url = format!("\"https://{}/gateways/7/?key=s3cr3t\"", shelf.address);
    site.set("backup", "copy_to", &url);
    // The system does not know its certificate.
    site.start();
    wait_for_log(&site, "TLS failed");
    site.stop();
    assert!(shelf.files.lock().unwrap().is_empty());
    let trusting = format!("SSL_CERT_FILE={}", site.path("tls/server.crt").display());
    for (fault, words) in [
        (Fault::Refuses, "PUT to 127.0.0.1 failed: it answered status 403"),
        (Fault::Hides, "GET from 127.0.0.1 failed: it answered status 403"),
        (Fault::Redirects, "it redirects with status 307"),
        (Fault::Changes, "is not what it was given"),
        (Fault::Shortens, "is not what it was given"),
    ] {
        *shelf.fault.lock().unwrap() = fault;
        let before = site.log().matches(words).count();
        try_copy_again(&site);
        site.start_under(&["env", &trusting]);
        eventually(words, || site.log().matches(words).count() > before);
        eventually("it is told", || alerts(&site).contains(&"backup_copy".to_owned()));
        site.stop();
    }
    *shelf.fault.lock().unwrap() = Fault::None;
    try_copy_again(&site);
    site.start_under(&["env", &trusting]);
    eventually("it is copied", || site.status()["backup"]["copied"].is_string());
    eventually("nothing is wrong", || !alerts(&site).contains(&"backup_copy".to_owned()));
    let names = backups(&site.path("state/backups"));
    let kept = fs::read(site.path("state/backups").join(&names[0])).unwrap();
    let files = shelf.files.lock().unwrap();
    assert!(files[&format!("/gateways/7/{}?key=s3cr3t", names[0])] == kept);
    assert!(!site.log().contains("s3cr3t") && !site.run(&["status"]).out.contains("s3cr3t"));
}

/// While a newer version takes over, the older one may still end a backup.
#[test]
fn nobody_makes_one_beside_somebody_else() {
    let site = missed(3);
    let other = File::open(site.path("state")).unwrap();
    other.lock().unwrap();
    site.start();
    wait_for_log(&site, "event=backups_wait");
    assert!(site.log().contains("the version before still ends a backup"), "{}", site.log());
    assert_eq!(backups(&site.path("state/backups")), Vec::<String>::new());
    // It ends its own, which is known from then on.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut record: Value = serde_json::from_str(&site.read("state/backup.json")).unwrap();
    record["made"] = json!({"at": now, "name": "of-the-other", "bytes": 1, "messages": 3, "objects": 0});
    fs::write(site.path("state/backup.json"), record.to_string()).unwrap();
    drop(other);
    eventually("it goes on", || site.status()["backup"]["file"] == "of-the-other");
}
