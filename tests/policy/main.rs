//! What is written about safety holds: each test that `THREATS.md` and the torture plan name exists.
#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const TABLES: [&str; 2] = ["tests/policy/THREATS.md", "tests/torture/README.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Whether this Rust text has a test of this name.
fn has_test(text: &str, name: &str) -> bool {
    let mut is_marked = false;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" {
            is_marked = true;
        } else if let Some(rest) = line.split_once("fn ").map(|(_, rest)| rest)
            && !line.starts_with("//")
        {
            if is_marked && rest.strip_prefix(name).is_some_and(|rest| rest.starts_with('(')) {
                return true;
            }
            is_marked = false;
        }
    }
    false
}

/// What stands in backquotes in a text and names a test, `file::function`.
fn named(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|quoted| quoted.split_once(".rs::")).collect()
}

#[test]
fn every_test_that_is_named_exists() {
    let (mut texts, mut missing) = (BTreeMap::new(), Vec::new());
    for table in TABLES {
        let table_text = read(table);
        let names = named(&table_text);
        assert!(names.len() > 20, "{table} names {} tests", names.len());
        for (file, name) in names {
            let text = texts.entry(file.to_owned()).or_insert_with_key(|file| {
                fs::read_to_string(root().join(format!("{file}.rs"))).unwrap_or_default()
            });
            if !has_test(text, name) {
                missing.push(format!("{table}: {file}.rs::{name}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}

#[test]
fn a_test_is_found_by_its_whole_name_only() {
    let text = "#[test]\nfn one() {}\nfn two() {}\n#[test]\n#[cfg(unix)]\n    fn three_and_more() {}\n// #[test]\n// fn four() {}\n";
    assert!(has_test(text, "one") && has_test(text, "three_and_more"));
    assert!(["two", "three", "four", "on"].iter().all(|name| !has_test(text, name)));
    assert_eq!(named("see `src/a.rs::b` and `c`, `tests/d.rs::e`"), [("src/a", "b"), ("tests/d", "e")]);
}

/// Each point has a row: a test, or what is open.
#[test]
fn every_row_has_a_test_or_says_what_is_open() {
    for (table, points) in [
        (TABLES[0], (1..=10).map(|n| format!("W{n}")).collect::<Vec<_>>()),
        (TABLES[1], (1..=7).map(|n| format!("P{n}")).chain((1..=9).map(|n| format!("N{n}"))).collect()),
    ] {
        let text = read(table);
        let rows = || text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |"));
        for point in points {
            assert!(rows().any(|row| row.starts_with(&format!("| {point} |"))), "{table}: no row of {point}");
        }
        for row in rows() {
            assert!(!named(row).is_empty() || row.contains("**Open:**"), "{table}: nothing holds\n{row}");
        }
    }
}

/// Where to report, until when a version is mended, and the steps that look at what is linked.
#[test]
fn what_reporters_and_auditors_need_is_there() {
    let security = read("SECURITY.md");
    for heading in ["## Reporting", "## Versions", "## What counts"] {
        assert!(security.contains(heading), "SECURITY.md has no {heading}");
    }
    let run = read(".ci/run");
    for step in ["policy", "advisories", "same bytes", "what is in it"] {
        assert!(run.contains(&format!("step \"{step}\" ")), ".ci/run has no step {step}");
    }
}
