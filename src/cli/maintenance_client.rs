//! Asks a running concentrator over its maintenance socket.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::service::config::{DEFAULT_PATH, DEFAULT_STATE_DIR, Places};

/// For each read and write of what is answered from memory; longer means that it is stuck.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// The same for what is read from the journal: a little longer than it may take there.
pub(super) const JOURNAL_TIMEOUT: Duration = Duration::from_secs(35);
/// The same for what is to be done there, all of it.
const ERRAND_TIMEOUT: Duration = Duration::from_secs(3600);
/// Where systemd gives the service a folder.
const RUNTIME_SOCKET: &str = "/run/iotsocketd/maintenance.sock";
/// Bytes of a line of an answer's head at most, and of a refusal.
const HEAD_LINE_MAX: u64 = 4096;
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
    let mut is_the_service = true;
    // Who may open the socket need not be able to read the secrets that the configuration names; and while there is a mistake in
    // it, the one before is in force.
    if let Ok(places) = Places::read(config) {
        sockets.push(places.socket);
        sockets.push(places.state_dir.join("maintenance.sock"));
        // Who names another one is not to ask, or order, the machine's own.
        is_the_service =
            config == Path::new(DEFAULT_PATH) || places.state_dir == Path::new(DEFAULT_STATE_DIR);
    } else {
        sockets.push(Path::new(DEFAULT_STATE_DIR).join("maintenance.sock"));
    }
    if is_the_service {
        sockets.push(PathBuf::from(RUNTIME_SOCKET));
    }
    sockets.dedup();
    sockets
}

/// The body of a 200 answer from the first of these sockets that somebody answers on.
pub(super) fn ask(sockets: &[PathBuf], path: &str, timeout: Duration) -> Result<String, String> {
    first(sockets, |socket| exchange(socket, "GET", path, timeout))?.ok_or_else(|| nobody(sockets))
}

fn nobody(sockets: &[PathBuf]) -> String {
    let places: Vec<_> = sockets.iter().map(|socket| socket.display().to_string()).collect();
    format!("{}: nobody answers on {}", ClientError::NotRunning, places.join(" or "))
}

/// The same for what is to be done, however long that takes.
pub(super) fn act(sockets: &[PathBuf], path: &str) -> Result<String, String> {
    first(sockets, |socket| exchange(socket, "POST", path, ERRAND_TIMEOUT))?.ok_or_else(|| nobody(sockets))
}

/// Whether somebody listens on one of these sockets, or whoever does cannot be asked.
pub(super) fn is_running(sockets: &[PathBuf]) -> bool {
    sockets.iter().any(|socket| !matches!(connect(socket), Err(ClientError::NotRunning)))
}

/// The body of such an answer as it comes, and how long it is; `None` if nobody answers.
pub(super) fn open(sockets: &[PathBuf], path: &str) -> Result<Option<(u64, BufReader<UnixStream>)>, String> {
    first(sockets, |socket| {
        let failed = |error| ClientError::Io(socket.to_owned(), error);
        let mut stream = connect(socket)?;
        send(&mut stream, "GET", path, JOURNAL_TIMEOUT).map_err(failed)?;
        let mut answer = BufReader::new(stream);
        let (mut status, mut len) = (None, None);
        loop {
            let mut line = String::new();
            answer.by_ref().take(HEAD_LINE_MAX).read_line(&mut line).map_err(failed)?;
            let line = line.trim_end();
            match line.split_once(": ") {
                _ if line.is_empty() => break,
                None => status = line.split(' ').nth(1).and_then(|status| status.parse().ok()),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    len = value.parse().ok()
                }
                Some(_) => {}
            }
        }
        match (status, len) {
            (Some(200), Some(len)) => Ok((len, answer)),
            (Some(status), _) => {
                let mut body = String::new();
                answer.take(HEAD_LINE_MAX).read_to_string(&mut body).map_err(failed)?;
                Err(ClientError::Refused(status, sentence(&body)))
            }
            (None, _) => Err(strange(socket)),
        }
    })
}

/// Uploads something to whoever answers on one of these sockets first, and tells every line of the answer as it comes.
pub(super) fn upload(
    sockets: &[PathBuf],
    path: &str,
    body: &[u8],
    timeout: Duration,
    mut tell: impl FnMut(&str),
) -> Result<(), String> {
    let stream = first(sockets, connect)?.ok_or_else(|| nobody(sockets))?;
    let failed = |error: io::Error| format!("the concentrator does not answer: {error}");
    let mut answer = BufReader::new(stream);
    let stream = answer.get_mut();
    let sent = stream.set_read_timeout(Some(timeout)).and_then(|()| stream.set_write_timeout(Some(timeout)));
    let head = format!("POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    sent.and_then(|()| stream.write_all(head.as_bytes()))
        .and_then(|()| stream.write_all(body))
        .map_err(failed)?;
    let mut is_head = true;
    let mut status = None;
    loop {
        let mut line = String::new();
        if answer.by_ref().take(HEAD_LINE_MAX).read_line(&mut line).map_err(failed)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        match (is_head, &status) {
            (true, None) => status = line.split(' ').nth(1).map(str::to_owned),
            (true, Some(_)) => is_head = !line.is_empty(),
            (false, Some(status)) if status != "200" => return Err(sentence(line)),
            (false, _) => tell(line),
        }
    }
}

/// What the first of these sockets that somebody answers on gives.
fn first<T>(sockets: &[PathBuf], ask: impl Fn(&Path) -> Result<T, ClientError>) -> Result<Option<T>, String> {
    let mut failure = None;
    for socket in sockets {
        match ask(socket) {
            Ok(answer) => return Ok(Some(answer)),
            Err(error @ ClientError::Refused(..)) => return Err(error.to_string()),
            // What says more than "nobody there" is kept.
            Err(ClientError::NotRunning) => {}
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(None), |error| Err(error.to_string()))
}

fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    UnixStream::connect(socket).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NotRunning,
        ErrorKind::PermissionDenied => ClientError::Forbidden(socket.to_owned()),
        _ => ClientError::Io(socket.to_owned(), error),
    })
}

fn strange(socket: &Path) -> ClientError {
    ClientError::Io(socket.to_owned(), io::Error::other("what answers is no iotsocketd"))
}

fn exchange(socket: &Path, method: &str, path: &str, timeout: Duration) -> Result<String, ClientError> {
    let failed = |error| ClientError::Io(socket.to_owned(), error);
    let mut stream = connect(socket)?;
    send(&mut stream, method, path, timeout).map_err(failed)?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer).map_err(failed)?;
    let strange = || strange(socket);
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
fn send(stream: &mut UnixStream, method: &str, path: &str, timeout: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_s_own_concentrator_is_asked_for_its_own_configuration_only() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("iotsocketd.toml");
        let runtime = PathBuf::from(RUNTIME_SOCKET);
        std::fs::write(&config, "state_dir = \"state\"\n").unwrap();
        assert_eq!(sockets(&config), [folder.path().join("state/maintenance.sock")]);
        std::fs::write(&config, "").unwrap();
        assert!(sockets(&config).contains(&runtime), "it has the state folder of the service");
        assert!(sockets(&folder.path().join("none")).contains(&runtime), "nothing is known of it");
    }
}
