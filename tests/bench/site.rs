//! A concentrator to measure: a folder of its own with raised limits, and the process that runs there.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use iotsocketd::client::{LoginError, Stream, Tls};
use iotsocketd::wire::AuthKey;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::machine;

/// The program under measurement.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_iotsocketd");

/// What the benchmark allows beyond the defaults: table, key, value. Deadlines stay as they are.
const RAISED: [(&str, &str, &str); 7] = [
    ("[journal]", "max_size", "\"4GiB\""),
    ("[sessions]", "max_connections", "15000"),
    ("[sessions]", "max_unauthenticated", "4000"),
    ("[sessions]", "max_unauthenticated_per_source", "4000"),
    ("[api]", "max_connections", "4000"),
    ("[api]", "max_unauthenticated_per_source", "4000"),
    ("[maintenance]", "socket", "\"maintenance.sock\""),
];
/// Starting, logging in ten thousand objects and forgetting them takes less than this.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often something is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often somebody tries to be served.
const TRY_EVERY: Duration = Duration::from_millis(1);

/// How the program is started, given the folder of its site: what comes before its arguments.
pub type Program = fn(&Path) -> Command;

/// A concentrator that runs until it is dropped.
pub struct Site {
    folder: TempDir,
    server: Child,
    program: Program,
    /// Where sessions are taken.
    pub sessions: SocketAddr,
    /// Where the API is.
    pub api: SocketAddr,
}

impl Site {
    /// Starts a concentrator whose access list holds so many objects `sim-N`.
    pub fn start(objects: usize) -> Result<Self, String> {
        Self::start_with(objects, "")
    }

    /// The same with more at the end of its configuration.
    pub fn start_with(objects: usize, more: &str) -> Result<Self, String> {
        Self::start_by(|_| Command::new(PROGRAM), objects, more)
    }

    /// The same by way of another program, which runs it.
    pub fn start_by(program: Program, objects: usize, more: &str) -> Result<Self, String> {
        let folder = TempDir::with_prefix("iotsocketd-bench-").map_err(|error| error.to_string())?;
        run(Command::new(PROGRAM).args(["init", "--environment", "test"]).arg(folder.path()))?;
        let [sessions, api] = [free_address()?, free_address()?];
        configure(&folder.path().join("iotsocketd.toml"), sessions, api, more)?;
        let state = folder.path().join("state");
        fs::create_dir_all(&state).map_err(|error| error.to_string())?;
        write(&state.join("acl.json"), &access_list(objects))?;
        let server = launch(program, folder.path())?;
        let mut site = Self { folder, server, program, sessions, api };
        site.wait_until("it is ready", |status| number(status, "/ready") > 0.0)?;
        Ok(site)
    }

    /// Kills it and starts it again; until somebody is served, a handshake included.
    pub fn restart(&mut self) -> Result<(), String> {
        self.server.kill().and_then(|()| self.server.wait()).map_err(|error| error.to_string())?;
        let tls = self.tls()?;
        self.server = launch(self.program, self.folder.path())?;
        let deadline = Instant::now() + PATIENCE;
        // Where there is no TLS, somebody who tries it is served as well: with a refusal.
        while let Err(LoginError::Connect(_, error)) = smol::block_on(Stream::open(self.api, Some(&tls))) {
            if self.is_given_up(deadline) {
                return Err(self.in_vain("somebody is served", &error.to_string()));
            }
            thread::sleep(TRY_EVERY);
        }
        Ok(())
    }

