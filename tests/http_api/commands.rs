//! `messages`, `trace` and `export` as users type them, answered over the maintenance socket.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use iotsocketd::endpoint::maintenance::Maintenance;
use iotsocketd::hub::history::HistoryError;
use iotsocketd::wire::Format;
use serde_json::Value;
use tempfile::TempDir;

use super::fake_history::{id, message};
use super::world::*;

/// A folder with a configuration, and what answers on its socket.
struct Site {
    folder: TempDir,
    world: World,
    maintenance: Option<Maintenance>,
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(iotsocketd(folder.path(), &["init", "."]).code, 0);
        let state = folder.path().join("state");
        fs::create_dir_all(&state).unwrap();
        let world = world();
        let socket = state.join("maintenance.sock");
        let maintenance = Maintenance::start(&socket, Arc::clone(&world.api), None, None).unwrap();
        Self { folder, world, maintenance: Some(maintenance) }
    }

    fn run(&self, words: &[&str]) -> Ran {
        iotsocketd(self.folder.path(), &[words, &["--config", "iotsocketd.toml"]].concat())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iotsocketd"));
        command.args(words).args(["--config", "iotsocketd.toml"]).current_dir(self.folder.path());
        command
    }

    /// What is told when the output has no room.
    fn fail_on_a_full_disk(&self, words: &[&str]) -> String {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let ran = self.command(words).stdout(full).output().unwrap();
        assert_eq!(ran.status.code(), Some(1), "{words:?}");
        String::from_utf8(ran.stderr).unwrap()
    }

    fn succeed(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words:?}");
        ran.out
    }

    fn fail(&self, words: &[&str], code: i32) -> String {
        let ran = self.run(words);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{words:?}: {}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        ran.err
    }
}

