//! Subscribers' endpoints that hang, lie, trickle, want nothing more, or are not who they should be.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::ingest::take_all;
use crate::subscribers::{destination, numbers, send, site};
use crate::support::receiver::{OTHER_SECRET, Receiver, SECRET, signatures_of};
use crate::support::{Act, Hooks, Site, authority, eventually};

fn failure(site: &Site, name: &str) -> String {
    destination(site, name)["last_failure"].as_str().unwrap_or_default().to_owned()
}

/// What an endpoint does with a call.
type Does = fn() -> Act;

/// The acts of endpoints that misbehave, and what operators are told of each.
const ACTS: [(&str, Does, &str); 7] = [
    ("hangs", || Act::Hang, "did not answer in time"),
    ("garbage", || Act::Say(b"220 mail.example ESMTP\r\n\r\n".to_vec()), "does not speak HTTP"),
    ("closes", || Act::Say(Vec::new()), "closed the connection"),
    ("slow-head", || Act::Drip(b"HTTP/1.1 200 OK\r\nX-Slow:"), "did not answer in time"),
    (
        "moved",
        || Act::Say(b"HTTP/1.1 308 X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n".to_vec()),
        "redirects",
    ),
    ("forbidden", || Act::Answer(403, String::new()), "status 403"),
    (
        "busy",
        || Act::Say(b"HTTP/1.1 503 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n".to_vec()),
        "status 503",
    ),
];

#[test]
fn an_endpoint_that_misbehaves_gets_everything_once_it_behaves_and_nobody_waits_for_it() {
    let is_bad = Arc::new(AtomicBool::new(true));
    let endpoints = ACTS.map(|(name, act, _)| {
        let bad = Arc::clone(&is_bad);
        let refuse = move |_: &_, _| bad.load(Ordering::Relaxed).then(act);
        (name, Receiver::start_with(SECRET, refuse))
    });
    let good = Receiver::start(SECRET);
    let site = site();
    let pump = site.device("pump-1", "Devices");
    for (name, endpoint) in &endpoints {
        site.append(&endpoint.table(name, "timeout = \"1s\""));
    }
    site.append(&good.table("good", ""));
    site.start();
    let (_session, token) = site.login_with_token(pump);
    send(&site, token, 0..20);
    good.wait(20);
    assert_eq!(good.of("pump-1"), numbers(0..20), "it waits for nobody");
    for (name, _, told) in ACTS {
        eventually(&format!("{name} is told"), || failure(&site, name).contains(told));
        eventually(&format!("{name} fails"), || destination(&site, name)["state"] == "failing");
    }
    let dead = site.http().get("/metrics").text();
    assert!(dead.contains("iotsocketd_destination_dead_letters{destination=\"hangs\"} 0"), "{dead}");
    is_bad.store(false, Ordering::Relaxed);
    for (name, endpoint) in &endpoints {
        eventually(&format!("{name} has everything"), || endpoint.count() == 20);
        assert_eq!(endpoint.of("pump-1"), numbers(0..20), "{name}");
    }
}

