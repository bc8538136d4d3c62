//! A power failure right behind a first start: folders and marks that it made.

use std::fs;

use crate::support::{Site, eventually};

/// What is flushed in a folder is gone all the same if the folder's own name was not.
#[test]
fn the_names_of_folders_are_flushed_before_anything_is_taken() {
    let site = Site::new();
    site.set("journal", "on_expiry", "\"archive\"");
    // Both are missing, the state folder is two folders deep.
    for (section, key, path) in [("", "state_dir", "deep/state"), ("journal", "archive_dir", "other/archive")]
    {
        let path = site.path(path);
        match section {
            "" => {
                let text = site.read("iotsocketd.toml");
                let state = format!("state_dir = {path:?}\n");
                let rest = text.lines().filter(|line| !line.starts_with("state_dir = "));
                fs::write(site.config(), state + &rest.collect::<Vec<_>>().join("\n")).unwrap();
            }
            _ => site.set(section, key, &format!("{path:?}")),
        }
    }
    let calls = site.path("calls");
    let words = ["strace", "-D", "-f", "-qqq", "-y", "-e", "trace=fsync", "-o", calls.to_str().unwrap()];
    site.start_under(&words);
    let root = site.path("").canonicalize().unwrap();
    let is_flushed = |folder: &str| {
        let name = format!("<{}>", root.join(folder).to_str().unwrap().trim_end_matches('/'));
        site.read("calls").contains(&name)
    };
    for folder in ["", "deep", "deep/state", "deep/state/journal"] {
        assert!(is_flushed(folder), "{folder} in {}", site.read("calls"));
    }
    // The archive is looked for by a thread of its own.
    eventually("the archive's folder is flushed", || is_flushed("other"));
}

/// A mark without its content says nothing, and keeps nobody from starting.
#[test]
fn a_mark_that_lost_its_content_is_written_again() {
    let site = Site::started();
    for lost in ["", "\0\0\0\0\0"] {
        site.kill();
        fs::write(site.path("state/environment"), lost).unwrap();
        site.start();
        assert_eq!(site.read("state/environment"), "test\n");
    }
    site.kill();
    fs::write(site.path("state/environment"), "production\n").unwrap();
    let ran = site.run(&["run"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("belongs to environment \"production\""), "{}", ran.err);
}
