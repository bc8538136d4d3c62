//! API calls over one kept connection: as little HTTP/1.1 as our own concentrator needs, for load and tests.

use std::fmt;
use std::io;

use smol::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::wire::AuthKey;

/// Bytes read at once.
const READ_LEN: usize = 8 * 1024;
/// The largest answer that is taken, head and body.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// A kept connection to the API.
pub struct Connection<S> {
    stream: S,
    request: Vec<u8>,
    answer: Vec<u8>,
    /// Bytes of `answer` that are filled.
    filled: usize,
}

/// An answer of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
}

/// Why there was no answer. The connection is of no more use.
#[derive(Debug)]
pub enum HttpError {
    /// The connection failed.
    Io(io::Error),
    /// The concentrator closed it.
    Closed,
    /// The answer is not HTTP with a length, or larger than 4 MiB.
    Unreadable,
    /// The concentrator answered with this status where 200 was awaited.
    Status(u16),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_) => f.write_str("the connection to the API failed"),
            Self::Closed => f.write_str("the API closed the connection"),
            Self::Unreadable => {
                f.write_str("the API's answer is not HTTP/1.1 with a stated length of at most 4 MiB")
            }
            Self::Status(status) => write!(f, "the API answered with status {status}"),
        }
    }
}

impl std::error::Error for HttpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Closed | Self::Unreadable | Self::Status(_) => None,
        }
    }
}

impl From<io::Error> for HttpError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Speaks HTTP over an open connection, under TLS or not.
    pub fn new(stream: S) -> Self {
        Self { stream, request: Vec::new(), answer: Vec::new(), filled: 0 }
    }

    /// Posts JSON and waits for the answer. `head` is made by [`post_head`], once for many calls.
    pub async fn post(&mut self, head: &[u8], body: &[u8]) -> Result<Answer<'_>, HttpError> {
        self.request.clear();
        self.request.extend_from_slice(head);
        self.request.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        self.request.extend_from_slice(body);
        self.exchange().await
    }

    /// Gets what is there.
    pub async fn get(&mut self, path: &str, host: &str, bearer: AuthKey) -> Result<Answer<'_>, HttpError> {
        self.request.clear();
        self.request.extend_from_slice(&head("GET", path, host, bearer));
        self.request.extend_from_slice(b"\r\n");
        self.exchange().await
    }

    /// Sends the request and waits for the answer.
    async fn exchange(&mut self) -> Result<Answer<'_>, HttpError> {
        self.stream.write_all(&self.request).await?;
        self.stream.flush().await?;
        self.filled = 0;
        loop {
            // The room is taken and cleared once, not at each call.
            if self.answer.len() - self.filled < READ_LEN {
                if self.filled > ANSWER_MAX {
                    return Err(HttpError::Unreadable);
                }
                self.answer.resize(self.filled + 2 * READ_LEN, 0);
            }
            let room = self.answer.get_mut(self.filled..).unwrap_or_default();
            let read = self.stream.read(room).await?;
            if read == 0 {
                return Err(HttpError::Closed);
            }
            self.filled += read;
            let bytes = self.answer.get(..self.filled).unwrap_or_default();
            let Some(head) = Head::read(bytes) else {
                continue;
            };
            let head = head?;
            if head.end + head.body_len <= self.filled {
                let body = self.answer.get(head.end..head.end + head.body_len).unwrap_or_default();
                return Ok(Answer { status: head.status, body });
            }
            if head.body_len > ANSWER_MAX {
                return Err(HttpError::Unreadable);
            }
        }
    }
}

/// The head of a `POST` of JSON, all but its length: path, host as the server shall see it, key as bearer.
pub fn post_head(path: &str, host: &str, bearer: AuthKey) -> Vec<u8> {
    let mut head = head("POST", path, host, bearer);
    head.extend_from_slice(b"Content-Type: application/json\r\n");
    head
}

fn head(method: &str, path: &str, host: &str, bearer: AuthKey) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer ");
    for byte in bearer.0 {
        head.push_str(&format!("{byte:02x}"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// What matters of an answer's head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Where the body begins.
    end: usize,
    body_len: usize,
}

impl Head {
    /// `None` while the head is not whole.
    fn read(bytes: &[u8]) -> Option<Result<Self, HttpError>> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        Some(Self::parse(bytes.get(..end)?, end).ok_or(HttpError::Unreadable))
    }

    fn parse(head: &[u8], end: usize) -> Option<Self> {
        let mut lines = head.split(|byte| *byte == b'\n');
        let status = lines.next()?.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
        let status = str::from_utf8(status).ok()?.parse().ok()?;
        let body_len = lines.find_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = line.split_at_checked(colon)?;
            let value = name.eq_ignore_ascii_case(b"content-length").then(|| value.get(1..))??;
            str::from_utf8(value.trim_ascii()).ok()?.parse().ok()
        })?;
        Some(Self { status, end, body_len })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;

    /// Gives out what it has, a few bytes at a time, and keeps what it is told.
    struct Script {
        says: Vec<u8>,
        step: usize,
        heard: Vec<u8>,
    }

    impl AsyncRead for Script {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let len = self.step.min(buffer.len()).min(self.says.len());
            buffer[..len].copy_from_slice(&self.says[..len]);
            self.says.drain(..len);
            Poll::Ready(Ok(len))
        }
    }

    impl AsyncWrite for Script {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.heard.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Status and body, or the error; and what the server heard.
    type Posted = (Result<(u16, Vec<u8>), String>, Vec<u8>);

    fn post(says: &[u8], step: usize) -> Posted {
        let script = Script { says: says.to_vec(), step, heard: Vec::new() };
        let mut connection = Connection::new(script);
        let head = post_head("/request", "host", AuthKey([0xab; 16]));
        let answer = smol::block_on(connection.post(&head, b"{}"))
            .map(|answer| (answer.status, answer.body.to_vec()))
            .map_err(|error| error.to_string());
        (answer, connection.stream.heard)
    }

    #[test]
    fn an_answer_is_the_same_however_it_is_cut() {
        let says = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ndate: x\r\n\r\nhello";
        for step in 1..=says.len() {
            let (answer, heard) = post(says, step);
            assert_eq!(answer.unwrap(), (200, b"hello".to_vec()));
            let heard = String::from_utf8(heard).unwrap();
            assert!(heard.starts_with("POST /request HTTP/1.1\r\nHost: host\r\nAuthorization: Bearer abab"));
            assert!(heard.ends_with("\r\nContent-Length: 2\r\n\r\n{}"));
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for says in [
            b"HTTP/1.1 200 OK\r\n\r\n".as_slice(),
            b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            b"HTTP/1.1 2",
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5000000\r\n\r\nhell",
        ] {
            assert!(post(says, 1000).0.is_err());
        }
    }
}
