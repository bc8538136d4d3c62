//! What operators and readers do in the middle of it: come back, take out, send once more, change a source.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ingest::{bring, id_of, message, messages};
use crate::subscribers::{destination, numbers, send, site};
use crate::support::receiver::{Receiver, SECRET};
use crate::support::{Act, Http, Site, eventually, forged};

/// A debug build reads a million messages on a busy machine.
const LOOK_BACK: Duration = Duration::from_secs(180);

/// Opens the stream of telemetry, behind this event if there is one.
fn follow(site: &Site, last: Option<u64>) -> Http {
    let mut http = site.http();
    http.header = last.map(|last| ("Last-Event-ID".to_owned(), last.to_string()));
    http.send("GET", "/v1/stream?kind=telemetry&after=0", b"").unwrap();
    http
}

/// The next events of a stream: their ids and payloads.
fn events(stream: &mut Http, count: usize) -> Vec<(u64, Value)> {
    let mut text = String::new();
    while text.matches("}\n\n").count() < count {
        text += &String::from_utf8(stream.read_some()).unwrap();
    }
    let one = |event: &str| {
        let (id, data) = event.split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data.lines().next().unwrap()).unwrap();
        (id.parse().unwrap(), data["payload"].clone())
    };
    text.split("id: ").skip(1).map(one).collect()
}

#[test]
fn a_reader_of_the_stream_goes_on_behind_its_last_event_over_a_kill() {
    let site = site();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (session, token) = site.login_with_token(pump);
    let mut stream = follow(&site, None);
    send(&site, token, 0..10);
    let first = events(&mut stream, 10);
    let payloads = |events: &[(u64, Value)]| events.iter().map(|(_, p)| p.clone()).collect::<Vec<_>>();
    assert_eq!(payloads(&first), numbers(0..10));
    drop(session);
    site.kill();
    site.start();
    let (_session, token) = site.login_with_token(pump);
    send(&site, token, 10..15);
    let rest = events(&mut follow(&site, Some(first[6].0)), 8);
    assert_eq!(payloads(&rest), numbers(7..15), "none is missing, none comes again");
    assert!(rest.is_sorted_by_key(|(id, _)| *id), "{rest:?}");
}

