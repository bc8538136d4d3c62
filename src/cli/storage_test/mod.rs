//! `storage-test`: whether a medium keeps what it says it has flushed, when somebody pulls the plug.

mod card;
mod tester;

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ring::rand::SecureRandom as _;

use super::arguments::Arguments;
use super::progress::Progress;
use super::table::grouped;
use super::{Failure, output};
use crate::service::config::parse_duration;
use card::{Card, Verdict};
use tester::{Run, parse_run};

pub(super) const SUMMARY: &str = "whether a card keeps what it flushed when the plug is pulled";
pub(super) const HELP: &str = "\
Usage: iotsocketd storage-test --listen ADDRESS [--record FILE]
       iotsocketd storage-test --tester ADDRESS [FOLDER] [--check] [--for TIME] [--config FILE]

The first on a machine whose power stays, the second on the gateway. The gateway writes to a file
of 64 MiB in FOLDER, flushes each write, and only then acknowledges it to the other machine, which
keeps the record. Pull the plug in the middle, start the gateway and the same command again: it
says whether everything that was acknowledged is there, and begins the next round. Twenty rounds
say more than one. Exit 1 if anything is lost. A running concentrator may go on beside it.

Options:
  --listen ADDRESS  keep the record, and listen here, like 0.0.0.0:50599
  --record FILE     the record [default: storage-test.record]
  --tester ADDRESS  where the record is kept, like 10.0.0.7:50599
  --check           only say whether the last round was kept
  --for TIME        write for so long [default: until the plug is pulled, or Ctrl-C]
  --config FILE     without FOLDER: its state_dir [default: /etc/iotsocketd/iotsocketd.toml]

Example:
  iotsocketd storage-test --tester 10.0.0.7:50599
";

const OPTIONS: [&str; 5] = ["listen", "record", "tester", "for", "config"];
/// How long the other machine may take for anything.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let (arguments, check_only) = Arguments::parse_with_flag(parser, 1, &OPTIONS, "check")?;
    let text = |name| arguments.option(name).map(|value| value.to_string_lossy().into_owned());
    match (text("listen"), text("tester")) {
        (Some(address), None) => {
            let wrong = || Failure::Usage("`--listen` must be like 0.0.0.0:50599".to_owned());
            let record = text("record").map_or_else(|| PathBuf::from("storage-test.record"), PathBuf::from);
            tester::serve(address.parse().map_err(|_| wrong())?, &record).map_err(Failure::Failed)
        }
        (None, Some(address)) => {
            let time = text("for").map(|time| parse_duration(&time)).transpose();
            let time = time.map_err(|sentence| Failure::Usage(format!("`--for` {sentence}")))?;
            let folder = match arguments.words.first() {
                Some(folder) => PathBuf::from(folder),
                None => arguments.config()?.state_dir,
            };
            let mut tester = Tester::connect(&address).map_err(Failure::Failed)?;
            let kept = check(&mut tester, &folder, check_only).map_err(Failure::Failed)?;
            if !check_only {
                write(&mut tester, &folder, time)?;
            }
            kept.map_err(Failure::Failed)
        }
        _ => Err(Failure::Usage("either `--listen` or `--tester` says which of the two this is".to_owned())),
    }
}

/// The machine that keeps the record.
struct Tester {
    stream: BufReader<TcpStream>,
    address: String,
}

