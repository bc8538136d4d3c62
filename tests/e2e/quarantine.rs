//! What partner networks bring and cannot be mapped: kept, told once, and mapped once it can be.

use serde_json::{Value, json};

use crate::audit::{TOKEN, key};
use crate::ingest::{bring, events, id_of, message, messages, take_all};
use crate::support::{Hooks, Http, Site, eventually};

fn body(number: u64) -> Value {
    json!({"d": format!("boiler-{}", number % 2), "p": number, "n": number.to_string()})
}

/// A source whose configuration is wrong, and one that mends it.
const WRONG: &str = "map = { uid = \"/device\", payload = \"/p\", id = \"/n\" }";
const RIGHT: &str = "map = { uid = \"/d\", payload = \"/p\", id = \"/n\" }";

fn site(hooks: &Hooks) -> Site {
    let site = Site::new();
    site.append(&format!("[ingest.net]\nformat = \"generic\"\ngroup = \"Devices\"\n{WRONG}"));
    site.set("central.webhooks", "telemetry", &hooks.url("/telemetry"));
    site.start();
    site
}

fn mend(site: &Site) {
    let text = site.read("iotsocketd.toml");
    std::fs::write(site.config(), text.replace(WRONG, RIGHT)).unwrap();
    site.signal("HUP");
}

