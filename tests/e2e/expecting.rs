//! What is expected of objects, at the real program: what cannot wait for habits of hours is in the tests of the hub.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::sources::telemetry_from;
use crate::support::{Site, eventually};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// The subjects of the alerts of this name that are up.
fn up(site: &Site, name: &str) -> Vec<String> {
    let status = site.status();
    let of_it = status["alerts"].as_array().unwrap().iter().filter(|alert| alert["name"] == name);
    of_it.map(|alert| alert["subject"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn who_speaks_from_two_addresses_in_turn_is_told_and_who_moves_on_is_not() {
    let site = Site::new();
    let (twin, car) = (site.device("twin", "Devices"), site.device("car", "Devices"));
    site.start();
    let (_object, token) = site.login_with_token(twin);
    let (_other, moving) = site.login_with_token(car);
    let mut sent = 0;
    let mut send = |source, token| {
        telemetry_from(&site, source, token, b"21.5");
        sent += 1;
        // Datagrams of two sockets have no order of their own.
        eventually("it is taken", || site.number("/books/received") == sent);
    };
    for last in 1..10 {
        send(IpAddr::from([127, 0, 1, last]), moving);
    }
    for _ in 0..3 {
        send(HERE, token);
        send(ELSEWHERE, token);
    }
    send(HERE, token);
    assert_eq!(up(&site, "object_two_addresses"), [""; 0]);
    send(ELSEWHERE, token);
    eventually("it is told", || !up(&site, "object_two_addresses").is_empty());
    assert_eq!(up(&site, "object_two_addresses"), ["twin"]);
    let events = || site.http().get("/v1/events?last=100&uid=twin").json();
    eventually("the event is on flash", || events()["events"].as_array().is_some_and(|all| all.len() == 1));
    let sentence = events()["events"][0]["payload"]["sentence"].as_str().unwrap().to_owned();
    assert!(sentence.contains("127.0.0.2") && sentence.contains("device rotate twin"), "{sentence}");

    let object = site.http().get("/v1/objects/twin").json();
    assert!(object["last_seen"].is_string(), "{object}");
    assert_eq!([&object["usual_seconds"], &object["expectation"]], [&Value::Null; 2], "it is being learned");
}

#[test]
fn what_is_known_of_objects_outlives_a_restart_and_a_file_that_is_damaged() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.set("time", "trust", "\"always\"");
    site.start();
    let (object, token) = site.login_with_token(pump);
    telemetry_from(&site, HERE, token, b"21.5");
    eventually("it is taken", || site.number("/books/received") == 1);
    drop(object);
    let seen = || site.http().get("/v1/objects/pump-1").json()["last_seen"].clone();
    eventually("its end is noted", || {
        site.http().get("/v1/objects/pump-1").json()["state"] == "kept" && seen().is_string()
    });
    let before = seen();
    site.stop();
    let file = site.path("state/habits");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    site.start();
    let close = |a: &Value, b: &Value| {
        let second = |text: &Value| text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
        second(a).abs_diff(second(b)) <= 1
    };
    assert!(close(&seen(), &before), "{} is {before}", seen());
    site.stop();
    let mut bytes = fs::read(&file).unwrap();
    bytes[6] ^= 1;
    fs::write(&file, bytes).unwrap();
    site.start();
    assert!(site.log().contains("event=habits_not_read"), "{}", site.log());
    assert_eq!(seen(), Value::Null);
}
