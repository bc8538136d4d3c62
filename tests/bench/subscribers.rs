//! How good deliveries to subscribers are: with endpoints that hang, after an outage, and how soon a message arrives. It judges
//! and never fails for what it measured: `cargo bench --bench subscribers`, with `-- --quick` for a first look.

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod machine;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod site;

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use site::{PROGRAM, Site, number};

/// Subscribers, and how many of them hang.
const SUBSCRIBERS: usize = 50;
const HANGING: usize = 10;
/// Messages a second that each of the others is to get.
const RATE: f64 = 1000.0;
/// A day at ten messages a second.
const DAY: u64 = 864_000;
const PATIENCE: Duration = Duration::from_secs(300);

type Outcome<T> = Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        say("measures nothing unless it is run by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let (seconds, backlog) = if is_quick { (5, DAY / 10) } else { (20, DAY) };
    say(&machine::facts());
    say(&format!("{:58}{:>12}{:>14}", "subscribers", "measured", "bound"));
    let measured = soon(seconds)
        .and_then(|()| hanging(seconds))
        .and_then(|()| outage("strict", 1, backlog))
        .and_then(|()| outage("strict", 100, backlog))
        .and_then(|()| outage("live-first", 100, backlog));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("CANNOT BE MEASURED: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// An endpoint that counts what it gets.
struct Endpoint {
    address: SocketAddr,
    messages: AtomicU64,
    is_down: AtomicBool,
    /// From when a message was made to its arrival, where it says when.
    took: Mutex<Vec<Duration>>,
    first: Mutex<Option<Instant>>,
}

impl Endpoint {
    fn start() -> Outcome<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(told)?;
        let endpoint = Arc::new(Self {
            address: listener.local_addr().map_err(told)?,
            messages: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
            took: Mutex::default(),
            first: Mutex::default(),
        });
        let own = Arc::clone(&endpoint);
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let own = Arc::clone(&own);
                thread::spawn(move || own.serve(socket));
            }
        });
        Ok(endpoint)
    }

    fn serve(&self, socket: TcpStream) -> Option<()> {
        socket.set_nodelay(true).ok()?;
        let mut answers = socket.try_clone().ok()?;
        let mut reader = BufReader::new(socket);
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
                let line = line.trim_end().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().ok()?;
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            if self.is_down.load(Ordering::Relaxed) {
                answers.write_all(b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n").ok()?;
                continue;
            }
            self.take(&String::from_utf8_lossy(&body));
            answers.write_all(b"HTTP/1.1 204 Taken\r\n\r\n").ok()?;
        }
    }

    fn take(&self, body: &str) {
        self.first.lock().ok().map(|mut first| *first.get_or_insert_with(Instant::now));
        let count = body.matches("\"seq\":").count();
        self.messages.fetch_add(count as u64, Ordering::Relaxed);
        let made = body.split("\"made_us\":").skip(1);
        let made = made.filter_map(|rest| rest.split(['}', ',']).next()?.trim().parse().ok());
        let now = now_us();
        if let Ok(mut took) = self.took.lock() {
            took.extend(made.map(|made: u64| Duration::from_micros(now.saturating_sub(made))));
        }
    }

    fn count(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }
}

/// From a message that is posted by a partner network to its arrival at a local subscriber.
fn soon(seconds: u64) -> Outcome<()> {
    let endpoint = Endpoint::start()?;
    let site = start(&[("one".to_owned(), endpoint.address, "")])?;
    let mut network = Network::connect(&site)?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        network.post()?;
        thread::sleep(Duration::from_millis(20));
    }
    wait_for("the last message", || endpoint.count() >= network.sent)?;
    tell_times("ms from POST /v1/ingest to its arrival", &endpoint, Some(50.0));
    Ok(())
}

