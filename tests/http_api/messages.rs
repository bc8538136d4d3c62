//! What was recorded, over the API: pages, filters, long polls, one message.

use std::sync::Arc;
use std::time::{Duration, Instant};

use iotsocketd::endpoint::http::Cause;
use iotsocketd::endpoint::http::api::{Api, BodySize, Decision, Head, Source};
use iotsocketd::endpoint::http::auth::{Keys, Right};
use iotsocketd::hub::backend::Backend;
use iotsocketd::hub::history::{History, HistoryError};
use iotsocketd::wire::{AuthKey, Format};
use proptest::prelude::*;
use serde_json::Value;

use super::fake_history::{FakeHistory, id, message};
use super::world::*;

/// The numbers of a page's messages, and where it ends.
fn page(answered: &Answered) -> (Vec<u64>, u64) {
    assert_eq!(answered.status, 200, "{}", answered.body);
    let page: Value = serde_json::from_str(&answered.body).unwrap();
    let seqs = page["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_u64().unwrap());
    (seqs.collect(), page["next"].as_u64().expect("next is always a number"))
}

fn seqs(world: &World, query: &str) -> Vec<u64> {
    page(&world.get(&format!("/v1/messages?{query}"), "aa11")).0
}

#[test]
fn messages_come_in_pages_in_the_order_of_insertion() {
    let world = world();
    assert_eq!(world.get("/v1/messages", "aa11").body, r#"{"messages":[],"next":0}"#);
    world.history.grow(250);
    assert_eq!(page(&world.get("/v1/messages", "aa11")), ((1..=100).collect(), 100));
    assert_eq!(page(&world.get("/v1/messages?after=100&limit=2", "aa11")), (vec![101, 102], 102));
    assert_eq!(page(&world.get("/v1/messages?after=100&limit=1000", "aa11")), ((101..=250).collect(), 250));
    assert_eq!(page(&world.get("/v1/messages?after=250", "aa11")), (vec![], 250));
    assert_eq!(page(&world.get("/v1/messages?after=9000", "aa11")), (vec![], 9000), "it may lie ahead");
    let one: Value = serde_json::from_str(&world.get("/v1/messages?limit=1", "aa11").body).unwrap();
    let message = &one["messages"][0];
    assert_eq!(
        [&message["id"], &message["time"], &message["clock"], &message["payload"]["n"]],
        [
            &Value::from(id(1).to_string()),
            &Value::from("2026-11-21T18:52:42.000000Z"),
            &Value::from("corrected"),
            &Value::from(1)
        ]
    );
    assert_eq!(message.get("events"), None);
}

#[test]
fn events_are_a_page_of_their_kind_beside_what_is_up() {
    let world = world();
    let read = |query: &str| -> Value {
        let answered = world.get(&format!("/v1/events{query}"), "aa11");
        assert_eq!(answered.status, 200, "{}", answered.body);
        serde_json::from_str(&answered.body).unwrap()
    };
    assert_eq!(read(""), serde_json::json!({"events": [], "next": 0, "alerts": []}));
    world.history.grow(20);
    let page = read("?after=5&limit=2&kind=event");
    let seqs = page["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap());
    let seqs: Vec<_> = seqs.collect();
    assert_eq!((seqs, &page["next"]), (vec![10, 15], &Value::from(15)));
    let refused = world.get("/v1/events?kind=telemetry", "aa11");
    assert_eq!((refused.status, refused.body.contains("kind")), (400, true), "{}", refused.body);
    assert_eq!(world.get("/v1/events", "wrong").status, 401);
}

#[test]
fn filters_leave_out_and_next_goes_on_behind_what_was_looked_through() {
    let world = world();
    world.history.grow(20);
    assert_eq!(seqs(&world, "uid=o0"), [3, 6, 9, 12, 15, 18]);
    assert_eq!(seqs(&world, "group=Stations"), [2, 8, 11, 14, 17]);
    assert_eq!(seqs(&world, "kind=event"), [5, 10, 15, 20]);
    assert_eq!(seqs(&world, "kind=event&uid=o0"), [15]);
    assert_eq!(page(&world.get("/v1/messages?uid=o0&after=18", "aa11")), (vec![], 20));
    assert_eq!(page(&world.get("/v1/messages?uid=nobody", "aa11")), (vec![], 20));
    // From is inclusive, to is not.
    let (from, to) = ("2026-11-21T18:52:44Z", "2026-11-21T19:52:46%2B01:00");
    assert_eq!(seqs(&world, &format!("from={from}&to={to}")), [3, 4]);
    assert_eq!(seqs(&world, &format!("from={from}&limit=2&after=3")), [4, 5]);
    assert_eq!(seqs(&world, "last=3"), [18, 19, 20]);
    assert_eq!(seqs(&world, "last=2&uid=o0"), [15, 18]);
    assert_eq!(seqs(&world, "uid=&group=&kind=&from=&to=").len(), 20, "what is empty is not asked for");
}

#[test]
fn bad_values_are_told_by_their_names() {
    let world = world();
    let long = "u".repeat(17);
    for (name, values) in [
        ("after", &["", "-1", "x", "1.0", "+1", "99999999999999999999999"][..]),
        ("limit", &["", "0", "1001", "-1", "x"]),
        ("last", &["0", "1001", "x"]),
        ("uid", &[&long, "%ff"]),
        ("group", &[&long]),
        ("kind", &["telemetr", "TELEMETRY", "telemetry,event"]),
        ("from", &["yesterday", "2026-11-21", "1795287162"]),
        ("to", &["2026-11-21T18:52:42"]),
        ("wait", &["", "20", "-1s", "forever"]),
    ] {
        for value in values {
            let refused = world.get(&format!("/v1/messages?{name}={value}"), "aa11");
            assert_eq!(refused.status, 400, "{name}={value}");
            assert!(refused.error().contains(&format!("\"{name}\"")), "{}", refused.error());
        }
    }
    assert_eq!(world.history.pages(), 0, "nothing was looked for");
}

#[test]
fn a_key_of_some_groups_sees_their_messages_only() {
    let world = world();
    world.history.grow(20);
    let stations = |path: &str| world.get(path, "bb22");
    assert_eq!(page(&stations("/v1/messages")), (vec![2, 8, 11, 14, 17], 20));
    assert_eq!(page(&stations("/v1/messages?group=Devices")), (vec![], 20));
    assert_eq!(page(&stations("/v1/messages?uid=o1")), (vec![], 20));
    assert_eq!(stations(&format!("/v1/messages/{}", id(2))).status, 200);
    for hidden in [1, 5] {
        assert_eq!(stations(&format!("/v1/messages/{}", id(hidden))).status, 404, "{hidden}");
    }
}

#[test]
fn one_message_has_its_trace() {
    let world = world();
    world.history.grow(3);
    let found = world.get(&format!("/v1/messages/{}", id(3).to_string().to_uppercase()), "aa11");
    let message: Value = serde_json::from_str(&found.body).unwrap();
    assert_eq!(message["seq"], 3);
    let sent = &message["events"][1];
    let expected = r#"{"time":"2026-11-21T18:52:44.000000Z","event":"sent","to":"central","attempt":2}"#;
    assert_eq!(sent, &serde_json::from_str::<Value>(expected).unwrap());
    assert_eq!(world.get(&format!("/v1/messages/{}", id(4)), "aa11").status, 404);
    assert_eq!(world.get("/v1/messages/3", "aa11").body, found.body, "by its number");
    assert_eq!(world.get("/v1/messages/4", "aa11").status, 404);
    for bad in ["3.0", "x", "01930a2b-4c5d-7000-8000", "%ff"] {
        let refused = world.get(&format!("/v1/messages/{bad}"), "aa11");
        assert!(refused.status == 400 && refused.error().contains("id"), "{bad}");
    }
}

#[test]
fn of_a_message_that_is_gone_it_is_told_what_became_of_it() {
    let world = world();
    world.history.grow(5);
    world.history.lose(1, 3);
    for name in [id(3).to_string(), "3".to_owned()] {
        let found = world.get(&format!("/v1/messages/{name}"), "aa11");
        assert_eq!(found.status, 200);
        let gone: Value = serde_json::from_str(&found.body).unwrap();
        assert_eq!((&gone["id"], &gone["seq"]), (&Value::from(id(3).to_string()), &Value::from(3)));
        assert_eq!((&gone["state"], &gone["uid"]), (&Value::from("dropped"), &Value::Null));
        assert_eq!(gone["events"].as_array().unwrap().len(), 2);
        assert_eq!(world.get(&format!("/v1/messages/{name}"), "bb22").status, 404, "nobody knows its group");
    }
    let left = world.get("/v1/messages/1", "aa11");
    assert!(left.status == 404 && left.error().contains("not remembered"), "{}", left.body);
    assert!(!world.get("/v1/messages/1", "bb22").error().contains("remembered"));
    assert_eq!(world.get("/v1/messages/6", "aa11").status, 404);
}

#[test]
fn refusals_come_before_the_history_is_asked() {
    let world = world();
    let everywhere = [String::from("/v1/messages"), format!("/v1/messages/{}", id(1)), "/v1/stream".into()];
    for path in &everywhere {
        assert_eq!(world.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).status, 401);
        let posted = world.post(path, "{}");
        assert_eq!((posted.status, posted.headers["allow"].as_str()), (405, "GET, HEAD"));
    }
    let mut lacking = settings();
    let central = AuthKey::parse(CENTRAL).unwrap();
    lacking.keys = Keys::new("test", &central, [key("x", "ee55", &[Right::Request], &[], &[])]);
    world.api.set_settings(lacking);
    for path in &everywhere {
        let refused = world.get(path, "ee55");
        assert!(refused.status == 403 && refused.error().contains("\"read\""), "{path}");
    }
    assert_eq!(world.history.pages(), 0);
}

#[test]
fn without_a_history_there_is_nothing_at_its_paths() {
    let world = world();
    let api = Api::new(Arc::clone(&world.hub) as Arc<dyn Backend>, settings());
    for path in ["/v1/messages", "/v1/messages/x", "/v1/stream"] {
        let refused = api.judge(&head(path, ""), Source::Local).outcome.err().unwrap();
        assert_eq!((refused.status, refused.cause), (404, Cause::Route));
    }
}

#[test]
fn what_cannot_be_read_is_503() {
    let world = world();
    world.history.fail(HistoryError::Busy);
    let busy = world.get("/v1/messages", "aa11");
    assert_eq!((busy.status, busy.headers["retry-after"].as_str()), (503, "1"));
    world.history.fail(HistoryError::Storage("input/output error".to_owned()));
    let broken = world.get(&format!("/v1/messages/{}", id(1)), "aa11");
    assert_eq!((broken.status, broken.headers["retry-after"].as_str()), (503, "5"));
    assert!(broken.error().contains("input/output error"));
}

#[test]
fn a_call_waits_for_the_first_message_that_matches() {
    let world = world();
    world.history.grow(4);
    let mut client = world.connect();
    let request = "GET /v1/messages?after=4&kind=event&wait=20s HTTP/1.1\r\nHost: x\r\n\
                   Authorization: Bearer aa11\r\n\r\n";
    client.send(request);
    world.history.await_waiting(PATIENCE);
    world.history.grow(1);
    assert_eq!(page(&client.receive()), (vec![5], 5));
    client.send(request.replace("after=4", "after=5"));
    world.history.await_waiting(PATIENCE);
    let asked = world.history.pages();
    // What does not match wakes it and lets it wait on.
    world.history.grow(1);
    world.history.await_asked(asked, PATIENCE);
    world.history.await_waiting(PATIENCE);
    world.history.grow(4);
    assert_eq!(page(&client.receive()), (vec![10], 10));
    // What is there already is given at once.
    assert_eq!(page(&world.get("/v1/messages?after=9&wait=20s", "aa11")), (vec![10], 10));
}

/// Many that wait are woken at the same moment; a history that cannot take all of them at once loses none.
#[test]
fn who_waits_anyway_does_not_mind_that_others_are_served_first() {
    let world = world();
    world.history.fail(HistoryError::Busy);
    let mut client = world.connect();
    client.send("GET /v1/messages?wait=20s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer aa11\r\n\r\n");
    world.history.await_asked(0, PATIENCE);
    world.history.recover();
    world.history.grow(1);
    assert_eq!(page(&client.receive()), (vec![1], 1));
    world.history.fail(HistoryError::Busy);
    assert_eq!(world.get("/v1/messages?wait=10ms", "aa11").status, 503);
}

#[test]
fn waiting_ends_with_its_time_capped_and_with_the_drain() {
    let mut short = settings();
    short.max_wait = SHORT;
    let mut world = world_with(short, limits());
    let begun = Instant::now();
    assert_eq!(page(&world.get("/v1/messages?after=7&wait=1h", "aa11")), (vec![], 7));
    assert!(begun.elapsed() >= SHORT && begun.elapsed() < PATIENCE);
    let mut short = settings();
    short.max_wait = Duration::from_secs(3600);
    world.api.set_settings(short);
    assert_eq!(page(&world.get("/v1/messages?after=7&wait=10ms", "aa11")), (vec![], 7));
    world.history.grow(7);
    let mut client = world.connect();
    client.send("GET /v1/messages?after=7&wait=1h HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer aa11\r\n\r\n");
    world.history.await_waiting(PATIENCE);
    world.server.drain();
    assert_eq!(page(&client.receive()), (vec![], 7));
    assert!(client.is_closed());
}

fn head<'a>(path: &'a str, query: &'a str) -> Head<'a> {
    Head {
        method: "GET",
        path,
        query,
        authorization: None,
        content_type: None,
        last_event_id: None,
        headers: &[],
        body: BodySize::Absent,
    }
}

fn ask(api: &Api, query: &str) -> (Vec<u64>, u64) {
    let Ok(Decision::Recall(recall)) = api.judge(&head("/v1/messages", query), Source::Local).outcome else {
        panic!("{query}");
    };
    let reply = smol::block_on(api.recall(recall, std::future::ready(()))).unwrap();
    let body = String::from_utf8(reply.body).unwrap();
    page(&Answered { status: reply.status, headers: Default::default(), body })
}

type Expected = fn(u64) -> bool;

const FILTERS: [(&str, Expected); 4] = [
    ("", |_| true),
    ("uid=o1", |seq| seq % 3 == 1),
    ("group=Stations", |seq| seq % 3 == 2 && !seq.is_multiple_of(5)),
    ("kind=event", |seq| seq.is_multiple_of(5)),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However large the pages, whatever is left out, whatever comes in between: each message once, in order.
    #[test]
    fn pages_give_every_message_once(
        limit in 1_usize..60,
        filter in 0..FILTERS.len(),
        growth in prop::collection::vec(0_u64..40, 1..6),
        large in prop::collection::vec(any::<bool>(), 1..8),
    ) {
        let (filter, is_expected) = FILTERS[filter];
        let history = Arc::new(FakeHistory::default());
        let api = Api::new(fake_hub().0, settings()).with_history(Arc::clone(&history) as Arc<dyn History>);
        let (mut after, mut last, mut seen) = (0, 0, Vec::new());
        let mut growth = growth.into_iter();
        loop {
            let grown = growth.next();
            history.append((last + 1..=last + grown.unwrap_or(0)).map(|seq| {
                let mut message = message(seq);
                // Some pages end by their bytes.
                if large[usize::try_from(seq).unwrap() % large.len()] {
                    (message.format, message.payload) = (Format::Utf8, vec![b'x'; 40_000]);
                }
                message
            }));
            last += grown.unwrap_or(0);
            let (page, next) = ask(&api, &format!("{filter}&after={after}&limit={limit}"));
            prop_assert!(page.len() <= limit && next >= after);
            prop_assert!(page.iter().all(|seq| (after + 1..=next).contains(seq)));
            if page.is_empty() && grown.is_none() {
                break;
            }
            seen.extend(page);
            after = next;
        }
        let all: Vec<u64> = (1..=last).filter(|seq| is_expected(*seq)).collect();
        prop_assert_eq!(seen, all);
    }
}
