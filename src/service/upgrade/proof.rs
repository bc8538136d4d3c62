//! A new version shows that it works: a made-up object and a made-up central do through the real listeners what theirs do.
//!
//! The object logs in, is called over the API and answers, sends telemetry, which is read back out of the journal over the API.
//! A webhook of our own is called. Whose telemetry or session it is not hears nothing of it: the object is known to nobody, its
//! telemetry is an event, and the central calls by the API, so that no session of the real one is taken over.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_io::Timer;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use smol::future::FutureExt as _;

use crate::client::http::{Connection, post_head};
use crate::client::{Login, Stream, Talk, Tls, datagram, login};
use crate::endpoint::webhook::{self, Answer, Failure, Outcomes, Pool};
use crate::hub::lock;
use crate::net::Network;
use crate::service::Service;
use crate::service::config::{ApiTls, Config};
use crate::wire::{AuthKey, CloseCode, Format, Payload, Token, Transmission, Uid};

/// All of it takes less, or it does not work.
const TIMEOUT: Duration = Duration::from_secs(18);
/// One step of it.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// What the object is asked, answers and sends.
const QUESTION: &str = "does it work?";
const ANSWER: &[u8] = b"it works";
const TELEMETRY: &[u8] = b"proof of a new version";
const WEBHOOK_ANSWER: &[u8] = br#"{"Code":0,"Payload":"it works","Format":"UTF8"}"#;
/// Bytes of a request to our own webhook.
const REQUEST_MAX: u64 = 4096;

/// The same configuration, with connections from this machine let in.
pub fn allow_ourselves(mut config: Config) -> Config {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let listens = [config.sessions.listen, config.telemetry.listen, config.api.listen];
    let ours: Vec<Network> = loopback
        .into_iter()
        .chain(listens.map(|listen| listen.ip()))
        .filter(|ip| !ip.is_unspecified())
        .filter_map(|ip| ip.to_string().parse().ok())
        .collect();
    for allowed in
        [&mut config.sessions.allow_from, &mut config.telemetry.allow_from, &mut config.api.allow_from]
    {
        // An empty one lets everybody in.
        if !allowed.0.is_empty() {
            allowed.0.extend(&ours);
        }
    }
    config
}

/// Shows that this service works, or says what does not.
pub fn prove(service: &Service) -> Result<(), String> {
    let config = service.config();
    let (uid, key) = made_up()?;
    service.view.hub.set_probe(Some((uid, key)));
    let proof = Proof { config: &config, service, uid, key };
    let late = async {
        Timer::after(TIMEOUT).await;
        Err(format!("it took more than {} s", TIMEOUT.as_secs()))
    };
    let proven = smol::block_on(proof.run().or(late));
    service.view.hub.set_probe(None);
    proven.map_err(|sentence| format!("it does not work: {sentence}"))?;
    check_books(service)
}

/// A name and a key that nobody knows.
fn made_up() -> Result<(Uid, AuthKey), String> {
    let (mut name, mut key) = ([0; 4], AuthKey([0; 16]));
    let random = SystemRandom::new();
    let filled = random.fill(&mut name).and_then(|()| random.fill(&mut key.0));
    filled.map_err(|_| "the system gives no random numbers".to_owned())?;
    let uid = Uid::parse(&format!("proof-{:08x}", u32::from_le_bytes(name)));
    uid.map(|uid| (uid, key)).map_err(|_| "no name can be made up".to_owned())
}

/// The journal is writable and has what the books say.
fn check_books(service: &Service) -> Result<(), String> {
    let deadline = Instant::now() + STEP_TIMEOUT;
    // A long backlog is audited longer than anybody waits here; it goes on.
    while service.journal.is_audited() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let health = service.journal.health();
    match (health.read_only, health.books_differ) {
        (Some(why), _) => Err(format!("nothing is recorded: {why}")),
        (None, true) => Err("the books are not what lies in the journal".to_owned()),
        (None, false) => Ok(()),
    }
}

struct Proof<'a> {
    config: &'a Config,
    service: &'a Service,
    uid: Uid,
    key: AuthKey,
}

