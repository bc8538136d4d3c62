//! The newer version: it looks whether it could start, waits for the journal, serves, and shows that it works.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;
use std::time::Duration;

use smol::channel::Sender;

use super::words::{Word, Words};
use super::{Order, proof};
use crate::endpoint::tls::Certificates;
use crate::hub::access_file;
use crate::logfmt::Quoted;
use crate::service::config::Config;
use crate::service::listen::Sockets;
use crate::service::state::StateFolder;
use crate::service::supervision::Manager;
use crate::service::{Ground, Service, settings};

/// The older version says the next word much sooner, or it is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the older one said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Open,
    /// This process is the service.
    Confirmed,
    /// The older version ended before it decided: whoever starts the service decides.
    Orphaned,
}

/// A version that takes over.
#[derive(Debug)]
pub struct Successor {
    words: Words,
}

impl Successor {
    /// This process, if it is one.
    pub fn of_this_process() -> Option<io::Result<Self>> {
        Words::of_this_process().map(|words| words.map(|words| Self { words }))
    }

    /// Takes over with this configuration, or the sentence why it could not be read. An error is told to the older version.
    pub fn take_over(
        &self,
        config: Result<Config, String>,
        upgrades: Sender<Order>,
    ) -> Result<(Service, Ground), String> {
        self.try_to(config, upgrades).inspect_err(|sentence| {
            // The older one may be gone; then nobody needs it.
            let _heard = self.words.say(&Word::Failed(sentence.clone()));
        })
    }

    fn try_to(
        &self,
        config: Result<Config, String>,
        upgrades: Sender<Order>,
    ) -> Result<(Service, Ground), String> {
        let (word, mut descriptors) =
            self.words.hear_with(PATIENCE).map_err(gone)?.ok_or("nothing was handed over")?;
        if word != Word::Sockets || descriptors.is_empty() {
            return Err("what was handed over are no sockets".to_owned());
        }
        let config = config?;
        let lock = descriptors.remove(0);
        let state = StateFolder::inherit(lock, &config.state_dir, config.environment)?;
        check(&config)?;
        self.say(&Word::Ready)?;
        self.expect(&Word::Yours)?;
        let manager =
            Manager::of_this_process().judged_by(self.words.again().map_err(|error| error.to_string())?);
        let mut ground =
            Ground { state, sockets: Sockets::passed(descriptors), manager, upgrades: Some(upgrades) };
        let with_own = proof::allow_ourselves(config.clone());
        let service = Service::begin(with_own, &mut ground, |udp| {
            self.say(&Word::Reading)?;
            loop {
                match self.hear()? {
                    Word::Datagrams(datagrams) => {
                        udp.take(datagrams.iter().map(|(source, bytes)| (*source, bytes.as_slice())));
                    }
                    Word::NoMoreDatagrams => return Ok(()),
                    other => return Err(format!("{other:?} was not awaited")),
                }
            }
        })?;
        Ok((service, ground))
    }

    /// Shows that the service works, and lets nobody in any more but who may.
    pub fn prove(&self, service: &Service, config: Config) -> Result<(), String> {
        let proven = proof::prove(service).and_then(|()| service.reload(config).map(drop));
        proven.and_then(|()| self.say(&Word::Proved)).inspect_err(|sentence| {
            log::error!("event=proof_failed reason={}", Quoted(sentence));
            let _heard = self.words.say(&Word::Failed(sentence.clone()));
        })
    }

    /// Listens for the verdict from now on.
    pub fn listen(self) -> Result<Awaited, String> {
        let awaited = Awaited::default();
        let (confirmed, orphaned) = (Arc::clone(&awaited.confirmed), Arc::clone(&awaited.orphaned));
        let listen = move || {
            loop {
                match self.words.hear(PATIENCE) {
                    Ok(Some(Word::Confirmed)) => return confirmed.store(true, Ordering::Release),
                    Ok(_) => {}
                    Err(_) => return orphaned.store(true, Ordering::Release),
                }
            }
        };
        let thread = Builder::new().name("verdict".to_owned()).spawn(listen);
        thread.map_err(|error| format!("the system gives no threads: {error}"))?;
        Ok(awaited)
    }

    fn say(&self, word: &Word) -> Result<(), String> {
        self.words.say(word).map_err(gone)
    }

    fn hear(&self) -> Result<Word, String> {
        self.words.hear(PATIENCE).map_err(gone)?.ok_or_else(|| "the version before says nothing".to_owned())
    }

    fn expect(&self, wanted: &Word) -> Result<(), String> {
        match self.hear()? {
            word if word == *wanted => Ok(()),
            other => Err(format!("{other:?} was not awaited")),
        }
    }
}

/// What was heard of the verdict.
#[derive(Debug, Default)]
pub struct Awaited {
    confirmed: Arc<AtomicBool>,
    orphaned: Arc<AtomicBool>,
}

impl Awaited {
    /// As of now.
    pub fn verdict(&self) -> Verdict {
        if self.confirmed.load(Ordering::Acquire) {
            Verdict::Confirmed
        } else if self.orphaned.load(Ordering::Acquire) {
            Verdict::Orphaned
        } else {
            Verdict::Open
        }
    }
}

fn gone(error: io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => "the version before is gone".to_owned(),
        _ => format!("the version before cannot be heard: {error}"),
    }
}

/// What can be looked at while the older version still serves.
fn check(config: &Config) -> Result<(), String> {
    Certificates::load(&config.tls.certificate, &config.tls.private_key)
        .map_err(|error| error.to_string())?;
    let known = |group: &_| config.groups.contains_key(group);
    access_file::load(&config.access.file, known).map_err(|error| error.to_string())?;
    settings::webhooks(config).map(drop)
}
