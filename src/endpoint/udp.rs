//! The UDP server: telemetry datagrams, many in one system call.
//!
//! What is wrong is dropped and counted, never answered: an answer to a forged source would hit somebody else.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};

use super::refusals::{Cause, Refusals};
use crate::hub::Hub;
use crate::logfmt::Quoted;
use crate::net::canonical;
use crate::router::Count;
use crate::sys::{Batch, Received, enable_overflow_count};
use crate::wire::{Datagram, Token, WireError};

/// A pause after the system failed to give datagrams: it is not asked in a loop.
const RECEIVE_PAUSE: Duration = Duration::from_millis(100);
/// Batches handled before other tasks have their turn.
const BATCHES_A_TURN: usize = 8;

/// Why a datagram is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpCause {
    /// Longer than the configuration allows.
    Oversized,
    /// Too short, or the payload block does not fill it exactly.
    Length,
    /// A payload format that does not exist.
    UnknownFormat,
    /// A payload option that does not exist.
    UnknownOption,
    /// The token is not valid, or not any more.
    WrongToken,
    /// From a network that is not allowed.
    Source,
    /// The object's group may not send telemetry.
    NotAllowed,
    /// The group's rules do not take the payload: too long, or not what its format says.
    Payload,
    /// More messages than the group's rate.
    Rate,
}

impl Cause for UdpCause {
    const NAMES: &'static [&'static str] = &[
        "oversized",
        "length",
        "unknown_format",
        "unknown_option",
        "wrong_token",
        "source",
        "not_allowed",
        "payload",
        "rate",
    ];

    fn index(self) -> usize {
        self as usize
    }
}

/// The UDP server.
#[derive(Debug)]
pub struct UdpServer {
    hub: Arc<Hub>,
    /// What is dropped for its form.
    pub refusals: Refusals<UdpCause>,
    datagrams: AtomicU64,
    /// Bytes of a datagram at most; may change while it runs.
    max_datagram: AtomicUsize,
    /// The kernel's own count, which wraps.
    kernel_drops: AtomicU32,
}

impl UdpServer {
    /// A server that has not been started.
    pub fn new(hub: Arc<Hub>, max_datagram: usize) -> Self {
        Self {
            hub,
            refusals: Refusals::new("telemetry"),
            datagrams: AtomicU64::new(0),
            max_datagram: AtomicUsize::new(max_datagram),
            kernel_drops: AtomicU32::new(0),
        }
    }

    /// Takes up a changed configuration.
    pub fn set_max_datagram(&self, max_datagram: usize) {
        self.max_datagram.store(max_datagram, Ordering::Relaxed);
    }

    /// Datagrams that came in, good or not.
    pub fn datagrams(&self) -> u64 {
        self.datagrams.load(Ordering::Relaxed)
    }

    /// Datagrams that the kernel dropped because they were not fetched in time.
    pub fn kernel_drops(&self) -> u32 {
        self.kernel_drops.load(Ordering::Relaxed)
    }

    /// Receives until the future is dropped.
    pub async fn receive(self: Arc<Self>, socket: Async<UdpSocket>) {
        if let Err(error) = enable_overflow_count(socket.as_fd()) {
            log::warn!("event=no_drop_count listener=telemetry error={}", Quoted(error));
        }
        let mut batch_max = self.max_datagram.load(Ordering::Relaxed);
        let mut batch = Batch::new(batch_max);
        let mut turns = 0_usize;
        loop {
            let max_datagram = self.max_datagram.load(Ordering::Relaxed);
            if max_datagram != batch_max {
                batch_max = max_datagram;
                batch = Batch::new(batch_max);
            }
            match socket.read_with(|socket| batch.receive(socket.as_fd())).await {
                Ok(_) => {
                    self.handle(batch.iter());
                    if let Some(dropped) = batch.dropped() {
                        self.kernel_drops.store(dropped, Ordering::Relaxed);
                    }
                }
                Err(error) => {
                    log::warn!("event=receive_failed listener=telemetry error={}", Quoted(error));
                    Timer::after(RECEIVE_PAUSE).await;
                }
            }
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(BATCHES_A_TURN) {
                smol::future::yield_now().await;
            }
        }
    }

    /// Takes datagrams that came in elsewhere, in their order.
    pub fn take<'a>(&self, datagrams: impl IntoIterator<Item = (SocketAddr, &'a [u8])>) {
        let max = self.max_datagram.load(Ordering::Relaxed);
        let received = |(source, bytes): (SocketAddr, &'a [u8])| Received {
            bytes,
            source,
            truncated: bytes.len() > max,
        };
        self.handle(datagrams.into_iter().map(received));
    }

    fn handle<'a>(&self, datagrams: impl Iterator<Item = Received<'a>>) {
        let mut turn = self.hub.turn(Instant::now());
        let mut count = 0;
        for received in datagrams {
            count += 1;
            let source = canonical(received.source.ip());
            let taken = decode(&received)
                .and_then(|datagram| turn.telemetry(&datagram, source).map_err(UdpCause::from));
            if let Err(cause) = taken {
                self.refusals.note(cause, &source, &"datagram dropped");
                let token = received.bytes.first_chunk().copied().map(Token);
                let name = UdpCause::NAMES.get(cause.index()).copied().unwrap_or_default();
                turn.audit_datagram(token, source, name);
            }
        }
        turn.pump();
        drop(turn);
        self.datagrams.fetch_add(count, Ordering::Relaxed);
    }
}

impl From<Count> for UdpCause {
    fn from(count: Count) -> Self {
        match count {
            Count::TelemetryWrongToken => Self::WrongToken,
            Count::TelemetryWrongSource => Self::Source,
            Count::RateExceeded => Self::Rate,
            Count::PayloadTooLarge | Count::PayloadNotItsFormat => Self::Payload,
            _ => Self::NotAllowed,
        }
    }
}

fn decode<'a>(received: &Received<'a>) -> Result<Datagram<'a>, UdpCause> {
    if received.truncated {
        return Err(UdpCause::Oversized);
    }
    Datagram::decode(received.bytes).map_err(|error| match error {
        WireError::UnknownFormat(_) => UdpCause::UnknownFormat,
        WireError::UnknownOption(_) => UdpCause::UnknownOption,
        _ => UdpCause::Length,
    })
}
