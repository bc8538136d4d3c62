//! A listening API, the hub behind it that the test plays, and a client that sees every byte.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use iotsocketd::endpoint::admission::{Admission, Limits};
use iotsocketd::endpoint::http::Cause;
use iotsocketd::endpoint::http::api::{Api, Settings};
use iotsocketd::endpoint::http::auth::{ApiKey, Keys, Right};
use iotsocketd::endpoint::http::ingest::Doors;
use iotsocketd::endpoint::http::server::Server;
use iotsocketd::endpoint::tls::Certificates;
use iotsocketd::hub::CallAnswer;
use iotsocketd::hub::access_file::{AccessFileCause, AccessFileError};
use iotsocketd::hub::access_keeper::ReplaceError;
use iotsocketd::hub::backend::{Backend, ObjectView, Pending, Presence};
use iotsocketd::hub::commands::{CommandRefusal, NewCommand};
use iotsocketd::hub::history::History;
use iotsocketd::hub::intake::Intake;
use iotsocketd::hub::status::Status;
use iotsocketd::journal::stamp::MessageId;
use iotsocketd::net::AllowFrom;
use iotsocketd::router::access::{AccessFault, AccessRefusal};
use iotsocketd::wire::{AclItem, AuthKey, Format, GroupName, Uid};
use ring::digest::{SHA256, digest};
use smol::Executor;

use super::fake_history::FakeHistory;
use super::fake_intake::FakeIntake;

pub const CENTRAL: &str = "20112233445566778899aabbccddeeff";
/// Nothing that ends well takes so long; a deadline that does not fire does.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The deadlines under test.
pub const SHORT: Duration = Duration::from_millis(300);

/// What the fake hub tells the test about a held call.
#[derive(Debug, PartialEq, Eq)]
pub enum Held {
    Begun(String),
    Abandoned,
}

/// Objects: "echo" gives back what it gets, "liar" breaks its format, "hold…" answers when told, others are absent.
pub struct FakeHub {
    held: Mutex<mpsc::Sender<Held>>,
    waiting: Mutex<HashMap<String, smol::channel::Sender<CallAnswer>>>,
    pub lists: Mutex<Vec<Vec<AclItem>>>,
    pub timeouts: Mutex<Vec<Duration>>,
    pub commands: Mutex<Vec<NewCommand>>,
}

pub struct TellsWhenDropped(mpsc::Sender<Held>, bool);

impl Drop for TellsWhenDropped {
    fn drop(&mut self) {
        if !self.1 {
            let _gone = self.0.send(Held::Abandoned);
        }
    }
}

pub fn made_here(code: u8) -> CallAnswer {
    CallAnswer { code, format: Format::Binary, payload: Vec::new(), made_here: true }
}

impl Backend for FakeHub {
    fn call(&self, uid: Uid, format: Format, payload: Vec<u8>, timeout: Duration) -> Pending<CallAnswer> {
        self.timeouts.lock().unwrap().push(timeout);
        let name = uid.as_str().to_owned();
        let answer = match name.as_str() {
            "echo" => CallAnswer { code: 0, format, payload, made_here: false },
            "liar" => CallAnswer { code: 0, format: Format::Json, payload: b"{".to_vec(), made_here: false },
            _ if name.starts_with("hold") => {
                let (answers, waiting) = smol::channel::bounded(1);
                self.waiting.lock().unwrap().insert(name.clone(), answers);
                let held = self.held.lock().unwrap().clone();
                held.send(Held::Begun(name)).unwrap();
                let guard = TellsWhenDropped(held, false);
                return Box::pin(async move {
                    // The whole of it: naming only its flag would capture only that.
                    let mut guard = guard;
                    let answer = waiting.recv().await.unwrap();
                    guard.1 = true;
                    answer
                });
            }
            _ => made_here(0xA0),
        };
        Box::pin(async { answer })
    }

    /// Says by the name of the object what becomes of the command.
    fn queue_command(&self, command: NewCommand) -> Pending<Result<MessageId, CommandRefusal>> {
        let refusal = match command.supersedes.as_deref() {
            Some("conflict") => Some(CommandRefusal::Conflict),
            Some("no room") => Some(CommandRefusal::NoRoom),
            Some("payload") => Some(CommandRefusal::Payload),
            _ => None,
        };
        self.commands.lock().unwrap().push(command);
        let id = MessageId::parse("01930a2b-4c5d-7000-8000-000000000000").unwrap();
        Box::pin(async move { refusal.map_or(Ok(id), Err) })
    }

