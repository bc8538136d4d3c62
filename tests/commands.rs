//! The commands as users type them: the real program, its output and its exit codes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// What a command did.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn iotsocketd(words: &[&str]) -> Ran {
    iotsocketd_in(Path::new("."), words)
}

fn iotsocketd_in(folder: &Path, words: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iotsocketd"));
    command.args(words).current_dir(folder).env_remove("RUNTIME_DIRECTORY");
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

/// A folder that `init` made.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        let ran = iotsocketd(&["init", site.path("").to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Changes one text of the configuration for another.
    fn change(&self, from: &str, to: &str) {
        let text = self.read("iotsocketd.toml");
        assert!(text.contains(from), "{from}");
        fs::write(self.path("iotsocketd.toml"), text.replace(from, to)).unwrap();
    }

    fn run(&self, words: &[&str]) -> Ran {
        let config = self.path("iotsocketd.toml");
        iotsocketd(&[words, &["--config", config.to_str().unwrap()]].concat())
    }

    fn succeed(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words:?}");
        ran.out
    }

    fn fail(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{words:?}: {}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        ran.err
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn is_key(line: &str) -> bool {
    line.len() == 32 && line.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[test]
fn version_and_help() {
    let version = iotsocketd(&["--version"]);
    assert_eq!((version.code, version.out.trim()), (0, concat!("iotsocketd ", env!("CARGO_PKG_VERSION"))));
    let help = iotsocketd(&["--help"]);
    assert_eq!(help.code, 0);
    for command in ["init", "check", "device", "import"] {
        assert!(help.out.contains(command));
        let help = iotsocketd(&[command, "--help"]);
        assert_eq!(help.code, 0);
        assert!(help.out.contains("Example:"), "{}", help.out);
    }
}

#[test]
fn wrong_usage_is_exit_2_and_says_where_help_is() {
    for words in [
        &[][..],
        &["chekc"],
        &["--config"],
        &["check", "extra"],
        &["check", "--config"],
        &["check", "--frob"],
        &["init", "a", "b"],
        &["init", "--environment", "prod"],
        &["init", "--environment", "test", "--missing"],
        &["device"],
        &["device", "frob"],
        &["device", "add"],
        &["device", "add", "x"],
        &["apikey", "frob", "x", "--rights", "read"],
        &["apikey", "add", "x"],
        &["device", "list", "x"],
        &["device", "remove", "x", "--group", "g"],
        &["import", "a"],
    ] {
        let ran = iotsocketd(words);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{words:?}");
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    }
    assert!(iotsocketd(&["chekc"]).err.contains("did you mean `check`?"));
}

#[test]
fn init_makes_what_check_finds_right() {
    let site = Site::new();
    assert_eq!(mode(&site.path("central.key")), 0o600);
    assert_eq!(mode(&site.path("tls/server.key")), 0o600);
    let key = site.read("central.key");
    assert!(is_key(key.lines().last().unwrap()));
    assert!(key.starts_with("# environment: production\n"));
    let other = Site::new();
    assert_ne!(other.read("central.key"), key);
    assert_ne!(other.read("tls/server.key"), site.read("tls/server.key"));
    assert!(site.succeed(&["check"]).ends_with("iotsocketd.toml: ok\n"));
}

#[test]
fn init_takes_the_current_folder_and_makes_a_missing_one() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(iotsocketd_in(folder.path(), &["init"]).code, 0);
    assert_eq!(iotsocketd_in(folder.path(), &["check", "--config", "iotsocketd.toml"]).code, 0);
    assert_eq!(iotsocketd_in(folder.path(), &["init", "a/b", "--environment", "staging"]).code, 0);
    let text = fs::read_to_string(folder.path().join("a/b/iotsocketd.toml")).unwrap();
    assert!(text.contains("\nenvironment = \"staging\""));
    assert_eq!(iotsocketd_in(folder.path(), &["check", "--config=a/b/iotsocketd.toml"]).code, 0);
}

#[test]
fn init_never_overwrites() {
    for existing in ["iotsocketd.toml", "central.key", "tls/server.crt", "tls/server.key"] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tls")).unwrap();
        fs::write(folder.path().join(existing), "mine").unwrap();
        let ran = iotsocketd_in(folder.path(), &["init"]);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains(&format!("{existing} exists already; nothing was written")), "{}", ran.err);
        assert_eq!(fs::read_to_string(folder.path().join(existing)).unwrap(), "mine");
        for other in ["iotsocketd.toml", "central.key", "tls/server.crt", "tls/server.key"] {
            assert!(other == existing || !folder.path().join(other).exists(), "{other}");
        }
    }
}

