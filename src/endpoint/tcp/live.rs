//! A session, from the verdict to its end: one future, no buffer of its own while nothing flows.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_io::Timer;
use smol::io::AsyncRead as _;

use super::TcpServer;
use super::writer::Writer;
use crate::endpoint::stream::Stream;
use crate::hub::access_keeper::ReplaceError;
use crate::hub::outbox::{Kind, Order, Outbox};
use crate::limits::{OUTGOING_MAX, TELEMETRY_WINDOW};
use crate::router::{Command, Origin};
use crate::session::{Event, Session, Violation};
use crate::wire::{ACL_ITEM_LEN, CloseCode};

/// Bytes read at a time. One buffer a thread: it is used only while a session is being polled.
const READ_LEN: usize = 16 * 1024;
/// Reads of one session before others have their turn.
const READS_A_TURN: usize = 8;
/// A peer that takes nothing for this long is closed.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_LEN].into());
}

/// How a session ended.
#[derive(Debug)]
pub enum SessionEnd {
    /// The connection broke, or the peer closed it without a word.
    Broken,
    /// The peer said that it closes.
    PeerClosed(CloseCode),
    /// The peer broke a rule.
    Violation(Violation),
    /// The peer takes nothing.
    Stalled,
    /// The hub wants it closed.
    Ordered(CloseCode),
}

type Upload = Pin<Box<dyn Future<Output = Result<usize, ReplaceError>> + Send>>;

/// A live session.
pub struct Live {
    pub(super) stream: Stream,
    pub(super) writer: Writer,
    pub(super) outbox: Arc<Outbox>,
    pub(super) origin: Origin,
    pub(super) source: IpAddr,
    session: Session,
    server: Arc<TcpServer>,
    timer: Timer,
    /// Bytes that the system had taken when progress was last seen, and when.
    progress: (u64, Option<Instant>),
    /// An access list on its way to disk; what came behind it waits in `held`.
    upload: Option<Upload>,
    held: Vec<u8>,
}

impl Live {
    pub(super) fn new(
        stream: Stream,
        session: Session,
        outbox: Arc<Outbox>,
        server: Arc<TcpServer>,
        origin: Origin,
        source: IpAddr,
    ) -> Self {
        Self {
            stream,
            writer: Writer::default(),
            outbox,
            origin,
            source,
            timer: Timer::at(session.deadline()),
            session,
            server,
            progress: (0, None),
            upload: None,
            held: Vec::new(),
        }
    }

