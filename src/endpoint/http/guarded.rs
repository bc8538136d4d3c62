//! A connection's stream with what hyper leaves to us: a deadline for the reader of an answer, the silence of
//! the peer, and an eye on framing headers.

use std::cell::RefCell;
use std::io::{self, BufRead as _, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_io::Timer;
use hyper::rt::{Read, ReadBufCursor, Write};
use smol::io::{AsyncRead, AsyncWrite};

use crate::endpoint::admission::Permit;
use crate::endpoint::stream::Stream;

/// Bytes of one read at most.
const READ_MAX: usize = 4096;
/// The name that is looked for at the start of lines, with its colon.
const CONTENT_LENGTH: &[u8; 15] = b"content-length:";

thread_local! {
    /// One a thread: it is used only while a connection is being polled.
    static BUFFER: RefCell<[u8; READ_MAX]> = const { RefCell::new([0; READ_MAX]) };
}

/// What the stream and the service of one connection tell each other.
pub struct Watch {
    /// The connection's place.
    pub permit: Permit,
    /// Content-Length lines that arrived and belong to no request yet.
    content_lengths: AtomicU64,
    /// The answer was not taken in time.
    pub is_slow_reader: AtomicBool,
    /// A request was refused before its body was read: the client may still be sending.
    pub is_body_unread: AtomicBool,
}

/// The stream that hyper reads and writes.
pub struct Guarded {
    stream: Stream,
    watch: Arc<Watch>,
    write_timeout: Duration,
    /// Runs while bytes of an answer wait for the client.
    unwritten: Option<Timer>,
    line: LineStart,
}

/// The first bytes of the current line.
#[derive(Default)]
struct LineStart {
    bytes: [u8; CONTENT_LENGTH.len()],
    len: usize,
}

impl Watch {
    /// A new connection.
    pub fn new(permit: Permit) -> Self {
        Self {
            permit,
            content_lengths: AtomicU64::new(0),
            is_slow_reader: AtomicBool::new(false),
            is_body_unread: AtomicBool::new(false),
        }
    }

    /// Notes a request with that many Content-Length lines.
    pub fn take_content_length(&self) {
        let _changed = self
            .content_lengths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    }

    /// Notes a body that came whole, with a length: a line of it that looks like one of a head is none.
    pub fn take_body(&self, body: &[u8]) {
        // It began at the start of a line, as each body does, so that here the same lines are found as when it came.
        let lines = LineStart::default().count(body);
        let _changed = self
            .content_lengths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(count.saturating_sub(lines)));
    }

    /// Whether a Content-Length line arrived that no request accounts for. hyper drops the one beside
    /// Transfer-Encoding without a word; two parties that disagree about a request's end is how requests
    /// are smuggled.
    pub fn has_stray_content_length(&self) -> bool {
        self.content_lengths.load(Ordering::Relaxed) > 0
    }
}

impl Guarded {
    /// Guards this stream.
    pub fn new(stream: Stream, watch: Arc<Watch>, write_timeout: Duration) -> Self {
        Self { stream, watch, write_timeout, unwritten: None, line: LineStart::default() }
    }

    /// The stream below.
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// Passes a write's outcome on; one that waits too long becomes an error.
    fn bounded<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_pending() {
            let timeout = self.write_timeout;
            let timer = self.unwritten.get_or_insert_with(|| Timer::after(timeout));
            ready!(Pin::new(timer).poll(context));
            self.watch.is_slow_reader.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl LineStart {
    /// Counts the Content-Length lines that end or begin to be certain in these bytes.
    fn count(&mut self, bytes: &[u8]) -> u64 {
        let (mut count, mut rest) = (0, bytes);
        loop {
            let mut behind = rest;
            // Out of memory it cannot fail, and it is the standard library's fast search for a byte.
            let len = behind.skip_until(b'\n').unwrap_or_default();
            let Some(piece) = rest.get(..len).filter(|piece| !piece.is_empty()) else { return count };
            rest = behind;
            let before = self.len;
            self.len = (before + piece.len()).min(self.bytes.len());
            let room = self.bytes.get_mut(before..).unwrap_or_default();
            room.iter_mut().zip(piece).for_each(|(slot, byte)| *slot = *byte);
            // Told once, when the last byte of the name came.
            if before < self.bytes.len()
                && self.len == self.bytes.len()
                && self.bytes.eq_ignore_ascii_case(CONTENT_LENGTH)
            {
                count += 1;
            }
            if piece.ends_with(b"\n") {
                self.len = 0;
            }
        }
    }
}

impl Read for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // hyper's own buffer is large and not yet written to. Most reads find little or nothing, and what is never
        // touched costs no memory; so the bytes go through a small one.
        BUFFER.with_borrow_mut(|buffer| {
            let room = into.remaining().min(READ_MAX);
            let window = buffer.get_mut(..room).unwrap_or_default();
            let count = ready!(Pin::new(&mut this.stream).poll_read(context, window))?;
            let bytes = window.get(..count).unwrap_or_default();
            if !bytes.is_empty() {
                this.watch.permit.touch(Instant::now());
                let lines = this.line.count(bytes);
                if lines > 0 {
                    this.watch.content_lengths.fetch_add(lines, Ordering::Relaxed);
                }
                into.put_slice(bytes);
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl Write for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.stream).poll_write(context, from);
        this.bounded(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        if flushed.is_ready() {
            // Everything written so far is with the kernel. The deadline is for the whole answer: a reader that
            // takes a byte a second does not put it off.
            this.unwritten = None;
        }
        this.bounded(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let closed = Pin::new(&mut this.stream).poll_close(context);
        this.bounded(context, closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(pieces: &[&[u8]]) -> u64 {
        let mut line = LineStart::default();
        pieces.iter().map(|piece| line.count(piece)).sum()
    }

    #[test]
    fn content_length_lines_are_counted_however_they_are_cut() {
        let head =
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nX: content-length: 7\r\ncontent-LENGTH:5\r\n\r\n";
        assert_eq!(count(&[head]), 2);
        let bytes: Vec<&[u8]> = head.chunks(1).collect();
        assert_eq!(count(&bytes), 2);
        assert_eq!(count(&[b"content-length", b":"]), 1);
        assert_eq!(count(&[b"content-lengthy: 1\r\n content-length: 1\r\n"]), 0);
    }
}
