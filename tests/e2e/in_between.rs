//! Whoever sits between a device and the concentrator, or begins TLS in a way of his own.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use iotsocketd::wire::{CHALLENGE_LABEL, CHALLENGE_LEN};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};

use crate::support::{PATIENCE, Site, authority, eventually};

const INITIATION: [u8; 4] = [0x81, 0, 0, 0];
const HANDSHAKE: u8 = 0x16;
const ALERT: u8 = 0x15;

/// TLS as devices speak it, in one version.
fn config(roots: RootCertStore, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost").unwrap()).unwrap()
}

fn connect(to: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A connection to the port for sessions, before TLS.
fn initiated(to: SocketAddr) -> TcpStream {
    let mut socket = connect(to);
    socket.write_all(&INITIATION).unwrap();
    socket.read_exact(&mut [0; 2]).unwrap();
    socket
}

/// What a device met when it began to log in.
struct Met {
    challenge: [u8; CHALLENGE_LEN],
    /// What its own end of the TLS session exports.
    exported: [u8; CHALLENGE_LEN],
    resumed: bool,
}

fn begin(to: SocketAddr, config: &Arc<ClientConfig>) -> Met {
    let mut tls = StreamOwned::new(client(config), initiated(to));
    let mut challenge = [0; CHALLENGE_LEN];
    tls.read_exact(&mut challenge).unwrap();
    let exported = tls.conn.export_keying_material([0; CHALLENGE_LEN], CHALLENGE_LABEL, None).unwrap();
    Met { challenge, exported, resumed: tls.conn.handshake_kind() == Some(HandshakeKind::Resumed) }
}

/// A first flight of TLS 1.2 with nothing that is optional but extended master secret, if wanted.
fn hello(version: u16, has_extended_master_secret: bool) -> Vec<u8> {
    let mut extensions = vec![
        0, 0x0A, 0, 4, 0, 2, 0, 0x1D, // the group x25519
        0, 0x0B, 0, 2, 1, 0, // points as they are
        0, 0x0D, 0, 6, 0, 4, 4, 3, 8, 4, // ECDSA with P-256, RSA-PSS
    ];
    if has_extended_master_secret {
        extensions.extend([0, 0x17, 0, 0]);
    }
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    // No session; ECDHE with AES-128-GCM for both kinds of certificate; no compression.
    body.extend([0, 0, 4, 0xC0, 0x2B, 0xC0, 0x2F, 1, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let message = [&[1, 0][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), &body].concat();
    record(&message)
}

fn record(message: &[u8]) -> Vec<u8> {
    [&[HANDSHAKE, 3, 1][..], &u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// The type of the record that comes, and its content.
fn answer(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 5];
    socket.read_exact(&mut head).unwrap();
    let mut content = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    socket.read_exact(&mut content).unwrap();
    (head[0], content)
}

/// How a connection to each port is begun that speaks TLS.
fn doors(site: &Site) -> [TcpStream; 2] {
    [initiated(site.sessions()), connect(site.api())]
}

/// A session that is resumed has a challenge of its own, too.
#[test]
fn under_tls_the_challenge_is_exported_from_the_session_and_never_the_same() {
    let site = Site::started();
    let mut seen = std::collections::BTreeSet::new();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = config(site.roots(), version);
        let mut resumed = 0;
        for _ in 0..5 {
            let met = begin(site.sessions(), &config);
            assert_eq!(met.challenge, met.exported, "{version:?}");
            assert!(seen.insert(met.challenge), "a challenge came twice");
            resumed += usize::from(met.resumed);
        }
        assert!(resumed > 0, "no session of {version:?} was resumed");
    }
}

#[test]
fn a_device_that_compares_notices_who_passes_its_login_on() {
    let site = Site::started();
    let between = authority(&["localhost"]);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&between.pem).unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let door = listener.local_addr().unwrap();
    let (to, theirs) = (site.sessions(), config(site.roots(), &rustls::version::TLS13));
    let passing_on = thread::spawn(move || {
        let mut device = listener.accept().unwrap().0;
        device.read_exact(&mut [0; 4]).unwrap();
        device.write_all(&[0x80, 0]).unwrap();
        let mut device = StreamOwned::new(ServerConnection::new(between.server).unwrap(), device);
        let met = begin(to, &theirs);
        device.write_all(&met.challenge).unwrap();
        device.flush().unwrap();
        met.challenge
    });
    // The device trusts whoever is in between: its roots are wrong, or it looks at none.
    let met = begin(door, &config(roots, &rustls::version::TLS13));
    assert_eq!(met.challenge, passing_on.join().unwrap(), "it is passed on as it is");
    assert_ne!(met.challenge, met.exported);
}

/// Without it a TLS 1.2 session is not bound to its handshake.
#[test]
fn tls_older_than_1_2_or_without_extended_master_secret_is_refused() {
    let site = Site::started();
    for socket in &mut doors(&site) {
        socket.write_all(&hello(0x0303, true)).unwrap();
        let (kind, content) = answer(socket);
        assert_eq!((kind, content[0]), (HANDSHAKE, 2), "a ServerHello");
    }
    for (hello, alert) in [(hello(0x0303, false), 40), (hello(0x0302, true), 70)] {
        for socket in &mut doors(&site) {
            socket.write_all(&hello).unwrap();
            assert_eq!(answer(socket), (ALERT, vec![2, alert]));
        }
    }
    eventually("each is counted", || site.refused("sessions.tls") >= 2);
}

/// RUSTSEC-2024-0399: a hello in many records made an acceptor panic.
#[test]
fn a_hello_in_pieces_is_a_hello() {
    let site = Site::started();
    let config = config(site.roots(), &rustls::version::TLS13);
    for size in [1, 2, 3, 64] {
        for socket in &mut doors(&site) {
            let mut hello = Vec::new();
            let mut tls = client(&config);
            tls.write_tls(&mut hello).unwrap();
            let pieces: Vec<u8> = hello[5..].chunks(size).flat_map(record).collect();
            socket.write_all(&pieces).unwrap();
            assert_eq!(answer(socket).0, HANDSHAKE, "in pieces of {size} bytes");
        }
    }
}

/// RUSTSEC-2024-0336: a goodbye right behind the hello kept a server at work for good.
#[test]
fn a_goodbye_right_behind_the_hello_ends_the_connection() {
    let site = Site::started();
    let before = site.open_files();
    let config = config(site.roots(), &rustls::version::TLS13);
    for half_closed in [false, true] {
        for socket in &mut doors(&site) {
            let mut bytes = Vec::new();
            client(&config).write_tls(&mut bytes).unwrap();
            bytes.extend([ALERT, 3, 3, 0, 2, 1, 0]);
            socket.write_all(&bytes).unwrap();
            if half_closed {
                socket.shutdown(Shutdown::Write).unwrap();
            }
            // Whatever is said until then.
            let _its_end = socket.read_to_end(&mut Vec::new());
        }
    }
    eventually("nobody is at work for them", || {
        site.number("/sessions/unauthenticated") == 0 && site.open_files() <= before + 2
    });
}

/// Bodies are read as they are: nothing unpacks to more than was sent.
#[test]
fn a_packed_body_is_not_unpacked() {
    let site = Site::started();
    let mut http = site.http();
    http.header = Some(("Content-Encoding".to_owned(), "gzip".to_owned()));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(br#"{"UID": "pump", "Payload": "?", "Format": "UTF8"}"#).unwrap();
    let reply = http.post("/request", &packed.finish().unwrap());
    assert_eq!(reply.status, 400, "{}", reply.text());
}
