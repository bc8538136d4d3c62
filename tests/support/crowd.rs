//! Everybody who speaks with a site while it is updated: objects that come back, datagrams, callers of the API, a partner
//! network. What each of them met is counted.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_io::Timer;
use iotsocketd::client::{Login, LoginError, Stream, Talk, Tls, login};
use iotsocketd::hub::access_file::key_to_hex;
use iotsocketd::wire::{Format, Payload, Token, Transmission};
use serde_json::{Value, json};
use smol::LocalExecutor;

use super::{Device, Http, PATIENCE, Peer, Site, response, within};

/// The partner network, and the kind of object that it brings messages of.
const NETWORK: &str = "[ingest.net]\nformat = \"plain\"\ngroup = \"Devices\"\n";
/// Callers and bringers, each with one call in flight.
const CALLERS: u64 = 20;
const BRINGERS: u64 = 5;
/// Objects take so long to answer: some calls are held whenever an update begins.
const ANSWER_AFTER: Duration = Duration::from_millis(50);
/// Own addresses that objects come from.
const SOURCES: usize = 100;
/// Datagrams go out this often.
const STEP: Duration = Duration::from_millis(5);
/// The first login of each may take so much more of everybody's patience.
const FOR_EACH: Duration = Duration::from_millis(10);
/// After a login that failed.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Objects with a session over TLS.
    pub sessions: usize,
    /// Datagrams a second.
    pub datagrams: u64,
    /// Calls of objects over the API a second.
    pub calls: u64,
    /// Messages of the partner network a second.
    pub brought: u64,
}

/// What went wrong, of one kind.
#[derive(Debug, Default)]
pub struct Wrong(Mutex<(u64, String)>);

impl Wrong {
    fn note(&self, what: impl std::fmt::Display) {
        let mut noted = self.0.lock().unwrap();
        noted.0 += 1;
        if noted.1.is_empty() {
            noted.1 = what.to_string();
        }
    }

    /// How often since the last time, and the first of them.
    pub fn take(&self) -> (u64, String) {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// What was met since the last time.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections that the system refused.
    pub refused: Wrong,
    /// Logins that failed on an open connection.
    pub broken: Wrong,
    /// Calls that were sent and got no answer at all.
    pub unanswered: Wrong,
    /// Calls that got another answer than the object's.
    pub failed: Wrong,
    /// Messages of the network that were not taken; it brings them again.
    pub put_off: Wrong,
    /// Calls that the object answered.
    pub answered: AtomicU64,
    /// From the end of a session to the next one.
    pub gaps: Mutex<Vec<Duration>>,
    /// Ids of messages whose receipt was read.
    pub acknowledged: Mutex<Vec<String>>,
    online: AtomicUsize,
    sent: AtomicU64,
    is_paused: AtomicBool,
    is_over: AtomicBool,
}

impl Tally {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// Everybody, at work until dropped.
pub struct Crowd {
    pub tally: Arc<Tally>,
    plan: Plan,
    threads: Vec<JoinHandle<()>>,
    /// What was seen in the journal: up to which number, and the numbers of datagrams.
    seen: u64,
    found: BTreeSet<u64>,
    repeated: u64,
    drops: u64,
    _meter: Peer,
}

/// A site for such a crowd, which is to be started.
pub fn prepare(site: &Site, plan: Plan) -> Vec<Device> {
    site.append(NETWORK);
    let objects: Vec<_> = (0..plan.sessions).map(|number| site.stranger(&name(number))).collect();
    let meter = site.stranger("meter");
    let entry = |device: &Device| {
        (device.uid.to_string(), json!({"GroupName": "Devices", "AuthKey": key_to_hex(&device.key)}))
    };
    site.write_acl(&Value::Object(objects.iter().chain([&meter]).map(entry).collect()));
    objects.into_iter().chain([meter]).collect()
}

fn name(number: usize) -> String {
    format!("object-{number}")
}

impl Crowd {
    /// Comes to a running site; returns when all sessions are there.
    pub fn start(site: &Site, plan: Plan, mut devices: Vec<Device>) -> Self {
        let tally = Arc::<Tally>::default();
        // It does not come back, so its token stays the same.
        let (meter, token) = site.login_with_token(devices.pop().unwrap());
        let mut threads = Vec::new();
        {
            let (tally, tls, address) = (Arc::clone(&tally), site.tls(), site.sessions());
            threads.push(std::thread::spawn(move || objects(&tally, &devices, &tls, address)));
        }
        let crowd_is_there = || tally.online.load(Ordering::Relaxed) == plan.sessions;
        within(
            PATIENCE + FOR_EACH * u32::try_from(plan.sessions).unwrap(),
            "everybody is there",
            crowd_is_there,
        );
        {
            let (tally, to) = (Arc::clone(&tally), site.sessions());
            threads.push(std::thread::spawn(move || send(&tally, token, to, plan.datagrams)));
        }
        let door = Door::of(site);
        for number in 0..CALLERS {
            let (tally, door) = (Arc::clone(&tally), door.clone());
            threads.push(std::thread::spawn(move || call(&tally, &door, plan, number)));
        }
        for number in 0..BRINGERS {
            let (tally, door) = (Arc::clone(&tally), door.clone());
            threads.push(std::thread::spawn(move || bring(&tally, &door, plan.brought, number)));
        }
        let (seen, found) = (0, BTreeSet::new());
        let drops = kernel_drops(site.sessions());
        Self { tally, plan, threads, seen, found, repeated: 0, drops, _meter: meter }
    }

