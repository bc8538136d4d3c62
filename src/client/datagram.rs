//! Telemetry, many datagrams in a system call.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;

use crate::sys::{DATAGRAMS_PER_CALL, send_many};
use crate::wire::{Datagram, Payload, Token};

/// Gathers datagrams and sends them together.
pub struct Sender {
    socket: UdpSocket,
    bytes: Vec<u8>,
    /// Where each datagram ends in `bytes`.
    ends: heapless::Vec<usize, DATAGRAMS_PER_CALL>,
}

impl Sender {
    /// A sender to one concentrator's telemetry address.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let any: IpAddr =
            if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        Ok(Self { socket, bytes: Vec::new(), ends: heapless::Vec::new() })
    }

    /// Adds a datagram; false if there is no room before the next [`Sender::send`].
    pub fn push(&mut self, token: Token, payload: Payload<'_>) -> bool {
        let head = Datagram { token, payload }.encode_head();
        if self.ends.push(self.bytes.len() + head.len() + payload.data().len()).is_err() {
            return false;
        }
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(payload.data());
        true
    }

    /// Sends what was gathered and forgets it. Returns how many datagrams went out: telemetry that finds the
    /// socket full is lost, as telemetry may be.
    pub fn send(&mut self) -> io::Result<usize> {
        let mut start = 0;
        let datagrams = self.ends.iter().map(|end| {
            let datagram = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            datagram
        });
        let sent = match send_many(self.socket.as_fd(), datagrams) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        };
        self.bytes.clear();
        self.ends.clear();
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Format;

    #[test]
    fn what_was_gathered_arrives_as_single_datagrams() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut sender = Sender::connect(receiver.local_addr().unwrap()).unwrap();
        let tokens = [Token([1; 8]), Token([2; 8])];
        assert!(sender.push(tokens[0], Payload::new(Format::Utf8, b"one").unwrap()));
        assert!(sender.push(tokens[1], Payload::EMPTY));
        assert_eq!(sender.send().unwrap(), 2);
        assert_eq!(sender.send().unwrap(), 0);
        let mut buffer = [0; 100];
        for (token, data) in [(tokens[0], b"one".as_slice()), (tokens[1], b"")] {
            let len = receiver.recv(&mut buffer).unwrap();
            let datagram = Datagram::decode(&buffer[..len]).unwrap();
            assert_eq!((datagram.token, datagram.payload.data()), (token, data));
        }
    }

    #[test]
    fn a_full_batch_takes_no_more_until_it_is_sent() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut sender = Sender::connect(receiver.local_addr().unwrap()).unwrap();
        for _ in 0..DATAGRAMS_PER_CALL {
            assert!(sender.push(Token([1; 8]), Payload::EMPTY));
        }
        assert!(!sender.push(Token([1; 8]), Payload::EMPTY));
        assert_eq!(sender.send().unwrap(), DATAGRAMS_PER_CALL);
        assert!(sender.push(Token([1; 8]), Payload::EMPTY));
    }
}
