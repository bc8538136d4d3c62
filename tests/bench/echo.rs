//! A bare echo: the same TLS on the same executor and sockets as ours, and nothing behind it. What it takes for an exchange
//! is the least that a program of this kind can take. What datagrams bring it sends to whoever asked for it over TLS, or
//! posts it to a webhook by as many threads as ours.

use std::env;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_rustls::TlsAcceptor;
use iotsocketd::client::datagram::Sender;
use iotsocketd::client::{Stream, Tls};
use iotsocketd::delivery::lanes::SHARE;
use iotsocketd::endpoint::stream::{Metered, Stream as Taken};
use iotsocketd::endpoint::tls::Certificates;
use iotsocketd::service::listen::Sockets;
use iotsocketd::sys::{Batch, DATAGRAMS_PER_CALL};
use iotsocketd::wire::{Datagram, Format, Payload, Token};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::{Async, LocalExecutor};
use tempfile::TempDir;

use super::machine;
use super::site::{PROGRAM, run};

/// What the process is told that is to be the echo; its folder and the webhook follow.
pub const OPTION: &str = "--echo";
/// Bytes at the start of what a client says: how many bytes it says and how many it awaits, two each.
const HEAD_LEN: usize = 4;
/// Bytes read at a time, as ours.
const READ_LEN: usize = 16 * 1024;
/// What a datagram carries, as those of `simulate`.
const PAYLOAD: [u8; 64] = [7; 64];
/// Bytes of a post to the webhook, as ours: head, and the message as JSON.
const POST_LEN: usize = 320;
const TOKEN: Token = Token([7; 8]);
/// Bytes of a datagram at most, as the default has it, and of its head.
const DATAGRAM_MAX: usize = 4096;
const HEAD_MAX: usize = 16;
/// A sender that has a rate pauses so long, as that of `simulate`.
const PAUSE: Duration = Duration::from_micros(500);
/// What was sent is there by then.
const REST: Duration = Duration::from_millis(500);

