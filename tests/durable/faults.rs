//! A medium that is full, fails or is slow: calls go on, what is said is true, and it is well again by itself.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bounds::{has_alert, settled};
use crate::central::{Session, Shared, counts, drain};
use crate::ledger::{Books, Ledger};
use crate::load::Object;
use crate::support::{Device, Peer, Site, eventually};

/// An object that is there to be asked and to ask.
struct Caller {
    device: Device,
    peer: Peer,
}

impl Caller {
    fn log_in(site: &Site, device: Device) -> Self {
        Self { device, peer: site.login(device) }
    }

    /// A call over HTTPS is answered, and so is a ping.
    fn works(&mut self, site: &Site) {
        let uid = self.device.uid;
        let peer = &mut self.peer;
        std::thread::scope(|scope| {
            let called = scope.spawn(|| site.call(uid.as_str(), json!("open"), "UTF8"));
            peer.answer(7, b"is open");
            assert_eq!(called.join().unwrap()["Code"], 7);
        });
        peer.is_alive();
    }
}

/// What strace does to these system calls of the concentrator.
fn strace(injections: &[&str]) -> Vec<String> {
    let mut words: Vec<String> =
        ["strace", "-D", "-f", "-qqq", "--seccomp-bpf", "-o", "/dev/null"].map(str::to_owned).into();
    for injection in injections {
        let call = injection.split(':').next().unwrap();
        words.extend(["-e".into(), format!("trace={call}"), "-e".into(), format!("inject={injection}")]);
    }
    words
}

/// A file system of its own under the state folder, unmounted when this is dropped.
struct Mounted<'a>(&'a Site);

impl<'a> Mounted<'a> {
    fn new(site: &'a Site, size: &str) -> Self {
        let state = site.path("state");
        let list = fs::read(site.path("state/acl.json")).unwrap();
        let options = format!("size={size},mode=0700");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&state).status();
        assert!(mount.unwrap().success(), "a file system can be mounted: this test needs root");
        fs::write(site.path("state/acl.json"), list).unwrap();
        Command::new("chmod").arg("600").arg(site.path("state/acl.json")).status().unwrap();
        Self(site)
    }

    /// Leaves no more than this free.
    fn fill(&self, free: u64) {
        let file = fs::File::create(self.0.path("state/ballast")).unwrap();
        let mut at = 0;
        loop {
            let (_, left) = iotsocketd::sys::disk_space(&self.0.path("state")).unwrap();
            if left <= free || file.write_all_at(&[1; 4096], at).is_err() {
                return;
            }
            at += 4096;
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.path("state/ballast")).unwrap();
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if self.0.is_running() {
            self.0.kill();
        }
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path("state")).status().unwrap();
        assert!(unmounted.success());
    }
}