impl Tester {
    fn connect(address: &str) -> Result<Self, String> {
        let failed = |error: io::Error| format!("the tester {address} cannot be reached: {error}");
        let mut last = failed(io::ErrorKind::NotFound.into());
        let found: Vec<SocketAddr> = address.to_socket_addrs().map_err(failed)?.collect();
        for place in found {
            match TcpStream::connect_timeout(&place, TIMEOUT) {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(failed)?;
                    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
                    stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
                    return Ok(Self { stream: BufReader::new(stream), address: address.to_owned() });
                }
                Err(error) => last = failed(error),
            }
        }
        Err(last)
    }

    fn tell(&mut self, line: &str) -> Result<(), String> {
        let told = self.stream.get_mut().write_all(format!("{line}\n").as_bytes());
        told.map_err(|error| format!("the tester {} takes nothing more: {error}", self.address))
    }

    fn ask(&mut self, line: &str) -> Result<String, String> {
        self.tell(line)?;
        let mut answer = String::new();
        match self.stream.read_line(&mut answer) {
            Ok(0) => Err(format!("the tester {} went away", self.address)),
            Ok(_) => Ok(answer.trim_end().to_owned()),
            Err(error) => Err(format!("the tester {} does not answer: {error}", self.address)),
        }
    }
}

/// Says of the newest run whether it was kept. The inner outcome is the verdict.
fn check(tester: &mut Tester, folder: &Path, check_only: bool) -> Result<Result<(), String>, String> {
    let answer = tester.ask("LAST")?;
    let Some(Run { id, last }) = parse_run(&answer) else {
        let nothing = "the tester has no record yet: nothing is to be checked".to_owned();
        return Ok(if check_only { Err(nothing) } else { Ok(()) });
    };
    let path = Card::path(folder);
    let unreadable = |error: io::Error| format!("{}: cannot be read: {error}", path.display());
    let verdict = match Card::look(folder).map_err(unreadable)? {
        Some(mut card) => card::check(&mut card, id, last).map_err(unreadable)?,
        None if last == 0 || !check_only => return Ok(Ok(())),
        None => return Ok(Err(format!("{}: is gone, or of another card", path.display()))),
    };
    let text = sentence(&verdict, id, last);
    tester.tell(&format!("SAYS {text}"))?;
    if verdict.is_kept() {
        output::say(&text);
        return Ok(Ok(()));
    }
    Ok(Err(text))
}

fn sentence(verdict: &Verdict, run: u64, last: u64) -> String {
    let checked = grouped(verdict.checked);
    if verdict.is_kept() {
        return format!("run {run:016x}: kept, all of the last {checked} acknowledged writes are there");
    }
    let named: Vec<_> = verdict.named.iter().map(u64::to_string).collect();
    format!(
        "run {run:016x}: LOST of the last {checked} acknowledged writes (up to {last}): {} never made, {} damaged, \
         the first {}; this medium says that it has what it has not, or forgets it: do not trust it",
        grouped(verdict.missing),
        grouped(verdict.damaged),
        named.join(", ")
    )
}

/// Writes, flushes and acknowledges, one after the other.
fn write(tester: &mut Tester, folder: &Path, time: Option<Duration>) -> Result<(), Failure> {
    let path = Card::path(folder);
    let failed =
        |error: io::Error| Failure::Failed(format!("{}: cannot be written: {error}", path.display()));
    let mut card = Card::open(folder).map_err(failed)?;
    let mut run = [0; 8];
    let random = ring::rand::SystemRandom::new().fill(&mut run);
    random.map_err(|_| Failure::Failed("the system gives no random numbers".to_owned()))?;
    let run = u64::from_le_bytes(run);
    tester.ask(&format!("RUN {run:016x}")).map_err(Failure::Failed)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    output::interrupt_by_signal(&interrupted)?;
    output::say(&format!("run {run:016x}: writes to {}; pull the plug whenever you like", path.display()));
    let (start, mut progress, mut number) = (Instant::now(), Progress::new(), 0);
    while !interrupted.load(Ordering::Relaxed) && time.is_none_or(|time| start.elapsed() < time) {
        number += 1;
        card::put(&mut card, run, number).map_err(failed)?;
        tester.tell(&number.to_string()).map_err(Failure::Failed)?;
        progress.say(|| format!("{} writes acknowledged", grouped(number)));
    }
    progress.clear();
    output::say(&format!("run {run:016x}: {} writes acknowledged; the power was not cut", grouped(number)));
    Ok(())
}
