//! Keeps the README honest: its commands and options exist, its TOML loads, its worked login is right, and what it says
//! has no effect yet is in the shipped configuration.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;

use iotsocketd::service::config::Config;
use ring::hmac;

const README: &str = include_str!("../README.md");

/// The code blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        if let Some(found) = line.strip_prefix("```") {
            let body: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            if found == language {
                blocks.push(body.join("\n"));
            }
        }
    }
    assert!(!blocks.is_empty(), "the README has no {language}");
    blocks
}

fn program(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_iotsocketd")).args(words).output().unwrap();
    assert!(output.status.success(), "iotsocketd {}: {output:?}", words.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// Texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_command_line_is_one_that_the_help_knows() {
    let mut count = 0;
    for line in blocks("sh").join("\n").replace("\\\n", " ").lines() {
        let line = line.split('#').next().unwrap_or_default();
        let Some((_, words)) = line.split_once("iotsocketd ").filter(|(before, _)| before.is_empty()) else {
            continue;
        };
        let words: Vec<_> = words.split_whitespace().collect();
        let command = words.first().unwrap_or_else(|| panic!("no command: {line}"));
        let help = program(&[command, "--help"]);
        for option in words.iter().filter(|word| word.starts_with("--")) {
            let known =
                help.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).any(|word| word == *option);
            assert!(known, "{option} of: {line}");
        }
        if *command == "device" {
            assert!(help.contains(&words[..2].join(" ")), "{line}");
        }
        count += 1;
    }
    assert!(count > 10, "{count} command lines");
}

#[test]
fn every_toml_block_loads() {
    const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let folder = tempfile::tempdir().unwrap();
    program(&["init", folder.path().to_str().unwrap()]);
    // What the blocks name beside what `init` makes.
    for (name, text) in [("fleet.json", "{}"), ("fleet.password", "sesame"), ("erp.secret", SECRET)] {
        let mut file = fs::File::options();
        let file = file.write(true).create_new(true).mode(0o600).open(folder.path().join(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }
    for block in blocks("toml") {
        // A configuration of its own: a block may name the groups that the shipped file has.
        let path = folder.path().join("block.toml");
        let groups = if block.contains("[groups.Devices]") { "" } else { "\n[groups.Devices]\n" };
        fs::write(&path, block.clone() + groups).unwrap();
        if let Err(mistakes) = Config::load(&path) {
            let sentences: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            panic!("{block}\n{}", sentences.join("\n"));
        }
    }
}

#[test]
fn the_worked_login_proves_itself() {
    let row = README.lines().find(|line| line.ends_with("| challenge: 16 bytes, new for every connection |"));
    let challenge = unhex(quoted(row.unwrap()).next().unwrap());
    let key = unhex(README.split_once("with key `").unwrap().1.split('`').next().unwrap());
    assert_eq!((key.len(), challenge.len()), (16, 16));
    let proof = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &challenge);
    let hex: String = proof.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let (first, second) = hex.split_at(32);
    assert!(README.contains(&format!("`{first}` `{second}`")), "{hex}");
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