/// Many subscribers of which some hang.
fn hanging(seconds: u64) -> Outcome<()> {
    let silent = TcpListener::bind("127.0.0.1:0").map_err(told)?;
    let address = silent.local_addr().map_err(told)?;
    let batches = "batch_max = 200\nbatch_wait = \"100ms\"";
    let mut all: Vec<_> = (0..HANGING).map(|number| (format!("hangs-{number}"), address, batches)).collect();
    let endpoints = (HANGING..SUBSCRIBERS).map(|_| Endpoint::start()).collect::<Outcome<Vec<_>>>()?;
    all.extend(
        endpoints.iter().enumerate().map(|(at, one)| (format!("keeps-up-{at}"), one.address, batches)),
    );
    let site = start(&all)?;
    // What connects is taken by the system and never answered.
    let mut load = simulate(&site, RATE as u64, seconds + 3)?;
    thread::sleep(Duration::from_secs(3));
    let before: Vec<_> = endpoints.iter().map(|endpoint| endpoint.count()).collect();
    let (begun, busy) = (Instant::now(), machine::processor_seconds(site.process())?);
    thread::sleep(Duration::from_secs(seconds - 1));
    let elapsed = begun.elapsed().as_secs_f64();
    let got = endpoints.iter().zip(before).map(|(endpoint, before)| endpoint.count() - before);
    let least = got.min().unwrap_or(0);
    let cores = (machine::processor_seconds(site.process())? - busy) / elapsed;
    let resident = site.resident_kib()?;
    load.wait().map_err(told)?;
    let taken = number(&site.status()?, "/books/received");
    wait_for("everybody has everything", || {
        endpoints.iter().all(|endpoint| endpoint.count() as f64 >= taken)
    })?;
    // The load makes a little less than it is asked for.
    row("messages/s at the slowest of 40 while 10 hang", least as f64 / elapsed, AtLeast(RATE * 0.97));
    row("  of the processor, cores", cores, Explains);
    row("  MiB of memory", resident / 1024.0, Explains);
    Ok(())
}

