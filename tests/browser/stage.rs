//! A concentrator that is played: a listening API with a snapshot, objects and messages of the test's making.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use iotsocketd::endpoint::admission::{Admission, Limits};
use iotsocketd::endpoint::http::api::{Api, Settings};
use iotsocketd::endpoint::http::auth::{ApiKey, Keys, Right};
use iotsocketd::endpoint::http::server::Server;
use iotsocketd::endpoint::tls::Certificates;
use iotsocketd::hub::CallAnswer;
use iotsocketd::hub::access_keeper::ReplaceError;
use iotsocketd::hub::backend::{Backend, ObjectView, Pending, Presence};
use iotsocketd::hub::commands::{CommandRefusal, NewCommand};
use iotsocketd::hub::history::{History, Kind, MessageId, MessageView, State};
use iotsocketd::hub::latency::Meters;
use iotsocketd::hub::seen::Expectation;
use iotsocketd::hub::status::{
    Alert, Availability, Backups, Books, Calls, Certificate, Destination, Disk, Queue, Rates, SecondTries,
    Sessions, Status, Wear,
};
use iotsocketd::net::AllowFrom;
use iotsocketd::wire::{AclItem, AuthKey, Format, GroupName, Uid};
use ring::digest::{SHA256, digest};
use smol::Executor;

use super::fake_history::{FakeHistory, message};
use super::webdriver::{Browser, ENTER};

/// A key with the right to look.
pub const READER: &str = "feed0123456789abcdef0123456789abcdef";
/// A key with every right but that.
pub const BLIND: &str = "b11d0123456789abcdef0123456789abcdef";
const CENTRAL: &str = "20112233445566778899aabbccddeeff";
const OBJECTS: usize = 1200;

/// What the API asks.
pub struct Hub {
    meters: Meters,
    /// How often the snapshot was taken: time, so to speak.
    looks: AtomicU64,
    pub alerts: Mutex<Vec<Alert>>,
}

pub struct Stage {
    address: SocketAddr,
    pub api: Arc<Api>,
    pub hub: Arc<Hub>,
    pub history: Arc<FakeHistory>,
    _server: Server,
    /// The threads of the executor end when it goes.
    _stop: smol::channel::Sender<()>,
}

fn object(number: usize) -> ObjectView {
    let (state, last_seen) = match number % 7 {
        0 => (Presence::Kept, Some("2026-11-21T18:52:42Z")),
        3 => (Presence::Absent, None),
        _ => (Presence::Live, Some("2026-11-21T18:52:42Z")),
    };
    let (uid, group) = match number {
        0 => ("café/1 <b>".to_owned(), "Stations"),
        _ => (format!("pump-{number:04}"), "Devices"),
    };
    let (usual_seconds, expectation) = match number % 6 {
        0 => (None, None),
        1 => (Some(60.0), Some(Expectation::Late)),
        2 => (Some(0.2), Some(Expectation::Chatty)),
        3 => (Some(86_400.0), Some(Expectation::Silent)),
        _ => (Some(900.0), Some(Expectation::Met)),
    };
    let last_seen = last_seen.map(str::to_owned);
    let since = last_seen.clone();
    ObjectView { uid, group: group.to_owned(), state, since, last_seen, usual_seconds, expectation }
}

impl Backend for Hub {
    fn call(&self, _: Uid, _: Format, _: Vec<u8>, _: Duration) -> Pending<CallAnswer> {
        Box::pin(std::future::pending())
    }

    fn group_of(&self, uid: Uid) -> Option<GroupName> {
        self.object(uid).map(|object| GroupName::parse(&object.group).unwrap())
    }

