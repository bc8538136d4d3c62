//! A concentrator of few words, for the client's own tests: it lets everybody in who has the right key, and passes
//! requests, responses and telemetry on.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use async_io::Async;
use futures_rustls::TlsAcceptor;
use ring::hmac;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use smol::LocalExecutor;
use smol::channel::{Receiver, Sender, unbounded};
use smol::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::session::SessionError;
use super::talk::Talk;
use crate::wire::{
    AuthKey, CloseCode, Datagram, Initiation, InitiationReply, PROOF_LEN, Payload, Proof, RESPONSE_NOT_FOUND,
    TOKEN_LEN, Token, Transmission, Uid, verdict_byte,
};

/// What the fake does with those who connect.
#[derive(Clone)]
pub(crate) struct Rules {
    /// Bytes of its reply to the initiation.
    pub(crate) reply: Vec<u8>,
    /// TLS key and certificate; `None`: clear text.
    pub(crate) tls: Option<Identity>,
    /// The key that everybody must have.
    pub(crate) key: AuthKey,
}

/// A certificate of its own making.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    acceptor: TlsAcceptor,
}

pub(crate) fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    Identity { certificate, acceptor: TlsAcceptor::from(Arc::new(config)) }
}

impl Rules {
    pub(crate) fn plain() -> Self {
        Self { reply: InitiationReply::WELCOME.to_vec(), tls: None, key: AuthKey([9; 16]) }
    }
}

/// Where the fake listens. It does so until the test's process ends.
pub(crate) struct Fake {
    pub(crate) sessions: SocketAddr,
    pub(crate) telemetry: SocketAddr,
    pub(crate) api: SocketAddr,
}

type Peers = Rc<RefCell<HashMap<Uid, Sender<Vec<u8>>>>>;

pub(crate) fn start(rules: Rules) -> Fake {
    let sessions = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = TcpListener::bind("127.0.0.1:0").unwrap();
    let telemetry = UdpSocket::bind("127.0.0.1:0").unwrap();
    let fake = Fake {
        sessions: sessions.local_addr().unwrap(),
        telemetry: telemetry.local_addr().unwrap(),
        api: api.local_addr().unwrap(),
    };
    thread::spawn(move || {
        let executor = LocalExecutor::new();
        let peers = Peers::default();
        let sessions = accept(sessions, |stream| {
            executor.spawn(serve(stream, rules.clone(), Rc::clone(&peers))).detach();
        });
        let api = accept(api, |stream| executor.spawn(answer_api(stream)).detach());
        let work = smol::future::zip(sessions, smol::future::zip(api, take_telemetry(telemetry, &peers)));
        smol::block_on(executor.run(work));
    });
    fake
}

async fn accept(listener: TcpListener, mut each: impl FnMut(Async<TcpStream>)) {
    let listener = Async::new(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.get_ref().set_nodelay(true).unwrap();
        each(stream);
    }
}

async fn serve(mut stream: Async<TcpStream>, rules: Rules, peers: Peers) -> Result<(), SessionError> {
    let mut initiation = [0; 4];
    stream.read_exact(&mut initiation).await?;
    assert_eq!(Initiation::decode(initiation).tls, rules.tls.is_some());
    stream.write_all(&rules.reply).await?;
    if rules.reply != InitiationReply::WELCOME {
        return Ok(());
    }
    match &rules.tls {
        Some(identity) => {
            let stream = identity.acceptor.accept(stream).await?;
            authenticate(stream, &rules, peers).await
        }
        None => authenticate(stream, &rules, peers).await,
    }
}