/// Any 2xx takes a message, whatever stands behind it: it would come again and again otherwise.
#[test]
fn what_follows_a_good_status_is_not_looked_at() {
    let site = site();
    let pump = site.device("pump-1", "Devices");
    let acts: [(&str, Does); 3] = [
        ("long", || Act::Gigabyte),
        ("slow", || Act::Drip(b"HTTP/1.1 202 Accepted\r\nContent-Length: 1000\r\n\r\n")),
        ("cut", || Act::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{".to_vec())),
    ];
    let endpoints = acts.map(|(name, act)| (name, Hooks::start(move |_| act())));
    for (name, hooks) in &endpoints {
        let url = hooks.url("/");
        site.append(&format!("[subscribers.{name}]\nurl = {url}\nsecret = \"{SECRET}\"\ntimeout = \"1s\"\n"));
    }
    site.start();
    let (_session, token) = site.login_with_token(pump);
    send(&site, token, 0..3);
    for (name, hooks) in &endpoints {
        eventually(&format!("{name} has all of it"), || destination(&site, name)["delivered"] == 3);
        let bodies: Vec<_> = hooks.seen().iter().map(|hook| hook.body["payload"].clone()).collect();
        assert_eq!(bodies, numbers(0..3), "{name}");
        assert_eq!(destination(&site, name)["failures"], 0, "{name}");
    }
}

#[test]
fn a_certificate_is_checked_against_ca_file_which_is_read_again_when_it_changes() {
    let (right, other) = (authority(&["127.0.0.1"]), authority(&["127.0.0.1"]));
    let hooks = Hooks::start_with(Some(right.server), take_all);
    let site = site();
    let pump = site.device("pump-1", "Devices");
    fs::write(site.path("erp-ca.pem"), &other.pem).unwrap();
    let url = hooks.url("/").replace("http:", "https:");
    for (name, more) in [("erp", "ca_file = \"erp-ca.pem\""), ("system", "")] {
        site.append(&format!("[subscribers.{name}]\nurl = {url}\nsecret = \"{SECRET}\"\n{more}\n"));
    }
    site.start();
    let (_session, token) = site.login_with_token(pump);
    send(&site, token, 0..2);
    for name in ["erp", "system"] {
        eventually("it is not trusted", || failure(&site, name).contains("TLS failed"));
    }
    assert_eq!(hooks.seen().len(), 0, "nobody else reads a message");
    fs::write(site.path("erp-ca.pem"), &right.pem).unwrap();
    let seen = hooks.wait(2);
    let payloads: Vec<_> = seen.iter().map(|hook| hook.body["payload"].clone()).collect();
    assert_eq!(payloads, numbers(0..2));
    assert!(seen.iter().all(|hook| signatures_of(hook, SECRET) == 1));
}

#[test]
fn a_secret_file_that_changes_is_taken_up_by_itself_and_a_broken_one_changes_nothing() {
    let hooks = Hooks::start(take_all);
    let site = site();
    let pump = site.device("pump-1", "Devices");
    let write = |text: &str, mode: u32| {
        fs::write(site.path("erp.secret"), text).unwrap();
        fs::set_permissions(site.path("erp.secret"), fs::Permissions::from_mode(mode)).unwrap();
    };
    write(SECRET, 0o600);
    let url = hooks.url("/");
    site.append(&format!("[subscribers.erp]\nurl = {url}\nsecret_file = \"erp.secret\"\n"));
    site.start();
    let (_session, token) = site.login_with_token(pump);
    let signed = |number: u64| {
        send(&site, token, number..number + 1);
        let hook = hooks.wait(usize::try_from(number).unwrap() + 1).pop().unwrap();
        [SECRET, OTHER_SECRET].map(|secret| signatures_of(&hook, secret))
    };
    assert_eq!(signed(0), [1, 0]);
    write(&format!("{OTHER_SECRET}\n{SECRET}\n"), 0o600);
    eventually("it is taken up", || site.log().contains("event=configuration_reloaded"));
    assert_eq!(signed(1), [1, 1]);
    write("whsec_nonsense", 0o600);
    eventually("it is refused", || site.log().contains("event=configuration_refused"));
    assert!(site.log().contains("erp.secret"), "{}", site.log());
    assert_eq!(signed(2), [1, 1]);
    write(OTHER_SECRET, 0o600);
    let reloads = || site.log().matches("event=configuration_reloaded").count();
    eventually("it is taken up", || reloads() == 2);
    assert_eq!(signed(3), [0, 1]);
}

#[test]
fn a_trace_tells_that_deliveries_to_a_subscriber_stopped_and_how_they_go_on() {
    let hooks = Hooks::start(|_| Act::Answer(410, String::new()));
    let down = Hooks::start(|_| Act::Answer(500, String::new()));
    let site = site();
    let pump = site.device("pump-1", "Devices");
    for (name, hooks) in [("gone", &hooks), ("down", &down)] {
        site.append(&format!("[subscribers.{name}]\nurl = {}\nsecret = \"{SECRET}\"\n", hooks.url("/")));
    }
    site.start();
    let (_session, token) = site.login_with_token(pump);
    send(&site, token, 0..3);
    eventually("it is suspended", || destination(&site, "gone")["state"] == "suspended");
    eventually("it fails", || destination(&site, "down")["state"] == "failing");
    eventually("all wait", || destination(&site, "gone")["waiting"] == 3);
    let list = site.http().get("/v1/messages?kind=telemetry").json()["messages"].clone();
    let told = |at: usize, to: &str| -> Vec<(String, String)> {
        let message = site.http().get(&format!("/v1/messages/{}", list[at]["seq"])).json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let events = message["events"].as_array().unwrap().iter().filter(|event| event["to"] == to);
        events.map(|event| (text(&event["event"]), text(&event["reason"]))).collect()
    };
    let names = |told: &[(String, String)]| told.iter().map(|(event, _)| event.clone()).collect::<Vec<_>>();
    assert_eq!(names(&told(0, "gone")), ["sent", "refused", "stopped"]);
    let last = told(2, "gone");
    assert_eq!(names(&last), ["stopped"]);
    assert!(last[0].1.contains("410") && last[0].1.contains("iotsocketd replay gone"), "{last:?}");
    assert_eq!(names(&told(0, "down")), ["sent", "refused"]);
    let last = told(2, "down");
    let first = list[0]["seq"].to_string();
    assert!(names(&last) == ["stopped"] && last[0].1.starts_with(&first), "{last:?}");
    assert!(last[0].1.contains("status 500"), "{last:?}");
}
