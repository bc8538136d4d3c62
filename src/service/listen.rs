//! The sockets that the program listens on: passed in by whoever started it, or opened here. They are held as long as the
//! process lives, so that a service that starts again in it, or a newer version, goes on where the older one left off.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use async_io::Async;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::sys;

/// Connections that the system holds until they are accepted: enough for all devices of a site after a power cut.
const BACKLOG: i32 = 4096;
/// Bytes of datagrams that the system is asked to hold; it may give less (net.core.rmem_max).
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Listening sockets.
#[derive(Debug, Default)]
pub struct Sockets {
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    socket: OwnedFd,
    /// What it serves, if that was found out.
    key: Option<&'static str>,
}

impl Sockets {
    /// What systemd passed to this process, if it did.
    pub fn of_this_process() -> Self {
        Self::passed(sys::passed_descriptors())
    }

    /// Sockets that somebody else opened.
    pub fn passed(sockets: Vec<OwnedFd>) -> Self {
        Self { held: sockets.into_iter().map(|socket| Held { socket, key: None }).collect() }
    }

    /// All of them.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.held.iter().map(|held| held.socket.as_fd())
    }

    /// Another descriptor of the socket for datagrams, once it was asked for.
    pub fn datagrams(&self) -> io::Result<UdpSocket> {
        let is_it = |held: &&Held| SockRef::from(&held.socket).r#type().ok() == Some(Type::DGRAM);
        let held = self.held.iter().find(is_it).ok_or(io::ErrorKind::NotFound)?;
        held.socket.try_clone().map(UdpSocket::from)
    }

    /// Listens on a TCP port; the error names it.
    pub fn tcp(&mut self, key: &'static str, address: SocketAddr) -> Result<Async<TcpListener>, String> {
        let listen = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            // A restart must not wait for connections of the run before to time out. (Never on UDP: there it would let
            // a second program share the port.)
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            Ok(socket)
        };
        let socket = self.find_or(key, address, Type::STREAM, listen)?;
        Async::new(TcpListener::from(socket)).map_err(|error| sentence(key, address, &error))
    }

    /// Opens a UDP port; the error names it.
    pub fn udp(&mut self, key: &'static str, address: SocketAddr) -> Result<Async<UdpSocket>, String> {
        let open = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
            socket.bind(&address.into())?;
            Ok(socket)
        };
        let socket = self.find_or(key, address, Type::DGRAM, open)?;
        Async::new(UdpSocket::from(socket)).map_err(|error| sentence(key, address, &error))
    }

    /// A sentence about a socket that was passed in and that nothing of the configuration asks for.
    pub fn unused(&self) -> Option<String> {
        let held = self.held.iter().find(|held| held.key.is_none())?;
        let socket = SockRef::from(&held.socket);
        let kind = if socket.r#type().ok() == Some(Type::DGRAM) { "UDP" } else { "TCP" };
        let address = socket.local_addr().ok().and_then(|address| address.as_socket());
        let address = address.map_or_else(|| "no port".to_owned(), |address| address.to_string());
        Some(format!(
            "a socket was passed in for {kind} {address}, and no `listen` of the configuration has that port: change \
             iotsocketd.socket, or [sessions], [telemetry], [api] listen"
        ))
    }

    /// A socket of this kind that is held and fits the address, or else a new one, which is held from now on.
    fn find_or(
        &mut self,
        key: &'static str,
        address: SocketAddr,
        kind: Type,
        open: impl Fn() -> io::Result<Socket>,
    ) -> Result<Socket, String> {
        let failed = |error: &io::Error| sentence(key, address, error);
        let fits = |held: &&mut Held| held.key.is_none_or(|of| of == key) && held.fits(address, kind);
        if let Some(held) = self.held.iter_mut().find(fits) {
            let socket = held.socket.try_clone().map_err(|error| failed(&error))?;
            held.key = Some(key);
            return Ok(socket.into());
        }
        let socket = open().map_err(|error| failed(&error))?;
        let held = socket.try_clone().map_err(|error| failed(&error))?;
        self.held.push(Held { socket: held.into(), key: Some(key) });
        Ok(socket)
    }
}

impl Held {
    /// Whether it is what would be opened for this address. One for every address of the machine fits whatever the
    /// configuration says: that of systemd is usually IPv6 and IPv4 at once.
    fn fits(&self, address: SocketAddr, kind: Type) -> bool {
        let socket = SockRef::from(&self.socket);
        let is_listening = kind != Type::STREAM || socket.is_listener().unwrap_or(false);
        let local = socket.local_addr().ok().and_then(|local| local.as_socket());
        is_listening
            && socket.r#type().ok() == Some(kind)
            && local.is_some_and(|local| {
                // Where the system chose the port, it is the one that serves this already.
                let is_same_port =
                    local.port() == address.port() || (address.port() == 0 && self.key.is_some());
                is_same_port && (local.ip() == address.ip() || local.ip().is_unspecified())
            })
    }
}

fn sentence(key: &str, address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "{key} = \"{address}\": port {} is in use by another program, or was a minute ago by a connection \
                 from this machine",
                address.port()
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "{key} = \"{address}\": no right to listen on port {}; ports below 1024 need it",
                address.port()
            )
        }
        _ => format!("{key} = \"{address}\": cannot listen: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn what_is_passed_in_is_taken_by_kind_and_port_and_the_rest_is_opened() {
        let tcp = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("[::]:0").unwrap()];
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ports = tcp.each_ref().map(|socket| socket.local_addr().unwrap().port());
        let udp_port = udp.local_addr().unwrap().port();
        let [first, second] = tcp;
        let mut sockets = Sockets::passed(vec![first.into(), second.into(), udp.into()]);
        assert!(sockets.unused().unwrap().contains(&format!("TCP 127.0.0.1:{}", ports[0])));
        // One for every address, passed in, serves what is configured for every address of IPv4.
        let api = sockets.tcp("api.listen", SocketAddr::from(([0, 0, 0, 0], ports[1]))).unwrap();
        assert_eq!(api.get_ref().local_addr().unwrap().port(), ports[1]);
        let sessions = sockets.tcp("sessions.listen", loopback(ports[0])).unwrap();
        assert_eq!(sessions.get_ref().local_addr().unwrap().port(), ports[0]);
        assert!(sockets.unused().unwrap().contains(&format!("UDP 127.0.0.1:{udp_port}")));
        sockets.udp("telemetry.listen", loopback(udp_port)).unwrap();
        assert_eq!(sockets.unused(), None);
        assert_eq!(sockets.descriptors().count(), 3);
    }

    #[test]
    fn a_socket_serves_again_what_it_served() {
        let mut sockets = Sockets::default();
        let first = sockets.tcp("sessions.listen", loopback(0)).unwrap();
        let other = sockets.tcp("api.listen", loopback(0)).unwrap();
        let again = sockets.tcp("sessions.listen", loopback(0)).unwrap();
        let port = |socket: &Async<TcpListener>| socket.get_ref().local_addr().unwrap().port();
        assert_eq!(port(&again), port(&first));
        assert_ne!(port(&other), port(&first));
        let sessions = port(&first);
        drop((first, again));
        std::net::TcpStream::connect(loopback(sessions)).unwrap();
        // Nobody gets the socket of somebody else.
        let error = sockets.tcp("api.listen", loopback(sessions)).unwrap_err();
        assert!(error.contains("in use"), "{error}");
    }
}
