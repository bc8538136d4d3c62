//! The HTTPS API over real loopback sockets, with a hub that the tests play.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use iotsocketd::endpoint::admission::{Admission, Limits};
use iotsocketd::endpoint::http::Cause;
use iotsocketd::endpoint::http::api::{Api, Settings};
use iotsocketd::endpoint::http::auth::{ApiKey, Keys, Right};
use iotsocketd::endpoint::http::server::{Server, bind};
use iotsocketd::endpoint::tls::Certificates;
use iotsocketd::hub::backend::{AclError, Answer, Backend, ObjectView, Pending, Presence};
use iotsocketd::hub::status::Status;
use iotsocketd::net::AllowFrom;
use iotsocketd::wire::{AclItem, AuthKey, Format, GroupName, Uid};
use ring::digest::{SHA256, digest};
use smol::Executor;

const CENTRAL: &str = "20112233445566778899aabbccddeeff";
/// Nothing that ends well takes so long; a deadline that does not fire does.
const PATIENCE: Duration = Duration::from_secs(20);
/// The deadlines under test.
const SHORT: Duration = Duration::from_millis(300);

/// What the fake hub tells the test about a held call.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    Begun(String),
    Abandoned,
}

/// Objects: "echo" gives back what it gets, "liar" breaks its format, "hold…" answers when told, others are absent.
struct FakeHub {
    held: Mutex<mpsc::Sender<Held>>,
    waiting: Mutex<HashMap<String, smol::channel::Sender<Answer>>>,
    lists: Mutex<Vec<Vec<AclItem>>>,
    timeouts: Mutex<Vec<Duration>>,
}

struct TellsWhenDropped(mpsc::Sender<Held>, bool);

impl Drop for TellsWhenDropped {
    fn drop(&mut self) {
        if !self.1 {
            let _gone = self.0.send(Held::Abandoned);
        }
    }
}

fn made_here(code: u8) -> Answer {
    Answer { code, format: Format::Binary, payload: Vec::new(), made_here: true }
}

