//! The medium fails: at every operation, in every way, once or for ever.

use iotsocketd::journal::medium::Operation;

use crate::medium::{Disk, Failure, Fault, Random, SimMedium, images};
use crate::model::{Mark, Model};
use crate::power::{self, Count};
use crate::subject::{self, Journal, Refusal};
use crate::workload::{self, Step};

/// What was tried.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried {
    /// Workloads with a fault that struck.
    pub workloads: u64,
    /// Workloads that ended read-only.
    pub read_only: u64,
    /// Images recovered from.
    pub images: Count,
}

impl std::ops::AddAssign for Tried {
    fn add_assign(&mut self, other: Self) {
        self.workloads += other.workloads;
        self.read_only += other.read_only;
        self.images += other.images;
    }
}

/// Operations behind a failure at which the power fails.
const SOON: usize = 12;
const KINDS: [Option<Operation>; 11] = [
    None,
    Some(Operation::List),
    Some(Operation::Open),
    Some(Operation::Shrink),
    Some(Operation::Write),
    Some(Operation::Sync),
    Some(Operation::SyncFolder),
    Some(Operation::Create),
    Some(Operation::Remove),
    Some(Operation::Rename),
    Some(Operation::Read),
];

/// Lets every N-th operation of every kind fail, in every way, once and from there on. One in `of` of them; all if 1.
pub fn fail_everything(seed: u64, len: usize, of: usize) -> Result<Tried, String> {
    let mut tried = Tried::default();
    let mut random = Random::new(seed);
    for only in KINDS {
        for failure in Failure::ALL {
            for lasting in [false, true] {
                for at in 0.. {
                    let fault = Fault { at, lasting, failure, only };
                    if !random.one_in(of) {
                        if at > 1000 {
                            break;
                        }
                        continue;
                    }
                    let found = run(seed, len, &[fault]).map_err(|error| format!("{fault:?}: {error}"))?;
                    let Some(found) = found else { break };
                    tried += found;
                }
            }
        }
    }
    Ok(tried)
}

/// Two failures, one behind the other: of a commit, then of what is done about it.
pub fn fail_twice(seed: u64, len: usize, of: usize) -> Result<Tried, String> {
    let mut tried = Tried::default();
    let mut random = Random::new(seed);
    for first in [Operation::Sync, Operation::Write, Operation::SyncFolder, Operation::Rename] {
        for at in 0.. {
            // Without the second it tells whether there is a first.
            let fault = Fault { at, lasting: false, failure: Failure::Error, only: Some(first) };
            let Some(found) = run(seed, len, &[fault]).map_err(|error| format!("{fault:?}: {error}"))? else {
                break;
            };
            tried += found;
            for only in [Operation::Sync, Operation::Write, Operation::Create, Operation::SyncFolder] {
                for failure in [Failure::Error, Failure::NoSpace] {
                    let rare = matches!(first, Operation::SyncFolder | Operation::Rename);
                    if !rare && !random.one_in(of) {
                        continue;
                    }
                    let second = Fault { at: 0, lasting: random.one_in(2), failure, only: Some(only) };
                    let faults = [fault, second];
                    let found = run(seed, len, &faults).map_err(|error| format!("{faults:?}: {error}"))?;
                    tried += found.unwrap_or_default();
                }
            }
        }
    }
    Ok(tried)
}

