//! The webhook pool against endpoints on loopback that behave, hang, lie, redirect, or never stop sending.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that panics fails its test; clippy.toml's exception reaches test functions only"
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use iotsocketd::endpoint::webhook::{Answer, Failure, Outcomes, Pool, Refused, Settings, SettingsError};
use iotsocketd::wire::{AuthKey, Format, Uid};

const SECOND: Duration = Duration::from_secs(1);
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

// ---- what the pool tells -------------------------------------------------------------------------------

#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Answered(u64, Result<Answer, Failure>),
    Delivered(u64),
    Forgotten(u64),
    Room,
    ResultDelivered(u64),
}

#[derive(Default)]
struct Recorder {
    events: Mutex<Vec<(Instant, Event)>>,
    changed: Condvar,
}

impl Recorder {
    fn add(&self, event: Event) {
        self.events.lock().unwrap().push((Instant::now(), event));
        self.changed.notify_all();
    }

    /// The first `count` events, when there are as many.
    fn wait(&self, count: usize) -> Vec<Event> {
        let events = self.events.lock().unwrap();
        let (events, waited) =
            self.changed.wait_timeout_while(events, PATIENCE, |events| events.len() < count).unwrap();
        assert!(!waited.timed_out(), "{count} events expected, there are {events:?}");
        events.iter().map(|(_, event)| event.clone()).collect()
    }

    fn wait_for(&self, wanted: &Event) -> Instant {
        let find =
            |events: &[(Instant, Event)]| events.iter().find(|(_, event)| event == wanted).map(|(at, _)| *at);
        let events = self.events.lock().unwrap();
        let (events, _) =
            self.changed.wait_timeout_while(events, PATIENCE, |events| find(events).is_none()).unwrap();
        find(&events).unwrap_or_else(|| panic!("{wanted:?} expected, there are {events:?}"))
    }
}

impl Outcomes for Recorder {
    fn answered(&self, ticket: u64, answer: Result<Answer, Failure>) {
        self.add(Event::Answered(ticket, answer));
    }
    fn telemetry_delivered(&self, seq: u64) {
        self.add(Event::Delivered(seq));
    }
    fn telemetry_forgotten(&self, seq: u64) {
        self.add(Event::Forgotten(seq));
    }
    fn telemetry_room(&self) {
        self.add(Event::Room);
    }
    fn result_delivered(&self, seq: u64) {
        self.add(Event::ResultDelivered(seq));
    }
}

// ---- an endpoint ---------------------------------------------------------------------------------------

struct Request {
    head: String,
    body: String,
}

