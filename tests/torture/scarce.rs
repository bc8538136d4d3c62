//! Little memory, no memory, no descriptors, and clocks that are wrong.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use iotsocketd::wire::Format;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::chaos::Random;
use crate::support::crowd::{Crowd, Plan, prepare};
use crate::support::{Http, Site, eventually};
use crate::watch::{Bounds, watched};
use crate::{is_full, seed};

/// What the service's unit gives.
const MEMORY_MAX: u64 = 256 << 20;
/// A site at work in it: a part of `cargo test`, and all of it.
const PLANS: [Plan; 2] = [
    Plan { sessions: 150, datagrams: 300, calls: 60, brought: 20 },
    Plan { sessions: 1_000, datagrams: 1_000, calls: 200, brought: 50 },
];
const TIMES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(180)];
const IDLE_KIB_MAX: u64 = 24 * 1024;
const BUSY_KIB_MAX: u64 = 96 * 1024;
/// Times that no memory is left.
const ABORTS: [usize; 2] = [3, 60];
/// Descriptors that the process may have.
const FILES: usize = 256;
/// Places that are left for sessions then.
const PLACES: u64 = 48;
const EXHAUSTED: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(60)];

/// A group of the kernel with so much memory, until dropped. None where we may not make one, which is told.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Self> {
        let group = Self(format!("/sys/fs/cgroup/memory/iotsocketd-test-{}", std::process::id()).into());
        let made = fs::create_dir(&group.0)
            .and_then(|()| fs::write(group.0.join("memory.limit_in_bytes"), MEMORY_MAX.to_string()));
        if made.is_err() {
            println!("no group of the kernel: only the process's own figures bound its memory");
        }
        made.is_ok().then_some(group)
    }

    fn start(this: &Option<Self>, site: &Site) {
        let Some(Self(path)) = this else { return site.start() };
        let enter = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", path.display());
        site.start_under(&["sh", "-c", &enter, "sh"]);
    }

    fn number(&self, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(self.0.join(file)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _busy = fs::remove_dir(&self.0);
    }
}

/// Everybody at work in the memory that the unit gives, the central away: nobody is killed for want of it.
#[test]
fn everybody_at_work_fits_the_memory_of_the_unit() {
    println!("seed: none, nothing is random");
    let full = usize::from(is_full());
    let (plan, group) = (PLANS[full], Group::new());
    let site = Site::new();
    let devices = prepare(&site, plan);
    Group::start(&group, &site);
    let idle = site.memory_kib();
    assert!(idle < IDLE_KIB_MAX, "{idle} KiB without anybody");
    let bounds = Bounds { memory_kib: BUSY_KIB_MAX, files: plan.sessions + 400 };
    let (sessions, seen) = watched(&site, bounds, |watch| {
        let mut crowd = Crowd::start(&site, plan, devices);
        let sessions = site.memory_kib();
        let began = Instant::now();
        while began.elapsed() < TIMES[full] {
            std::thread::sleep(Duration::from_millis(500));
            watch.check();
            let (_, lost) = crowd.lost(&site);
            assert_eq!(lost, Vec::<String>::new());
        }
        let datagrams = crowd.datagrams(&site);
        assert_eq!((datagrams.lost(), datagrams.repeated), (0, 0), "{datagrams:?}");
        assert_eq!(crowd.tally.failed.take(), (0, String::new()));
        sessions
    });
    println!(
        "idle {idle} KiB, with {} sessions and callers {sessions} KiB, {} KiB at most, {} files at most",
        plan.sessions, seen.memory_kib, seen.files
    );
    if let Some(group) = &group {
        let most = group.number("memory.max_usage_in_bytes", "") >> 10;
        let killed = group.number("memory.oom_control", "oom_kill ");
        println!(
            "the group: {most} KiB at most, its files in memory included; {killed} killed for want of it"
        );
        assert_eq!(killed, 0);
    }
    site.stop();
}

