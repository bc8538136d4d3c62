//! The older version: it starts the newer one, leaves its place, watches, and decides.

use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::held::Datagrams;
use super::leaving::Leftover;
use super::words::{DATAGRAMS_A_WORD, TAKES_OVER, Word, Words};
use super::{Job, RUNNING, Versions};
use crate::logfmt::Quoted;
use crate::service::config::Config;
use crate::service::{Ground, Service};

/// How long the newer version may take to look at configuration, certificate and access list.
const READY_TIMEOUT: Duration = Duration::from_secs(15);
/// How long it may take to open the journal.
const READING_TIMEOUT: Duration = Duration::from_secs(15);
/// How long it may take to show that it works, and be silent for.
const PROOF_TIMEOUT: Duration = Duration::from_secs(20);
const SILENT_MAX: Duration = Duration::from_secs(12);
/// A verdict is there a minute after the start of an update that does not come to its confirmation.
const _: () = assert!(
    READY_TIMEOUT.as_secs() + READING_TIMEOUT.as_secs() + PROOF_TIMEOUT.as_secs() + LEAVE_TIMEOUT.as_secs()
        <= 55,
    "sessions of the older version need a few seconds to go"
);
/// How often it is looked whether something else happened.
const STEP: Duration = Duration::from_millis(100);
/// How long the newer version may take to stop with the service.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one that is rejected may take to answer the calls that it holds, and to tell its sessions that they are kept.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// How it goes on with the older version.
#[derive(Debug)]
pub enum After {
    /// As before: it never stopped.
    Same(Box<Service>),
    /// It starts again, takes these first, and then tells the verdict.
    Again(Box<Config>, Datagrams, String),
    /// It is over: the newer one is the service, or the service was stopped.
    Over,
}

/// Why the newer version is not taken.
enum No {
    /// It is no good.
    Rejected(String),
    /// It does nothing any more.
    Hung(String),
    /// The service is to stop.
    Stopped,
}

struct Trial<'a> {
    child: Child,
    words: Words,
    ground: &'a Ground,
    should_stop: &'a mut dyn FnMut() -> bool,
}

/// Lets a version take over, with this configuration file. `should_stop` is asked all the time.
pub fn upgrade(
    service: Service,
    ground: &mut Ground,
    config: &Path,
    job: &Job,
    should_stop: &mut dyn FnMut() -> bool,
) -> After {
    let Job { version, program, report } = job;
    let begun = Instant::now();
    let (settings, versions) = {
        let config = service.config();
        (config.upgrade.clone(), Versions::new(&config))
    };
    let reject = |reason: &str| {
        log::error!("event=upgrade_rejected version={version} reason={}", Quoted(reason));
        if let Err(error) = versions.reject(*version, reason) {
            log::warn!("event=rejection_not_kept error={}", Quoted(error));
        }
    };
    let started = start(program, config, &version.to_string(), ground);
    let (child, words) = match started {
        Ok(started) => started,
        Err(reason) => {
            reject(&reason);
            service.tell_rejection();
            report.verdict(Err(format!("version {version} cannot be started: {reason}")));
            return After::Same(Box::new(service));
        }
    };
    let mut trial = Trial { child, words, ground, should_stop };
    if let Err(no) = trial.wait_for(&Word::Ready, READY_TIMEOUT) {
        trial.end();
        if let No::Rejected(reason) | No::Hung(reason) = no {
            reject(&reason);
            service.tell_rejection();
            report.verdict(Err(format!("version {version} was rejected before it began: {reason}")));
            return After::Same(Box::new(service));
        }
        service.drain();
        return After::Over;
    }
    report.progress("it started, and finds configuration, certificate and access list good");
    let mut leftover = Leftover::of(service, &ground.sockets);
    report.progress("sessions went, the journal is closed");
    let mut held = Vec::new();
    let outcome = trial.take_over(&mut leftover, &mut held).and_then(|()| {
        report.progress("it serves");
        trial.watch(&leftover, PROOF_TIMEOUT, true)?;
        report.progress(format!(
            "it proved itself; it is taken {} s after it began",
            settings.confirm_after.as_secs()
        ));
        trial.watch(&leftover, settings.confirm_after.saturating_sub(begun.elapsed()), false)
    });
    let outcome = outcome.and_then(|()| {
        versions.set_current(*version).map_err(|error| No::Rejected(format!("[upgrade] dir: {error}")))
    });
    let back = |reason: String, mut leftover: Leftover, mut held: Datagrams| {
        held.extend(leftover.take_datagrams());
        reject(&reason);
        let verdict = format!("version {version} was rejected, the one before is back: {reason}");
        After::Again(Box::new(leftover.end()), held, verdict)
    };
    match outcome {
        Ok(()) => {
            trial.ground.manager.hand_over(trial.child.id());
            // It hears so, or sees that the service manager started somebody else.
            let _heard = trial.words.say(&Word::Confirmed);
            log::info!("event=upgraded version={version} pid={}", trial.child.id());
            report.verdict(Ok(format!("version {version} is in force")));
            leftover.finish();
            After::Over
        }
        Err(No::Rejected(reason)) => {
            trial.stop_within(LEAVE_TIMEOUT);
            back(reason, leftover, held)
        }
        // It would not hear that it is to go.
        Err(No::Hung(reason)) => {
            trial.end();
            back(reason, leftover, held)
        }
        Err(No::Stopped) => {
            trial.stop_within(STOP_TIMEOUT);
            leftover.end();
            After::Over
        }
    }
}

