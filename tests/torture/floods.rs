//! More than anybody asked for.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use iotsocketd::wire::{Format, Payload, Token};

use crate::support::chaos::Random;
use crate::support::crowd::kernel_drops;
use crate::support::{Site, eventually};
use crate::watch::{Bounds, Over, watched};
use crate::{is_full, seed};

/// Good datagrams a second, and those of nobody beside them: a part of `cargo test`, and all of it.
const GOOD: [u64; 2] = [200, 1_000];
const WRONG: [u64; 2] = [20_000, 100_000];
const TIMES: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(60)];
/// Datagrams go out this often.
const STEP: Duration = Duration::from_millis(1);
/// The largest that is taken, by default.
const LEN_MAX: usize = 4_096;

/// Calls this with the number of each, so many a second, until it is over; how many that were.
fn paced(rate: u64, is_over: &AtomicBool, mut send: impl FnMut(u64)) -> u64 {
    let (begun, mut count) = (Instant::now(), 0);
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(STEP);
        let due = u64::try_from(begun.elapsed().as_micros()).unwrap() * rate / 1_000_000;
        // What a busy machine did not get sent is not made up for at once: that would be a flood of another kind.
        for _ in 0..(due - count).min(rate / 100) {
            send(count);
            count += 1;
        }
    }
    count
}

/// Nobody is answered, nothing grows, no line of the log is written for each, and of what comes out of the kernel all good ones
/// are taken and all others counted.
#[test]
fn a_flood_of_datagrams_of_nobody_drowns_nobody() {
    let (full, mut random) = (usize::from(is_full()), Random::new(seed()));
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (mut object, token) = site.login_with_token(pump);
    let (lines, drops) = (site.log().lines().count(), kernel_drops(site.sessions()));
    let is_over = AtomicBool::new(false);
    let socket = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(site.sessions()).unwrap();
        socket
    };
    let bounds = Bounds { memory_kib: 64 * 1024, files: 200 };
    let ((good, wrong), seen) = watched(&site, bounds, |watch| {
        thread::scope(|scope| {
            let _over = Over(&is_over);
            let is_over = &is_over;
            let flood = scope.spawn(move || {
                let socket = socket();
                let wrong = paced(WRONG[full], is_over, |_| {
                    let stranger = Token(random.below(u64::MAX).to_be_bytes());
                    let len = random.below(40) as usize;
                    let padding: &[u8] = if random.below(50) == 0 { &[b'x'; LEN_MAX] } else { &[] };
                    let datagram = [&stranger.0[..], &[0x20, 0, 5], &[b'x'; 40][..len], padding].concat();
                    socket.send(&datagram).unwrap();
                });
                socket.set_nonblocking(true).unwrap();
                assert!(socket.recv(&mut [0; 16]).is_err(), "a wrong datagram was answered");
                wrong
            });
            let good = scope.spawn(move || {
                let socket = socket();
                paced(GOOD[full], is_over, |number| {
                    let text = number.to_string();
                    let payload = Payload::new(Format::Utf8, text.as_bytes()).unwrap();
                    let bytes = [&token.0, payload.encode_head().as_slice(), text.as_bytes()].concat();
                    socket.send(&bytes).unwrap();
                })
            });
            let begun = Instant::now();
            while begun.elapsed() < TIMES[full] {
                object.is_alive();
                watch.check();
                thread::sleep(Duration::from_millis(100));
            }
            is_over.store(true, Ordering::Relaxed);
            (good.join().unwrap(), flood.join().unwrap())
        })
    });
    // Each is taken, refused, or dropped by the kernel for want of room: none is lost in between.
    let mut counts = (0, 0, 0);
    let causes = ["oversized", "length", "wrong_token"].map(|cause| format!("telemetry.{cause}"));
    eventually("each is accounted for", || {
        let refused = causes.iter().map(|cause| site.refused(cause)).sum::<u64>();
        counts = (site.number("/books/received"), refused, kernel_drops(site.sessions()) - drops);
        counts.0 + counts.1 + counts.2 >= good + wrong
    });
    let (taken, refused, dropped) = counts;
    println!(
        "{good} good ones, {wrong} of nobody: {taken} taken, {refused} refused, {dropped} dropped by the kernel; {} KiB at most",
        seen.memory_kib
    );
    assert_eq!(taken + refused + dropped, good + wrong);
    assert!(taken > 0 && taken <= good && refused > 0 && refused <= wrong, "{counts:?}");
    assert!(site.log().lines().count() < lines + 50, "{}", site.log());
}
