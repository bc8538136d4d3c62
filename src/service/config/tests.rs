//! The configuration as a whole: the shipped files, every default, every mistake at once.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::wire::AuthKey;

const SHIPPED: &str = include_str!("../../../config/iotsocketd.toml");
const KEY: &str = "8f3c1d5e7a9b0c2d4e6f8091a2b3c4d5";
const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A folder with every file that the shipped configurations name.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        site.secret("central.key", KEY);
        site.secret("partner.password", "sesame");
        site.file("partner-aliases.json", r#"{"8988280666000000042": "tracker-7"}"#, 0o644);
        site.secret("erp.secret", SIGNING);
        site.secret("alerts.secret", SIGNING);
        site
    }

    fn secret(&self, name: &str, text: &str) {
        self.file(name, text, 0o600);
    }

    fn file(&self, name: &str, text: &str, mode: u32) {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self, text: &str) -> Result<(Config, Vec<Mistake>), Vec<Mistake>> {
        self.file("f.toml", text, 0o600);
        Config::load(&self.0.path().join("f.toml"))
    }

    fn config(&self, text: &str) -> Config {
        self.load(text).unwrap_or_else(|mistakes| panic!("{}", lines(&self.0, &mistakes).join("\n"))).0
    }

    fn mistakes(&self, text: &str) -> Vec<String> {
        lines(&self.0, &self.load(text).expect_err("mistakes"))
    }

    fn warnings(&self, text: &str) -> Vec<String> {
        lines(&self.0, &self.load(text).expect("no mistakes").1)
    }
}

/// The lines that a user sees, without the temporary folder.
fn lines(folder: &TempDir, mistakes: &[Mistake]) -> Vec<String> {
    let prefix = format!("{}/", folder.path().display());
    mistakes.iter().map(|mistake| mistake.to_string().replace(&prefix, "")).collect()
}