/// An echo as a process of its own.
pub struct Echo {
    _folder: TempDir,
    child: Child,
    /// Where it answers, where it sends what comes on, and where it posts what comes.
    address: SocketAddr,
    forwards: SocketAddr,
    posts: SocketAddr,
    tls: Tls,
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

impl Echo {
    /// One that posts to this webhook.
    pub fn start(webhook: SocketAddr) -> Result<Self, String> {
        let folder = TempDir::with_prefix("iotsocketd-echo-").map_err(text)?;
        run(Command::new(PROGRAM).args(["init", "--environment", "test"]).arg(folder.path()))?;
        let own = env::current_exe().map_err(text)?;
        let mut command = Command::new(own);
        command.arg(OPTION).arg(folder.path()).arg(webhook.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(text)?;
        let mut line = String::new();
        let out = child.stdout.take().ok_or("the echo has no output")?;
        BufReader::new(out).read_line(&mut line).map_err(text)?;
        let addresses: Vec<SocketAddr> = line.split_whitespace().flat_map(str::parse).collect();
        let &[address, forwards, posts] = addresses.as_slice() else {
            return Err(format!("the echo says {line:?}"));
        };
        let certificate =
            CertificateDer::from_pem_file(folder.path().join("tls/server.crt")).map_err(text)?;
        let tls = Tls::pinned(certificate, "localhost").map_err(text)?;
        Ok(Self { _folder: folder, child, address, forwards, posts, tls })
    }

    /// Microseconds of the echo's processor time for an exchange, by so many clients with one at a time each.
    pub fn exchange(&self, clients: usize, says: u16, awaits: u16, time: Duration) -> Result<f64, String> {
        self.cost(clients, time, |mut stream, end, mut count| async move {
            let mut said = vec![7; says.into()];
            let mut answer = vec![0; awaits.into()];
            for (place, byte) in said.iter_mut().zip([says.to_be_bytes(), awaits.to_be_bytes()].concat()) {
                *place = byte;
            }
            while Instant::now() < end {
                stream.write_all(&said).await.map_err(text)?;
                stream.flush().await.map_err(text)?;
                stream.read_exact(&mut answer).await.map_err(text)?;
                count += 1;
            }
            Ok(count)
        })
    }

    /// The same for connections that do their handshake and leave.
    pub fn handshake(&self, clients: usize, time: Duration) -> Result<f64, String> {
        self.cost(clients, time, |stream, end, mut count| async move {
            drop(stream);
            while Instant::now() < end {
                drop(Stream::open(self.address, Some(&self.tls)).await.map_err(text)?);
                count += 1;
            }
            Ok(count)
        })
    }

    /// The same for a datagram of many that come as fast as one sender can, and go on over TLS.
    pub fn forward(&self, time: Duration) -> Result<f64, String> {
        let datagram_len = head_len()? + PAYLOAD.len();
        let mut bytes = 0;
        let spent = self.spent(self.forwards, None, time, || {
            smol::block_on(async {
                let mut stream = Stream::open(self.address, Some(&self.tls)).await.map_err(text)?;
                stream.write_all(&[0, HEAD_LEN as u8, 0, 0]).await.map_err(text)?;
                stream.flush().await.map_err(text)?;
                let mut room = vec![0; READ_LEN];
                let read = async {
                    loop {
                        bytes += stream.read(&mut room).await.map_err(text)?;
                    }
                };
                let over = async {
                    Timer::after(time + REST).await;
                    Ok(())
                };
                smol::future::or(over, read).await
            })
        })?;
        Ok(spent * 1e6 / (bytes as f64 / datagram_len as f64).max(1.0))
    }

    /// The same for a datagram of so many a second that are posted to the webhook, which says when it has one.
    pub fn post(&self, rate: u32, came: &mpsc::Receiver<()>, time: Duration) -> Result<f64, String> {
        came.try_iter().for_each(drop);
        let spent = self.spent(self.posts, Some(rate), time, || {
            thread::sleep(time + REST);
            Ok(())
        })?;
        Ok(spent * 1e6 / (came.try_iter().count() as f64).max(1.0))
    }

    /// Seconds of its processor time while datagrams come to this door, and `receive` does its part.
    fn spent(
        &self,
        to: SocketAddr,
        rate: Option<u32>,
        time: Duration,
        receive: impl FnOnce() -> Result<(), String>,
    ) -> Result<f64, String> {
        let before = machine::processor_seconds(self.child.id())?;
        let sent = thread::scope(|scope| {
            let sending = scope.spawn(move || send(to, rate, time));
            receive()?;
            sending.join().map_err(|_| "the sender panicked".to_owned())?
        });
        sent?;
        Ok(machine::processor_seconds(self.child.id())? - before)
    }

    fn cost<'a, F>(
        &'a self,
        clients: usize,
        time: Duration,
        work: impl Fn(Stream, Instant, u64) -> F,
    ) -> Result<f64, String>
    where
        F: Future<Output = Result<u64, String>> + 'a,
    {
        let executor = LocalExecutor::new();
        smol::block_on(executor.run(async {
            let mut streams = Vec::new();
            for _ in 0..clients {
                streams.push(Stream::open(self.address, Some(&self.tls)).await.map_err(text)?);
            }
            let before = machine::processor_seconds(self.child.id())?;
            let end = Instant::now() + time;
            let tasks: Vec<_> =
                streams.into_iter().map(|stream| executor.spawn(work(stream, end, 0))).collect();
            let mut count = 0;
            for task in tasks {
                count += task.await?;
            }
            let spent = machine::processor_seconds(self.child.id())? - before;
            Ok(spent * 1e6 / (count as f64).max(1.0))
        }))
    }
}

/// Sends datagrams, at a rate or as fast as it can.
fn send(to: SocketAddr, rate: Option<u32>, time: Duration) -> Result<(), String> {
    let mut sender = Sender::connect(to).map_err(text)?;
    let (begun, mut sent) = (Instant::now(), 0);
    while begun.elapsed() < time {
        let due = rate.map(|rate| (begun.elapsed().as_secs_f64() * f64::from(rate)) as usize - sent);
        let due = due.unwrap_or(DATAGRAMS_PER_CALL).min(DATAGRAMS_PER_CALL);
        for _ in 0..due {
            sender.push(TOKEN, payload()?);
        }
        sender.send().map_err(text)?;
        sent += due;
        if rate.is_some() {
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

fn payload() -> Result<Payload<'static>, String> {
    Payload::new(Format::Binary, &PAYLOAD).ok_or_else(|| "the payload is too long".to_owned())
}

fn head_len() -> Result<usize, String> {
    Ok(Datagram { token: TOKEN, payload: payload()? }.encode_head().len())
}

/// The process that echoes, until it is killed.
pub fn serve(folder: &Path, webhook: SocketAddr) -> Result<(), String> {
    let certificates = Certificates::load(&folder.join("tls/server.crt"), &folder.join("tls/server.key"));
    let config = certificates.map_err(text)?.sessions();
    let listener = Async::<TcpListener>::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
    // With as much room in the kernel as ours.
    let mut sockets = Sockets::default();
    let mut open = |key| sockets.udp(key, (Ipv4Addr::LOCALHOST, 0).into());
    let (forwarded, posted) = (Rc::new(open("forwarded")?), open("posted")?);
    let address = |socket: &Async<UdpSocket>| socket.get_ref().local_addr().map_err(text);
    let own = listener.get_ref().local_addr().map_err(text)?;
    super::say(&format!("{own} {} {}", address(&forwarded)?, address(&posted)?));
    let executor = LocalExecutor::new();
    executor.spawn(async move { post(&posted, webhook).await.ok() }).detach();
    smol::block_on(executor.run(async {
        loop {
            let (socket, _) = listener.accept().await.map_err(text)?;
            socket.get_ref().set_nodelay(true).map_err(text)?;
            let (acceptor, datagrams) = (TlsAcceptor::from(config.clone()), Rc::clone(&forwarded));
            // Who goes away is done.
            executor.spawn(async move { echo(acceptor, socket, &datagrams).await.ok() }).detach();
        }
    }))
}

async fn echo(
    acceptor: TlsAcceptor,
    socket: Async<TcpStream>,
    datagrams: &Async<UdpSocket>,
) -> io::Result<()> {
    let mut stream = Taken::Tls(Box::new(acceptor.accept(Metered::new(socket)).await?));
    let (mut room, answer) = (vec![0; READ_LEN], vec![7; READ_LEN]);
    let (mut came, mut head) = (0, [0; HEAD_LEN]);
    loop {
        let len = stream.read(&mut room).await?;
        if len == 0 {
            return Ok(());
        }
        if came == 0 {
            head = room.first_chunk().copied().unwrap_or_default();
        }
        came += len;
        let [a, b, c, d] = head;
        if came >= u16::from_be_bytes([a, b]).into() {
            let awaited = usize::from(u16::from_be_bytes([c, d]));
            if awaited == 0 {
                // It awaits what datagrams bring.
                return forward(&mut stream, datagrams).await;
            }
            stream.write_all(answer.get(..awaited).unwrap_or_default()).await?;
            stream.flush().await?;
            came = 0;
        }
    }
}

/// What has come goes on at once, as much as a record of TLS takes.
async fn forward(stream: &mut Taken, socket: &Async<UdpSocket>) -> io::Result<()> {
    let (mut batch, mut bytes) = (Batch::new(DATAGRAM_MAX), Vec::new());
    loop {
        socket.read_with(|socket| batch.receive(socket.as_fd())).await?;
        bytes.clear();
        loop {
            batch.iter().for_each(|received| bytes.extend_from_slice(received.bytes));
            let is_full = bytes.len() + DATAGRAMS_PER_CALL * (PAYLOAD.len() + HEAD_MAX) > READ_LEN;
            if is_full || batch.receive(socket.get_ref().as_fd()).is_err() {
                break;
            }
        }
        stream.write_all(&bytes).await?;
        stream.flush().await?;
    }
}

/// One post for each datagram.
async fn post(socket: &Async<UdpSocket>, webhook: SocketAddr) -> io::Result<()> {
    let (ask, asked) = smol::channel::unbounded::<()>();
    for _ in 0..SHARE {
        let asked = asked.clone();
        thread::spawn(move || -> io::Result<()> {
            let mut body = vec![b' '; POST_LEN - 1];
            body.push(b'}');
            let (mut hook, mut room) = (TcpStream::connect(webhook)?, vec![0; READ_LEN]);
            hook.set_nodelay(true)?;
            while asked.recv_blocking().is_ok() {
                hook.write_all(&body)?;
                // A short answer comes whole.
                if hook.read(&mut room)? == 0 {
                    break;
                }
            }
            Ok(())
        });
    }
    let mut batch = Batch::new(DATAGRAM_MAX);
    loop {
        socket.read_with(|socket| batch.receive(socket.as_fd())).await?;
        for _ in batch.iter() {
            // Nobody is left to post it once the webhook is gone.
            let _taken = ask.try_send(());
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
