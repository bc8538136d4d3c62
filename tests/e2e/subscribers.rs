//! Subscribers: signed, in order, once by id, whatever happens to them or to the concentrator.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use iotsocketd::wire::{Format, Token};
use serde_json::{Value, json};

use crate::support::receiver::{OTHER_SECRET, Receiver, SECRET, signatures_of};
use crate::support::{Act, Hooks, Site, eventually};

/// Telemetry that counts up: `{"n": number}`.
pub fn send(site: &Site, token: Token, numbers: std::ops::Range<u64>) {
    for number in numbers {
        site.telemetry(token, Format::Json, json!({ "n": number }).to_string().as_bytes());
        // A socket's buffer is no journal: what comes faster than it is taken is lost there.
        if number % 50 == 49 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

pub fn numbers(range: std::ops::Range<u64>) -> Vec<Value> {
    range.map(|number| json!({ "n": number })).collect()
}

pub fn site() -> Site {
    let site = Site::new();
    site.set("time", "trust", "\"always\"");
    site.keep_secret(SECRET.to_owned());
    site.keep_secret(OTHER_SECRET.to_owned());
    site
}

pub fn destination(site: &Site, name: &str) -> Value {
    let status = site.status();
    let all = status["destinations"].as_array().unwrap();
    all.iter().find(|destination| destination["name"] == name).unwrap_or(&Value::Null).clone()
}

#[test]
fn a_subscriber_gets_everything_once_and_in_order_though_the_concentrator_is_killed() {
    let receiver = Receiver::start(SECRET);
    let batches = Receiver::start(SECRET);
    let site = site();
    let pump = site.device("pump-1", "Devices");
    site.append(&receiver.table("erp", ""));
    site.append(&batches.table("lake", "batch_max = 50\nbatch_wait = \"50ms\"\norder = \"live-first\""));
    site.start();
    let mut sent = 0;
    for round in 0..4 {
        let (session, token) = site.login_with_token(pump);
        send(&site, token, sent..sent + 200);
        sent += 200;
        // What was shown is on flash; what is not, a power cut may take.
        eventually("all of it is on flash", || site.number("/books/received") == sent);
        let shown = || site.http().get("/v1/messages?limit=1000").json()["next"].as_u64().unwrap();
        eventually("all of it is on flash", || shown() >= sent);
        drop(session);
        if round < 3 {
            site.kill();
            site.start();
        }
    }
    for endpoint in [&receiver, &batches] {
        endpoint.wait(800);
        assert_eq!(endpoint.count(), 800);
    }
    assert_eq!(receiver.of("pump-1"), numbers(0..800), "in order");
    eventually("the books are in order", || {
        let erp = destination(&site, "erp");
        let devices = &erp["groups"]["Devices"];
        let balance = [&devices["received"], &devices["delivered"], &devices["waiting"]];
        balance == [800, 800, 0] && erp["waiting"] == 0 && erp["delivered"] == 800
    });
    eventually("the other's, too", || destination(&site, "lake")["waiting"] == 0);
    let id = site.http().get("/v1/messages?kind=telemetry&limit=1").json()["messages"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let trace = site.http().get(&format!("/v1/messages/{id}")).json();
    let told = |to: &str| {
        let events = trace["events"].as_array().unwrap().iter();
        let events = events.filter(|event| event["to"] == to && event["attempt"].is_u64());
        events.map(|event| event["event"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for name in ["erp", "lake"] {
        assert_eq!(told(name)[told(name).len() - 2..], ["sent", "delivered"], "{trace}");
    }
    let (again, before) = (receiver.repeated(), receiver.hooks.seen().len());
    site.stop();
    site.start();
    let (_session, token) = site.login_with_token(pump);
    send(&site, token, 800..801);
    receiver.wait(801);
    batches.wait(801);
    assert_eq!(receiver.hooks.seen().len(), before + 1, "a stop is no reason to send again");
    assert_eq!(receiver.repeated(), again);
}

#[test]
fn both_secrets_sign_while_they_are_rotated_and_files_are_read_again() {
    let hooks = Hooks::start(|_| Act::Answer(200, String::new()));
    let site = site();
    let pump = site.device("pump-1", "Devices");
    let secret = |lines: &[&str]| {
        fs::write(site.path("erp.secret"), lines.join("\n")).unwrap();
        fs::set_permissions(site.path("erp.secret"), fs::Permissions::from_mode(0o600)).unwrap();
    };
    secret(&[SECRET]);
    let table = format!("[subscribers.erp]\nurl = {}\nsecret_file = \"erp.secret\"", hooks.url("/"));
    site.append(&table);
    site.start();
    let (_session, token) = site.login_with_token(pump);
    send(&site, token, 0..1);
    let seen = hooks.wait(1);
    assert_eq!((signatures_of(&seen[0], SECRET), signatures_of(&seen[0], OTHER_SECRET)), (1, 0));
    secret(&[OTHER_SECRET, SECRET]);
    site.signal("HUP");
    eventually("it is taken up", || site.log().contains("event=configuration_reloaded"));
    send(&site, token, 1..2);
    let seen = hooks.wait(2);
    assert_eq!((signatures_of(&seen[1], SECRET), signatures_of(&seen[1], OTHER_SECRET)), (1, 1));
}

#[test]
fn subscribers_come_change_and_go_while_it_runs() {
    let (first, second) = (Receiver::start(SECRET), Receiver::start(SECRET));
    let site = site();
    let (pump, tank) = (site.device("pump-1", "Devices"), site.device("tank-1", "Stations"));
    site.set("groups.Stations", "telemetry", "true");
    site.append(&first.table("plant", "groups = [\"Devices\"]"));
    site.start();
    let (_one, pump_token) = site.login_with_token(pump);
    let (_two, tank_token) = site.login_with_token(tank);
    send(&site, pump_token, 0..3);
    send(&site, tank_token, 0..3);
    first.wait(3);
    // Another comes: it gets what comes from now on.
    site.append(&second.table("lake", ""));
    eventually("it is there", || destination(&site, "lake")["state"] == "up");
    send(&site, tank_token, 3..5);
    send(&site, pump_token, 3..5);
    second.wait(4);
    first.wait(5);
    assert_eq!((first.of("tank-1"), second.of("tank-1")), (vec![], numbers(3..5)));
    // The first one wants other messages.
    site.set("subscribers.plant", "groups", "[\"Stations\"]");
    let reloaded = |times| site.log().matches("event=configuration_reloaded").count() >= times;
    eventually("it is taken up", || reloaded(2));
    send(&site, tank_token, 5..6);
    send(&site, pump_token, 5..6);
    second.wait(6);
    first.wait(6);
    assert_eq!((first.of("tank-1"), first.of("pump-1")), (numbers(5..6), numbers(0..5)));
    // And goes.
    let text = site.read("iotsocketd.toml");
    let start = text.find("[subscribers.plant]\nurl = \"http:").unwrap();
    let end = text[start..].find("[subscribers.lake]\nurl").map(|end| start + end).unwrap();
    fs::write(site.config(), format!("{}{}", &text[..start], &text[end..])).unwrap();
    eventually("it is gone", || destination(&site, "plant").is_null());
    send(&site, pump_token, 6..8);
    second.wait(8);
    assert_eq!(first.count(), 6);
    assert!(site.log().contains("event=subscriber_removed subscriber=plant"));
}

#[test]
fn what_is_given_up_is_a_dead_letter_until_somebody_replays_or_drops_it() {
    let is_down = Arc::new(AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    let receiver = Receiver::start_with(SECRET, move |_, _| {
        down.load(Ordering::Relaxed).then(|| Act::Answer(500, String::new()))
    });
    let site = site();
    let pump = site.device("pump-1", "Devices");
    site.append(&receiver.table("plant", "give_up = \"1s\""));
    site.start();
    let (_session, token) = site.login_with_token(pump);
    send(&site, token, 0..4);
    let dead = || destination(&site, "plant")["dead_letters"].as_u64().unwrap();
    eventually("they are given up", || dead() == 4);
    let run = |words: &[&str]| site.run(words);
    let listed = run(&["deadletters", "list"]);
    assert_eq!(listed.code, 0, "{}", listed.err);
    let dead_ones = site.http().get("/v1/messages?kind=telemetry").json();
    let number = |at: usize| dead_ones["messages"][at]["seq"].to_string();
    let range = format!("plant: 4 messages, {} to {}", number(0), number(3));
    assert!(listed.out.contains(&range), "{}", listed.out);
    assert!(listed.out.contains("it answered status 500"), "{}", listed.out);
    eventually("an alert tells", || site.status()["alerts"].to_string().contains("\"destination\""));
    let dropped = run(&["deadletters", "drop", "plant", "--to", &number(0)]);
    assert_eq!((dropped.code, dropped.out.trim()), (0, "1 messages dropped"), "{}", dropped.err);
    // It is known over a crash.
    site.kill();
    site.start();
    assert_eq!(dead(), 3);
    is_down.store(false, Ordering::Relaxed);
    let replayed = run(&["deadletters", "replay", "plant"]);
    assert_eq!((replayed.code, replayed.out.trim()), (0, "3 messages go out once more"), "{}", replayed.err);
    receiver.wait(3);
    assert_eq!(receiver.of("pump-1"), numbers(1..4));
    assert_eq!((dead(), run(&["deadletters", "list"]).out.trim()), (0, "no dead letters"));
    let unknown = run(&["deadletters", "replay", "nobody"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("no subscriber of this name"), "{}", unknown.err);
    assert_eq!(run(&["deadletters", "bury", "plant"]).code, 2);
}

#[test]
fn one_that_wants_nothing_more_is_left_alone_until_a_replay() {
    let is_gone = Arc::new(AtomicBool::new(true));
    let gone = Arc::clone(&is_gone);
    let receiver = Receiver::start_with(SECRET, move |_, _| {
        gone.load(Ordering::Relaxed).then(|| Act::Answer(410, String::new()))
    });
    let site = site();
    let pump = site.device("pump-1", "Devices");
    site.append(&receiver.table("plant", ""));
    site.start();
    let (_session, token) = site.login_with_token(pump);
    send(&site, token, 0..3);
    eventually("it is suspended", || destination(&site, "plant")["state"] == "suspended");
    send(&site, token, 3..6);
    eventually("they are there", || destination(&site, "plant")["waiting"] == 6);
    assert_eq!(receiver.hooks.seen().len(), 1, "one call was enough");
    is_gone.store(false, Ordering::Relaxed);
    let run = |words: &[&str]| site.run(words);
    assert_eq!(run(&["replay", "plant"]).code, 2, "from where?");
    let replayed = run(&["replay", "plant", "--from", "1"]);
    assert_eq!(replayed.code, 0, "{}", replayed.err);
    receiver.wait(6);
    assert_eq!(receiver.of("pump-1"), numbers(0..6));
    // By time: everything that came in today.
    let replayed =
        run(&["replay", "plant", "--from", "2020-01-01T00:00:00Z", "--to", "2120-01-01T00:00:00+01:00"]);
    assert_eq!(replayed.code, 0, "{}", replayed.err);
    eventually("all of them came again", || receiver.repeated() == 6);
    assert_eq!(destination(&site, "plant")["delivered"], 6, "the books have them once");
}

#[test]
fn redirects_are_not_followed_and_a_private_address_must_be_named() {
    let elsewhere = Receiver::start(SECRET);
    let away = format!(
        "HTTP/1.1 307 X\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n",
        elsewhere.hooks.address
    );
    let redirecting = Hooks::start(move |_| Act::Say(away.clone().into_bytes()));
    let site = site();
    let pump = site.device("pump-1", "Devices");
    // A name of this machine that is no literal and not `localhost`.
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
    let table = |subscriber: &str, url: &str| {
        format!("[subscribers.{subscriber}]\nurl = {url}\nsecret = \"{SECRET}\"\n")
    };
    site.append(&table("redirected", &redirecting.url("/")));
    site.append(&table("inward", &format!("\"http://{name}:{}/\"", elsewhere.hooks.address.port())));
    site.start();
    let (_session, token) = site.login_with_token(pump);
    send(&site, token, 0..1);
    let failure =
        |name: &str| destination(&site, name)["last_failure"].as_str().unwrap_or_default().to_owned();
    eventually("a redirect is a failure", || failure("redirected").contains("redirects with status 307"));
    eventually("a name that leads inward is one, too", || {
        let said = failure("inward");
        said.contains("private address") || said.contains("has no address")
    });
    assert_eq!(elsewhere.count(), 0);
}
