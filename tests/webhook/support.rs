//! What the pool tells, an endpoint that behaves as a test says, and the pool.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use iotsocketd::endpoint::webhook::{Answer, Failure, Outcomes, Pool, Settings};
use iotsocketd::wire::{AuthKey, Format, Uid};

pub const SECOND: Duration = Duration::from_secs(1);
/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

// ---- what the pool tells -------------------------------------------------------------------------------

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Answered(u64, Result<Answer, Failure>),
    Delivered(u64),
    Forgotten(u64),
    Room,
    ResultDelivered(u64),
}

#[derive(Default)]
pub struct Recorder {
    pub events: Mutex<Vec<(Instant, Event)>>,
    pub changed: Condvar,
}

impl Recorder {
    fn add(&self, event: Event) {
        self.events.lock().unwrap().push((Instant::now(), event));
        self.changed.notify_all();
    }

    /// The first `count` events, when there are as many.
    pub fn wait(&self, count: usize) -> Vec<Event> {
        let events = self.events.lock().unwrap();
        let (events, waited) =
            self.changed.wait_timeout_while(events, PATIENCE, |events| events.len() < count).unwrap();
        assert!(!waited.timed_out(), "{count} events expected, there are {events:?}");
        events.iter().map(|(_, event)| event.clone()).collect()
    }

    pub fn wait_for(&self, wanted: &Event) -> Instant {
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

pub struct Request {
    pub head: String,
    pub body: String,
}

impl Request {
    pub fn uid(&self) -> String {
        let start = self.body.find("\"UID\":\"").unwrap() + 7;
        self.body[start..].split('"').next().unwrap().to_owned()
    }
}

pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Writes the answer to a request; `false` ends the connection.
pub type Handler = dyn Fn(&Request, &mut dyn Write) -> std::io::Result<bool> + Send + Sync;

pub struct Server {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    pub open: Arc<AtomicUsize>,
}

impl Server {
    pub fn start(
        handler: impl Fn(&Request, &mut dyn Write) -> std::io::Result<bool> + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(None, handler)
    }

    pub fn start_with(
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

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }
}

pub fn serve(socket: TcpStream, tls: Option<Arc<rustls::ServerConfig>>, handler: &Handler) {
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

pub fn read_request(stream: &mut dyn Stream) -> Option<Request> {
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

pub fn reply(stream: &mut dyn Write, status: &str, headers: &str, body: &str) -> std::io::Result<bool> {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes())?;
    Ok(true)
}

pub fn ok(stream: &mut dyn Write) -> std::io::Result<bool> {
    reply(stream, "200 OK", "", r#"{"Code":7,"Payload":[1,2],"Format":"BINARY"}"#)
}

/// Holds up whoever passes until it is opened.
#[derive(Default)]
pub struct Gate {
    pub is_open: Mutex<bool>,
    pub changed: Condvar,
}

impl Gate {
    pub fn pass(&self) {
        drop(self.changed.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
    }
    pub fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

/// Waits until something is so; for what no event tells.
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

// ---- the pool ------------------------------------------------------------------------------------------

pub fn settings() -> Settings {
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

pub fn requests_to(server: &Server) -> Settings {
    Settings { request: Some(server.url()), ..settings() }
}

pub fn telemetry_to(server: &Server) -> Settings {
    Settings { telemetry: Some(server.url()), ..settings() }
}

pub fn start(settings: &Settings) -> (Pool, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    (Pool::start(settings, recorder.clone()).unwrap(), recorder)
}

pub fn uid(n: u64) -> Uid {
    Uid::parse(&format!("obj{n}")).unwrap()
}

pub fn request(pool: &Pool, object: u64, ticket: u64) {
    let deadline = Instant::now() + SECOND * 5;
    pool.request(uid(object), ticket, Format::Json, *b"{\"a\":1.0}", deadline).unwrap();
}

pub fn telemetry(pool: &Pool, object: u64, seq: u64) {
    pool.telemetry(uid(object), seq, Format::Ascii, *b"x").unwrap();
}

/// The failure of one request to an endpoint that answers like this, and how long it took.
pub fn failure_of(
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

pub fn telemetry_after(recorder: &Recorder, seq: u64) -> Instant {
    recorder.wait_for(&Event::Delivered(seq))
}
