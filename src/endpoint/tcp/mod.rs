//! The TCP server: sessions of objects and of the central.
//!
//! `set_up` takes a connection from accept to verdict, `live` is the session, `writer` says what was handed over to
//! the system and what was not, `finish` says goodbye.

mod finish;
mod live;
mod set_up;
mod writer;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use smol::Executor;
use smol::future::FutureExt as _;

use super::admission::{Admission, Permit};
use super::refusals::{Cause, Refusals};
use super::tls::Certificates;
use crate::hub::access_keeper::AccessKeeper;
use crate::hub::auditing::{Deed, What};
use crate::hub::{Hub, lock};
use crate::logfmt::Quoted;
use crate::net::{AllowFrom, canonical};
use crate::session;

/// A pause after the system could not give a connection (no descriptors left): it is not asked in a loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// In a crowd each waits for so much at most.
const PACE_MAX: Duration = Duration::from_millis(100);
const PACE_STEP: Duration = Duration::from_millis(2);

/// Connections above the bound that are told so at a time; more are closed without a word.
const TURNED_AWAY_MAX: usize = 64;

/// What the configuration says about the TCP server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The sessions' own.
    pub session: session::Settings,
    /// Networks that connections are taken from.
    pub allow_from: AllowFrom,
}

/// The TCP server.
#[derive(Debug)]
pub struct TcpServer {
    /// The owner of everything that sessions share.
    pub hub: Arc<Hub>,
    /// Bounds on connections.
    pub admission: Admission,
    /// The server's certificate.
    pub certificates: Arc<Certificates>,
    /// Puts uploaded access lists on disk.
    pub access: Arc<AccessKeeper>,
    /// What is refused.
    pub refusals: Refusals<TcpCause>,
    settings: Mutex<Settings>,
    /// Connections above the bound that are just being told so.
    turned_away: AtomicUsize,
}

/// Why a connection or a session was refused or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpCause {
    /// Not from an allowed network.
    Source,
    /// No place is left.
    Full,
    /// A newcomer took the place.
    Evicted,
    /// The TLS handshake failed.
    Tls,
    /// The connection broke during the set-up.
    Broken,
    /// Unknown UID, wrong key, or a source that the group does not allow.
    Login,
    /// A later login of the same UID came first.
    Superseded,
    /// The peer takes nothing.
    Stalled,
    /// The central's access list was refused.
    AccessList,
    /// A rule of the protocol was broken: by its index.
    Violation(session::Violation),
}

impl Cause for TcpCause {
    const NAMES: &'static [&'static str] = &[
        "source",
        "full",
        "evicted",
        "tls",
        "broken",
        "login",
        "superseded",
        "stalled",
        "access_list",
        "unknown_type",
        "unknown_format",
        "unknown_option",
        "misplaced_rte",
        "uid_not_utf8",
        "malformed",
        "wrong_version",
        "tls_required",
        "handshake_timeout",
        "peer_silent",
        "object_sent_uid",
        "object_sent_acl",
        "object_sent_token",
        "object_sent_telemetry",
        "central_without_uid",
        "central_sent_token",
        "central_sent_telemetry",
        "too_many_acl_items",
    ];

    fn index(self) -> usize {
        match self {
            Self::Source => 0,
            Self::Full => 1,
            Self::Evicted => 2,
            Self::Tls => 3,
            Self::Broken => 4,
            Self::Login => 5,
            Self::Superseded => 6,
            Self::Stalled => 7,
            Self::AccessList => 8,
            Self::Violation(violation) => {
                let name = violation.counter();
                Self::NAMES.iter().position(|known| *known == name).unwrap_or(usize::MAX)
            }
        }
    }
}

impl TcpServer {
    /// A server that has not been started.
    pub fn new(
        hub: Arc<Hub>,
        admission: Admission,
        certificates: Arc<Certificates>,
        access: Arc<AccessKeeper>,
        settings: Settings,
    ) -> Self {
        Self {
            hub,
            admission,
            certificates,
            access,
            refusals: Refusals::new("sessions"),
            settings: Mutex::new(settings),
            turned_away: AtomicUsize::new(0),
        }
    }

    /// Takes up a changed configuration; for connections that come from now on.
    pub fn set_settings(&self, settings: Settings) {
        *lock(&self.settings) = settings;
    }

    /// In a crowd connections are accepted no faster than they log in, so that none makes room for another: who waits with the
    /// system is refused nothing. For a moment at most, as it may be no crowd that wants to log in.
    async fn pace(&self) {
        let begun = Instant::now();
        loop {
            let now = Instant::now();
            if now.saturating_duration_since(begun) >= PACE_MAX || !self.admission.is_crowded(now) {
                return;
            }
            Timer::after(PACE_STEP).await;
        }
    }

    /// Accepts connections, until the future is dropped. Each is served by a task of its own.
    pub async fn accept(self: Arc<Self>, listener: Async<TcpListener>, executor: Arc<Executor<'static>>) {
        loop {
            self.pace().await;
            match listener.accept().await {
                Ok((io, peer)) => {
                    self.admit(io, peer, &executor);
                    // Who was let in has a turn before the next one comes: a long queue must not keep them all from theirs.
                    // And who was pushed out closes, or descriptors would add up.
                    smol::future::yield_now().await;
                }
                Err(error) => {
                    log::warn!("event=accept_failed listener=sessions error={}", Quoted(error));
                    Timer::after(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Counts and records a connection that does not come to a session.
    fn refuse(&self, cause: TcpCause, source: IpAddr, detail: &dyn std::fmt::Display) {
        self.refusals.note(cause, &source, detail);
        let detail = TcpCause::NAMES.get(cause.index()).copied().unwrap_or_default();
        self.hub.audit(Deed { from: Some(source), ..Deed::own(What::Refused, detail) });
    }

    fn admit(self: &Arc<Self>, io: Async<TcpStream>, peer: SocketAddr, executor: &Executor<'static>) {
        let source = canonical(peer.ip());
        if !lock(&self.settings).allow_from.allows(source) {
            self.refuse(TcpCause::Source, source, &"sessions.allow_from does not name it");
            return;
        }
        match self.admission.enter(source, Instant::now()) {
            Ok(permit) => {
                // The task ends with its connection, and every connection ends by a deadline or with the program:
                // nobody waits for its handle.
                executor.spawn(Arc::clone(self).serve(io, source, permit)).detach();
            }
            Err(refusal) => {
                self.refuse(TcpCause::Full, source, &refusal);
                if self.turned_away.fetch_add(1, Ordering::Relaxed) < TURNED_AWAY_MAX {
                    executor.spawn(Arc::clone(self).turn_away(io)).detach();
                } else {
                    self.turned_away.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Tells a client that there is no place for it.
    async fn turn_away(self: Arc<Self>, io: Async<TcpStream>) {
        finish::turn_away(io).await;
        self.turned_away.fetch_sub(1, Ordering::Relaxed);
    }

    async fn serve(self: Arc<Self>, io: Async<TcpStream>, source: IpAddr, permit: Permit) {
        let settings = lock(&self.settings).session;
        let Some(live) = Box::pin(self.set_up(io, source, &permit, settings)).await else { return };
        let mut live = live;
        let end = live.run().await;
        Box::pin(self.finish(live, end)).await;
        drop(permit);
    }
}

/// Small packets are sent at once: they are what an answer waits for.
fn prepare(io: &Async<TcpStream>) -> io::Result<()> {
    io.get_ref().set_nodelay(true)
}

/// Ends a future at a moment.
async fn until<T>(deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    async { Some(future.await) }
        .or(async {
            Timer::at(deadline).await;
            None
        })
        .await
}
