//! Subscribers' endpoints that misbehave for long, each in ways that change, while messages come in.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use iotsocketd::wire::{Format, Payload};
use serde_json::{Value, json};

use crate::support::chaos::Random;
use crate::support::receiver::{Receiver, SECRET};
use crate::support::{Act, Peer, Site, within};
use crate::watch::{Bounds, tell, watched};
use crate::{is_full, seed};

/// Endpoints that misbehave; beside them are one that does not, and one that nobody listens for.
const BAD: u64 = 6;
/// A message each so often, and how long: a part of `cargo test`, and all of it.
const PAUSE: Duration = Duration::from_millis(50);
const TIMES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(600)];
/// An endpoint is well, or ill in one way, for so long at most.
const BOUT_MS: u64 = 10_000;
/// Whoever failed often is tried again after a minute at most, and has a backlog then.
const WELL_MAX: Duration = Duration::from_secs(180);
/// The good one has a message within this time, however ill the others are.
const LATE_MAX: Duration = Duration::from_secs(10);

/// An endpoint that is well and ill in turns.
struct Moody {
    random: Random,
    until: Instant,
    /// How it is ill, if it is.
    illness: Option<u64>,
}

impl Moody {
    fn act(&mut self) -> Option<Act> {
        if Instant::now() >= self.until {
            self.until = Instant::now() + Duration::from_millis(self.random.below(BOUT_MS));
            self.illness = match self.illness {
                None => Some(self.random.below(9)),
                Some(_) => None,
            };
        }
        let say = |text: &str| Act::Say(text.as_bytes().to_vec());
        Some(match self.illness? {
            0 => Act::Hang,
            1 => say("220 mail.example ESMTP\r\n\r\n"),
            2 => say(""),
            3 => Act::Drip(b"HTTP/1.1 200 OK\r\nX-Slow:"),
            4 => say("HTTP/1.1 308 X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"),
            5 => Act::Answer(403, String::new()),
            6 => say("HTTP/1.1 503 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"),
            7 => say("HTTP/1.1 429 X\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"),
            _ => Act::Drip(b"HTTP/1.1 500 X\r\nContent-Length: 1000000\r\n\r\n"),
        })
    }
}

/// How long one ping takes.
fn ping(object: &mut Peer) -> Duration {
    let asked = Instant::now();
    object.is_alive();
    asked.elapsed()
}

/// Each gets everything, oldest first, once it is well; who is well waits for nobody; nobody else notices.
#[test]
fn endpoints_that_are_ill_in_turns_get_everything_in_order_and_nobody_waits_for_them() {
    let (full, seed) = (usize::from(is_full()), seed());
    let is_over = Arc::new(AtomicBool::new(false));
    let moody = |number: u64| {
        let (mut random, over) = (Random::new(seed ^ number << 32), Arc::clone(&is_over));
        let illness = Some(random.below(9));
        let mood = Mutex::new(Moody { random, until: Instant::now() + TIMES[full] / 4, illness });
        let refuse = move |_: &_, _| match over.load(Ordering::Relaxed) {
            true => None,
            false => mood.lock().unwrap().act(),
        };
        (format!("moody-{number}"), Receiver::start_with(SECRET, refuse))
    };
    let bad: Vec<_> = (0..BAD).map(moody).collect();
    let good = Receiver::start(SECRET);
    let site = Site::new();
    for (name, endpoint) in &bad {
        site.append(&endpoint.table(name, "timeout = \"1s\"\nbatch_max = 20"));
    }
    site.append(&good.table("good", ""));
    site.append(&format!("[subscribers.nobody]\nurl = \"http://127.0.0.1:1/\"\nsecret = \"{SECRET}\"\n"));
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (mut object, token) = site.login_with_token(pump);
    let mut before: Vec<_> = (0..200).map(|_| ping(&mut object)).collect();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let files = site.open_files();
    let bounds = Bounds { memory_kib: 96 * 1024, files: files + 40 };
    let (mut sent, mut pings) = (0_u64, Vec::new());
    let ((), seen) = watched(&site, bounds, |watch| {
        let begun = Instant::now();
        while begun.elapsed() < TIMES[full] {
            let data = json!({ "n": sent }).to_string();
            let payload = Payload::new(Format::Json, data.as_bytes()).unwrap();
            let bytes = [&token.0, payload.encode_head().as_slice(), data.as_bytes()].concat();
            socket.send_to(&bytes, site.sessions()).unwrap();
            sent += 1;
            pings.push(ping(&mut object));
            watch.check();
            std::thread::sleep(PAUSE);
            if sent.is_multiple_of(100) {
                within(LATE_MAX, "the good one waits for nobody", || good.count() as u64 == sent);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        for (name, endpoint) in &bad {
            within(WELL_MAX, &format!("{name} has everything"), || endpoint.count() as u64 == sent);
        }
        println!("{sent} messages; the last of {BAD} has all {:.1?} after all were well", begun.elapsed());
    });
    let all: Vec<Value> = (0..sent).map(|number| json!({ "n": number })).collect();
    for (name, endpoint) in
        bad.iter().map(|(name, endpoint)| (name.as_str(), endpoint)).chain([("good", &good)])
    {
        assert!(endpoint.of("pump-1") == all, "{name}: in another order");
    }
    let failures = |name: &str| {
        let status = site.status();
        let all = status["destinations"].as_array().unwrap();
        let one = all.iter().find(|destination| destination["name"] == name).unwrap();
        one["failures"].as_u64().unwrap()
    };
    assert_eq!(failures("good"), 0);
    assert!(bad.iter().all(|(name, _)| failures(name) > 0) && failures("nobody") > 0);
    tell("pings before", &mut before);
    tell("pings meanwhile", &mut pings);
    println!(
        "{} KiB, {} files more than without any, at most",
        seen.memory_kib,
        seen.files.saturating_sub(files)
    );
}
