//! From an address and a key to a connection on which a session lives.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::{Async, Timer};
use futures_rustls::client::TlsStream;
use ring::hmac;
use smol::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use socket2::{Domain, Protocol, Socket, Type};

use super::tls::Tls;
use crate::wire::{
    AuthKey, CHALLENGE_LEN, Decoded, Initiation, InitiationReply, MAC_LEN, Proof, Uid, VERSION, WireError,
    verdict_from_byte,
};

/// A login that takes longer than this has failed.
const LOGIN_TIME_MAX: Duration = Duration::from_secs(20);
/// Redirects followed one after the other at most.
const REDIRECTS_MAX: usize = 3;

/// Everything that a login needs.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The concentrator's session address.
    pub address: SocketAddr,
    /// The own address to come from; `None` leaves it to the kernel.
    pub local: Option<IpAddr>,
    /// Trust and host name for TLS; `None` stays in clear text.
    pub tls: Option<&'a Tls>,
    /// The largest transmission that this client takes, in bytes; 0 states none.
    pub largest: u16,
    /// Who logs in.
    pub uid: Uid,
    /// Its secret.
    pub key: AuthKey,
    /// Hosts to which a redirect is followed; any other is an error.
    pub redirect_hosts: &'a [String],
}

/// A connection of either kind.
pub enum Stream {
    /// In clear text.
    Plain(Async<TcpStream>),
    /// Under TLS. Boxed: the state of TLS is ten times the size of a socket.
    Tls(Box<TlsStream<Async<TcpStream>>>),
}

/// Why there is no session.
#[derive(Debug)]
pub enum LoginError {
    /// No TCP connection.
    Connect(SocketAddr, io::Error),
    /// The concentrator said no to the initiation.
    InitiationRefused,
    /// The concentrator sends us elsewhere, and the host is not in the list of those we follow to.
    Redirected {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// Redirects without end.
    RedirectedTooOften,
    /// No TLS: certificate not trusted, or no common ground.
    Tls(io::Error),
    /// The UID is unknown or the key is wrong.
    NotAccepted,
    /// The connection ended before the verdict.
    Lost(io::Error),
    /// The other side does not speak this protocol.
    Wire(WireError),
    /// No verdict in time.
    TimedOut,
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(address, _) => {
                write!(f, "cannot connect to {address}: is the concentrator running there")
            }
            Self::InitiationRefused => f.write_str(
                "the concentrator refused the initiation: it may require TLS, or have no place for this address",
            ),
            Self::Redirected { host, port } => write!(
                f,
                "the concentrator redirects to {:?} port {port}, which is not an allowed host",
                host.escape_debug().to_string()
            ),
            Self::RedirectedTooOften => {
                write!(f, "more than {REDIRECTS_MAX} redirects: the concentrators send clients in a circle")
            }
            Self::Tls(_) => f.write_str("no TLS with the concentrator: check its certificate against the one expected"),
            Self::NotAccepted => {
                f.write_str("the login was refused: the UID is not in the access list, or its key is another one")
            }
            Self::Lost(_) => f.write_str("the concentrator ended the connection before the end of the login"),
            Self::Wire(_) => f.write_str("the other side does not speak IoTSocket 1.01"),
            Self::TimedOut => write!(f, "the login took longer than {} s", LOGIN_TIME_MAX.as_secs()),
        }
    }
}

impl std::error::Error for LoginError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(_, error) | Self::Tls(error) | Self::Lost(error) => Some(error),
            Self::Wire(error) => Some(error),
            Self::InitiationRefused
            | Self::Redirected { .. }
            | Self::RedirectedTooOften
            | Self::NotAccepted
            | Self::TimedOut => None,
        }
    }
}

/// What the set-up came to.
enum Outcome {
    In(Stream),
    Elsewhere { host: String, port: u16 },
}

/// Connects and proves itself, within 20 s. Dropping the future gives up.
pub async fn login(login: &Login<'_>) -> Result<Stream, LoginError> {
    let work = async {
        let mut address = login.address;
        let mut tls = login.tls.cloned();
        for _ in 0..=REDIRECTS_MAX {
            let (host, port) = match set_up(login, address, tls.as_ref()).await? {
                Outcome::In(stream) => return Ok(stream),
                Outcome::Elsewhere { host, port } => (host, port),
            };
            if !login.redirect_hosts.contains(&host) {
                return Err(LoginError::Redirected { host, port });
            }
            if let Some(tls) = &mut tls {
                *tls = tls.for_host(&host).map_err(|error| LoginError::Tls(io::Error::other(error)))?;
            }
            address = resolve(host, port).await.map_err(|error| LoginError::Connect(address, error))?;
        }
        Err(LoginError::RedirectedTooOften)
    };
    let deadline = async {
        Timer::after(LOGIN_TIME_MAX).await;
        Err(LoginError::TimedOut)
    };
    // The handshake's state is large and short-lived: on the heap it is given back before the session begins.
    smol::future::or(Box::pin(work), deadline).await
}

