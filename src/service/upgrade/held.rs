//! Datagrams that come in while the journal is nobody's: read on, kept in their order, and handed to whoever has it next.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::sys::Batch;

/// Bytes that are kept at most; what comes above waits with the kernel.
const HELD_MAX: usize = 16 << 20;
/// What a datagram takes beside its bytes, about.
const OVERHEAD: usize = 64;
/// How long it waits when there is nothing: much less than the kernel's buffer takes to fill.
const PAUSE: Duration = Duration::from_millis(1);

/// Datagrams, each with its sender.
pub type Datagrams = Vec<(SocketAddr, Vec<u8>)>;

/// Reads on.
#[derive(Debug)]
pub struct Held {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Datagrams>,
}

impl Held {
    /// Reads from this socket from now on.
    pub fn start(socket: UdpSocket, datagram_max: usize) -> io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let read = move || {
            let (mut batch, mut held, mut bytes) = (Batch::new(datagram_max), Vec::new(), 0);
            while !over.load(Ordering::Acquire) {
                if bytes >= HELD_MAX || batch.receive(socket.as_fd()).is_err() {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                for received in batch.iter() {
                    // One that is too long stays so.
                    let mut datagram = received.bytes.to_vec();
                    datagram.extend(received.truncated.then_some(0));
                    bytes += datagram.len() + OVERHEAD;
                    held.push((received.source, datagram));
                }
            }
            held
        };
        Ok(Self { is_over, thread: Builder::new().name("held".to_owned()).spawn(read)? })
    }

    /// Reads no more; gives what there was.
    pub fn stop(self) -> Datagrams {
        self.is_over.store(true, Ordering::Release);
        self.thread.join().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_is_handed_on_in_its_order() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (to, from) = (socket.local_addr().unwrap(), sender.local_addr().unwrap());
        let held = Held::start(socket.try_clone().unwrap(), 4).unwrap();
        for number in 0..100_u8 {
            sender.send_to(&[number, 1, 2], to).unwrap();
        }
        sender.send_to(b"12345", to).unwrap();
        // Nothing is left for anybody else.
        socket.set_nonblocking(true).unwrap();
        while socket.peek(&mut [0; 8]).is_ok() {
            std::thread::sleep(PAUSE);
        }
        let mut datagrams = held.stop();
        assert_eq!(datagrams.pop(), Some((from, b"1234\0".to_vec())), "longer than it may be");
        let expected: Datagrams = (0..100).map(|number| (from, vec![number, 1, 2])).collect();
        assert_eq!(datagrams, expected);
    }
}
