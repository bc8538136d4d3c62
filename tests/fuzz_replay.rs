//! Runs the bodies of the fuzz targets in `cargo test`: on every vector, whole, cut and bent.
//! What a fuzzer finds is kept as a vector, so it is tried here from then on.
#![cfg(test)]

#[path = "fuzz/src/bodies.rs"]
mod bodies;
#[path = "support/world/rng.rs"]
mod rng;

use std::collections::BTreeSet;
use std::path::Path;

fn manifest_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The bytes of every vector that is not thousands long. Their notation is in `tests/vectors/README.md`; tokens such as `00*9` are
/// what they say, cells of text are not bytes.
fn inputs() -> BTreeSet<Vec<u8>> {
    let mut inputs = BTreeSet::new();
    for entry in std::fs::read_dir(manifest_dir().join("tests/vectors")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let text = std::fs::read_to_string(&path).unwrap();
            inputs.extend(text.split(['\n', '|']).filter_map(bytes).filter(|bytes| bytes.len() < 1_000));
        }
    }
    assert!(inputs.len() > 100, "only {} inputs in tests/vectors", inputs.len());
    inputs
}

/// Beginnings for what reads text.
const TEXTS: [&str; 13] = [
    r#"{"UID":"a","Timeout":2,"Payload":{"x":1e400,"y":[12345678901234567890,-0]},"Format":"JSON"}"#,
    r#"{"UID":"\u00e9","Payload":[0,255],"Format":"BINARY"}"#,
    r#"{"UID":"a","Payload":"\ud83d\ude00 \u0000","Format":"UTF8"}"#,
    r#"[{"GroupName":"g","UID":"u","AuthKey":"00112233445566778899aabbccddeeff"}]"#,
    "environment = \"test\"\n[sessions]\nlisten = \"[::]:1\"\nkeep_session = \"60s\"\n",
    "[telemetry]\nmax_datagram = \"4KiB\"\nallow_from = [\"10.0.0.0/8\"]\n[groups.\"é\"]\nrate = \"1/s\"\n",
    "[central]\nauth_key = \"00112233445566778899aabbccddeeff\"\n[backup]\nat = \"03:15\"\n",
    "70device=1B\n{\"time\":\"5\",\"data\":\"00ff\",\"seqNumber\":7,\"lqi\":\"null\"}",
    "80{\"end_device_ids\":{\"dev_eui\":\"0a\"},\"uplink_message\":{\"f_cnt\":1,\"frm_payload\":\"AQ==\"}}",
    "00event=up\n{\"deviceInfo\":{\"devEui\":\"0a\"},\"data\":\"AQ\",\"time\":\"2026-11-21T18:52:42Z\"}",
    "20[{\"type\":\"TELEMETRY_DATA\",\"id\":\"1\",\"payload\":{\"value\":[1]},\"device\":{\"imsi\":\"9\"}}]",
    "53{\"d\":\"x\",\"p\":[\"AQ\"],\"t\":1795287162,\"a/b\":\"k\",\"c\":\"3\"}",
    "[ingest.x]\nformat = \"generic\"\nmap = {uid = \"/d\"}\n[[api.key]]\nrights = [\"read\"]\n",
];

fn bytes(cell: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for token in cell.split_whitespace() {
        let (digits, times) = token.split_once('*').unwrap_or((token, "1"));
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        let unit: Option<Vec<u8>> =
            pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
        bytes.extend(unit?.repeat(times.parse().ok()?));
    }
    Some(bytes)
}

/// What starts a journal for each input: that is tried whole and cut.
const SLOW: [&str; 2] = ["backup_file", "recovery"];

#[test]
fn every_body_takes_every_vector_whole_cut_and_bent() {
    let mut inputs = inputs();
    inputs.extend(TEXTS.map(|text| text.as_bytes().to_vec()));
    for (name, body) in bodies::TARGETS {
        for input in &inputs {
            for len in 0..=input.len() {
                body(&input[..len]);
            }
            if SLOW.contains(name) {
                continue;
            }
            let mut bent = input.clone();
            for at in 0..bent.len() {
                for bit in 0..8 {
                    bent[at] ^= 1 << bit;
                    body(&bent);
                    bent[at] ^= 1 << bit;
                }
            }
            // Behind each other, as in a stream.
            body(&input.repeat(3));
        }
    }
}

/// What reached far once is in the tree, a little of it.
const SEEDS_MAX: u64 = 1 << 20;

#[test]
fn every_body_takes_its_seeds_and_they_are_few() {
    let mut bytes = 0;
    for (name, body) in bodies::TARGETS {
        let folder = manifest_dir().join("tests/fuzz/seeds").join(name);
        let seeds: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!seeds.is_empty(), "no seeds of {name}");
        for seed in seeds {
            let input = std::fs::read(&seed).unwrap();
            bytes += input.len() as u64;
            body(&input);
        }
    }
    assert!(bytes <= SEEDS_MAX, "{bytes} bytes of seeds");
}

#[test]
fn every_body_takes_noise() {
    let mut rng = rng::Rng::new(1);
    for _ in 0..400 {
        let small = rng.chance(50);
        let input: Vec<u8> =
            (0..rng.below(900))
                .map(|_| {
                    if small {
                        rng.pick(&[0, 1, 2, 3, 0x10, 0x30, 0x38, 0x40, 0x48])
                    } else {
                        rng.next() as u8
                    }
                })
                .collect();
        for (_, body) in bodies::TARGETS {
            body(&input);
        }
    }
}

#[test]
fn every_body_is_a_target_and_every_target_a_body() {
    let manifest = std::fs::read_to_string(manifest_dir().join("tests/fuzz/Cargo.toml")).unwrap();
    let targets: BTreeSet<&str> = manifest
        .lines()
        .filter_map(|line| line.split_once("name = \"")?.1.split_once("\", path"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(targets, bodies::TARGETS.iter().map(|(name, _)| *name).collect());
}
