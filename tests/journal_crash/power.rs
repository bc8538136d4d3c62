//! The power fails: at every operation, in every way, and again while the journal recovers from it.

use std::fmt;

use crate::medium::{Disk, Image, Loss, Random, SimMedium, images};
use crate::model::{Mark, Model};
use crate::subject::Journal;
use crate::workload::{self, Run, Step};

/// How many images were recovered from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count {
    /// Boundaries of operations at which the power failed.
    pub boundaries: u64,
    /// Images after one failure.
    pub first: u64,
    /// Images after a second one.
    pub second: u64,
}

impl Count {
    pub fn all(&self) -> u64 {
        self.first + self.second
    }
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.boundaries += other.boundaries;
        self.first += other.first;
        self.second += other.second;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { boundaries, first, second } = self;
        write!(f, "{} images at {boundaries} operations: {first} of one failure, {second} of two", self.all())
    }
}

/// Fails at every operation of the run. After one in `again` of the first failures (all if 1) it fails a second time, at
/// every operation of the recovery and of the appends behind it.
pub fn fail_everywhere(run: &Run, seed: u64, again: usize) -> Result<Count, String> {
    let mut count = Count::default();
    let mut random = Random::new(seed);
    let mut disk = Disk::default();
    for boundary in 0..=run.ops.len() {
        if boundary > 0 {
            disk.apply(&run.ops[boundary - 1]);
        }
        count.boundaries += 1;
        let mark = run.model.mark_at(boundary);
        let said = |what: &str, error: String| {
            let last = boundary.checked_sub(1).map(|at| &run.ops[at]);
            format!("operation {boundary} ({}), {what}: {error}", Short(last))
        };
        for (loss, image) in images(&disk, &mut random) {
            let start = Disk::from_image(&image);
            let second = random.one_in(again);
            one(&run.model, &mark, &start, second, &mut random, &mut count)
                .map_err(|error| said(&format!("{loss:?}"), error))?;
        }
        // The process alone dies: what it wrote is still in the cache, and the power may fail later.
        if disk.has_unsynced() {
            let second = random.one_in(again.div_ceil(4));
            one(&run.model, &mark, &disk, second, &mut random, &mut count)
                .map_err(|error| said("killed", error))?;
        }
    }
    Ok(count)
}

/// Recovers from one state of the disk and goes on; then, if `again`, fails at every operation of that.
pub fn one(
    model: &Model,
    mark: &Mark,
    start: &Disk,
    again: bool,
    random: &mut Random,
    count: &mut Count,
) -> Result<(), String> {
    count.first += 1;
    let salt = random.next();
    let medium = SimMedium::from_disk(start.clone());
    let mut journal = Journal::open(&medium, salt)?;
    let recovered = medium.ops_len();
    let found = journal.found()?;
    model.check(mark, &found)?;
    no_loss(&journal)?;
    journal.upkeep().map_err(|refusal| format!("after the start: {refusal:?}"))?;
    let mut next = model.goes_on(mark, &found);
    go_on(&medium, &mut journal, &mut next, salt)?;
    drop(journal);
    if !again {
        return Ok(());
    }
    let ops = medium.ops();
    let mut disk = start.clone();
    for boundary in 0..=ops.len() {
        if boundary > 0 {
            disk.apply(&ops[boundary - 1]);
        }
        // Before the recovery has ended nobody has seen what it found.
        let (model, mark) =
            if boundary < recovered { (model, mark.clone()) } else { (&next, next.mark_at(boundary)) };
        for (loss, image) in images(&disk, random) {
            count.second += 1;
            twice(model, &mark, &image, salt).map_err(|error| {
                format!("recovered after {recovered}, again at operation {boundary}, {loss:?}: {error}")
            })?;
        }
    }
    Ok(())
}

/// Recovers from a second failure, goes on a little, and starts once more.
fn twice(model: &Model, mark: &Mark, image: &Image, salt: u64) -> Result<(), String> {
    let medium = SimMedium::from_image(image);
    let mut journal = Journal::open(&medium, salt ^ 1)?;
    let found = journal.found()?;
    model.check(mark, &found)?;
    no_loss(&journal)?;
    journal.upkeep().map_err(|refusal| format!("after the start: {refusal:?}"))?;
    let mut next = model.goes_on(mark, &found);
    go_on(&medium, &mut journal, &mut next, salt ^ 2)?;
    drop(journal);
    let mut journal = Journal::open(&medium, salt ^ 3)?;
    next.check(&next.last(), &journal.found()?).map_err(|error| format!("the start behind it: {error}"))
}

/// A failure of the power damages nothing, so nothing is told to be damaged.
fn no_loss(journal: &Journal) -> Result<(), String> {
    journal.loss().map_or(Ok(()), |report| Err(format!("nothing was damaged, and it says {report:?}")))
}

/// What a journal that just started must still be able to do.
fn go_on(medium: &SimMedium, journal: &mut Journal, model: &mut Model, salt: u64) -> Result<(), String> {
    let steps =
        [Step::Append(30), Step::Append(600), Step::Move(0, 1), Step::Commit, Step::Append(10), Step::Commit];
    for (at, step) in steps.iter().enumerate() {
        if *step == Step::Commit {
            let ops = journal.commit().map_err(|refusal| format!("going on: {refusal:?}"))?;
            model.acknowledge_all(ops);
        } else {
            workload::hand_over(journal, model, step, salt ^ (at as u64) << 8)
                .map_err(|refusal| format!("going on: {refusal:?}"))?;
        }
    }
    model.check(&model.last(), &journal.found()?).map_err(|error| format!("going on: {error}"))?;
    let violations = medium.violations();
    if violations.is_empty() { Ok(()) } else { Err(violations.join("; ")) }
}

/// An operation without its bytes.
struct Short<'a>(Option<&'a crate::medium::Op>);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::medium::Op;
        match self.0 {
            None => f.write_str("none yet"),
            Some(Op::Write { file, offset, bytes }) => {
                write!(f, "write of {} bytes at {offset} of file {file}", bytes.len())
            }
            Some(op) => write!(f, "{op:?}"),
        }
    }
}

/// The ways that were there, for the printed line.
pub fn losses() -> usize {
    Loss::ALL.len()
}
