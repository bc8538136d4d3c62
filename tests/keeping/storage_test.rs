//! `storage-test`: two processes, one of which is killed as a power cut would, and a card that is played.

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::support::{PROGRAM, Ran, eventually, iotsocketd};

const PLACE: u64 = 4096;

/// The machine whose power stays.
struct Tester {
    child: Child,
    lines: BufReader<ChildStdout>,
    address: String,
}

impl Tester {
    fn start(record: &Path) -> Self {
        let mut command = Command::new(&*PROGRAM);
        command.args(["storage-test", "--listen", "127.0.0.1:0", "--record"]).arg(record);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listens on ").unwrap().to_owned();
        Self { child, lines, address }
    }

    /// The next line that it says.
    fn said(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Tester {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What the record says of the newest run.
fn acknowledged(record: &Path) -> u64 {
    let text = fs::read_to_string(record).unwrap_or_default();
    text.lines().last().map_or(0, |line| line.split_once(' ').unwrap().1.parse().unwrap())
}

/// Writes for a while, and is killed in the middle of it.
fn write_and_kill(tester: &Tester, folder: &Path, record: &Path, at_least: u64) {
    let runs = || fs::read_to_string(record).unwrap_or_default().lines().count();
    let before = runs();
    let mut command = Command::new(&*PROGRAM);
    command.args(["storage-test", "--tester", &tester.address]).arg(folder).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    eventually("writes are acknowledged", || runs() > before && acknowledged(record) >= at_least);
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had sent is on its way still.
    let mut last = 0;
    eventually("the record is at rest", || {
        acknowledged(record) == std::mem::replace(&mut last, acknowledged(record))
    });
}

fn check(tester: &Tester, folder: &Path) -> Ran {
    iotsocketd(&["storage-test", "--check", "--tester", &tester.address, folder.to_str().unwrap()])
}

#[test]
fn a_card_that_keeps_is_told_from_one_that_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let mut tester = Tester::start(&record);
    let ran = check(&tester, folder.path());
    assert!(ran.code == 1 && ran.err.contains("no record yet"), "{}", ran.err);
    write_and_kill(&tester, folder.path(), &record, 30);
    assert!(tester.said().contains("has begun"));
    let ran = check(&tester, folder.path());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("kept, all of the last "), "{}", ran.out);
    assert!(tester.said().contains("kept, all of the last "), "it is told on both machines");
    // The other machine is started anew: the record is in a file.
    drop(tester);
    let mut tester = Tester::start(&record);
    // The card forgets the last write and half of another one.
    let last = acknowledged(&record);
    let card = OpenOptions::new().write(true).open(folder.path().join("storage-test.data")).unwrap();
    card.write_all_at(&[0; PLACE as usize], last * PLACE).unwrap();
    card.write_all_at(&[0; PLACE as usize / 2], (last - 7) * PLACE + PLACE / 2).unwrap();
    let ran = check(&tester, folder.path());
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    let words = format!("1 never made, 1 damaged, the first {}, {last};", last - 7);
    assert!(ran.err.contains(&words) && ran.err.contains("LOST"), "{words}: {}", ran.err);
    assert!(tester.said().contains("LOST"));
    // The next round begins anew, whatever the one before was, and the verdict stands.
    let ran = iotsocketd(&[
        "storage-test",
        "--for",
        "100ms",
        "--tester",
        &tester.address,
        folder.path().to_str().unwrap(),
    ]);
    assert!(ran.code == 1 && ran.err.contains("LOST") && ran.out.contains("was not cut"), "{}", ran.err);
    let ran = check(&tester, folder.path());
    assert_eq!(ran.code, 0, "{}", ran.err);
    // Another card, or one that lost even its name.
    fs::remove_file(folder.path().join("storage-test.data")).unwrap();
    let ran = check(&tester, folder.path());
    assert!(ran.code == 1 && ran.err.contains("is gone, or of another card"), "{}", ran.err);
}

#[test]
fn without_the_other_machine_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let ran = iotsocketd(&["storage-test", "--tester", "127.0.0.1:1", folder.path().to_str().unwrap()]);
    assert!(ran.code == 1 && ran.err.contains("127.0.0.1:1 cannot be reached"), "{}", ran.err);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    for words in [
        &["storage-test"][..],
        &["storage-test", "--listen", "here"],
        &["storage-test", "--listen", "127.0.0.1:0", "--tester", "127.0.0.1:1"],
        &["storage-test", "--tester", "127.0.0.1:1", "--for", "ever"],
    ] {
        assert_eq!(iotsocketd(words).code, 2, "{words:?}");
    }
}