/// Starts a version, and hands it what it takes over.
fn start(program: &Path, config: &Path, version: &str, ground: &Ground) -> Result<(Child, Words), String> {
    let (ours, theirs) = Words::pair().map_err(|error| error.to_string())?;
    let child = Command::new(program)
        .args(["run", "--config"])
        .arg(config)
        .env(TAKES_OVER, "stdin")
        .env(RUNNING, version)
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID")
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::from(theirs.into_descriptor()))
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let sockets: Vec<BorrowedFd<'_>> =
        [ground.state.descriptor()].into_iter().chain(ground.sockets.descriptors()).collect();
    // If it is gone already, that is noticed when it is waited for.
    let _heard = ours.say_with(&Word::Sockets, &sockets);
    Ok((child, ours))
}

impl Trial<'_> {
    /// The next word, or nothing for now.
    fn hear(&mut self) -> Result<Option<Word>, No> {
        if (self.should_stop)() {
            return Err(No::Stopped);
        }
        self.ground.manager.tell("WATCHDOG=1");
        match self.words.hear(STEP) {
            Ok(Some(Word::Failed(reason))) => Err(No::Rejected(reason)),
            Ok(word) => Ok(word),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                let status =
                    self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                // A service that is stopped is stopped as a whole.
                if (self.should_stop)() {
                    return Err(No::Stopped);
                }
                Err(No::Rejected(format!("it ended by itself, {status}; see its last lines in the log")))
            }
            Err(error) => {
                Err(No::Rejected(format!("it says what this version does not understand: {error}")))
            }
        }
    }

    /// Says a word to it; if it hears nothing any more, why.
    fn say(&mut self, word: &Word) -> Result<(), No> {
        let Err(error) = self.words.say(word) else { return Ok(()) };
        // What it said before its end comes first.
        while self.hear()?.is_some() {}
        Err(No::Rejected(format!("it does not listen: {error}")))
    }

    fn wait_for(&mut self, wanted: &Word, timeout: Duration) -> Result<(), No> {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if self.hear()?.as_ref() == Some(wanted) {
                return Ok(());
            }
        }
        Err(No::Hung(format!("it hung: not {wanted:?} within {} s", timeout.as_secs())))
    }

    /// The journal goes over, and what came in while it was nobody's.
    fn take_over(&mut self, leftover: &mut Leftover, held: &mut Datagrams) -> Result<(), No> {
        self.say(&Word::Yours)?;
        self.wait_for(&Word::Reading, READING_TIMEOUT)?;
        *held = leftover.take_datagrams();
        let mut rest = held.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|(_, datagram)| {
                let has_room = bytes < DATAGRAMS_A_WORD;
                bytes += datagram.len() + DATAGRAM_OVERHEAD;
                has_room
            });
            let (now, later) = rest.split_at(fits.count());
            self.say(&Word::Datagrams(now.to_vec()))?;
            rest = later;
        }
        self.say(&Word::NoMoreDatagrams)?;
        held.clear();
        Ok(())
    }

    /// Sees that it lives, and finishes calls meanwhile: until it is proven, or for this time and until it is heard once more.
    fn watch(&mut self, leftover: &Leftover, time: Duration, until_proven: bool) -> Result<(), No> {
        let deadline = Instant::now() + time;
        let mut heard = Instant::now();
        while Instant::now() < deadline || (!until_proven && heard < deadline) {
            leftover.close_what_is_over();
            match self.hear()? {
                Some(Word::Proved) if until_proven => return Ok(()),
                Some(_) => heard = Instant::now(),
                None if heard.elapsed() > SILENT_MAX => {
                    return Err(No::Hung(format!("it hung: no sign of life for {} s", SILENT_MAX.as_secs())));
                }
                None => {}
            }
        }
        match until_proven {
            true => Err(No::Rejected(format!("it did not prove itself within {} s", time.as_secs()))),
            false => Ok(()),
        }
    }

    /// Ends it, and waits until it can write nothing any more.
    fn end(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// Lets it end in order.
    fn stop_within(&mut self, timeout: Duration) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ended = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline && !matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
            self.ground.manager.tell("WATCHDOG=1");
            std::thread::sleep(STEP);
        }
        self.end();
    }
}

/// What a datagram takes in a word beside its bytes, at most.
const DATAGRAM_OVERHEAD: usize = 40;
