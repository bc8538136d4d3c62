//! The access list: uploaded, refused, edited, revoked, on disk.

use std::process::Command;

use iotsocketd::hub::access_file::key_to_hex;
use iotsocketd::wire::{AclItem, AuthKey, Format, GroupName, Transmission};
use serde_json::{Value, json};

use crate::support::{Device, Peer, Site, eventually};

fn item(device: Device, group: &str) -> AclItem {
    AclItem { group: GroupName::parse(group).unwrap(), uid: device.uid, key: device.key }
}

fn on_disk(site: &Site) -> Value {
    serde_json::from_str(&site.read("state/acl.json")).unwrap()
}

fn entry(device: Device, group: &str) -> Value {
    json!({"GroupName": group, "AuthKey": key_to_hex(&device.key)})
}

/// Sends the head and items of a list, and nothing behind them.
fn send_list(central: &mut Peer, count: u32, items: &[AclItem]) {
    let mut bytes = Vec::new();
    Transmission::AclHead { count }.encode(&mut bytes);
    items.iter().for_each(|item| bytes.extend_from_slice(&item.encode()));
    central.send_raw(&bytes);
}

/// B8: the pong behind a list means that it is whole on disk, and survives `kill -9`.
#[test]
fn an_uploaded_list_is_on_disk_at_the_pong_and_survives_a_kill() {
    let site = Site::started();
    let (pump, gate) = (site.stranger("pump-1"), site.stranger("gate"));
    let mut central = site.login(site.central());
    assert!(site.try_login(pump).is_err());
    assert!(central.upload(&[item(pump, "Devices"), item(gate, "Stations")]));
    let expected = json!({"pump-1": entry(pump, "Devices"), "gate": entry(gate, "Stations")});
    assert_eq!(on_disk(&site), expected);
    let (mut object, _) = site.login_with_token(pump);
    object.is_alive();
    site.kill();
    assert_eq!(on_disk(&site), expected);
    site.start();
    site.login_with_token(pump).0.is_alive();
    site.login(gate).is_alive();
}

/// B7: a list takes effect whole or not at all; a central that drops in the middle changes nothing.
#[test]
fn a_list_that_is_cut_changes_nothing() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let before = on_disk(&site);
    let mut central = site.login(site.central());
    let other = site.stranger("other");
    send_list(&mut central, 3, &[item(other, "Devices")]);
    drop(central);
    eventually("the central is gone", || !site.status()["sessions"]["central"].as_bool().unwrap());
    assert_eq!(on_disk(&site), before);
    assert!(site.try_login(other).is_err());
    site.login_with_token(pump).0.is_alive();
}

/// B8: no empty, wrong or repeated UID ever gets into the file.
#[test]
fn a_refused_list_keeps_the_session_and_the_old_list() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let before = on_disk(&site);
    let mut central = site.login(site.central());
    let (mut object, _) = site.login_with_token(pump);
    let other = site.stranger("other");
    let empty = AclItem { uid: iotsocketd::wire::Uid::CENTRAL, ..item(other, "Devices") };
    let lists: [&[AclItem]; 3] = [
        &[item(other, "Devices"), item(pump, "Nowhere")],
        &[item(other, "Devices"), item(other, "Stations")],
        &[empty],
    ];
    for (count, list) in (1..).zip(lists) {
        assert!(central.upload(list), "the session goes on");
        assert_eq!(site.refused("sessions.access_list"), count);
        assert_eq!(on_disk(&site), before);
    }
    // A UID that is no UTF-8: the same, whole list.
    let mut bytes = Vec::new();
    Transmission::AclHead { count: 1 }.encode(&mut bytes);
    let mut wrong = item(other, "Devices").encode();
    wrong[31] = 0xFF;
    bytes.extend_from_slice(&wrong);
    central.send_raw(&bytes);
    central.is_alive();
    assert_eq!(on_disk(&site), before);
    object.is_alive();
    assert!(site.try_login(other).is_err());
    let body = json!([{"GroupName": "Devices", "UID": "a", "AuthKey": key_to_hex(&other.key)},
        {"GroupName": "Nowhere", "UID": "b", "AuthKey": key_to_hex(&other.key)}]);
    let reply = site.post("/acl", &body);
    assert_eq!(reply.status, 400);
    let sentence = reply.json()["error"].as_str().unwrap().to_owned();
    assert!(
        sentence.contains("GroupName") && sentence.contains("Nowhere") && sentence.contains('1'),
        "{sentence}"
    );
    assert!(!sentence.contains(&key_to_hex(&other.key)));
    assert_eq!(on_disk(&site), before);
}

