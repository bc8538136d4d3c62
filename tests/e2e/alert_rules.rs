//! Alerts of the real program by what causes them: each is raised, says what to do, and is cleared once.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use iotsocketd::journal::record::{Cause, Kind, Record};
use iotsocketd::wire::{Format, GroupName};
use serde_json::{Value, json};

use crate::alerts::{steps, up};

use crate::support::{Act, Hooks, Peer, Site, eventually, forged, request, response};

/// What comes and goes by its nature is over after a minute of quiet, and counters look a minute back.
const OVER: Duration = Duration::from_secs(170);

/// The alerts that are up, with their subjects, as `temperature` or `certificate 7 days`.
fn all_up(site: &Site) -> Vec<String> {
    let status = site.status();
    let alerts = status["alerts"].as_array().unwrap().iter();
    let name = |alert: &Value| {
        let [name, subject] = ["name", "subject"].map(|key| alert[key].as_str().unwrap_or_default());
        format!("{name} {subject}").trim().to_owned()
    };
    alerts.map(name).collect()
}

/// Waits, and does this again and again meanwhile.
fn wait_until(site: &Site, what: &str, mut meanwhile: impl FnMut(), is_so: impl Fn(&[String]) -> bool) {
    let begun = Instant::now();
    loop {
        let alerts = all_up(site);
        if is_so(&alerts) {
            return;
        }
        assert!(begun.elapsed() < OVER, "not within {OVER:?}: {what}: {alerts:?}");
        meanwhile();
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn all_raised(site: &Site, wanted: &[&str], meanwhile: impl FnMut()) {
    let is_up = |alerts: &[String]| wanted.iter().all(|name| alerts.iter().any(|alert| alert == name));
    wait_until(site, &format!("{wanted:?} are up"), meanwhile, is_up);
    for name in wanted {
        let alert = up(site, name.split(' ').next().unwrap()).unwrap();
        let sentence = alert["sentence"].as_str().unwrap();
        assert!(sentence.len() > 20, "{name}: {sentence}");
    }
}

fn all_cleared(site: &Site, wanted: &[&str], meanwhile: impl FnMut()) {
    let is_over = |alerts: &[String]| wanted.iter().all(|name| !alerts.iter().any(|alert| alert == name));
    wait_until(site, &format!("{wanted:?} are over"), meanwhile, is_over);
}

/// Each was told twice, not more.
fn told_once(site: &Site, names: &[&str]) {
    for name in names {
        eventually("the end is on flash", || steps(site, name).last().is_some_and(|last| last == "cleared"));
        assert_eq!(steps(site, name), ["raised", "cleared"], "{name}");
    }
}

/// A certificate for localhost that ends then.
fn certificate(site: &Site, left: Duration) {
    let end = (SystemTime::now() + left).duration_since(UNIX_EPOCH).unwrap().as_secs();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(end);
    let certificate = params.self_signed(&key).unwrap();
    fs::write(site.path("tls/server.key"), key.serialize_pem()).unwrap();
    fs::write(site.path("tls/server.crt"), certificate.pem()).unwrap();
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn webhooks_queue_archive_keys_and_certificate() {
    let is_well = Arc::new(AtomicBool::new(false));
    let hooks = Hooks::start({
        let is_well = Arc::clone(&is_well);
        move |_| match is_well.load(Ordering::Relaxed) {
            true => Act::respond(0, Value::Null, "JSON"),
            false => Act::Answer(500, String::new()),
        }
    });
    let site = Site::new();
    for name in ["request", "telemetry", "result"] {
        site.set("central.webhooks", name, &hooks.url(&format!("/{name}")));
    }
    site.set("sessions", "ping_interval", "\"1h\"");
    site.set("journal", "max_size", "\"4MiB\"");
    site.set("alerts", "queue_percent", "5");
    site.set("journal", "on_expiry", "\"archive\"");
    site.set("journal", "archive_dir", "\"/proc/archive\"");
    let [pump, asker, valve, weak] =
        ["pump", "asker", "valve", "weak"].map(|uid| site.device(uid, "Devices"));
    let list = site.read("state/acl.json");
    let well_known = |site: &Site, is_weak: bool| {
        let mut changed: Value = serde_json::from_str(&list).unwrap();
        if is_weak {
            changed[weak.uid.as_str()]["AuthKey"] = json!("00112233445566778899aabbccddeeff");
        }
        site.write_acl(&changed);
    };
    well_known(&site, true);
    site.start();
    let (_pump, token) = site.login_with_token(pump);
    let [mut asker, mut valve] = [asker, valve].map(|device| site.login_with_token(device).0);
    // What was recorded so far waits for nobody.
    eventually("its login is on flash", || site.number("/recorded/audit") >= 2);
    assert_eq!((site.number("/queue/messages"), site.number("/queue/bytes")), (0, 0));
    for number in 0..200 {
        site.telemetry(token, Format::Utf8, format!("{number:2000}").as_bytes());
    }
    let command = json!({"UID": "valve", "Payload": "open", "Format": "UTF8"});
    assert_eq!(site.post("/v1/commands", &command).status, 202);
    let (number, _) = valve.request();
    valve.send(&response(None, number, 0, b"is open"));
    let own = ["tls/server.crt", "tls/server.key"].map(|name| (name, site.read(name)));
    certificate(&site, 20 * DAY);
    let mut number = 0;
    let mut ask = |asker: &mut Peer| {
        number += 1;
        asker.send(&request(None, number, b"?"));
        asker.response().1
    };
    let names = [
        "queue",
        "archive",
        "request_webhook",
        "telemetry_webhook",
        "result_webhook",
        "weak_object_keys",
        "certificate 30 days",
    ];
    all_raised(&site, &names, || assert_eq!(ask(&mut asker), 1));
    for (left, name) in [(5 * DAY, "certificate 7 days"), (DAY / 2, "certificate 1 day")] {
        certificate(&site, left);
        all_raised(&site, &[name], || ());
    }
    // All is well again. What waited for longer than a second is an alert of its own, for a while.
    own.iter().for_each(|(name, text)| fs::write(site.path(name), text).unwrap());
    well_known(&site, false);
    site.set("journal", "archive_dir", "\"archive\"");
    is_well.store(true, Ordering::Relaxed);
    all_raised(&site, &["latency"], || ());
    let names = [&names[..], &["certificate 7 days", "certificate 1 day", "latency"]].concat();
    all_cleared(&site, &names, || _ = ask(&mut asker));
    assert_eq!(all_up(&site), Vec::<String>::new());
    let once: Vec<_> = names.iter().copied().filter(|name| !name.starts_with("certificate")).collect();
    told_once(&site, &once);
    let certificates = steps(&site, "certificate");
    assert_eq!(certificates.iter().filter(|state| *state == "raised").count(), 3, "{certificates:?}");
    assert_eq!(certificates.len(), 6, "{certificates:?}");
}

/// The kernel's files of a machine: sensors, a light, and an eMMC below the state folder.
struct Sys(PathBuf);

impl Sys {
    fn write(&self, file: impl AsRef<Path>, text: &str) {
        let file = self.0.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn light(&self) -> [String; 2] {
        ["delay_on", "delay_off"]
            .map(|file| fs::read_to_string(self.0.join("class/leds/alert").join(file)).unwrap_or_default())
    }
}

#[test]
fn heat_voltage_and_a_worn_medium_of_a_machine_that_shows_it_by_its_light() {
    let site = Site::new();
    site.set("alerts", "led", "\"alert\"");
    fs::create_dir_all(site.path("state")).unwrap();
    let sys = Sys(site.path("sys"));
    let device = fs::metadata(site.path("state")).unwrap().dev();
    let medium = format!("dev/block/{}:{}", libc_major(device), libc_minor(device));
    let files = [
        ("class/thermal/thermal_zone0/temp".to_owned(), "45000\n", "81000\n"),
        ("class/hwmon/hwmon1/in0_lcrit_alarm".to_owned(), "0\n", "1\n"),
        (format!("{medium}/device/life_time"), "0x02 0x07\n", "0x02 0x09\n"),
    ];
    files.iter().for_each(|(file, well, _)| sys.write(file, well));
    sys.write("class/leds/alert/trigger", "none");
    for file in ["delay_on", "delay_off"] {
        sys.write(format!("class/leds/alert/{file}"), "");
    }
    // In a mount namespace of its own the program finds these files in the kernel's place.
    let mount = format!("mount --bind {} /sys && exec \"$@\"", sys.0.display());
    site.start_under(&["unshare", "--mount", "sh", "-c", &mount, "sh"]);
    eventually("the light is well", || sys.light() == ["50", "2950"]);
    assert_eq!(all_up(&site), Vec::<String>::new());
    sys.write(&files[2].0, files[2].2);
    all_raised(&site, &["medium_worn"], || ());
    eventually("the light shows an alert", || sys.light() == ["1000", "1000"]);
    files.iter().for_each(|(file, _, wrong)| sys.write(file, wrong));
    let names = ["temperature", "under_voltage", "medium_worn"];
    all_raised(&site, &names, || ());
    eventually("the light presses", || sys.light() == ["100", "100"]);
    files.iter().for_each(|(file, well, _)| sys.write(file, well));
    all_cleared(&site, &names, || ());
    eventually("the light is well again", || sys.light() == ["50", "2950"]);
    told_once(&site, &names);
    site.stop();
    assert_eq!(fs::read_to_string(sys.0.join("class/leds/alert/trigger")).unwrap(), "none", "it is put out");
}

fn libc_major(device: u64) -> u64 {
    (device >> 32 & 0xffff_f000) | (device >> 8 & 0xfff)
}

fn libc_minor(device: u64) -> u64 {
    (device >> 12 & 0xffff_ff00) | (device & 0xff)
}

/// The journal says what is not true: five messages that came in and were never there. Nothing that the program does, and
/// no damage that it finds, leads there, so somebody has to write it.
#[test]
fn books_that_are_not_what_lies_in_the_journal() {
    let site = Site::new();
    let pump = site.device("pump", "Devices");
    site.start();
    let (device, token) = site.login_with_token(pump);
    site.telemetry(token, Format::Utf8, b"true");
    eventually("it is taken", || site.number("/books/received") == 1);
    drop(device);
    site.stop();
    let group = GroupName::parse("Devices").unwrap();
    forged::record(&site, &Record::Received { group, kind: Kind::Telemetry, add: 5 });
    site.start();
    all_raised(&site, &["books"], || ());
    assert_eq!(up(&site, "books").unwrap()["urgent"], true);
    assert!(site.log().contains("event=books_differ group=\"Devices\" waiting_by_books=6 found=1"));
    eventually("it is on flash", || steps(&site, "books") == ["raised"]);
    // They are looked through at each start, and every ten minutes.
    site.stop();
    forged::record(
        &site,
        &Record::Tally { group, destination: "central".to_owned(), cause: Cause::Damaged, add: 5 },
    );
    site.start();
    all_cleared(&site, &["books"], || ());
    told_once(&site, &["books"]);
}

#[test]
fn a_changed_configuration_that_cannot_be_taken_up() {
    let site = Site::new();
    site.start();
    let sentence = || up(&site, "configuration").unwrap()["sentence"].as_str().unwrap().to_owned();
    // The file itself.
    let good = site.read("iotsocketd.toml");
    site.append("[sesions]");
    all_raised(&site, &["configuration"], || ());
    assert!(sentence().contains("a restart would fail") && sentence().contains("sesions"), "{}", sentence());
    fs::write(site.config(), &good).unwrap();
    all_cleared(&site, &["configuration"], || ());
    told_once(&site, &["configuration"]);
    // A file that it names: first the one that is watched by itself, then with the whole configuration.
    let certificate = site.read("tls/server.crt");
    fs::write(site.path("tls/server.crt"), "no certificate").unwrap();
    all_raised(&site, &["configuration certificate"], || ());
    assert!(sentence().contains("tls/server.crt"), "{}", sentence());
    fs::write(site.config(), &good).unwrap();
    all_raised(&site, &["configuration", "configuration certificate"], || ());
    let refusals = || site.log().matches("event=configuration_refused").count();
    assert_eq!(refusals(), 2, "told once for each change");
    fs::write(site.path("tls/server.crt"), certificate).unwrap();
    all_cleared(&site, &["configuration", "configuration certificate"], || ());
    assert_eq!(refusals(), 2);
}

#[test]
fn fewer_descriptors_than_the_configured_connections_need() {
    let site = Site::new();
    site.start_under(&["prlimit", "--nofile=256:256"]);
    all_raised(&site, &["open_files"], || ());
    let sentence = up(&site, "open_files").unwrap()["sentence"].as_str().unwrap().to_owned();
    assert!(sentence.contains("48 sessions and 16 connections of the API"), "{sentence}");
    // What is configured is what there is.
    site.set("sessions", "max_connections", "48");
    site.set("api", "max_connections", "16");
    all_cleared(&site, &["open_files"], || ());
    told_once(&site, &["open_files"]);
}

#[test]
fn an_access_list_that_cannot_be_taken_up() {
    let site = Site::new();
    let [pump, valve] = ["pump", "valve"].map(|uid| site.device(uid, "Devices"));
    site.start();
    let whole = site.read("state/acl.json");
    let write = |text: &str| fs::write(site.path("state/acl.json"), text).unwrap();
    let is_in_force =
        || [pump, valve].into_iter().for_each(|device| site.login_with_token(device).0.is_alive());
    write(&whole[..whole.len() / 2]);
    all_raised(&site, &["access_list"], || ());
    let alert = up(&site, "access_list").unwrap();
    let sentence = alert["sentence"].as_str().unwrap();
    assert!(sentence.contains("state/acl.json: is not JSON"), "{sentence}");
    is_in_force();
    // The same list as before is a good one.
    write(&whole);
    all_cleared(&site, &["access_list"], || ());
    told_once(&site, &["access_list"]);
    // One that is uploaded takes the place of a file that is gone.
    fs::remove_file(site.path("state/acl.json")).unwrap();
    all_raised(&site, &["access_list"], || ());
    is_in_force();
    let list: Value = serde_json::from_str(&whole).unwrap();
    let item = |(uid, entry): (&String, &Value)| json!({"UID": uid, "GroupName": entry["GroupName"], "AuthKey": entry["AuthKey"]});
    let list: Vec<_> = list.as_object().unwrap().iter().map(item).collect();
    assert_eq!(site.post("/acl", &Value::from(list)).status, 200);
    all_cleared(&site, &["access_list"], || ());
    is_in_force();
}
