//! Holds the two ways of building for other machines together: containers (Cross.toml, found from the root) and Debian's
//! packages (cross/targets). And that boards are data, and scripts can be started.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The value of a line `name=value` or `name="value"` of a target's facts.
fn fact(target: &str, name: &str) -> String {
    let text = fs::read_to_string(root().join("cross/targets").join(target)).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{target}: no {name}")).trim_matches('"').to_owned()
}

/// What `cross` reads.
fn containers() -> toml::Table {
    fs::read_to_string(root().join("Cross.toml")).unwrap().parse().unwrap()
}

fn texts(value: &toml::Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn both_ways_build_for_the_same_machines() {
    let containers = containers();
    let there: BTreeSet<_> = containers["target"].as_table().unwrap().keys().cloned().collect();
    let files = fs::read_dir(root().join("cross/targets")).unwrap();
    let mut here: BTreeSet<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    // The machine that builds needs no container.
    assert!(here.remove("x86_64-unknown-linux-gnu"));
    assert_eq!(there, here);
}

#[test]
fn both_ways_install_the_same_packages_and_name_the_same_compiler_and_emulator() {
    for (target, of_target) in containers()["target"].as_table().unwrap() {
        let commands = texts(&of_target["pre-build"]).join(" && ");
        let (_, installed) = commands.split_once("apt-get install ").unwrap();
        let installed: BTreeSet<_> =
            installed.split_whitespace().filter(|word| !word.starts_with("--")).collect();
        let packages = fact(target, "packages");
        assert_eq!(installed, packages.split_whitespace().collect(), "{target}");

        let (name, compiler) = (target.replace('-', "_"), fact(target, "compiler"));
        let upper = name.to_uppercase();
        let expected = [
            format!("CC_{name}={compiler}-gcc"),
            format!("AR_{name}={compiler}-gcc-ar"),
            format!("CARGO_TARGET_{upper}_LINKER={compiler}-gcc"),
            format!("CARGO_TARGET_{upper}_RUNNER=cross/emulate {target}"),
        ];
        assert_eq!(texts(&of_target["env"]["passthrough"]), expected, "{target}");
        assert!(installed.contains(format!("gcc-{compiler}").as_str()), "{target}");
    }
}

/// The text of every source file below a folder.
fn sources(folder: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(fs::read_to_string(&path).unwrap());
        }
    }
    texts
}

#[test]
fn what_is_left_out_under_emulation_is_there_and_has_a_reason() {
    let list = fs::read_to_string(root().join("cross/not-emulated.txt")).unwrap();
    let texts = [sources(&root().join("src")), sources(&root().join("tests"))].concat();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let (name, reason) = line.split_once(' ').unwrap();
        let function = format!("fn {}(", name.rsplit("::").next().unwrap());
        assert!(texts.iter().any(|text| text.contains(&function)), "there is no {name}");
        assert!(reason.split_whitespace().count() > 3, "{line}");
    }
}

#[test]
fn boards_are_data_and_the_readme_says_what_was_booted() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut boards = 0;
    for entry in fs::read_dir(root().join("board")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = fs::read_to_string(path.join("board")) else { continue };
        boards += 1;
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "{path:?} holds data only");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("| `{name}` |")), "README: {name}");
        let facts: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let names: Vec<_> = facts.iter().map(|line| line.split_once('=').unwrap().0).collect();
        let expected =
            ["title", "machine", "console", "bootloader", "firmware", "device_trees", "modules", "watchdog"];
        assert_eq!(names, expected, "{name}");
    }
    assert!(boards >= 3, "{boards}");
}

#[test]
fn scripts_can_be_started() {
    use std::os::unix::fs::PermissionsExt as _;
    const SCRIPTS_OF_THE_IMAGE: &str = concat!("board/root", "/usr/lib/iotsocketd");

    let mut scripts: Vec<PathBuf> = Vec::new();
    for folder in ["cross", "cross/debian", "board", SCRIPTS_OF_THE_IMAGE, "tests/image", "tests/package"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        scripts.extend(entries.filter(|path| path.is_file() && path.extension().is_none()));
    }
    assert!(!scripts.is_empty());
    for script in scripts {
        // An image has no bash.
        let shell = if script.starts_with(root().join(SCRIPTS_OF_THE_IMAGE)) {
            "#!/bin/sh\n"
        } else {
            "#!/usr/bin/env bash\n"
        };
        assert!(fs::read_to_string(&script).unwrap().starts_with(shell), "{script:?}");
        assert!(script.metadata().unwrap().permissions().mode() & 0o111 == 0o111, "{script:?}");
    }
}