    /// The configuration that it runs with.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("iotsocketd.toml")
    }

    /// The certificate that it shows.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("tls/server.crt")
    }

    /// How clients trust it.
    pub fn tls(&self) -> Result<Tls, String> {
        let certificate =
            CertificateDer::from_pem_file(self.certificate()).map_err(|error| error.to_string())?;
        Tls::pinned(certificate, "localhost").map_err(|error| error.to_string())
    }

    /// The central's key.
    pub fn central_key(&self) -> Result<AuthKey, String> {
        let file = self.config().with_file_name("central.key");
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        text.lines().last().and_then(AuthKey::parse).ok_or_else(|| format!("{}: no key", file.display()))
    }

    /// A file of its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The process.
    pub fn process(&self) -> u32 {
        self.server.id()
    }

    /// KiB of physical memory that it has.
    pub fn resident_kib(&self) -> Result<f64, String> {
        machine::resident_kib(self.process())
    }

    /// What it says about itself.
    pub fn status(&self) -> Result<Value, String> {
        let mut command = Command::new(PROGRAM);
        command.args(["status", "--json", "--config"]).arg(self.config()).env_remove("RUNTIME_DIRECTORY");
        let text = run(&mut command)?;
        serde_json::from_str(&text).map_err(|error| format!("status: {error}"))
    }

    /// Waits for a state of it.
    pub fn wait_until(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let problem = match self.status() {
                Ok(status) if is_so(&status) => return Ok(status),
                Ok(_) => String::new(),
                Err(error) => error,
            };
            if self.is_given_up(deadline) {
                return Err(self.in_vain(what, &problem));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn is_given_up(&mut self, deadline: Instant) -> bool {
        !matches!(self.server.try_wait(), Ok(None)) || Instant::now() > deadline
    }

    fn in_vain(&self, what: &str, problem: &str) -> String {
        let log = fs::read_to_string(self.file("log")).unwrap_or_default();
        format!("waited in vain until {what}: {problem}\n{log}")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // It has nothing to save, and an error here would hide the measurement's.
        let _gone = self.server.kill().and_then(|()| self.server.wait());
    }
}

fn launch(program: Program, folder: &Path) -> Result<Child, String> {
    let log = File::create(folder.join("log")).map_err(|error| error.to_string())?;
    program(folder)
        .args(["run", "--config"])
        .arg(folder.join("iotsocketd.toml"))
        .env("RUST_LOG", "warn")
        // As in the unit.
        .env("MALLOC_ARENA_MAX", "2")
        .env_remove("RUNTIME_DIRECTORY")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| format!("{PROGRAM}: {error}"))
}

/// The number at this place of a JSON document; `true` is 1 and what is not there 0.
pub fn number(value: &Value, pointer: &str) -> f64 {
    match value.pointer(pointer) {
        Some(Value::Bool(true)) => 1.0,
        Some(other) => other.as_f64().unwrap_or_default(),
        None => 0.0,
    }
}

/// Runs a command to its end: what it printed, or what it complained about.
pub fn run(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } = command.output().map_err(|error| error.to_string())?;
    if status.success() {
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&stderr).into_owned())
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// An address on loopback whose port nobody has, at least now.
pub fn free_address() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    listener.local_addr().map_err(|error| error.to_string())
}

fn configure(path: &Path, sessions: SocketAddr, api: SocketAddr, more: &str) -> Result<(), String> {
    let mut text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    set(&mut text, "[sessions]", "listen", &format!("\"{sessions}\""))?;
    set(&mut text, "[telemetry]", "listen", &format!("\"{sessions}\""))?;
    set(&mut text, "[api]", "listen", &format!("\"{api}\""))?;
    for (table, key, value) in RAISED {
        set(&mut text, table, key, value)?;
    }
    text.push_str(more);
    write(path, &text)
}

/// Gives a key of a table, which must be there, another value.
fn set(text: &mut String, table: &str, key: &str, value: &str) -> Result<(), String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut inside = false;
    let line = lines.iter_mut().find(|line| {
        if line.starts_with('[') {
            inside = line.starts_with(table);
        }
        inside && line.strip_prefix(key).is_some_and(|rest| rest.starts_with(" ="))
    });
    let Some(line) = line else {
        return Err(format!("the configuration has no {key} in {table}"));
    };
    *line = format!("{key} = {value}");
    *text = lines.join("\n") + "\n";
    Ok(())
}

/// Objects with keys that are no secret but differ.
fn access_list(objects: usize) -> String {
    let list: Map<String, Value> = (1..=objects as u64)
        .map(|number| (uid(number), json!({"GroupName": "Devices", "AuthKey": key(number)})))
        .collect();
    Value::Object(list).to_string()
}

/// The UID of an object of the access list, counted from 1.
pub fn uid(number: u64) -> String {
    format!("sim-{number}")
}

/// Its key in hexadecimal digits.
pub fn key(number: u64) -> String {
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("{spread:016x}{:016x}", !spread.rotate_left(17))
}
