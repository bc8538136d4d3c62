//! `backup`, `verify`, `restore`.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use iotsocketd::wire::Format;

use crate::support::{PROGRAM, Site, eventually, iotsocketd};
use crate::{files, messages, send, site_with, stored};

fn succeed(site: &Site, words: &[&str]) -> String {
    let ran = site.run(words);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words:?}");
    ran.out
}

fn fail(site: &Site, words: &[&str]) -> String {
    let ran = site.run(words);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.lines().count()), (1, "", 1), "{words:?}: {}", ran.err);
    ran.err
}

fn path(site: &Site, name: &str) -> String {
    site.path(name).to_str().unwrap().to_owned()
}

/// Takes the state away, as a broken medium would.
fn lose_state(site: &Site, to: &str) {
    fs::rename(site.path("state"), site.path(to)).unwrap();
}

#[test]
fn what_a_running_concentrator_kept_comes_back_and_numbers_jump() {
    let (site, pump) = site_with(40);
    let (object, token) = site.login_with_token(pump);
    let kept = messages(&site);
    let copy = path(&site, "copy");
    let said = succeed(&site, &["backup", &copy]);
    assert!(said.starts_with(&format!("{copy}: ")) && said.contains("1 objects"), "{said}");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    // What comes later is not in it.
    send(&site, pump, 10);
    assert_eq!(succeed(&site, &["verify", &copy]), said);
    assert!(fail(&site, &["restore", &copy]).contains("is not empty"), "it runs");
    drop(object);
    site.kill();
    assert!(fail(&site, &["restore", &copy]).contains("is not empty"));
    let list = site.read("state/acl.json");
    lose_state(&site, "lost");
    fs::create_dir(site.path("state")).unwrap();
    let restored = succeed(&site, &["restore", &copy]);
    assert!(restored.contains("40 messages") || restored.contains("objects"), "{restored}");
    assert_eq!(site.read("state/acl.json"), list);
    assert_eq!(fs::metadata(site.path("state")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(messages(&site), kept);
    site.start();
    assert_eq!(messages(&site), kept);
    assert!(!site.log().contains("damage"), "{}", site.log());
    send(&site, pump, 1);
    let next = messages(&site).last().unwrap().0;
    assert!(next > kept.last().unwrap().0 + 100_000, "{next}");
    // Once.
    site.stop();
    site.start();
    send(&site, pump, 1);
    assert!(messages(&site).last().unwrap().0 < next + 100);
    let _unused = token;
}

#[test]
fn a_stopped_concentrator_is_copied_and_left_as_it_is() {
    let (site, _) = site_with(25);
    let kept = messages(&site);
    for (kill, name) in [(true, "killed"), (false, "ended")] {
        if kill {
            site.kill();
        } else {
            site.start();
            site.stop();
        }
        let before = files(&site.path("state"));
        let copy = path(&site, name);
        succeed(&site, &["backup", &copy]);
        assert!(files(&site.path("state")) == before, "nothing is written by copying");
        succeed(&site, &["verify", &copy]);
    }
    lose_state(&site, "lost");
    succeed(&site, &["restore", &path(&site, "killed")]);
    assert_eq!(messages(&site), kept);
    let state = fs::read_dir(site.path("state")).unwrap();
    let mut names: Vec<_> = state.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["acl.json", "environment", "journal", "lock"]);
}

#[test]
fn nothing_is_written_over_and_what_is_no_good_copy_is_refused() {
    let (site, _) = site_with(5);
    let copy = path(&site, "copy");
    fs::write(&copy, "precious").unwrap();
    assert!(fail(&site, &["backup", &copy]).contains("exists already"));
    assert_eq!(fs::read_to_string(&copy).unwrap(), "precious");
    fs::remove_file(&copy).unwrap();
    assert!(fail(&site, &["backup", &path(&site, "no/such/folder")]).contains("cannot be written"));
    succeed(&site, &["backup", &copy]);
    site.stop();
    lose_state(&site, "lost");
    let good = fs::read(&copy).unwrap();
    for at in [0, 9, 40, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&copy, bad).unwrap();
        assert!(fail(&site, &["verify", &copy]).contains("copy"));
        fail(&site, &["restore", &copy]);
        assert!(!site.path("state").exists() && !site.path("state.restore").exists());
    }
    fs::write(&copy, &good[..good.len() - 3]).unwrap();
    fail(&site, &["verify", &copy]);
    fs::write(&copy, &good).unwrap();
    // A copy of another environment.
    let other = path(&site, "other");
    assert_eq!(iotsocketd(&["init", &other, "--environment", "staging"]).code, 0);
    let ran = iotsocketd(&["restore", &copy, "--config", &format!("{other}/iotsocketd.toml")]);
    assert!(ran.code == 1 && ran.err.contains("\"test\"") && ran.err.contains("\"staging\""), "{}", ran.err);
    assert!(!site.path("other/state/journal").exists());
    succeed(&site, &["restore", &copy]);
}

#[test]
fn without_a_file_the_newest_backup_is_verified() {
    let (site, _) = site_with(3);
    assert!(fail(&site, &["verify"]).contains("there is no backup in it"));
    fs::create_dir(site.path("state/backups")).unwrap();
    succeed(&site, &["backup", &path(&site, "state/backups/a")]);
    fs::write(site.path("state/backups/b"), "a note").unwrap();
    fs::write(site.path("state/backups/c.part"), fs::read(site.path("state/backups/a")).unwrap()).unwrap();
    let said = succeed(&site, &["verify"]);
    assert!(said.starts_with(&path(&site, "state/backups/a")), "{said}");
    assert!(!site.path("state/backups/a.verify").exists());
}