#[test]
fn a_count_above_20000_is_closed_at_the_count() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (mut object, _) = site.login_with_token(pump);
    for count in [20_001, u32::MAX] {
        let mut central = site.login(site.central());
        send_list(&mut central, count, &[]);
        assert_eq!(central.closed(), 0x00);
    }
    assert_eq!(site.refused("sessions.too_many_acl_items"), 2);
    assert!(site.memory_kib() < 64 * 1024);
    object.is_alive();
}

#[test]
fn a_list_of_20000_is_taken_over_tcp_and_https() {
    let site = Site::started();
    let device = site.stranger("last");
    let mut items: Vec<_> = (0..19_999_u32)
        .map(|n| {
            let mut key = AuthKey([7; 16]);
            key.0[..4].copy_from_slice(&n.to_be_bytes());
            let uid = iotsocketd::wire::Uid::parse(&format!("object-{n}")).unwrap();
            AclItem { group: GroupName::parse("Devices").unwrap(), uid, key }
        })
        .collect();
    items.push(item(device, "Devices"));
    let mut central = site.login(site.central());
    assert!(central.upload(&items));
    assert_eq!(on_disk(&site).as_object().unwrap().len(), 20_000);
    site.login_with_token(device).0.is_alive();
    let body: Vec<_> = items[10_000..]
        .iter()
        .map(|item| {
            json!({"GroupName": item.group.as_str(), "UID": item.uid.as_str(), "AuthKey": key_to_hex(&item.key)})
        })
        .collect();
    assert_eq!(site.post("/acl", &Value::from(body)).status, 200);
    assert_eq!(on_disk(&site).as_object().unwrap().len(), 10_000);
    site.login_with_token(device).0.is_alive();
}

/// B6: revocation ends the session and its tokens at once.
#[test]
fn revoked_objects_lose_session_and_token_at_once_and_others_notice_nothing() {
    let site = Site::new();
    let gone = site.device("gone", "Devices");
    let rekeyed = site.device("rekeyed", "Devices");
    let moved = site.device("moved", "Devices");
    let stays = site.device("stays", "Devices");
    site.start();
    let mut central = site.login(site.central());
    let mut revoked: Vec<_> =
        [gone, rekeyed, moved].map(|device| site.login_with_token(device)).into_iter().collect();
    let (mut object, token) = site.login_with_token(stays);
    let fresh = site.stranger("rekeyed");
    let list = [item(fresh, "Devices"), item(moved, "Stations"), item(stays, "Devices")];
    assert!(central.upload(&list));
    // In force at the pong: these datagrams are dropped, the one behind them is not.
    for (_, token) in &revoked {
        site.telemetry(*token, Format::Utf8, b"replayed");
    }
    site.telemetry(token, Format::Utf8, b"good");
    assert_eq!(central.telemetry(), (stays.uid, b"good".to_vec()));
    assert_eq!(site.refused("telemetry.wrong_token"), 3);
    for (object, _) in &mut revoked {
        assert_eq!(object.closed(), 0x01);
    }
    object.is_alive();
    assert!(site.try_login(gone).is_err());
    assert!(site.try_login(rekeyed).is_err());
    site.login_with_token(fresh).0.is_alive();
    site.login(moved).is_alive();
    assert_eq!(site.refused("router.sessions_revoked"), 3);
}

#[test]
fn telemetry_taken_before_a_revocation_is_still_delivered() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (_object, token) = site.login_with_token(pump);
    site.telemetry(token, Format::Utf8, b"last words");
    eventually("it was taken", || site.number("/books/received") == 1);
    site.write_acl(&json!({}));
    eventually("the object is revoked", || site.number("/sessions/live") == 0);
    assert_eq!(site.login(site.central()).telemetry(), (pump.uid, b"last words".to_vec()));
}

