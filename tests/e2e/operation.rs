//! What operators do: reload, restart, stop, look.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Site, eventually, iotsocketd, request, response};

fn refused_reloads(site: &Site) -> usize {
    site.log().matches("event=configuration_refused").count()
}

fn reloads(site: &Site) -> usize {
    site.log().matches("event=configuration_reloaded").count()
}

#[test]
fn a_changed_file_and_sighup_are_taken_up_without_dropping_a_session() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let mut central = site.login(site.central());
    let (mut object, _) = site.login_with_token(pump);
    // A change of the file, by itself.
    site.set("sessions", "request_timeout", "\"1s\"");
    eventually("the change is taken up", || reloads(&site) == 1);
    let start = Instant::now();
    assert_eq!(central.ask(Some(pump.uid), 1, b"?"), (0xA1, vec![]));
    assert!(start.elapsed() < Duration::from_secs(5));
    object.request();
    // SIGHUP, though nothing changed.
    site.signal("HUP");
    eventually("the signal is heard", || reloads(&site) == 2);
    // What cannot change says so; the rest of the same file counts.
    site.set("sessions", "listen", "\"127.0.0.1:1\"");
    site.set("api", "max_wait", "\"1s\"");
    eventually("the change is taken up", || reloads(&site) == 3);
    eventually("it is said", || site.log().contains("event=restart_needed key=sessions.listen"));
    assert!(!site.log().contains("event=restart_needed key=api.listen"));
    let start = Instant::now();
    assert_eq!(site.call_for("pump-1", json!(1), "JSON", 10)["Code"], 0xA1);
    assert!(start.elapsed() < Duration::from_secs(5));
    object.request();
    // A broken one changes nothing.
    let whole = site.read("iotsocketd.toml");
    for (times, broken) in (1..).zip(["[sessions", "[sessions]\nrequest_timeout = \"never\"", "listen = 1"]) {
        fs::write(site.config(), broken).unwrap();
        eventually("it is refused", || refused_reloads(&site) == times);
    }
    assert_eq!(central.ask(Some(pump.uid), 2, b"?"), (0xA1, vec![]), "still a second");
    fs::write(site.config(), whole).unwrap();
    eventually("the change is taken up", || reloads(&site) == 4);
    object.request();
    object.is_alive();
    central.is_alive();
}

#[test]
fn a_group_that_loses_telemetry_or_its_network_loses_it_at_once() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (_object, token) = site.login_with_token(pump);
    site.set("groups.Devices", "telemetry", "false");
    eventually("the change is taken up", || reloads(&site) == 1);
    site.telemetry(token, iotsocketd::wire::Format::Utf8, b"no more");
    eventually("it is dropped", || {
        site.refused("telemetry.not_allowed") + site.refused("telemetry.wrong_token") == 1
    });
    assert_eq!(site.number("/books/received"), 0);
}

#[test]
fn a_new_certificate_is_shown_to_newcomers_and_no_session_is_dropped() {
    let site = Site::new();
    let other = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (mut object, _) = site.login_with_token(pump);
    let old = site.tls();
    let replace = |name: &str| {
        fs::copy(other.path(name), site.path("tls/new")).unwrap();
        fs::rename(site.path("tls/new"), site.path(name)).unwrap();
    };
    // Half of a pair is no pair: the old one stays in use.
    replace("tls/server.crt");
    eventually("it is refused", || site.log().contains("event=certificate_refused"));
    assert!(site.login_as(pump, None, Some(&old), 0).is_ok());
    let (mut again, _) = {
        assert_eq!(object.closed(), 0xA1);
        let mut peer = site.login_as(pump, None, Some(&old), 0).unwrap();
        let token = peer.token();
        (peer, token)
    };
    replace("tls/server.key");
    eventually("the pair is taken up", || site.log().contains("event=certificate_reloaded"));
    again.is_alive();
    let central = site.login(site.central());
    assert!(site.login_as(site.central(), None, Some(&old), 0).is_err(), "the old one is not shown any more");
    assert_eq!(site.http().get("/readyz").status, 200);
    drop(central);
}

/// B20: a second program must not be able to share the ports or the state.
#[test]
fn a_second_instance_and_a_port_in_use_are_exit_1_with_the_name() {
    let site = Site::started();
    let second = site.run(&["run"]);
    assert_eq!(second.code, 1);
    assert!(second.err.contains(site.path("state").to_str().unwrap()), "{}", second.err);
    // Another state, the same ports.
    let other = Site::new();
    for (section, address) in
        [("sessions", site.sessions()), ("telemetry", site.sessions()), ("api", site.api())]
    {
        let own = if section == "api" { other.api() } else { other.sessions() };
        other.set(section, "listen", &format!("\"{address}\""));
        let ran = other.run(&["run"]);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains(&format!("{section}.listen")), "{}", ran.err);
        assert!(ran.err.contains(&format!("port {}", address.port())), "{}", ran.err);
        other.set(section, "listen", &format!("\"{own}\""));
    }
    other.start();
    assert_eq!(site.http().get("/readyz").status, 200);
    let _taken = TcpListener::bind(other.api()).unwrap_err();
}

