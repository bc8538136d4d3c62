//! Telemetry without a central, a kill, and everything that comes behind it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::central::{Session, Shared, counts, drain, webhook};
use crate::ledger::{Books, Ledger};
use crate::load::Object;
use crate::support::{Site, eventually};

/// A site with three objects whose machine knows the time.
fn site() -> (Site, Vec<Object>) {
    let site = Site::new();
    site.set("time", "trust", "\"always\"");
    let objects = ["pump-1", "pump-2", "pump-3"].map(|name| Object::new(&site, name));
    (site, objects.into())
}

fn log_in(site: &Site, objects: &mut [Object]) {
    objects.iter_mut().for_each(|object| object.log_in(site));
}

/// Sends, and waits until all of it is taken.
fn send(site: &Site, objects: &mut [Object], each: u64) {
    let before = Books::of(site).received;
    for _ in 0..each {
        objects.iter_mut().for_each(|object| object.send(10));
        // No burst that the kernel would drop.
        std::thread::sleep(Duration::from_micros(200));
    }
    let all = before + each * objects.len() as u64;
    eventually("all is taken", || Books::of(site).received == all);
}

/// Waits until so many messages of telemetry are on flash.
fn on_flash(site: &Site, count: usize) {
    let path = "/v1/messages?kind=telemetry&limit=1000";
    let on_flash = || site.http().get(path).json()["messages"].as_array().unwrap().len();
    eventually("all is on flash", || on_flash() == count);
}

#[test]
fn what_came_without_a_central_arrives_in_order_after_a_kill() {
    let (site, mut objects) = site();
    site.start();
    log_in(&site, &mut objects);
    send(&site, &mut objects, 100);
    on_flash(&site, 300);
    let mut ledger = Ledger::default();
    assert_eq!(ledger.count(&site), 300);
    assert_eq!(ledger.states.get("waiting"), Some(&300));
    site.kill();
    site.start();
    let books = Books::of(&site);
    assert_eq!((books.received, books.waiting, books.delivered), (300, 300, 0));
    assert_eq!(ledger.count(&site), 300);
    let got = Shared::default();
    let central = Session::open(&site, &got).unwrap();
    drain(&site);
    let books = Books::of(&site);
    assert_eq!((books.received, books.waiting, books.delivered), (300, 0, 300));
    assert_eq!(counts(&got), (300, 0));
    // What goes on goes on behind it.
    log_in(&site, &mut objects);
    send(&site, &mut objects, 10);
    drain(&site);
    on_flash(&site, 330);
    assert_eq!(ledger.count(&site), 330);
    central.leave();
    eventually("it is told what became of all", || {
        ledger.look(&mut site.http(), 0);
        ledger.states.get("delivered") == Some(&330)
    });
    site.stop();
    site.start();
    let books = Books::of(&site);
    assert_eq!((books.received, books.waiting, books.delivered), (330, 0, 330), "SIGTERM commits everything");
    ledger.look(&mut site.http(), 0);
    assert_eq!(ledger.states.get("delivered"), Some(&330));
    assert!(ledger.is_distinct());
}

#[test]
fn a_stop_commits_what_came_last() {
    let (site, mut objects) = site();
    site.set("journal", "commit_interval", "\"30s\"");
    site.start();
    log_in(&site, &mut objects);
    send(&site, &mut objects, 50);
    let told = site.http().get("/v1/messages?kind=telemetry").json();
    assert_eq!(told["messages"].as_array().unwrap().len(), 0, "only what is on flash is told");
    site.stop();
    site.start();
    assert_eq!(Ledger::default().count(&site), 150);
    assert_eq!(Books::of(&site).waiting, 150);
}

#[test]
fn a_webhook_gets_what_came_before_a_kill() {
    let (site, mut objects) = site();
    let got = Shared::default();
    site.start();
    log_in(&site, &mut objects);
    send(&site, &mut objects, 40);
    on_flash(&site, 120);
    site.kill();
    let hooks = webhook(&got);
    site.set("central.webhooks", "telemetry", &hooks.url("/telemetry"));
    site.start();
    drain(&site);
    assert_eq!((counts(&got).0, Books::of(&site).delivered), (120, 120));
    let mut ledger = Ledger::default();
    eventually("it is told what became of all", || {
        ledger.look(&mut site.http(), 0);
        ledger.states.get("delivered") == Some(&120)
    });
}