impl Request {
    fn uid(&self) -> String {
        let start = self.body.find("\"UID\":\"").unwrap() + 7;
        self.body[start..].split('"').next().unwrap().to_owned()
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Writes the answer to a request; `false` ends the connection.
type Handler = dyn Fn(&Request, &mut dyn Write) -> std::io::Result<bool> + Send + Sync;

struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Server {
    fn start(
        handler: impl Fn(&Request, &mut dyn Write) -> std::io::Result<bool> + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(None, handler)
    }

    fn start_with(
        tls: Option<Arc<rustls::ServerConfig>>,
        handler: impl Fn(&Request, &mut dyn Write) -> std::io::Result<bool> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let server = Self { address, connections: connections.clone(), open: open.clone() };
        let handler: Arc<Handler> = Arc::new(handler);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                socket.set_nodelay(true).unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                open.fetch_add(1, Ordering::SeqCst);
                let (handler, open, tls) = (handler.clone(), open.clone(), tls.clone());
                std::thread::spawn(move || {
                    serve(socket, tls, &*handler);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }
}

fn serve(socket: TcpStream, tls: Option<Arc<rustls::ServerConfig>>, handler: &Handler) {
    let mut stream: Box<dyn Stream> = match tls {
        None => Box::new(socket),
        Some(config) => {
            let connection = rustls::ServerConnection::new(config).unwrap();
            Box::new(rustls::StreamOwned::new(connection, socket))
        }
    };
    while let Some(request) = read_request(&mut *stream) {
        if !handler(&request, &mut *stream).unwrap_or(false) {
            break;
        }
    }
}

fn read_request(stream: &mut dyn Stream) -> Option<Request> {
    // The client sends one request at a time, so nothing behind it is lost with the buffer.
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.to_ascii_lowercase().split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { head, body: String::from_utf8(body).unwrap() })
}

fn reply(stream: &mut dyn Write, status: &str, headers: &str, body: &str) -> std::io::Result<bool> {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes())?;
    Ok(true)
}

fn ok(stream: &mut dyn Write) -> std::io::Result<bool> {
    reply(stream, "200 OK", "", r#"{"Code":7,"Payload":[1,2],"Format":"BINARY"}"#)
}

/// Holds up whoever passes until it is opened.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        drop(self.changed.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
    }
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

/// Waits until something is so; for what no event tells.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

// ---- the pool ------------------------------------------------------------------------------------------

fn settings() -> Settings {
    Settings {
        request: None,
        telemetry: None,
        result: None,
        timeout: SECOND,
        max_body: 64 * 1024,
        ca_pem: None,
        auth_key: AuthKey(*b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef"),
    }
}

fn requests_to(server: &Server) -> Settings {
    Settings { request: Some(server.url()), ..settings() }
}

fn telemetry_to(server: &Server) -> Settings {
    Settings { telemetry: Some(server.url()), ..settings() }
}

fn start(settings: &Settings) -> (Pool, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    (Pool::start(settings, recorder.clone()).unwrap(), recorder)
}

fn uid(n: u64) -> Uid {
    Uid::parse(&format!("obj{n}")).unwrap()
}

fn request(pool: &Pool, object: u64, ticket: u64) {
    let deadline = Instant::now() + SECOND * 5;
    pool.request(uid(object), ticket, Format::Json, *b"{\"a\":1.0}", deadline).unwrap();
}

fn telemetry(pool: &Pool, object: u64, seq: u64) {
    pool.telemetry(uid(object), seq, Format::Ascii, *b"x").unwrap();
}

/// The failure of one request to an endpoint that answers like this, and how long it took.
fn failure_of(
    settings: impl Fn(&Server) -> Settings,
    handler: impl Fn(&Request, &mut dyn Write) -> std::io::Result<bool> + Send + Sync + 'static,
) -> (Failure, Duration, Server) {
    let server = Server::start(handler);
    let (pool, recorder) = start(&settings(&server));
    let begin = Instant::now();
    request(&pool, 1, 1);
    let events = recorder.wait(1);
    let Event::Answered(1, Err(failure)) = events[0] else { panic!("{events:?}") };
    (failure, begin.elapsed(), server)
}

/// B15: the answer of the central's webhook must reach the object, and the call must be the one specified.
#[test]
fn a_request_is_answered() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let server = Server::start(move |request, stream| {
        log.lock().unwrap().push((request.head.clone(), request.body.clone()));
        ok(stream)
    });
    let (pool, recorder) = start(&requests_to(&server));
    request(&pool, 1, 42);
    let answer = Answer { code: 7, format: Format::Binary, payload: vec![1, 2] };
    assert_eq!(recorder.wait(1), [Event::Answered(42, Ok(answer))]);
    let (head, body) = seen.lock().unwrap()[0].clone();
    assert_eq!(body, r#"{"UID":"obj1","Payload":{"a":1.0},"Format":"JSON"}"#);
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /hook http/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: bearer 0123456789abcdef0123456789abcdef\r\n"), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    eventually("the counter", || pool.counters().request.jobs.delivered == 1);
}

#[test]
fn a_host_may_have_a_name_and_several_addresses() {
    let server = Server::start(|_, stream| ok(stream));
    let url = format!("http://localhost:{}/hook", server.address.port());
    let (pool, recorder) = start(&Settings { telemetry: Some(url), ..settings() });
    telemetry(&pool, 1, 1);
    telemetry_after(&recorder, 1);
}

#[test]
fn telemetry_keeps_its_order_and_its_connection() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let server = Server::start(move |request, stream| {
        log.lock().unwrap().push(request.body.clone());
        reply(stream, "204 No Content", "", "")
    });
    let (pool, recorder) = start(&telemetry_to(&server));
    for seq in 0..30 {
        pool.telemetry(uid(1), seq, Format::Binary, vec![u8::try_from(seq).unwrap()]).unwrap();
    }
    assert_eq!(recorder.wait(30), (0..30).map(Event::Delivered).collect::<Vec<_>>());
    let expected: Vec<_> =
        (0..30).map(|n| format!(r#"{{"UID":"obj1","Payload":[{n}],"Format":"BINARY"}}"#)).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn an_endpoint_may_close_after_each_answer() {
    for head in [
        "HTTP/1.0 200 OK\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nConnection: close",
        "HTTP/1.0 200 OK",
    ] {
        let server = Server::start(move |_, stream| {
            write!(stream, "{head}\r\n\r\nok")?;
            Ok(false)
        });
        let (pool, recorder) = start(&telemetry_to(&server));
        for seq in 0..30 {
            telemetry(&pool, 1, seq);
        }
        recorder.wait(30);
        assert_eq!(pool.counters().telemetry.jobs.failed, 0, "{head}");
    }
}

#[test]
fn a_payload_that_is_not_its_format_goes_as_binary_and_is_counted() {
    let server = Server::start(|request, stream| {
        let is_binary = request.body.ends_with(r#""Payload":[123],"Format":"BINARY"}"#);
        reply(stream, if is_binary { "200 OK" } else { "400 Bad Request" }, "", "")
    });
    let (pool, recorder) = start(&telemetry_to(&server));
    pool.telemetry(uid(1), 1, Format::Json, *b"{").unwrap();
    telemetry_after(&recorder, 1);
    eventually("the counter", || pool.counters().telemetry.sent_as_binary == 1);
}

fn telemetry_after(recorder: &Recorder, seq: u64) -> Instant {
    recorder.wait_for(&Event::Delivered(seq))
}

#[test]
fn results_carry_their_id_and_code() {
    let seen = Arc::new(Mutex::new(String::new()));
    let log = seen.clone();
    let server = Server::start(move |request, stream| {
        *log.lock().unwrap() = request.body.clone();
        ok(stream)
    });
    let (pool, recorder) = start(&Settings { result: Some(server.url()), ..settings() });
    pool.result(uid(1), 9, "0193", 160, Format::Utf8, "é".as_bytes()).unwrap();
    assert_eq!(recorder.wait(1), [Event::ResultDelivered(9)]);
    let expected = r#"{"UID":"obj1","Id":"0193","Code":160,"Payload":"é","Format":"UTF8"}"#;
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn an_object_has_one_call_in_flight() {
    let flying: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let most = Arc::new(AtomicUsize::new(0));
    let all = Arc::new(AtomicUsize::new(0));
    let (flying_in, most_in, all_in) = (flying, most.clone(), all.clone());
    let server = Server::start(move |request, stream| {
        let count = {
            let mut flying = flying_in.lock().unwrap();
            *flying.entry(request.uid()).or_default() += 1;
            all_in.fetch_max(flying.values().sum(), Ordering::SeqCst);
            flying[&request.uid()]
        };
        most_in.fetch_max(count, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        *flying_in.lock().unwrap().get_mut(&request.uid()).unwrap() -= 1;
        ok(stream)
    });
    let (pool, recorder) = start(&requests_to(&server));
    for ticket in 0..60 {
        request(&pool, ticket % 6, ticket);
    }
    let events = recorder.wait(60);
    assert_eq!(most.load(Ordering::SeqCst), 1, "calls of one object overlap");
    assert_eq!(all.load(Ordering::SeqCst), 4, "a quarter of the threads for one webhook");
    for object in 0..6 {
        let order: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Answered(ticket, Ok(_)) if ticket % 6 == object => Some(*ticket),
                _ => None,
            })
            .collect();
        assert_eq!(order, (0..10).map(|n| object + 6 * n).collect::<Vec<_>>());
    }
}

/// B16: a webhook that swallows everything must not hold up the caller, nor the other webhooks.
#[test]
fn one_that_hangs_delays_only_itself() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let hangs = Server::start(move |_, _| {
        held.pass();
        Ok(false)
    });
    let works = Server::start(|_, stream| ok(stream));
    let settings = Settings {
        request: Some(hangs.url()),
        telemetry: Some(works.url()),
        timeout: SECOND * 10,
        ..settings()
    };
    let (pool, recorder) = start(&settings);
    let begin = Instant::now();
    for ticket in 0..50 {
        request(&pool, ticket, ticket);
    }
    eventually("its share is in flight", || hangs.open.load(Ordering::SeqCst) == 4);
    for seq in 0..50 {
        telemetry(&pool, seq, seq);
    }
    let events = recorder.wait(50);
    assert!(events.iter().all(|event| matches!(event, Event::Delivered(_))), "{events:?}");
    assert!(begin.elapsed() < SECOND * 4, "telemetry waited for the webhook that hangs");
    gate.open();
}

/// B15: without a timeout each call leaked a descriptor.
#[test]
fn one_that_hangs_costs_no_connection_for_long() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let (failure, took, server) = failure_of(requests_to, move |_, _| {
        held.pass();
        Ok(true)
    });
    assert_eq!(failure, Failure::Timeout);
    assert!(took >= SECOND && took < SECOND * 4, "{took:?}");
    gate.open();
    eventually("the connection is closed", || server.open.load(Ordering::SeqCst) == 0);
}

#[test]
fn a_deadline_shorter_than_the_timeout_holds() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let server = Server::start(move |_, _| {
        held.pass();
        Ok(false)
    });
    let (pool, recorder) = start(&Settings { timeout: SECOND * 10, ..requests_to(&server) });
    let begin = Instant::now();
    let deadline = begin + SECOND / 2;
    for ticket in 0..2 {
        pool.request(uid(1), ticket, Format::Binary, *b"", deadline).unwrap();
    }
    let mut events = recorder.wait(2);
    events.sort_by_key(|event| matches!(event, Event::Answered(1, _)));
    let timed_out = Event::Answered(0, Err(Failure::Timeout));
    assert_eq!(events, [timed_out, Event::Answered(1, Err(Failure::Expired))]);
    assert!(begin.elapsed() < SECOND * 4, "{:?}", begin.elapsed());
    gate.open();
}

#[test]
fn a_request_expires_in_time_behind_one_that_hangs() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let server = Server::start(move |_, _| {
        held.pass();
        Ok(false)
    });
    let (pool, recorder) = start(&Settings { timeout: SECOND * 60, ..requests_to(&server) });
    let begin = Instant::now();
    pool.request(uid(1), 1, Format::Binary, *b"", begin + SECOND * 60).unwrap();
    eventually("it hangs", || server.open.load(Ordering::SeqCst) == 1);
    pool.request(uid(1), 2, Format::Binary, *b"", begin + SECOND).unwrap();
    pool.request(uid(1), 3, Format::Binary, *b"", begin + SECOND / 2).unwrap();
    assert_eq!(
        recorder.wait(2),
        [Event::Answered(3, Err(Failure::Expired)), Event::Answered(2, Err(Failure::Expired))]
    );
    gate.open();
}

#[test]
fn a_redirect_is_a_failure_and_is_not_followed() {
    let followed = Arc::new(AtomicUsize::new(0));
    let count = followed.clone();
    let target = Server::start(move |_, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        ok(stream)
    });
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: {}\r\n", target.url());
        let (failure, ..) = failure_of(requests_to, move |_, stream| {
            reply(stream, &format!("{status} Elsewhere"), &location, "")
        });
        assert_eq!(failure, Failure::Redirect(status));
    }
    assert_eq!(followed.load(Ordering::SeqCst), 0);
}