/// Runs the steps of a seed with faults, then starts from what that leaves. Nothing if no fault struck.
fn run(seed: u64, len: usize, faults: &[Fault]) -> Result<Option<Tried>, String> {
    let medium = SimMedium::new();
    let mut tried = Tried { workloads: 1, ..Tried::default() };
    let mut model = Model::default();
    if let [first, rest @ ..] = faults {
        medium.inject(*first);
        rest.iter().for_each(|fault| medium.inject_behind(*fault));
    }
    let transient = faults.iter().all(|fault| !fault.lasting);
    let once = transient && faults.len() == 1;
    let mut workload =
        Faulty { medium: &medium, model: &mut model, seed, once, read_only: false, over: false };
    workload.run(len).map_err(|error| format!("struck {:?}: {error}", medium.struck().first()))?;
    tried.read_only += u64::from(workload.read_only);
    if medium.struck().is_empty() {
        return Ok(None);
    }
    if once && workload.read_only {
        return Err("one failure made it read-only".to_owned());
    }
    if let [violation, ..] = medium.violations().as_slice() {
        return Err(violation.clone());
    }
    if workload.over {
        return Ok(Some(tried));
    }
    // Whatever is left now, a medium that works again gives all that was acknowledged.
    let mut random = Random::new(seed);
    let mark = model.last();
    let disk = medium.disk();
    for (loss, image) in images(&disk, &mut random) {
        let start = Disk::from_image(&image);
        let again = random.one_in(50);
        power::one(&model, &mark, &start, again, &mut random, &mut tried.images)
            .map_err(|error| format!("then the power failed, {loss:?}: {error}"))?;
    }
    // Nor does it if the power fails soon after the failure, before what has to be tidied up is.
    let struck = medium.struck().last().map_or(0, |(_, ops)| *ops);
    let from = model.settled.max(struck);
    let mut earlier = Disk::default();
    for (at, op) in medium.ops().iter().enumerate().take(from + SOON) {
        earlier.apply(op);
        if at >= from {
            let mark = model.mark_at(at + 1);
            for (loss, image) in images(&earlier, &mut random).into_iter().take(4) {
                power::one(&model, &mark, &Disk::from_image(&image), false, &mut random, &mut tried.images)
                    .map_err(|error| {
                    format!("then the power failed at operation {}, {loss:?}: {error}", at + 1)
                })?;
            }
        }
    }
    power::one(&model, &mark, &disk, false, &mut random, &mut tried.images)
        .map_err(|error| format!("then it was killed: {error}"))?;
    Ok(Some(tried))
}

fn is_read(operation: Operation) -> bool {
    matches!(operation, Operation::List | Operation::Open | Operation::Read)
}

struct Faulty<'a> {
    medium: &'a SimMedium,
    model: &'a mut Model,
    seed: u64,
    /// There is one failure in all.
    once: bool,
    read_only: bool,
    /// Numbers were left out, which the model knows nothing of.
    over: bool,
}

