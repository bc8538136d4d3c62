//! The hot paths, walked by one message at a time and so many: for what a message costs with nothing beside it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use iotsocketd::client::http::{Connection, post_head};
use iotsocketd::client::{Login, Stream, Talk, datagram, login};
use iotsocketd::wire::{AuthKey, Format, Payload, RESPONSE_VALID, Token, Transmission, Uid};
use smol::block_on;
use smol::future::zip;

use super::ingest;
use super::site::{Program, Site, key, uid};

/// Bytes of each call and each telemetry message.
const PAYLOAD: [u8; 64] = [7; 64];
/// Objects that log in one after the other.
const LOGINS: u64 = 100;
/// How long a message may take, however slowly the program is made to run.
const PATIENCE: Duration = Duration::from_secs(20);

/// A hot path.
pub struct Path {
    /// What it is asked for by.
    pub name: &'static str,
    /// The way.
    pub what: &'static str,
    /// Starts a concentrator by this program, and goes as far as the first message.
    pub prepare: fn(Program) -> Result<Walk, String>,
}

/// A path that is ready to be walked.
pub struct Walk {
    /// The concentrator.
    pub site: Site,
    /// Brings one message to its end.
    pub step: Box<dyn FnMut() -> Result<(), String>>,
}

/// All of them.
pub const PATHS: &[Path] = &[
    Path { name: "call", what: "central -> object -> central over TCP and TLS", prepare: call },
    Path { name: "https", what: "POST /request over HTTPS to an object and back", prepare: https },
    Path { name: "telemetry", what: "UDP to the central's session", prepare: telemetry },
    Path { name: "webhook", what: "UDP to the central's webhook in clear text", prepare: webhook },
    Path { name: "ingest", what: "POST /v1/ingest over HTTPS, on flash before its 200", prepare: bring },
    Path { name: "login", what: "TLS without resumption, challenge, proof, and goodbye", prepare: log_in },
];

fn call(program: Program) -> Result<Walk, String> {
    let site = Site::start_by(program, 1, "")?;
    let mut central = session(&site, Uid::CENTRAL, site.central_key()?)?;
    let mut object = object(&site, 1)?;
    let to = parse_uid(1)?;
    let mut number = 0_u16;
    let step = move || {
        number = number.wrapping_add(1);
        let request = Transmission::Request { uid: Some(to), number, payload: payload()? };
        block_on(async {
            central.send(&request).await.map_err(text)?;
            answer(&mut object).await?;
            let is_answer = |said: Transmission<'_>| matches!(said, Transmission::Response { .. });
            until(&mut central, |said| is_answer(said).then_some(())).await
        })
    };
    Ok(Walk { site, step: Box::new(step) })
}

fn https(program: Program) -> Result<Walk, String> {
    let site = Site::start_by(program, 1, "")?;
    let mut object = object(&site, 1)?;
    let (mut connection, head) = api(&site, "/request")?;
    let body = format!("{{\"UID\":\"{}\",\"Payload\":{PAYLOAD:?},\"Format\":\"BINARY\"}}", uid(1));
    let step = move || {
        block_on(async {
            let (posted, answered) = zip(connection.post(&head, body.as_bytes()), answer(&mut object)).await;
            answered?;
            is_ok(posted.map_err(text)?.status)
        })
    };
    Ok(Walk { site, step: Box::new(step) })
}

fn telemetry(program: Program) -> Result<Walk, String> {
    let site = Site::start_by(program, 1, "")?;
    let mut central = session(&site, Uid::CENTRAL, site.central_key()?)?;
    let mut object = object(&site, 1)?;
    let mut send = sender(&site, &mut object)?;
    let step = move || {
        let _stays = &object;
        send()?;
        let is_telemetry = |said: Transmission<'_>| matches!(said, Transmission::Telemetry { .. });
        block_on(until(&mut central, |said| is_telemetry(said).then_some(())))
    };
    Ok(Walk { site, step: Box::new(step) })
}

fn webhook(program: Program) -> Result<Walk, String> {
    let (address, came) = hook()?;
    let more = format!("\n[central.webhooks]\ntelemetry = \"http://{address}/t\"\n");
    let site = Site::start_by(program, 1, &more)?;
    let mut object = object(&site, 1)?;
    let mut send = sender(&site, &mut object)?;
    let step = move || {
        let _stays = &object;
        send()?;
        came.recv_timeout(PATIENCE).map_err(|_| "the webhook was not called".to_owned())
    };
    Ok(Walk { site, step: Box::new(step) })
}

fn bring(program: Program) -> Result<Walk, String> {
    let site = Site::start_by(program, 0, ingest::SOURCE)?;
    let (mut connection, head) = api(&site, "/v1/ingest/fleet")?;
    let mut number = 0;
    let step = move || {
        number += 1;
        let body = ingest::body(number, number);
        is_ok(block_on(connection.post(&head, body.as_bytes())).map_err(text)?.status)
    };
    Ok(Walk { site, step: Box::new(step) })
}

