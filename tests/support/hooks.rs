//! The central's webhooks: a small HTTP server that records what comes, and misbehaves as told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::PATIENCE;

/// A call of the concentrator.
#[derive(Debug, Clone)]
pub struct Hook {
    pub path: String,
    /// The whole head.
    pub head: String,
    /// The body as it came.
    pub text: String,
    pub body: Value,
}

/// What the server does with a call.
pub enum Act {
    /// Answers with a status and a body.
    Answer(u16, String),
    /// Says these bytes, whatever they are, and closes.
    Say(Vec<u8>),
    /// Says nothing, for ever.
    Hang,
    /// Says these bytes, then one more now and then, for ever.
    Drip(&'static [u8]),
    /// Says that a gigabyte comes, and sends it until the other side has enough.
    Gigabyte,
}

impl Act {
    /// An answer of the central to an object.
    pub fn respond(code: u8, payload: Value, format: &str) -> Self {
        Self::Answer(200, json!({"Code": code, "Payload": payload, "Format": format}).to_string())
    }
}

/// The server. It lives as long as the tests do.
pub struct Hooks {
    pub address: SocketAddr,
    seen: Arc<(Mutex<Vec<Hook>>, Condvar)>,
}

impl Hooks {
    /// A server on a port of its own.
    pub fn start(act: impl Fn(&Hook) -> Act + Send + Sync + 'static) -> Self {
        Self::start_with(None, act)
    }

    /// One that records nothing, for as long as anybody likes.
    pub fn forgetful(act: impl Fn(&Hook) -> Act + Send + Sync + 'static) -> Self {
        Self::listen(None, false, act)
    }

    /// A server on a port of its own, with TLS.
    pub fn start_with(
        tls: Option<Arc<ServerConfig>>,
        act: impl Fn(&Hook) -> Act + Send + Sync + 'static,
    ) -> Self {
        Self::listen(tls, true, act)
    }

    fn listen(
        tls: Option<Arc<ServerConfig>>,
        is_kept: bool,
        act: impl Fn(&Hook) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<(Mutex<Vec<Hook>>, Condvar)> = Arc::default();
        let (shared, act) = (Arc::clone(&seen), Arc::new(act));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (shared, act, tls) = (Arc::clone(&shared), Arc::clone(&act), tls.clone());
                let socket = socket.unwrap();
                std::thread::spawn(move || match tls.map(|tls| ServerConnection::new(tls).unwrap()) {
                    Some(tls) => serve(StreamOwned::new(tls, socket), is_kept.then_some(&*shared), &*act),
                    None => serve(socket, is_kept.then_some(&*shared), &*act),
                });
            }
        });
        Self { address, seen }
    }

    /// The URL of a path, as a TOML string.
    pub fn url(&self, path: &str) -> String {
        format!("\"http://{}{path}\"", self.address)
    }

    /// All calls so far.
    pub fn seen(&self) -> Vec<Hook> {
        self.seen.0.lock().unwrap().clone()
    }

    /// Waits for so many calls.
    pub fn wait(&self, count: usize) -> Vec<Hook> {
        let (seen, changed) = &*self.seen;
        let waited =
            changed.wait_timeout_while(seen.lock().unwrap(), PATIENCE, |seen| seen.len() < count).unwrap();
        assert!(!waited.1.timed_out(), "{} calls instead of {count}", waited.0.len());
        waited.0.clone()
    }
}

fn serve(
    mut socket: impl Read + Write,
    seen: Option<&(Mutex<Vec<Hook>>, Condvar)>,
    act: &(dyn Fn(&Hook) -> Act + Send + Sync),
) {
    while let Some(hook) = read_call(&mut socket) {
        let what = act(&hook);
        if let Some((seen, changed)) = seen {
            seen.lock().unwrap().push(hook);
            changed.notify_all();
        }
        let said = match what {
            Act::Answer(status, body) => {
                let head = format!(
                    "HTTP/1.1 {status} Word\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                socket.write_all((head + &body).as_bytes())
            }
            Act::Say(bytes) => {
                let _may_be_gone = socket.write_all(&bytes);
                return;
            }
            Act::Hang => {
                let _until_it_gives_up = socket.read(&mut [0]);
                return;
            }
            Act::Drip(first) => {
                let mut said = socket.write_all(first);
                while said.is_ok() {
                    std::thread::sleep(Duration::from_millis(50));
                    said = socket.write_all(b" ").and_then(|()| socket.flush());
                }
                said
            }
            Act::Gigabyte => gigabyte(&mut socket),
        };
        if said.is_err() {
            return;
        }
    }
}

fn gigabyte(socket: &mut impl Write) -> std::io::Result<()> {
    let start = Instant::now();
    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")?;
    while start.elapsed() < Duration::from_secs(20) {
        socket.write_all(&[b' '; 65536])?;
    }
    Ok(())
}

fn read_call(socket: &mut impl Read) -> Option<Hook> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let lower = head.to_lowercase();
            let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let length: usize = length.map_or(0, |text| text.trim().parse().unwrap());
            if bytes.len() >= end + 4 + length {
                let path = head.split(' ').nth(1).unwrap().to_owned();
                let text = String::from_utf8_lossy(&bytes[end + 4..end + 4 + length]).into_owned();
                let body = serde_json::from_str(&text).unwrap_or(Value::Null);
                return Some(Hook { path, head, text, body });
            }
        }
        let mut chunk = [0; 8192];
        match socket.read(&mut chunk) {
            Ok(len) if len > 0 => bytes.extend_from_slice(&chunk[..len]),
            _ => return None,
        }
    }
}
