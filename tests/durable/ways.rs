//! A backlog that begins on one way to the central and goes on by the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::central::drain;
use crate::ledger::Books;
use crate::load::{Object, told};
use crate::support::{Act, Hook, Hooks, Peer, Said, Site, eventually};

/// What the central says that it can take.
const LARGEST: u16 = 400;
/// Messages of each object; every tenth is larger than that.
const EACH: u64 = 200;

/// What came, in its order: by session or not, and what.
type Arrived = Arc<Mutex<Vec<(bool, String)>>>;

fn is_large(payload: &str) -> bool {
    told(payload).1 % 10 == 9
}

/// How many different messages came that fit the session.
fn small(arrived: &Arrived) -> usize {
    let arrived = arrived.lock().unwrap();
    let small = arrived.iter().filter(|(_, payload)| !is_large(payload));
    small.map(|(_, payload)| payload).collect::<BTreeSet<_>>().len()
}

/// The central takes telemetry until so many different messages that fit came in all.
fn take(central: &mut Peer, arrived: &Arrived, count: usize) {
    eventually("what fits the session arrives", || {
        while small(arrived) < count {
            match central.next_within(Duration::from_millis(20)) {
                None => return false,
                Some(Said::Telemetry { data, .. }) => {
                    arrived.lock().unwrap().push((true, String::from_utf8(data).unwrap()));
                }
                Some(other) => panic!("{other:?} instead of telemetry"),
            }
        }
        true
    });
}

#[test]
fn a_backlog_changes_its_way_and_what_is_too_large_waits_for_one_that_takes_it() {
    let site = Site::new();
    site.set("time", "trust", "\"always\"");
    let mut objects = ["pump-1", "pump-2"].map(|name| Object::new(&site, name));
    let (arrived, room) = (Arrived::default(), Arc::new(AtomicI64::new(0)));
    let (keeps, may) = (Arc::clone(&arrived), Arc::clone(&room));
    let hooks = Hooks::start(move |hook: &Hook| {
        if may.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Act::Answer(503, String::new());
        }
        keeps.lock().unwrap().push((false, hook.body["Payload"].as_str().unwrap().to_owned()));
        Act::Answer(204, String::new())
    });
    site.set("central.webhooks", "telemetry", &hooks.url("/telemetry"));
    site.start();
    objects.iter_mut().for_each(|object| object.log_in(&site));
    for _ in 0..EACH {
        for object in &mut objects {
            object.send(if object.next % 10 == 9 { LARGEST.into() } else { 10 });
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let sent = 2 * EACH;
    eventually("all is taken", || Books::of(&site).received == sent);
    let tls = site.tls();
    let central = || site.login_as(site.central(), None, Some(&tls), LARGEST).unwrap();
    // A part by the session, a part by the webhook, the rest of what fits by another session.
    let mut first = central();
    take(&mut first, &arrived, 100);
    drop(first);
    let before = arrived.lock().unwrap().len();
    room.store(60, Ordering::Relaxed);
    eventually("the webhook has its part", || arrived.lock().unwrap().len() == before + 60);
    let mut second = central();
    take(&mut second, &arrived, (sent - sent / 10) as usize);
    assert!(Books::of(&site).waiting > 0, "what is too large waits");
    second.is_alive();
    drop(second);
    room.store(i64::MAX, Ordering::Relaxed);
    drain(&site);
    let books = Books::of(&site);
    assert_eq!((books.received, books.delivered), (sent, sent), "{books:?}");
    let arrived = arrived.lock().unwrap();
    assert!(arrived.iter().all(|(by_session, payload)| !(*by_session && is_large(payload))));
    let mut seen = BTreeSet::new();
    let mut newest: BTreeMap<(&str, bool), u64> = BTreeMap::new();
    for (_, payload) in arrived.iter().filter(|(_, payload)| seen.insert(payload)) {
        let (name, number) = told(payload);
        let before = newest.insert((name, is_large(payload)), number);
        assert!(before.is_none_or(|before| before < number), "{name}: {number} behind {before:?}");
    }
    assert_eq!(seen.len() as u64, sent);
}