#[test]
fn at_sigterm_held_calls_and_sessions_are_told_and_the_end_comes_in_time() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    let quick = site.device("quick", "Devices");
    site.start();
    let (mut object, _) = site.login_with_token(pump);
    let (mut answers, _) = site.login_with_token(quick);
    let mut central = site.login(site.central());
    thread::scope(|scope| {
        let held = scope.spawn(|| (site.call_for("pump-1", json!(1), "JSON", 30), Instant::now()));
        let answered = scope.spawn(|| site.call_for("quick", json!(1), "JSON", 30));
        object.request();
        let (number, _) = answers.request();
        let start = Instant::now();
        site.signal("TERM");
        eventually("it is stopping", || site.log().contains("event=stopping"));
        // Listeners are closed; what is under way may still end well.
        eventually("no new sessions", || std::net::TcpStream::connect(site.sessions()).is_err());
        answers.send(&response(None, number, 0, b"in time"));
        assert_eq!(answered.join().unwrap()["Payload"], "in time");
        let (reply, end) = held.join().unwrap();
        assert_eq!(reply, json!({"Code": 0xA1, "Payload": null, "Format": "JSON"}));
        assert!((3..6).contains(&(end - start).as_secs()), "{:?}", end - start);
        assert_eq!([object.closed(), answers.closed(), central.closed()], [0xA1; 3]);
        let status = site.wait_exit(Duration::from_secs(8).saturating_sub(start.elapsed()));
        assert_eq!(status.code(), Some(0));
    });
    assert_eq!(site.run(&["status"]).code, 1);
    site.start();
    site.login_with_token(pump).0.is_alive();
}