fn full_disk(on_full: &str) {
    let site = Site::new();
    site.set("time", "trust", "\"always\"");
    // Only what the books count has numbers.
    site.set("journal", "calls", "\"none\"");
    // Segments of 256 KiB.
    site.set("journal", "max_size", "\"4MiB\"");
    site.set("journal", "on_full", &format!("\"{on_full}\""));
    let mut objects = ["pump-1", "pump-2"].map(|name| Object::new(&site, name));
    let device = site.device("valve", "Stations");
    let mounted = Mounted::new(&site, "64m");
    site.start();
    objects.iter_mut().for_each(|object| object.log_in(&site));
    let mut caller = Caller::log_in(&site, device);
    let mut send = |site: &Site, count: u64| {
        for _ in 0..count {
            objects.iter_mut().for_each(|object| object.send(900));
            std::thread::sleep(Duration::from_micros(300));
        }
        assert!(site.is_running());
    };
    send(&site, 400);
    settled(&site);
    mounted.fill(0);
    let began = Instant::now();
    eventually("the alert is up", || {
        send(&site, 20);
        has_alert(&site, "journal_full")
    });
    println!("the alert after {:?}", began.elapsed());
    send(&site, 1000);
    caller.works(&site);
    assert!(!has_alert(&site, "journal_read_only"), "{}", site.log());
    let books = Books::of(&site);
    match on_full {
        "drop-oldest" => assert!(books.made_room > 0, "{books:?}"),
        _ => {
            assert_eq!(books.made_room, 0, "{books:?}");
            // Whoever would wait to be answered hears of it.
            let command = json!({"UID": "valve", "Payload": "x", "Format": "UTF8"});
            let refused = site.post("/v1/commands", &command);
            assert!(refused.status == 503 && refused.head.contains("retry-after: "), "{}", refused.text());
        }
    }
    // The central takes what there is, and what it has makes room.
    let got = Shared::default();
    let central = Session::open(&site, &got).unwrap();
    drain(&site);
    caller.works(&site);
    let delivered = Books::of(&site).delivered;
    eventually("it goes on on a full disk", || {
        send(&site, 1);
        Books::of(&site).delivered > delivered
    });
    central.leave();
    mounted.free();
    let freed = Instant::now();
    let taken = Books::of(&site).taken();
    eventually("there is room again", || {
        send(&site, 1);
        Books::of(&site).taken() > taken
    });
    let took = freed.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?} until it was well again");
    eventually("it says so", || !has_alert(&site, "journal_full"));
    let refused = Books::of(&site).refused;
    send(&site, 50);
    caller.works(&site);
    assert_eq!(Books::of(&site).refused, refused, "everything is taken again");
    settled(&site);
    // A kill changes nothing of the books, and what waits arrives.
    let before = Books::of(&site);
    site.kill();
    site.start();
    let books = Books::of(&site);
    assert_eq!(
        (books.received, books.made_room, books.refused),
        (before.received, before.made_room, before.refused)
    );
    let mut ledger = Ledger::default();
    ledger.agrees(&site, 0);
    assert_eq!(ledger.states.get("waiting").copied().unwrap_or(0), books.waiting);
    let central = Session::open(&site, &got).unwrap();
    drain(&site);
    central.leave();
    assert!(ledger.shown.values().all(|shown| got.lock().unwrap().all.contains(&shown.payload)));
    assert!(counts(&got).0 > 0);
}

#[test]
fn a_full_disk_drops_the_oldest_and_is_well_again_by_itself() {
    full_disk("drop-oldest");
}

#[test]
fn a_full_disk_refuses_the_new_and_is_well_again_by_itself() {
    full_disk("refuse-new");
}

/// A disk that is full when it starts, behind a kill: what was acknowledged is there.
#[test]
fn a_start_on_a_full_disk_serves_what_there_is() {
    let site = Site::new();
    site.set("time", "trust", "\"always\"");
    // Only what the books count has numbers.
    site.set("journal", "calls", "\"none\"");
    let mut object = Object::new(&site, "pump-1");
    let mounted = Mounted::new(&site, "64m");
    site.start();
    object.log_in(&site);
    (0..300).for_each(|_| object.send(100));
    eventually("all is taken", || Books::of(&site).received == 300);
    settled(&site);
    let mut ledger = Ledger::default();
    assert_eq!(ledger.count(&site), 300);
    site.kill();
    mounted.fill(0);
    // What was in reserve is taken by the disk's other user.
    fs::remove_file(site.path("state/journal/spare.tmp")).unwrap();
    mounted.fill(0);
    site.start();
    eventually("the alert is up", || has_alert(&site, "journal_full"));
    assert_eq!(Books::of(&site).received, 300);
    assert_eq!(ledger.count(&site), 300);
    let got = Shared::default();
    let central = Session::open(&site, &got).unwrap();
    drain(&site);
    assert_eq!(counts(&got).0, 300);
    mounted.free();
    eventually("there is room again", || !has_alert(&site, "journal_full"));
    object.log_in(&site);
    object.send(100);
    eventually("it is delivered", || counts(&got).0 == 301);
    central.leave();
    settled(&site);
    assert_eq!(ledger.count(&site), 301);
}