    fn group_of(&self, uid: Uid) -> Option<GroupName> {
        self.object(uid).map(|object| GroupName::parse(&object.group).unwrap())
    }

    fn audit(&self, _: iotsocketd::hub::auditing::Deed<'_>) {}

    fn replace_access(&self, items: Vec<AclItem>) -> Pending<Result<(), ReplaceError>> {
        let refused = items.iter().position(|item| item.group.as_str() == "Nowhere");
        let result = match refused {
            Some(item) => {
                let fault = AccessFault::UnknownGroup(GroupName::parse("Nowhere").unwrap());
                Err(ReplaceError::Refused(AccessRefusal { item, fault }))
            }
            None if items.is_empty() => {
                let cause = AccessFileCause::Io(ErrorKind::StorageFull.into());
                Err(ReplaceError::Storage(AccessFileError { path: "acl.json".into(), cause }))
            }
            None => Ok(()),
        };
        if result.is_ok() {
            self.lists.lock().unwrap().push(items);
        }
        Box::pin(async { result })
    }

    fn objects(&self, after: Option<Uid>, limit: usize, groups: &[GroupName]) -> Vec<ObjectView> {
        let mut all: Vec<_> = (0..5).map(|n| (format!("o{n}"), "Devices")).collect();
        all.extend([("café/1".to_owned(), "Devices"), ("echo".to_owned(), "Stations")]);
        all.sort();
        all.into_iter()
            .filter(|(uid, _)| after.is_none_or(|after| uid.as_str() > after.as_str()))
            .filter(|(_, group)| groups.is_empty() || groups.iter().any(|name| name.as_str() == *group))
            .take(limit)
            .map(|(uid, group)| ObjectView {
                uid,
                group: group.to_owned(),
                state: Presence::Absent,
                since: None,
                last_seen: None,
                usual_seconds: None,
                expectation: None,
            })
            .collect()
    }

    fn object(&self, uid: Uid) -> Option<ObjectView> {
        self.objects(None, usize::MAX, &[]).into_iter().find(|object| object.uid == uid.as_str())
    }

    fn status(&self) -> Status {
        Status { version: "9.9".to_owned(), ..Status::default() }
    }

    fn ready(&self) -> Result<(), &'static str> {
        Err("starting")
    }
}

pub struct World {
    pub address: SocketAddr,
    pub server: Server,
    pub api: Arc<Api>,
    pub hub: Arc<FakeHub>,
    pub history: Arc<FakeHistory>,
    pub intake: Arc<FakeIntake>,
    pub held: mpsc::Receiver<Held>,
    /// The threads of the executor end when it goes.
    _stop: smol::channel::Sender<()>,
}

pub fn key(name: &str, token: &str, rights: &[Right], groups: &[&str], allow_from: &[&str]) -> ApiKey {
    ApiKey {
        name: name.to_owned(),
        sha256: digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap(),
        rights: rights.to_vec(),
        groups: groups.iter().map(|group| GroupName::parse(group).unwrap()).collect(),
        allow_from: networks(allow_from),
    }
}

pub fn networks(texts: &[&str]) -> AllowFrom {
    AllowFrom(texts.iter().map(|text| text.parse().unwrap()).collect())
}

pub fn settings() -> Settings {
    let keys = [
        key("reader", "aa11", &[Right::Read], &[], &[]),
        key("stations", "bb22", &Right::ALL, &["Stations"], &[]),
        key("devices", "cc33", &Right::ALL, &["Devices"], &[]),
        key("elsewhere", "dd44", &Right::ALL, &[], &["192.0.2.0/24"]),
    ];
    Settings {
        tls: false,
        allow_from: AllowFrom::default(),
        keys: Keys::new("test", &AuthKey::parse(CENTRAL).unwrap(), keys),
        ingest: Doors::new(),
        max_body: 200_000,
        max_acl: 300_000,
        max_wait: Duration::from_secs(30),
        header_timeout: PATIENCE,
        body_timeout: PATIENCE,
        write_timeout: PATIENCE,
    }
}

pub fn limits() -> Limits {
    Limits { max_connections: 100, max_unauthenticated: 100, max_unauthenticated_per_source: 100 }
}

/// A certificate of its own, and its PEM text.
pub fn fresh_certificate() -> (Arc<Certificates>, String) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("c"), folder.path().join("k"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (Arc::new(Certificates::load(&certificate, &key).unwrap()), made.cert.pem())
}