/// B6: with `device`, on a concentrator that runs.
#[test]
fn device_commands_are_taken_up_within_two_seconds() {
    let site = Site::started();
    let run = |words: &[&str]| {
        let ran = site.run(words);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let key = AuthKey::parse(ran.out.trim());
        if let Some(key) = key {
            site.keep_secret(key_to_hex(&key));
        }
        (key, std::time::Instant::now())
    };
    let uid = iotsocketd::wire::Uid::parse("pump-1").unwrap();
    let (key, changed) = run(&["device", "add", "pump-1", "--group", "Devices"]);
    let pump = Device { uid, key: key.unwrap() };
    eventually("the object may log in", || site.try_login(pump).is_ok());
    assert!(changed.elapsed().as_secs() < 2);
    let (mut object, token) = site.login_with_token(pump);
    let (key, changed) = run(&["device", "rotate", "pump-1"]);
    assert_eq!(object.closed(), 0x01);
    assert!(changed.elapsed().as_secs() < 2);
    let pump = Device { uid, key: key.unwrap() };
    let (mut object, _) = site.login_with_token(pump);
    let (_, changed) = run(&["device", "remove", "pump-1"]);
    assert_eq!(object.closed(), 0x01);
    assert!(changed.elapsed().as_secs() < 2);
    assert!(site.try_login(pump).is_err());
    site.telemetry(token, Format::Utf8, b"replayed");
    eventually("it is dropped", || site.refused("telemetry.wrong_token") == 1);
}

/// B8: a file that got lost is not a list of nobody.
#[test]
fn a_file_that_is_gone_while_running_changes_nothing_and_is_told() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (mut object, _) = site.login_with_token(pump);
    std::fs::rename(site.path("state/acl.json"), site.path("acl.lost")).unwrap();
    eventually("it is told", || site.log().contains("event=access_list_refused"));
    object.is_alive();
    site.login_with_token(pump).0.is_alive();
    std::fs::rename(site.path("acl.lost"), site.path("state/acl.json")).unwrap();
    site.write_acl(&json!({}));
    eventually("a list of nobody counts", || site.try_login(pump).is_err());
    assert!(site.log().contains("put the file back"), "{}", site.log());
}

/// B8: a file that is half written or wrong is refused, and the list in force stays.
#[test]
fn a_broken_file_while_running_changes_nothing_and_at_start_is_exit_1() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let whole = site.read("state/acl.json");
    let (mut object, _) = site.login_with_token(pump);
    let nobody = r#"{"a": {"GroupName": "Nobody", "AuthKey": "8f3c1d5e7a9b0c2d4e6f8091a2b3c4d5"}}"#;
    for (times, broken) in (1..).zip(["", &whole[..whole.len() / 2], nobody, "null"]) {
        std::fs::write(site.path("state/acl.json"), broken).unwrap();
        eventually("it is refused", || site.log().matches("event=access_list_refused").count() >= times);
        object.is_alive();
    }
    site.login_with_token(pump).0.is_alive();
    site.stop();
    let ran = site.run(&["run"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("acl.json"), "{}", ran.err);
}

/// A list that could not be read is read again, though nothing of its file changes any more.
#[test]
fn a_list_that_nobody_could_read_for_want_of_descriptors_is_in_force_once_there_are_some() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let descriptors = |count: usize| {
        let limit = ["--pid", &site.pid().to_string(), &format!("--nofile={count}:")].map(str::to_owned);
        assert!(Command::new("prlimit").args(&limit).status().unwrap().success());
    };
    let refusals = || site.log().matches("event=access_list_refused").count();
    site.login_with_token(pump).0.is_alive();
    descriptors(1);
    site.write_acl(&json!({}));
    eventually("it is refused", || refusals() > 0);
    descriptors(4096);
    eventually("it is in force", || site.try_login(pump).is_err());
    assert_eq!(refusals(), 1, "{}", site.log());
}

/// Each of them can log in as the others.
#[test]
fn objects_with_the_same_key_are_a_warning_of_check() {
    let site = Site::new();
    let keys = ["a", "b"].map(|uid| key_to_hex(&site.stranger(uid).key));
    let object = |key: &String| json!({"GroupName": "Devices", "AuthKey": key});
    site.write_acl(&json!({"a": object(&keys[0]), "b": object(&keys[1]), "c": object(&keys[0])}));
    let ran = site.run(&["check"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("2 objects, `a` to `c`, have the same key"), "{}", ran.err);
    assert!(keys.iter().all(|key| !ran.err.contains(key)), "{}", ran.err);
}