#[test]
fn garbage_is_no_answer() {
    let (failure, ..) = failure_of(requests_to, |_, stream| reply(stream, "200 OK", "", "hello"));
    assert_eq!(failure, Failure::Garbage);
    let (failure, ..) = failure_of(requests_to, |_, stream| reply(stream, "404 Not Found", "", "{}"));
    assert_eq!(failure, Failure::Status(404));
    let (failure, ..) = failure_of(requests_to, |_, stream| {
        stream.write_all(b"220 mail.example ESMTP\r\n\r\n")?;
        Ok(false)
    });
    assert_eq!(failure, Failure::Protocol);
    let (failure, ..) = failure_of(requests_to, |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")?;
        Ok(false)
    });
    assert_eq!(failure, Failure::Disconnected);
    let (failure, ..) = failure_of(requests_to, |_, _| Ok(false));
    assert_eq!(failure, Failure::Disconnected);
}

#[test]
fn an_endless_head_is_cut() {
    let (failure, ..) = failure_of(requests_to, |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        loop {
            stream.write_all(b"X-Padding: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n")?;
        }
    });
    assert_eq!(failure, Failure::Protocol);
}

#[test]
fn a_gigabyte_is_not_read() {
    for head in ["Content-Length: 1000000000", "Transfer-Encoding: chunked", "Connection: close"] {
        let written = Arc::new(AtomicUsize::new(0));
        let count = written.clone();
        let (failure, _, server) = failure_of(requests_to, move |_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n")?;
            let chunk = [b' '; 4096];
            loop {
                if head.contains("chunked") {
                    stream.write_all(b"1000\r\n")?;
                }
                stream.write_all(&chunk)?;
                if head.contains("chunked") {
                    stream.write_all(b"\r\n")?;
                }
                count.fetch_add(chunk.len(), Ordering::SeqCst);
            }
        });
        assert_eq!(failure, Failure::TooLarge, "{head}");
        eventually("the connection is dropped", || server.open.load(Ordering::SeqCst) == 0);
        // What the sockets' buffers take, but not the gigabyte.
        assert!(written.load(Ordering::SeqCst) < 50_000_000, "{head}: {written:?} bytes");
    }
}