/// The shipped file with everything that is commented out; where two keys exclude each other, the first.
fn everything() -> String {
    let excluded = ["auth_key =", "basic_password =", "secret =", "map ="];
    let setting = |line: &str| match line.strip_prefix('#') {
        Some(rest) if excluded.iter().any(|key| rest.starts_with(key)) => None,
        Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => Some(rest.to_owned()),
        _ => Some(line.to_owned()),
    };
    SHIPPED.lines().filter_map(setting).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_shipped_file_loads_without_a_warning() {
    let site = Site::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(site.warnings(&text), [""; 0], "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 2);
    assert_eq!(site.warnings(&everything()), [""; 0]);
}

#[test]
fn the_shipped_file_shows_the_defaults() {
    let site = Site::new();
    let shipped = site.config(SHIPPED);
    let defaults = site.config("[groups.Devices]\n[groups.Stations]\ntelemetry = false\n");
    assert_eq!(shipped, Config { stated: shipped.stated.clone(), ..defaults });
}

#[test]
fn the_optional_tables_show_their_defaults() {
    let site = Site::new();
    let shown = site.config(&everything());
    let sparse = site.config(
        "
        [groups.Devices]
        retention = '60d'
        on_expiry = 'delete'
        max_size = '1GiB'
        [groups.Stations]
        telemetry = false
        [[api.key]]
        name = 'grafana'
        sha256 = '0000000000000000000000000000000000000000000000000000000000000000'
        rights = ['read']
        [central.webhooks]
        request = 'https://central.example/request'
        telemetry = 'https://central.example/telemetry'
        result = 'https://central.example/result'
        ca_file = 'central-ca.pem'
        [ingest.partner]
        group = 'Devices'
        uid = 'dev_eui'
        aliases_file = 'partner-aliases.json'
        basic_user = 'net'
        basic_password_file = 'partner.password'
        [subscribers.erp]
        url = 'https://erp.example/hook'
        secret_file = 'erp.secret'
        ca_file = 'erp-ca.pem'
        [alerts]
        webhook = 'https://ops.example/alert'
        secret_file = 'alerts.secret'
        ca_file = 'ops-ca.pem'
        [network]
        hostname = 'gateway'
        gateway = '192.168.1.1'
        ",
    );
    assert_eq!(shown, Config { stated: shown.stated.clone(), ..sparse });
}

#[test]
fn the_shipped_file_names_every_key() {
    // Written down from the description of the interface, not from the code that reads it.
    let sections = [
        ("", "environment state_dir"),
        ("tls", "certificate private_key"),
        (
            "sessions",
            "listen tls max_connections max_unauthenticated max_unauthenticated_per_source handshake_timeout \
             request_timeout keep_session ping_interval allow_from",
        ),
        ("telemetry", "listen max_datagram allow_from"),
        (
            "api",
            "listen tls max_connections max_unauthenticated_per_source max_body max_acl max_wait header_timeout \
             body_timeout allow_from",
        ),
        ("api.key", "name sha256 rights groups allow_from"),
        ("central", "auth_key_file auth_key"),
        ("central.webhooks", "request telemetry result timeout max_body ca_file"),
        ("maintenance", "socket"),
        (
            "groups.Devices",
            "telemetry telemetry_token_ttl validate max_payload rate retention on_expiry max_size allow_from",
        ),
        ("groups.Stations", "telemetry"),
        (
            "ingest.partner",
            "format map group objects uid aliases_file basic_user basic_password basic_password_file allow_from \
             max_body rate",
        ),
        (
            "subscribers.erp",
            "url secret_file secret groups kinds order batch_max batch_wait max_rate timeout give_up ca_file allow_to",
        ),
        ("access", "file"),
        ("journal", "max_size commit_interval calls retention on_expiry archive_dir on_full"),
        ("alerts", "webhook secret_file secret ca_file allow_to led disk_percent queue_percent"),
        ("backup", "dir keep at copy_to"),
        ("upgrade", "public_key_file dir confirm_after"),
        ("time", "ntp trust"),
        ("network", "hostname address gateway dns ssh_keys"),
    ];
    let wanted: BTreeSet<(String, String)> = sections
        .iter()
        .flat_map(|(section, keys)| {
            keys.split_whitespace().map(|key| ((*section).to_owned(), key.to_owned()))
        })
        .collect();
    let mut section = String::new();
    let mut shown = BTreeSet::new();
    for line in SHIPPED.lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if line.starts_with('[') {
            section = line.split(']').next().unwrap().trim_start_matches('[').to_owned();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with(' ')) {
            shown.insert((section.clone(), key.to_owned()));
        }
    }
    assert_eq!(shown, wanted);
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let site = Site::new();
    let text = "\
environment = \"prod\"
stat_dir = \"x\"
[sessions]
listen = \"0.0.0.0:0\"
handshake_timeout = \"0s\"
max_connections = 0
max_conections = 9
allow_from = [\"10.0.0.0/8\", \"10.0.0.1/8\", 7]
[telemetry]
max_datagram = \"10B\"
[api]
tls = \"of\"
[[api.key]]
name = \"a\"
sha256 = \"12\"
rights = [\"read\", \"reed\"]
groups = [\"Devcies\"]
[[api.key]]
name = \"a\"
sha256 = \"1111111111111111111111111111111111111111111111111111111111111111\"
[groups.Devices]
max_payload = \"65KiB\"
[groups.a-name-that-is-too-long]
";
    assert_eq!(
        site.mistakes(text),
        [
            "f.toml:1:15: environment: must be `production`, `staging` or `test`",
            "f.toml:2:1: stat_dir: is not a key of the configuration; did you mean `state_dir`?",
            "f.toml:4:10: sessions.listen: must have a port from 1 to 65535",
            "f.toml:5:21: sessions.handshake_timeout: must be longer than zero",
            "f.toml:6:19: sessions.max_connections: must be a whole number from 1 to 1000000",
            "f.toml:7:1: sessions.max_conections: is not a key of the configuration; did you mean `max_connections`?",
            "f.toml:8:29: sessions.allow_from: has address bits set behind its prefix",
            "f.toml:8:43: sessions.allow_from: must be a text in quotes",
            "f.toml:10:16: telemetry.max_datagram: must be from 11B to 65507B",
            "f.toml:12:7: api.tls: must be `required` or `off`; did you mean `off`?",
            "f.toml:15:10: api.key.sha256: must be 64 hex digits",
            "f.toml:16:19: api.key.rights: must be `read`, `request`, `ingest` or `admin`; did you mean `read`?",
            "f.toml:17:11: api.key.groups: names a group `Devcies` that is not configured; did you mean `Devices`?",
            "f.toml:18:1: api.key.rights: is missing: a key without rights is good for nothing",
            "f.toml:19:8: api.key.name: is the name of another key already",
            "f.toml:22:15: groups.Devices.max_payload: must be from 1B to 64KiB",
            "f.toml:23:9: groups.a-name-that-is-too-long: is longer than 16 bytes of UTF-8: no group can have this name",
        ]
    );
}

#[test]
fn syntax_errors_have_a_place_too() {
    let site = Site::new();
    let found = site.mistakes("[sessions]\nlisten = 0.0.0.0:1\n[api\n");
    assert!(found.len() >= 2, "{found:?}");
    assert!(found[0].starts_with("f.toml:2:13: is not TOML: "), "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("f.toml:3:")), "{found:?}");
    let twice = site.mistakes("[api]\n[api]\n");
    assert!(twice[0].starts_with("f.toml:2:2: "), "{twice:?}");
}

#[test]
fn a_file_that_is_missing_or_not_text() {
    let site = Site::new();
    let path = site.0.path().join("none.toml");
    let mistakes = Config::load(&path).unwrap_err();
    assert!(lines(&site.0, &mistakes)[0].starts_with("none.toml: cannot be read: "));
    fs::write(&path, b"a = \"\xff\"").unwrap();
    let mistakes = Config::load(&path).unwrap_err();
    assert_eq!(lines(&site.0, &mistakes), ["none.toml: is not UTF-8"]);
}

#[test]
fn there_is_no_default_central_key() {
    let site = Site::new();
    fs::remove_file(site.0.path().join("central.key")).unwrap();
    let found = site.mistakes("");
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("f.toml:1:1: central.auth_key_file: central.key cannot be read"),
        "{found:?}"
    );
    // The same file is refused when others could have read it.
    site.file("central.key", KEY, 0o640);
    assert_eq!(
        site.mistakes(""),
        ["f.toml:1:1: central.auth_key_file: central.key can be read by others; run `chmod 600 central.key`"]
    );
    site.file("central.key", KEY, 0o400);
    assert!(site.load("").is_ok());
}

#[test]
fn the_central_key_inline_or_in_a_file_but_not_both() {
    let site = Site::new();
    site.secret("other.key", "# environment: production\n# a comment\n\n00112233445566778899AABBCCDDEEF0\n");
    let inline = site.config("[central]\nauth_key = \"00112233445566778899aabbccddeef0\"");
    let file = site.config("[central]\nauth_key_file = \"other.key\"");
    assert_eq!(inline.central.auth_key, file.central.auth_key);
    assert_eq!(
        site.mistakes("[central]\nauth_key = \"1\"\nauth_key_file = \"other.key\""),
        ["f.toml:3:17: central.auth_key_file: stands beside `auth_key`; keep one of the two"]
    );
    // A key that cannot be used is not repeated in the message.
    assert_eq!(
        site.mistakes("[central]\nauth_key = \"5ec4e7\""),
        ["f.toml:2:12: central.auth_key: must be 32 hex digits"]
    );
    site.secret("other.key", "5ec4e7");
    assert_eq!(
        site.mistakes("[central]\nauth_key_file = \"other.key\""),
        ["f.toml:2:17: central.auth_key_file: other.key: must be 32 hex digits"]
    );
}

#[test]
fn a_key_of_another_environment_is_refused() {
    let site = Site::new();
    site.secret("central.key", &format!("{}\n{KEY}\n", environment_mark(Environment::Test)));
    assert!(site.load("environment = \"test\"").is_ok());
    let found = site.mistakes("environment = \"production\"");
    assert!(found[0].contains("is marked for environment `test`"), "{found:?}");
}

#[test]
fn doubtful_values_are_warnings() {
    let site = Site::new();
    site.secret("central.key", "00112233445566778899AABBCCDDEEFF");
    let text = "\
[sessions]
tls = \"optional\"
[api]
tls = \"off\"
[central.webhooks]
request = \"http://central.example/\"
telemetry = \"http://127.0.0.1/\"
";
    let found = site.warnings(text);
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[0].starts_with("f.toml:2:7: sessions.tls: "), "{found:?}");
    assert!(found[1].starts_with("f.toml:4:7: api.tls: "), "{found:?}");
    assert!(found[2].starts_with("f.toml:5:2: central.auth_key_file: "), "{found:?}");
    assert!(found[3].starts_with("f.toml:6:11: central.webhooks.request: "), "{found:?}");
    let local = "[sessions]\ntls = \"optional\"\nlisten = \"127.0.0.1:1\"\n[api]\ntls = \"off\"\nlisten = \"[::1]:1\"\n";
    assert_eq!(site.warnings(local).len(), 1, "only the key");
}

#[test]
fn a_secret_in_a_file_that_others_read_is_a_warning() {
    let site = Site::new();
    let text = format!("[central]\nauth_key = \"{KEY}\"\n");
    assert_eq!(site.warnings(&text), [""; 0]);
    site.file("f.toml", &text, 0o644);
    let (_, warnings) = Config::load(&site.0.path().join("f.toml")).unwrap();
    assert_eq!(
        lines(&site.0, &warnings),
        ["f.toml:2:12: central.auth_key: is a secret in a file that others can read; run `chmod 600 f.toml`"]
    );
}

#[test]
fn relative_paths_start_where_they_belong() {
    let site = Site::new();
    let folder = site.0.path();
    let config =
        site.config("state_dir = \"s\"\n[access]\nfile = \"/abs/acl.json\"\n[backup]\ncopy_to = \"usb\"");
    assert_eq!(config.state_dir, folder.join("s"));
    assert_eq!(config.tls.certificate, folder.join("tls/server.crt"));
    assert_eq!(config.access.file, Path::new("/abs/acl.json"));
    assert_eq!(config.journal.archive_dir, folder.join("s/archive"));
    assert_eq!(config.backup.dir, folder.join("s/backups"));
    assert_eq!(config.backup.copy_to, Some(CopyTo::Folder(folder.join("usb"))));
    assert_eq!(config.upgrade.dir, folder.join("s/versions"));
    assert_eq!(config.upgrade.public_key_file, folder.join("upgrade.pub"));
    assert_eq!(config.maintenance.socket, folder.join("s/maintenance.sock"));
    let given = Given { runtime: Some(PathBuf::from("/run/iotsocketd")), ..Given::default() };
    let path = folder.join("f.toml");
    let config = Config::parse(&path, fs::read(&path).unwrap(), given).config.unwrap();
    assert_eq!(config.maintenance.socket, Path::new("/run/iotsocketd/maintenance.sock"));
}

#[test]
fn a_secret_is_the_services_credential_if_there_is_one_of_its_name() {
    let site = Site::new();
    let credentials = tempfile::tempdir().unwrap();
    let given = Given { credentials: Some(credentials.path().to_path_buf()), ..Given::default() };
    let path = site.0.path().join("f.toml");
    let parse = || Config::parse(&path, Vec::new(), given.clone());
    let theirs = "00112233445566778899aabbccddee01";
    assert_eq!(parse().config.unwrap().central.auth_key, AuthKey::parse(KEY).unwrap());
    let file = credentials.path().join("central.key");
    fs::write(&file, theirs).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o400)).unwrap();
    fs::write(credentials.path().join("server.key"), "").unwrap();
    // Nobody else can read it, so that of the folder need not even be readable.
    fs::remove_file(site.0.path().join("central.key")).unwrap();
    let config = parse().config.unwrap();
    assert_eq!(config.central.auth_key, AuthKey::parse(theirs).unwrap());
    assert_eq!(config.tls.private_key, credentials.path().join("server.key"));
    // Its mark counts as that of any secret.
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, format!("{}\n{theirs}", environment_mark(Environment::Staging))).unwrap();
    let mistakes = parse().mistakes;
    assert!(mistakes.iter().any(|mistake| mistake.sentence.contains("`staging`")), "{mistakes:?}");
}

