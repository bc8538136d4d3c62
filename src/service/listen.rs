//! The sockets that the program listens on.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use async_io::Async;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the system holds until they are accepted: enough for all devices of a site after a power cut.
const BACKLOG: i32 = 4096;
/// Bytes of datagrams that the system is asked to hold; it may give less (net.core.rmem_max).
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Listens on a TCP port; the error names it.
pub fn tcp(key: &str, address: SocketAddr) -> Result<Async<TcpListener>, String> {
    let listen = || -> io::Result<Async<TcpListener>> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for connections of the run before to time out. (Never on UDP: there it would let
        // a second program share the port.)
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Async::new(TcpListener::from(socket))
    };
    listen().map_err(|error| sentence(key, address, &error))
}

/// Opens a UDP port; the error names it.
pub fn udp(key: &str, address: SocketAddr) -> Result<Async<UdpSocket>, String> {
    let open = || -> io::Result<Async<UdpSocket>> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind(&address.into())?;
        Async::new(UdpSocket::from(socket))
    };
    open().map_err(|error| sentence(key, address, &error))
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