#[test]
fn a_body_that_trickles_ends_with_the_timeout() {
    for (head, piece) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", " "),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"),
        ("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 1000\r\n\r\n", " "),
    ] {
        let (failure, took, server) = failure_of(requests_to, move |_, stream| {
            stream.write_all(head.as_bytes())?;
            loop {
                stream.write_all(piece.as_bytes())?;
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let expected = if head.contains("500") { Failure::Status(500) } else { Failure::Timeout };
        assert_eq!(failure, expected, "{head}");
        assert!(took < SECOND * 4, "{head}: {took:?}");
        eventually("the connection is dropped", || server.open.load(Ordering::SeqCst) == 0);
    }
}

#[test]
fn telemetry_waits_for_a_failing_webhook_and_keeps_its_order() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let server = Server::start(move |request, stream| {
        let mut log = log.lock().unwrap();
        log.push(request.body.clone());
        if log.len() == 1 { reply(stream, "500 Oops", "", "later") } else { ok(stream) }
    });
    let (pool, recorder) = start(&telemetry_to(&server));
    for seq in 0..3 {
        pool.telemetry(uid(1), seq, Format::Binary, vec![u8::try_from(seq).unwrap()]).unwrap();
    }
    assert_eq!(recorder.wait(3), [Event::Delivered(0), Event::Delivered(1), Event::Delivered(2)]);
    let seen = seen.lock().unwrap();
    let payloads: Vec<_> =
        seen.iter().map(|body| &body[body.find('[').unwrap()..=body.find(']').unwrap()]).collect();
    assert_eq!(payloads, ["[0]", "[0]", "[1]", "[2]"]);
    eventually("the counters", || {
        let counters = pool.counters().telemetry;
        (counters.causes.status, counters.jobs.failed, counters.jobs.delivered) == (1, 1, 3)
    });
}

#[test]
fn retry_after_is_honoured() {
    let first = Arc::new(Mutex::new(None));
    let asked = first.clone();
    let server = Server::start(move |_, stream| {
        let is_first = asked.lock().unwrap().replace(Instant::now()).is_none();
        if is_first { reply(stream, "503 Busy", "Retry-After: 3\r\n", "") } else { ok(stream) }
    });
    let (pool, recorder) = start(&telemetry_to(&server));
    let begin = Instant::now();
    telemetry(&pool, 1, 1);
    let delivered = telemetry_after(&recorder, 1);
    assert!(delivered - begin >= SECOND * 3, "{:?}", delivered - begin);
    assert!(delivered - begin < SECOND * 10, "{:?}", delivered - begin);
}

#[test]
fn no_connection_is_a_failure_that_shuts_the_webhook_for_requests() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (pool, recorder) = start(&Settings { request: Some(format!("http://{address}/")), ..settings() });
    for ticket in 0..3 {
        request(&pool, 1, ticket);
        recorder.wait_for(&Event::Answered(ticket, Err(Failure::Connect)));
    }
    eventually("the breaker", || pool.counters().request.is_failing);
    let refused = pool.request(uid(1), 4, Format::Ascii, *b"", Instant::now() + SECOND);
    assert_eq!(refused, Err(Refused::Shut));
}

