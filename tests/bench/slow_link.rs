//! Calls and telemetry over a link of 64 kbit/s on which everything takes 200 ms: how long from end to end. It judges and never
//! fails for what it measured: `cargo bench --bench slow_link`, with `-- --quick` for a first look.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it shares what the tests share: what fails cannot be measured"
)]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod machine;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use iotsocketd::client::Login;
use iotsocketd::wire::{Format, Payload, Token, Transmission};
use serde_json::json;
use support::network::{Network, at};
use support::slow::{self, Wire};
use support::{Device, Peer, Said, Site, request, response};

/// The link, in each direction.
const KBIT: u32 = 64;
const DELAY: Duration = Duration::from_millis(200);
/// What is asked, on average.
const MEAN_MAX: Duration = Duration::from_secs(1);
/// Objects behind the link.
const OBJECTS: usize = 10;
/// Bytes of a payload.
const PAYLOAD: usize = 64;
/// Calls of the central and datagrams of all objects a second, and callers of the API with one call each.
const CALLS: u32 = 5;
const DATAGRAMS: u32 = 10;
const CALLERS: usize = 2;
/// What is still under way at the end may take so long.
const REST: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("measures nothing unless it is run by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let time =
        Duration::from_secs(if arguments.iter().any(|argument| argument == "--quick") { 8 } else { 60 });
    println!("{}", machine::facts());
    let far = Far::new();
    println!(
        "{OBJECTS} objects behind {KBIT} kbit/s and {} ms in each direction ({}), {PAYLOAD} bytes, TLS; {time:?} each\n",
        DELAY.as_millis(),
        if far.network.is_some() { "tbf of the kernel, the delay by a proxy" } else { "by a proxy" },
    );
    println!("{:44}{:>7}{:>10}{:>10}{:>10}{:>10}", "", "count", "mean", "p50", "p99", "most");
    let is_met = [far.measure("central near: ", false, time), far.measure("central far, too: ", true, time)];
    println!(
        "\n{}",
        if is_met == [true; 2] { "met: below 1 s on average" } else { "MISSED: 1 s on average" }
    );
    ExitCode::SUCCESS
}

/// A site, and the ways to it over the link.
struct Far {
    site: Site,
    objects: Vec<Device>,
    sessions: SocketAddr,
    telemetry: SocketAddr,
    network: Option<Network>,
}

impl Far {
    fn new() -> Self {
        let mut site = Site::new();
        let network = Network::new().filter(|network| network.slow_down(KBIT));
        let objects = (0..OBJECTS).map(|n| site.device(&format!("far-{n}"), "Devices")).collect();
        let bad: IpAddr = match &network {
            Some(network) => {
                network.prepare(&mut site);
                network.start(&site);
                network.ways()[1]
            }
            None => {
                site.start();
                site.ip
            }
        };
        let rate = network.is_none().then_some(u64::from(KBIT) * 1000);
        let [there, back] = [Wire::new(DELAY, rate), Wire::new(DELAY, rate)];
        let sessions = slow::tcp(at(bad, site.sessions().port()), &there, &back);
        let telemetry = slow::udp(at(bad, site.sessions().port()), &there);
        Self { site, objects, sessions, telemetry, network }
    }

    fn log_in(&self, device: Device, address: SocketAddr) -> Peer {
        let Device { uid, key } = device;
        let tls = self.site.tls();
        let login =
            Login { address, local: None, tls: Some(&tls), largest: 0, uid, key, redirect_hosts: &[] };
        Peer::new(smol::block_on(iotsocketd::client::login(&login)).expect("a login over a slow link"))
    }

    /// Everybody at once for so long. Whether each kind of work took no longer than it may.
    fn measure(&self, title: &str, is_central_far: bool, time: Duration) -> bool {
        let took = Took::default();
        let (is_over, is_gone, ready) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
        let sent = Mutex::new(Vec::<Instant>::new());
        thread::scope(|scope| {
            let (took, is_over, is_gone, ready, sent) = (&took, &is_over, &is_gone, &ready, &sent);
            for (number, device) in self.objects.iter().enumerate() {
                scope.spawn(move || {
                    let began = Instant::now();
                    let mut peer = self.log_in(*device, self.sessions);
                    let token = peer.token();
                    took.note("login of an object, all at once", began.elapsed());
                    ready.fetch_add(1, Ordering::SeqCst);
                    let interval = Duration::from_secs(1) * OBJECTS as u32 / DATAGRAMS;
                    let first = Instant::now() + interval * number as u32 / OBJECTS as u32;
                    object(&mut peer, token, self.telemetry, sent, is_over, is_gone, (first, interval));
                });
            }
            let address = if is_central_far { self.sessions } else { self.site.sessions() };
            let central = scope.spawn(move || {
                let mut peer = self.log_in(self.site.central(), address);
                ready.fetch_add(1, Ordering::SeqCst);
                while ready.load(Ordering::SeqCst) < OBJECTS + 1 {
                    thread::sleep(Duration::from_millis(20));
                }
                self.central(&mut peer, sent, is_over, took);
            });
            while ready.load(Ordering::SeqCst) < OBJECTS + 1 {
                thread::sleep(Duration::from_millis(20));
            }
            let callers: Vec<_> = (0..if is_central_far { 0 } else { CALLERS })
                .map(|number| scope.spawn(move || self.caller(number, is_over, took)))
                .collect();
            thread::sleep(time);
            is_over.store(true, Ordering::SeqCst);
            callers.into_iter().for_each(|caller| caller.join().unwrap());
            central.join().unwrap();
            is_gone.store(true, Ordering::SeqCst);
        });
        took.tell(title)
    }