fn remap(site: &Site) -> Value {
    let ran = site.run(&["remap", "net", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn what_cannot_be_mapped_is_mapped_once_it_can_be_under_its_first_id_and_time() {
    let hooks = Hooks::start(take_all);
    let site = site(&hooks);
    let answers: Vec<Value> = (1..=3).map(|number| bring(&site, "net", &body(number)).json()).collect();
    let ids: Vec<String> = answers.iter().map(|answer| answer["id"].as_str().unwrap().to_owned()).collect();
    assert!(answers.iter().all(|answer| answer["quarantined"] == "missing"), "{answers:?}");
    eventually("it is told", || site.status()["alerts"].to_string().contains("remap net"));
    assert_eq!(site.log().matches("alert=quarantine").count(), 1, "once a shape: {}", site.log());
    let mut kept = messages(&site, "kind=event");
    kept.retain(|record| record["via"] == "ingest");
    assert_eq!(kept.len(), 3);
    assert_eq!((&kept[0]["payload"], &kept[0]["state"]), (&body(1), &json!("refused")));
    assert!(kept.iter().all(|record| !ids.contains(&record["id"].as_str().unwrap().to_owned())), "{kept:?}");
    assert_eq!(message(&site, kept[0]["id"].as_str().unwrap())["seq"], kept[0]["seq"]);
    let told = message(&site, &ids[0]);
    assert_eq!((&told["id"], events(&told)), (&json!(ids[0]), vec!["received", "stored", "refused"]));
    assert_eq!(remap(&site)["remaining"], 3, "nothing was mended");
    site.kill();
    site.start();
    mend(&site);
    let mut mapped = 0;
    eventually("all is mapped", || {
        let remapped = remap(&site);
        mapped += remapped["mapped"].as_u64().unwrap();
        remapped["remaining"] == 0
    });
    assert_eq!(mapped, 3);
    eventually("nothing is to be done any more", || {
        !site.status()["alerts"].to_string().contains("remap net")
    });
    let seen: Vec<Value> = hooks.wait(3).iter().map(|hook| hook.body["Payload"].clone()).collect();
    assert!(
        seen.contains(&json!(2)) && seen.iter().position(|p| *p == 1) < seen.iter().position(|p| *p == 3)
    );
    for (id, record) in ids.iter().zip(&kept) {
        eventually("it is delivered", || message(&site, id)["state"] == "delivered");
        let told = message(&site, id);
        assert_eq!(
            (&told["id"], &told["kind"], &told["time"]),
            (&json!(id), &json!("telemetry"), &record["time"])
        );
        assert_eq!(events(&told), ["received", "stored", "refused", "remapped", "delivered"]);
    }
    let listed = messages(&site, "kind=telemetry");
    assert_eq!(listed.iter().map(|message| message["id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
    for _ in 0..2 {
        let remapped = remap(&site);
        assert_eq!((&remapped["mapped"], &remapped["remaining"]), (&json!(0), &json!(0)));
        site.kill();
        site.start();
    }
    let again = bring(&site, "net", &body(2));
    assert_eq!((id_of(&again), &again.json()["duplicate"]), (ids[1].clone(), &json!(true)));
    assert_eq!(messages(&site, "kind=telemetry").len(), 3);
    assert_eq!(site.number("/books/received"), 3);
}

#[test]
fn copies_in_quarantine_are_one_message_and_lists_in_batches_stay_what_they_are() {
    let hooks = Hooks::start(take_all);
    let site = site(&hooks);
    let batch = json!([body(1), [body(2), body(3)], body(1)]);
    let results = bring(&site, "net", &batch).json()["results"].clone();
    assert!(results.as_array().unwrap().iter().all(|result| result["quarantined"].is_string()), "{results}");
    mend(&site);
    let mut sum = [0; 2];
    eventually("what can be mapped is", || {
        let remapped = remap(&site);
        sum[0] += remapped["mapped"].as_u64().unwrap();
        sum[1] += remapped["duplicates"].as_u64().unwrap();
        remapped["remaining"] == 1
    });
    assert_eq!(sum, [1, 1], "the list is no message");
    let told = message(&site, results[2]["id"].as_str().unwrap());
    assert_eq!((&told["kind"], events(&told).last()), (&json!("event"), Some(&"remapped")));
    let first = message(&site, results[0]["id"].as_str().unwrap());
    assert!(events(&first).contains(&"duplicate"), "{first:#}");
    let unknown = site.run(&["remap", "other"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("no source of this name"), "{}", unknown.err);
    assert_eq!(site.run(&["remap", "../status"]).code, 2);
    let plain = site.run(&["remap", "net"]);
    assert!(plain.out.contains("1 remain in quarantine\n       1  "), "{}", plain.out);
}

/// An object that is listed later, in a group that the key which brought its message has no say in.
#[test]
fn what_a_limited_key_brought_becomes_no_message_of_another_group() {
    let site = Site::new();
    site.append("[ingest.net]\nformat = \"plain\"\nobjects = \"listed\"");
    site.append(&key("\"ingest\"", "\"Stations\""));
    site.set("groups.Stations", "telemetry", "true");
    site.start();
    let mut limited = Http::connect(&site, None).unwrap();
    limited.bearer = Some(TOKEN.to_owned());
    let bring = |http: &mut Http, uid: &str| {
        let body = json!({"UID": uid, "Payload": 1, "Format": "JSON"}).to_string();
        let headers = [("Content-Type", "application/json")];
        let reply = http.post_with("/v1/ingest/net", &headers, body.as_bytes()).unwrap();
        assert_eq!(
            (reply.status, &reply.json()["quarantined"]),
            (200, &json!("not_listed")),
            "{}",
            reply.text()
        );
    };
    bring(&mut limited, "theirs");
    bring(&mut limited, "own");
    bring(&mut site.http(), "theirs");
    site.device("theirs", "Devices");
    site.device("own", "Stations");
    eventually("they are listed", || site.http().get("/v1/objects/theirs").status == 200);
    eventually("they are listed", || site.http().get("/v1/objects/own").status == 200);
    let remapped = remap(&site);
    assert_eq!((&remapped["mapped"], &remapped["remaining"]), (&json!(2), &json!(1)), "{remapped}");
    assert!(remapped["reasons"].to_string().contains("the key that brought it"), "{remapped}");
    assert_eq!(messages(&site, "kind=telemetry&uid=theirs").len(), 1, "what another key brought");
}
