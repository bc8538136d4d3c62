//! From accept to verdict: initiation, TLS, challenge, proof.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use futures_rustls::TlsAcceptor;
use ring::hmac;
use ring::rand::SecureRandom;
use smol::future::FutureExt as _;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::live::Live;
use super::writer::Writer;
use super::{TcpCause, TcpServer, prepare, until};
use crate::endpoint::admission::Permit;
use crate::endpoint::stream::{Metered, Stream};
use crate::hub::Hub;
use crate::hub::auditing::{Deed, What};
use crate::hub::outbox::{Outbox, Verdict};
use crate::logfmt::Quoted;
use crate::router::{Ending, Login, LoginRefusal, Origin};
use crate::session::{Event, Role, Session, Settings};
use crate::wire::{
    AuthKey, CHALLENGE_LABEL, CHALLENGE_LEN, Challenge, INITIATION_LEN, KEY_LEN, PROOF_LEN, Proof, Uid,
};

/// Why there is no session.
enum NoSession {
    Cause(TcpCause, String),
    Refused(Stream, TcpCause, String),
}

impl From<io::Error> for NoSession {
    fn from(error: io::Error) -> Self {
        Self::Cause(TcpCause::Broken, error.to_string())
    }
}

/// Tells the hub if the connection goes away between login and session. It may have been admitted by then, and have
/// been given what waited for its peer.
struct PendingLogin<'a> {
    hub: &'a Hub,
    outbox: &'a Outbox,
    origin: Option<Origin>,
}

impl Drop for PendingLogin<'_> {
    fn drop(&mut self) {
        if let Some(origin) = self.origin {
            let mut turn = self.hub.turn(Instant::now());
            let unsent = Writer::default().into_unsent(self.outbox);
            turn.disconnected(origin, Ending::Kept, unsent);
        }
    }
}

impl TcpServer {
    /// Takes a connection to its session; `None`: there is none, and why was counted.
    pub(super) async fn set_up(
        self: &Arc<Self>,
        io: Async<TcpStream>,
        source: IpAddr,
        permit: &Permit,
        settings: Settings,
    ) -> Option<Live> {
        let started = Instant::now();
        let deadline = started + settings.handshake_timeout;
        let evicted = || poll_fn(|context| permit.poll_evicted(context));
        let session = Session::new(started, settings);
        let attempt = self.attempt(io, source, permit, session).or(async {
            evicted().await;
            Err(NoSession::Cause(TcpCause::Evicted, "a newcomer took the place".to_owned()))
        });
        match until(deadline, attempt).await {
            Some(Ok(live)) => {
                self.admission.succeed(source);
                Some(live)
            }
            Some(Err(NoSession::Cause(cause, detail))) => {
                self.refuse(cause, source, &detail);
                None
            }
            Some(Err(NoSession::Refused(mut stream, cause, detail))) => {
                self.refuse(cause, source, &detail);
                let delay = match cause {
                    TcpCause::Login => self.admission.fail(source, Instant::now()),
                    _ => Duration::ZERO,
                };
                let told = async {
                    if !delay.is_zero() {
                        Timer::after(delay).await;
                    }
                    until(deadline, super::finish::refuse(&mut stream)).await;
                };
                // Who is refused must not hold more than its place either: a newcomer may have it at once.
                told.or(evicted()).await;
                None
            }
            None => {
                let violation = crate::session::Violation::HandshakeTimeout;
                self.refuse(TcpCause::Violation(violation), source, &violation);
                None
            }
        }
    }

