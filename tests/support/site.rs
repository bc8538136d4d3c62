//! A folder that `init` made, and the concentrator that runs on it.

use std::collections::{BTreeSet, HashSet};
use std::env;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Once};
use std::time::{Duration, Instant};

use iotsocketd::client::{Login, LoginError, Tls};
use iotsocketd::hub::access_file::key_to_hex;
use iotsocketd::wire::{AuthKey, Format, Payload, Token, Uid};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Http, Peer, Reply, eventually};

/// The program promises to end within this time.
const DRAIN_MAX: Duration = Duration::from_secs(8);

/// The program that is tried: of this build, or the one that `IOTSOCKETD_PROGRAM` names, as `cross/test` does for one that runs
/// under an emulator while the tests do not.
pub static PROGRAM: LazyLock<String> = LazyLock::new(|| {
    env::var("IOTSOCKETD_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_iotsocketd").to_owned())
});

/// What a command did.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs a command to its end.
pub fn iotsocketd(words: &[&str]) -> Ran {
    let mut command = Command::new(&*PROGRAM);
    command.args(words).env_remove("RUNTIME_DIRECTORY").env_remove("RUST_LOG");
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

/// An object of the access list.
#[derive(Clone, Copy)]
pub struct Device {
    pub uid: Uid,
    pub key: AuthKey,
}

/// The site. Dropped, it stops its concentrator and looks whether all was well.
pub struct Site {
    folder: TempDir,
    /// Of this site alone, so that no other test can take its ports.
    pub ip: IpAddr,
    child: Mutex<Option<Child>>,
    /// A newer version that took over from the child.
    adopted: Mutex<Option<u32>>,
    /// What must never appear in a log: keys and tokens, as hex.
    secrets: Arc<Mutex<Vec<String>>>,
}

impl Site {
    /// What `init` makes, listening on loopback, with an empty access list. Not started.
    pub fn new() -> Self {
        Self::of("test")
    }

    /// The same in another environment.
    pub fn of(environment: &str) -> Self {
        static OPEN_FILES: Once = Once::new();
        OPEN_FILES.call_once(|| {
            iotsocketd::sys::raise_open_files().unwrap();
        });
        let folder = tempfile::tempdir().unwrap();
        let ran = iotsocketd(&["init", folder.path().to_str().unwrap(), "--environment", environment]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [low, high, ..] = std::process::id().to_le_bytes();
        let ip = IpAddr::from([127, 64 | high, low, NEXT.fetch_add(1, Ordering::Relaxed)]);
        let site =
            Self { folder, ip, child: Mutex::default(), adopted: Mutex::default(), secrets: Arc::default() };
        site.keep_secret(key_to_hex(&site.central_key()));
        for (section, port) in [("sessions", 5505), ("telemetry", 5505), ("api", 5443)] {
            site.set(section, "listen", &format!("\"{ip}:{port}\""));
        }
        // How full the disk of the machine is that runs the tests is no matter.
        site.set("alerts", "disk_percent", "100");
        site
    }

    /// A site that runs.
    pub fn started() -> Self {
        let site = Self::new();
        site.start();
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn sessions(&self) -> SocketAddr {
        SocketAddr::new(self.ip, 5505)
    }

    pub fn api(&self) -> SocketAddr {
        SocketAddr::new(self.ip, 5443)
    }

    pub fn config(&self) -> PathBuf {
        self.path("iotsocketd.toml")
    }

    /// Gives a key of the configuration another value, as TOML. What is commented out begins to count.
    pub fn set(&self, section: &str, key: &str, value: &str) {
        let text = self.read("iotsocketd.toml");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let header = format!("[{section}]");
        let plain = |line: &str| line.trim_start_matches('#').to_owned();
        let start = lines.iter().position(|line| plain(line).starts_with(&header)).unwrap();
        lines[start] = plain(&lines[start]);
        let end = lines[start + 1..].iter().position(|line| plain(line).starts_with('['));
        let end = end.map_or(lines.len(), |end| start + 1 + end);
        let assignment = format!("{key} = ");
        let found = lines[start + 1..end].iter().position(|line| plain(line).starts_with(&assignment));
        match found {
            Some(at) => lines[start + 1 + at] = assignment + value,
            None => lines.insert(start + 1, assignment + value),
        }
        fs::write(self.config(), lines.join("\n") + "\n").unwrap();
    }

    /// Adds tables at the end of the configuration.
    pub fn append(&self, toml: &str) {
        fs::write(self.config(), self.read("iotsocketd.toml") + "\n" + toml + "\n").unwrap();
    }

    pub fn central_key(&self) -> AuthKey {
        AuthKey::parse(self.read("central.key").lines().last().unwrap()).unwrap()
    }

    /// Adds an object to the access list's file, as an editor would.
    pub fn device(&self, uid: &str, group: &str) -> Device {
        let device = self.stranger(uid);
        let text = self.read("state/acl.json");
        let mut list: Value = serde_json::from_str(&text).unwrap_or_else(|_| json!({}));
        list[uid] = json!({"GroupName": group, "AuthKey": key_to_hex(&device.key)});
        self.write_acl(&list);
        device
    }

    pub fn write_acl(&self, list: &Value) {
        fs::create_dir_all(self.path("state")).unwrap();
        let new = self.path("state/acl.new");
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&new).unwrap();
        std::io::Write::write_all(&mut file, list.to_string().as_bytes()).unwrap();
        fs::rename(new, self.path("state/acl.json")).unwrap();
    }

    /// An object with a fresh key that nobody knows.
    pub fn stranger(&self, uid: &str) -> Device {
        let mut key = AuthKey([0; 16]);
        SystemRandom::new().fill(&mut key.0).unwrap();
        self.keep_secret(key_to_hex(&key));
        Device { uid: Uid::parse(uid).unwrap(), key }
    }

    pub fn central(&self) -> Device {
        Device { uid: Uid::CENTRAL, key: self.central_key() }
    }

    /// Something that must not stand in the log.
    pub fn keep_secret(&self, secret: String) {
        self.secrets.lock().unwrap().push(secret.to_lowercase());
    }

    /// Starts `run` and waits until it is ready.
    pub fn start(&self) {
        self.start_under(&[]);
    }

    /// The same under another program, which must become what it is told to run, or run beside it.
    pub fn start_under(&self, words: &[&str]) {
        let starts = self.log().matches("event=started").count();
        self.launch(words);
        eventually("the concentrator is ready", || {
            if let Some(status) = self.child.lock().unwrap().as_mut().unwrap().try_wait().unwrap() {
                panic!("the concentrator ended at once, {status}:\n{}", self.log());
            }
            self.log().matches("event=started").count() > starts
        });
    }

    /// Starts `run` under another program and does not wait for it.
    pub fn launch(&self, words: &[&str]) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let words = [words, &[PROGRAM.as_str()]].concat();
        let child = Command::new(words[0])
            .args(&words[1..])
            .args(["run", "--config"])
            .arg(self.config())
            .env_remove("RUNTIME_DIRECTORY")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.child.lock().unwrap() = Some(child);
    }

    /// Waits until the version that ran before an update is gone, and looks after the newer one from now on.
    pub fn adopt(&self, old: u32) {
        match self.child.lock().unwrap().take() {
            Some(mut child) => assert!(child.wait().unwrap().success(), "{}", self.log()),
            None => eventually("the older version is gone", || is_gone(old)),
        }
        let log = self.log();
        let line = log.lines().rfind(|line| line.contains("event=upgraded ")).unwrap();
        let pid = line.split_once(" pid=").unwrap().1.trim().parse().unwrap();
        *self.adopted.lock().unwrap() = Some(pid);
    }

    /// The process was killed by somebody else.
    pub fn reap(&self) {
        self.child.lock().unwrap().take().unwrap().wait().unwrap();
    }

    /// Starts it again and again, as a service manager does, until the state folder is free. A newer version that is about to
    /// go may say that it started, too: that is not this one.
    pub fn start_when_free(&self) {
        let said = format!("event=started version={} ", env!("CARGO_PKG_VERSION"));
        let starts = self.log().matches(&said).count();
        self.launch(&[]);
        eventually("it is started", || {
            if !self.is_running() {
                self.launch(&[]);
            }
            self.is_running() && self.log().matches(&said).count() > starts
        });
    }

    /// Whether it runs: it may have been killed.
    pub fn is_running(&self) -> bool {
        if let Some(pid) = *self.adopted.lock().unwrap() {
            return !is_gone(pid);
        }
        let mut child = self.child.lock().unwrap();
        child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub fn pid(&self) -> u32 {
        self.try_pid().unwrap()
    }

    /// The same while somebody else may stop and start it.
    pub fn try_pid(&self) -> Option<u32> {
        let adopted = *self.adopted.lock().unwrap();
        adopted.or_else(|| Some(self.child.lock().unwrap().as_ref()?.id()))
    }

    pub fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    }

    /// Waits for the end of the process.
    pub fn wait_exit(&self, max: Duration) -> ExitStatus {
        let start = Instant::now();
        let mut child = self.child.lock().unwrap().take().unwrap();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if start.elapsed() > max {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("the concentrator did not end within {max:?}:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to stop, as systemd would; it must end well and in time.
    pub fn stop(&self) {
        self.signal("TERM");
        if let Some(pid) = self.adopted.lock().unwrap().take() {
            let start = Instant::now();
            eventually("it ends", || is_gone(pid));
            assert!(start.elapsed() < DRAIN_MAX && self.log().trim_end().ends_with("event=stopped"));
            return;
        }
        let status = self.wait_exit(DRAIN_MAX);
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Ends it without a word.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap().take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What it said on stderr.
    pub fn log(&self) -> String {
        self.read("log")
    }

    /// Runs another command on this site's configuration.
    pub fn run(&self, words: &[&str]) -> Ran {
        iotsocketd(&[words, &["--config", self.config().to_str().unwrap()]].concat())
    }

    /// What `status --json` says.
    pub fn status(&self) -> Value {
        let ran = self.run(&["status", "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        serde_json::from_str(&ran.out).unwrap()
    }

    /// A number of the status, by its JSON pointer.
    pub fn number(&self, pointer: &str) -> u64 {
        let status = self.status();
        status.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer} in {status:#}"))
    }

    /// How often a cause of refusals was counted.
    pub fn refused(&self, cause: &str) -> u64 {
        self.number(&format!("/refusals/{cause}"))
    }

    /// Resident memory in KiB.
    pub fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Open files of the process.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let pem = fs::read(self.path("tls/server.crt")).unwrap();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        roots
    }

    pub fn tls(&self) -> Tls {
        Tls::with_roots(self.roots(), "localhost").unwrap()
    }

    /// Logs in over TLS.
    pub fn login(&self, device: Device) -> Peer {
        self.try_login(device).unwrap()
    }

    pub fn try_login(&self, device: Device) -> Result<Peer, LoginError> {
        self.login_as(device, None, Some(&self.tls()), 0)
    }

    /// Logs in from an address, over TLS or not, with a largest transmission or without.
    pub fn login_as(
        &self,
        device: Device,
        local: Option<IpAddr>,
        tls: Option<&Tls>,
        largest: u16,
    ) -> Result<Peer, LoginError> {
        let Device { uid, key } = device;
        let login = Login { address: self.sessions(), local, tls, largest, uid, key, redirect_hosts: &[] };
        smol::block_on(iotsocketd::client::login(&login)).map(Peer::new)
    }

    /// Logs an object of a group with telemetry in, and takes its token, which comes first.
    pub fn login_with_token(&self, device: Device) -> (Peer, Token) {
        let mut peer = self.login(device);
        let token = peer.token();
        self.keep_secret(token.0.iter().map(|byte| format!("{byte:02x}")).collect());
        (peer, token)
    }

    /// Sends one datagram of telemetry.
    pub fn telemetry(&self, token: Token, format: Format, data: &[u8]) {
        let payload = Payload::new(format, data).unwrap();
        self.datagram(&[&token.0, payload.encode_head().as_slice(), data].concat());
    }

    /// Sends any datagram.
    pub fn datagram(&self, bytes: &[u8]) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(bytes, self.sessions()).unwrap();
    }

    /// A connection to the API that trusts the site's certificate and shows the central's key.
    pub fn http(&self) -> Http {
        Http::connect(self, None).unwrap()
    }

    /// One call of the API.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.http().post(path, body.to_string().as_bytes())
    }

    /// Calls an object over the API.
    pub fn call(&self, uid: &str, payload: Value, format: &str) -> Value {
        self.call_for(uid, payload, format, 10)
    }

    /// The same, and how many seconds the caller waits.
    pub fn call_for(&self, uid: &str, payload: Value, format: &str, seconds: u32) -> Value {
        let body = json!({"UID": uid, "Payload": payload, "Format": format, "Timeout": seconds});
        let reply = self.post("/request", &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    fn check_log(&self) {
        let log = self.log().to_lowercase();
        let secrets = self.secrets.lock().unwrap();
        let is_hex = |text: &&String| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (hex, texts): (HashSet<&String>, HashSet<&String>) = secrets.iter().partition(is_hex);
        let mut is_told = texts.into_iter().any(|text| log.contains(text));
        // Of keys and tokens there may be thousands: whatever may be one is looked up among them.
        let hex: HashSet<&str> = hex.into_iter().map(String::as_str).collect();
        let lengths: BTreeSet<usize> = hex.iter().map(|secret| secret.len()).collect();
        for run in log.split(|c: char| !c.is_ascii_hexdigit()) {
            for len in lengths.iter().filter(|len| **len <= run.len()) {
                is_told |= (0..=run.len() - len).any(|at| hex.contains(&run[at..at + len]));
            }
        }
        assert!(!is_told, "a key or token stands in the log:\n{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// Whether a process that is not our child is gone, or waits for somebody to see its end.
fn is_gone(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

impl Drop for Site {
    fn drop(&mut self) {
        let adopted = *self.adopted.lock().unwrap_or_else(|e| e.into_inner());
        let is_running = self.child.lock().unwrap_or_else(|e| e.into_inner()).is_some() || adopted.is_some();
        if std::thread::panicking() {
            if let Some(pid) = adopted {
                let _gone = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            }
            if let Some(mut child) = self.child.lock().unwrap_or_else(|e| e.into_inner()).take() {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("the end of the log:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
            return;
        }
        if is_running {
            self.stop();
        }
        self.check_log();
    }
}
