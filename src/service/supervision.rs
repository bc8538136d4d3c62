//! What the service manager is told: that we are ready, that we live, that we stop (`sd_notify`). It is told that we live
//! only while every loop turns; as soon as one stopped, it is told that instead, and starts us again.

use std::io::{self, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};

use super::upgrade::words::{Word, Words};
use crate::hub::heartbeats::{BEAT, Judge, STOPPED_AFTER};
use crate::hub::{Hub, lock};
use crate::logfmt::Quoted;

/// How long the manager may take to understand.
const BARRIER: Duration = Duration::from_secs(5);
/// The manager hears from us this often at least in the time after which it takes us for dead.
const WORDS_A_TIMEOUT: u32 = 4;
/// The shipped unit's `WatchdogSec=`; what stopped is to be noticed in it.
const WATCHDOG: Duration = Duration::from_secs(20);
const _: () = assert!(STOPPED_AFTER.as_secs() + 2 * BEAT.as_secs() < WATCHDOG.as_secs());

/// Whoever looks after us: the service manager, the version before us while it judges, or nobody.
#[derive(Debug, Clone, Default)]
pub struct Manager {
    socket: Option<(Arc<UnixDatagram>, SocketAddr)>,
    watchdog: Option<Duration>,
    judge: Arc<Mutex<Option<Words>>>,
}

impl Manager {
    /// Whoever started this process, if it wants to be told.
    pub fn of_this_process() -> Self {
        let var = |name| std::env::var_os(name);
        let number = |name| var(name)?.to_str()?.parse::<u64>().ok();
        let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| for_us && *usec > 0).map(Duration::from_micros);
        let Some(name) = var("NOTIFY_SOCKET") else {
            return Self { watchdog, ..Self::default() };
        };
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&name),
        };
        let socket = address.and_then(|address| Ok((Arc::new(UnixDatagram::unbound()?), address)));
        let socket = socket.inspect_err(|error| {
            log::error!("event=no_way_to_the_service_manager socket={name:?} error={}", Quoted(error));
        });
        Self { socket: socket.ok(), watchdog, ..Self::default() }
    }

    /// The version before us hears that we live, and the service manager nothing, until [`Manager::become_service`].
    pub fn judged_by(self, words: Words) -> Self {
        Self { judge: Arc::new(Mutex::new(Some(words))), ..self }
    }

    /// The version before us is satisfied: from now on we speak for the service.
    pub fn become_service(&self) {
        *lock(&self.judge) = None;
        self.tell("READY=1");
    }

    /// Tells it something, one assignment a line.
    pub fn tell(&self, words: &str) {
        if let Some(judge) = &*lock(&self.judge) {
            let word = match words.lines().last() {
                Some("WATCHDOG=1") => Word::Alive,
                Some("WATCHDOG=trigger") => {
                    Word::Failed("a part of it stopped turning: see the log".to_owned())
                }
                _ => return,
            };
            // It is noticed elsewhere when nobody listens any more.
            let _heard = judge.say(&word);
            return;
        }
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(words.as_bytes(), address) {
            log::warn!("event=service_manager_not_told error={}", Quoted(error));
        }
    }

    /// Hands the service over to another process, and waits until that is understood.
    pub fn hand_over(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
        self.barrier();
    }

    /// Waits until all that it was told is handled: it then closes what came with the last word.
    fn barrier(&self) {
        let Some((socket, address)) = &self.socket else { return };
        let wait = || -> io::Result<()> {
            let (mut ours, theirs) = UnixStream::pair()?;
            ours.set_read_timeout(Some(BARRIER))?;
            let address = match (address.as_pathname(), address.as_abstract_name()) {
                (Some(path), _) => SocketAddrUnix::new(path)?,
                (None, name) => SocketAddrUnix::new_abstract_name(name.unwrap_or_default())?,
            };
            let descriptors = [theirs.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            let words = [IoSlice::new(b"BARRIER=1")];
            sendmsg_addr(socket, &address, &words, &mut control, SendFlags::NOSIGNAL)?;
            drop(theirs);
            ours.read(&mut [0]).map(drop)
        };
        if let Err(error) = wait() {
            log::warn!("event=service_manager_slow error={}", Quoted(error));
        }
    }

    /// How often it wants to hear that we live; a second where nobody wants to.
    pub fn interval(&self) -> Duration {
        self.watchdog.map_or(BEAT, |timeout| (timeout / WORDS_A_TIMEOUT).min(BEAT))
    }
}

/// Looks at the heartbeats until it is dropped.
#[derive(Debug)]
pub struct Watchdog {
    _stop: SyncSender<()>,
}

impl Watchdog {
    /// Feeds the manager's watchdog while every loop of this hub turns.
    pub fn start(hub: &Arc<Hub>, manager: Manager) -> Result<Self, String> {
        let (stop, stopped) = sync_channel(0);
        let hub = Arc::clone(hub);
        let mut judge = Judge::new(Instant::now());
        let mut was_well = true;
        let watch = move || {
            while stopped.recv_timeout(manager.interval()) == Err(RecvTimeoutError::Timeout) {
                let dead = judge.look(&hub.heartbeats, Instant::now());
                if dead.is_empty() {
                    manager.tell("WATCHDOG=1");
                } else if was_well {
                    log::error!("event=stopped_turning loops={dead} action=\"the service is started again\"");
                    manager.tell(&format!("STATUS={dead} stopped\nWATCHDOG=trigger"));
                }
                was_well = dead.is_empty();
            }
        };
        let thread = Builder::new().name("watchdog".to_owned()).spawn(watch);
        thread.map_err(|error| format!("the system gives no threads: {error}"))?;
        Ok(Self { _stop: stop })
    }
}
