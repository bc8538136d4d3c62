//! The audit log of the real program: everything that somebody does is in it, bounded, and whole.

use std::fs;

use serde_json::Value;

use crate::support::{Http, Site, eventually};

/// The payloads of all records.
fn records(site: &Site) -> Vec<Value> {
    let page = site.http().get("/v1/messages?kind=audit&last=1000").json();
    page["messages"].as_array().unwrap().iter().map(|message| message["payload"].clone()).collect()
}

fn has(site: &Site, what: &str, who: &str, detail: &str) -> bool {
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

const TOKEN: &str = "5f3e0c9a7b2d4186";

fn key(rights: &str, groups: &str) -> String {
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
