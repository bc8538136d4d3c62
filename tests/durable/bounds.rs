//! A small journal and much input: bounded on disk and in memory, and every message is in the books.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::central::{Session, Shared, counts, drain};
use crate::ledger::{Books, Ledger};
use crate::load::Object;
use crate::support::{Site, eventually};

/// The journal of these tests.
const MAX_SIZE: u64 = 1 << 20;
/// What its folder may take besides: one segment in the making, names.
const SLACK: u64 = 3 * MAX_SIZE / 16;

/// Bytes that the journal's files take on disk. Files that go meanwhile do not count.
pub fn on_disk(site: &Site) -> u64 {
    let entries = fs::read_dir(site.path("state/journal")).unwrap();
    entries.filter_map(|entry| entry.unwrap().metadata().ok()).map(|metadata| metadata.blocks() * 512).sum()
}

pub fn small_site(on_full: &str) -> (Site, Vec<Object>) {
    let site = Site::new();
    site.set("time", "trust", "\"always\"");
    site.set("journal", "max_size", "\"1MiB\"");
    site.set("journal", "on_full", &format!("\"{on_full}\""));
    let mut objects: Vec<_> = ["pump-1", "pump-2"].map(|name| Object::new(&site, name)).into();
    site.start();
    objects.iter_mut().for_each(|object| object.log_in(&site));
    (site, objects)
}

/// Sends about so many bytes while the folder is looked at.
pub fn flood(site: &Site, objects: &mut [Object], bytes: usize, bound: u64) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(on_disk(site));
                std::thread::sleep(Duration::from_millis(2));
            }
            most
        });
        for _ in 0..bytes / 1000 / objects.len() {
            objects.iter_mut().for_each(|object| object.send(950));
            std::thread::sleep(Duration::from_micros(300));
        }
        std::thread::sleep(Duration::from_millis(300));
        over.store(true, Ordering::Relaxed);
        let most = looks.join().unwrap();
        assert!(most <= bound, "{most} bytes on disk, {bound} are the most");
    });
}

/// Everything that was taken is either there or in the books as gone.
fn books_and_history_agree(site: &Site) -> Books {
    let mut books = Books::of(site);
    eventually("what waits by the books is there", || {
        let mut ledger = Ledger::default();
        books = ledger.agrees(site, 0).1;
        ledger.states.get("waiting").copied().unwrap_or(0) == books.waiting
    });
    books
}

/// Whether an alert is up.
pub fn has_alert(site: &Site, name: &str) -> bool {
    site.status()["alerts"].as_array().unwrap().iter().any(|alert| alert["name"] == name)
}

/// Waits until all that was taken is on flash.
pub fn settled(site: &Site) {
    eventually("all is on flash", || {
        let numbered = Books::of(site).numbered;
        let path = format!("/v1/messages?after={}&limit=1", numbered - 1);
        site.http().get(&path).json()["next"].as_u64() >= Some(numbered)
    });
}

#[test]
fn the_oldest_makes_room_and_is_counted() {
    let (site, mut objects) = small_site("drop-oldest");
    flood(&site, &mut objects, 4 << 20, MAX_SIZE + SLACK);
    settled(&site);
    let books = books_and_history_agree(&site);
    assert!(books.made_room > 1000 && books.waiting > 300, "{books:?}");
    assert_eq!((books.refused, books.expired, books.delivered), (0, 0, 0), "{books:?}");
    site.kill();
    site.start();
    let before = books;
    // The segment that a start begins needs room, too.
    let books = books_and_history_agree(&site);
    assert_eq!(books.received, before.received);
    assert!(books.made_room - before.made_room <= 2 * MAX_SIZE / 16 / 1000, "{before:?} {books:?}");
    assert!(on_disk(&site) <= MAX_SIZE + SLACK);
    let got = Shared::default();
    let central = Session::open(&site, &got).unwrap();
    drain(&site);
    central.leave();
    let after = Books::of(&site);
    assert_eq!((after.delivered, after.made_room), (books.waiting, books.made_room));
    assert_eq!(counts(&got).0, books.waiting);
}

#[test]
fn the_new_is_refused_and_counted_until_there_is_room() {
    let (site, mut objects) = small_site("refuse-new");
    flood(&site, &mut objects, 4 << 20, MAX_SIZE + SLACK);
    eventually("it is full", || {
        objects[0].send(950);
        has_alert(&site, "journal_full")
    });
    flood(&site, &mut objects, 1 << 20, MAX_SIZE + SLACK);
    settled(&site);
    let books = books_and_history_agree(&site);
    assert!(books.refused > 1000 && books.waiting > 300, "{books:?}");
    assert_eq!((books.made_room, books.expired, books.delivered), (0, 0, 0), "{books:?}");
    site.kill();
    site.start();
    let again = books_and_history_agree(&site);
    assert_eq!((again.waiting, again.made_room), (books.waiting, 0));
    let got = Shared::default();
    let central = Session::open(&site, &got).unwrap();
    drain(&site);
    assert_eq!(counts(&got).0, books.waiting, "none of what was taken was dropped");
    // What was delivered makes room.
    objects.iter_mut().for_each(|object| object.log_in(&site));
    let taken = || Books::of(&site).taken();
    let before = taken();
    eventually("there is room again", || {
        objects[0].send(950);
        taken() > before
    });
    drain(&site);
    central.leave();
    assert_eq!(Books::of(&site).made_room, 0);
}

/// A backlog that is much larger than what is kept in memory.
#[test]
fn a_long_backlog_is_delivered_in_order_with_little_memory() {
    let site = Site::new();
    site.set("time", "trust", "\"always\"");
    let mut objects: Vec<_> =
        ["pump-1", "pump-2", "pump-3", "pump-4"].map(|name| Object::new(&site, name)).into();
    site.start();
    objects.iter_mut().for_each(|object| object.log_in(&site));
    let mut sent = 0_u64;
    for round in 0..40_000 {
        objects.iter_mut().for_each(|object| object.send(1000));
        sent += objects.len() as u64;
        if round % 8 == 7 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    settled(&site);
    let waiting = Books::of(&site).waiting;
    assert!(waiting > sent / 2, "{waiting} of {sent} were taken");
    site.kill();
    site.start();
    let idle = site.memory_kib();
    assert_eq!(Books::of(&site).waiting, waiting);
    let got = Shared::default();
    let central = Session::open(&site, &got).unwrap();
    let mut most = idle;
    eventually("the central has everything", || {
        most = most.max(site.memory_kib());
        Books::of(&site).waiting == 0
    });
    central.leave();
    assert_eq!(counts(&got), (waiting, 0));
    assert!(most - idle <= 16 * 1024, "{} KiB more than idle", most - idle);
}