#[test]
fn what_was_cleared_is_not_sent() {
    for status in ["200 OK", "500 Oops"] {
        let gate = Arc::new(Gate::default());
        let seen = Arc::new(AtomicUsize::new(0));
        let (held, count) = (gate.clone(), seen.clone());
        let server = Server::start(move |_, stream| {
            count.fetch_add(1, Ordering::SeqCst);
            held.pass();
            reply(stream, status, "", "")
        });
        let (pool, recorder) = start(&Settings { timeout: SECOND * 10, ..telemetry_to(&server) });
        for seq in 0..5 {
            telemetry(&pool, 1, seq);
        }
        eventually("one is in flight", || seen.load(Ordering::SeqCst) == 1);
        pool.clear_telemetry();
        gate.open();
        let expected = if status == "200 OK" { Event::Delivered(0) } else { Event::Forgotten(0) };
        assert_eq!(recorder.wait(1), [expected]);
        telemetry(&pool, 2, 9);
        eventually("a later one is sent", || seen.load(Ordering::SeqCst) >= 2);
        assert!(pool.stop(SECOND * 5));
        assert_eq!(seen.load(Ordering::SeqCst), 2, "what was cleared was sent");
    }
}

#[test]
fn telemetry_is_bounded_and_room_is_told() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let server = Server::start(move |_, stream| {
        held.pass();
        ok(stream)
    });
    let (pool, recorder) = start(&Settings { timeout: SECOND * 10, ..telemetry_to(&server) });
    let room = pool.room();
    assert!(room > 0);
    let mut taken = 0;
    while pool.telemetry(uid(taken % 50), taken, Format::Binary, vec![0; 65_535]).is_ok() {
        taken += 1;
        assert!(taken < 10_000, "unbounded");
    }
    assert_eq!(taken, room as u64, "room counts messages of any size");
    assert_eq!((pool.room(), pool.counters().telemetry.jobs.refused), (0, 1));
    gate.open();
    recorder.wait_for(&Event::Room);
    assert!(pool.room() > 0);
}

