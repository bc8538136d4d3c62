//! What one group may have of the journal, by bytes and by time: the others lose nothing by it.

use crate::bounds::{has_alert, on_disk, settled};
use crate::central::{Session, Shared, counts, drain};
use crate::ledger::{Books, Ledger};
use crate::load::Object;
use crate::support::{Site, eventually};

/// The journal of these tests, and the segments that follow from it.
const MAX_SIZE: u64 = 16 << 20;
const SEGMENT: u64 = MAX_SIZE / 16;
/// What the loud group may have.
const GROUP_MAX: u64 = 3 << 20;
/// Bytes of a message besides what names it.
const PADDING: usize = 950;

/// A loud object of the group with the limits, and a quiet one of a group without.
fn site(limit: &str) -> (Site, Object, Object) {
    let site = Site::new();
    site.set("time", "trust", "\"always\"");
    site.set("journal", "max_size", "\"16MiB\"");
    site.append(&format!("[groups.Loud]\n{limit}\n[groups.Quiet]\n"));
    let mut loud = Object::of_group(&site, "loud", "Loud");
    let mut quiet = Object::of_group(&site, "quiet", "Quiet");
    site.start();
    loud.log_in(&site);
    quiet.log_in(&site);
    (site, loud, quiet)
}

/// Both send, the loud one a hundred times as much, and all of it is taken.
fn send(site: &Site, loud: &mut Object, quiet: &mut Object, rounds: usize) {
    for _ in 0..rounds {
        let before = Books::of(site).received;
        (0..100).for_each(|_| loud.send(PADDING));
        quiet.send(PADDING);
        eventually("all of it came in", || Books::of(site).received >= before + 101);
    }
    settled(site);
}

/// Numbers and bytes of all messages of a group that are there.
fn found(site: &Site, group: &str) -> (Vec<u64>, u64) {
    let (mut numbers, mut bytes, mut after) = (Vec::new(), 0, 0);
    loop {
        let reply =
            site.http().get(&format!("/v1/messages?group={group}&kind=telemetry&after={after}&limit=1000"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        let page = reply.json();
        let messages = page["messages"].as_array().unwrap();
        for message in messages {
            numbers.push(message["seq"].as_u64().unwrap());
            bytes += message["payload"].as_str().unwrap_or_else(|| panic!("{message}")).len() as u64;
        }
        after = page["next"].as_u64().unwrap();
        if messages.is_empty() {
            return (numbers, bytes);
        }
    }
}

fn waiting(site: &Site) -> u64 {
    let mut ledger = Ledger { may_have_gaps: true, ..Ledger::default() };
    let books = ledger.agrees(site, 0).1;
    assert_eq!(ledger.states.get("waiting").copied().unwrap_or(0), books.waiting, "{books:?}");
    books.waiting
}

#[test]
fn a_group_keeps_to_its_bytes_and_takes_nobody_along() {
    let (site, mut loud, mut quiet) = site("max_size = \"3MiB\"");
    send(&site, &mut loud, &mut quiet, 120);
    let (numbers, bytes) = found(&site, "Loud");
    // In whole segments, of which the one that is written to stays.
    assert!(bytes <= GROUP_MAX + SEGMENT && bytes > GROUP_MAX / 2, "{bytes} bytes of {}", loud.next);
    let newest = Books::of(&site).numbered;
    assert!(numbers.last() > Some(&(newest - 500)), "the newest stays: {:?} of {newest}", numbers.last());
    assert_eq!(found(&site, "Quiet").0.len() as u64, quiet.next);
    let books = Books::of(&site);
    assert_eq!(books.made_room, loud.next - numbers.len() as u64, "{books:?}");
    assert_eq!((books.refused, books.expired), (0, 0), "{books:?}");
    assert_eq!(waiting(&site), numbers.len() as u64 + quiet.next);
    // What it lost gives its room back, long before the journal is full.
    eventually("its room is given back", || on_disk(&site) < GROUP_MAX + 4 * SEGMENT);
    site.kill();
    site.start();
    // The segment that a start begins needs room, too.
    let after = found(&site, "Loud").0;
    assert!(numbers.ends_with(&after) && after.len() * 2 > numbers.len(), "none of it comes back");
    assert_eq!(found(&site, "Quiet").0.len() as u64, quiet.next);
    let left = waiting(&site);
    let got = Shared::default();
    let central = Session::open(&site, &got).unwrap();
    drain(&site);
    central.leave();
    assert_eq!(counts(&got).0, left, "once each, and nothing that was gone");
    assert!(!has_alert(&site, "books"));
    // Who logged in stays in the chain of audit records.
    let verified = site.run(&["audit", "--verify"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}

#[test]
fn by_policy_new_messages_of_the_group_are_refused_and_nothing_is_dropped() {
    let (site, mut loud, mut quiet) = site("max_size = \"3MiB\"");
    site.set("journal", "on_full", "\"refuse-new\"");
    site.kill();
    site.start();
    loud.log_in(&site);
    quiet.log_in(&site);
    eventually("the group has all that it may", || {
        (0..50).for_each(|_| loud.send(PADDING));
        quiet.send(PADDING);
        Books::of(&site).refused > 100
    });
    let (numbers, bytes) = found(&site, "Loud");
    assert!(bytes > GROUP_MAX / 2 && bytes <= GROUP_MAX + 2 * SEGMENT, "{bytes}");
    settled(&site);
    let before = found(&site, "Quiet").0.len();
    (0..10).for_each(|_| quiet.send(PADDING));
    eventually("others are taken", || found(&site, "Quiet").0.len() == before + 10);
    let books = Books::of(&site);
    assert_eq!((books.made_room, books.expired), (0, 0), "{books:?}");
    assert!(found(&site, "Loud").0.starts_with(&numbers[..1]), "its oldest is there");
}

#[test]
fn what_is_older_than_its_group_is_kept_goes_and_the_others_stays() {
    let (site, mut loud, mut quiet) = site("retention = \"1s\"");
    send(&site, &mut loud, &mut quiet, 1);
    let first = found(&site, "Loud").0[0];
    eventually("its time is over", || {
        send(&site, &mut loud, &mut quiet, 4);
        found(&site, "Loud").0.first() > Some(&first)
    });
    assert_eq!(found(&site, "Quiet").0.len() as u64, quiet.next);
    let books = Books::of(&site);
    assert!(books.expired > 0 && books.made_room == 0, "{books:?}");
    assert_eq!(books.expired, loud.next - found(&site, "Loud").0.len() as u64, "{books:?}");
    waiting(&site);
    // Operators are told.
    let events = site.http().get("/v1/messages?kind=event&limit=1000").text();
    assert!(events.contains("expired"), "{events}");
}