pub fn fake_hub() -> (Arc<FakeHub>, mpsc::Receiver<Held>) {
    let (sender, held) = mpsc::channel();
    let hub = FakeHub {
        held: Mutex::new(sender),
        waiting: Mutex::default(),
        lists: Mutex::default(),
        timeouts: Mutex::default(),
        commands: Mutex::default(),
    };
    (Arc::new(hub), held)
}

pub fn world_with(settings: Settings, limits: Limits) -> World {
    world_of(settings, limits, fresh_certificate().0)
}

pub fn world_of(settings: Settings, limits: Limits, certificates: Arc<Certificates>) -> World {
    let executor = Arc::new(Executor::new());
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    for _ in 0..2 {
        let (executor, stopped) = (Arc::clone(&executor), stopped.clone());
        std::thread::spawn(move || smol::block_on(executor.run(stopped.recv())));
    }
    let (hub, held) = fake_hub();
    let history = Arc::new(FakeHistory::default());
    let api = Api::new(Arc::clone(&hub) as Arc<dyn Backend>, settings);
    let intake = Arc::new(FakeIntake::default());
    let api = api.with_history(Arc::clone(&history) as Arc<dyn History>);
    let api = Arc::new(api.with_intake(Arc::clone(&intake) as Arc<dyn Intake>));
    let listener = smol::Async::<TcpListener>::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.get_ref().local_addr().unwrap();
    let server = Server::start(&executor, listener, certificates, Admission::new(limits), Arc::clone(&api));
    World { address, server, api, hub, history, intake, held, _stop: stop }
}

pub fn world() -> World {
    world_with(settings(), limits())
}

#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Answered {
    pub fn error(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        json["error"].as_str().unwrap().to_owned()
    }
}

pub struct Client<S = TcpStream> {
    pub stream: S,
    pub read: Vec<u8>,
}

impl World {
    pub fn connect(&self) -> Client {
        self.connect_from(Ipv4Addr::LOCALHOST)
    }

    /// Linux owns all of 127.0.0.0/8: each address is another source.
    pub fn connect_from(&self, source: Ipv4Addr) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&self.address.into()).unwrap();
        let stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, read: Vec::new() }
    }

    pub fn ask(&self, request: &str) -> Answered {
        self.connect().ask(request)
    }

    pub fn post(&self, path: &str, body: &str) -> Answered {
        self.ask(&post(path, CENTRAL, body))
    }

    pub fn get(&self, path: &str, token: &str) -> Answered {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"))
    }

    pub fn release(&self, name: &str, code: u8) {
        let answers = self.hub.waiting.lock().unwrap().remove(name).unwrap();
        answers.send_blocking(made_here(code)).unwrap();
    }

    /// A connection's end may be seen before it is counted.
    pub fn await_count(&self, cause: Cause, count: u64) {
        let begun = Instant::now();
        while self.api.refusals.get(cause) != count {
            assert!(begun.elapsed() < PATIENCE, "{cause:?}: {}", self.api.refusals.get(cause));
            std::thread::yield_now();
        }
    }

    pub fn await_held(&self) -> Held {
        self.held.recv_timeout(PATIENCE).unwrap()
    }
}

impl<S: Read + Write> Client<S> {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub fn ask(&mut self, request: &str) -> Answered {
        self.send(request);
        self.receive()
    }

    pub fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).collect();
                return String::from_utf8(line).unwrap().trim_end().to_owned();
            }
            assert!(self.more() > 0, "closed in the middle of an answer: {:?}", self.read);
        }
    }

    pub fn more(&mut self) -> usize {
        let mut buffer = [0; 4096];
        let count = self.stream.read(&mut buffer).unwrap();
        self.read.extend_from_slice(&buffer[..count]);
        count
    }

    pub fn receive(&mut self) -> Answered {
        let status = self.line();
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HashMap::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            // Whoever asked for a stream reads its chunks.
            return Answered { status, headers, body: String::new() };
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length && status != 100 {
            assert!(self.more() > 0);
        }
        let body = self.read.drain(..length).collect();
        Answered { status, headers, body: String::from_utf8(body).unwrap() }
    }

    /// Waits for the end of the connection.
    pub fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    return matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof);
                }
            }
        }
    }
}

pub fn post(path: &str, token: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub fn request_body(uid: &str) -> String {
    format!(r#"{{"UID":"{uid}","Payload":{{"t": 1.50}},"Format":"JSON"}}"#)
}

pub fn chunked(body: &str) -> String {
    format!(
        "POST /request HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CENTRAL}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    )
}
