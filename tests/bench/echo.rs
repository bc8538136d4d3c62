//! A bare echo: the same TLS on the same executor and sockets as ours, and nothing behind it. What it takes for an exchange
//! is the least that a program of this kind can take.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_rustls::TlsAcceptor;
use iotsocketd::client::{Stream, Tls};
use iotsocketd::endpoint::stream::{Metered, Stream as Taken};
use iotsocketd::endpoint::tls::Certificates;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::{Async, LocalExecutor};
use tempfile::TempDir;

use super::machine;
use super::site::{PROGRAM, run};

/// What the process is told that is to be the echo; its folder follows.
pub const OPTION: &str = "--echo";
/// Bytes at the start of what a client says: how many bytes it says and how many it awaits, two each.
const HEAD_LEN: usize = 4;
/// Bytes read at a time, as ours.
const READ_LEN: usize = 16 * 1024;

/// An echo as a process of its own.
pub struct Echo {
    _folder: TempDir,
    child: Child,
    address: SocketAddr,
    tls: Tls,
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

impl Echo {
    pub fn start() -> Result<Self, String> {
        let folder = TempDir::with_prefix("iotsocketd-echo-").map_err(text)?;
        run(Command::new(PROGRAM).args(["init", "--environment", "test"]).arg(folder.path()))?;
        let own = env::current_exe().map_err(text)?;
        let mut command = Command::new(own);
        command.arg(OPTION).arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(text)?;
        let mut line = String::new();
        let out = child.stdout.take().ok_or("the echo has no output")?;
        BufReader::new(out).read_line(&mut line).map_err(text)?;
        let address = line.trim().parse().map_err(|_| format!("the echo says {line:?}"))?;
        let certificate =
            CertificateDer::from_pem_file(folder.path().join("tls/server.crt")).map_err(text)?;
        let tls = Tls::pinned(certificate, "localhost").map_err(text)?;
        Ok(Self { _folder: folder, child, address, tls })
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

/// The process that echoes, until it is killed.
pub fn serve(folder: &Path) -> Result<(), String> {
    let certificates = Certificates::load(&folder.join("tls/server.crt"), &folder.join("tls/server.key"));
    let config = certificates.map_err(text)?.sessions();
    let listener = Async::<TcpListener>::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
    super::say(&listener.get_ref().local_addr().map_err(text)?.to_string());
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        loop {
            let (socket, _) = listener.accept().await.map_err(text)?;
            socket.get_ref().set_nodelay(true).map_err(text)?;
            let acceptor = TlsAcceptor::from(config.clone());
            // Who goes away is done.
            executor.spawn(async move { echo(acceptor, socket).await.ok() }).detach();
        }
    }))
}

async fn echo(acceptor: TlsAcceptor, socket: Async<std::net::TcpStream>) -> std::io::Result<()> {
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
            stream.write_all(answer.get(..awaited).unwrap_or_default()).await?;
            stream.flush().await?;
            came = 0;
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
