//! Everything at once, for as long as it is told: objects near and far, calls, a partner network, an endpoint and a central
//! that misbehave, floods, silent connections, an access list that changes all the time, and kills.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use iotsocketd::wire::{Format, Payload, Token};
use serde_json::{Value, json};

use crate::links::log_in;
use crate::support::chaos::{Link, Random};
use crate::support::crowd::{Crowd, Plan, prepare};
use crate::support::receiver::SECRET;
use crate::support::{Act, Device, Hooks, Http, Said, Site, eventually};
use crate::watch::{Bounds, Watch, watched};
use crate::{seed, variable};

/// A part of `cargo test`: for so long. A day: 86400.
const TIME: u64 = 15;
const PLAN: Plan = Plan { sessions: 20, datagrams: 20, calls: 10, brought: 5 };
const BOUNDS: Bounds = Bounds { memory_kib: 96 * 1024, files: 400 };
/// Objects on bad links.
const FAR: usize = 2;
/// Messages that one of them sends behind each login.
const DATAGRAMS: u64 = 10;
/// Strangers: datagrams a second, and connections that say nothing at any time.
const FLOOD: u64 = 100;
const SILENT: usize = 10;
/// Once everybody is well everything is delivered within this time.
const WELL_MAX: Duration = Duration::from_secs(120);
/// How often it is looked whether what was acknowledged is there.
const LOOK: Duration = Duration::from_secs(5);
/// A line is told this often, if it goes on for long.
const TELL: Duration = Duration::from_secs(60);
/// By then all that is kept in memory on purpose is full, the newest messages above all; before, growth is only told.
const SETTLED: Duration = Duration::from_secs(20 * 60);
/// What a process may grow by in a day, and by the noise of how it is measured.
const GROWTH_KIB: u64 = 1024;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What goes on for as long as this is not over.
struct World<'a> {
    site: &'a Site,
    seed: u64,
    is_over: AtomicBool,
    /// How many messages each far object sent.
    sent: Mutex<BTreeMap<String, u64>>,
    /// Telemetry that the central heard.
    heard: AtomicU64,
    /// How often an object that was removed was gone.
    revoked: AtomicU64,
}