async fn authenticate<S>(mut stream: S, rules: &Rules, peers: Peers) -> Result<(), SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let challenge = [3; 16];
    stream.write_all(&challenge).await?;
    stream.flush().await?;
    let mut proof = [0; PROOF_LEN];
    stream.read_exact(&mut proof).await?;
    let proof = Proof::decode(&proof);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &rules.key.0);
    let accepted = hmac::verify(&key, &challenge, &proof.mac).is_ok();
    stream.write_all(&[verdict_byte(accepted)]).await?;
    stream.flush().await?;
    let Some(uid) = proof.uid.filter(|_| accepted) else {
        return Ok(());
    };
    let (sender, outbox) = unbounded();
    if !uid.is_central() {
        // The token is the end of the UID: that is how telemetry finds its object again.
        post(&sender, &Transmission::Token(Token(*uid.to_wire().last_chunk::<TOKEN_LEN>().unwrap())));
        post(&sender, &Transmission::Ping);
    }
    peers.borrow_mut().insert(uid, sender.clone());
    let (reader, writer) = smol::io::split(stream);
    let ended = smol::future::or(read(Talk::new(reader), uid, &sender, &peers), write(writer, outbox)).await;
    peers.borrow_mut().remove(&uid);
    ended
}

fn post(peer: &Sender<Vec<u8>>, transmission: &Transmission<'_>) {
    let mut bytes = Vec::new();
    transmission.encode(&mut bytes);
    // A peer that has just left misses it.
    let _left = peer.try_send(bytes);
}

async fn write(mut writer: impl AsyncWrite + Unpin, outbox: Receiver<Vec<u8>>) -> Result<(), SessionError> {
    while let Ok(mut bytes) = outbox.recv().await {
        while let Ok(more) = outbox.try_recv() {
            bytes.extend(more);
        }
        writer.write_all(&bytes).await?;
        writer.flush().await?;
    }
    Ok(())
}

async fn read<S: AsyncRead + Unpin>(
    mut talk: Talk<S>,
    from: Uid,
    back: &Sender<Vec<u8>>,
    peers: &Peers,
) -> Result<(), SessionError> {
    let mut acl_items = 0;
    while let Some(transmission) = talk.next().await? {
        let (to, passed) = match transmission {
            Transmission::Request { uid, number, payload } => {
                let (to, uid) = uid.map_or((Uid::CENTRAL, Some(from)), |uid| (uid, None));
                (to, Transmission::Request { uid, number, payload })
            }
            Transmission::Response { uid, number, code, payload } => {
                let (to, uid) = uid.map_or((Uid::CENTRAL, Some(from)), |uid| (uid, None));
                (to, Transmission::Response { uid, number, code, payload })
            }
            Transmission::Ping => {
                post(back, &Transmission::Pong);
                continue;
            }
            Transmission::AclHead { count } => {
                acl_items = count;
                continue;
            }
            Transmission::Close(CloseCode::Maintenance) => return Ok(()),
            _ => continue,
        };
        assert_eq!(acl_items, 0, "the fake reads empty lists only");
        match (peers.borrow().get(&to), &passed) {
            (Some(peer), passed) => post(peer, passed),
            (None, Transmission::Request { number, .. }) => {
                let uid = from.is_central().then_some(to);
                let (code, payload) = (RESPONSE_NOT_FOUND, Payload::EMPTY);
                post(back, &Transmission::Response { uid, number: *number, code, payload });
            }
            (None, _) => {}
        }
    }
    Ok(())
}

async fn take_telemetry(socket: UdpSocket, peers: &Peers) {
    let socket = Async::new(socket).unwrap();
    let mut buffer = [0; 2048];
    loop {
        let len = socket.recv(&mut buffer).await.unwrap();
        let datagram = Datagram::decode(&buffer[..len]).unwrap();
        let mut name = [0; 16];
        name[8..].copy_from_slice(&datagram.token.0);
        let uid = Uid::from_wire(name).unwrap();
        if let Some(central) = peers.borrow().get(&Uid::CENTRAL) {
            post(central, &Transmission::Telemetry { uid, payload: datagram.payload });
        }
    }
}

/// Answers each call with its own payload.
async fn answer_api(mut stream: Async<TcpStream>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(&chunk[..read]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let Ok(call) = serde_json::from_slice::<serde_json::Value>(&bytes[end + 4..]) else {
            continue;
        };
        assert!(call["UID"].as_str().is_some_and(|uid| !uid.is_empty()));
        let answer =
            serde_json::json!({"Code": 0, "Payload": call["Payload"], "Format": call["Format"]}).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(answer.as_bytes()).await?;
        bytes.clear();
    }
}