/// Each command is killed after ever more time, until one comes to its end.
#[test]
fn killed_at_any_moment_commands_harm_nothing() {
    let (site, pump) = site_with(200);
    let kept = messages(&site);
    let copy = path(&site, "copy");
    let config = site.config();
    let killed_after = |words: &[&str], time: Duration| {
        let mut command = Command::new(&*PROGRAM);
        command.args(words).arg("--config").arg(&config).env_remove("RUNTIME_DIRECTORY");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert_eq!(status.code(), Some(0), "{words:?}");
                return true;
            }
            if start.elapsed() >= time {
                child.kill().unwrap();
                child.wait().unwrap();
                return false;
            }
        }
    };
    let mut time = Duration::ZERO;
    while !killed_after(&["backup", &copy], time) {
        assert!(!Path::new(&copy).exists() || site.run(&["verify", &copy]).code == 0);
        let _whole = fs::remove_file(&copy);
        time += Duration::from_micros(700);
    }
    assert_eq!(stored(&site), 200, "it goes on");
    let mut time = Duration::ZERO;
    while !killed_after(&["verify", &copy], time) {
        time += Duration::from_millis(2);
    }
    succeed(&site, &["verify", &copy]);
    site.stop();
    lose_state(&site, "lost");
    let mut time = Duration::ZERO;
    while !killed_after(&["restore", &copy], time) {
        // There is all of it or nothing.
        if site.path("state").exists() {
            break;
        }
        time += Duration::from_millis(1);
    }
    assert_eq!(messages(&site), kept);
    site.start();
    send(&site, pump, 1);
    // While a copy is taken the concentrator is killed: there is none.
    let second = path(&site, "second");
    let mut taking = Command::new(&*PROGRAM);
    taking
        .args(["backup", &second, "--config"])
        .arg(site.config())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut taking = taking.spawn().unwrap();
    site.kill();
    let mut said = String::new();
    taking.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let ended = taking.wait().unwrap();
    if ended.success() {
        succeed(&site, &["verify", &second]);
    } else {
        assert!(!Path::new(&second).exists() && said.lines().count() == 1, "{said}");
    }
    let _leftover = fs::remove_file(&second);
    succeed(&site, &["backup", &second]);
}

/// Copies are taken under load, and each is a whole one.
#[test]
fn copies_under_load_are_whole() {
    let (site, pump) = site_with(10);
    let (_object, token) = site.login_with_token(pump);
    let load = Load::start(&site, token);
    for round in 0..5 {
        let copy = path(&site, &format!("copy-{round}"));
        succeed(&site, &["backup", &copy]);
        succeed(&site, &["verify", &copy]);
    }
    load.stop();
    eventually("what was sent is looked at", || stored(&site) > 10);
}

/// Datagrams without end, from a thread.
struct Load {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Load {
    fn start(site: &Site, token: iotsocketd::wire::Token) -> Self {
        let stop = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(site.sessions()).unwrap();
        let payload = iotsocketd::wire::Payload::new(Format::Binary, &[7; 500]).unwrap();
        let bytes = [&token.0, payload.encode_head().as_slice(), &[7; 500]].concat();
        let ended = std::sync::Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                for _ in 0..20 {
                    let _full = socket.send(&bytes);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// What belongs to one environment is refused by the others, and the sentence says whose it is.
#[test]
fn environments_keep_apart() {
    let (site, _) = site_with(3);
    let id = messages(&site).pop().unwrap().1.split('"').nth(1).unwrap().to_owned();
    site.stop();
    let other = Site::new();
    let to_staging = |site: &Site| {
        let text = site.read("iotsocketd.toml");
        fs::write(site.config(), text.replace("environment = \"test\"", "environment = \"staging\""))
            .unwrap();
    };
    to_staging(&other);
    let refused = |words: [&str; 3]| {
        other.launch(&[]);
        assert_eq!(other.wait_exit(Duration::from_secs(20)).code(), Some(1));
        let log = other.log();
        let last = log.lines().rfind(|line| line.contains("environment")).unwrap();
        assert!(words.iter().all(|word| last.contains(word)), "{last}");
    };
    // Keys that `init` made for the other one; with fresh ones it is the state.
    refused(["central.key", "marked for environment `test`", "a secret of its own"]);
    for file in ["central.key", "tls/server.key"] {
        let text = other.read(file).replace("# environment: test", "# environment: staging");
        fs::write(other.path(file), text).unwrap();
    }
    fs::rename(site.path("state"), other.path("state")).unwrap();
    refused(["state_dir", "belongs to environment \"test\"", "a state folder of its own"]);
    // Somebody who takes the mark away, or moves the journal alone, does not get it mixed.
    fs::remove_file(other.path("state/environment")).unwrap();
    refused(["journal", "is of environment \"test\"", "move it back to where it was made"]);
    // Ids of one are unknown to the other.
    fs::remove_dir_all(other.path("state")).unwrap();
    other.device("pump-1", "Devices");
    other.start();
    let reply = other.http().get(&format!("/v1/messages/{id}"));
    assert_eq!(reply.status, 404);
    assert!(
        reply.text().contains("given by another concentrator, or in another environment"),
        "{}",
        reply.text()
    );
}

/// The weekly trial restore is handed no secrets, and wants none.
#[test]
fn the_trial_restore_needs_none_of_the_secrets() {
    let site = Site::new();
    site.start();
    succeed(&site, &["backup"]);
    site.stop();
    fs::remove_file(site.path("central.key")).unwrap();
    site.append("[subscribers.away]\nurl = \"https://host.example/\"\nsecret_file = \"not-here\"\n");
    assert!(succeed(&site, &["verify"]).contains("messages up to number"));
}
