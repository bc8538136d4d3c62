//! A machine that does not know the time at first.

use serde_json::Value;

use crate::ledger::Books;
use crate::load::Object;
use crate::support::{Site, eventually};

/// The message with this number, or nothing.
fn message(site: &Site, seq: u64) -> Value {
    let reply = site.http().get(&format!("/v1/messages/{seq}"));
    if reply.status == 200 { reply.json() } else { Value::Null }
}

#[test]
fn nothing_expires_before_the_clock_is_right_and_then_times_are_the_corrected_ones() {
    let site = Site::new();
    site.set("journal", "max_size", "\"1MiB\"");
    site.set("journal", "retention", "\"1s\"");
    let mut object = Object::new(&site, "pump-1");
    site.start();
    if site.status()["clock_is_set"] == true {
        eprintln!("not tried: the kernel of this machine says that its clock is right");
        return;
    }
    object.log_in(&site);
    object.send(10);
    let all = || site.http().get("/v1/messages?kind=telemetry&limit=1000").json()["messages"].clone();
    eventually("the first is on flash", || all().as_array().is_some_and(|all| all.len() == 1));
    let first = all()[0].clone();
    assert_eq!(first["clock"], "unsynced");
    let seq = first["seq"].as_u64().unwrap();
    // Several segments, and several times the retention.
    let uptime = || site.number("/uptime_seconds");
    let begun = uptime();
    eventually("much later", || {
        (0..3).for_each(|_| object.send(900));
        uptime() >= begun + 4
    });
    let books = Books::of(&site);
    assert_eq!((books.expired, books.waiting), (0, books.received), "{books:?}");
    assert_eq!(message(&site, seq)["clock"], "unsynced");
    site.set("journal", "retention", "\"60d\"");
    site.set("time", "trust", "\"always\"");
    site.signal("HUP");
    eventually("the time is corrected", || message(&site, seq)["clock"] == "corrected");
    let corrected = message(&site, seq);
    assert_eq!((&corrected["id"], &corrected["seq"]), (&first["id"], &first["seq"]));
    site.kill();
    site.start();
    let again = message(&site, seq);
    assert_eq!((&again["clock"], &again["time"]), (&corrected["clock"], &corrected["time"]));
    // By the right time it is over.
    site.set("journal", "retention", "\"1s\"");
    site.signal("HUP");
    object.log_in(&site);
    eventually("what is too old goes", || {
        object.send(900);
        Books::of(&site).expired > 0 && message(&site, seq)["state"] == "expired"
    });
}
