//! A process that stopped is noticed and started again. Loops that stop inside a process: `src/hub/heartbeats.rs`.

use std::process::Command;
use std::time::{Duration, Instant};

use iotsocketd::wire::Format;
use serde_json::json;

use crate::supervisor::{Event, RESTART, Supervisor, WATCHDOG};
use crate::support::Site;

/// After it was noticed.
const BACK: Duration = Duration::from_secs(2);

#[test]
fn a_stopped_process_is_noticed_in_time_and_another_one_serves() {
    let site = Site::new();
    let pump = site.device("pump", "Devices");
    let supervisor = Supervisor::start(&site);
    let mut device = site.login(pump);
    device.token();
    let stopped = Instant::now();
    let line = format!("kill -STOP {}", supervisor.main_pid());
    assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    let ready = supervisor.wait("READY=1", 2);
    let events = supervisor.events();
    let killed = events.iter().find(|(_, event)| *event == Event::Killed).unwrap().0;
    // Both have a little more on a machine that is busy with other tests.
    assert!(killed - stopped < WATCHDOG + Duration::from_secs(2), "{:?}", killed - stopped);
    assert!(ready - killed < BACK + RESTART + Duration::from_secs(3), "{:?}", ready - killed);
    site.login(pump).token();
    assert_eq!(
        site.post("/request", &json!({"UID": "x", "Payload": "", "Format": "UTF8"})).json()["Code"],
        160
    );
    supervisor.stop();
    assert!(site.log().contains("event=stopped"));
}

#[test]
fn it_is_fed_while_all_is_well_and_told_of_the_end() {
    let site = Site::new();
    let supervisor = Supervisor::start(&site);
    std::thread::sleep(WATCHDOG + Duration::from_secs(4));
    assert!(!supervisor.events().iter().any(|(_, event)| *event == Event::Killed));
    supervisor.wait("READY=1", 1);
    supervisor.stop();
    assert!(site.log().contains("event=stopped"));
}

/// Hangs a system call of a running service until that is killed, and sees that another process serves in time.
/// `meanwhile`: to be done again and again.
fn hung_and_back(site: &Site, supervisor: &Supervisor, call: &str, mut meanwhile: impl FnMut()) {
    let main = supervisor.main_pid().to_string();
    let mut strace = Command::new("strace")
        .args(["-f", "-qqq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:delay_enter=60000000"), "-p", &main])
        .spawn()
        .unwrap();
    let hung = Instant::now();
    while !supervisor.events().iter().any(|(_, event)| *event == Event::Killed) {
        assert!(hung.elapsed() < 2 * WATCHDOG, "it is noticed");
        meanwhile();
        std::thread::sleep(Duration::from_millis(100));
    }
    // What is killed under strace is gone when that is.
    strace.kill().unwrap();
    strace.wait().unwrap();
    let ready = supervisor.wait("READY=1", 2);
    let events = supervisor.events();
    let killed = events.iter().find(|(_, event)| *event == Event::Killed).unwrap().0;
    // Both have a little more on a machine that is busy with other tests.
    assert!(killed - hung < WATCHDOG + Duration::from_secs(4), "{:?}", killed - hung);
    assert!(ready - killed < BACK + RESTART + Duration::from_secs(3), "{:?}", ready - killed);
    println!("noticed after {:?}, serving again {:?} later", killed - hung, ready - killed);
    let log = site.log();
    assert_eq!(log.matches("event=stopped_turning").count(), 1, "{log}");
}

/// Its disk hangs: whoever commits waits for ever, and all that needs the journal with it. The process itself runs on.
#[test]
fn a_process_whose_commits_hang_is_noticed_in_time_and_another_one_serves() {
    let site = Site::new();
    let pump = site.device("pump", "Devices");
    let supervisor = Supervisor::start(&site);
    let (_device, token) = site.login_with_token(pump);
    let mut number = 0;
    // A flush that comes before it is attached is none that hangs: there is always a next one.
    hung_and_back(&site, &supervisor, "fdatasync", || {
        number += 1;
        site.telemetry(token, Format::Utf8, number.to_string().as_bytes());
    });
    assert!(site.log().contains("event=stopped_turning loops=journal"), "{}", site.log());
    site.login(pump).token();
    supervisor.stop();
}

/// Whoever holds the router's lock never gives it back: it makes a fresh token for a session, the one thing that the system
/// is asked for under the lock. So all who need the router wait for ever.
#[test]
fn a_router_that_is_dead_locked_is_noticed_in_time_and_another_one_serves() {
    let site = Site::new();
    let pump = site.device("pump", "Devices");
    site.set("groups.Devices", "telemetry_token_ttl", "\"4s\"");
    let supervisor = Supervisor::start(&site);
    let (_device, _token) = site.login_with_token(pump);
    hung_and_back(&site, &supervisor, "getrandom", || {});
    let log = site.log();
    let loops = log.split_once("event=stopped_turning loops=").unwrap().1.split_once(' ').unwrap().0;
    assert!(loops.split(',').any(|name| name == "router"), "{loops}");
    site.login(pump).token();
    assert_eq!(
        site.post("/request", &json!({"UID": "x", "Payload": "", "Format": "UTF8"})).json()["Code"],
        160
    );
    supervisor.stop();
}