impl Faulty<'_> {
    fn run(&mut self, len: usize) -> Result<(), String> {
        let Some(mut journal) = self.open(0)? else { return Ok(()) };
        for (at, step) in workload::steps(self.seed, len).into_iter().enumerate() {
            let at = at as u64 + 1;
            match step {
                Step::Commit => self.commit(&mut journal).map_err(|error| format!("step {at}: {error}"))?,
                // Also while a batch waits for room: that is when it is needed.
                Step::Retire => match workload::retire(self.medium, &mut journal, self.model) {
                    Ok(()) | Err(Refusal::Later) => {}
                    Err(Refusal::ReadOnly) => self.read_only = true,
                    Err(Refusal::Other(error)) => return Err(format!("step {at}: {error}")),
                },
                Step::Reclaim => journal.reclaim(),
                Step::Restart | Step::Kill => {
                    if step == Step::Restart {
                        journal.close();
                    }
                    let Some(opened) = self.open(at)? else { return Ok(()) };
                    journal = opened;
                }
                step => match workload::hand_over(&mut journal, self.model, &step, self.seed ^ at) {
                    Ok(()) | Err(Refusal::Later | Refusal::ReadOnly) => {}
                    Err(Refusal::Other(error)) => return Err(format!("step {at}: {error}")),
                },
            }
        }
        // One failure is forgotten by now.
        self.commit(&mut journal)?;
        if !self.read_only {
            self.medium.heal();
            self.commit(&mut journal)?;
            if !self.read_only && self.model.last().records != self.model.records.len() {
                return Err("the medium works again, and not all is acknowledged".to_owned());
            }
        }
        Ok(())
    }

    /// Starts. A medium that fails may keep it from starting, as long as it starts once the medium works.
    fn open(&mut self, salt: u64) -> Result<Option<Journal>, String> {
        self.medium.restart();
        self.read_only = false;
        let struck = self.medium.struck().len();
        let opened = Journal::open(self.medium, self.seed ^ salt << 32);
        let mut journal = match opened {
            Ok(journal) => journal,
            Err(error) => {
                self.medium.heal();
                self.medium.restart();
                Journal::open(self.medium, self.seed ^ salt << 32 ^ 1)
                    .map_err(|again| format!("{again}, though the medium works again (before: {error})"))?
            }
        };
        let mut found = journal.found();
        if self.once && found.is_err() {
            found = journal.found();
        }
        let degraded = self.medium.struck().len() > struck || found.is_err();
        let checked = found.and_then(|found| self.model.check(&self.model.last(), &found).map(|()| found));
        match checked {
            // What cannot be read is told, what comes behind does no harm to it, and it is there when it can be read.
            // One failure to read is nothing like that: it is read again.
            _ if degraded
                && !(self.once && self.medium.struck().iter().all(|(struck, _)| is_read(*struck))) =>
            {
                self.start_again(journal).map(|()| None)
            }
            Ok(found) => {
                self.model.settle(self.medium.ops_len(), &found);
                journal.upkeep().map_err(|refusal| format!("start at step {salt}: {refusal:?}"))?;
                Ok(Some(journal))
            }
            Err(error) => Err(format!("start at step {salt}: {error}")),
        }
    }

    /// Goes on with a journal that could not read or write everything at its start, and starts it again from a medium
    /// that works.
    fn start_again(&mut self, mut journal: Journal) -> Result<(), String> {
        let seq = journal.append(subject::record(1, 1, 10));
        let acknowledged = journal.commit().is_ok();
        drop(journal);
        self.medium.heal();
        self.medium.restart();
        let mut journal = Journal::open(self.medium, self.seed ^ 77)?;
        let mut found = journal.found()?;
        // What was appended while nobody knew what there is has a number that nothing else can have.
        let is_there =
            found.records.last().is_some_and(|(last, _)| seq.as_ref().is_ok_and(|seq| seq == last));
        if is_there {
            found.records.pop();
        } else if acknowledged {
            return Err(format!("what was acknowledged after a start with a failure is gone: {seq:?}"));
        }
        // So is what was gone out of shared segments.
        let mark = Mark { thinned: 0, ..self.model.last() };
        found.next = found.records.last().map_or(1, |(seq, _)| seq + 1);
        while self.model.may_be_thinned(found.next, &mark) {
            found.next += 1;
        }
        // The small state went on from what could be read, and the report says so.
        found.received = found.next - 1;
        found.cursors = self.model.places();
        self.model.check(&mark, &found).map_err(|error| format!("once it can be read again: {error}"))?;
        self.model.settle(self.medium.ops_len(), &found);
        self.over = true;
        Ok(())
    }

    fn commit(&mut self, journal: &mut Journal) -> Result<(), String> {
        let (before, struck) = (self.medium.ops_len(), self.medium.struck().len());
        match journal.commit() {
            // Nothing is left to acknowledge: a record of the journal's own was what failed.
            Ok(_) if self.read_only && self.model.is_acknowledged() => Ok(()),
            Ok(_) if self.read_only => Err("acknowledged though read-only".to_owned()),
            Ok(ops) => {
                self.model.acknowledge_all(ops);
                Ok(())
            }
            Err(Refusal::ReadOnly) => {
                if self.read_only && (before, struck) != (self.medium.ops_len(), self.medium.struck().len()) {
                    return Err("read-only, and the medium is written to".to_owned());
                }
                self.read_only = true;
                Ok(())
            }
            Err(Refusal::Later) => Ok(()),
            Err(Refusal::Other(error)) => Err(error),
        }
    }
}