    async fn attempt(
        self: &Arc<Self>,
        io: Async<TcpStream>,
        source: IpAddr,
        permit: &Permit,
        mut session: Session,
    ) -> Result<Live, NoSession> {
        prepare(&io)?;
        let mut io = Metered::new(io);
        let mut initiation = [0; INITIATION_LEN];
        io.read_exact(&mut initiation).await?;
        permit.touch(Instant::now());
        let wants_tls = match session.receive(Instant::now(), &mut initiation.as_slice()) {
            Ok(event) => event == Some(Event::StartTls),
            Err(end) => {
                write_output(&mut io, &mut session).await?;
                super::finish::linger(&mut Stream::Plain(io)).await;
                return Err(NoSession::Cause(TcpCause::Violation(end.0), end.to_string()));
            }
        };
        write_output(&mut io, &mut session).await?;

        let mut stream = if wants_tls {
            let acceptor = TlsAcceptor::from(self.certificates.sessions());
            let tls = Box::pin(acceptor.accept(io)).await;
            Stream::Tls(Box::new(tls.map_err(|error| NoSession::Cause(TcpCause::Tls, error.to_string()))?))
        } else {
            Stream::Plain(io)
        };
        permit.touch(Instant::now());

        let challenge = fresh_challenge(&stream)?;
        session.established(challenge);
        write_output(&mut stream, &mut session).await?;
        let mut proof = [0; PROOF_LEN];
        stream.read_exact(&mut proof).await?;
        permit.touch(Instant::now());
        let Ok(Some(Event::Proof(proof))) = session.receive(Instant::now(), &mut proof.as_slice()) else {
            return Err(NoSession::Cause(TcpCause::Broken, "no proof".to_owned()));
        };
        let Some((uid, key)) = self.verify(&proof, challenge) else {
            return Err(NoSession::Refused(stream, TcpCause::Login, "unknown UID or wrong key".to_owned()));
        };
        self.enter(
            stream,
            session,
            Login { connection: self.hub.connection_id(), uid, key, source, largest: 0 },
            permit,
        )
        .await
    }

    /// Whose proof it is. An unknown UID costs as much as a known one: a HMAC against a key nobody has.
    fn verify(&self, proof: &Proof, challenge: Challenge) -> Option<(Uid, AuthKey)> {
        let known = proof.uid.and_then(|uid| Some((uid, self.hub.key_of(uid)?)));
        let key = known.map_or([0; KEY_LEN], |(_, key)| key.0);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        // The comparison inside takes the same time wherever the bytes differ.
        let is_right = hmac::verify(&key, &challenge.0, &proof.mac).is_ok();
        known.filter(|_| is_right)
    }

    /// Asks the router for the session, and waits while an older connection of the same peer ends.
    async fn enter(
        self: &Arc<Self>,
        stream: Stream,
        mut session: Session,
        login: Login,
        permit: &Permit,
    ) -> Result<Live, NoSession> {
        let login = Login { largest: session.largest(), ..login };
        let origin = Origin { connection: login.connection, uid: login.uid };
        let outbox = Arc::new(Outbox::default());
        let mut pending = PendingLogin { hub: &self.hub, outbox: &outbox, origin: Some(origin) };
        self.hub.turn(Instant::now()).login(login, &outbox);
        let verdict = poll_fn(|context| match outbox.poll_verdict(context.waker()) {
            Verdict::Pending => Poll::Pending,
            decided => Poll::Ready(decided),
        })
        .await;
        if let Verdict::Refused(why) = verdict {
            pending.origin = None;
            let (cause, detail) = match why {
                LoginRefusal::NotKnown => (TcpCause::Login, "the access list changed"),
                LoginRefusal::Source => (TcpCause::Login, "its group does not allow this source"),
                LoginRefusal::Superseded => {
                    (TcpCause::Superseded, "a later login of the same UID came first")
                }
            };
            return Err(NoSession::Refused(stream, cause, format!("{detail} uid={}", origin.uid)));
        }
        if !permit.authenticated() {
            return Err(NoSession::Cause(TcpCause::Evicted, "a newcomer took the place".to_owned()));
        }
        pending.origin = None;
        let role = if origin.uid.is_central() { Role::Central } else { Role::Object };
        session.verdict(Instant::now(), Some(role));
        // The router queued the verdict byte itself, ahead of what it sent to the session since.
        while session.poll_output().is_some() {}
        log::info!("event=session_open uid={} source={}", Quoted(origin.uid.as_str()), login.source);
        let who = if role == Role::Central { "central" } else { origin.uid.as_str() };
        let (uid, from) = (Some(origin.uid), Some(login.source));
        self.hub.audit(Deed { what: What::Login, who, uid, from, detail: "" });
        drop(pending);
        Ok(Live::new(stream, session, outbox, Arc::clone(self), origin, login.source))
    }
}

