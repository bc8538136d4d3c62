//! Links that are slow and far: proxies for TCP and UDP through which everything comes so much later, and only so many bytes of
//! it a second, all connections of a direction together.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a packet, and those of its heads that nobody sees here.
const PACKET: usize = 1_400;
const HEADS: usize = 52;

/// One direction.
#[derive(Debug)]
pub struct Wire {
    delay: Duration,
    /// Bits a second; `None`: as many as there are.
    rate: Option<u64>,
    is_free_at: Mutex<Instant>,
}

impl Wire {
    pub fn new(delay: Duration, rate: Option<u64>) -> Arc<Self> {
        Arc::new(Self { delay, rate, is_free_at: Mutex::new(Instant::now()) })
    }

    /// When what is sent now is there.
    fn arrival(&self, len: usize) -> Instant {
        let mut is_free_at = self.is_free_at.lock().unwrap();
        if let Some(rate) = self.rate {
            let bits = (len + HEADS) as u64 * 8;
            *is_free_at = Instant::now().max(*is_free_at) + Duration::from_nanos(bits * 1_000_000_000 / rate);
        }
        (*is_free_at).max(Instant::now()) + self.delay
    }
}

/// A link for TCP over these wires, for as long as the process runs. Gives where it begins.
pub fn tcp(to: SocketAddr, there: &Arc<Wire>, back: &Arc<Wire>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (there, back) = (Arc::clone(there), Arc::clone(back));
    thread::spawn(move || {
        for from in listener.incoming().map_while(Result::ok) {
            // Nobody may be there.
            let Ok(to) = TcpStream::connect(to) else { continue };
            for (from, to, wire) in [(&from, &to, &there), (&to, &from, &back)] {
                from.set_nodelay(true).unwrap();
                carry(from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(wire));
            }
        }
    });
    address
}

fn carry(mut from: TcpStream, mut to: TcpStream, wire: Arc<Wire>) {
    let (sender, receiver) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = [0; PACKET];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            if sender.send((wire.arrival(len), buffer[..len].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        deliver(&receiver, |bytes| to.write_all(bytes).is_ok());
        let _may_be_closed = to.shutdown(Shutdown::Write);
    });
}

/// A link for datagrams in one direction, for as long as the process runs. Gives where it begins.
pub fn udp(to: SocketAddr, there: &Arc<Wire>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let out = UdpSocket::bind(if to.ip().is_loopback() { "127.0.0.1:0" } else { "0.0.0.0:0" }).unwrap();
    let (sender, receiver) = channel::<(Instant, Vec<u8>)>();
    let there = Arc::clone(there);
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((len, _)) = socket.recv_from(&mut buffer) {
            let _ended = sender.send((there.arrival(len), buffer[..len].to_vec()));
        }
    });
    thread::spawn(move || deliver(&receiver, |bytes| out.send_to(bytes, to).is_ok()));
    address
}

fn deliver(receiver: &Receiver<(Instant, Vec<u8>)>, mut to: impl FnMut(&[u8]) -> bool) {
    while let Ok((at, bytes)) = receiver.recv() {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if !to(&bytes) {
            return;
        }
    }
}