    /// Calls one object after the other, and hears what they send.
    fn central(&self, peer: &mut Peer, sent: &Mutex<Vec<Instant>>, is_over: &AtomicBool, took: &Took) {
        let interval = Duration::from_secs(1) / CALLS;
        let (mut due, mut number, mut asked) = (Instant::now(), 0_u16, BTreeMap::new());
        let mut end = None::<Instant>;
        let mut heard = 0;
        loop {
            let now = Instant::now();
            if is_over.load(Ordering::SeqCst) {
                end = end.or(Some(now + REST));
                if (asked.is_empty() && heard == sent.lock().unwrap().len())
                    || end.is_some_and(|end| now >= end)
                {
                    break;
                }
                due = now + interval;
            } else if now >= due {
                number += 1;
                due += interval;
                let uid = self.objects[usize::from(number) % OBJECTS].uid;
                peer.send(&request(Some(uid), number, &[b'c'; PAYLOAD]));
                asked.insert(number, now);
            }
            match peer.next_within(due.saturating_duration_since(Instant::now())) {
                Some(Said::Response { number, code: 0, .. }) => {
                    let asked = asked.remove(&number).expect("a call");
                    took.note("call of the central over TCP", asked.elapsed());
                }
                Some(Said::Telemetry { data, .. }) => {
                    let number: usize = std::str::from_utf8(&data).unwrap().trim().parse().unwrap();
                    let moment = sent.lock().unwrap()[number];
                    heard += 1;
                    took.note("telemetry to the central", moment.elapsed());
                }
                None => {}
                Some(other) => panic!("{other:?}"),
            }
        }
        assert!(asked.is_empty(), "{} calls without an answer", asked.len());
        assert_eq!(heard, sent.lock().unwrap().len(), "telemetry that did not come");
    }

    /// A caller of the API, near.
    fn caller(&self, number: usize, is_over: &AtomicBool, took: &Took) {
        let mut http = self.site.http();
        let payload = "h".repeat(PAYLOAD);
        for count in number.. {
            if is_over.load(Ordering::SeqCst) {
                return;
            }
            let uid = self.objects[count % OBJECTS].uid;
            let body = json!({"UID": uid.as_str(), "Payload": payload, "Format": "UTF8", "Timeout": 20});
            let began = Instant::now();
            let reply = http.post("/request", body.to_string().as_bytes());
            took.note("call over HTTPS", began.elapsed());
            assert_eq!((reply.status, reply.json()["Code"].as_u64()), (200, Some(0)), "{}", reply.text());
        }
    }
}

/// Sends its datagrams when they are due, and answers until the others are gone.
fn object(
    peer: &mut Peer,
    token: Token,
    to: SocketAddr,
    sent: &Mutex<Vec<Instant>>,
    is_over: &AtomicBool,
    is_gone: &AtomicBool,
    (mut due, interval): (Instant, Duration),
) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    while !is_gone.load(Ordering::SeqCst) {
        let now = Instant::now();
        if now >= due {
            due += interval;
            if !is_over.load(Ordering::SeqCst) {
                let number = {
                    let mut sent = sent.lock().unwrap();
                    sent.push(now);
                    sent.len() - 1
                };
                let text = format!("{number:<PAYLOAD$}");
                let payload = Payload::new(Format::Utf8, text.as_bytes()).unwrap();
                let datagram = [&token.0, payload.encode_head().as_slice(), text.as_bytes()].concat();
                socket.send_to(&datagram, to).unwrap();
            }
        }
        match peer.next_within(due.saturating_duration_since(now).min(Duration::from_millis(200))) {
            Some(Said::Request { number, data, .. }) => {
                peer.send(&response(None, number, 0, &data));
            }
            None => {}
            Some(other) => panic!("{other:?}"),
        }
    }
    let _over = peer.try_send(&Transmission::Close(iotsocketd::wire::CloseCode::Sleep));
}

/// How long each kind of work took.
#[derive(Default)]
struct Took(Mutex<BTreeMap<&'static str, Vec<Duration>>>);

impl Took {
    fn note(&self, what: &'static str, time: Duration) {
        self.0.lock().unwrap().entry(what).or_default().push(time);
    }

    fn tell(self, title: &str) -> bool {
        let mut is_met = true;
        for (what, mut times) in self.0.into_inner().unwrap() {
            times.sort();
            let mean = times.iter().sum::<Duration>() / times.len() as u32;
            let of = |share: usize| times[(times.len() - 1) * share / 100].as_millis();
            println!(
                "{:44}{:>7}{:>7} ms{:>7} ms{:>7} ms{:>7} ms",
                format!("{title}{what}"),
                times.len(),
                mean.as_millis(),
                of(50),
                of(99),
                of(100)
            );
            is_met &= mean < MEAN_MAX || what.starts_with("login");
        }
        is_met
    }
}
