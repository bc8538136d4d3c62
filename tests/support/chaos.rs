//! Links that misbehave: proxies for TCP and UDP on loopback whose faults follow from a seed.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a thread looks whether it shall end.
const LOOK: Duration = Duration::from_millis(20);
/// A link that is half open is over after this time: by then whoever is at its ends knows.
const HALF_OPEN: Duration = Duration::from_secs(300);
/// How long one byte takes on a link that trickles.
const BYTE: Duration = Duration::from_millis(1);

/// Numbers that look random and come back with the same seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    /// Nothing happens to it.
    Through,
    /// Everything comes so much later.
    Late(Duration),
    /// Byte by byte.
    Trickle,
    /// Behind so many bytes of one direction it ends, in the middle of whatever that is.
    Cut(u64),
    /// The same, by a reset.
    Reset(u64),
    /// Behind so many bytes nothing comes through any more, and it stays open.
    HalfOpen(u64),
}

impl Fate {
    /// Any of them. Ends lie in the handshake, in the login, or behind it.
    pub fn any(random: &mut Random) -> Self {
        let end = 1 + [600, 3_000, 20_000][random.below(3) as usize].min(random.below(20_000));
        match random.below(8) {
            0 | 1 => Self::Through,
            2 => Self::Late(Duration::from_millis(1 + random.below(60))),
            3 => Self::Trickle,
            4 | 5 => Self::Cut(end),
            6 => Self::Reset(end),
            _ => Self::HalfOpen(end),
        }
    }

    fn end(self) -> Option<u64> {
        match self {
            Self::Cut(end) | Self::Reset(end) | Self::HalfOpen(end) => Some(end),
            Self::Through | Self::Late(_) | Self::Trickle => None,
        }
    }
}

/// A link, until dropped.
pub struct Link {
    /// Where it begins.
    pub address: SocketAddr,
    /// Connections, or datagrams, that came.
    pub came: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// A link for TCP. The n-th connection has the fate that the seed gives it.
    pub fn tcp(to: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        Self::start(address, move |is_over, came| {
            let mut pumps = Vec::<JoinHandle<()>>::new();
            while !is_over.load(Ordering::Relaxed) {
                let Ok((from, _)) = listener.accept() else {
                    thread::sleep(LOOK);
                    continue;
                };
                let over: Vec<JoinHandle<()>> = pumps.extract_if(.., |pump| pump.is_finished()).collect();
                over.into_iter().for_each(|pump| pump.join().unwrap());
                let number = came.fetch_add(1, Ordering::Relaxed);
                let fate = Fate::any(&mut Random::new(seed.wrapping_add(number.wrapping_mul(7919))));
                // Nobody may be there.
                let Ok(to) = TcpStream::connect(to) else { continue };
                from.set_nonblocking(false).unwrap();
                for (from, to) in [(&from, &to), (&to, &from)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let is_over = Arc::clone(is_over);
                    pumps.push(thread::spawn(move || pump(from, to, fate, &is_over)));
                }
            }
            for pump in pumps {
                pump.join().unwrap();
            }
        })
    }

    /// A link for datagrams in one direction: one of ten is lost, one of ten comes behind the one after it.
    pub fn udp(to: SocketAddr, seed: u64) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        socket.set_read_timeout(Some(LOOK)).unwrap();
        Self::start(address, move |is_over, came| {
            let (mut random, mut held) = (Random::new(seed), Vec::new());
            let mut buffer = [0; 65_536];
            while !is_over.load(Ordering::Relaxed) {
                let Ok((len, _)) = socket.recv_from(&mut buffer) else { continue };
                came.fetch_add(1, Ordering::Relaxed);
                let datagram = buffer[..len].to_vec();
                match random.below(10) {
                    0 => {}
                    1 => held.push(datagram),
                    _ => {
                        for datagram in std::iter::once(datagram).chain(held.drain(..)) {
                            // Nobody may be there.
                            let _refused = socket.send_to(&datagram, to);
                        }
                    }
                }
            }
        })
    }

    fn start(address: SocketAddr, work: impl FnOnce(&Arc<AtomicBool>, &AtomicU64) + Send + 'static) -> Self {
        let (is_over, came) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (over, count) = (Arc::clone(&is_over), Arc::clone(&came));
        let thread = Some(thread::spawn(move || work(&over, &count)));
        Self { address, came, is_over, thread }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap();
        }
    }
}

/// Carries bytes from one end to the other, as the fate has it.
fn pump(mut from: TcpStream, mut to: TcpStream, fate: Fate, is_over: &AtomicBool) {
    from.set_read_timeout(Some(LOOK)).unwrap();
    let (mut buffer, mut carried) = ([0; 4096], 0);
    let room = if matches!(fate, Fate::Trickle) { 1 } else { buffer.len() };
    while !is_over.load(Ordering::Relaxed) {
        let len = match from.read(&mut buffer[..room]) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => break,
        };
        match fate {
            Fate::Late(time) => thread::sleep(time),
            Fate::Trickle => thread::sleep(BYTE),
            _ => {}
        }
        let left = fate.end().map_or(len as u64, |end| (end - carried).min(len as u64));
        carried += left;
        if to.write_all(&buffer[..left as usize]).is_err() {
            break;
        }
        if fate.end() == Some(carried) {
            match fate {
                Fate::HalfOpen(_) => {
                    let begun = Instant::now();
                    while !is_over.load(Ordering::Relaxed) && begun.elapsed() < HALF_OPEN {
                        thread::sleep(LOOK);
                    }
                }
                Fate::Reset(_) => {
                    for socket in [&from, &to] {
                        let _gone = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
                    }
                }
                _ => {}
            }
            break;
        }
    }
    for socket in [&from, &to] {
        let _may_be_closed = socket.shutdown(Shutdown::Both);
    }
}
