//! A place on the network that takes files by PUT and gives them back, over TLS; it misbehaves as told.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It refuses what is put.
    Refuses,
    /// It takes what is put, and gives nothing back.
    Hides,
    /// One byte of what it gives is another one.
    Changes,
    /// It gives less than it was given.
    Shortens,
    /// It sends whoever comes elsewhere.
    Redirects,
}

/// The place. It lives as long as the tests do.
pub struct Shelf {
    pub address: SocketAddr,
    pub fault: Arc<Mutex<Fault>>,
    /// What it was given, by path.
    pub files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Shelf {
    /// One that shows the certificate in this folder.
    pub fn start(tls: &Path) -> Self {
        let chain = vec![CertificateDer::from_pem_file(tls.join("server.crt")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(tls.join("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = Arc::new(config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shelf = Self { address, fault: Arc::new(Mutex::new(Fault::None)), files: Arc::default() };
        let (fault, files) = (Arc::clone(&shelf.fault), Arc::clone(&shelf.files));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                // Who does not trust it goes away in the middle.
                let _gone = serve(StreamOwned::new(connection, socket), &fault, &files);
            }
        });
        shelf
    }
}

fn serve(
    stream: StreamOwned<ServerConnection, TcpStream>,
    fault: &Mutex<Fault>,
    files: &Mutex<BTreeMap<String, Vec<u8>>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut len) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                len = value.trim().parse().unwrap();
            }
            assert!(!line.to_lowercase().starts_with("transfer-encoding"), "the length is known");
            if line == "\r\n" {
                break;
            }
            if first.is_empty() {
                first = line;
            }
        }
        let mut body = vec![0; len];
        stream.read_exact(&mut body)?;
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
        let (status, body) = match (method, *fault.lock().unwrap()) {
            (_, Fault::Redirects) => (307, Vec::new()),
            ("PUT", Fault::Refuses) | ("GET", Fault::Hides) => (403, Vec::new()),
            ("PUT", _) => {
                files.lock().unwrap().insert(path, body);
                (201, Vec::new())
            }
            (_, fault) => {
                let mut body = files.lock().unwrap().get(&path).cloned().unwrap_or_default();
                let middle = body.len() / 2;
                match fault {
                    Fault::Changes => body[middle] ^= 1,
                    Fault::Shortens => body.truncate(middle),
                    _ => {}
                }
                (200, body)
            }
        };
        let head = format!("HTTP/1.1 {status} Word\r\nLocation: /\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.get_mut().write_all(&[head.as_bytes(), &body].concat())?;
        stream.get_mut().flush()?;
    }
}
