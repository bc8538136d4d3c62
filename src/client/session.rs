//! A session by callbacks: small when idle, few system calls when busy.
//!
//! Bytes are read into a buffer that all sessions of a thread share; a session keeps only the part of a transmission
//! whose rest has not come yet. What the handler says in answer to everything that one read brought goes out in one
//! write.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use smol::io::{AsyncRead, AsyncWrite};

use crate::wire::{CloseCode, Decoded, TRANSMISSION_MAX, Transmission, WireError};

/// Bytes of the shared buffer: a transmission that lacks its last byte, and as much again to read into.
const READ_LEN: usize = 2 * TRANSMISSION_MAX;
/// With more than this many bytes to write, nothing is read: the peer must take its answers first.
const OUTPUT_HIGH: usize = 256 * 1024;
/// Reads of one poll at most, so that other sessions of the thread get their turn.
const READS_MAX: usize = 16;
/// An empty buffer larger than this many bytes is given back.
const SPARE_MAX: usize = 1024;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_LEN]);
}

/// What a client does in its session.
pub trait Handler {
    /// A transmission came. Pings are answered and closes are taken care of before; all others come here.
    fn handle(&mut self, transmission: Transmission<'_>, out: &mut Outbox);

    /// Called at every turn: says what is to be said unasked, and wakes `cx` when there will be more.
    fn poll(&mut self, _cx: &mut Context<'_>, _out: &mut Outbox) {}
}

/// What a session still has to write.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    unflushed: bool,
    leaving: bool,
}

/// How a session ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The handler left, and the peer was told.
    Left,
    /// The peer said goodbye.
    Closed(CloseCode),
    /// The connection ended without a word.
    Lost,
}

/// Why a session broke.
#[derive(Debug)]
pub enum SessionError {
    /// The connection failed.
    Io(io::Error),
    /// The peer broke the wire format.
    Wire(WireError),
    /// The peer sent an access list, which only a central may send.
    Unexpected,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_) => f.write_str("the connection failed"),
            Self::Wire(_) => f.write_str("the concentrator broke the protocol"),
            Self::Unexpected => f.write_str("the concentrator sent what only a client may send"),
        }
    }
}

impl std::error::Error for SessionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Wire(error) => Some(error),
            Self::Unexpected => None,
        }
    }
}

impl From<io::Error> for SessionError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<WireError> for SessionError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl Outbox {
    /// Appends a transmission.
    pub fn push(&mut self, transmission: &Transmission<'_>) {
        self.bytes.extend_from_slice(&transmission.encode_head());
        self.bytes.extend_from_slice(transmission.body());
    }

    /// Says goodbye; the session ends once that is written.
    pub fn leave(&mut self, code: CloseCode) {
        if !self.leaving {
            self.push(&Transmission::Close(code));
            self.leaving = true;
        }
    }

    /// Bytes that wait to be written.
    pub fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.written)
    }

    /// Whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ready when everything is out.
    fn poll_write(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self.bytes.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut *stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
            self.unflushed = true;
        }
        self.written = 0;
        self.bytes.clear();
        if self.bytes.capacity() > SPARE_MAX {
            self.bytes = Vec::new();
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

struct Session<'a, S, H> {
    stream: S,
    handler: &'a mut H,
    /// The start of a transmission whose rest has not come yet.
    input: Vec<u8>,
    out: Outbox,
}

/// Runs a session until it ends.
pub async fn drive<S, H>(stream: S, handler: &mut H) -> Result<End, SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let mut session = Session { stream, handler, input: Vec::new(), out: Outbox::default() };
    poll_fn(|cx| session.poll(cx)).await
}