fn log_in(program: Program) -> Result<Walk, String> {
    let site = Site::start_by(program, LOGINS as usize, "")?;
    let (address, tls) = (site.sessions, site.tls()?);
    let mut number = 0;
    let step = move || {
        number = number % LOGINS + 1;
        let (uid, key) = (parse_uid(number)?, parse_key(number)?);
        let login_of =
            Login { address, local: None, tls: Some(&tls), largest: 0, uid, key, redirect_hosts: &[] };
        drop(block_on(login(&login_of)).map_err(text)?);
        Ok(())
    };
    Ok(Walk { site, step: Box::new(step) })
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn payload() -> Result<Payload<'static>, String> {
    Payload::new(Format::Binary, &PAYLOAD).ok_or_else(|| "the payload is too long".to_owned())
}

fn parse_uid(number: u64) -> Result<Uid, String> {
    Uid::parse(&uid(number)).map_err(text)
}

fn parse_key(number: u64) -> Result<AuthKey, String> {
    AuthKey::parse(&key(number)).ok_or_else(|| "the key is no key".to_owned())
}

fn is_ok(status: u16) -> Result<(), String> {
    if status == 200 { Ok(()) } else { Err(format!("answered {status}")) }
}

fn session(site: &Site, uid: Uid, key: AuthKey) -> Result<Talk<Stream>, String> {
    let (address, tls) = (site.sessions, site.tls()?);
    let login_of = Login { address, local: None, tls: Some(&tls), largest: 0, uid, key, redirect_hosts: &[] };
    block_on(login(&login_of)).map(Talk::new).map_err(text)
}

fn object(site: &Site, number: u64) -> Result<Talk<Stream>, String> {
    session(site, parse_uid(number)?, parse_key(number)?)
}

fn api(site: &Site, path: &str) -> Result<(Connection<Stream>, Vec<u8>), String> {
    let tls = site.tls()?;
    let stream = block_on(Stream::open(site.api, Some(&tls))).map_err(text)?;
    Ok((Connection::new(stream), post_head(path, &site.api.to_string(), site.central_key()?)))
}

/// Waits for what is asked of an object, and answers with the same.
async fn answer(object: &mut Talk<Stream>) -> Result<(), String> {
    let request = |said: Transmission<'_>| match said {
        Transmission::Request { number, .. } => Some(number),
        _ => None,
    };
    let number = until(object, request).await?;
    let response = Transmission::Response { uid: None, number, code: RESPONSE_VALID, payload: payload()? };
    object.send(&response).await.map_err(text)
}

/// What `pick` finds in what the concentrator says; pings are answered meanwhile.
async fn until<T>(
    talk: &mut Talk<Stream>,
    pick: impl Fn(Transmission<'_>) -> Option<T>,
) -> Result<T, String> {
    loop {
        let said = talk.next().await.map_err(text)?.ok_or("the concentrator ended the session")?;
        let is_ping = said == Transmission::Ping;
        if let Some(picked) = pick(said) {
            return Ok(picked);
        }
        if is_ping {
            talk.send(&Transmission::Pong).await.map_err(text)?;
        }
    }
}

/// Sends a datagram of an object at each call.
fn sender(
    site: &Site,
    object: &mut Talk<Stream>,
) -> Result<impl FnMut() -> Result<(), String> + use<>, String> {
    let token = |said: Transmission<'_>| match said {
        Transmission::Token(token) => Some(token),
        _ => None,
    };
    let token: Token = block_on(until(object, token))?;
    let mut sender = datagram::Sender::connect(site.sessions).map_err(text)?;
    Ok(move || {
        sender.push(token, payload()?);
        match sender.send().map_err(text)? {
            1 => Ok(()),
            _ => Err("the datagram did not go out".to_owned()),
        }
    })
}

/// The central's webhook: it takes everything, and says so.
pub fn hook() -> Result<(SocketAddr, Receiver<()>), String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    let (said, came) = channel();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let said = said.clone();
            thread::spawn(move || take(socket, &said));
        }
    });
    Ok((address, came))
}

/// Until the other side has enough.
fn take(mut socket: TcpStream, said: &Sender<()>) {
    let mut bytes = Vec::new();
    let mut room = [0; 8192];
    while let Ok(len @ 1..) = socket.read(&mut room) {
        bytes.extend_from_slice(room.get(..len).unwrap_or_default());
        // Small bodies of our own program: the end is the end of what came.
        if !bytes.trim_ascii_end().ends_with(b"}") {
            continue;
        }
        bytes.clear();
        let answered = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        if answered.is_err() || said.send(()).is_err() {
            return;
        }
    }
}
