//! Asks a running concentrator over its maintenance socket.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::service::config::Config;

/// For each read and write of what is answered from memory; longer means that it is stuck.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// The same for what is read from the journal: a little longer than it may take there.
pub(super) const JOURNAL_TIMEOUT: Duration = Duration::from_secs(35);
/// Where systemd gives the service a folder.
const RUNTIME_SOCKET: &str = "/run/iotsocketd/maintenance.sock";
/// Where the socket is without a configuration.
const STATE_SOCKET: &str = "/var/lib/iotsocketd/maintenance.sock";
/// The largest answer that is taken.
const ANSWER_MAX: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum ClientError {
    /// Nobody listens on the socket, or there is none.
    NotRunning,
    /// The socket may not be opened.
    Forbidden(PathBuf),
    /// It does not answer, or not as expected.
    Io(PathBuf, io::Error),
    /// It answered with an error; status and sentence.
    Refused(u16, String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => f.write_str("no concentrator is running"),
            Self::Forbidden(path) => write!(
                f,
                "{} may not be opened: become root or a member of the service's group",
                path.display()
            ),
            Self::Io(path, error) => write!(f, "{} does not answer: {error}", path.display()),
            Self::Refused(status, sentence) => write!(f, "the concentrator refused ({status}): {sentence}"),
        }
    }
}

/// Where a concentrator with the configuration in this file could listen.
pub(super) fn sockets(config: &Path) -> Vec<PathBuf> {
    let mut sockets = Vec::new();
    // Who may open the socket need not be able to read the secrets that the configuration names.
    if let Ok((config, _warnings)) = Config::load(config) {
        sockets.push(config.maintenance.socket);
        sockets.push(config.state_dir.join("maintenance.sock"));
    } else {
        sockets.push(PathBuf::from(STATE_SOCKET));
    }
    sockets.push(PathBuf::from(RUNTIME_SOCKET));
    sockets.dedup();
    sockets
}

/// The body of a 200 answer from the first of these sockets that somebody answers on.
pub(super) fn ask(sockets: &[PathBuf], path: &str, timeout: Duration) -> Result<String, String> {
    let mut failure = ClientError::NotRunning;
    for socket in sockets {
        match get(socket, path, timeout) {
            Ok(text) => return Ok(text),
            Err(error @ ClientError::Refused(..)) => return Err(error.to_string()),
            // What says more than "nobody there" is kept.
            Err(ClientError::NotRunning) => {}
            Err(error) => failure = error,
        }
    }
    let places: Vec<_> = sockets.iter().map(|socket| socket.display().to_string()).collect();
    Err(match failure {
        ClientError::NotRunning => format!("{failure}: nobody answers on {}", places.join(" or ")),
        _ => failure.to_string(),
    })
}

fn get(socket: &Path, path: &str, timeout: Duration) -> Result<String, ClientError> {
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NotRunning,
        ErrorKind::PermissionDenied => ClientError::Forbidden(socket.to_owned()),
        _ => ClientError::Io(socket.to_owned(), error),
    };
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    let answer =
        exchange(&mut stream, path, timeout).map_err(|error| ClientError::Io(socket.to_owned(), error))?;
    let strange = || ClientError::Io(socket.to_owned(), io::Error::other("what answers is no iotsocketd"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(strange)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(strange)?;
    if status == 200 { Ok(body.to_owned()) } else { Err(ClientError::Refused(status, sentence(body))) }
}

/// What a refusal says.
fn sentence(body: &str) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    serde_json::from_str::<Refusal>(body).map_or_else(|_| body.to_owned(), |refusal| refusal.error)
}

/// HTTP/1.0: the answer comes in one piece and ends with the connection.
fn exchange(stream: &mut UnixStream, path: &str, timeout: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}
