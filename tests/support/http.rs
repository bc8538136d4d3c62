//! A plain HTTPS client, one connection, one call after the other.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use iotsocketd::hub::access_file::key_to_hex;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::{PATIENCE, Site};

/// A connection to the API.
pub struct Http {
    /// Sent with each call.
    pub header: Option<(String, String)>,
    stream: StreamOwned<ClientConnection, TcpStream>,
    /// What is shown as the bearer; `None`: nothing.
    pub bearer: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

impl Http {
    /// Connects, from an address if given.
    pub fn connect(site: &Site, local: Option<IpAddr>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(site.api()), Type::STREAM, None)?;
        if let Some(local) = local {
            socket.bind(&SocketAddr::new(local, 0).into())?;
        }
        socket.connect(&site.api().into())?;
        Self::start(socket.into(), site.roots(), Some(key_to_hex(&site.central_key())))
    }

    /// Connects to this address.
    pub fn open(address: SocketAddr, roots: RootCertStore, bearer: Option<String>) -> io::Result<Self> {
        Self::start(TcpStream::connect(address)?, roots, bearer)
    }

    fn start(socket: TcpStream, roots: RootCertStore, bearer: Option<String>) -> io::Result<Self> {
        socket.set_read_timeout(Some(2 * PATIENCE))?;
        socket.set_nodelay(true)?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(tls, socket);
        stream.flush()?;
        Ok(Self { header: None, stream, bearer })
    }

    /// Whether the other side closed it since the last answer: between calls nothing else comes.
    pub fn is_closed(&self) -> bool {
        self.stream.sock.set_nonblocking(true).unwrap();
        let closed = self.stream.sock.peek(&mut [0]).is_ok();
        self.stream.sock.set_nonblocking(false).unwrap();
        closed
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> Reply {
        self.try_call("POST", path, body).unwrap()
    }

    pub fn get(&mut self, path: &str) -> Reply {
        self.try_call("GET", path, b"").unwrap()
    }

    pub fn try_call(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Reply> {
        self.send(method, path, body)?;
        self.read()
    }

    /// Posts with these headers, the body's type among them.
    pub fn post_with(&mut self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Reply> {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let call = format!("{headers}Content-Length: {}\r\n", body.len());
        self.send_part("POST", path, &call, body)?;
        self.read()
    }

    /// Sends a call whose answer is read later.
    pub fn send(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<()> {
        let headers = match method {
            "POST" => format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()),
            _ => String::new(),
        };
        self.send_part(method, path, &headers, body)
    }

    /// Sends a call with these lines in its head, and of its body what there is.
    pub fn send_part(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<()> {
        let mut call = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        if let Some(bearer) = &self.bearer {
            call += &format!("Authorization: Bearer {bearer}\r\n");
        }
        if let Some((name, value)) = &self.header {
            call += &format!("{name}: {value}\r\n");
        }
        call += headers;
        let mut bytes = (call + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        self.stream.write_all(&bytes)?;
        self.stream.flush()
    }

    /// Whatever comes next.
    pub fn read_some(&mut self) -> Vec<u8> {
        let mut chunk = vec![0; 8192];
        let len = self.stream.read(&mut chunk).unwrap();
        chunk.truncate(len);
        chunk
    }

    /// Reads one answer.
    pub fn read(&mut self) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
                let length: usize = length.map_or(0, |text| text.trim().parse().unwrap());
                if bytes.len() >= end + 4 + length {
                    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                    return Ok(Reply { status, head, body: bytes[end + 4..end + 4 + length].to_vec() });
                }
            }
            let mut chunk = [0; 8192];
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => bytes.extend_from_slice(&chunk[..len]),
            }
        }
    }
}