impl Backend for FakeHub {
    fn call(&self, uid: Uid, format: Format, payload: Vec<u8>, timeout: Duration) -> Pending<Answer> {
        self.timeouts.lock().unwrap().push(timeout);
        let name = uid.as_str().to_owned();
        let answer = match name.as_str() {
            "echo" => Answer { code: 0, format, payload, made_here: false },
            "liar" => Answer { code: 0, format: Format::Json, payload: b"{".to_vec(), made_here: false },
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

    fn group_of(&self, uid: Uid) -> Option<GroupName> {
        self.object(uid).map(|object| GroupName::parse(&object.group).unwrap())
    }

    fn replace_access(&self, items: Vec<AclItem>) -> Pending<Result<(), AclError>> {
        let refused = items.iter().position(|item| item.group.as_str() == "Nowhere");
        let result = match (refused, items.is_empty()) {
            (Some(item), _) => Err(AclError::Refused {
                item,
                field: "GroupName",
                value: "\"Nowhere\" is not a configured group".to_owned(),
            }),
            (None, true) => Err(AclError::Storage("the disk is full".to_owned())),
            (None, false) => Ok(()),
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

struct World {
    server: Server,
    api: Arc<Api>,
    hub: Arc<FakeHub>,
    held: mpsc::Receiver<Held>,
    /// The threads of the executor end when it goes.
    _stop: smol::channel::Sender<()>,
}

fn key(name: &str, token: &str, rights: &[Right], groups: &[&str], allow_from: &[&str]) -> ApiKey {
    ApiKey {
        name: name.to_owned(),
        sha256: digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap(),
        rights: rights.to_vec(),
        groups: groups.iter().map(|group| GroupName::parse(group).unwrap()).collect(),
        allow_from: networks(allow_from),
    }
}

fn networks(texts: &[&str]) -> AllowFrom {
    AllowFrom(texts.iter().map(|text| text.parse().unwrap()).collect())
}

fn settings() -> Settings {
    let keys = [
        key("reader", "aa11", &[Right::Read], &[], &[]),
        key("stations", "bb22", &Right::ALL, &["Stations"], &[]),
        key("devices", "cc33", &Right::ALL, &["Devices"], &[]),
        key("elsewhere", "dd44", &Right::ALL, &[], &["192.0.2.0/24"]),
    ];
    Settings {
        allow_from: AllowFrom::default(),
        keys: Keys::new(&AuthKey::parse(CENTRAL).unwrap(), keys),
        max_body: 200_000,
        max_acl: 300_000,
        max_wait: Duration::from_secs(30),
        header_timeout: PATIENCE,
        body_timeout: PATIENCE,
        write_timeout: PATIENCE,
    }
}

fn limits() -> Limits {
    Limits { max_connections: 100, max_unauthenticated: 100, max_unauthenticated_per_source: 100 }
}

fn world_with(settings: Settings, limits: Limits, certificates: Option<Arc<Certificates>>) -> World {
    let executor = Arc::new(Executor::new());
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    for _ in 0..2 {
        let (executor, stopped) = (Arc::clone(&executor), stopped.clone());
        std::thread::spawn(move || smol::block_on(executor.run(stopped.recv())));
    }
    let (sender, held) = mpsc::channel();
    let hub = Arc::new(FakeHub {
        held: Mutex::new(sender),
        waiting: Mutex::default(),
        lists: Mutex::default(),
        timeouts: Mutex::default(),
    });
    let api = Arc::new(Api::new(Arc::clone(&hub) as Arc<dyn Backend>, settings));
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let server =
        Server::start(&executor, listener, certificates, Admission::new(limits), Arc::clone(&api)).unwrap();
    World { server, api, hub, held, _stop: stop }
}

fn world() -> World {
    world_with(settings(), limits(), None)
}

#[derive(Debug)]
struct Answered {
    status: u16,
    headers: HashMap<String, String>,
    body: String,
}

impl Answered {
    fn error(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        json["error"].as_str().unwrap().to_owned()
    }
}

struct Client<S = TcpStream> {
    stream: S,
    read: Vec<u8>,
}

impl World {
    fn connect(&self) -> Client {
        self.connect_from(Ipv4Addr::LOCALHOST)
    }

    /// Linux owns all of 127.0.0.0/8: each address is another source.
    fn connect_from(&self, source: Ipv4Addr) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&self.server.local_addr().into()).unwrap();
        let stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, read: Vec::new() }
    }

    fn ask(&self, request: &str) -> Answered {
        self.connect().ask(request)
    }

    fn post(&self, path: &str, body: &str) -> Answered {
        self.ask(&post(path, CENTRAL, body))
    }

    fn get(&self, path: &str, token: &str) -> Answered {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"))
    }

    fn release(&self, name: &str, code: u8) {
        let answers = self.hub.waiting.lock().unwrap().remove(name).unwrap();
        answers.send_blocking(made_here(code)).unwrap();
    }

    /// A connection's end may be seen before it is counted.
    fn await_count(&self, cause: Cause, count: u64) {
        let begun = Instant::now();
        while self.api.refusals.get(cause) != count {
            assert!(begun.elapsed() < PATIENCE, "{cause:?}: {}", self.api.refusals.get(cause));
            std::thread::yield_now();
        }
    }

    fn await_held(&self) -> Held {
        self.held.recv_timeout(PATIENCE).unwrap()
    }
}

impl<S: Read + Write> Client<S> {
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    fn ask(&mut self, request: &str) -> Answered {
        self.send(request);
        self.receive()
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).collect();
                return String::from_utf8(line).unwrap().trim_end().to_owned();
            }
            assert!(self.more() > 0, "closed in the middle of an answer: {:?}", self.read);
        }
    }

    fn more(&mut self) -> usize {
        let mut buffer = [0; 4096];
        let count = self.stream.read(&mut buffer).unwrap();
        self.read.extend_from_slice(&buffer[..count]);
        count
    }

    fn receive(&mut self) -> Answered {
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
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length && status != 100 {
            assert!(self.more() > 0);
        }
        let body = self.read.drain(..length).collect();
        Answered { status, headers, body: String::from_utf8(body).unwrap() }
    }

    /// Waits for the end of the connection.
    fn is_closed(&mut self) -> bool {
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

fn post(path: &str, token: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn request_body(uid: &str) -> String {
    format!(r#"{{"UID":"{uid}","Payload":{{"t": 1.50}},"Format":"JSON"}}"#)
}

fn chunked(body: &str) -> String {
    format!(
        "POST /request HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CENTRAL}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    )
}

/// B12: a body of 60 bytes is answered at once, it need not fill any buffer.
#[test]
fn a_call_is_answered_with_what_the_object_says() {
    let world = world();
    let answered = world.post("/request", &request_body("echo"));
    assert_eq!(answered.status, 200);
    assert_eq!(answered.body, r#"{"Code":0,"Payload":{"t": 1.50},"Format":"JSON"}"#);
    assert_eq!(answered.headers["content-type"], "application/json");
    let binary = world.post("/request", r#"{"UID":"echo","Payload":[1,255],"Format":"BINARY","Timeout":7}"#);
    assert_eq!(binary.body, r#"{"Code":0,"Payload":[1,255],"Format":"BINARY"}"#);
    assert_eq!(*world.hub.timeouts.lock().unwrap(), [Duration::from_secs(30), Duration::from_secs(7)]);
}

#[test]
fn an_object_without_a_session_is_code_160_and_a_false_answer_is_502() {
    let world = world();
    let absent = world.post("/request", &request_body("absent"));
    assert_eq!((absent.status, &*absent.body), (200, r#"{"Code":160,"Payload":null,"Format":"JSON"}"#));
    let liar = world.post("/request", &request_body("liar"));
    assert_eq!(liar.status, 502);
    assert!(liar.error().contains("JSON"));
}

#[test]
fn bearer_tokens_are_taken_in_either_case() {
    let world = world();
    for token in [CENTRAL.to_ascii_uppercase().as_str(), CENTRAL, "bb22", "BB22"] {
        assert_eq!(world.ask(&post("/request", token, &request_body("echo"))).status, 200, "{token}");
    }
}

#[test]
fn refusals_come_in_their_order() {
    let mut closed = settings();
    closed.allow_from = networks(&["192.0.2.0/24"]);
    let world = world_with(closed, limits(), None);
    let everything_wrong =
        "PUT /nothing HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 9999999\r\n\r\n";
    assert_eq!(world.ask(everything_wrong).status, 403, "source network before everything");
    assert_eq!(world.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status, 403);
    world.api.set_settings(settings());
    let unknown = world.ask(everything_wrong);
    assert_eq!(unknown.status, 401, "key before route");
    assert_eq!(unknown.headers["www-authenticate"], "Bearer");
    let with_key = |method: &str, path: &str, token: &str, rest: &str| {
        world.ask(&format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{rest}\r\n"
        ))
    };
    assert_eq!(with_key("PUT", "/request", "dd44", "").status, 403, "a key's own networks");
    assert_eq!(with_key("PUT", "/nothing", "aa11", "").status, 404, "route before right");
    let method = with_key("GET", "/request", "aa11", "");
    assert_eq!((method.status, method.headers["allow"].as_str()), (405, "POST"));
    let method = with_key("POST", "/v1/objects", "aa11", "Content-Length: 0\r\n");
    assert_eq!((method.status, method.headers["allow"].as_str()), (405, "GET, HEAD"));
    let right =
        with_key("POST", "/request", "aa11", "Content-Type: text/plain\r\nContent-Length: 9999999\r\n");
    assert_eq!(right.status, 403, "right before body");
    assert!(right.error().contains("\"request\""));
    let media =
        with_key("POST", "/request", CENTRAL, "Content-Type: text/plain\r\nContent-Length: 9999999\r\n");
    assert_eq!(media.status, 415, "type before length");
    let large = with_key(
        "POST",
        "/request",
        CENTRAL,
        "Content-Type: application/json\r\nContent-Length: 9999999\r\n",
    );
    assert_eq!(large.status, 413);
    assert_eq!(with_key("POST", "/request", CENTRAL, "Content-Type: application/json\r\n").status, 411);
    assert_eq!(with_key("POST", "/request", CENTRAL, "Content-Length: 0\r\n").status, 400);
    for (cause, count) in [(Cause::SourceNetwork, 3), (Cause::Key, 1), (Cause::Route, 3), (Cause::Right, 1)] {
        assert_eq!(world.api.refusals.get(cause), count, "{cause:?}");
    }
}

#[test]
fn a_key_of_some_groups_sees_no_others() {
    let world = world();
    assert_eq!(world.ask(&post("/request", "bb22", &request_body("echo"))).status, 200);
    for uid in ["o1", "unknown"] {
        assert_eq!(world.ask(&post("/request", "bb22", &request_body(uid))).status, 404, "{uid}");
        assert_eq!(world.get(&format!("/v1/objects/{uid}"), "bb22").status, 404, "{uid}");
    }
    let list = world.get("/v1/objects", "bb22");
    assert_eq!(list.body, r#"{"objects":[{"uid":"echo","group":"Stations","state":"absent"}],"next":null}"#);
}

#[test]
fn objects_come_in_pages() {
    let world = world();
    let (mut path, mut seen) = ("/v1/objects?limit=3".to_owned(), Vec::new());
    loop {
        let page: serde_json::Value = serde_json::from_str(&world.get(&path, "aa11").body).unwrap();
        let objects = page["objects"].as_array().unwrap();
        assert!(!objects.is_empty() && objects.len() <= 3);
        seen.extend(objects.iter().map(|object| object["uid"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/v1/objects?limit=3&after={next}");
    }
    assert_eq!(seen, ["café/1", "echo", "o0", "o1", "o2", "o3", "o4"]);
    assert_eq!(world.get("/v1/objects/caf%C3%A9%2F1", "aa11").status, 200);
    assert_eq!(world.get("/v1/objects/caf%C3", "aa11").status, 404);
    for (query, name) in [("limit=0", "limit"), ("limit=x", "limit"), ("after=%ff", "after")] {
        let bad = world.get(&format!("/v1/objects?{query}"), "aa11");
        assert!(bad.status == 400 && bad.error().contains(name), "{query}");
    }
}

#[test]
fn health_needs_no_key_and_metrics_none_from_loopback() {
    let world = world();
    let open = |path: &str| world.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_eq!((open("/healthz").status, &*open("/healthz").body), (200, "ok"));
    let ready = open("/readyz");
    assert_eq!(
        (ready.status, &*ready.body, ready.headers.contains_key("retry-after")),
        (503, "starting", true)
    );
    assert!(open("/metrics").body.contains("iotsocketd_telemetry_received_total 0\n"));
    assert_eq!(open("/v1/status").status, 401);
    let status: serde_json::Value = serde_json::from_str(&world.get("/v1/status", "aa11").body).unwrap();
    assert_eq!((status["version"].as_str(), status["refusals"]["api.key"].as_u64()), (Some("9.9"), Some(1)));
}

#[test]
fn access_lists_are_replaced_or_refused_by_item_field_and_value() {
    let world = world();
    let list = |group: &str| format!(r#"[{{"GroupName":"{group}","UID":"a","AuthKey":"{CENTRAL}"}}]"#);
    let taken = world.post("/acl", &list("Devices"));
    assert_eq!((taken.status, &*taken.body), (200, ""));
    assert_eq!(world.hub.lists.lock().unwrap().len(), 1);
    let refused = world.post("/acl", &list("Nowhere"));
    assert_eq!(refused.status, 400);
    assert_eq!(refused.error(), "item 0: \"GroupName\" \"Nowhere\" is not a configured group");
    let full = world.post("/acl", "[]");
    assert_eq!((full.status, full.headers.contains_key("retry-after")), (503, true));
    let right = world.ask(&post("/acl", "aa11", "[]"));
    assert!(right.status == 403 && right.error().contains("admin"));
    assert_eq!(world.hub.lists.lock().unwrap().len(), 1);
}

#[test]
fn bodies_are_held_to_their_limit_by_length_and_by_chunks() {
    let world = world();
    let large = format!(r#"{{"UID":"echo","Payload":"{}","Format":"UTF8"}}"#, "x".repeat(200_000));
    assert_eq!(world.post("/request", &large).status, 413);
    assert_eq!(world.ask(&chunked(&large)).status, 413);
    let acl = format!("[{}]", " ".repeat(250_000));
    assert_eq!(
        world.post("/acl", &acl).status,
        503,
        "/acl has a limit of its own, and an empty list goes on"
    );
    assert_eq!(world.ask(&chunked(&request_body("echo"))).status, 200);
}

#[test]
fn lying_content_lengths_are_refused_and_nothing_behind_them_is_executed() {
    let world = world();
    for (lie, status) in [
        ("Content-Length: abc\r\n", 400),
        ("Content-Length: -1\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("Content-Length: 4000000000000000\r\n", 413),
        ("Content-Length: 99999999999999999999999\r\n", 400),
    ] {
        let mut client = world.connect();
        client.send(format!(
            "POST /request HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CENTRAL}\r\n\
             Content-Type: application/json\r\n{lie}\r\n{}",
            post("/request", CENTRAL, &request_body("echo"))
        ));
        assert_eq!(client.receive().status, status, "{lie}");
        assert!(client.is_closed(), "{lie}");
        assert!(client.read.is_empty(), "{lie}");
    }
    assert!(world.hub.timeouts.lock().unwrap().is_empty());
}

#[test]
fn a_length_beside_chunks_is_refused() {
    let world = world();
    let body = request_body("echo");
    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\ncontent-LENGTH:5\r\n",
    ] {
        let mut client = world.connect();
        // A request before it on the same connection does not hide it.
        client.send(post("/request", CENTRAL, &body));
        client.send(format!(
            "POST /request HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CENTRAL}\r\n\
             Content-Type: application/json\r\n{headers}\r\n{chunk}"
        ));
        assert_eq!(client.receive().status, 200);
        let refused = client.receive();
        assert!(refused.status == 400 && refused.error().contains("Transfer-Encoding"), "{headers}");
        assert!(client.is_closed());
    }
    assert_eq!(world.api.refusals.get(Cause::Framing), 3);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let world = world();
    let mut client = world.connect();
    let numbered = |n: u32| format!(r#"{{"UID":"echo","Payload":{n},"Format":"JSON"}}"#);
    let all: String = (0..20).map(|n| post("/request", CENTRAL, &numbered(n))).collect();
    client.send(all);
    for n in 0..20 {
        assert_eq!(client.receive().body, format!(r#"{{"Code":0,"Payload":{n},"Format":"JSON"}}"#));
    }
}

#[test]
fn http_1_0_works_and_closes() {
    let world = world();
    let mut client = world.connect();
    let answered =
        client.ask(&post("/request", CENTRAL, &request_body("echo")).replace("HTTP/1.1", "HTTP/1.0"));
    assert_eq!(answered.status, 200);
    assert!(client.is_closed());
}

#[test]
fn a_client_that_expects_100_continue_gets_it_before_its_body_or_the_refusal() {
    let world = world();
    let body = request_body("echo");
    let head = |length: usize| {
        post("/request", CENTRAL, "").replace(
            "Content-Length: 0\r\n",
            &format!("Content-Length: {length}\r\nExpect: 100-continue\r\n"),
        )
    };
    let mut client = world.connect();
    assert_eq!(client.ask(&head(body.len())).status, 100);
    assert_eq!(client.ask(&body).status, 200);
    assert_eq!(world.ask(&head(10_000_000)).status, 413, "without asking for the body");
}

#[test]
fn a_body_one_byte_at_a_time_is_taken() {
    let world = world();
    let mut client = world.connect();
    for byte in post("/request", CENTRAL, &request_body("echo")).bytes() {
        client.send([byte]);
    }
    assert_eq!(client.receive().status, 200);
}

/// B13: headers are bounded in size and number.
#[test]
fn a_flood_of_headers_is_refused() {
    let world = world();
    let many: String = (0..1000).map(|n| format!("X-{n}: 1\r\n")).collect();
    assert_eq!(world.ask(&format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{many}\r\n")).status, 431);
    let long = "y".repeat(17_000);
    assert_eq!(world.ask(&format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n")).status, 431);
    world.await_count(Cause::Parser, 2);
}

/// B13: the deadline of a header is one for all its lines, so slow ones end; others go on meanwhile.
#[test]
fn slow_headers_end_at_their_deadline() {
    let mut short = settings();
    short.header_timeout = SHORT;
    let world = world_with(short, limits(), None);
    let begun = Instant::now();
    let mut slow: Vec<_> = (0..20).map(|_| world.connect()).collect();
    for client in &mut slow {
        client.send("GET /healthz HTTP/1.1\r\n");
    }
    assert_eq!(world.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
    // A line now and then does not put the deadline off. The last writes may meet a closed connection.
    let mut dripping = world.connect();
    while dripping.stream.write_all(b"X: y\r\n").is_ok() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(SHORT / 10);
    }
    for client in &mut slow {
        assert!(client.is_closed());
    }
    assert!(begun.elapsed() >= SHORT);
}

#[test]
fn a_slow_body_is_408_and_an_idle_connection_is_closed() {
    let mut short = settings();
    short.body_timeout = SHORT;
    let world = world_with(short, limits(), None);
    let mut client = world.connect();
    let request = post("/request", CENTRAL, &request_body("echo"));
    client.send(&request[..request.len() - 5]);
    let late = client.receive();
    assert_eq!(late.status, 408);
    assert!(client.is_closed());

    let mut short = settings();
    short.header_timeout = SHORT;
    world.api.set_settings(short);
    let mut client = world.connect();
    assert_eq!(client.ask(&request).status, 200);
    assert!(client.is_closed(), "idle between requests");
}

/// A reader that takes nothing of a large answer is closed; it does not hold the answer for ever.
#[test]
fn a_slow_reader_is_closed() {
    let mut short = settings();
    short.write_timeout = SHORT;
    let world = world_with(short, limits(), None);
    let mut client = world.connect();
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(4096).unwrap();
    let body = format!(r#"{{"UID":"echo","Payload":"{}","Format":"ASCII"}}"#, "x".repeat(65_000));
    let request = post("/request", CENTRAL, &body);
    client.stream.set_write_timeout(Some(SHORT)).unwrap();
    let begun = Instant::now();
    while world.api.refusals.get(Cause::SlowReader) == 0 {
        assert!(begun.elapsed() < PATIENCE);
        // Blocks, then fails, once the server waits for its answers to be taken.
        let _stuck = client.stream.write_all(request.as_bytes());
    }
}

#[test]
fn held_calls_are_answered_as_their_answers_come() {
    let world = world();
    let mut clients: Vec<_> = (0..5).map(|_| world.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(post("/request", CENTRAL, &request_body(&format!("hold{n}"))));
        assert_eq!(world.await_held(), Held::Begun(format!("hold{n}")));
    }
    for n in [3, 0, 4, 1, 2] {
        world.release(&format!("hold{n}"), n);
        let answered = clients[usize::from(n)].receive();
        assert_eq!(answered.body, format!(r#"{{"Code":{n},"Payload":null,"Format":"JSON"}}"#));
    }
}

#[test]
fn a_client_that_goes_away_abandons_its_call() {
    let world = world();
    let mut client = world.connect();
    client.send(post("/request", CENTRAL, &request_body("hold")));
    assert_eq!(world.await_held(), Held::Begun("hold".to_owned()));
    drop(client);
    assert_eq!(world.await_held(), Held::Abandoned);
}

#[test]
fn draining_answers_held_calls_and_closes_idle_connections() {
    let mut world = world();
    let mut idle = world.connect();
    assert_eq!(idle.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
    let mut held = world.connect();
    held.send(post("/request", CENTRAL, &request_body("hold")));
    assert_eq!(world.await_held(), Held::Begun("hold".to_owned()));
    world.server.drain();
    assert!(idle.is_closed());
    world.release("hold", 0xA1);
    let last = held.receive();
    assert_eq!((last.status, &*last.body), (200, r#"{"Code":161,"Payload":null,"Format":"JSON"}"#));
    assert!(held.is_closed());
    let refused = TcpStream::connect(world.server.local_addr());
    assert!(refused.is_err(), "nobody listens any more");
}

#[test]
fn silent_connections_make_room_and_authenticated_ones_stay() {
    let few = Limits { max_connections: 4, max_unauthenticated: 4, max_unauthenticated_per_source: 2 };
    let world = world_with(settings(), few, None);
    let mut known = world.connect();
    assert_eq!(known.ask(&post("/request", CENTRAL, &request_body("echo"))).status, 200);
    let mut silent: Vec<_> = (0..10).map(|_| world.connect_from(Ipv4Addr::new(127, 0, 0, 2))).collect();
    let last = silent.split_off(8);
    for client in &mut silent {
        assert!(client.is_closed());
    }
    assert_eq!(world.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status, 200, "another source");
    assert_eq!(known.ask(&post("/request", CENTRAL, &request_body("echo"))).status, 200);
    drop(last);
    world.await_count(Cause::PushedOut, 8);
}

mod over_tls {
    use super::*;
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    fn tls_world(settings: Settings) -> (World, Arc<ClientConfig>) {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("c"), folder.path().join("k"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let certificates = Arc::new(Certificates::load(&certificate, &key).unwrap());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (world_with(settings, limits(), Some(certificates)), Arc::new(config))
    }

    #[test]
    fn calls_are_answered_on_one_connection_after_the_other() {
        let (world, config) = tls_world(settings());
        let session = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
        let mut client =
            Client { stream: StreamOwned::new(session, world.connect().stream), read: Vec::new() };
        for _ in 0..3 {
            assert_eq!(client.ask(&post("/request", CENTRAL, &request_body("echo"))).status, 200);
        }
        client.send(post("/request", CENTRAL, &request_body("hold")));
        assert_eq!(world.await_held(), Held::Begun("hold".to_owned()));
        drop(client);
        assert_eq!(world.await_held(), Held::Abandoned);
    }

    #[test]
    fn a_silent_handshake_ends_at_its_deadline_and_plain_http_is_refused() {
        let mut short = settings();
        short.header_timeout = SHORT;
        let (world, _) = tls_world(short);
        let mut silent = world.connect();
        let mut plain = world.connect();
        plain.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(plain.is_closed());
        assert!(silent.is_closed());
        world.await_count(Cause::Handshake, 2);
    }
}

/// Failed keys slow only their own refusals down: a right one works at once.
#[test]
fn failed_keys_never_lock_a_source_out() {
    let world = world();
    let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for _ in 0..40 {
        assert_eq!(world.get("/v1/status", "0000").status, 401, "{source}");
    }
    assert_eq!(world.get("/v1/status", "aa11").status, 200);
}
