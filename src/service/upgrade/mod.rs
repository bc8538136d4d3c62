//! A newer version takes the place of this one while it runs, on the same sockets, and shows that it works; else this one is
//! back by itself.
//!
//! [`Desk`] takes what is uploaded: verified before it is written, at most one at a time. [`judge`] is the older version: it
//! starts the newer one, leaves its place ([`leaving`]), and stays alive, holding the sockets, until the verdict. [`successor`]
//! is the newer one, which has to prove itself ([`proof`]). They talk in [`words`]. A whole new system ([`system`]) is written
//! beside the running one, and has to give the same proof when it was started. The state folder's lock goes from one to
//! the other without ever being free, and the older one opens the journal again only when the newer one is reaped.

mod blake2b;
mod held;
pub mod judge;
mod leaving;
mod proof;
pub mod signature;
pub mod successor;
pub mod system;
mod versions;
pub mod words;

use std::io::Read;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use smol::channel::Sender;

pub use blake2b::blake2b;
pub use signature::{Version, claims_system, verify};
pub use versions::{RUNNING, TEXT_LEN_MAX, VERSION_LEN_MAX, Versions, read_bounded, running};

use super::Service;
use super::config::Config;
use crate::endpoint::maintenance::Uploads;

/// Lines of progress that may wait for whoever reads them; more are dropped.
const SAID_MAX: usize = 64;

/// What the running service is to do.
#[derive(Debug)]
pub enum Order {
    /// To leave its place.
    Leave(Job),
    /// To show that it works.
    Prove(Report),
}

/// A version that is to take over.
#[derive(Debug)]
pub struct Job {
    /// Which.
    pub version: Version,
    /// Its file, verified.
    pub program: PathBuf,
    /// To whoever waits for the verdict.
    pub report: Report,
}

/// What is told on the way to the verdict.
#[derive(Debug)]
enum Said {
    Progress(String),
    Verdict(Result<String, String>),
}

/// The way to whoever waits for the verdict; it may be gone.
#[derive(Debug)]
pub struct Report(SyncSender<Said>);

impl Report {
    /// Something was reached.
    pub fn progress(&self, sentence: impl Into<String>) {
        let sentence = sentence.into();
        log::info!("event=upgrade step=\"{sentence}\"");
        let _nobody_waits = self.0.try_send(Said::Progress(sentence));
    }

    /// It is decided.
    pub fn verdict(&self, verdict: Result<String, String>) {
        let _nobody_waits = self.0.try_send(Said::Verdict(verdict));
    }
}

/// Takes uploaded versions.
#[derive(Debug)]
pub struct Desk {
    versions: Versions,
    orders: Sender<Order>,
}

impl Desk {
    /// Keeps them where the configuration says, and hands them on.
    pub fn new(config: &Config, orders: Sender<Order>) -> Self {
        Self { versions: Versions::new(config), orders }
    }

    /// Verifies, keeps and hands on.
    fn take(&self, upload: &mut dyn Read) -> Result<Receiver<Said>, String> {
        let mut part = |max: usize, what: &str| {
            let cut = |_| format!("the upload is cut: {what} is not whole");
            let mut len = [0; 4];
            upload.read_exact(&mut len).map_err(cut)?;
            let len = usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX);
            if len > max {
                return Err(format!("{what} is larger than {max} bytes"));
            }
            let mut bytes = vec![0; len];
            upload.read_exact(&mut bytes).map_err(cut)?;
            Ok(bytes)
        };
        let signature = part(TEXT_LEN_MAX, "the signature")?;
        let file = part(VERSION_LEN_MAX, "the version")?;
        let (version, program) = self.versions.keep(&file, &String::from_utf8_lossy(&signature))?;
        let (say, said) = sync_channel(SAID_MAX);
        let job = Job { version, program, report: Report(say) };
        job.report.progress(format!("version {version} is signed, newer, and kept"));
        self.order(Order::Leave(job))?;
        Ok(said)
    }

    fn order(&self, order: Order) -> Result<(), String> {
        self.orders.try_send(order).map_err(|_| "another version is just taking over".to_owned())
    }
}

impl Uploads for Desk {
    fn take(&self, upload: &mut dyn Read, say: &mut dyn FnMut(&str)) -> Result<String, String> {
        watch(&self.take(upload)?, say)
    }

    fn prove(&self, say: &mut dyn FnMut(&str)) -> Result<String, String> {
        let (to, said) = sync_channel(SAID_MAX);
        self.order(Order::Prove(Report(to)))?;
        watch(&said, say)
    }
}

fn watch(said: &Receiver<Said>, say: &mut dyn FnMut(&str)) -> Result<String, String> {
    loop {
        match said.recv() {
            Ok(Said::Progress(sentence)) => say(&sentence),
            Ok(Said::Verdict(verdict)) => return verdict,
            Err(_) => return Err("the concentrator stopped before the verdict".to_owned()),
        }
    }
}

/// Lets a running service give the proof that a new version has to give.
pub fn prove(service: &Service) -> Result<String, String> {
    let config = service.config();
    service.reload(proof::allow_ourselves(config.clone()))?;
    let proven = proof::prove(service);
    service.reload(config)?;
    proven.map(|()| format!("version {} works", running()))
}

/// What an upload looks like: both parts with their length in front.
pub fn encode_upload(signature: &[u8], file: &[u8]) -> Vec<u8> {
    let len = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&len(signature), signature, &len(file), file].concat()
}