impl Proof<'_> {
    async fn run(&self) -> Result<(), String> {
        let addresses = self.service.addresses();
        let tls = self.tls()?;
        let (uid, key) = (self.uid, self.key);
        let address = reach(addresses.sessions);
        let made_up =
            Login { address, local: None, tls: Some(&tls), largest: 0, uid, key, redirect_hosts: &[] };
        let stream = login(&made_up).await.map_err(|error| format!("an object cannot log in: {error}"))?;
        let mut object = Talk::new(stream);
        let token = self.token(&mut object).await?;

        let tls = (self.config.api.tls == ApiTls::Required).then_some(&tls);
        let stream = Stream::open(reach(addresses.api), tls).await;
        let mut central =
            Connection::new(stream.map_err(|error| format!("the API cannot be reached: {error}"))?);
        let head = post_head("/request", "localhost", self.config.central.auth_key);
        let body = format!(r#"{{"UID":"{uid}","Payload":"{QUESTION}","Format":"UTF8","Timeout":10}}"#);
        let asked = async {
            let answer = central
                .post(&head, body.as_bytes())
                .await
                .map_err(|error| format!("a call fails: {error}"))?;
            let body = String::from_utf8_lossy(answer.body);
            match answer.status == 200 && body.contains(r#""Code":0"#) && body.contains("it works") {
                true => Ok(()),
                false => Err(format!("a call is answered {} {body}", answer.status)),
            }
        };
        let (called, answered) = smol::future::zip(asked, self.answer(&mut object)).await;
        called.and(answered)?;

        send(reach(addresses.telemetry), token)?;
        self.read_back(&mut central).await?;
        // It says goodbye so that its session is over and not kept.
        let _gone = object.leave(CloseCode::Maintenance).await;
        call_webhook(self.config.central.auth_key)
    }

    /// Trust in the one certificate that is in force.
    fn tls(&self) -> Result<Tls, String> {
        let file = &self.config.tls.certificate;
        let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", file.display());
        let pem = std::fs::read(file).map_err(|error| failed(&error))?;
        let certificate = CertificateDer::from_pem_slice(&pem).map_err(|error| failed(&error))?;
        Tls::pinned(certificate, "localhost").map_err(|error| failed(&error))
    }

    async fn token(&self, object: &mut Talk<Stream>) -> Result<Token, String> {
        loop {
            match next(object).await? {
                Transmission::Token(token) => return Ok(token),
                Transmission::Close(code) => return Err(format!("the object's session is closed: {code:?}")),
                _ => {}
            }
        }
    }

    async fn answer(&self, object: &mut Talk<Stream>) -> Result<(), String> {
        loop {
            let number = match next(object).await? {
                Transmission::Request { number, .. } => number,
                Transmission::Close(code) => return Err(format!("the object's session is closed: {code:?}")),
                _ => continue,
            };
            let payload = Payload::new(Format::Utf8, ANSWER).unwrap_or(Payload::EMPTY);
            let response = Transmission::Response { uid: None, number, code: 0, payload };
            return object
                .send(&response)
                .await
                .map_err(|error| format!("the object cannot answer: {error}"));
        }
    }

    /// The telemetry, out of the journal.
    async fn read_back(&self, central: &mut Connection<Stream>) -> Result<(), String> {
        let path = format!("/v1/messages?kind=event&wait=10s&uid={}", self.uid);
        let deadline = Instant::now() + STEP_TIMEOUT;
        let wanted = String::from_utf8_lossy(TELEMETRY);
        loop {
            let answer = central.get(&path, "localhost", self.config.central.auth_key).await;
            let answer = answer.map_err(|error| format!("messages cannot be read: {error}"))?;
            if answer.status == 200 && String::from_utf8_lossy(answer.body).contains(&*wanted) {
                return Ok(());
            }
            if answer.status != 200 || Instant::now() > deadline {
                return Err(format!("telemetry is not in the journal: {}", answer.status));
            }
        }
    }
}

async fn next(object: &mut Talk<Stream>) -> Result<Transmission<'_>, String> {
    let heard = object.next().await.map_err(|error| format!("the object's session broke: {error}"))?;
    heard.ok_or_else(|| "the object's session ended".to_owned())
}

/// Where a socket can be reached that may be there for every address.
fn reach(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        // One for every address takes IPv4 as well, unless the system says otherwise; this one it always takes.
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn send(address: SocketAddr, token: Token) -> Result<(), String> {
    let failed = |error| format!("a datagram cannot be sent: {error}");
    let mut sender = datagram::Sender::connect(address).map_err(failed)?;
    sender.push(token, Payload::new(Format::Utf8, TELEMETRY).unwrap_or(Payload::EMPTY));
    match sender.send().map_err(failed)? {
        1 => Ok(()),
        _ => Err("a datagram cannot be sent".to_owned()),
    }
}

/// Hears what became of one request.
struct Heard(Mutex<Sender<Result<Answer, Failure>>>);

impl Outcomes for Heard {
    fn answered(&self, _: u64, answer: Result<Answer, Failure>) {
        let _nobody_waits = lock(&self.0).send(answer);
    }
    fn telemetry_delivered(&self, _: u64) {}
    fn telemetry_forgotten(&self, _: u64) {}
    fn telemetry_room(&self) {}
    fn result_delivered(&self, _: u64) {}
}

/// A pool like that of the central's webhooks calls one that we are ourselves.
fn call_webhook(auth_key: AuthKey) -> Result<(), String> {
    let failed = |what: &dyn std::fmt::Display| format!("a webhook cannot be called: {what}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| failed(&error))?;
    let address = listener.local_addr().map_err(|error| failed(&error))?;
    let serving = std::thread::Builder::new().name("proof".to_owned()).spawn(move || answer_one(&listener));
    serving.map_err(|error| failed(&error))?;
    let settings = webhook::Settings {
        request: Some(format!("http://{address}/proof")),
        telemetry: None,
        result: None,
        timeout: STEP_TIMEOUT,
        max_body: 4096,
        ca_pem: None,
        auth_key,
    };
    let (say, heard) = channel();
    let pool = Pool::start(&settings, Arc::new(Heard(Mutex::new(say)))).map_err(|error| failed(&error))?;
    let uid = Uid::parse("proof").unwrap_or(Uid::CENTRAL);
    let deadline = Instant::now() + STEP_TIMEOUT;
    pool.request(uid, 1, Format::Utf8, QUESTION.as_bytes(), deadline).map_err(|error| failed(&error))?;
    match heard.recv_timeout(STEP_TIMEOUT).map_err(|_| failed(&"no answer"))? {
        Ok(answer) if answer.code == 0 && answer.payload == ANSWER => Ok(()),
        Ok(answer) => Err(failed(&format!("{answer:?}"))),
        Err(failure) => Err(failed(&failure)),
    }
}

/// A webhook for one request.
fn answer_one(listener: &TcpListener) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    let mut request = BufReader::new(stream.try_clone()?.take(REQUEST_MAX));
    let (mut line, mut len) = (String::new(), 0);
    while request.read_line(&mut line)? > 2 {
        let value = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        len = value.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(len);
        line.clear();
    }
    let read = request.take(len).read_to_end(&mut Vec::new())?;
    let status = if read as u64 == len { "200 OK" } else { "400 Bad Request" };
    let body = WEBHOOK_ANSWER;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)
}
