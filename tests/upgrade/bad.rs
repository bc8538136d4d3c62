//! Versions that do not work: the one before serves again, whatever they do.

use std::fs;
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::support::signing::{Maker, signature_of};
use crate::support::{PROGRAM, Site, eventually, response};

/// A site that trusts a maker and runs.
fn running() -> (Site, Maker) {
    let site = Site::new();
    let maker = Maker::new(7);
    maker.trusted_by(&site);
    site.device("pump", "Devices");
    site.start();
    (site, maker)
}

/// The version is refused with these words, and the process that was there serves.
fn refused(site: &Site, file: &std::path::Path, words: &str) {
    let pid = site.pid();
    let ran = site.run(&["upgrade", file.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains(words), "{}", ran.err);
    assert!(site.is_running() && site.pid() == pid);
    serves(site);
}

fn serves(site: &Site) {
    let device = site.device("other", "Devices");
    eventually("the access list is taken up", || site.try_login(device).is_ok());
    let reply = site.post("/request", &json!({"UID": "nobody", "Payload": "", "Format": "UTF8"}));
    assert_eq!(reply.json()["Code"], 160);
}

/// The reason is kept, and told.
fn alerted(site: &Site, words: &str) {
    let status = site.status();
    let alerts = status["alerts"].as_array().unwrap();
    let alert = alerts.iter().find(|alert| alert["name"] == "upgrade_rolled_back");
    let sentence = alert.unwrap_or_else(|| panic!("{status:#}"))["sentence"].as_str().unwrap();
    assert!(sentence.contains(words), "{sentence}");
}

#[test]
fn what_is_not_signed_is_not_even_written() {
    let (site, maker) = running();
    let file = maker.good(&site, "1.0.0");
    let signature = fs::read_to_string(signature_of(&file)).unwrap();
    let program = fs::read(&file).unwrap();
    // Cut, and one byte changed.
    fs::write(&file, &program[..program.len() - 1]).unwrap();
    refused(&site, &file, "damaged, or forged");
    let mut changed = program.clone();
    changed[0] ^= 1;
    fs::write(&file, &changed).unwrap();
    refused(&site, &file, "damaged, or forged");
    fs::write(&file, &program).unwrap();
    fs::write(signature_of(&file), signature.replace("1.0.0", "1.0.1")).unwrap();
    refused(&site, &file, "was changed");
    refused(&site, &Maker::new(8).good(&site, "1.0.0"), "another key");
    refused(&site, &maker.good(&site, "0.0.9"), "not newer");
    // Of another environment, whoever signed it.
    for maker in [&maker, &Maker::new(8)] {
        let file = maker.good(&site, "1.0.0");
        let signature = maker.sign(&fs::read(&file).unwrap(), "version:1.0.0 environment:staging");
        fs::write(signature_of(&file), signature).unwrap();
        refused(&site, &file, "it is for environment \"staging\", and this is \"test\"");
    }
    fs::remove_file(site.path("upgrade.pub")).unwrap();
    refused(&site, &maker.good(&site, "1.0.0"), "upgrade.pub is missing");
    assert!(!site.path("state/versions").exists());
}

#[test]
fn what_ends_at_once_or_cannot_be_started_costs_nobody_its_session() {
    let (site, maker) = running();
    let pump = site.device("kept", "Stations");
    eventually("the access list is taken up", || site.try_login(pump).is_ok());
    let mut device = site.login(pump);
    refused(&site, &maker.version(&site, "1.0.0", "#!/bin/sh\nexit 3\n"), "ended by itself");
    alerted(&site, "1.0.0");
    refused(&site, &maker.version(&site, "1.0.1", "no program"), "cannot be started");
    // It was not told to go.
    device.is_alive();
    // A good one makes an end of it.
    let old = site.pid();
    let ran = site.run(&["upgrade", maker.good(&site, "1.0.2").to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    site.adopt(old);
    assert!(!site.path("state/versions/rejected").exists());
    eventually("the alert is over", || {
        let status = site.status();
        status["alerts"].as_array().unwrap().iter().all(|alert| alert["name"] != "upgrade_rolled_back")
    });
}

#[test]
fn what_hangs_before_it_begins_is_given_up() {
    let (site, maker) = running();
    refused(&site, &maker.version(&site, "1.0.0", "#!/bin/sh\nexec sleep 600\n"), "hung");
    alerted(&site, "hung");
}

#[test]
fn what_dies_or_hangs_at_any_step_is_given_up_and_the_one_before_is_back() {
    let (site, maker) = running();
    let [before @ .., (_, proven)] = Maker::STEPS;
    for (number, (_, when)) in before.iter().enumerate() {
        let file = maker.sabotaged(&site, &format!("1.0.{number}"), when, "kill -KILL $me");
        refused(&site, &file, "ended by itself");
        alerted(&site, &format!("1.0.{number}"));
    }
    // After it proved itself. It would be taken long before its silence is told.
    site.set("upgrade", "confirm_after", "\"5s\"");
    site.signal("HUP");
    eventually("it is taken up", || site.log().contains("event=configuration_reloaded"));
    let file = maker.sabotaged(&site, "1.1.0", proven, "kill -KILL $me");
    refused(&site, &file, "ended by itself");
    let file = maker.sabotaged(&site, "1.1.1", proven, "kill -STOP $me");
    refused(&site, &file, "hung");
}

#[test]
fn what_starts_and_does_not_work_is_given_up() {
    let (site, maker) = running();
    // A configuration with which it starts and takes no datagram as long as that of its proof.
    let broken = site.read("iotsocketd.toml").replace("max_datagram = \"4KiB\"", "max_datagram = \"12B\"");
    fs::write(site.path("broken.toml"), broken).unwrap();
    let program = &*PROGRAM;
    let script = format!("#!/bin/sh\nexec {program} run --config {}\n", site.path("broken.toml").display());
    let file = maker.version(&site, "1.0.0", &script);
    let pump = site.device("busy", "Stations");
    std::thread::scope(|scope| {
        let upgrade =
            scope.spawn(|| refused(&site, &file, "it does not work: telemetry is not in the journal"));
        eventually("the newer version serves", || site.log().contains("step=\"it serves\""));
        let mut device = site.login(pump);
        let call = scope.spawn(|| site.call_for("busy", json!("are you there?"), "UTF8", 60));
        let (number, _) = device.request();
        eventually("it fails", || site.log().contains("event=proof_failed"));
        // What it has in its hands it finishes.
        device.send(&response(None, number, 0, b"yes"));
        assert_eq!(call.join().unwrap()["Payload"], "yes");
        assert_eq!(device.closed(), 0xa1);
        upgrade.join().unwrap();
    });
    alerted(&site, "it does not work");
}

#[test]
fn when_the_older_one_dies_the_newer_one_goes_and_whoever_starts_the_service_decides() {
    let (site, maker) = running();
    for when in ["finds configuration", "the journal is closed", "it serves"] {
        let old = site.pid();
        let file = maker.sabotaged(&site, "1.0.0", when, &format!("kill -KILL {old}"));
        let ran = site.run(&["upgrade", file.to_str().unwrap()]);
        assert_eq!(ran.code, 1, "{when}: {}{}", ran.out, ran.err);
        site.reap();
        // The state folder is free as soon as the newer one saw it.
        site.start_when_free();
        assert!(!site.path("state/versions/current").exists());
        serves(&site);
    }
}

#[test]
fn a_service_that_is_stopped_meanwhile_stops_as_a_whole() {
    let (site, maker) = running();
    site.set("upgrade", "confirm_after", "\"50s\"");
    site.signal("HUP");
    eventually("it is taken up", || site.log().contains("event=configuration_reloaded"));
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| site.run(&["upgrade", maker.good(&site, "1.0.0").to_str().unwrap()]));
        eventually("it waits", || site.log().contains("it proved itself"));
        // Which is the version that serves, and may be gone in a moment.
        let next = site.run(&["upgrade", maker.good(&site, "1.0.1").to_str().unwrap()]);
        assert!(next.code == 1 && next.err.contains("itself on trial"), "{}", next.err);
        site.stop();
        assert_eq!(upgrade.join().unwrap().code, 1);
    });
    assert!(UnixStream::connect(site.path("state/maintenance.sock")).is_err());
    site.start();
    serves(&site);
}