#[test]
fn init_missing_makes_only_the_keys_that_are_not_there_for_the_environment_of_the_file() {
    let site = Site::new();
    site.change("environment = \"production\"", "environment = \"staging\"");
    let text = site.read("iotsocketd.toml");
    let folder = site.path("");
    let missing = || iotsocketd(&["init", folder.to_str().unwrap(), "--missing"]);

    fs::remove_dir_all(site.path("tls")).unwrap();
    fs::write(site.path("central.key"), "mine").unwrap();
    let ran = missing();
    assert_eq!((ran.code, ran.out.lines().count()), (0, 2), "{}{}", ran.out, ran.err);
    assert_eq!(mode(&site.path("tls/server.key")), 0o600);
    assert_eq!(site.read("central.key"), "mine");

    fs::remove_file(site.path("central.key")).unwrap();
    let certificate = site.read("tls/server.crt");
    assert_eq!(missing().code, 0);
    assert_eq!(mode(&site.path("central.key")), 0o600);
    assert!(site.read("central.key").starts_with("# environment: staging\n"));
    assert_eq!((site.read("tls/server.crt"), site.read("iotsocketd.toml")), (certificate, text));
    assert!(site.succeed(&["check"]).ends_with("ok\n"));
    let ran = missing();
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
}

#[test]
fn init_missing_makes_nothing_if_it_cannot_know_what_for() {
    let site = Site::new();
    let folder = site.path("");
    let refused = |why: &str| {
        let ran = iotsocketd(&["init", folder.to_str().unwrap(), "--missing"]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{why}");
        assert!(ran.err.contains(why) && ran.err.contains("; no key was made"), "{}", ran.err);
    };
    fs::remove_file(site.path("central.key")).unwrap();
    for one in ["tls/server.crt", "tls/server.key"] {
        let other = site.path(if one.ends_with("crt") { "tls/server.key" } else { "tls/server.crt" });
        let kept = fs::read(&other).unwrap();
        fs::remove_file(&other).unwrap();
        refused("has only one of server.crt and server.key");
        fs::write(other, kept).unwrap();
    }
    site.change("environment = \"production\"", "environment = \"prod\"");
    refused("environment");
    fs::write(site.path("iotsocketd.toml"), "environment = ").unwrap();
    refused("is not TOML");
    fs::remove_file(site.path("iotsocketd.toml")).unwrap();
    refused("iotsocketd.toml");
    assert!(!site.path("central.key").exists());
}

#[test]
fn dev_toml_works_beside_what_init_makes_for_tests() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(iotsocketd_in(folder.path(), &["init", "--environment", "test"]).code, 0);
    let dev = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/dev.toml");
    fs::copy(dev, folder.path().join("dev.toml")).unwrap();
    let ran = iotsocketd_in(folder.path(), &["check", "--config", "dev.toml"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn check_tells_every_mistake_with_file_line_and_key() {
    let site = Site::new();
    site.change("handshake_timeout = \"10s\"", "handshake_timout = \"10s\"");
    site.change("max_datagram = \"4KiB\"", "max_datagram = \"64KiB\"");
    site.change("keep = 7", "keep = \"7\"");
    fs::remove_file(site.path("tls/server.crt")).unwrap();
    let ran = site.run(&["check"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    let lines: Vec<_> = ran.err.lines().collect();
    assert_eq!(lines.len(), 5, "{lines:#?}");
    let file = site.path("iotsocketd.toml");
    let line_of =
        |key: &str| site.read("iotsocketd.toml").lines().position(|l| l.starts_with(key)).unwrap() + 1;
    let place = |key: &str, column: usize| format!("{}:{}:{column}: ", file.display(), line_of(key));
    assert!(lines[0].starts_with(&place("handshake_timout", 1)), "{lines:#?}");
    assert!(lines[0].ends_with("did you mean `handshake_timeout`?"));
    assert!(lines[1].starts_with(&(place("max_datagram", 16) + "telemetry.max_datagram: ")), "{lines:#?}");
    assert!(lines[2].starts_with(&(place("keep = ", 8) + "backup.keep: ")), "{lines:#?}");
    assert!(lines[3].contains("server.crt: cannot be read"), "{lines:#?}");
    assert!(lines[4].ends_with("has 4 mistakes"));
}

#[test]
fn check_writes_what_the_start_of_an_image_needs_and_nothing_from_a_file_with_mistakes() {
    let site = Site::new();
    let machine = site.path("machine");
    let check = || site.run(&["check", "--machine", machine.to_str().unwrap()]);
    let written = |name: &str| fs::read_to_string(machine.join(name)).unwrap();
    assert_eq!(check().code, 0);
    assert_eq!(written("network"), "[Match]\nName=e*\n\n[Network]\nDHCP=yes\n");
    for nothing in ["timesyncd", "hostname", "authorized_keys"] {
        assert_eq!(written(nothing), "", "{nothing}");
    }
    site.change("ntp = []", "ntp = [\"time.example\", \"192.0.2.1\"]");
    site.change("#hostname = \"gateway\"", "hostname = \"cupboard-7\"");
    site.change("address = \"dhcp\"", "address = \"192.168.1.10/24\"");
    site.change("#gateway = \"192.168.1.1\"", "gateway = \"192.168.1.1\"");
    site.change("dns = []", "dns = [\"192.168.1.1\"]");
    site.change("ssh_keys = []", "ssh_keys = [\"ssh-ed25519 AAAA me\"]");
    assert_eq!(check().code, 0);
    let network = "[Match]\nName=e*\n\n[Network]\nAddress=192.168.1.10/24\nGateway=192.168.1.1\nDNS=192.168.1.1\n\n[DHCPv4]\nUseNTP=no\n";
    let rest = ["[Time]\nNTP=time.example 192.0.2.1\n", "cupboard-7\n", "ssh-ed25519 AAAA me\n"];
    let all = || ["network", "timesyncd", "hostname", "authorized_keys"].map(written);
    assert_eq!(all(), [network, rest[0], rest[1], rest[2]]);
    site.change("hostname = \"cupboard-7\"", "hostname = \"cupboard 7\"");
    assert_eq!(check().code, 1);
    assert_eq!(all(), [network, rest[0], rest[1], rest[2]]);
}

#[test]
fn check_reads_what_run_would_read() {
    let site = Site::new();
    let other = Site::new();
    fs::copy(other.path("tls/server.key"), site.path("tls/server.key")).unwrap();
    fs::create_dir(site.path("state")).unwrap();
    fs::write(
        site.path("state/acl.json"),
        "{\"a\": {\"GroupName\": \"Nobody\", \"AuthKey\": \"8f3c1d5e7a9b0c2d4e6f8091a2b3c4d5\"}, \"b\": 1}",
    )
    .unwrap();
    fs::write(site.path("ca.pem"), "no certificate").unwrap();
    site.change("#[central.webhooks]", "[central.webhooks]");
    site.change("#ca_file = \"central-ca.pem\"", "ca_file = \"ca.pem\"");
    let ran = site.run(&["check"]);
    assert_eq!(ran.code, 1);
    for part in [
        "server.key: is not the key of",
        "ca.pem: holds no certificate",
        "acl.json: object \"a\": GroupName `Nobody` is not",
        "acl.json: object \"b\": must be an object",
        "has 4 mistakes",
    ] {
        assert!(ran.err.contains(part), "{part} in {}", ran.err);
    }
    fs::write(site.path("tls/server.key"), "no key").unwrap();
    fs::remove_file(site.path("tls/server.crt")).unwrap();
    assert!(site.run(&["check"]).err.contains("server.crt: cannot be read"));
}

#[test]
fn warnings_leave_exit_0() {
    let site = Site::new();
    let weak = "00112233445566778899AABBCCDDEEFF";
    fs::write(site.path("central.key"), weak).unwrap();
    fs::create_dir(site.path("state")).unwrap();
    let list = format!("{{\"pump\": {{\"GroupName\": \"Devices\", \"AuthKey\": \"{weak}\"}}}}");
    fs::write(site.path("state/acl.json"), list).unwrap();
    fs::set_permissions(site.path("tls/server.key"), Permissions::from_mode(0o644)).unwrap();
    let ran = site.run(&["check"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.ends_with(": ok\n"));
    assert_eq!(ran.err.lines().filter(|line| line.starts_with("warning: ")).count(), 3, "{}", ran.err);
    assert!(!ran.err.to_lowercase().contains(&weak.to_lowercase()));
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    let site = Site::new();
    fs::set_permissions(site.path("central.key"), Permissions::from_mode(0o644)).unwrap();
    let ran = site.run(&["check"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains(&format!("run `chmod 600 {}`", site.path("central.key").display())),
        "{}",
        ran.err
    );
}

#[test]
fn devices_come_and_go() {
    let site = Site::new();
    assert_eq!(site.succeed(&["device", "list"]), "");
    let key = site.succeed(&["device", "add", "pump-7", "--group", "Devices"]);
    assert!(is_key(key.trim_end()) && key.ends_with('\n'), "{key:?}");
    site.succeed(&["device", "add", "gate", "--group", "Stations"]);
    assert_eq!(site.succeed(&["device", "list"]), "gate\tStations\npump-7\tDevices\n");
    assert_eq!(mode(&site.path("state/acl.json")), 0o600);
    assert!(site.read("state/acl.json").contains(key.trim_end()));

    let fresh = site.succeed(&["device", "rotate", "pump-7"]);
    assert!(is_key(fresh.trim_end()) && fresh != key);
    assert!(!site.read("state/acl.json").contains(key.trim_end()));
    assert_eq!(site.succeed(&["device", "remove", "pump-7"]), "");
    assert_eq!(site.succeed(&["device", "list"]), "gate\tStations\n");
    site.succeed(&["check"]);
}

#[test]
fn device_refuses_what_makes_no_sense_and_changes_nothing() {
    let site = Site::new();
    site.succeed(&["device", "add", "pump", "--group", "Devices"]);
    let before = site.read("state/acl.json");
    let known = site.fail(&["device", "add", "pump", "--group", "Devices"]);
    assert!(known.contains("`pump` is in the access list already"), "{known}");
    let group = site.fail(&["device", "add", "gate", "--group", "Devics"]);
    assert!(group.contains("did you mean `Devices`?"), "{group}");
    assert!(site.fail(&["device", "remove", "gate"]).contains("`gate` is not in the access list"));
    assert!(site.fail(&["device", "rotate", "gate"]).contains("`gate` is not in the access list"));
    assert!(site.fail(&["device", "add", "seventeen-letters", "--group", "Devices"]).contains("16 bytes"));
    assert!(site.fail(&["device", "add", "", "--group", "Devices"]).contains("central's"));
    assert_eq!(site.read("state/acl.json"), before);

    fs::write(site.path("state/acl.json"), "{broken").unwrap();
    assert!(site.fail(&["device", "add", "gate", "--group", "Devices"]).contains("is not JSON"));
    assert_eq!(site.read("state/acl.json"), "{broken");
    site.change("keep = 7", "keep = 0");
    assert!(site.fail(&["device", "list"]).contains("backup.keep"));
}

/// The two files of the other program, with values unlike the defaults.
fn python_site() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(iotsocketd_in(folder.path(), &["init", "pki"]).code, 0);
    let config = r#"{
        "PoolThreadsCount": 5, "KeepSessionSec": 61,
        "TCPServer": {"Addr": "127.0.0.1", "Port": 5501, "SlotsCount": 77, "SlotsSize": 4096, "Backlog": 9,
            "SSLKeyFilename": "pki/tls/server.key", "SSLCrtFilename": "pki/tls/server.crt", "ReqTimeoutSec": 11},
        "HTTPServer": {"Addr": "127.0.0.1", "Port": 5502, "SlotsCount": 33, "SlotsSize": 4096, "Backlog": 9,
            "SSLKeyFilename": "pki/tls/server.key", "SSLCrtFilename": "web.crt",
            "MaxContentLength": 1000, "MaxSecWaitResponse": 31},
        "UDPServer": {"Addr": "127.0.0.1", "Port": 5503, "DatagramMaxSize": 2000},
        "Central": {"AuthKey": "00112233445566778899AABBCCDDEEFF", "WebHooks": {
            "Request": "http://127.0.0.1/request", "HTTPBufferSize": 4096, "MaxContentLength": 2000,
            "MaxSecWaitResponse": 6}},
        "Groups": {"Pumps": {"Telemetry": true, "TelemetryTokenExpMin": 30}, "Old ones": {"Telemetry": true}, "Gates": {}}
    }"#;
    let acl = r#"{"b": {"GroupName": "Gates", "AuthKey": "43434343434343434444444444444445"},
        "a": {"GroupName": "Pumps", "AuthKey": "8F3C1D5E7A9B0C2D4E6F8091A2B3C4D5"}}"#;
    fs::write(folder.path().join("config.json"), config).unwrap();
    fs::write(folder.path().join("acl.json"), acl).unwrap();
    folder
}

#[test]
fn import_takes_over_the_other_programs_files() {
    let folder = python_site();
    let ran = iotsocketd_in(folder.path(), &["import", "config.json", "acl.json", "new"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let new = folder.path().join("new");
    let text = fs::read_to_string(new.join("iotsocketd.toml")).unwrap();
    for line in [
        "state_dir = \"state\"",
        "listen = \"127.0.0.1:5501\"",
        "listen = \"127.0.0.1:5502\"",
        "listen = \"127.0.0.1:5503\"",
        "max_connections = 77",
        "max_connections = 33",
        "request_timeout = \"11s\"",
        "keep_session = \"61s\"",
        "max_datagram = \"2000B\"",
        "max_body = \"1000B\"",
        "max_wait = \"31s\"",
        "[central.webhooks]",
        "request = \"http://127.0.0.1/request\"",
        "#telemetry = \"https://central.example/telemetry\"",
        "timeout = \"6s\"",
        "max_body = \"2000B\"",
        "telemetry_token_ttl = \"30min\"",
        "[groups.\"Old ones\"]",
        "telemetry = false",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line} in {text}");
    }
    let copied = |name: &str| fs::read(new.join(name)).unwrap();
    let original = |name: &str| fs::read(folder.path().join("pki").join(name)).unwrap();
    assert_eq!(copied("tls/server.crt"), original("tls/server.crt"));
    assert_eq!(copied("tls/server.key"), original("tls/server.key"));
    for secret in ["central.key", "tls/server.key", "state/acl.json"] {
        assert_eq!(mode(&new.join(secret)), 0o600, "{secret}");
    }
    for part in [
        "note: group \"Old ones\" had telemetry tokens that never expire",
        "note: the HTTP server's own certificate was left out",
        "note: not needed here and left out: PoolThreadsCount",
        "warning: new/iotsocketd.toml",
    ] {
        assert!(ran.err.contains(part), "{part} in {}", ran.err);
    }
    assert!(!ran.err.contains("00112233"));
    let config = new.join("iotsocketd.toml");
    let list = iotsocketd(&["device", "list", "--config", config.to_str().unwrap()]);
    assert_eq!(list.out, "a\tPumps\nb\tGates\n");
    assert_eq!(iotsocketd(&["check", "--config", config.to_str().unwrap()]).code, 0);
}

#[test]
fn import_overwrites_nothing_and_leaves_nothing_half_done() {
    let folder = python_site();
    let new = folder.path().join("new");
    fs::create_dir_all(new.join("state")).unwrap();
    fs::write(new.join("state/acl.json"), "mine").unwrap();
    let ran = iotsocketd_in(folder.path(), &["import", "config.json", "acl.json", "new"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("acl.json exists already"), "{}", ran.err);
    assert_eq!(fs::read_to_string(new.join("state/acl.json")).unwrap(), "mine");
    assert!(!new.join("iotsocketd.toml").exists());

    fs::remove_file(new.join("state/acl.json")).unwrap();
    fs::write(folder.path().join("acl.json"), "{\"a\": {\"GroupName\": \"None\", \"AuthKey\": \"12\"}}")
        .unwrap();
    let ran = iotsocketd_in(folder.path(), &["import", "config.json", "acl.json", "new"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("object \"a\": AuthKey must be 32 hex digits"), "{}", ran.err);
    for file in ["iotsocketd.toml", "central.key", "tls/server.crt", "tls/server.key", "state/acl.json"] {
        assert!(!new.join(file).exists(), "{file}");
    }
}

#[test]
fn import_says_what_it_cannot_take() {
    for (from, to, part) in [
        ("00112233445566778899AABBCCDDEEFF", "0011", "Central.AuthKey must be 32 hex digits"),
        ("\"KeepSessionSec\": 61", "\"KeepSessionSec\": -1", "KeepSessionSec must be a whole number"),
        ("\"Port\": 5503", "\"Port\": 70000", "UDPServer.Port must be a port"),
        ("\"DatagramMaxSize\": 2000", "\"DatagramMaxSize\": 99999", "telemetry.max_datagram"),
        ("\"Pumps\"", "\"a name of 17 byte\"", "no group can have this name"),
        ("pki/tls/server.crt", "none.crt", "none.crt cannot be read"),
        ("{", "[", "is not JSON"),
    ] {
        let folder = python_site();
        let text = fs::read_to_string(folder.path().join("config.json")).unwrap();
        assert!(text.contains(from));
        fs::write(folder.path().join("config.json"), text.replacen(from, to, 1)).unwrap();
        let ran = iotsocketd_in(folder.path(), &["import", "config.json", "acl.json", "new"]);
        assert_eq!((ran.code, ran.err.lines().count()), (1, 1), "{}", ran.err);
        assert!(ran.err.contains(part), "{part} in {}", ran.err);
        assert!(!folder.path().join("new/iotsocketd.toml").exists());
    }
}