/// Opens a TCP connection without delay of small packets, from `local` if given.
pub async fn open(address: SocketAddr, local: Option<IpAddr>) -> io::Result<Async<TcpStream>> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(local) = local {
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    let waiting = match socket.connect(&address.into()) {
        Ok(()) => false,
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => true,
        Err(error) => return Err(error),
    };
    let stream = Async::new_nonblocking(TcpStream::from(socket))?;
    if waiting {
        stream.writable().await?;
        if let Some(error) = stream.get_ref().take_error()? {
            return Err(error);
        }
    }
    Ok(stream)
}

impl Stream {
    /// Opens a connection and, if told so, starts TLS at once (as HTTPS does).
    pub async fn open(address: SocketAddr, tls: Option<&Tls>) -> Result<Self, LoginError> {
        let stream = open(address, None).await.map_err(|error| LoginError::Connect(address, error))?;
        Self::start_tls(stream, tls).await
    }

    /// Goes on under TLS, if told so, on a connection that may have said something in clear text.
    pub async fn start_tls(stream: Async<TcpStream>, tls: Option<&Tls>) -> Result<Self, LoginError> {
        let Some(tls) = tls else {
            return Ok(Self::Plain(stream));
        };
        let stream = tls.connector.connect(tls.name.clone(), stream).await.map_err(LoginError::Tls)?;
        Ok(Self::Tls(Box::new(stream)))
    }
}

async fn set_up(login: &Login<'_>, address: SocketAddr, tls: Option<&Tls>) -> Result<Outcome, LoginError> {
    let mut stream = open(address, login.local).await.map_err(|error| LoginError::Connect(address, error))?;
    let initiation = Initiation { tls: tls.is_some(), version: VERSION, largest: login.largest };
    stream.write_all(&initiation.encode()).await.map_err(LoginError::Lost)?;
    // Read no byte too many: what follows the reply belongs to TLS.
    let mut reply = Vec::with_capacity(2);
    loop {
        match InitiationReply::decode(&reply).map_err(LoginError::Wire)? {
            Decoded::Need(need) => {
                let missing = need.saturating_sub(reply.len()) as u64;
                let got =
                    (&mut stream).take(missing).read_to_end(&mut reply).await.map_err(LoginError::Lost)?;
                if got == 0 {
                    return Err(LoginError::Lost(io::ErrorKind::UnexpectedEof.into()));
                }
            }
            Decoded::Done(InitiationReply::Welcome, _) => break,
            Decoded::Done(InitiationReply::Refused, _) => return Err(LoginError::InitiationRefused),
            Decoded::Done(InitiationReply::Redirect(redirect), _) => {
                return Ok(Outcome::Elsewhere { host: redirect.host.to_owned(), port: redirect.port });
            }
        }
    }
    let mut stream = Stream::start_tls(stream, tls).await?;
    let mut challenge = [0; CHALLENGE_LEN];
    stream.read_exact(&mut challenge).await.map_err(LoginError::Lost)?;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &login.key.0), &challenge);
    let mac = tag.as_ref().first_chunk::<MAC_LEN>().copied().unwrap_or_default();
    stream.write_all(&Proof::encode(login.uid, &mac)).await.map_err(LoginError::Lost)?;
    stream.flush().await.map_err(LoginError::Lost)?;
    let mut verdict = [0; 1];
    stream.read_exact(&mut verdict).await.map_err(LoginError::Lost)?;
    let [verdict] = verdict;
    if verdict_from_byte(verdict).map_err(LoginError::Wire)? {
        Ok(Outcome::In(stream))
    } else {
        Err(LoginError::NotAccepted)
    }
}

