//! What a concentrator does to its journal, by a seed.

use crate::medium::{Op, Random, SimMedium};
use crate::model::{Destination, Model};
use crate::subject::{self, Journal, Refusal, Seq};

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A record with that many bytes of payload comes in.
    Append(usize),
    /// A destination has everything up to so many records before the newest.
    Move(Destination, usize),
    /// What came in is made durable.
    Commit,
    /// What is too much makes room.
    Retire,
    /// The room of what single groups lost is given back.
    Reclaim,
    /// The journal is closed and opened again.
    Restart,
    /// The process is killed: what was not committed is gone, what was written is still in the cache.
    Kill,
}

const DESTINATIONS: usize = 3;

/// The steps of a seed. At a size that fills several segments.
pub fn steps(seed: u64, len: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut steps = Vec::with_capacity(len);
    while steps.len() < len {
        steps.push(match random.below(100) {
            // Small ones, ones around a sector, and now and then one of several.
            0..30 => Step::Append(random.below(80)),
            30..45 => Step::Append(400 + random.below(200)),
            45..50 => Step::Append(random.below(1500)),
            50..65 => Step::Move(random.below(DESTINATIONS) as Destination, random.below(4)),
            65..91 => Step::Commit,
            91..94 => Step::Retire,
            94..97 => Step::Reclaim,
            97 => Step::Restart,
            _ => Step::Kill,
        });
    }
    steps.push(Step::Commit);
    steps
}

/// A workload that was run without a fault.
pub struct Run {
    /// What it did to the medium, which was empty.
    pub ops: Vec<Op>,
    /// What it handed over and was told.
    pub model: Model,
}

/// Runs the steps of a seed on a medium that works.
pub fn run(seed: u64, steps: Vec<Step>) -> Result<Run, String> {
    let medium = SimMedium::new();
    let mut journal = Journal::open(&medium, seed).map_err(|error| format!("the first start: {error}"))?;
    journal.upkeep().map_err(|refusal| format!("the first start: {refusal:?}"))?;
    let mut model = Model::default();
    for (at, step) in steps.into_iter().enumerate() {
        let at = at as u64;
        match step {
            Step::Commit => match journal.commit() {
                Ok(ops) => model.acknowledge_all(ops),
                Err(refusal) => return Err(format!("step {at}: {refusal:?} of a medium that works")),
            },
            Step::Retire => {
                retire(&medium, &mut journal, &mut model)
                    .map_err(|refusal| format!("step {at}: {refusal:?}"))?;
            }
            Step::Reclaim => journal.reclaim(),
            Step::Restart | Step::Kill => {
                if step == Step::Restart {
                    journal.close();
                }
                medium.restart();
                journal = Journal::open(&medium, seed ^ (at << 32))
                    .map_err(|error| format!("step {at}: {error}"))?;
                let found = journal.found()?;
                model
                    .check(&model.last(), &found)
                    .map_err(|error| format!("step {at}: {step:?}: {error}"))?;
                model.settle(medium.ops_len(), &found);
                journal.upkeep().map_err(|refusal| format!("step {at}: {refusal:?}"))?;
            }
            step => hand_over(&mut journal, &mut model, &step, seed ^ at)
                .map_err(|refusal| format!("{refusal:?}"))?,
        }
    }
    let violations = medium.violations();
    if violations.is_empty() { Ok(Run { ops: medium.ops(), model }) } else { Err(violations.join("; ")) }
}

/// Does a step that nobody waits for.
pub fn hand_over(journal: &mut Journal, model: &mut Model, step: &Step, salt: u64) -> Result<(), Refusal> {
    match step {
        Step::Append(len) => {
            let record = subject::record(model.records.len() as u64 + 1, salt, *len);
            let seq = journal.append(record.clone())?;
            model.records.push(record);
            assert_eq!(seq, model.records.len() as Seq, "numbers without a gap");
        }
        Step::Move(to, behind) => {
            let seq = (model.records.len() as Seq).saturating_sub(*behind as Seq);
            let moves = model.moves.entry(*to).or_default();
            if moves.last().is_none_or(|last| *last < seq) {
                journal.move_cursor(*to, seq)?;
                moves.push(seq);
            }
        }
        Step::Commit | Step::Retire | Step::Reclaim | Step::Restart | Step::Kill => {}
    }
    Ok(())
}

/// Lets go what the policy says.
pub fn retire(medium: &SimMedium, journal: &mut Journal, model: &mut Model) -> Result<(), Refusal> {
    let plan = journal.plan();
    let thinned = journal.last_thinned(&plan);
    let deleted = journal.last_of(&plan);
    // One that loses the last of what it has goes as a whole, be there older ones or not.
    model.let_go(medium.ops_len(), deleted, thinned.max(deleted));
    journal.retire(&plan)?;
    model.gone(medium.ops_len(), thinned);
    Ok(())
}