#[test]
fn without_a_url_there_is_no_webhook() {
    let server = Server::start(|_, stream| ok(stream));
    let (pool, recorder) = start(&settings());
    assert_eq!(pool.telemetry(uid(1), 1, Format::Ascii, *b"x"), Err(Refused::NotConfigured));
    assert_eq!(pool.room(), 0);
    pool.reconfigure(&telemetry_to(&server)).unwrap();
    telemetry(&pool, 1, 1);
    telemetry_after(&recorder, 1);
    let broken = Settings { telemetry: Some("nonsense".to_owned()), ..settings() };
    assert!(matches!(pool.reconfigure(&broken), Err(SettingsError::Url(_))));
    telemetry(&pool, 1, 2);
    telemetry_after(&recorder, 2);
}

#[test]
fn stopping_cuts_off_what_hangs_and_answers_what_waits() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let server = Server::start(move |_, _| {
        held.pass();
        Ok(false)
    });
    let (pool, recorder) = start(&Settings { timeout: SECOND * 60, ..requests_to(&server) });
    for ticket in 0..6 {
        pool.request(uid(ticket), ticket, Format::Ascii, *b"", Instant::now() + SECOND * 60).unwrap();
    }
    eventually("its share is in flight", || server.open.load(Ordering::SeqCst) == 4);
    let begin = Instant::now();
    assert!(pool.stop(SECOND * 5));
    assert!(begin.elapsed() < SECOND * 4, "{:?}", begin.elapsed());
    let events = recorder.wait(6);
    let gone = events.iter().filter(|event| matches!(event, Event::Answered(_, Err(Failure::Gone)))).count();
    assert_eq!((events.len(), gone), (6, 2), "{events:?}");
    assert_eq!(pool.telemetry(uid(1), 1, Format::Ascii, *b""), Err(Refused::Stopping));
    gate.open();
}