/// `commit_interval = "0s"`: whatever the central has is on flash.
#[test]
fn nothing_is_forwarded_before_it_is_on_flash() {
    let (site, mut objects) = site();
    site.set("journal", "commit_interval", "\"0s\"");
    let got = Shared::default();
    let mut ledger = Ledger::default();
    for round in 0..5 {
        site.start();
        log_in(&site, &mut objects);
        let central = Session::open(&site, &got).unwrap();
        let before = got.lock().unwrap().all.len();
        std::thread::scope(|scope| {
            let sends = scope.spawn(|| {
                for _ in 0..3000 {
                    objects.iter_mut().for_each(|object| object.send(10));
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
            eventually("some arrive", || got.lock().unwrap().all.len() > before + 20 + round * 30);
            site.kill();
            sends.join().unwrap();
        });
        central.leave();
        site.start();
        let last = ledger.count(&site);
        let kept: BTreeSet<_> = ledger.shown.values().map(|shown| shown.payload.as_str()).collect();
        let got = got.lock().unwrap();
        let invented: Vec<_> = got.all.iter().filter(|payload| !kept.contains(payload.as_str())).collect();
        assert!(invented.is_empty(), "not on flash: {invented:?}");
        assert_eq!(Books::of(&site).taken(), last);
        site.kill();
    }
}

#[test]
fn history_is_told_by_api_stream_and_commands() {
    let (site, mut objects) = site();
    site.start();
    log_in(&site, &mut objects);
    send(&site, &mut objects, 20);
    on_flash(&site, 60);
    let mut http = site.http();
    let page = http.get("/v1/messages?kind=telemetry&limit=7").json();
    let seq = |message: &Value| message["seq"].as_u64().unwrap();
    let messages = page["messages"].as_array().unwrap();
    assert_eq!((messages.len(), page["next"].as_u64()), (7, Some(seq(&messages[6]))));
    let one = &page["messages"][2];
    assert_eq!((&one["kind"], &one["via"]), (&Value::from("telemetry"), &Value::from("udp")));
    assert_eq!((&one["clock"], &one["state"]), (&Value::from("synced"), &Value::from("waiting")));
    let id = one["id"].as_str().unwrap();
    let with_trace = http.get(&format!("/v1/messages/{id}")).json();
    let events: Vec<_> =
        with_trace["events"].as_array().unwrap().iter().map(|event| event["event"].clone()).collect();
    assert_eq!(events, ["received", "stored"]);
    assert_eq!(with_trace["payload"], one["payload"]);
    let own = http.get("/v1/messages?kind=telemetry&uid=pump-2&limit=1000").json();
    assert_eq!(own["messages"].as_array().unwrap().len(), 20);
    // Times are from one on and before another, and the group is that of the moment.
    let time = |at: usize| messages[at]["time"].as_str().unwrap();
    let is_between = |one: &&Value| (time(2)..time(5)).contains(&one["time"].as_str().unwrap());
    let expected: Vec<_> = messages.iter().filter(is_between).collect();
    let path = format!("/v1/messages?kind=telemetry&group=Devices&from={}&to={}", time(2), time(5));
    let between = http.get(&path).json();
    assert_eq!(between["messages"].as_array().unwrap().iter().collect::<Vec<_>>(), expected);
    let others = http.get("/v1/messages?kind=telemetry&group=Stations").json();
    assert_eq!(others["messages"].as_array().unwrap().len(), 0);
    let last = http.get("/v1/messages?kind=telemetry&last=11").json();
    let last = last["messages"].as_array().unwrap();
    let (middle, end) = (seq(&last[0]), seq(&last[10]));
    // A stream from the middle, over what is there and what comes.
    let mut stream = site.http();
    stream.send("GET", &format!("/v1/stream?kind=telemetry&after={middle}"), b"").unwrap();
    let mut text = String::new();
    let mut read_to = |seq: u64| {
        while !text.contains(&format!("id: {seq}\n")) {
            text += &String::from_utf8(stream.read_some()).unwrap();
        }
    };
    read_to(end);
    let mut waiting = site.http();
    let path = format!("/v1/messages?kind=telemetry&after={end}&wait=20s");
    waiting.send("GET", &path, b"").unwrap();
    send(&site, &mut objects[..1], 1);
    read_to(seq(&waiting.read().unwrap().json()["messages"][0]));
    let kind = ["--kind", "telemetry"];
    let ran = site.run(&[&["messages", "--json", "--after", "0", "--limit", "5"][..], &kind].concat());
    assert_eq!((ran.code, ran.out.lines().count()), (0, 5), "{}", ran.err);
    let first: Value = serde_json::from_str(ran.out.lines().nth(2).unwrap()).unwrap();
    assert_eq!(first["id"], *id);
    let ran = site.run(&["trace", id, "--json"]);
    let traced: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err));
    assert_eq!((&traced["id"], &traced["seq"]), (&one["id"], &one["seq"]));
    let ran = site.run(&[&["export"][..], &kind].concat());
    assert_eq!((ran.code, ran.out.lines().count()), (0, 61), "{}", ran.err);
    let ran = site.run(&[&["export", "--format", "csv"][..], &kind].concat());
    assert_eq!((ran.code, ran.out.lines().count()), (0, 62), "{}", ran.err);
    site.kill();
    site.start();
    assert_eq!(site.http().get(&format!("/v1/messages/{id}")).json()["seq"], one["seq"]);
}