async fn resolve(host: String, port: u16) -> io::Result<SocketAddr> {
    let found = smol::unblock(move || (host, port).to_socket_addrs()).await?.next();
    found.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_close(cx),
            Self::Tls(stream) => Pin::new(stream).poll_close(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{self, Rules};
    use super::super::talk::{Talk, upload_acl};
    use super::*;
    use crate::wire::{CloseCode, Redirect, Transmission};

    fn login_to(address: SocketAddr, tls: Option<&Tls>, key: AuthKey) -> Result<Stream, LoginError> {
        let uid = Uid::parse("object").unwrap();
        smol::block_on(login(&Login {
            address,
            local: None,
            tls,
            largest: 0,
            uid,
            key,
            redirect_hosts: &["127.0.0.1".to_owned()],
        }))
    }

    fn redirecting(host: &str, port: u16) -> Rules {
        let reply = InitiationReply::Redirect(Redirect { host, port }).encode().unwrap();
        Rules { reply: reply.to_vec(), ..Rules::plain() }
    }

    #[test]
    fn the_right_key_leads_to_a_session() {
        let rules = Rules::plain();
        let stream = login_to(fake::start(rules.clone()).sessions, None, rules.key).unwrap();
        smol::block_on(async {
            let mut talk = Talk::new(stream);
            assert!(matches!(talk.next().await.unwrap(), Some(Transmission::Token(_))));
            assert_eq!(talk.next().await.unwrap(), Some(Transmission::Ping));
            assert!(upload_acl(&mut talk, &[]).await.unwrap());
            talk.leave(CloseCode::Maintenance).await.unwrap();
        });
    }

    #[test]
    fn a_wrong_key_is_not_accepted() {
        let fake = fake::start(Rules::plain());
        let error = login_to(fake.sessions, None, AuthKey([1; 16])).err().unwrap();
        assert!(matches!(error, LoginError::NotAccepted), "{error}");
    }

    #[test]
    fn a_refused_initiation_is_told_apart() {
        let fake = fake::start(Rules { reply: InitiationReply::REFUSED.to_vec(), ..Rules::plain() });
        let error = login_to(fake.sessions, None, AuthKey([9; 16])).err().unwrap();
        assert!(matches!(error, LoginError::InitiationRefused), "{error}");
    }

    #[test]
    fn an_unknown_rule_and_an_end_within_the_reply_are_errors() {
        for (reply, expected) in [(vec![0x82, 0], "speak IoTSocket"), (vec![0x81, 0, 9], "ended")] {
            let fake = fake::start(Rules { reply, ..Rules::plain() });
            let error = login_to(fake.sessions, None, AuthKey([9; 16])).err().unwrap();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_redirect_to_an_unknown_host_is_told_and_not_followed() {
        let fake = fake::start(redirecting("other.example", 25318));
        let error = login_to(fake.sessions, None, AuthKey([9; 16])).err().unwrap();
        let LoginError::Redirected { host, port } = error else { panic!("{error}") };
        assert_eq!((host.as_str(), port), ("other.example", 25318));
    }

    #[test]
    fn a_redirect_to_an_allowed_host_is_followed() {
        let rules = Rules::plain();
        let there = fake::start(rules.clone());
        let here = fake::start(redirecting("127.0.0.1", there.sessions.port()));
        assert!(login_to(here.sessions, None, rules.key).is_ok());
    }

    #[test]
    fn redirects_in_a_circle_end() {
        // The last one is not followed any more, so where it leads does not matter.
        let last = fake::start(redirecting("127.0.0.1", 1)).sessions.port();
        let mut hops = vec![last];
        for _ in 0..REDIRECTS_MAX {
            hops.push(fake::start(redirecting("127.0.0.1", *hops.last().unwrap())).sessions.port());
        }
        let first = SocketAddr::from(([127, 0, 0, 1], *hops.last().unwrap()));
        let error = login_to(first, None, AuthKey([9; 16])).err().unwrap();
        assert!(matches!(error, LoginError::RedirectedTooOften), "{error}");
    }

    #[test]
    fn nobody_there_is_told_with_the_address() {
        // Bound, so that nobody else takes the port, and not listening.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let error = login_to(address, None, AuthKey([9; 16])).err().unwrap();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn tls_takes_the_pinned_certificate_and_no_other() {
        let identity = fake::identity();
        let rules = Rules { tls: Some(identity.clone()), ..Rules::plain() };
        let fake = fake::start(rules.clone());
        let right = Tls::pinned(identity.certificate, "127.0.0.1").unwrap();
        assert!(login_to(fake.sessions, Some(&right), rules.key).is_ok());
        let wrong = Tls::pinned(fake::identity().certificate, "127.0.0.1").unwrap();
        let error = login_to(fake.sessions, Some(&wrong), rules.key).err().unwrap();
        assert!(matches!(error, LoginError::Tls(_)), "{error}");
    }

    #[test]
    fn tls_with_roots_wants_the_right_name() {
        let identity = fake::identity();
        let rules = Rules { tls: Some(identity.clone()), ..Rules::plain() };
        let fake = fake::start(rules.clone());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(identity.certificate).unwrap();
        let right = Tls::with_roots(roots.clone(), "localhost").unwrap();
        assert!(login_to(fake.sessions, Some(&right), rules.key).is_ok());
        let wrong = Tls::with_roots(roots, "other.example").unwrap();
        let error = login_to(fake.sessions, Some(&wrong), rules.key).err().unwrap();
        assert!(matches!(error, LoginError::Tls(_)), "{error}");
    }

    #[test]
    fn the_own_address_can_be_chosen() {
        smol::block_on(async {
            let listener = Async::<std::net::TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
            let address = listener.get_ref().local_addr().unwrap();
            let _stream = open(address, Some([127, 0, 0, 77].into())).await.unwrap();
            let (_, from) = listener.accept().await.unwrap();
            assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 77]));
        });
    }
}