// ---- HTTPS ---------------------------------------------------------------------------------------------

struct Authority {
    pem: Vec<u8>,
    server: Arc<rustls::ServerConfig>,
}

/// A certificate authority of its own, and a server certificate for these names.
fn authority(names: &[&str]) -> Authority {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem().into_bytes();
    let issuer = rcgen::Issuer::new(params, key);
    let server_key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&server_key, &issuer).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    Authority { pem, server: Arc::new(server) }
}

fn https(server: &Server, ca_pem: &[u8]) -> Settings {
    let url = format!("https://{}/hook", server.address);
    Settings { request: Some(url), ca_pem: Some(ca_pem.to_vec()), timeout: SECOND * 5, ..settings() }
}

/// Also shows that the threads' stacks suffice for a handshake without optimisation.
#[test]
fn https_with_the_configured_authority() {
    let authority = authority(&["127.0.0.1"]);
    let server = Server::start_with(Some(authority.server), |_, stream| ok(stream));
    let (pool, recorder) = start(&https(&server, &authority.pem));
    for ticket in 0..20 {
        request(&pool, 1, ticket);
    }
    let events = recorder.wait(20);
    assert!(events.iter().all(|event| matches!(event, Event::Answered(_, Ok(_)))), "{events:?}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1, "one handshake for all");
}

/// B16: without verification whoever is in between reads the central's key.
#[test]
fn a_certificate_that_is_not_trusted_gets_no_key() {
    let (right, other) = (authority(&["127.0.0.1"]), authority(&["127.0.0.1"]));
    let wrong_name = authority(&["central.example"]);
    for (config, ca) in [
        (other.server.clone(), Some(&right.pem)),
        (wrong_name.server, Some(&wrong_name.pem)),
        // The system's authorities do not know this one.
        (other.server, None),
    ] {
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        let server = Server::start_with(Some(config), move |_, stream| {
            count.fetch_add(1, Ordering::SeqCst);
            ok(stream)
        });
        let (pool, recorder) = start(&Settings { ca_pem: ca.cloned(), ..https(&server, b"") });
        request(&pool, 1, 1);
        assert_eq!(recorder.wait(1), [Event::Answered(1, Err(Failure::Tls))]);
        assert_eq!(requests.load(Ordering::SeqCst), 0);
        eventually("the counter", || pool.counters().request.causes.tls == 1);
    }
}

/// Plain HTTP where TLS is configured, and TLS that trickles.
#[test]
fn a_handshake_that_does_not_end_is_a_failure() {
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = plain.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in plain.incoming().map_while(Result::ok) {
            // A record head that promises much, then a byte now and then.
            let _ = socket.write_all(b"\x16\x03\x03\x3f\xff");
            while socket.write_all(b"\x02").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    });
    let ca = authority(&["127.0.0.1"]).pem;
    let url = format!("https://{address}/");
    let (pool, recorder) = start(&Settings { request: Some(url), ca_pem: Some(ca), ..settings() });
    let begin = Instant::now();
    request(&pool, 1, 1);
    let events = recorder.wait(1);
    assert!(matches!(events[0], Event::Answered(1, Err(_))), "{events:?}");
    assert!(begin.elapsed() < SECOND * 4, "{:?}", begin.elapsed());
}
