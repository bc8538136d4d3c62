//! More than anybody asked for.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use iotsocketd::wire::{Format, Token};

use crate::seed;
use crate::support::chaos::Random;
use crate::support::{Site, eventually};

/// Good datagrams beside the flood.
const GOOD: u64 = 200;

/// Nobody is answered, nothing grows, no line of the log is written for each, and the good ones get through.
#[test]
fn a_flood_of_datagrams_of_nobody_drowns_nobody() {
    let mut random = Random::new(seed());
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (mut object, token) = site.login_with_token(pump);
    let lines = site.log().lines().count();
    let is_over = AtomicBool::new(false);
    let flooded = thread::scope(|scope| {
        let (site, is_over) = (&site, &is_over);
        let flood = scope.spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(site.sessions()).unwrap();
            let mut sent = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                let wrong = Token(random.below(u64::MAX).to_be_bytes());
                let len = random.below(40) as usize;
                let datagram = [&wrong.0[..], &[0x20, 0, 5], &[b'x'; 40][..len]].concat();
                // The kernel may have no room.
                sent += u64::from(socket.send(&datagram).is_ok());
                if sent.is_multiple_of(64) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            socket.set_nonblocking(true).unwrap();
            assert!(socket.recv(&mut [0; 16]).is_err(), "a wrong datagram was answered");
            sent
        });
        for number in 0..GOOD {
            // Until it is there: the kernel drops of both kinds when it has no room.
            eventually("a good one gets through", || {
                if site.number("/books/received") > number {
                    return true;
                }
                site.telemetry(token, Format::Utf8, b"good");
                thread::sleep(Duration::from_millis(5));
                site.number("/books/received") > number
            });
            object.is_alive();
            assert!(site.memory_kib() < 64 * 1024, "{} KiB", site.memory_kib());
        }
        is_over.store(true, Ordering::Relaxed);
        flood.join().unwrap()
    });
    let counted = site.refused("telemetry.wrong_token") + site.refused("telemetry.length");
    assert!(counted > 0 && counted <= flooded, "{counted} of {flooded}");
    assert!(site.log().lines().count() < lines + 50, "{}", site.log());
}
