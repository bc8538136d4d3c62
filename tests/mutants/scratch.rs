//! A copy of what the harness needs, to be broken: the journal and the modules below it as a crate of their own, which
//! builds in seconds, with the versions and the compiled dependencies of the real one.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::list::Mutant;

/// The crash harness, and the journal's own tests, over a medium that fails where it is told to: one of them has to fail.
const HARNESS: &str = "journal_crash";
const TESTS: [&[&str]; 2] = [&["--test", HARNESS], &["--lib"]];
/// The journal's layer and what it may import, for its tests, too.
const MODULES: [&str; 5] = ["journal", "limits", "net", "thorough", "wire"];

/// How the harness ended.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing was found wrong.
    Passed,
    /// It said what is wrong: that line.
    Failed(String),
    /// It did not end in time and was stopped.
    Hung,
    /// The compiler refused.
    NotBuilt(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("SURVIVES"),
            Self::Failed(line) => write!(f, "caught: {line}"),
            Self::Hung => f.write_str("caught: it hangs"),
            Self::NotBuilt(_) => f.write_str("DOES NOT COMPILE"),
        }
    }
}

pub struct Scratch {
    root: PathBuf,
    target: PathBuf,
}

impl Scratch {
    /// Makes the copy in the target folder, which is also where it is built.
    pub fn new(package: &Path) -> Self {
        // The test's own program is at TARGET/PROFILE/deps/NAME.
        let program = std::env::current_exe().unwrap();
        let target = program.ancestors().nth(3).unwrap().to_owned();
        let root = target.join("mutants");
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("src")).unwrap();
        for module in MODULES {
            for name in [module.to_owned(), format!("{module}.rs")] {
                copy(&package.join("src").join(&name), &root.join("src").join(&name));
            }
        }
        for part in ["tests/support", "tests/fixtures", &format!("tests/{HARNESS}"), "Cargo.lock"] {
            copy(&package.join(part), &root.join(part));
        }
        let modules: String = MODULES.iter().map(|module| format!("pub mod {module};\n")).collect();
        fs::write(root.join("src/lib.rs"), format!("//! The journal, to be broken.\n{modules}")).unwrap();
        fs::write(root.join("Cargo.toml"), manifest(package)).unwrap();
        Self { root, target }
    }

    /// Runs the harness over the broken copy, then mends it.
    pub fn with(&self, mutant: &Mutant, max: Duration) -> Outcome {
        let file = self.root.join(&mutant.file);
        let whole = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(whole.matches(&mutant.was).count(), 1, "{} does not fit {}", mutant.name, mutant.file);
        fs::write(&file, whole.replacen(&mutant.was, &mutant.becomes, 1)).unwrap();
        let outcome = self.run(max);
        fs::write(&file, whole).unwrap();
        outcome
    }

    /// Runs the tests until one fails.
    pub fn run(&self, max: Duration) -> Outcome {
        for test in TESTS {
            match self.run_one(test, max) {
                Outcome::Passed => {}
                other => return other,
            }
        }
        Outcome::Passed
    }

    /// Builds a test and runs it.
    fn run_one(&self, test: &[&str], max: Duration) -> Outcome {
        let program = match self.build(test) {
            Ok(program) => program,
            Err(errors) => return Outcome::NotBuilt(errors),
        };
        let log = self.root.join("output");
        let output = fs::File::create(&log).unwrap();
        let mut command = Command::new(program);
        command.arg("--nocapture").current_dir(&self.root).env("RUST_BACKTRACE", "0").stdin(Stdio::null());
        command.stdout(output.try_clone().unwrap()).stderr(output);
        let mut child = command.spawn().unwrap();
        let begun = Instant::now();
        let outcome = loop {
            let status = child.try_wait().unwrap();
            let text = fs::read_to_string(&log).unwrap_or_default();
            if let Some(line) = panic_line(&text) {
                break Outcome::Failed(line);
            }
            match status {
                Some(status) if status.success() => break Outcome::Passed,
                Some(status) => break Outcome::Failed(status.to_string()),
                None if begun.elapsed() > max => break Outcome::Hung,
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let _ = child.kill();
        let _ = child.wait();
        outcome
    }

    /// The test's program, or what the compiler says.
    fn build(&self, test: &[&str]) -> Result<PathBuf, String> {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target).stdin(Stdio::null());
        // Only for the copy itself: what it depends on is taken as it was built for the package.
        command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
        command.args(["test", "--offline", "--no-run"]).args(test);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // The last line is `  Executable NAME (PATH)`.
        let program =
            said.lines().last().and_then(|line| line.trim_end().strip_suffix(')')?.rsplit_once('('));
        match program {
            Some((_, path)) if output.status.success() => Ok(self.root.join(path)),
            _ => Err(said.into_owned()),
        }
    }
}

/// The whole line behind the first that says where something panicked: the harness need not go on after it.
fn panic_line(text: &str) -> Option<String> {
    let (_, behind) = text.split_once("panicked at")?;
    let (line, _) = behind.split_once('\n')?.1.split_once('\n')?;
    Some(line.chars().take(150).collect())
}

/// The package's manifest without its programs and benchmarks, as a workspace of its own.
fn manifest(package: &Path) -> String {
    let text = fs::read_to_string(package.join("Cargo.toml")).unwrap();
    let mut kept = String::new();
    let mut skip = false;
    for line in text.lines() {
        if line.starts_with('[') {
            skip = line.starts_with("[[") || line == "[lib]" || line.starts_with("[lints");
        }
        if !skip && !line.starts_with("readme") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept + "\n[workspace]\n"
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else if from.is_file() {
        fs::copy(from, to).unwrap();
    }
}