fn iotsocketd(folder: &Path, words: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iotsocketd"));
    command.args(words).current_dir(folder).env_remove("RUNTIME_DIRECTORY");
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

/// The numbers of NDJSON.
fn seqs(text: &str) -> Vec<u64> {
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect()
}

#[test]
fn messages_shows_the_newest_or_those_behind_a_number() {
    let site = Site::new();
    assert_eq!(site.succeed(&["messages"]), "");
    site.world.history.grow(30);
    let text = site.succeed(&["messages"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 20);
    assert_eq!(
        lines[18],
        "      29  2026-11-21T18:53:10.000000Z  telemetry  waiting    Stations/o2  {\"n\":29}"
    );
    assert_eq!(seqs(&site.succeed(&["messages", "--json", "--limit", "2", "--uid", "o0"])), [27, 30]);
    assert_eq!(seqs(&site.succeed(&["messages", "--json", "--after", "3", "--limit", "2"])), [4, 5]);
    assert_eq!(seqs(&site.succeed(&["messages", "--json", "--from", "2026-11-21T19:53:10+01:00"])), [29, 30]);
    let mut long = message(31);
    (long.format, long.payload) = (Format::Utf8, "\u{1b}[2Jé\u{9b}".repeat(100).into());
    site.world.history.append([long]);
    let text = site.succeed(&["messages", "--limit", "1"]);
    assert!(text.trim_end().ends_with('…') && !text.contains(['\u{1b}', '\u{9b}']), "{text}");
}

#[test]
fn trace_tells_what_became_of_a_message() {
    let site = Site::new();
    site.world.history.grow(9);
    let by_id = site.succeed(&["trace", &id(7).to_string()]);
    assert_eq!(site.succeed(&["trace", "7"]), by_id);
    assert!(by_id.contains("object   Devices/o1\n"), "{by_id}");
    assert!(by_id.contains("2026-11-21T18:52:48.000000Z  sent       to central  attempt 2"), "{by_id}");
    let json: Value = serde_json::from_str(&site.succeed(&["trace", "7", "--json"])).unwrap();
    assert_eq!((&json["seq"], json["events"].as_array().unwrap().len()), (&Value::from(7), 2));
    for missing in ["0", "10", &id(10).to_string()] {
        assert!(site.fail(&["trace", missing], 1).contains("no message"), "{missing}");
    }
    for wrong in [&["trace"][..], &["trace", "x"], &["trace", "abc"], &["trace", "1", "2"]] {
        site.fail(wrong, 2);
    }
}

#[test]
fn export_gives_every_message_of_several_pages() {
    let site = Site::new();
    assert_eq!(site.succeed(&["export"]), "");
    site.world.history.grow(2500);
    assert_eq!(seqs(&site.succeed(&["export"])), (1..=2500).collect::<Vec<_>>());
    // 100 of these make a page by their size.
    site.world.history.append((2501..=2800).map(|seq| {
        let mut large = message(seq);
        (large.format, large.payload) = (Format::Utf8, vec![b'x'; 20_000]);
        large
    }));
    assert_eq!(seqs(&site.succeed(&["export"])), (1..=2800).collect::<Vec<_>>());
    let filtered = seqs(&site.succeed(&["export", "--group", "Stations", "--kind", "telemetry"]));
    assert_eq!(filtered, (1..=2800).filter(|seq| seq % 3 == 2 && seq % 5 != 0).collect::<Vec<u64>>());
}

#[test]
fn export_makes_a_new_file_of_csv() {
    let site = Site::new();
    let mut quoted = message(1);
    quoted.payload = b"{\"a\": \"x,\\\"y\"}".to_vec();
    site.world.history.append([quoted, message(2)]);
    // What an export before left behind gives its mode to nobody.
    fs::write(site.folder.path().join("all.csv.part"), "open to all").unwrap();
    let quiet = site.succeed(&["export", "--format", "csv", "--output", "all.csv"]);
    assert_eq!(quiet, "");
    let path = site.folder.path().join("all.csv");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.split("\r\n").collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("seq,id,time,") && lines[3].is_empty());
    assert!(lines[1].contains(r#",JSON,"{""a"": ""x,\""y""}","#), "{}", lines[1]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(site.fail(&["export", "--output", "all.csv"], 1).contains("exists already"));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    site.world.history.fail(HistoryError::Storage("input/output error".to_owned()));
    assert!(site.fail(&["export", "--output", "more.csv"], 1).contains("input/output error"));
    assert!(!site.folder.path().join("more.csv").exists());
    assert!(!site.folder.path().join("more.csv.part").exists());
}

#[test]
fn what_cannot_be_done_is_said_and_exits_accordingly() {
    let mut site = Site::new();
    for wrong in [
        &["messages", "x"][..],
        &["messages", "--limit", "0"],
        &["messages", "--limit", "1001"],
        &["messages", "--after", "-1"],
        &["messages", "--kind", "x"],
        &["messages", "--format", "csv"],
        &["export", "--format", "xml"],
        &["export", "--from", "yesterday"],
        &["export", "--json"],
    ] {
        site.fail(wrong, 2);
    }
    site.maintenance = None;
    for words in [&["messages"][..], &["trace", "1"], &["export"]] {
        assert!(site.fail(words, 1).contains("nothing ever ran on it"), "{words:?}");
    }
}

/// A full disk behind `>` is no success; a reader that has enough is no failure.
#[test]
fn what_was_asked_for_and_did_not_get_out_is_a_failure() {
    let site = Site::new();
    site.world.history.grow(3);
    for words in [&["messages"][..], &["trace", "1"], &["export"]] {
        let told = site.fail_on_a_full_disk(words);
        assert!(told.contains("the output cannot be written"), "{words:?}: {told}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ran = site.command(words).stdout(writer).output().unwrap();
        assert_eq!(ran.status.code(), Some(0), "{words:?}");
    }
}

#[test]
fn a_key_that_did_not_get_out_is_told() {
    let site = Site::new();
    for words in [&["device", "add", "pump-7", "--group", "Devices"][..], &["device", "rotate", "pump-7"]] {
        let told = site.fail_on_a_full_disk(words);
        assert!(told.contains("`iotsocketd device rotate pump-7` gives it another"), "{words:?}: {told}");
    }
}

/// The journal may hang with its medium: the status is told all the same, and the end is not held up.
#[test]
fn a_journal_that_hangs_holds_up_nothing_else() {
    let mut site = Site::new();
    site.world.history.hang();
    let folder = site.folder.path().to_owned();
    let stuck = std::thread::spawn(move || iotsocketd(&folder, &["messages", "--config", "iotsocketd.toml"]));
    site.world.history.await_asked(0, PATIENCE);
    assert!(site.succeed(&["status"]).contains("iotsocketd 9.9"));
    site.maintenance = None;
    let ran = stuck.join().unwrap();
    assert!(ran.code == 1 && ran.err.contains("stopping"), "{}", ran.err);
}
