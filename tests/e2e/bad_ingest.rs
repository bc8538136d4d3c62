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

/// A site with a source that is not in a hurry, one from elsewhere, one with credentials and a low rate, and one of which
/// the access list must name every object.
fn site() -> Site {
    let site = Site::new();
    site.append("[ingest.net]\nformat = \"chirpstack\"\ngroup = \"Devices\"\nmax_body = \"1KiB\"");
    site.append("[ingest.far]\nformat = \"plain\"\ngroup = \"Devices\"\nallow_from = [\"127.0.0.2/32\"]");
    site.append("[ingest.slow]\nformat = \"plain\"\ngroup = \"Devices\"\nrate = \"1/s\"");
    site.append("[ingest.own]\nformat = \"plain\"\ngroup = \"Devices\"");
    site.append("basic_user = \"own\"\nbasic_password = \"sesame\"");
    site.append("[ingest.listed]\nformat = \"plain\"\nobjects = \"listed\"");
    let sha256 = ring::digest::digest(&ring::digest::SHA256, b"reader");
    let hex: String = sha256.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    site.append(&format!("[[api.key]]\nname = \"grafana\"\nsha256 = \"{hex}\"\nrights = [\"read\"]"));
    site.set("groups.Devices", "max_payload", "\"20B\"");
    site.set("groups.Devices", "validate", "\"format\"");
    site.set("api", "body_timeout", "\"1s\"");
    site.set("time", "trust", "\"always\"");
    site.start();
    site
}

fn post(site: &Site, source: &str, body: &str) -> Reply {
    site.http().post_with(&format!("/v1/ingest/{source}"), &[JSON], body.as_bytes()).unwrap()
}

/// Does what is to be refused.
type Ask<'a> = &'a dyn Fn() -> Reply;

/// A counter of the metrics.
fn counted(site: &Site, cause: &str) -> u64 {
    let metrics = site.http().get("/metrics").text();
    let start = format!("iotsocketd_refusals_total{{cause=\"{cause}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {cause} in {metrics}")).parse().unwrap()
}

fn quarantined(site: &Site) -> usize {
    messages(site, "kind=event").iter().filter(|message| message["via"] == "ingest").count()
}