/// What waits after a day's outage goes out.
fn outage(order: &str, batch_max: u64, backlog: u64) -> Outcome<()> {
    let endpoint = Endpoint::start()?;
    endpoint.is_down.store(true, Ordering::Relaxed);
    let settings = format!("order = \"{order}\"\nbatch_max = {batch_max}");
    let site = start(&[("one".to_owned(), endpoint.address, &settings)])?;
    let mut load = simulate(&site, 20_000, PATIENCE.as_secs())?;
    wait_for("the backlog", || {
        site.status().is_ok_and(|status| number(&status, "/books/received") >= backlog as f64)
    })?;
    load.kill().and_then(|()| load.wait()).map_err(told)?;
    thread::sleep(Duration::from_millis(500));
    let waits = number(&site.status()?, "/books/received");
    endpoint.is_down.store(false, Ordering::Relaxed);
    wait_for("the first success", || endpoint.first.lock().is_ok_and(|first| first.is_some()))?;
    let mut network = Network::connect(&site)?;
    let busy = machine::processor_seconds(site.process())?;
    let begun = endpoint.first.lock().ok().and_then(|first| *first).unwrap_or_else(Instant::now);
    while endpoint.count() as f64 - (network.sent as f64) < waits {
        network.post()?;
        thread::sleep(Duration::from_millis(100));
        if begun.elapsed() > PATIENCE {
            break;
        }
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let done = endpoint.count() as f64 / waits;
    let what = format!("s to drain {waits} messages, {order}, batch_max = {batch_max}");
    row(&what, elapsed / done.min(1.0), AtMost(300.0));
    let cores = (machine::processor_seconds(site.process())? - busy) / elapsed;
    row("  of the processor, cores", cores, Explains);
    row("  MiB of memory", site.resident_kib()? / 1024.0, Explains);
    if order == "live-first" {
        tell_times("  ms of what came in meanwhile", &endpoint, None);
    }
    Ok(())
}

/// A concentrator with these subscribers, and a partner network.
fn start(subscribers: &[(String, SocketAddr, &str)]) -> Outcome<Site> {
    let mut site = Site::start(10)?;
    let text = fs::read_to_string(site.config()).map_err(told)?;
    let api = text.find("[api]").ok_or("no [api]")?;
    let (head, tail) = text.split_at(api);
    let text = head.to_owned() + &tail.replacen("tls = \"required\"", "tls = \"off\"", 1);
    fs::write(site.config(), text).map_err(told)?;
    let mut file = OpenOptions::new().append(true).open(site.config()).map_err(told)?;
    let mut tables = "\n[ingest.network]\nformat = \"plain\"\ngroup = \"Devices\"\n".to_owned();
    for (name, address, settings) in subscribers {
        tables += &format!(
            "[subscribers.{name}]\nurl = \"http://{address}/hook\"\nsecret = \"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n{settings}\n"
        );
    }
    file.write_all(tables.as_bytes()).map_err(told)?;
    site.restart()?;
    Ok(site)
}

/// A partner network that posts one message after the other.
struct Network {
    socket: BufReader<TcpStream>,
    key: String,
    sent: u64,
}

impl Network {
    fn connect(site: &Site) -> Outcome<Self> {
        let folder = site.config();
        let key = fs::read_to_string(folder.with_file_name("central.key")).map_err(told)?;
        let key = key.lines().last().unwrap_or_default().to_owned();
        let socket = TcpStream::connect(site.api).map_err(told)?;
        socket.set_nodelay(true).map_err(told)?;
        Ok(Self { socket: BufReader::new(socket), key, sent: 0 })
    }

    fn post(&mut self) -> Outcome<()> {
        let made = now_us();
        let body = format!(r#"{{"UID":"live","Payload":{{"made_us":{made}}},"Format":"JSON"}}"#);
        let head = format!(
            "POST /v1/ingest/network HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.key,
            body.len()
        );
        self.socket.get_mut().write_all((head + &body).as_bytes()).map_err(told)?;
        let (mut status, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            self.socket.read_line(&mut line).map_err(told)?;
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().map_err(told)?;
            }
            if line.is_empty() {
                break;
            }
            if status.is_empty() {
                status = line;
            }
        }
        let mut answer = vec![0; length];
        self.socket.read_exact(&mut answer).map_err(told)?;
        self.sent += 1;
        if status.contains(" 200") { Ok(()) } else { Err(format!("the network got {status}")) }
    }
}

fn simulate(site: &Site, rate: u64, seconds: u64) -> Outcome<Child> {
    let (rate, time) = (rate.to_string(), format!("{seconds}s"));
    let mut command = Command::new(PROGRAM);
    command.args(["simulate", "--objects", "10", "--rate", "0", "--central", "none", "--payload", "64"]);
    command.args(["--telemetry", &rate, "--for", &time]).arg("--config").arg(site.config());
    command.env_remove("RUNTIME_DIRECTORY").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(told)
}

fn tell_times(what: &str, endpoint: &Endpoint, bound: Option<f64>) {
    let mut took = endpoint.took.lock().map(|took| took.clone()).unwrap_or_default();
    took.sort_unstable();
    let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default();
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    row(&format!("{what}, median"), ms(at(50)), bound.map_or(Explains, AtMost));
    row("  99 of 100", ms(at(99)), Explains);
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) -> Outcome<()> {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > PATIENCE {
            return Err(format!("waited in vain for {what}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Explains,
}
use Bound::{AtLeast, AtMost, Explains};

fn row(what: &str, value: f64, bound: Bound) {
    let judged = |bound: String, is_good| (bound, if is_good { "ok" } else { "MISSED" });
    let (bound, verdict) = match bound {
        AtLeast(bound) => judged(format!(">= {bound}"), value >= bound),
        AtMost(bound) => judged(format!("<= {bound}"), value <= bound),
        Explains => (String::new(), ""),
    };
    say(&format!("{what:58}{value:>12.2}{bound:>14} {verdict}"));
}

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody may be listening any more.
    let _closed = writeln!(out, "{}", text.trim_end());
}
