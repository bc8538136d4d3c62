//! The audit log of the real program: everything that somebody does is in it, bounded, and whole.

use std::fs;

use iotsocketd::wire::{Format, Token};
use serde_json::Value;

use crate::support::{Http, Site, eventually};

/// The payloads of all records.
fn records(site: &Site) -> Vec<Value> {
    let page = site.http().get("/v1/messages?kind=audit&last=1000").json();
    page["messages"].as_array().unwrap().iter().map(|message| message["payload"].clone()).collect()
}

pub fn has(site: &Site, what: &str, who: &str, detail: &str) -> bool {
    records(site).iter().any(|record| {
        record["what"] == what
            && record["who"].as_str().unwrap_or_default() == who
            && record["detail"].as_str().unwrap_or_default().contains(detail)
    })
}

fn verified(site: &Site) -> String {
    let ran = site.run(&["audit", "--verify"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.out
}

pub const TOKEN: &str = "5f3e0c9a7b2d4186";

pub fn key(rights: &str, groups: &str) -> String {
    let sha256 = ring::digest::digest(&ring::digest::SHA256, TOKEN.as_bytes());
    let hex: String = sha256.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "[[api.key]]\nname = \"erp\"\nsha256 = \"{hex}\"\nrights = [{rights}]\ngroups = [{groups}]\nallow_from = []\n"
    )
}

#[test]
fn what_everybody_does_is_recorded_and_the_chain_holds_over_restarts() {
    let site = Site::new();
    let pump = site.device("pump", "Devices");
    site.start();
    let _session = site.login(pump);
    let stranger = site.stranger("nobody");
    for _ in 0..5 {
        assert!(site.try_login(stranger).is_err());
    }
    let command = serde_json::json!({"UID": "pump", "Payload": "on", "Format": "UTF8"});
    assert_eq!(site.post("/v1/commands", &command).status, 202);
    site.device("valve", "Stations");
    site.set("journal", "calls", "\"all\"");
    let mut wrong = site.http();
    wrong.bearer = Some("0".repeat(32));
    assert_eq!(wrong.get("/v1/status").status, 401);
    assert_eq!(site.run(&["backup", site.path("copy").to_str().unwrap()]).code, 0);
    for (what, who, detail) in [
        ("started", "", "version"),
        ("login", "pump", ""),
        ("refused", "", "login"),
        ("command", "central", "id "),
        ("access_list", "file", "1 objects before, 2 after"),
        ("configuration", "", "journal"),
        ("key_used", "central", ""),
        ("operator", "", "/v1/backup"),
    ] {
        eventually(&format!("{what} {who} {detail} is recorded"), || has(&site, what, who, detail));
    }
    let logins = records(&site).iter().filter(|record| record["what"] == "refused").count();
    assert!(logins <= 2, "one record a source and minute: {:?}", records(&site));
    verified(&site);
    site.stop();
    let stopped = verified(&site);
    site.start();
    site.kill();
    site.start();
    eventually("the chain goes on", || records(&site).len() > 10);
    eventually("it is on flash", || verified(&site) != stopped);
    let counted = records(&site)
        .iter()
        .filter(|r| r["what"] == "refused")
        .map(|r| r["count"].as_u64().unwrap())
        .sum::<u64>();
    assert_eq!(counted, 6, "none is left out: {:?}", records(&site));
    let listed = site.run(&["audit", "--uid", "pump"]);
    assert!(
        listed.out.lines().any(|line| line.contains("login") && line.contains("by pump")),
        "{}",
        listed.out
    );
    let secret = key_to_hex(&site);
    assert!(!records(&site).iter().any(|record| record.to_string().contains(&secret)));
}

fn key_to_hex(site: &Site) -> String {
    site.read("central.key").lines().last().unwrap().to_owned()
}

/// Somebody takes records out of the journal's file, or changes one.
#[test]
fn a_journal_that_somebody_changed_shows() {
    let site = Site::started();
    for round in 0..3 {
        site.set("sessions", "keep_session", &format!("\"{}s\"", 61 + round));
        eventually("it is recorded", || {
            records(&site).iter().filter(|record| record["what"] == "configuration").count() > round
        });
    }
    site.stop();
    verified(&site);
    let segment = fs::read_dir(site.path("state/journal")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.extension().is_some_and(|end| end == "seg")).max();
    let segment = segment.unwrap_or_else(|| {
        panic!("{:?}", fs::read_dir(site.path("state/journal")).unwrap().collect::<Vec<_>>())
    });
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(13).position(|window| window == b"configuration").unwrap();
    bytes[at] = b'K';
    fs::write(&segment, bytes).unwrap();
    let ran = site.run(&["audit", "--verify"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.err.contains("missing") || ran.err.contains("changed"), "{}", ran.err);
}

/// Whoever sends what is refused is in the audit log: once at first, and its count a minute later or at the end.
#[test]
fn refused_messages_are_recorded_of_who_sent_them() {
    let site = Site::new();
    let pump = site.device("pump", "Devices");
    for (key, value) in [("validate", "\"format\""), ("max_payload", "\"10B\"")] {
        site.set("groups.Devices", key, value);
    }
    site.append("[ingest.own]\nformat = \"plain\"\ngroup = \"Devices\"\nmax_body = \"1KiB\"");
    site.append("[ingest.slow]\nformat = \"plain\"\ngroup = \"Devices\"\nrate = \"1/s\"");
    site.append("[ingest.far]\nformat = \"plain\"\ngroup = \"Devices\"\nallow_from = [\"127.0.0.2/32\"]");
    site.set("api", "body_timeout", "\"1s\"");
    site.start();
    let (_session, token) = site.login_with_token(pump);
    (0..5).for_each(|_| site.telemetry(token, Format::Utf8, b"01234567890"));
    site.telemetry(Token([0xA5; 8]), Format::Binary, b"1");
    site.datagram(b"short");
    let bring = |source: &str, kind: &str, body: &[u8]| {
        let headers = [("Content-Type", kind)];
        site.http().post_with(&format!("/v1/ingest/{source}"), &headers, body).unwrap().status
    };
    let json = "application/json";
    let long = br#"{"UID":"boiler","Payload":"01234567890","Format":"UTF8"}"#;
    assert_eq!(bring("own", json, long), 422);
    assert_eq!(bring("own", json, b"{"), 400);
    assert_eq!(bring("own", "text/html", b"{}"), 415);
    assert_eq!(bring("own", json, &[b' '; 1025]), 413);
    let few = br#"[{"UID":"a","Payload":1,"Format":"JSON"},{"UID":"a","Payload":2,"Format":"JSON"}]"#;
    assert_eq!((bring("slow", json, few), bring("slow", json, few)), (200, 429));
    assert_eq!(bring("far", json, few), 403);
    assert_eq!(bring("nobody", json, few), 404);
    let mut slow = site.http();
    slow.send_part(
        "POST",
        "/v1/ingest/own",
        "Content-Type: application/json\r\nContent-Length: 50\r\n",
        b"{",
    )
    .unwrap();
    assert_eq!(slow.read().unwrap().status, 408);
    for (what, who, detail) in [
        ("message_refused", "pump", "payload"),
        ("message_refused", "boiler", "own: objects of the group `Devices` may not send 11 bytes"),
        ("datagram_refused", "", "wrong_token"),
        ("ingest_refused", "own", "not JSON"),
        ("ingest_refused", "slow", "1 messages a second"),
        ("key_refused", "central", "may not bring messages here"),
    ] {
        eventually(&format!("{what} {who} {detail} is recorded"), || has(&site, what, who, detail));
    }
    let listed = site.run(&["audit", "--uid", "pump"]);
    assert!(listed.out.contains("message_refused"), "{}", listed.out);
    site.stop();
    verified(&site);
    site.start();
    let counted = |what: &str, who: &str| -> u64 {
        let of = records(&site).into_iter().filter(|r| r["what"] == what);
        let of = of.filter(|r| r["who"].as_str().unwrap_or_default() == who);
        of.map(|record| record["count"].as_u64().unwrap()).sum()
    };
    let counts = [
        ("message_refused", "pump", 5),
        ("datagram_refused", "", 2),
        ("ingest_refused", "own", 4),
        // The wrong place, and a source that there is not.
        ("key_refused", "central", 2),
    ];
    for (what, who, count) in counts {
        assert_eq!(counted(what, who), count, "none is left out: {what} {who}");
    }
}

#[test]
fn keys_come_go_and_are_narrowed_without_a_restart_and_every_refused_use_is_recorded() {
    let site = Site::started();
    let configuration = site.read("iotsocketd.toml");
    let with = |keys: &str| fs::write(site.config(), format!("{configuration}\n{keys}")).unwrap();
    let ask = |path: &str| {
        let mut http = Http::connect(&site, None).unwrap();
        http.bearer = Some(TOKEN.to_owned());
        http.get(path).status
    };
    assert_eq!(ask("/v1/status"), 401);
    with(&key("\"read\"", ""));
    eventually("the new key works", || ask("/v1/status") == 200);
    with(&key("\"ingest\"", ""));
    eventually("its rights are narrower", || ask("/v1/status") == 403);
    with(&key("\"read\"", "\"Stations\""));
    site.device("pump", "Devices");
    eventually("it sees its group only", || ask("/v1/objects/pump") == 404);
    with("");
    eventually("it is gone", || ask("/v1/status") == 401);
    for (what, who, detail) in [
        ("configuration", "", "api.key.erp added"),
        ("key_used", "erp", "GET /v1/"),
        ("key_refused", "erp", "lacks the right"),
        ("configuration", "", "api.key.erp removed"),
    ] {
        eventually(&format!("{what} {who} {detail} is recorded"), || has(&site, what, who, detail));
    }
    let refused = records(&site).into_iter().find(|record| record["what"] == "key_refused").unwrap();
    assert_eq!(refused["from"], "127.0.0.1", "{refused}");
    verified(&site);
}
