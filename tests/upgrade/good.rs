//! Versions that work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use iotsocketd::wire::Format;
use serde_json::json;

use crate::support::signing::Maker;
use crate::support::{Site, eventually, response};

#[test]
fn a_newer_version_is_in_force_and_what_was_kept_is_there() {
    let site = Site::new();
    let maker = Maker::new(1);
    maker.trusted_by(&site);
    let pump = site.device("pump", "Devices");
    site.start();
    let old = site.pid();
    let (mut device, token) = site.login_with_token(pump);
    site.telemetry(token, Format::Utf8, b"before");
    eventually("it is taken", || site.number("/books/received") == 1);
    let ran = site.run(&["upgrade", maker.good(&site, "1.0.0").to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("it proved itself") && ran.out.ends_with("version 1.0.0 is in force\n"),
        "{}",
        ran.out
    );
    // Its session was kept, and its token is still good.
    assert_eq!(device.closed(), 0xa1);
    site.telemetry(token, Format::Utf8, b"after");
    eventually("it is taken, too", || site.number("/books/received") == 2);
    assert_eq!(site.number("/sessions/kept"), 1);
    let (device, _) = site.login_with_token(pump);
    drop(device);
    let list = site.http().get("/v1/messages?kind=telemetry");
    assert_eq!(list.json()["messages"].as_array().unwrap().len(), 2);
    // The older one is gone, the newer one goes on by itself.
    site.adopt(old);
    assert_ne!(site.pid(), old);
    assert!(site.status()["alerts"].as_array().unwrap().is_empty());
    // Started again by its old name it becomes the version in force.
    site.stop();
    site.start();
    assert!(site.log().contains("event=becomes version=1.0.0"));
    // And it takes the next one.
    let old = site.pid();
    let ran = site.run(&["upgrade", maker.good(&site, "1.0.1").to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    site.adopt(old);
    let again = site.run(&["upgrade", maker.good(&site, "1.0.1").to_str().unwrap()]);
    assert!(again.code == 1 && again.err.contains("not newer"), "{}", again.err);
}

#[test]
fn a_held_call_is_answered_by_the_older_version_and_its_device_goes_last() {
    let site = Site::new();
    let maker = Maker::new(2);
    maker.trusted_by(&site);
    let (slow, idle) = (site.device("slow", "Stations"), site.device("idle", "Stations"));
    site.start();
    let old = site.pid();
    let (mut slow, mut idle) = (site.login(slow), site.login(idle));
    std::thread::scope(|scope| {
        let call = scope.spawn(|| site.call("slow", json!("are you there?"), "UTF8"));
        let (number, _) = slow.request();
        let upgrade = scope.spawn(|| site.run(&["upgrade", maker.good(&site, "1.0.0").to_str().unwrap()]));
        assert_eq!(idle.closed(), 0xa1);
        eventually("the newer version serves", || site.log().contains("step=\"it serves\""));
        // The device is still connected to the older one, and answers there.
        slow.send(&response(None, number, 0, b"yes"));
        assert_eq!(call.join().unwrap()["Payload"], "yes");
        assert_eq!(slow.closed(), 0xa1);
        let ran = upgrade.join().unwrap();
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    });
    site.adopt(old);
}

#[test]
fn no_datagram_is_lost_and_nobody_is_refused_meanwhile() {
    let site = Site::new();
    let maker = Maker::new(3);
    maker.trusted_by(&site);
    let pump = site.device("pump", "Devices");
    site.start();
    let old = site.pid();
    let (_device, token) = site.login_with_token(pump);
    let is_over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut sent = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                site.telemetry(token, Format::Utf8, format!("{sent}").as_bytes());
                sent += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            sent
        });
        let connecting = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                std::net::TcpStream::connect(site.sessions()).unwrap();
                std::net::TcpStream::connect(site.api()).unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        for version in ["1.0.0", "1.0.1"] {
            let ran = site.run(&["upgrade", maker.good(&site, version).to_str().unwrap()]);
            assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        }
        is_over.store(true, Ordering::Relaxed);
        connecting.join().unwrap();
        sending.join().unwrap()
    });
    site.adopt(old);
    eventually("all are there", || site.number("/books/received") == sent);
    assert_eq!(site.refused("telemetry.kernel_dropped"), 0);
}