    fn audit(&self, _: iotsocketd::hub::auditing::Deed<'_>) {}

    fn replace_access(&self, _: Vec<AclItem>) -> Pending<Result<(), ReplaceError>> {
        Box::pin(std::future::pending())
    }

    fn queue_command(&self, _: NewCommand) -> Pending<Result<MessageId, CommandRefusal>> {
        Box::pin(std::future::pending())
    }

    fn objects(&self, after: Option<Uid>, limit: usize, _: &[GroupName]) -> Vec<ObjectView> {
        let is_behind = |object: &ObjectView| after.is_none_or(|after| object.uid.as_str() > after.as_str());
        (0..OBJECTS).map(object).filter(is_behind).take(limit).collect()
    }

    fn object(&self, uid: Uid) -> Option<ObjectView> {
        (0..OBJECTS).map(object).find(|object| object.uid == uid.as_str())
    }

    fn status(&self) -> Status {
        let look = self.looks.fetch_add(1, Ordering::Relaxed);
        for call in 0..40 {
            self.meters.calls.record(Duration::from_micros(700 + call * 40 * (1 + look % 5)));
            self.meters.telemetry.record(Duration::from_millis(2 + call % 7));
        }
        let swing = (look as f64 / 3.0).sin();
        let rates = Rates {
            requests_per_second: 180.0 + 60.0 * swing,
            telemetry_per_second: 950.0 - 200.0 * swing,
            delivered_per_second: 1010.5,
        };
        let destination = |name: &str, via, state, waiting, drain_seconds| Destination {
            name: name.to_owned(),
            via,
            state,
            waiting,
            delivered: 123_456 + look,
            delivered_per_second: rates.delivered_per_second,
            failures: waiting / 1000,
            drain_seconds,
            ..Destination::default()
        };
        Status {
            version: "9.9".to_owned(),
            environment: "production".to_owned(),
            uptime_seconds: 4_000_000 + look,
            ready: true,
            clock_is_set: true,
            availability: Availability { days_30: Some(0.99987), days_365: None },
            sessions: Sessions {
                live: 1003,
                kept: 12,
                unauthenticated: 2,
                central: true,
                by_listener: [("sessions".to_owned(), 1005), ("api".to_owned(), 4)].into(),
                logins: 20_411,
            },
            latency: self.meters.read(),
            destinations: vec![
                destination("central", "session", "up", 0, Some(0.0)),
                destination("erp", "webhook", "failing", 45_120, None),
                destination("archive", "webhook", "up", 800, Some(312.5)),
            ],
            rates,
            queue: Queue { messages: 45_920, bytes: 21_000_000, limit: 33_554_432, ..Queue::default() },
            disk: Disk { total: 31_268_536_320, free: 2_189_934_592 },
            calls: Calls { pending: 7, answered: 88_123, not_found: 41, timed_out: 3, abandoned: 1 },
            recorded: [("telemetry", 123_456)].into(),
            books: Books {
                received: 169_386 + look,
                delivered: 123_456 + look,
                waiting: 45_920,
                dropped: [("oldest_for_room".to_owned(), 10)].into(),
                ..Books::default()
            },
            certificate: Some(Certificate { not_after: "2026-12-12T00:00:00Z".to_owned(), days_left: 20 }),
            wear: Some(Wear {
                written_bytes: 912_345_678,
                written_per_day_bytes: Some(19_707_000),
                medium_written_per_day_bytes: Some(54_000_000),
                write_amplification: Some(1.63),
                life_used_percent: Some(10),
                reserve: Some("normal"),
                years_left: Some(42.4),
            }),
            backup: Some(Backups {
                last: Some("2026-11-22T03:15:07Z".to_owned()),
                file: Some("nightly-0badcafe-20261122T031507Z.iotsbackup".to_owned()),
                bytes: 412_000_000,
                messages: 2_000_123,
                last_unix: 1_795_317_307,
                next: Some("2026-11-23T03:15:00Z".to_owned()),
                copy_error: Some("[backup] copy_to /mnt/stick: is not there: mount it".to_owned()),
                ..Backups::default()
            }),
            second_tries: Some(SecondTries { known: 1200, crowded_out: 0, window_seconds: 86_400 }),
            refusals: [("api.key", 3), ("sessions.login", 1412), ("router.rate_exceeded", 0)]
                .map(|(cause, count)| (cause.to_owned(), count))
                .into(),
            alerts: self.alerts.lock().unwrap().clone(),
        }
    }

    fn ready(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

fn settings(readers: bool) -> Settings {
    let key = |name: &str, token: &str, rights: &[Right]| ApiKey {
        name: name.to_owned(),
        sha256: digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap(),
        rights: rights.to_vec(),
        groups: Vec::new(),
        allow_from: AllowFrom::default(),
    };
    let mut keys = vec![key("blind", BLIND, &[Right::Request, Right::Ingest, Right::Admin])];
    if readers {
        keys.push(key("reader", READER, &[Right::Read]));
    }
    let long = Duration::from_secs(60);
    Settings {
        tls: false,
        allow_from: AllowFrom::default(),
        keys: Keys::new("test", &AuthKey::parse(CENTRAL).unwrap(), keys),
        max_body: 1000,
        max_acl: 1000,
        max_wait: Duration::from_secs(5),
        ingest: Default::default(),
        header_timeout: long,
        body_timeout: long,
        write_timeout: long,
    }
}

/// Never used: the played API is plain HTTP.
fn certificates() -> Arc<Certificates> {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("c"), folder.path().join("k"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    Arc::new(Certificates::load(&certificate, &key).unwrap())
}

fn recorded(seq: u64) -> MessageView {
    let mut made = message(seq);
    made.state = match seq % 4 {
        0 => State::Waiting,
        1 => State::Refused,
        _ => State::Delivered,
    };
    if seq.is_multiple_of(9) {
        made.kind = Kind::Audit;
        made.payload = br#"{"sentence":"access list replaced by key \"central\": 1,200 objects"}"#.to_vec();
    } else if seq.is_multiple_of(11) {
        made.payload = format!("{{\"text\":\"<script>alert({seq})</script>{}\"}}", "long ".repeat(40)).into();
    }
    made
}

impl Stage {
    /// A stage with two alerts and 250 messages.
    pub fn new() -> Self {
        let executor = Arc::new(Executor::new());
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        for _ in 0..2 {
            let (executor, stopped) = (Arc::clone(&executor), stopped.clone());
            std::thread::spawn(move || smol::block_on(executor.run(stopped.recv())));
        }
        let alert = |name: &str, subject: &str, urgent, sentence: &str| Alert {
            name: name.to_owned(),
            subject: subject.to_owned(),
            urgent,
            sentence: sentence.to_owned(),
            since: "2026-11-21T18:52:42Z".to_owned(),
        };
        let alerts = vec![
            alert("disk", "", true, "the disk of state_dir is nearly full: make room on it"),
            alert("object_silent", "pump-0003", false, "pump-0003 is silent for 3 h: look after it"),
        ];
        let hub = Hub { meters: Meters::default(), looks: AtomicU64::new(0), alerts: Mutex::new(alerts) };
        let (hub, history) = (Arc::new(hub), Arc::new(FakeHistory::default()));
        history.append((1..=250).map(recorded));
        let api = Api::new(Arc::clone(&hub) as Arc<dyn Backend>, settings(true));
        let api = Arc::new(api.with_history(Arc::clone(&history) as Arc<dyn History>));
        let listener = smol::Async::<TcpListener>::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.get_ref().local_addr().unwrap();
        let limits =
            Limits { max_connections: 100, max_unauthenticated: 100, max_unauthenticated_per_source: 100 };
        let server =
            Server::start(&executor, listener, certificates(), Admission::new(limits), Arc::clone(&api));
        Self { address, api, hub, history, _server: server, _stop: stop }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// From now on nobody may look.
    pub fn withdraw_keys(&self) {
        self.api.set_settings(settings(false));
    }

    /// A browser that is logged in and shows the overview.
    pub fn logged_in(&self) -> Browser {
        let browser = Browser::start();
        browser.go(&self.url());
        log_in(&browser, READER);
        browser
    }
}

/// Types a key where the page asks for it, and waits for the overview.
pub fn log_in(browser: &Browser, key: &str) {
    browser.wait("document.getElementById('key')");
    browser.get("document.getElementById('key').focus()");
    browser.keys(key);
    browser.keys(&ENTER.to_string());
    browser.wait("document.querySelector('.tile strong')?.textContent");
}

/// Shows a view, and waits until it has loaded.
pub fn show(browser: &Browser, view: &str) {
    browser.run("location.hash = arguments[0]", serde_json::json!([view]));
    settle(browser);
}

/// Waits until nothing says that it is being loaded.
pub fn settle(browser: &Browser) {
    browser.wait("document.querySelector('h1') && !/(Loading|Chargement)/.test(document.body.innerText)");
}