/// No memory is given any more: the process ends, as Rust's programs do, and the next one has all that was acknowledged.
#[test]
fn a_process_that_gets_no_memory_ends_and_loses_nothing() {
    let mut random = Random::new(seed());
    let plan = Plan { sessions: 10, datagrams: 50, calls: 20, brought: 50 };
    let site = Site::new();
    let devices = prepare(&site, plan);
    site.start();
    let crowd = Crowd::start(&site, plan, devices);
    for _ in 0..ABORTS[usize::from(is_full())] {
        eventually("something is acknowledged", || crowd.tally.acknowledged.lock().unwrap().len() > 5);
        let status = fs::read_to_string(format!("/proc/{}/status", site.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
        let kib: u64 = line.trim().split(' ').next().unwrap().parse().unwrap();
        let bytes = kib * 1024 + random.below(1 << 20);
        let limit = ["--pid", &site.pid().to_string(), &format!("--data={bytes}:{bytes}")].map(str::to_owned);
        assert!(Command::new("prlimit").args(&limit).status().unwrap().success());
        eventually("it ends for want of memory", || {
            // Whoever sends much takes much.
            if let Ok(mut http) = Http::connect(&site, None) {
                let body = json!({"UID": "object-0", "Payload": "x".repeat(60_000), "Format": "UTF8"});
                let _may_end = http.try_call("POST", "/request", body.to_string().as_bytes());
            }
            let list = vec![b' '; 3 << 20];
            let _may_end =
                Http::connect(&site, None).map(|mut http| http.try_call("POST", "/acl", &list).is_ok());
            !site.is_running()
        });
        site.reap();
        site.start();
        eventually("all sessions are back", || crowd.is_whole());
        let (acknowledged, lost) = crowd.lost(&site);
        assert!(acknowledged > 0);
        assert_eq!(lost, Vec::<String>::new());
    }
    let log = site.log();
    println!("{} times: memory allocation failed", log.matches("memory allocation of").count());
}

/// A connection from an address of loopback, if the other side still takes one.
fn connect_from(local: IpAddr, to: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::new(local, 0).into()).ok()?;
    socket.connect_timeout(&to.into(), Duration::from_secs(1)).ok()?;
    Some(socket.into())
}

/// Processor time of the process so far.
fn worked(site: &Site) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", site.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// More connections than descriptors, on both listeners: who is there is served, the journal goes on, nothing spins, nobody
/// gets in who may not, and all is well once they are gone.
#[test]
fn without_descriptors_who_is_there_is_served_and_nothing_spins() {
    println!("seed: none, nothing is random");
    let site = Site::new();
    let [pump, pump_2] = ["pump-1", "pump-2"].map(|name| site.device(name, "Devices"));
    site.start_under(&["prlimit", &format!("--nofile={FILES}:{FILES}")]);
    let (mut object, token) = site.login_with_token(pump);
    let mut http = site.http();
    assert_eq!(http.get("/v1/status").status, 200);
    let bounds = Bounds { memory_kib: 64 * 1024, files: FILES - 32 };
    let (share, seen) = watched(&site, bounds, |watch| {
        let crowd: Vec<_> = (0..2 * FILES)
            .filter_map(|number| {
                let to = if number % 2 == 0 { site.sessions() } else { site.api() };
                connect_from([127, 4, 0, 1 + (number % 250) as u8].into(), to)
            })
            .collect();
        // A part of them is kept for everything else, so that nothing of it ever finds none.
        eventually("no place is left", || {
            http.get("/v1/status").json()["sessions"]["by_listener"]["sessions"].as_u64() >= Some(PLACES)
        });
        let (began, before) = (Instant::now(), worked(&site));
        let mut number = 0_u64;
        while began.elapsed() < EXHAUSTED[usize::from(is_full())] {
            site.telemetry(token, Format::Utf8, number.to_string().as_bytes());
            number += 1;
            object.is_alive();
            let status = http.get("/v1/status");
            assert_eq!(status.status, 200);
            // Who speaks takes the place of one who is silent.
            site.login_with_token(pump_2).0.is_alive();
            watch.check();
            std::thread::sleep(Duration::from_millis(100));
        }
        let share = (worked(&site) - before).as_secs_f64() / began.elapsed().as_secs_f64();
        eventually("what came meanwhile is on flash", || {
            let page = http.get("/v1/messages?kind=telemetry&limit=1000").json();
            page["messages"].as_array().unwrap().len() as u64 == number
        });
        drop(crowd);
        share
    });
    println!("{:.0} % of a core while there was none; {} files at most", share * 100.0, seen.files);
    assert!(share < 0.5, "it spins: {share}");
    eventually("a login works", || site.try_login(pump).is_ok());
    eventually("a call works", || {
        Http::connect(&site, None).is_ok_and(|mut http| http.get("/readyz").status == 200)
    });
}

/// Descriptors of which fewer than are open.
const FILES_TOO_FEW: usize = 15;

/// A command while no descriptor is to be had is not answered, and costs nobody anything; the next one, when there are some
/// again, is.
#[test]
fn a_command_without_descriptors_ends_nothing_and_later_ones_are_answered() {
    println!("seed: none, nothing is random");
    let site = Site::new();
    site.start();
    let (pid, mut http) = (site.pid().to_string(), site.http());
    assert_eq!(site.run(&["status"]).code, 0);
    let limit = |files: usize| {
        let limit = format!("--nofile={files}:16384");
        assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    };
    for _ in 0..2 {
        limit(FILES_TOO_FEW);
        let ran = site.run(&["status"]);
        assert!(site.is_running() && site.pid().to_string() == pid, "{}", site.log());
        assert_ne!(ran.code, 0, "{}", ran.out);
        assert_eq!(http.get("/v1/status").status, 200);
        limit(16_384);
        eventually("commands are answered", || site.run(&["status"]).code == 0);
    }
    site.stop();
}

/// libfaketime of Debian's package `faketime`: clocks of one process that a file sets.
fn fake_clock(site: &Site) -> Option<[String; 5]> {
    let folders =
        fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    let library = folders.into_iter().find(|path| path.exists())?;
    Some([
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", site.path("clock").display()),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "FAKETIME_NO_CACHE=1".to_owned(),
    ])
}

/// Clocks, as libfaketime has them, and whether the time is right then.
const CLOCKS: [(&str, &str); 6] = [
    ("1970", "@1970-01-01 00:00:10"),
    ("set", "+0"),
    ("an hour back", "-3600"),
    ("frozen", "2026-12-24 12:00:00"),
    ("a day ahead", "+1d"),
    ("right again", "+0"),
];

/// Whatever the clock does under the process: it takes, orders, keeps and answers as before.
#[test]
fn whatever_the_clock_does_nothing_is_lost_reordered_or_expired() {
    println!("seed: none, nothing is random");
    let site = Site::new();
    site.set("time", "trust", "\"always\"");
    site.set("journal", "max_size", "\"1MiB\"");
    site.set("journal", "retention", "\"60d\"");
    site.set("sessions", "request_timeout", "\"1s\"");
    let pump = site.device("pump-1", "Devices");
    let set = |clock: &str| {
        fs::write(site.path("clock.new"), clock).unwrap();
        fs::rename(site.path("clock.new"), site.path("clock")).unwrap();
    };
    set(CLOCKS[0].1);
    let Some(words) = fake_clock(&site) else {
        println!("not tried: Debian's package `faketime` is not here");
        return;
    };
    site.start_under(&words.each_ref().map(String::as_str));
    let (mut object, token) = site.login_with_token(pump);
    let bounds = Bounds { memory_kib: 96 * 1024, files: 200 };
    let mut number = 0_u64;
    let ((), seen) = watched(&site, bounds, |watch| {
        for (name, clock) in CLOCKS {
            set(clock);
            for _ in 0..if is_full() { 2_000 } else { 200 } {
                site.telemetry(token, Format::Utf8, number.to_string().as_bytes());
                number += 1;
            }
            object.is_alive();
            // Timers do not look at this clock: a call that nobody answers ends in its time.
            let asked = Instant::now();
            let body = json!({"UID": "pump-1", "Payload": "?", "Format": "UTF8", "Timeout": 1});
            let reply = site.post("/request", &body);
            assert_eq!((reply.status, reply.json()["Code"].clone()), (200, json!(161)), "{name}");
            assert!(asked.elapsed() >= Duration::from_millis(900), "{name}: {:?}", asked.elapsed());
            assert_eq!(object.request().1, b"?", "{name}");
            drop(site.login(site.central()));
            let (mut http, mut last, mut found) = (site.http(), 0, Vec::new());
            eventually("all of it is there, in order", || {
                let page = http.get(&format!("/v1/messages?kind=telemetry&limit=1000&after={last}")).json();
                for message in page["messages"].as_array().unwrap() {
                    last = message["seq"].as_u64().unwrap();
                    found.push(message["payload"].as_str().unwrap().parse::<u64>().unwrap());
                }
                found.len() as u64 == number
            });
            assert!(found.into_iter().eq(0..number), "{name}: in another order");
            let status = site.status();
            assert_eq!(status["books"]["dropped"]["expired"], 0, "{name}");
            watch.check();
            println!("{name}: clock_is_set {}", status["clock_is_set"]);
        }
    });
    assert!(seen.books > 0);
    // What was taken before the clock was set has its right time now.
    let first = site.http().get("/v1/messages?kind=telemetry&limit=1").json()["messages"][0].clone();
    assert_eq!(first["clock"], "corrected", "{first}");
    assert!(first["time"].as_str().is_some_and(|time| time >= "2026"), "{first}");
}