/// A flush that fails once: the same goes to another file, and nothing is lost.
#[test]
fn a_failed_flush_is_made_good_in_another_file() {
    let site = Site::new();
    site.set("time", "trust", "\"always\"");
    // Only what the books count has numbers.
    site.set("journal", "calls", "\"none\"");
    let mut object = Object::new(&site, "pump-1");
    let device = site.device("valve", "Stations");
    let words = strace(&["fdatasync:error=EIO:when=8"]);
    site.start_under(&words.iter().map(String::as_str).collect::<Vec<_>>());
    object.log_in(&site);
    let mut caller = Caller::log_in(&site, device);
    eventually("the alert is up", || {
        object.send(100);
        has_alert(&site, "journal_writes_failed")
    });
    caller.works(&site);
    (0..100).for_each(|_| object.send(100));
    settled(&site);
    assert!(!has_alert(&site, "journal_read_only"));
    let mut ledger = Ledger::default();
    let last = ledger.count(&site);
    assert!(last >= 100);
    site.kill();
    site.start();
    assert_eq!(ledger.count(&site), last);
    let got = Shared::default();
    let central = Session::open(&site, &got).unwrap();
    drain(&site);
    central.leave();
    assert_eq!(counts(&got), (last, 0));
}

/// All flushes fail from a moment on: nothing more is acknowledged, calls go on, and it is said.
#[test]
fn a_second_failure_makes_the_journal_read_only_and_calls_go_on() {
    let site = Site::new();
    site.set("time", "trust", "\"always\"");
    // Only what the books count has numbers.
    site.set("journal", "calls", "\"none\"");
    let mut object = Object::new(&site, "pump-1");
    let device = site.device("valve", "Stations");
    let words = strace(&["fdatasync:error=EIO:when=8+"]);
    site.start_under(&words.iter().map(String::as_str).collect::<Vec<_>>());
    object.log_in(&site);
    let mut caller = Caller::log_in(&site, device);
    eventually("the alert is up", || {
        object.send(100);
        has_alert(&site, "journal_read_only")
    });
    let mut ledger = Ledger::default();
    let last = ledger.count(&site);
    for _ in 0..50 {
        object.send(100);
    }
    caller.works(&site);
    assert_eq!(ledger.count(&site), last, "what is not on flash is not told");
    let books = Books::of(&site);
    assert!(books.refused > 0, "{books:?}");
    // What was taken and is in memory only is delivered all the same.
    let got = Shared::default();
    let central = Session::open(&site, &got).unwrap();
    drain(&site);
    central.leave();
    assert_eq!(counts(&got).0, books.taken(), "{books:?} {:?}", Books::of(&site));
    caller.works(&site);
    site.kill();
    site.start();
    // What was written and could not be flushed may be there or not.
    let again = ledger.count(&site);
    assert!(again >= last, "{again} of {last}");
    let books = Books::of(&site);
    assert_eq!((books.received, books.waiting), (again, again));
}

/// Flushes that take long: nobody notices but who waits for flash.
#[test]
fn a_slow_medium_delays_no_call_and_no_ping() {
    let site = Site::new();
    site.set("time", "trust", "\"always\"");
    // Only what the books count has numbers.
    site.set("journal", "calls", "\"none\"");
    let mut object = Object::new(&site, "pump-1");
    let device = site.device("valve", "Stations");
    let words = strace(&["fdatasync:delay_enter=3000000:when=6+"]);
    site.start_under(&words.iter().map(String::as_str).collect::<Vec<_>>());
    object.log_in(&site);
    let mut caller = Caller::log_in(&site, device);
    let got = Shared::default();
    let central = Session::open(&site, &got).unwrap();
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(6) {
        object.send(100);
        sent += 1;
        let start = Instant::now();
        caller.works(&site);
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?} for a call and a ping");
    eventually("telemetry went on", || counts(&got).0 == sent);
    central.leave();
    assert!(Books::of(&site).taken() > Ledger::default().count(&site), "flash is behind");
    site.kill();
}