#[test]
fn status_and_metrics_say_what_happened() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    let absent = site.run(&["status"]);
    assert_eq!((absent.code, absent.err.lines().count()), (1, 1), "{}", absent.err);
    site.start();
    let mut central = site.login(site.central());
    let (mut object, token) = site.login_with_token(pump);
    object.send(&request(None, 1, b"?"));
    let (number, _) = central.request();
    central.send(&response(Some(pump.uid), number, 0, b"!"));
    object.response();
    site.telemetry(token, iotsocketd::wire::Format::Utf8, b"21.5");
    central.telemetry();
    let ran = site.run(&["status"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    for part in ["iotsocketd ", "(test)", "ready", "sessions", "books", "alerts: none"] {
        assert!(ran.out.contains(part), "{part} in {}", ran.out);
    }
    let status = site.status();
    assert_eq!(status["sessions"]["live"], 1, "{status:#}");
    assert_eq!(status["sessions"]["central"], true);
    assert_eq!(status["calls"]["answered"], 1);
    assert_eq!(status["books"]["received"], 1);
    assert_eq!(status["environment"], "test");
    let mut http = site.http();
    assert_eq!(http.get("/v1/status").json()["books"]["received"], 1);
    assert_eq!(http.get("/v1/objects").status, 200);
    http.bearer = None;
    assert_eq!(http.get("/v1/status").status, 401);
    assert_eq!([http.get("/healthz").status, http.get("/readyz").status], [200, 200]);
    // From loopback without a key.
    let metrics = http.get("/metrics");
    assert_eq!(metrics.status, 200);
    let text = metrics.text();
    let taken = text.lines().find(|line| line.contains("telemetry") && line.contains("_total 1"));
    assert!(taken.is_some(), "{text}");
}

#[test]
fn check_tells_good_files_from_bad_ones() {
    let site = Site::new();
    site.device("pump-1", "Devices");
    let good = site.run(&["check"]);
    assert_eq!(good.code, 0, "{}", good.err);
    site.set("sessions", "handshake_timeout", "\"ten\"");
    site.set("groups.Devices", "telemetri", "true");
    let bad = site.run(&["check"]);
    assert_eq!(bad.code, 1);
    for part in ["sessions.handshake_timeout", "telemetri", "did you mean `telemetry`?", "has 2 mistakes"] {
        assert!(bad.err.contains(part), "{part} in {}", bad.err);
    }
    assert_eq!(site.run(&["run"]).code, 1);
}

/// B3: two hundred healthy sessions under load, and none is dropped.
#[test]
fn simulate_prints_json_and_200_busy_sessions_stay() {
    let site = Site::started();
    let words =
        ["simulate", "--objects", "200", "--enrol", "Devices", "--in-flight", "32", "--object-rate", "200"];
    let ran =
        site.run(&[&words[..], &["--telemetry", "200", "--sources", "4", "--for", "2s", "--json"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["online"], 200);
    assert_eq!(report["counts"]["session_lost"], 0);
    assert_eq!(report["errors"], json!({}), "{report:#}");
    assert!(report["counts"]["calls_answered"].as_u64().unwrap() > 100, "{report:#}");
    assert!(report["counts"]["telemetry_received"].as_u64().unwrap() > 0, "{report:#}");
    let list: Value = serde_json::from_str(&site.read("state/acl.json")).unwrap();
    assert_eq!(list, json!({}), "what it enrolled is gone again");
}

#[test]
fn the_demo_ends_by_itself_and_says_no_errors() {
    let ran = iotsocketd(&["demo", "--for", "3s"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for part in ["curl ", "20 sessions", "calls", "telemetry received", "No errors."] {
        assert!(ran.out.contains(part), "{part} in {}", ran.out);
    }
}

/// B20: a key that everybody knows is an alert while it is in use.
#[test]
fn weak_keys_are_alerts_and_still_work() {
    let site = Site::new();
    fs::write(site.path("central.key"), "00112233445566778899aabbccddeeff\n").unwrap();
    site.start();
    let names =
        |status: &Value| status["alerts"].as_array().unwrap().iter().map(|a| a["name"].clone()).collect();
    let alerts: Vec<Value> = names(&site.status());
    assert_eq!(alerts, ["weak_central_key"]);
    site.login(site.central()).is_alive();
}

#[test]
fn the_status_tells_how_long_calls_take_and_when_objects_were_seen() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.device("pump-2", "Devices");
    site.start();
    let (mut central, (mut object, token)) = (site.login(site.central()), site.login_with_token(pump));
    // One in each direction, and one that nobody answers.
    central.send(&request(Some(pump.uid), 1, b"?"));
    let number = object.request().0;
    object.send(&response(None, number, 0, b"!"));
    assert_eq!(central.response().1, 0);
    object.send(&request(None, 7, b"?"));
    let number = central.request().0;
    central.send(&response(Some(pump.uid), number, 0, b"!"));
    assert_eq!(object.response().1, 0);
    assert_eq!(central.ask(Some(iotsocketd::wire::Uid::parse("pump-2").unwrap()), 2, b"?").0, 0xA0);
    site.telemetry(token, iotsocketd::wire::Format::Utf8, b"21.5");
    central.telemetry();
    // Whoever reads on answers the ping behind it.
    central.is_alive();
    eventually("it is delivered", || site.number("/books/delivered") == 1);

    let status = site.status();
    assert_eq!(status["latency"]["calls"]["count"], 2);
    assert_eq!(status["latency"]["telemetry"]["count"], 1);
    assert!(status["latency"]["calls"]["p99_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(status["destinations"][0]["name"], "central");
    assert_eq!(
        (&status["destinations"][0]["via"], &status["destinations"][0]["delivered"]),
        (&json!("session"), &json!(1))
    );
    assert!(status["certificate"]["days_left"].as_i64().unwrap() > 3000);
    let metrics = site.http().get("/metrics").text();
    assert!(metrics.contains("iotsocketd_call_seconds_count 2\n"), "{metrics}");

    let seen = |uid: &str| site.http().get(&format!("/v1/objects/{uid}")).json();
    let live = seen("pump-1");
    assert!(live["last_seen"].as_str().unwrap() >= live["since"].as_str().unwrap(), "{live}");
    assert_eq!((&seen("pump-2")["since"], &seen("pump-2")["last_seen"]), (&Value::Null, &Value::Null));
    drop(object);
    eventually("its end is noted", || seen("pump-1")["state"] == "kept");
    assert!(seen("pump-1")["since"].is_string());
}

/// Keys are in its memory, and a panic aborts it.
#[test]
fn a_crash_leaves_no_image_of_its_memory() {
    let site = Site::started();
    let limits = fs::read_to_string(format!("/proc/{}/limits", site.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(line.split_whitespace().filter(|word| *word == "0").count(), 2, "{line}");
}

/// What is wrong in the file since the start is refused; commands find the running one all the same.
#[test]
fn commands_find_a_concentrator_whose_configuration_was_broken_meanwhile() {
    let site = Site::started();
    for wrong in ["nonsense = 1\n", "no toml [\n"] {
        let before = refused_reloads(&site);
        site.append(wrong);
        eventually("it is refused", || refused_reloads(&site) > before);
        let ran = site.run(&["status"]);
        assert_eq!(ran.code, 0, "{wrong}: {}", ran.err);
    }
}