#[test]
fn partners_need_what_makes_them_work() {
    let site = Site::new();
    let text = "\
[groups.Devices]
[ingest.a]
[ingest.b]
format = \"generic\"
objects = \"listed\"
[ingest.c]
group = \"Devices\"
map = { uid = \"d\" }
[ingest.\"d e\"]
objects = \"listed\"
basic_user = \"u:v\"
[subscribers.s]
kinds = []
[subscribers.t]
url = \"ftp://x/\"
secret = \"hunter2\"
[alerts]
secret_file = \"alerts.secret\"
";
    let found = site.mistakes(text);
    let wanted = [
        "2:9: ingest.a.group: is missing",
        "3:9: ingest.b.map: is missing",
        "8:7: ingest.c.map: belongs to",
        "8:7: ingest.c.map.payload: is missing",
        "8:15: ingest.c.map.uid: must be a JSON pointer",
        "9:9: ingest.\"d e\": must be named",
        "11:14: ingest.\"d e\".basic_user: must not hold a colon",
        "11:14: ingest.\"d e\".basic_user: needs `basic_password_file`",
        "12:14: subscribers.s.secret_file: is missing",
        "12:14: subscribers.s.url: is missing",
        "13:9: subscribers.s.kinds: must name one",
        "15:7: subscribers.t.url: must be a URL",
        "16:10: subscribers.t.secret: must be `whsec_`",
        "18:15: alerts.secret_file: belongs to a `webhook`",
    ];
    for part in wanted {
        assert!(found.iter().any(|line| line.contains(part)), "{part} in {found:#?}");
    }
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    assert!(!found.iter().any(|line| line.contains("hunter2")));
}

#[test]
fn there_are_so_many_subscribers_at_most() {
    let end = format!("]\nurl = \"https://x/\"\nsecret = \"whsec_{}\"\n", "A".repeat(32));
    let text = |count| (0..count).map(|name| format!("[subscribers.s{name}{end}")).collect::<String>();
    assert_eq!(Site::new().config(&text(64)).subscribers.len(), 64);
    assert!(Site::new().mistakes(&text(65))[0].contains("one too many"));
}

#[test]
fn values_arrive_with_their_units() {
    let site = Site::new();
    let config = site.config(
        "
        [sessions]
        keep_session = '0s'
        [groups.G]
        rate = '5/s'
        max_payload = '64KiB'
        [backup]
        at = '23:59'
        [network]
        address = '192.168.1.10/24'
        ",
    );
    assert_eq!(config.sessions.keep_session, Duration::ZERO);
    let group = &config.groups[&GroupName::parse("G").unwrap()];
    assert_eq!(group.rate.map(|rate| rate.get()), Some(5));
    assert_eq!(group.max_payload, 65_536);
    assert!(group.telemetry);
    assert_eq!(config.backup.at, TimeOfDay { hour: 23, minute: 59 });
    assert_eq!(config.network.address, ImageAddress::Fixed("192.168.1.10".parse().unwrap(), 24));
}

#[test]
fn nothing_secret_shows_when_a_configuration_is_printed() {
    let printed = format!("{:?}", Site::new().config(&everything()));
    for secret in [KEY, "sesame", SIGNING] {
        assert!(!printed.contains(secret));
    }
}