    /// Runs the session to its end.
    pub(super) async fn run(&mut self) -> SessionEnd {
        poll_fn(|context| match self.poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(end)) => Poll::Ready(end),
            Poll::Ready(Ok(never)) => match never {},
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<std::convert::Infallible, SessionEnd>> {
        let now = Instant::now();
        let mut reads_left = READS_A_TURN;
        loop {
            self.poll_upload(context, now)?;
            let was_outstanding = self.outbox.outstanding();
            let writing = self.writer.poll_write(&mut self.stream, &self.outbox, context);
            if let Poll::Ready(Err(_)) = writing {
                return Poll::Ready(Err(SessionEnd::Broken));
            }
            self.note_progress(writing.is_pending(), now)?;
            if self.origin.uid.is_central()
                && was_outstanding > 0
                && self.outbox.outstanding() < TELEMETRY_WINDOW
            {
                self.server.hub.pump();
            }
            let has_read = self.poll_read(context, now)?;
            self.poll_time(context, now)?;
            match self.outbox.poll_order(context.waker(), writing.is_ready()) {
                Some(Order::Close(code)) => return Poll::Ready(Err(SessionEnd::Ordered(code))),
                None if !has_read => return Poll::Pending,
                Some(Order::Write) | None => {}
            }
            if has_read {
                reads_left -= 1;
                if reads_left == 0 {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads and handles one buffer; whether there was something.
    fn poll_read(&mut self, context: &mut Context<'_>, now: Instant) -> Result<bool, SessionEnd> {
        // A peer that does not take its answers is not asked for more questions.
        if self.upload.is_some() || self.outbox.outstanding() > OUTGOING_MAX {
            return Ok(false);
        }
        BUFFER.with_borrow_mut(|buffer| match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => Err(SessionEnd::Broken),
            Poll::Ready(Ok(len)) => {
                self.handle(buffer.get(..len).unwrap_or_default(), now)?;
                Ok(true)
            }
        })
    }

    /// Lets the session read the bytes and the hub act on them, all in one turn.
    fn handle(&mut self, mut input: &[u8], now: Instant) -> Result<(), SessionEnd> {
        let hub = &self.server.hub;
        let origin = self.origin;
        let mut turn = None;
        loop {
            let event = match self.session.receive(now, &mut input) {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(()),
                Err(end) => return Err(SessionEnd::Violation(end.0)),
            };
            match event {
                Event::Request { uid, number, payload } => turn
                    .get_or_insert_with(|| hub.turn(now))
                    .handle(Command::Request { origin, uid, number, payload }),
                Event::Response { uid, number, code, payload } => turn
                    .get_or_insert_with(|| hub.turn(now))
                    .handle(Command::Response { origin, uid, number, code, payload }),
                Event::Pong => {
                    if let Some(Some(seq)) = self.writer.take_ping() {
                        turn.get_or_insert_with(|| hub.turn(now)).acknowledged(origin.connection, seq);
                    }
                }
                Event::AccessList(items) => {
                    // What comes behind the list is handled once it is on disk and in force.
                    self.upload = Some(upload(&self.server, items));
                    self.held = input.to_vec();
                    return Ok(());
                }
                Event::Close(code) => return Err(SessionEnd::PeerClosed(code)),
                Event::Ping | Event::StartTls | Event::StayPlain | Event::Proof(_) => {}
            }
            while let Some(bytes) = self.session.poll_output() {
                let _own_task = self.outbox.push_bytes(Kind::Passing, &bytes);
            }
        }
    }

    fn poll_upload(&mut self, context: &mut Context<'_>, now: Instant) -> Result<(), SessionEnd> {
        while let Some(upload) = &mut self.upload {
            let Poll::Ready(outcome) = upload.as_mut().poll(context) else { return Ok(()) };
            self.upload = None;
            match outcome {
                Ok(count) => {
                    log::info!("event=access_list_replaced via=tcp objects={count} source={}", self.source);
                }
                Err(error) => self.server.refusals.note(super::TcpCause::AccessList, &self.source, &error),
            }
            let held = std::mem::take(&mut self.held);
            self.handle(&held, now)?;
        }
        Ok(())
    }

    /// A peer that is slow is waited for; one that takes nothing is not.
    fn note_progress(&mut self, is_waiting: bool, now: Instant) -> Result<(), SessionEnd> {
        let written = self.stream.written();
        if !is_waiting {
            self.progress = (written, None);
            return Ok(());
        }
        match self.progress {
            (before, Some(since)) if before == written => {
                if now.saturating_duration_since(since) >= STALL_TIMEOUT {
                    return Err(SessionEnd::Stalled);
                }
            }
            _ => {
                self.progress = (written, Some(now));
                self.timer.set_at(self.session.deadline().min(now + STALL_TIMEOUT));
            }
        }
        Ok(())
    }

    fn poll_time(&mut self, context: &mut Context<'_>, now: Instant) -> Result<(), SessionEnd> {
        while Pin::new(&mut self.timer).poll(context).is_ready() {
            let now = now.max(Instant::now());
            self.session.tick(now).map_err(|end| SessionEnd::Violation(end.0))?;
            while let Some(ping) = self.session.poll_output() {
                let _own_task = self.outbox.push_bytes(Kind::Ping(None), &ping);
            }
            self.note_progress(self.progress.1.is_some(), now)?;
            let stall = self.progress.1.map(|since| since + STALL_TIMEOUT);
            let next = stall.map_or(self.session.deadline(), |stall| stall.min(self.session.deadline()));
            self.timer.set_at(next);
        }
        Ok(())
    }
}

fn upload(server: &Arc<TcpServer>, items: Vec<[u8; ACL_ITEM_LEN]>) -> Upload {
    let access = Arc::clone(&server.access);
    Box::pin(async move { access.replace_wire(items).await })
}

impl From<io::Error> for SessionEnd {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}
