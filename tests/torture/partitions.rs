//! A network of the kernel that falls apart: links that are down, that swallow one direction, that are slow.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use iotsocketd::wire::{Format, Payload, Token};

use crate::links::log_in;
use crate::support::chaos::Random;
use crate::support::network::{Network, at};
use crate::support::{Said, Site, eventually};
use crate::watch::{Bounds, watched};
use crate::{is_full, seed};

/// What is done to the way of an object and of the central.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Down,
    /// What the concentrator says does not arrive.
    Swallowed,
    Slow,
}

const ROUNDS: [usize; 2] = [3, 60];
/// A peer that is silent for two of these is gone.
const PING: Duration = Duration::from_secs(1);

/// Whoever cannot be reached is noticed, waits, and gets everything in order once the network is whole; who has another way
/// notices nothing.
#[test]
fn a_network_that_falls_apart_loses_nothing_and_disturbs_nobody_on_another_way() {
    let mut random = Random::new(seed());
    let mut site = Site::new();
    let Some(network) = Network::new() else { return };
    site.set("sessions", "ping_interval", "\"1s\"");
    let [near, far] = ["near", "far"].map(|name| site.device(name, "Devices"));
    network.prepare(&mut site);
    network.start(&site);
    let bad = at(network.ways()[1], site.sessions().port());
    let (mut near, token) = site.login_with_token(near);
    let (mut next, mut heard) = (0_u64, 0_u64);
    let bounds = Bounds { memory_kib: 64 * 1024, files: 200 };
    let ((), seen) = watched(&site, bounds, |watch| {
        let begin = random.below(3) as usize;
        for round in begin..begin + ROUNDS[usize::from(is_full())] {
            // The central and an object are behind the bad way.
            let mut central = log_in(&site, site.central(), bad).unwrap();
            let mut object = log_in(&site, far, bad).unwrap();
            let Some(Said::Token(far_token)) = object.next_within(Duration::from_secs(5)) else {
                panic!("no token over a good way")
            };
            let fault = [Fault::Down, Fault::Swallowed, Fault::Slow][round % 3];
            let began = Instant::now();
            match fault {
                Fault::Down => network.set_up_or_down(false),
                Fault::Swallowed => network.swallow_answers(true),
                Fault::Slow => assert!(network.slow_down(64)),
            }
            for _ in 0..50 {
                send(&site, token, next);
                next += 1;
                near.is_alive();
                watch.check();
            }
            if !matches!(fault, Fault::Slow) {
                eventually("who cannot be reached is noticed", || {
                    near.is_alive();
                    !site.status()["sessions"]["central"].as_bool().unwrap()
                });
                println!("{fault:?}: noticed after {:.1?}", began.elapsed());
            }
            // Datagrams of the far object come through where only answers are swallowed; on a way that is down they do not.
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let text = b"from afar";
            let payload = Payload::new(Format::Utf8, text).unwrap();
            let datagram = [&far_token.0, payload.encode_head().as_slice(), text].concat();
            let _no_way = socket.send_to(&datagram, bad);
            match fault {
                Fault::Down => network.set_up_or_down(true),
                Fault::Swallowed => network.swallow_answers(false),
                Fault::Slow => {}
            }
            let healed = Instant::now();
            drop(object);
            if !matches!(fault, Fault::Slow) {
                // It comes again as soon as it can.
                drop(central);
                central = log_in(&site, site.central(), bad).unwrap();
            }
            while heard < next {
                match central.next() {
                    Said::Telemetry { uid, data, .. } if uid.as_str() == "near" => {
                        let number: u64 = std::str::from_utf8(&data).unwrap().parse().unwrap();
                        // At least once: what was on its way when the network fell apart may come again.
                        assert!(number <= heard, "{number} before {heard}");
                        heard = heard.max(number + 1);
                    }
                    Said::Telemetry { uid, data, .. } => {
                        assert_eq!((uid.as_str(), &data[..]), ("far", &b"from afar"[..]));
                    }
                    other => panic!("{other:?} instead of telemetry"),
                }
            }
            println!("{fault:?}: all is there {:.1?} after the network was whole", healed.elapsed());
            near.is_alive();
            // The next round begins with a good network.
            if matches!(fault, Fault::Slow) {
                assert!(network.slow_down(1_000_000));
            }
        }
    });
    println!("ping interval {PING:?}; {} KiB at most, {} looks at the books", seen.memory_kib, seen.books);
}

fn send(site: &Site, token: Token, number: u64) {
    let text = number.to_string();
    let payload = Payload::new(Format::Utf8, text.as_bytes()).unwrap();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let datagram = [&token.0, payload.encode_head().as_slice(), text.as_bytes()].concat();
    socket.send_to(&datagram, site.sessions()).unwrap();
    // One behind the other, so that none overtakes.
    std::thread::sleep(Duration::from_millis(2));
}