/// Each of these has a status and a sentence that names what to change, is counted once under its own cause, and leaves
/// nothing behind.
#[test]
fn what_is_refused_says_why_and_is_counted() {
    let site = site();
    let plain =
        |uid: &str, payload: &Value| json!({"UID": uid, "Payload": payload, "Format": "UTF8"}).to_string();
    let good = plain("a", &json!("1"));
    let with = |bearer: Option<&str>, headers: &[(&str, &str)], source: &str, body: &str| {
        let mut http = site.http();
        http.bearer = bearer.map(str::to_owned);
        http.post_with(&format!("/v1/ingest/{source}"), &[&[JSON], headers].concat(), body.as_bytes())
            .unwrap()
    };
    let of_type =
        |kind: &str| site.http().post_with("/v1/ingest/net", &[("Content-Type", kind)], b"{}").unwrap();
    let parts = |headers: &str, body: &[u8]| {
        let mut http = site.http();
        let headers = format!("Content-Type: application/json\r\n{headers}");
        http.send_part("POST", "/v1/ingest/net", &headers, body).unwrap();
        http.read().unwrap()
    };
    let chunked = |body: String| parts("Transfer-Encoding: chunked\r\n", body.as_bytes());
    let basic = |credentials: &str| with(None, &[("Authorization", credentials)], "own", &good);
    let cases: [(&str, u16, &str, &str, Ask<'_>); 18] = [
        ("no key", 401, "api.key", "Authorization", &|| with(None, &[], "net", "{}")),
        ("a wrong key", 401, "api.key", "Authorization", &|| with(Some(&"00".repeat(16)), &[], "net", "{}")),
        ("a wrong password", 401, "api.key", "Authorization", &|| basic("Basic b3duOm5vdA==")),
        ("another source's password", 401, "api.key", "Authorization", &|| {
            with(None, &[("Authorization", "Basic b3duOnNlc2FtZQ==")], "net", "{}")
        }),
        ("a key for something else", 403, "api.right", "ingest", &|| with(Some("reader"), &[], "net", "{}")),
        ("from elsewhere", 403, "api.source_network", "[ingest.far] allow_from", &|| {
            post(&site, "far", &good)
        }),
        ("an unknown source", 404, "api.object", "no source of this name", &|| post(&site, "nobody", &good)),
        ("another method", 405, "api.route", "POST", &|| site.http().get("/v1/ingest/net")),
        ("another type", 415, "api.media_type", "application/json", &|| of_type("text/html")),
        ("no body", 411, "api.no_body", "Content-Length", &|| parts("", b"")),
        ("an empty body", 400, "api.no_body", "empty", &|| post(&site, "net", "")),
        ("a large body", 413, "api.too_large", "1024 bytes", &|| post(&site, "net", &" ".repeat(1025))),
        ("one that says it late", 413, "api.too_large", "1024 bytes", &|| {
            chunked(format!("500\r\n{}\r\n0\r\n\r\n", " ".repeat(0x500)))
        }),
        ("a slow body", 408, "api.slow_body", "in time", &|| parts("Content-Length: 50\r\n", b"{")),
        ("half a body", 400, "api.content", "not JSON", &|| post(&site, "net", "{\"data\":")),
        ("no text", 400, "api.content", "UTF-8", &|| parts("Content-Length: 2\r\n", b"\"\xff")),
        ("a long payload", 422, "api.group", "21 bytes", &|| {
            post(&site, "own", &plain("a", &json!("1".repeat(21))))
        }),
        ("too fast", 429, "api.rate", "1 messages a second", &|| post(&site, "slow", &good)),
    ];
    let minute = format!("[{}]", vec![good.as_str(); 60].join(","));
    assert_eq!(post(&site, "slow", &minute).status, 200, "a minute of its rate");
    for (what, status, counter, word, ask) in cases {
        let before = counted(&site, counter);
        let reply = ask();
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
        assert!(reply.json()["error"].as_str().unwrap().contains(word), "{what}: {}", reply.text());
        assert_eq!(counted(&site, counter), before + 1, "{what} is counted under {counter}");
        match status {
            401 => assert!(reply.head.contains("www-authenticate: bearer, basic"), "{}", reply.head),
            405 => assert!(reply.head.contains("allow: post"), "{}", reply.head),
            429 => assert!(reply.head.contains("retry-after: 1"), "{}", reply.head),
            _ => {}
        }
    }
    let elsewhere = Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
    let reply = Http::connect(&site, elsewhere).unwrap().post("/v1/ingest/far", good.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(messages(&site, "").iter().filter(|message| message["via"] == "ingest").count(), 61);
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
        assert_eq!(quarantined(&site), kept);
    }
    for (fault, count) in [("identity", 1), ("range", 2), ("payload", 1), ("time", 1)] {
        assert_eq!(counted(&site, &format!("ingest.{fault}")), count, "{fault}");
    }
    let stranger = json!({"UID": "stranger", "Payload": 1, "Format": "JSON"}).to_string();
    for (source, body, fault) in
        [("listed", stranger.as_str(), "not_listed"), ("own", r#"{"UID":"a"}"#, "missing")]
    {
        let before = counted(&site, &format!("ingest.{fault}"));
        let answer = post(&site, source, body).json();
        assert_eq!(answer["quarantined"], fault, "{answer}");
        assert_eq!(counted(&site, &format!("ingest.{fault}")), before + 1, "{fault}");
    }
    // Deeper than most can read; kept all the same, and shown as bytes.
    let deep = format!("{{\"data\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let record = message(&site, &id_of(&post(&site, "net", &deep)));
    assert_eq!(
        (&record["format"], record["payload"].as_array().unwrap().len()),
        (&json!("BINARY"), deep.len())
    );
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