impl<S: AsyncRead + AsyncWrite + Unpin, H: Handler> Session<'_, S, H> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, SessionError>> {
        for _ in 0..READS_MAX {
            let held_back = self.out.leaving || self.out.len() > OUTPUT_HIGH;
            let read = if held_back { Poll::Pending } else { self.poll_read(cx)? };
            if let Poll::Ready(Some(end)) = read {
                return Poll::Ready(Ok(end));
            }
            if !held_back {
                self.handler.poll(cx, &mut self.out);
            }
            let written = self.out.poll_write(&mut self.stream, cx)?;
            if written.is_ready() && self.out.leaving {
                return Poll::Ready(Ok(End::Left));
            }
            let go_on = if held_back { written.is_ready() } else { read.is_ready() };
            if !go_on {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once, and hands on every whole transmission.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<End>, SessionError>> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            // What is kept is shorter than a transmission, hence than half of the buffer.
            let kept = self.input.len();
            let Some((front, room)) = buffer.split_at_mut_checked(kept) else {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::OutOfMemory).into()));
            };
            front.copy_from_slice(&self.input);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, room))?;
            if read == 0 {
                return Poll::Ready(Ok(Some(End::Lost)));
            }
            let bytes = buffer.get(..kept + read).unwrap_or_default();
            let (used, end) = self.take(bytes)?;
            self.input.clear();
            let rest = bytes.get(used..).unwrap_or_default();
            if rest.is_empty() && self.input.capacity() > SPARE_MAX {
                self.input = Vec::new();
            }
            self.input.extend_from_slice(rest);
            Poll::Ready(Ok(end))
        })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<End>), SessionError> {
        let mut used = 0;
        loop {
            match Transmission::decode(bytes.get(used..).unwrap_or_default())? {
                Decoded::Need(_) => return Ok((used, None)),
                Decoded::Done(transmission, len) => {
                    used += len;
                    match transmission {
                        Transmission::Ping => self.out.push(&Transmission::Pong),
                        Transmission::Close(code) => return Ok((used, Some(End::Closed(code)))),
                        Transmission::AclHead { .. } => return Err(SessionError::Unexpected),
                        other => self.handler.handle(other, &mut self.out),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Format, Payload, RESPONSE_VALID, Token};

    /// Says its bytes `step` at a time, then is silent or ends; takes `takes` bytes at a write.
    struct Script {
        says: Vec<u8>,
        step: usize,
        ends: bool,
        takes: usize,
        heard: Vec<u8>,
        writes: usize,
    }

    impl AsyncRead for &mut Script {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let len = self.step.min(buffer.len()).min(self.says.len());
            if len == 0 && !self.ends {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            buffer[..len].copy_from_slice(&self.says[..len]);
            self.says.drain(..len);
            Poll::Ready(Ok(len))
        }
    }

    impl AsyncWrite for &mut Script {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let len = self.takes.min(bytes.len());
            self.heard.extend_from_slice(&bytes[..len]);
            self.writes += 1;
            Poll::Ready(Ok(len))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn script(transmissions: &[Transmission<'_>]) -> Script {
        let mut says = Vec::new();
        for transmission in transmissions {
            transmission.encode(&mut says);
        }
        Script { says, step: usize::MAX, ends: true, takes: usize::MAX, heard: Vec::new(), writes: 0 }
    }

    /// Answers requests with their payload, counts the rest, leaves after so many requests.
    #[derive(Default)]
    struct Echo {
        others: usize,
        requests: usize,
        leave_after: Option<usize>,
    }

    impl Handler for Echo {
        fn handle(&mut self, transmission: Transmission<'_>, out: &mut Outbox) {
            let Transmission::Request { number, payload, .. } = transmission else {
                self.others += 1;
                return;
            };
            self.requests += 1;
            out.push(&Transmission::Response { uid: None, number, code: RESPONSE_VALID, payload });
        }

        fn poll(&mut self, _: &mut Context<'_>, out: &mut Outbox) {
            if self.leave_after.is_some_and(|after| self.requests >= after) {
                out.leave(CloseCode::Sleep);
            }
        }
    }

    fn request(number: u16, data: &[u8]) -> Transmission<'_> {
        Transmission::Request { uid: None, number, payload: Payload::new(Format::Utf8, data).unwrap() }
    }

    #[test]
    fn transmissions_are_the_same_however_they_are_cut() {
        let whole = script(&[
            Transmission::Token(Token([1; 8])),
            request(1, b"one"),
            Transmission::Ping,
            request(2, b""),
            Transmission::Pong,
        ]);
        let len = whole.says.len();
        for (step, takes) in (1..=len).map(|step| (step, usize::MAX)).chain([(len, 1)]) {
            let mut script = Script { says: whole.says.clone(), step, takes, ..script(&[]) };
            let mut echo = Echo::default();
            let end = smol::block_on(drive(&mut script, &mut echo)).unwrap();
            assert_eq!((end, echo.requests, echo.others), (End::Lost, 2, 2));
            let mut expected = Vec::new();
            for (number, data) in [(1, b"one".as_slice()), (2, b"")] {
                if number == 2 {
                    Transmission::Pong.encode(&mut expected);
                }
                let payload = Payload::new(Format::Utf8, data).unwrap();
                Transmission::Response { uid: None, number, code: 0, payload }.encode(&mut expected);
            }
            assert_eq!(script.heard, expected);
        }
    }

    #[test]
    fn what_comes_together_is_answered_together() {
        let requests: Vec<_> = (0..100).map(|number| request(number, b"data")).collect();
        let mut script = script(&requests);
        smol::block_on(drive(&mut script, &mut Echo::default())).unwrap();
        assert_eq!(script.writes, 1);
    }

    #[test]
    fn the_longest_transmission_passes_in_small_pieces() {
        let data = vec![b'x'; 65_535];
        let mut script = Script { step: 4096, ..script(&[request(1, &data), request(2, &data)]) };
        let mut echo = Echo::default();
        assert_eq!(smol::block_on(drive(&mut script, &mut echo)).unwrap(), End::Lost);
        assert_eq!((echo.requests, script.heard.len()), (2, 2 * (65_535 + 7)));
    }

    #[test]
    fn leaving_says_goodbye_after_the_answers() {
        let mut script = Script { ends: false, ..script(&[request(1, b"")]) };
        let mut echo = Echo { leave_after: Some(1), ..Echo::default() };
        assert_eq!(smol::block_on(drive(&mut script, &mut echo)).unwrap(), End::Left);
        assert_eq!(script.heard[script.heard.len() - 2..], [0xf0, 0xa0]);
    }

    #[test]
    fn a_goodbye_of_the_peer_ends_the_session_with_its_code() {
        let mut script = script(&[Transmission::Close(CloseCode::ResourcesFreed), request(1, b"")]);
        let mut echo = Echo::default();
        let end = smol::block_on(drive(&mut script, &mut echo)).unwrap();
        assert_eq!((end, echo.requests), (End::Closed(CloseCode::ResourcesFreed), 0));
    }

    #[test]
    fn broken_bytes_and_access_lists_are_errors() {
        let mut broken = Script { says: vec![0x70], ..script(&[]) };
        let error = smol::block_on(drive(&mut broken, &mut Echo::default())).unwrap_err();
        assert!(matches!(error, SessionError::Wire(WireError::UnknownType(7))), "{error}");
        let mut list = script(&[Transmission::AclHead { count: 0 }]);
        let error = smol::block_on(drive(&mut list, &mut Echo::default())).unwrap_err();
        assert!(matches!(error, SessionError::Unexpected), "{error}");
    }
}
