//! Requests of a Unix socket, by tiny_http, whose own threads panic when they get no descriptor or no thread. That ends neither
//! the process nor the socket.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use tiny_http::{Request, Server};

use crate::hub::lock;
use crate::logfmt::Quoted;

/// How often a server is looked at, and at most made new.
const INTERVAL: Duration = Duration::from_secs(1);
/// Descriptors that must be free for a new one: the listener's, a connection's two, and that of the next.
const SPARE: usize = 4;
/// Panics that are outlived, as each leaves a connection and a few threads behind; then the process ends, and the next begins anew.
const PANICS_MAX: usize = 8;

/// Of all servers of this process.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Gives the requests, whatever becomes of the server.
pub(super) struct LocalRequests {
    listener: UnixListener,
    /// The last one serves. The others have ended; dropped, they would take the socket's file away.
    servers: Mutex<Vec<Arc<Server>>>,
    /// Panics before the last one was made, or `None` if it failed otherwise.
    panics_before: Mutex<Option<usize>>,
}

impl LocalRequests {
    pub(super) fn listen(listener: UnixListener) -> io::Result<Self> {
        contain_panics();
        let panics = PANICS.load(Ordering::Relaxed);
        let server = serve(&listener)?;
        let (servers, panics_before) = (Mutex::new(vec![Arc::new(server)]), Mutex::new(Some(panics)));
        Ok(Self { listener, servers, panics_before })
    }

    /// The next request, if there is one before long and nobody interrupts.
    pub(super) fn next(&self) -> Option<Request> {
        let server = lock(&self.servers).last().cloned()?;
        let mut panics_before = lock(&self.panics_before);
        match server.recv_timeout(INTERVAL) {
            Ok(Some(request)) => return Some(request),
            Ok(None) => {}
            // Accepting failed.
            Err(_) => {
                *panics_before = None;
                return None;
            }
        }
        let panics = PANICS.load(Ordering::Relaxed);
        if *panics_before != Some(panics) && has_spare(&self.listener) {
            match serve(&self.listener) {
                Ok(server) => {
                    log::warn!("event=maintenance_socket_again");
                    lock(&self.servers).push(Arc::new(server));
                    *panics_before = Some(panics);
                }
                Err(error) => log::warn!("event=maintenance_socket_failed error={}", Quoted(error)),
            }
        }
        None
    }

    /// Whoever waits for the next request has none.
    pub(super) fn interrupt(&self) {
        if let Some(server) = lock(&self.servers).last() {
            server.unblock();
        }
    }
}

impl Drop for LocalRequests {
    fn drop(&mut self) {
        // The one that serves first, as it is woken through the socket's file.
        while lock(&self.servers).pop().is_some() {}
        let _closed = SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

fn serve(listener: &UnixListener) -> io::Result<Server> {
    Server::from_listener(listener.try_clone()?, None).map_err(|error| io::Error::other(error.to_string()))
}

/// Whether a server would get what it needs, as far as that can be known before.
fn has_spare(listener: &UnixListener) -> bool {
    let descriptors: io::Result<Vec<_>> = (0..SPARE).map(|_| listener.try_clone()).collect();
    descriptors.is_ok() && thread::Builder::new().name("spare".to_owned()).spawn(|| ()).is_ok()
}

/// Stops threads of tiny_http that panic where they stand, instead of the process: nothing but its queue is shared with them.
fn contain_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !is_of_server(panic) || PANICS.fetch_add(1, Ordering::Relaxed) >= PANICS_MAX {
                return report(panic);
            }
            let error = panic.payload().downcast_ref::<String>().map_or("no thread", String::as_str);
            log::error!("event=maintenance_socket_failed error={}", Quoted(error));
            loop {
                thread::park();
            }
        }));
    });
}

/// Its threads alone have no name. They panic in its code, or in std's where no thread can be had.
fn is_of_server(panic: &PanicHookInfo<'_>) -> bool {
    let places = ["tiny_http", "std/src/thread"];
    let is_there = |file: &str| places.iter().any(|place| file.contains(place));
    thread::current().name().is_none() && panic.location().is_some_and(|place| is_there(place.file()))
}
