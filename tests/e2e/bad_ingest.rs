//! What partner networks should not send: each has its own answer and its own counter, and what carried data is kept.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::ingest::{id_of, message, messages};
use crate::support::{Http, Reply, Site, eventually};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn up(changes: &Value) -> String {
    let mut body = json!({"deduplicationId": "d1", "time": "2026-11-21T18:52:42.5Z", "devAddr": "01a2b3c4", "fCnt": 41,
        "fPort": 2, "deviceInfo": {"devEui": "0018b20000000af1"}, "data": "AQL/"});
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

/// A site with a source that is not in a hurry and one from elsewhere.
fn site() -> Site {
    let site = Site::new();
    site.append("[ingest.net]\nformat = \"chirpstack\"\ngroup = \"Devices\"\nmax_body = \"1KiB\"");
    site.append("[ingest.far]\nformat = \"plain\"\ngroup = \"Devices\"\nallow_from = [\"127.0.0.2/32\"]");
    site.set("api", "body_timeout", "\"1s\"");
    site.set("time", "trust", "\"always\"");
    site.start();
    site
}

fn post(site: &Site, source: &str, body: &str) -> Reply {
    site.http().post_with(&format!("/v1/ingest/{source}"), &[JSON], body.as_bytes()).unwrap()
}

#[test]
fn what_is_refused_says_why_and_is_counted() {
    let site = site();
    let refused = |reply: Reply, status: u16, counter: &str, word: &str| {
        assert_eq!(reply.status, status, "{counter}: {}", reply.text());
        assert!(reply.json()["error"].as_str().unwrap().contains(word), "{counter}: {}", reply.text());
        assert_eq!(site.refused(counter), 1, "{counter}");
    };
    let mut stranger = site.http();
    stranger.bearer = Some("00".repeat(16));
    let wrong_key = stranger.post_with("/v1/ingest/net", &[JSON], b"{}").unwrap();
    assert!(wrong_key.head.contains("www-authenticate: bearer, basic"), "{}", wrong_key.head);
    refused(wrong_key, 401, "api.key", "Authorization");
    refused(post(&site, "far", "{}"), 403, "api.source_network", "source address");
    refused(post(&site, "nobody", "{}"), 404, "api.object", "no source of this name");
    let html = site.http().post_with("/v1/ingest/net", &[("Content-Type", "text/html")], b"{}").unwrap();
    refused(html, 415, "api.media_type", "application/json");
    refused(post(&site, "net", &" ".repeat(1025)), 413, "api.too_large", "1024 bytes");
    refused(post(&site, "net", ""), 400, "api.no_body", "empty");
    refused(post(&site, "net", "{\"data\":"), 400, "api.content", "not JSON");
    let mut slow = site.http();
    slow.send_part(
        "POST",
        "/v1/ingest/net",
        "Content-Type: application/json\r\nContent-Length: 50\r\n",
        b"{",
    )
    .unwrap();
    refused(slow.read().unwrap(), 408, "api.slow_body", "");
    let elsewhere = Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
    let good = json!({"UID": "a", "Payload": 1, "Format": "JSON"}).to_string();
    let reply = Http::connect(&site, elsewhere).unwrap().post("/v1/ingest/far", good.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(messages(&site, "").iter().filter(|message| message["via"] == "ingest").count(), 1);
}

#[test]
fn what_carried_data_is_kept_and_says_why() {
    let site = site();
    let cases = [
        ("identity", json!({"deviceInfo": {"devEui": "0018b20000000af100"}}), "aliases_file"),
        ("missing", json!({"deviceInfo": {}}), "devEui"),
        ("range", json!({"fPort": 256}), "fPort"),
        ("range", json!({"fCnt": 4_294_967_296_u64}), "fCnt"),
        ("type", json!({"fCnt": "many"}), "fCnt"),
        ("payload", json!({"data": "%%%"}), "data"),
        ("time", json!({"time": "yesterday"}), "time"),
    ];
    for (kept, (fault, changes, word)) in (1..).zip(&cases) {
        let reply = post(&site, "net", &up(changes));
        let id = id_of(&reply);
        let answer = reply.json();
        assert_eq!(answer["quarantined"], *fault, "{answer}");
        let reason = answer["reason"].as_str().unwrap();
        assert!(reason.contains(word) || *fault == "missing", "{answer}");
        let record = message(&site, &id);
        assert_eq!(record["payload"].to_string(), up(changes), "as it came");
        assert_eq!(record["network"]["reason"], reason);
        let listed = messages(&site, "kind=event");
        assert_eq!(listed.iter().filter(|message| message["via"] == "ingest").count(), kept);
    }
    for (fault, count) in [("identity", 1), ("range", 2), ("payload", 1), ("time", 1)] {
        assert_eq!(site.refused(&format!("ingest.{fault}")), count, "{fault}");
    }
    assert_eq!(messages(&site, "kind=telemetry").len(), 0);
    eventually("it is told", || site.status()["alerts"].to_string().contains("remap net"));
}

#[test]
fn odd_times_are_data_flagged_and_counted() {
    let site = site();
    for (number, (time, flag)) in
        [("1970-01-01T00:00:10Z", "unset-time"), ("2999-01-01T00:00:00Z", "future-time")]
            .into_iter()
            .enumerate()
    {
        let reply = post(&site, "net", &up(&json!({"time": time, "deduplicationId": time})));
        let id = id_of(&reply);
        assert_eq!(reply.json()["flags"], json!([flag]));
        assert_eq!(site.refused(&format!("ingest.{}", flag.replace('-', "_"))), 1);
        let told = message(&site, &id);
        assert_eq!((&told["kind"], &told["network"]["flags"]), (&json!("telemetry"), &json!([flag])));
        assert_eq!(told["seq"], messages(&site, "kind=telemetry")[number]["seq"], "in the order of arrival");
    }
}
