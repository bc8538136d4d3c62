//! Proves that the proof of the journal proves something: each change on the list `tests/mutants/list` breaks the
//! journal in one place, and the crash harness has to fail with it.
//!
//! Without a wish only the list itself is checked, so that it cannot rot: every text must stand in its file exactly
//! once. `MUTANTS=all cargo test --test mutants` builds and runs every one of them; `slice` takes a fifth, any other
//! word the mutants whose name has it in it.
#![cfg(test)]

mod list;
mod scratch;

use std::fs;
use std::path::Path;
use std::time::Duration;

use list::Mutant;
use scratch::{Outcome, Scratch};

const MUTANTS_MIN: usize = 20;
/// Of how many the slice takes one.
const SLICE: usize = 5;
/// How long a mutant may take to be caught. One that hangs is caught: the harness alone takes a fraction of that.
const RUN_MAX: Duration = Duration::from_secs(120);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn mutants() -> Vec<Mutant> {
    let text = fs::read_to_string(root().join("tests/mutants/list")).unwrap();
    list::parse(&text).unwrap_or_else(|error| panic!("tests/mutants/list: {error}"))
}

#[test]
fn every_text_of_the_list_stands_in_its_file_once() {
    let mutants = mutants();
    assert!(mutants.len() >= MUTANTS_MIN, "{} mutants, {MUTANTS_MIN} are the least", mutants.len());
    let mut wrong = Vec::new();
    for mutant in &mutants {
        let text = fs::read_to_string(root().join(&mutant.file)).unwrap_or_default();
        let count = text.matches(&mutant.was).count();
        if count != 1 {
            wrong.push(format!("{}: its text stands {count} times in {}", mutant.name, mutant.file));
        }
    }
    assert!(wrong.is_empty(), "the list does not fit the code any more:\n{}", wrong.join("\n"));
}

#[test]
fn the_harness_catches_every_mutant() {
    let Ok(wish) = std::env::var("MUTANTS") else { return };
    let all = mutants();
    let chosen: Vec<&Mutant> = match wish.as_str() {
        "all" => all.iter().collect(),
        "slice" => all.iter().step_by(SLICE).collect(),
        part => all.iter().filter(|mutant| mutant.name.contains(part)).collect(),
    };
    assert!(!chosen.is_empty(), "no mutant is called like {wish:?}");
    let scratch = Scratch::new(root());
    match scratch.run(RUN_MAX) {
        Outcome::Passed => {}
        other => panic!("the harness does not hold without a mutant: {other:?}"),
    }
    let mut survivors = Vec::new();
    for mutant in &chosen {
        let outcome = scratch.with(mutant, RUN_MAX);
        println!("{:<40} {outcome}", mutant.name);
        match outcome {
            Outcome::Failed(_) | Outcome::Hung => {}
            Outcome::Passed => survivors.push(format!("{}: survives", mutant.name)),
            Outcome::NotBuilt(errors) => {
                survivors.push(format!("{}: does not compile\n{errors}", mutant.name));
            }
        }
    }
    println!("{} of {} mutants caught", chosen.len() - survivors.len(), chosen.len());
    assert!(survivors.is_empty(), "{}", survivors.join("\n"));
}