#[test]
fn a_subscriber_that_is_taken_out_with_a_backlog_is_forgotten_and_a_new_one_when_it_is_back() {
    let is_down = Arc::new(AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    let refuse = move |_: &_, _| down.load(Ordering::Relaxed).then(|| Act::Answer(500, String::new()));
    let receiver = Receiver::start_with(SECRET, refuse);
    let site = site();
    let pump = site.device("pump-1", "Devices");
    let without = site.read("iotsocketd.toml");
    site.append(&receiver.table("erp", "give_up = \"1s\""));
    let with = site.read("iotsocketd.toml");
    site.start();
    let (_session, token) = site.login_with_token(pump);
    send(&site, token, 0..20);
    eventually("some are dead, some wait", || destination(&site, "erp")["dead_letters"] == 20);
    send(&site, token, 20..30);
    fs::write(site.config(), &without).unwrap();
    eventually("it is gone", || destination(&site, "erp").is_null());
    let first = messages(&site, "kind=telemetry")[0]["seq"].to_string();
    let trace = site.http().get(&format!("/v1/messages/{first}")).json();
    assert!(trace["state"] != "dead", "{trace}");
    assert_eq!(site.run(&["replay", "erp", "--from", "1"]).code, 1, "there is none of this name");
    site.stop();
    is_down.store(false, Ordering::Relaxed);
    fs::write(site.config(), &with).unwrap();
    site.start();
    let (_session, token) = site.login_with_token(pump);
    send(&site, token, 30..33);
    receiver.wait(3);
    assert_eq!(receiver.of("pump-1"), numbers(30..33), "what comes from then on");
    assert_eq!(destination(&site, "erp")["dead_letters"], 0);
    let replayed = site.run(&["replay", "erp", "--from", &first, "--to", &first]);
    assert_eq!(replayed.code, 0, "{}", replayed.err);
    receiver.wait(4);
    assert_eq!(receiver.of("pump-1")[3], json!({"n": 0}), "the past by a replay");
}

#[test]
fn a_replay_goes_out_beside_what_comes_in_and_counts_in_no_book() {
    let receiver = Receiver::start(SECRET);
    let site = site();
    let pump = site.device("pump-1", "Devices");
    site.append(&receiver.table("erp", ""));
    site.start();
    let (_session, token) = site.login_with_token(pump);
    send(&site, token, 0..50);
    receiver.wait(50);
    let seqs = receiver.seqs();
    let (from, to) = (seqs[10].to_string(), seqs[29].to_string());
    std::thread::scope(|scope| {
        scope.spawn(|| send(&site, token, 50..150));
        let replayed = site.run(&["replay", "erp", "--from", &from, "--to", &to]);
        assert_eq!(replayed.code, 0, "{}", replayed.err);
    });
    receiver.wait(150);
    eventually("those and no others come again", || receiver.repeated() == 20);
    assert_eq!(receiver.of("pump-1"), numbers(0..150), "what comes in stays in order");
    eventually("nothing waits", || destination(&site, "erp")["waiting"] == 0);
    assert_eq!(destination(&site, "erp")["delivered"], 150);
}

/// What a source was is no matter to what it brought.
#[test]
fn a_source_that_changes_while_it_runs_still_knows_what_it_brought() {
    let site = Site::new();
    let plain = site.read("iotsocketd.toml");
    let with = |group: &str, more: &str| {
        let source = format!("[ingest.net]\nformat = \"sigfox\"\ngroup = \"{group}\"\n{more}");
        fs::write(site.config(), format!("{plain}\n[groups.Trackers]\n{source}\n")).unwrap();
    };
    let uplink = |number: u64| json!({"device": "1B4C7E", "time": 1_795_287_162 + number, "data": "01", "seqNumber": number});
    with("Devices", "");
    site.start();
    let first = id_of(&bring(&site, "net", &uplink(1)));
    with("Trackers", "rate = \"1000/s\"");
    let reloaded = |times| site.log().matches("event=configuration_reloaded").count() >= times;
    eventually("it is taken up", || reloaded(1));
    let again = bring(&site, "net", &uplink(1));
    assert_eq!((id_of(&again), &again.json()["duplicate"]), (first.clone(), &json!(true)));
    let second = id_of(&bring(&site, "net", &uplink(2)));
    assert_eq!(
        (&message(&site, &first)["group"], &message(&site, &second)["group"]),
        (&json!("Devices"), &json!("Trackers"))
    );
    fs::write(site.config(), &plain).unwrap();
    eventually("it is gone", || bring(&site, "net", &uplink(2)).status == 404);
    with("Trackers", "");
    eventually("it is back", || bring(&site, "net", &uplink(1)).json()["id"] == json!(first));
    assert_eq!(messages(&site, "kind=telemetry").len(), 2);
}

/// Told apart by heart are a million; what came before those is looked for in the journal.
#[test]
fn a_second_try_is_known_though_more_messages_came_since_than_memory_knows() {
    let site = Site::new();
    site.append("[ingest.net]\nformat = \"sigfox\"\ngroup = \"Devices\"\n");
    let uplink = |number: u64| {
        let data = format!("{number:04x}");
        json!({"device": "1B4C7E", "time": 1_795_287_162 + number, "data": data, "seqNumber": number})
    };
    let more = json!({"device": "1B4C7E", "time": 1_795_287_169, "seqNumber": 7, "lqi": "GOOD",
        "computedLocation": {"lat": 48.85, "lng": 2.35}});
    site.start();
    let first = id_of(&bring(&site, "net", &uplink(7)));
    assert_eq!(bring(&site, "net", &more).json()["merged"], true);
    site.stop();
    forged::brought(&site, "net", 1_100_000);
    site.start();
    let begun = Instant::now();
    while site.status().pointer("/second_tries/known").is_none() {
        assert!(begun.elapsed() < LOOK_BACK, "the journal of a day is not read within {LOOK_BACK:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(site.number("/second_tries/known") > 1_100_000);
    assert_eq!(site.number("/second_tries/window_seconds"), 24 * 3_600);
    for body in [uplink(7), uplink(7), more] {
        let again = bring(&site, "net", &body);
        assert_eq!((id_of(&again), &again.json()["duplicate"]), (first.clone(), &json!(true)), "{body}");
    }
    let next = bring(&site, "net", &uplink(8));
    assert!(id_of(&next) != first && next.json()["duplicate"].is_null(), "{}", next.text());
    assert_eq!(messages(&site, "kind=telemetry&uid=1B4C7E").len(), 2);
}