impl World<'_> {
    fn random(&self, part: u64) -> Random {
        Random::new(self.seed ^ part << 32)
    }

    /// Waits so many seconds, unless it is over.
    fn goes_on_for(&self, seconds: f64) -> bool {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < end && !self.is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(50));
        }
        !self.is_over.load(Ordering::Relaxed)
    }

    /// An object that comes and goes over bad links.
    fn far(&self, device: Device, tcp: SocketAddr, udp: SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut token = None::<Token>;
        while self.goes_on_for(2.0) {
            let mut peer = log_in(self.site, device, tcp);
            let said = peer.as_mut().and_then(|peer| peer.next_within(Duration::from_secs(1)));
            if let Some(Said::Token(fresh)) = said {
                token = Some(fresh);
            }
            let Some(token) = token else { continue };
            for _ in 0..DATAGRAMS {
                let text = {
                    let mut sent = self.sent.lock().unwrap();
                    let next = sent.entry(device.uid.to_string()).or_default();
                    *next += 1;
                    format!("{}/{}", device.uid, *next - 1)
                };
                let payload = Payload::new(Format::Utf8, text.as_bytes()).unwrap();
                let datagram = [&token.0, payload.encode_head().as_slice(), text.as_bytes()].concat();
                socket.send_to(&datagram, udp).unwrap();
            }
        }
    }

    /// A central that comes over a good link or over a bad one, for a while.
    fn central(&self, link: SocketAddr) {
        let mut random = self.random(1);
        while self.goes_on_for(0.5) {
            let address = if random.below(2) == 0 { self.site.sessions() } else { link };
            let Some(mut peer) = log_in(self.site, self.site.central(), address) else { continue };
            let end = Instant::now() + Duration::from_secs(1 + random.below(20));
            while Instant::now() < end && !self.is_over.load(Ordering::Relaxed) {
                match peer.next_within(Duration::from_millis(200)) {
                    None => {}
                    Some(Said::Telemetry { uid, data, .. }) => {
                        self.is_of(uid.as_str(), std::str::from_utf8(&data).unwrap());
                        self.heard.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(Said::End | Said::Close(_)) => break,
                    Some(other) => panic!("{other:?} instead of telemetry"),
                }
            }
        }
    }

    /// A message is one that its object sent.
    fn is_of(&self, uid: &str, text: &str) {
        let number = match text.split_once('/') {
            Some((own, number)) if own == uid => number.parse().ok(),
            None if uid == "meter" => return,
            None if uid == "brought" && text.contains('-') => return,
            _ => None,
        };
        let sent = self.sent.lock().unwrap().get(uid).copied().unwrap_or(0);
        assert!(number.is_some_and(|number: u64| number < sent), "{uid} never sent {text}");
    }

    /// Datagrams of nobody, connections that say nothing or nonsense.
    fn strangers(&self) {
        let mut random = self.random(2);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut silent = Vec::new();
        while self.goes_on_for(0.2) {
            for _ in 0..FLOOD / 5 {
                let wrong = random.below(u64::MAX).to_be_bytes();
                let datagram = [&wrong[..], &[0x20, 0, 5], b"wrong"].concat();
                let _no_room =
                    socket.send_to(&datagram[..8 + random.below(8) as usize], self.site.sessions());
            }
            let to = if random.below(2) == 0 { self.site.sessions() } else { self.site.api() };
            if silent.len() < SILENT
                && let Ok(mut stranger) = TcpStream::connect(to)
            {
                let noise: Vec<_> = (0..random.below(40)).map(|_| random.below(256) as u8).collect();
                let _may_be_closed = stranger.write_all(&noise);
                silent.push(stranger);
            } else if !silent.is_empty() {
                silent.swap_remove(random.below(silent.len() as u64) as usize);
            }
        }
    }

    /// A guest is let in and out again. What the program may not say while it is killed is not looked at.
    fn lists(&self, guest: Device) {
        let whole: Value = serde_json::from_str(&self.site.read("state/acl.json")).unwrap();
        let list = |with_guest: bool| {
            let entries = whole.as_object().unwrap().iter();
            let entries = entries.filter(|(uid, _)| with_guest || **uid != *guest.uid.as_str());
            let item = |(uid, entry): (&String, &Value)| json!({"UID": uid, "GroupName": entry["GroupName"], "AuthKey": entry["AuthKey"]});
            Value::from(entries.map(item).collect::<Vec<_>>()).to_string()
        };
        let post = |body: &str| {
            let mut http = Http::connect(self.site, None).ok()?;
            http.try_call("POST", "/acl", body.as_bytes()).ok()
        };
        let (with, without) = (list(true), list(false));
        while self.goes_on_for(3.0) {
            let Some(reply) = post(&with) else { continue };
            assert_eq!(reply.status, 200, "{}", reply.text());
            let peer = log_in(self.site, guest, self.site.sessions());
            let Some(reply) = post(&without) else { continue };
            assert_eq!(reply.status, 200, "{}", reply.text());
            if let Some(mut peer) = peer {
                eventually("the session of who was removed ends", || {
                    matches!(peer.next_within(Duration::from_millis(100)), Some(Said::Close(_) | Said::End))
                });
            }
            assert!(log_in(self.site, guest, self.site.sessions()).is_none(), "who was removed was let in");
            self.revoked.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// An endpoint that takes two calls of three.
fn endpoint(seed: u64, is_well: &'static AtomicBool) -> Hooks {
    let random = Mutex::new(Random::new(seed));
    Hooks::forgetful(move |_| match random.lock().unwrap().below(12) {
        0 if !is_well.load(Ordering::Relaxed) => Act::Answer(503, String::new()),
        1 if !is_well.load(Ordering::Relaxed) => Act::Hang,
        2 if !is_well.load(Ordering::Relaxed) => Act::Say(b"nonsense\r\n\r\n".to_vec()),
        3 if !is_well.load(Ordering::Relaxed) => {
            Act::Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        }
        _ => Act::Answer(200, String::new()),
    })
}

/// What is found again and again, in the main thread.
struct Round<'a> {
    world: &'a World<'a>,
    crowd: Crowd,
    begun: Instant,
    told: Instant,
    /// Up to where the history was read, the last number of the meter, and how many messages that were.
    seen: u64,
    meter: Option<u64>,
    read: u64,
    acknowledged: usize,
    answered: u64,
    /// Memory and open files since the process was started.
    samples: Vec<(u64, usize)>,
    life: Instant,
}

impl Round<'_> {
    /// What was acknowledged is there, what is there was sent, in order, and nobody near was disturbed.
    fn look(&mut self) {
        let (acknowledged, lost) = self.crowd.lost(self.world.site);
        self.acknowledged += acknowledged;
        assert_eq!(lost, Vec::<String>::new());
        self.answered += self.crowd.tally.answered.swap(0, Ordering::Relaxed);
        let mut http = self.world.site.http();
        loop {
            let page = http.get(&format!("/v1/messages?limit=1000&after={}", self.seen)).json();
            let messages = page["messages"].as_array().unwrap();
            let mut last = self.seen;
            for message in messages {
                let seq = message["seq"].as_u64().unwrap();
                assert!(seq > last, "{seq} behind {last}");
                last = seq;
                if message["kind"] != "telemetry" {
                    continue;
                }
                let (uid, text) = (message["uid"].as_str().unwrap(), message["payload"].as_str().unwrap());
                match uid {
                    "meter" => {
                        let number: u64 = text.parse().unwrap();
                        assert!(self.meter < Some(number), "{number} behind {:?}", self.meter);
                        self.meter = Some(number);
                    }
                    _ => self.world.is_of(uid, text),
                }
            }
            self.read += messages.len() as u64;
            self.seen = page["next"].as_u64().unwrap();
            if messages.is_empty() {
                return;
            }
        }
    }

    /// Nobody who behaves met anything bad since the last time.
    fn is_undisturbed(&self) {
        let tally = &self.crowd.tally;
        for (what, met) in [
            ("connections refused", &tally.refused),
            ("logins broken", &tally.broken),
            ("calls without an answer", &tally.unanswered),
            ("calls that failed", &tally.failed),
        ] {
            assert_eq!(met.take(), (0, String::new()), "{what}");
        }
    }

    /// Killed, started, and all is well by itself.
    fn kill(&mut self) {
        self.end_life();
        let site = self.world.site;
        site.kill();
        eventually("everybody notices", || !self.crowd.is_whole());
        let started = Instant::now();
        site.start();
        let ready = started.elapsed();
        eventually("all sessions are back", || self.crowd.is_whole());
        let whole = started.elapsed();
        eventually("a call is answered", || self.crowd.tally.answered.swap(0, Ordering::Relaxed) > 0);
        eventually("the kill is told", || {
            let status = site.status();
            status["alerts"].as_array().unwrap().iter().any(|alert| alert["name"] == "restarted")
        });
        let tally = &self.crowd.tally;
        for met in [&tally.refused, &tally.broken, &tally.unanswered, &tally.failed, &tally.put_off] {
            met.take();
        }
        println!("killed: ready after {ready:.2?}, everybody is back after {whole:.2?}");
        (self.life, self.samples) = (Instant::now(), Vec::new());
    }

    fn sample(&mut self, watch: &Watch<'_>) {
        watch.check();
        let (pid, memory_kib, files) = watch.seen(|seen| seen.now).unwrap();
        if pid == self.world.site.pid() {
            self.samples.push((memory_kib, files));
        }
        if self.told.elapsed() >= TELL {
            self.told = Instant::now();
            let books = watch.seen(|seen| seen.status["books"].clone());
            let number = |name: &str| books[name].as_u64().unwrap_or(0);
            println!(
                "{} s: {memory_kib} KiB, {files} files; received {}, delivered {}, waiting {}; {} messages read again, {} \
                 receipts kept, {} calls answered, {} heard, {} revoked",
                self.begun.elapsed().as_secs(),
                number("received"),
                number("delivered"),
                number("waiting"),
                self.read,
                self.acknowledged,
                self.answered,
                self.world.heard.load(Ordering::Relaxed),
                self.world.revoked.load(Ordering::Relaxed),
            );
            let _shown = std::io::stdout().flush();
        }
    }

    /// How much the process grew: its last quarter beside its third, as the first half fills what is kept anyway.
    fn end_life(&self) {
        let (time, quarter) = (self.life.elapsed(), self.samples.len() / 4);
        if quarter < 3 {
            return;
        }
        let mean = |from: usize, of: fn(&(u64, usize)) -> u64| {
            self.samples[from..from + quarter].iter().map(of).sum::<u64>() / quarter as u64
        };
        let grown = |of| mean(3 * quarter, of).saturating_sub(mean(2 * quarter, of));
        let (memory_kib, files) = (grown(|(memory_kib, _)| *memory_kib), grown(|(_, files)| *files as u64));
        println!(
            "ran for {time:.0?}: {memory_kib} KiB and {files} files more in its last quarter than in its third"
        );
        if time < SETTLED {
            return;
        }
        let days = 1.0 + time.as_secs_f64() / DAY.as_secs_f64();
        assert!(memory_kib as f64 <= GROWTH_KIB as f64 * days, "{memory_kib} KiB more after {time:?}");
        // Connections come and go.
        assert!(files <= 10, "{files} files more after {time:?}");
    }
}

/// Nothing that was acknowledged is lost or changed, the books close, nothing grows, and who behaves notices nothing but kills.
#[test]
fn everything_at_once_for_as_long_as_it_is_told() {
    static IS_WELL: AtomicBool = AtomicBool::new(false);
    let (seed, time) = (seed(), Duration::from_secs(variable("IOTSOCKETD_SOAK").unwrap_or(TIME)));
    let site = Site::new();
    // It goes round several times in half an hour, and no token ends in three days.
    site.set("journal", "max_size", "\"4MiB\"");
    site.set("groups.Devices", "telemetry_token_ttl", "\"30d\"");
    let endpoint = endpoint(seed, &IS_WELL);
    site.append(&format!(
        "[subscribers.other]\nurl = {}\nsecret = \"{SECRET}\"\ntimeout = \"2s\"\nbatch_max = 100\n",
        endpoint.url("/")
    ));
    let devices = prepare(&site, PLAN);
    let far: Vec<_> = (0..FAR).map(|n| site.device(&format!("far-{n}"), "Devices")).collect();
    let guest = site.device("guest", "Devices");
    site.start();
    let (tcp, udp, to_central) = (
        Link::tcp(site.sessions(), seed),
        Link::udp(site.sessions(), seed ^ 1),
        Link::tcp(site.sessions(), seed ^ 2),
    );
    let world = World {
        site: &site,
        seed,
        is_over: AtomicBool::new(false),
        sent: Mutex::default(),
        heard: AtomicU64::new(0),
        revoked: AtomicU64::new(0),
    };
    let ((), seen) = watched(&site, BOUNDS, |watch| {
        thread::scope(|scope| {
            let world = &world;
            let _over = crate::watch::Over(&world.is_over);
            let (tcp, udp, to_central) = (tcp.address, udp.address, to_central.address);
            let mut others: Vec<_> =
                far.iter().map(|device| scope.spawn(move || world.far(*device, tcp, udp))).collect();
            others.push(scope.spawn(move || world.central(to_central)));
            others.push(scope.spawn(move || world.strangers()));
            others.push(scope.spawn(move || world.lists(guest)));
            let now = Instant::now();
            let mut round = Round {
                world,
                crowd: Crowd::start(&site, PLAN, devices),
                begun: now,
                told: now,
                seen: 0,
                meter: None,
                read: 0,
                acknowledged: 0,
                answered: 0,
                samples: Vec::new(),
                life: now,
            };
            run(&mut round, watch, time, || others.iter().all(|other| !other.is_finished()));
        });
        IS_WELL.store(true, Ordering::Relaxed);
        let mut central = site.login(site.central());
        // Whoever failed a few times is tried again after half a minute at most.
        let begun = Instant::now();
        while begun.elapsed() < WELL_MAX && !all_is_delivered(&site.status()) {
            while matches!(central.next_within(Duration::from_millis(100)), Some(Said::Telemetry { .. })) {}
        }
        let last = site.status();
        assert!(
            all_is_delivered(&last),
            "everybody is well, and this is not delivered: {}",
            last["destinations"]
        );
        println!("everything is delivered {:.1?} after everybody was well", begun.elapsed());
    });
    println!(
        "{} looks, {} at the books; {} KiB and {} files at most",
        seen.looks, seen.books, seen.memory_kib, seen.files
    );
    assert!(
        seen.books > 0
            && world.heard.load(Ordering::Relaxed) > 0
            && world.revoked.load(Ordering::Relaxed) > 0
    );
}

fn all_is_delivered(status: &Value) -> bool {
    status["destinations"].as_array().unwrap().iter().all(|destination| destination["waiting"] == 0)
}

/// The first half with kills, the second without, to see what grows.
fn run(round: &mut Round<'_>, watch: &Watch<'_>, time: Duration, goes_on: impl Fn() -> bool) {
    let mut random = round.world.random(3);
    let look = LOOK.min(time / 15);
    let pause = |random: &mut Random| time.mul_f64((25 + random.below(75)) as f64 / 1000.0).max(look);
    let mut next_kill = round.begun + pause(&mut random);
    while round.begun.elapsed() < time {
        thread::sleep(look);
        assert!(goes_on(), "one of those who go on met what may not be");
        round.look();
        round.sample(watch);
        round.is_undisturbed();
        if Instant::now() >= next_kill && round.begun.elapsed() < time / 2 {
            round.kill();
            next_kill = Instant::now() + pause(&mut random);
        }
    }
    round.look();
    round.end_life();
    assert!(round.acknowledged > 0 && round.answered > 0 && round.read > 0);
}
