//! As much of a service manager as is needed to see whether one would be content: it starts the program, listens to what it is
//! told, ends it when it is not fed in time, and starts it again.

use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{PROGRAM, Site, eventually};

/// As in the unit.
pub const WATCHDOG: Duration = Duration::from_secs(20);
pub const RESTART: Duration = Duration::from_millis(500);

/// What happened, and when.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Told(String),
    Ended,
    /// It was not fed in time, or asked for it.
    Killed,
}

struct Shared {
    events: Mutex<Vec<(Instant, Event)>>,
    child: Mutex<Option<Child>>,
    /// Which process speaks for the service.
    main: Mutex<u32>,
    is_over: Mutex<bool>,
}

pub struct Supervisor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Runs the site's concentrator from now on.
    pub fn start(site: &Site) -> Self {
        let socket = site.path("notify");
        let listener = UnixDatagram::bind(&socket).unwrap();
        listener.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let shared = Arc::new(Shared {
            events: Mutex::default(),
            child: Mutex::default(),
            main: Mutex::new(0),
            is_over: Mutex::new(false),
        });
        let (config, log) = (site.config(), site.path("log"));
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.run(&listener, &socket, &config, &log))
        };
        let supervisor = Self { shared, thread: Some(thread) };
        supervisor.wait("READY=1", 1);
        supervisor
    }

    pub fn events(&self) -> Vec<(Instant, Event)> {
        self.shared.events.lock().unwrap().clone()
    }

    /// Who speaks for the service.
    pub fn main_pid(&self) -> u32 {
        *self.shared.main.lock().unwrap()
    }

    /// Waits until it was told this so often; when that was.
    pub fn wait(&self, word: &str, times: usize) -> Instant {
        let mut at = None;
        eventually(&format!("`{word}` for the {times}. time"), || {
            let events = self.events();
            let told = events.iter().filter(|(_, event)| {
                matches!(event, Event::Told(text) if text.lines().any(|line| line.starts_with(word)))
            });
            at = told.map(|(at, _)| *at).nth(times - 1);
            at.is_some()
        });
        at.unwrap()
    }

    /// Ends it, as `systemctl stop` does.
    pub fn stop(mut self) {
        *self.shared.is_over.lock().unwrap() = true;
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Shared {
    fn note(&self, event: Event) {
        self.events.lock().unwrap().push((Instant::now(), event));
    }

    fn run(&self, listener: &UnixDatagram, socket: &PathBuf, config: &PathBuf, log: &PathBuf) {
        while !*self.is_over.lock().unwrap() {
            let log = File::options().create(true).append(true).open(log).unwrap();
            let child = Command::new(&*PROGRAM)
                .args(["run", "--config"])
                .arg(config)
                .env("NOTIFY_SOCKET", socket)
                .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
                .env_remove("RUNTIME_DIRECTORY")
                .env_remove("RUST_LOG")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            *self.main.lock().unwrap() = child.id();
            *self.child.lock().unwrap() = Some(child);
            self.watch(listener);
            std::thread::sleep(RESTART);
        }
    }

    /// Listens until the service is gone.
    fn watch(&self, listener: &UnixDatagram) {
        let mut fed = Instant::now();
        let mut is_stopping = false;
        loop {
            let mut buffer = [0; 4096];
            let told = listener
                .recv(&mut buffer)
                .ok()
                .map(|len| String::from_utf8_lossy(&buffer[..len]).into_owned());
            let mut is_dead = fed.elapsed() > WATCHDOG;
            if let Some(text) = told {
                for line in text.lines() {
                    match line.split_once('=') {
                        Some(("WATCHDOG", "1")) => fed = Instant::now(),
                        Some(("WATCHDOG", "trigger")) => is_dead = true,
                        Some(("MAINPID", pid)) => *self.main.lock().unwrap() = pid.parse().unwrap(),
                        _ => {}
                    }
                }
                if text != "WATCHDOG=1" {
                    self.note(Event::Told(text));
                }
            }
            if is_dead {
                self.note(Event::Killed);
                self.signal("KILL");
                fed = Instant::now();
            }
            if *self.is_over.lock().unwrap() && !is_stopping {
                is_stopping = true;
                self.signal("TERM");
            }
            let mut child = self.child.lock().unwrap();
            let is_gone = match child.as_mut() {
                Some(running) => {
                    let ended = running.try_wait().unwrap().is_some();
                    // Another process may speak for the service by now.
                    let is_main = running.id() == *self.main.lock().unwrap();
                    if ended && !is_main {
                        *child = None;
                    }
                    ended && is_main
                }
                None => !PathBuf::from(format!("/proc/{}/exe", *self.main.lock().unwrap())).exists(),
            };
            if is_gone {
                drop(child);
                self.note(Event::Ended);
                return;
            }
        }
    }

    fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", *self.main.lock().unwrap());
        // It may be gone already.
        let _ended = Command::new("sh").args(["-c", &line]).stderr(Stdio::null()).status().unwrap();
    }
}
