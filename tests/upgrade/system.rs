//! A whole new system for the other slot: what is refused, and what is written.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use iotsocketd::service::upgrade::system::Machine;
use tempfile::TempDir;

use crate::support::Site;
use crate::support::signing::Maker;

/// A machine whose second slot is a file, and whose script keeps what it was asked.
struct Bench {
    folder: TempDir,
    maker: Maker,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap(), maker: Maker::new(7) };
        fs::write(bench.path("slot"), "the system before, which is longer").unwrap();
        bench.script("");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The script, with something that it does when the slot was written.
    fn script(&self, at_flush: &str) {
        let (slot, asked) = (self.path("slot"), self.path("asked"));
        let text = format!(
            "#!/bin/sh\ncase $1 in\nfacts) echo rpi4; echo 1.2.0; echo {} ;;\nflush) {at_flush} : ;;\n*) echo \"$@\" >>{} ;;\nesac\n",
            slot.display(),
            asked.display()
        );
        // Renamed, so that nobody who starts it finds it open.
        fs::write(self.path("new"), text).unwrap();
        fs::set_permissions(self.path("new"), Permissions::from_mode(0o755)).unwrap();
        fs::rename(self.path("new"), self.path("helper")).unwrap();
    }

    fn install(&self, image: &[u8], comment: &str) -> Result<(), String> {
        fs::write(self.path("image"), image).unwrap();
        self.install_signed(&self.maker.sign(image, comment))
    }

    fn install_signed(&self, signature: &str) -> Result<(), String> {
        let machine = Machine { helper: &self.path("helper"), environment: "test" };
        machine.install(&self.path("image"), signature, &self.maker.public_key(), &mut |_| {})
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.path("asked")).unwrap_or_default()
    }
}

#[test]
fn a_signed_system_is_written_read_back_and_tried() {
    let bench = Bench::new();
    let image = vec![9; (3 << 20) + 17];
    bench.install(&image, "system:rpi4 version:1.2.1").unwrap();
    assert_eq!(fs::read(bench.path("slot")).unwrap(), image);
    assert_eq!(bench.asked(), "try 1.2.1\n");
}

#[test]
fn what_is_refused_leaves_the_slot_as_it_is() {
    let bench = Bench::new();
    let refused = |outcome: Result<(), String>, why: &str| {
        let sentence = outcome.unwrap_err();
        assert!(sentence.contains(why), "{sentence}");
        assert_eq!(fs::read(bench.path("slot")).unwrap(), b"the system before, which is longer");
        assert_eq!(bench.asked(), "");
    };
    refused(bench.install(b"new", "system:rpi3 version:1.2.1"), "of rpi3, and this machine is rpi4");
    refused(bench.install(b"new", "system:rpi4 version:1.2.0"), "not newer than 1.2.0");
    refused(bench.install(b"new", "version:1.2.1"), "a program and no system");
    refused(bench.install(b"new", "system:rpi4"), "names no version");
    let theirs = bench.install(b"new", "system:rpi4 version:1.2.1 environment:staging");
    refused(theirs, "it is for environment \"staging\", and this is \"test\"");
    // Cut, longer, and signed by nobody.
    let signed = bench.maker.sign(b"new", "system:rpi4 version:1.2.1");
    for image in [b"ne".as_slice(), b"", b"newer"] {
        fs::write(bench.path("image"), image).unwrap();
        refused(bench.install_signed(&signed), "damaged, or forged");
    }
    refused(bench.install_signed(""), "none of minisign");
}

#[test]
fn a_medium_that_keeps_something_else_is_told_and_never_tried() {
    let bench = Bench::new();
    bench.script(&format!("printf x >{};", bench.path("slot").display()));
    let sentence = bench.install(b"new", "system:rpi4 version:1.2.1").unwrap_err();
    assert!(sentence.contains("the medium is failing"), "{sentence}");
    assert_eq!(bench.asked(), "");
}

#[test]
fn a_machine_without_slots_says_so() {
    let bench = Bench::new();
    fs::remove_file(bench.path("helper")).unwrap();
    let sentence = bench.install(b"new", "system:rpi4 version:1.2.1").unwrap_err();
    assert!(sentence.contains("does not run from an image"), "{sentence}");
}

#[test]
fn a_running_concentrator_gives_the_proof_that_a_new_system_has_to_give() {
    let site = Site::new();
    // Nobody but strangers may come in, and it does not stay that way longer than the proof.
    site.set("api", "allow_from", "[\"192.0.2.0/24\"]");
    site.start();
    let proven = site.run(&["upgrade", "--prove"]);
    assert!(proven.code == 0 && proven.out.ends_with(" works\n"), "{}{}", proven.out, proven.err);
    assert_eq!(site.http().get("/v1/status").status, 403);
    site.stop();
    let nobody = site.run(&["upgrade", "--prove"]);
    assert!(nobody.code == 1 && nobody.err.contains("no concentrator is running"), "{}", nobody.err);
}
