//! What systemd's own tools say of the units.

use std::fs;
use std::path::Path;
use std::process::Command;

use iotsocketd::limits::SUBSCRIBERS_MAX;

use crate::support::{PROGRAM, Site};

/// The most that any of our services may be exposed.
const EXPOSURE_MAX: f64 = 1.2;

/// The units of this kind.
fn units(kind: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().display().to_string());
    let units: Vec<_> = names.filter(|name| name.ends_with(kind)).collect();
    assert!(!units.is_empty());
    units
}

/// What a tool of systemd says; it must be there (Debian: systemd).
fn said(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C").env("SYSTEMD_COLORS", "0").output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}: install systemd"));
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success(), "{command:?}:\n{text}");
    text
}

#[test]
fn no_service_is_exposed_more_than_it_must_be() {
    for unit in units(".service") {
        let text =
            said(Command::new("systemd-analyze").args(["security", "--offline=yes", "--no-pager", &unit]));
        let (_, overall) = text.rsplit_once("Overall exposure level for").unwrap();
        let exposure = overall.split(": ").nth(1).and_then(|rest| rest.split(' ').next());
        let exposure: f64 = exposure.unwrap().parse().unwrap();
        assert!(exposure <= EXPOSURE_MAX, "{unit} has {exposure}:\n{text}");
    }
}

/// Threads that may come and go beside those of the start: uploads, jobs of the journal, webhooks.
const PASSING_THREADS: usize = 16;

#[test]
fn the_service_may_have_the_threads_of_an_update_with_all_subscribers() {
    let unit =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/iotsocketd.service")).unwrap();
    let allowed = unit.lines().find_map(|line| line.strip_prefix("TasksMax=")).unwrap();
    let allowed: usize = allowed.parse().unwrap();
    let site = Site::started();
    let threads = fs::read_dir(format!("/proc/{}/task", site.pid())).unwrap().count();
    let needed = 2 * (threads + PASSING_THREADS + SUBSCRIBERS_MAX);
    println!("{threads} threads without subscribers, {needed} at most during an update");
    assert!(needed <= allowed, "{needed} of {allowed}");
}

#[test]
fn systemd_finds_nothing_wrong_in_the_units() {
    // Where the program is installed elsewhere than it is here.
    let folder = tempfile::tempdir().unwrap();
    let mut copies = Vec::new();
    for unit in [units(".service"), units(".socket"), units(".timer")].concat() {
        let text = fs::read_to_string(&unit).unwrap();
        let copy = folder.path().join(Path::new(&unit).file_name().unwrap());
        fs::write(&copy, text.replace("/usr/bin/iotsocketd", &PROGRAM)).unwrap();
        copies.push(copy);
    }
    let text = said(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&copies));
    assert_eq!(text, "", "systemd-analyze verify");
}

#[test]
fn the_user_and_the_folders_are_made_as_the_units_want_them() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let in_root = format!("--root={}", root.path().display());
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name);
    said(
        Command::new("systemd-sysusers")
            .args([&in_root, file("sysusers.d/iotsocketd.conf").to_str().unwrap()]),
    );
    for kind in ["passwd", "group"] {
        let text = fs::read_to_string(root.path().join("etc").join(kind)).unwrap();
        assert!(text.contains("iotsocketd:"), "{kind}:\n{text}");
    }
    let text = fs::read_to_string(file("tmpfiles.d/iotsocketd.conf")).unwrap();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, path, mode, user, group, _] = words[..] else { panic!("{line}") };
        assert!(path.starts_with("/etc/iotsocketd") || path == "/var/lib/iotsocketd", "{line}");
        assert!(mode.starts_with('0') && user == group, "{line}");
    }
}

#[test]
fn the_socket_unit_has_the_ports_of_the_shipped_configuration() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unit = fs::read_to_string(folder.join("systemd/iotsocketd.socket")).unwrap();
    let config = fs::read_to_string(folder.join("config/iotsocketd.toml")).unwrap();
    let mut listens: Vec<_> = config.lines().filter_map(|line| line.strip_prefix("listen = \"")).collect();
    listens.iter_mut().for_each(|line| *line = line.split('"').next().unwrap());
    let lines = unit.lines().filter(|line| line.starts_with("Listen"));
    let passed: Vec<_> = lines.filter_map(|line| line.split_once('=')).map(|(_, address)| address).collect();
    assert_eq!(passed, listens);
    // Sessions, telemetry, API.
    assert!(unit.contains(&format!("ListenDatagram={}", listens[1])));
}