    /// Whether every session is there.
    pub fn is_whole(&self) -> bool {
        self.tally.online.load(Ordering::Relaxed) == self.plan.sessions
    }

    /// Messages whose receipt was read since the last time and that are not there: their ids.
    pub fn lost(&self, site: &Site) -> (usize, Vec<String>) {
        let mut ids = std::mem::take(&mut *self.tally.acknowledged.lock().unwrap());
        let (count, mut http) = (ids.len(), site.http());
        ids.retain(|id| http.get(&format!("/v1/messages/{id}")).status != 200);
        (count, ids)
    }

    /// Lets no more datagrams out, and looks which of those since the last time are in the journal: how many were sent, how
    /// many of them are not there, and how many of those the kernel had no room for.
    pub fn datagrams(&mut self, site: &Site) -> Datagrams {
        self.tally.is_paused.store(true, Ordering::SeqCst);
        std::thread::sleep(4 * STEP);
        let sent = self.tally.sent.swap(0, Ordering::SeqCst);
        let drops = kernel_drops(site.sessions());
        let dropped = drops - std::mem::replace(&mut self.drops, drops);
        let mut http = site.http();
        let mut looked = Instant::now();
        // What was taken is on flash after a moment.
        while (self.found.len() as u64) < sent - dropped.min(sent)
            && looked.elapsed() < Duration::from_secs(5)
        {
            let path = format!("/v1/messages?kind=telemetry&uid=meter&limit=1000&after={}", self.seen);
            let page = http.get(&path).json();
            let messages = page["messages"].as_array().unwrap();
            for message in messages {
                let number = message["payload"].as_str().unwrap().parse().unwrap();
                if self.found.insert(number) {
                    looked = Instant::now();
                } else {
                    self.repeated += 1;
                }
            }
            self.seen = page["next"].as_u64().unwrap();
            if messages.is_empty() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let missing = sent - self.found.len() as u64;
        self.found.clear();
        let repeated = std::mem::take(&mut self.repeated);
        self.tally.is_paused.store(false, Ordering::SeqCst);
        Datagrams { sent, missing, dropped, repeated }
    }
}

/// What became of datagrams.
#[derive(Debug, Clone, Copy)]
pub struct Datagrams {
    pub sent: u64,
    /// Not in the journal.
    pub missing: u64,
    /// The kernel had no room for so many.
    pub dropped: u64,
    /// More than once in the journal.
    pub repeated: u64,
}

impl Datagrams {
    /// What reached the program and is not there.
    pub fn lost(&self) -> u64 {
        self.missing.saturating_sub(self.dropped)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.tally.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let outcome = thread.join();
            if !std::thread::panicking() {
                outcome.unwrap();
            }
        }
    }
}

/// What the kernel dropped of datagrams to this address since its socket was made.
pub fn kernel_drops(address: SocketAddr) -> u64 {
    let IpAddr::V4(ip) = address.ip() else { panic!("{address} is not of IPv4") };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port());
    let table = fs::read_to_string("/proc/net/udp").unwrap();
    let mut lines = table.lines().map(str::split_whitespace);
    let line = lines.find_map(|mut words| (words.nth(1)? == local).then_some(words));
    line.unwrap().next_back().unwrap().parse().unwrap()
}

/// All objects, on one thread.
fn objects(tally: &Tally, devices: &[Device], tls: &Tls, address: SocketAddr) {
    let executor = LocalExecutor::new();
    for (number, device) in devices.iter().enumerate() {
        let local = IpAddr::from([127, 1, 0, u8::try_from(number % SOURCES + 1).unwrap()]);
        executor.spawn(object(tally, *device, tls, address, local)).detach();
    }
    smol::block_on(executor.run(async {
        while !tally.is_over() {
            Timer::after(Duration::from_millis(50)).await;
        }
    }));
}

/// Logs in, answers, and comes back.
async fn object(tally: &Tally, Device { uid, key }: Device, tls: &Tls, address: SocketAddr, local: IpAddr) {
    let mut gone: Option<Instant> = None;
    loop {
        let own =
            Login { address, local: Some(local), tls: Some(tls), largest: 0, uid, key, redirect_hosts: &[] };
        match login(&own).await {
            Ok(stream) => {
                tally.online.fetch_add(1, Ordering::Relaxed);
                if let Some(gone) = gone {
                    tally.gaps.lock().unwrap().push(gone.elapsed());
                }
                session(&mut Talk::new(stream)).await;
                tally.online.fetch_sub(1, Ordering::Relaxed);
                gone = Some(Instant::now());
                continue;
            }
            Err(error @ LoginError::Connect(..)) => tally.refused.note(format!("{uid}: {error:?}")),
            Err(error) => tally.broken.note(format!("{uid}: {error:?}")),
        }
        Timer::after(AGAIN_AFTER).await;
    }
}

/// Gives back what it is asked, until the session ends.
async fn session(talk: &mut Talk<Stream>) {
    loop {
        let said = match talk.next().await {
            Ok(Some(Transmission::Ping)) => None,
            Ok(Some(Transmission::Request { number, payload, .. })) => {
                Some((number, payload.data().to_vec()))
            }
            Ok(Some(Transmission::Close(_)) | None) | Err(_) => return,
            Ok(Some(_)) => continue,
        };
        let sent = match &said {
            None => talk.send(&Transmission::Pong).await,
            Some((number, data)) => {
                Timer::after(ANSWER_AFTER).await;
                talk.send(&response(None, *number, 0, data)).await
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Numbered datagrams, as many a second.
fn send(tally: &Tally, token: Token, to: SocketAddr, rate: u64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut number, mut begun, mut due) = (0_u64, Instant::now(), 0);
    while !tally.is_over() {
        std::thread::sleep(STEP);
        if tally.is_paused.load(Ordering::SeqCst) {
            (begun, due) = (Instant::now(), 0);
            continue;
        }
        let now_due = u64::try_from(begun.elapsed().as_millis()).unwrap() * rate / 1000;
        for _ in due..now_due {
            let data = number.to_string();
            let payload = Payload::new(Format::Utf8, data.as_bytes()).unwrap();
            let bytes = [&token.0, payload.encode_head().as_slice(), data.as_bytes()].concat();
            socket.send_to(&bytes, to).unwrap();
            number += 1;
            tally.sent.fetch_add(1, Ordering::SeqCst);
        }
        due = now_due;
    }
}

/// What it takes to connect to the API.
#[derive(Clone)]
struct Door {
    address: SocketAddr,
    roots: rustls::RootCertStore,
    bearer: String,
}

impl Door {
    fn of(site: &Site) -> Self {
        Self { address: site.api(), roots: site.roots(), bearer: key_to_hex(&site.central_key()) }
    }

    /// An open connection: the one that there is unless the other side closed it.
    fn open(&self, tally: &Tally, kept: Option<Http>) -> Option<Http> {
        if let Some(kept) = kept.filter(|kept| !kept.is_closed()) {
            return Some(kept);
        }
        let opened = Http::open(self.address, self.roots.clone(), Some(self.bearer.clone()));
        opened.inspect_err(|error| tally.refused.note(format!("API: {error}"))).ok()
    }
}

/// Posts at its rate until the end; `answered` says what an answer is worth, `Err` that there was none.
fn post(
    tally: &Tally,
    door: &Door,
    interval: Duration,
    path: &str,
    mut body: impl FnMut() -> Value,
    mut answered: impl FnMut(&Value, std::io::Result<super::Reply>),
) {
    let (mut kept, mut next) = (None, Instant::now());
    while !tally.is_over() {
        // What is late is not made up for.
        next = (next + interval).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let Some(mut http) = door.open(tally, kept.take()) else { continue };
        let body = body();
        let reply = http.try_call("POST", path, body.to_string().as_bytes());
        if reply.as_ref().is_ok_and(|reply| !reply.head.contains("connection: close")) {
            kept = Some(http);
        }
        answered(&body, reply);
    }
}

/// Calls one object after the other.
fn call(tally: &Tally, door: &Door, plan: Plan, number: u64) {
    let interval = Duration::from_micros(1_000_000 * CALLERS / plan.calls);
    let mut count = number * 7919;
    let ask = || {
        count += 1;
        let object = name(usize::try_from(count).unwrap() % plan.sessions);
        json!({"UID": object, "Payload": format!("{number}-{count}"), "Format": "UTF8", "Timeout": 20})
    };
    post(tally, door, interval, "/request", ask, |asked, reply| match reply {
        Err(error) => tally.unanswered.note(error),
        Ok(reply) if reply.status == 200 => {
            let answer = reply.json();
            match answer["Code"] == 0 && answer["Payload"] == asked["Payload"] {
                true => _ = tally.answered.fetch_add(1, Ordering::Relaxed),
                false => tally.failed.note(format!("{asked}: {answer}")),
            }
        }
        Ok(reply) => tally.failed.note(format!("{} {}", reply.status, reply.text())),
    });
}

/// Brings messages as a partner network does.
fn bring(tally: &Tally, door: &Door, rate: u64, number: u64) {
    let interval = Duration::from_micros(1_000_000 * BRINGERS / rate);
    let mut count = 0;
    let message = || {
        count += 1;
        json!({"UID": "brought", "Payload": format!("{number}-{count}"), "Format": "UTF8"})
    };
    post(tally, door, interval, "/v1/ingest/net", message, |_, reply| match reply {
        Ok(reply) if reply.status == 200 => {
            let id = reply.json()["id"].as_str().unwrap().to_owned();
            tally.acknowledged.lock().unwrap().push(id);
        }
        Ok(reply) => tally.put_off.note(format!("{} {}", reply.status, reply.text())),
        Err(error) => tally.unanswered.note(format!("ingest: {error}")),
    });
}
