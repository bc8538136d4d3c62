//! Asks a running concentrator over its maintenance socket.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For each read and write. It answers from memory; longer means that it is stuck.
const TIMEOUT: Duration = Duration::from_secs(5);
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

/// The body of a 200 answer.
pub(super) fn get(socket: &Path, path: &str) -> Result<String, ClientError> {
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NotRunning,
        ErrorKind::PermissionDenied => ClientError::Forbidden(socket.to_owned()),
        _ => ClientError::Io(socket.to_owned(), error),
    };
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    let answer = exchange(&mut stream, path).map_err(|error| ClientError::Io(socket.to_owned(), error))?;
    let strange = || ClientError::Io(socket.to_owned(), io::Error::other("what answers is no iotsocketd"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(strange)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(strange)?;
    if status == 200 { Ok(body.to_owned()) } else { Err(ClientError::Refused(status, body.to_owned())) }
}

/// HTTP/1.0: the answer comes in one piece and ends with the connection.
fn exchange(stream: &mut UnixStream, path: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}