/// What nobody could know before. Under TLS both ends derive it from this very handshake, so that a device which compares
/// notices somebody in between, who has two handshakes.
fn fresh_challenge(stream: &Stream) -> io::Result<Challenge> {
    let mut challenge = [0; CHALLENGE_LEN];
    match stream {
        Stream::Tls(tls) => {
            let (_, session) = tls.get_ref();
            session
                .export_keying_material(&mut challenge, CHALLENGE_LABEL, None)
                .map_err(|error| io::Error::other(format!("the TLS session gives no challenge ({error})")))?;
        }
        Stream::Plain(_) => ring::rand::SystemRandom::new()
            .fill(&mut challenge)
            .map_err(|_| io::Error::other("the system gives no random bytes"))?,
    }
    Ok(Challenge(challenge))
}

async fn write_output(io: &mut (impl smol::io::AsyncWrite + Unpin), session: &mut Session) -> io::Result<()> {
    while let Some(bytes) = session.poll_output() {
        io.write_all(&bytes).await?;
    }
    io.flush().await
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::hub::outbox::Batch;
    use crate::net::AllowFrom;
    use crate::router::access::AccessList;
    use crate::router::{Command, Group, Settings};
    use crate::wire::{AclItem, GroupName, Payload, Transmission};

    const KEY: AuthKey = AuthKey([7; KEY_LEN]);

    fn hub(object: Uid) -> Arc<Hub> {
        let group = GroupName::parse("Stations").unwrap();
        let rights = Group {
            telemetry: false,
            token_ttl: Duration::from_secs(60),
            validate: false,
            max_payload: 100,
            rate: 0,
            allow_from: AllowFrom::default(),
        };
        let settings = Settings {
            central_key: KEY,
            request_timeout: Duration::from_secs(60),
            keep_session: Duration::from_secs(60),
            webhook_timeout: None,
            calls: crate::router::CallRecords::None,
            telemetry_allow_from: AllowFrom::default(),
            groups: HashMap::from([(group, rights)]),
        };
        let list = AccessList::build([AclItem { group, uid: object, key: KEY }], |_| true).unwrap();
        crate::hub::testing::hub(settings, list)
    }

    fn login(hub: &Hub, uid: Uid) -> (Origin, Arc<Outbox>) {
        let (connection, outbox) = (hub.connection_id(), Arc::new(Outbox::default()));
        let login = Login { connection, uid, key: KEY, source: Ipv4Addr::LOCALHOST.into(), largest: 0 };
        hub.turn(Instant::now()).login(login, &outbox);
        (Origin { connection, uid }, outbox)
    }

    #[test]
    fn what_waits_for_a_peer_that_goes_before_its_verdict_waits_on() {
        let uid = Uid::parse("pump").unwrap();
        let hub = hub(uid);
        let (first, _) = login(&hub, uid);
        hub.turn(Instant::now()).disconnected(first, Ending::Kept, Vec::new());
        let (central, _) = login(&hub, Uid::CENTRAL);
        let (number, payload) = (9, Payload::EMPTY);
        hub.turn(Instant::now()).handle(Command::Request {
            origin: central,
            uid: Some(uid),
            number,
            payload,
        });

        let (admitted, outbox) = login(&hub, uid);
        drop(PendingLogin { hub: &hub, outbox: &outbox, origin: Some(admitted) });
        let (_, outbox) = login(&hub, uid);
        let mut batch = Batch::default();
        outbox.take(&mut batch);
        let mut expected = vec![0x01];
        Transmission::Request { uid: None, number, payload }.encode(&mut expected);
        assert_eq!(batch.bytes, expected);
    }
}
