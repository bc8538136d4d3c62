//! What of a session's outgoing bytes the system has taken.
//!
//! A transmission is handed over once all its bytes are. Inside TLS the bytes go out in records of at most 16 KiB, of
//! which the peer can read nothing before it has all: so a piece is handed over when its record is flushed whole, and
//! not at all before. What is not handed over when the connection ends goes to the session's next connection, which
//! is why nothing is lost and nothing sent twice.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use smol::io::AsyncWrite as _;

use crate::endpoint::stream::Stream;
use crate::hub::outbox::{Batch, Kind, MARK_LEN, Outbox, unsent};
use crate::journal::Seq;
use crate::router::Queued;

/// Plaintext of one write: the largest TLS record.
const RECORD_MAX: usize = 16 * 1024;
/// A buffer larger than this is given back once it was written.
const BATCH_KEPT_MAX: usize = 1024;

/// Writes a session's outbox to its stream.
#[derive(Debug, Default)]
pub struct Writer {
    batch: Batch,
    /// Bytes of the batch that were handed over.
    done: usize,
    /// Marks of the batch whose bytes were all handed over.
    marks_done: usize,
    /// Where the first mark that is not done starts.
    mark_start: usize,
    /// Bytes that the stream took and has not flushed.
    in_flight: usize,
    /// Pings in the order they were taken for writing, and what their pongs acknowledge.
    pings: VecDeque<Option<Seq>>,
}

impl Writer {
    /// Writes until nothing is left (`Ready`) or the peer takes no more.
    pub fn poll_write(
        &mut self,
        stream: &mut Stream,
        outbox: &Outbox,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.in_flight > 0 {
                ready!(Pin::new(&mut *stream).poll_flush(context))?;
                let handed_over = std::mem::take(&mut self.in_flight);
                self.advance(handed_over, outbox);
            }
            let rest = self.batch.bytes.get(self.done..).unwrap_or_default();
            if rest.is_empty() {
                if !self.refill(outbox) {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let piece = rest.get(..RECORD_MAX).unwrap_or(rest);
            self.in_flight = match ready!(Pin::new(&mut *stream).poll_write(context, piece))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => taken,
            };
        }
    }

    /// Whether a piece is half with the system: then nothing but its rest may follow it.
    pub fn is_mid_record(&self) -> bool {
        self.in_flight > 0 || self.done > self.mark_start
    }

    /// The oldest ping that awaits its pong: `Some(Some(_))` acknowledges telemetry, `None`: no ping was sent.
    pub fn take_ping(&mut self) -> Option<Option<Seq>> {
        self.pings.pop_front()
    }

    /// Takes out what was not handed over, in order.
    pub fn into_unsent(mut self, outbox: &Outbox) -> Vec<Queued> {
        self.batch.bytes.drain(..self.mark_start.min(self.batch.bytes.len()));
        self.batch.marks.drain(..self.marks_done.min(self.batch.marks.len()));
        let mut all = unsent(&self.batch);
        let mut queued = Batch::default();
        outbox.take_all(&mut queued);
        all.extend(unsent(&queued));
        all
    }

    fn refill(&mut self, outbox: &Outbox) -> bool {
        self.batch.bytes.clear();
        self.batch.marks.clear();
        if self.batch.bytes.capacity() > BATCH_KEPT_MAX {
            self.batch = Batch::default();
        }
        self.done = 0;
        self.marks_done = 0;
        self.mark_start = 0;
        outbox.take(&mut self.batch);
        for mark in &self.batch.marks {
            if let Kind::Ping(acknowledges) = mark.kind {
                self.pings.push_back(acknowledges);
            }
        }
        !self.batch.bytes.is_empty()
    }

    fn advance(&mut self, handed_over: usize, outbox: &Outbox) {
        self.done += handed_over;
        let marks_done = self.marks_done;
        while let Some(mark) = self.batch.marks.get(self.marks_done) {
            if self.mark_start + mark.len > self.done {
                break;
            }
            self.mark_start += mark.len;
            self.marks_done += 1;
        }
        outbox.settle(handed_over + (self.marks_done - marks_done) * MARK_LEN);
    }
}
