//! Subscribers: signed, in order, once by id, whatever happens to them or to the concentrator.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use iotsocketd::wire::{Format, Token};
use serde_json::{Value, json};

use crate::support::receiver::{OTHER_SECRET, Receiver, SECRET, signatures_of};
use crate::support::{Act, Hooks, Site, eventually};

/// Telemetry that counts up: `{"n": number}`.
fn send(site: &Site, token: Token, numbers: std::ops::Range<u64>) {
    for number in numbers {
        site.telemetry(token, Format::Json, json!({ "n": number }).to_string().as_bytes());
        // A socket's buffer is no journal: what comes faster than it is taken is lost there.
        if number % 50 == 49 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<Value> {
    range.map(|number| json!({ "n": number })).collect()
}

fn site() -> Site {
    let site = Site::new();
    site.set("time", "trust", "\"always\"");
    site.keep_secret(SECRET.to_owned());
    site.keep_secret(OTHER_SECRET.to_owned());
    site
}

fn destination(site: &Site, name: &str) -> Value {
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
        erp["waiting"] == 0 && erp["delivered"] == 800 && destination(&site, "lake")["waiting"] == 0
    });
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
