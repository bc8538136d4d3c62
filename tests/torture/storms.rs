//! More connections than anybody asked for, at once.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use async_io::Timer;
use iotsocketd::client::{Login, Talk, login};
use iotsocketd::hub::access_file::key_to_hex;
use iotsocketd::wire::Transmission;
use serde_json::{Value, json};
use smol::LocalExecutor;
use socket2::{Domain, Socket, Type};

use crate::support::chaos::Random;
use crate::support::{Device, Site, eventually};
use crate::watch::{Bounds, Over, tell, watched};
use crate::{is_full, seed};

/// Objects of a storm: a part of `cargo test`, and all of it.
const STORM: [usize; 2] = [400, 10_000];
/// Sessions that were there before.
const OLD: usize = 100;
/// Logins that are under way at the same moment. The kernel lets a few thousand connections wait.
const AT_ONCE: usize = 500;
/// How long a storm may take.
const UP_MAX: Duration = Duration::from_secs(60);
/// How long the flood of handshakes goes on.
const FLOOD: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(60)];
/// Threads of the flood, and connections that each of them holds open.
const FLOODERS: u64 = 4;
const HELD: usize = 40;

/// An address of loopback for everybody.
fn address(number: usize) -> IpAddr {
    IpAddr::from([127, 2, (number / 250) as u8, (number % 250 + 1) as u8])
}

fn raise(site: &Site) {
    for (section, key) in [
        ("sessions", "max_connections"),
        ("sessions", "max_unauthenticated"),
        ("sessions", "max_unauthenticated_per_source"),
    ] {
        site.set(section, key, "15000");
    }
}

/// Answers nothing but pings, and asks for one now and then; how long that took.
async fn pinged(site: &Site, Device { uid, key }: Device, is_over: &AtomicBool, took: &Mutex<Vec<Duration>>) {
    let tls = site.tls();
    let own = Login {
        address: site.sessions(),
        local: None,
        tls: Some(&tls),
        largest: 0,
        uid,
        key,
        redirect_hosts: &[],
    };
    let mut talk = Talk::new(login(&own).await.unwrap());
    while !is_over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        talk.send(&Transmission::Ping).await.unwrap();
        loop {
            match talk.next().await.unwrap() {
                Some(Transmission::Pong) => break,
                Some(Transmission::Ping) => talk.send(&Transmission::Pong).await.unwrap(),
                Some(Transmission::Token(_)) => {}
                other => panic!("{other:?} on a session that was there before"),
            }
        }
        took.lock().unwrap().push(asked.elapsed());
        Timer::after(Duration::from_millis(200)).await;
    }
}

/// All of them get in, over TLS, and nobody who was there before notices.
#[test]
fn everybody_gets_in_at_once_and_who_was_there_before_notices_nothing() {
    println!("seed: none, nothing is random");
    let storm = STORM[usize::from(is_full())];
    let site = Site::new();
    raise(&site);
    let devices: Vec<_> = (0..storm + OLD).map(|number| site.stranger(&format!("object-{number}"))).collect();
    let entry = |device: &Device| {
        (device.uid.to_string(), json!({"GroupName": "Devices", "AuthKey": key_to_hex(&device.key)}))
    };
    site.write_acl(&Value::Object(devices.iter().map(entry).collect()));
    site.start();
    let (old, new) = devices.split_at(OLD);
    let bounds = Bounds { memory_kib: 32 * 1024 + storm as u64 * 24, files: storm + OLD + 200 };
    let (is_over, pings) = (AtomicBool::new(false), Mutex::default());
    let ((), seen) = watched(&site, bounds, |watch| {
        thread::scope(|scope| {
            let _over = Over(&is_over);
            let (site, is_over, pings) = (&site, &is_over, &pings);
            scope.spawn(move || {
                let executor = LocalExecutor::new();
                let tasks: Vec<_> =
                    old.iter().map(|device| executor.spawn(pinged(site, *device, is_over, pings))).collect();
                smol::block_on(executor.run(async {
                    for task in tasks {
                        task.await;
                    }
                }));
            });
            eventually("the old ones are there", || !pings.lock().unwrap().is_empty());
            let began = Instant::now();
            let (next, tls) = (AtomicUsize::new(0), site.tls());
            let executor = LocalExecutor::new();
            let (next, tls) = (&next, &tls);
            let logins: Vec<_> = (0..AT_ONCE)
                .map(|_| {
                    executor.spawn(async move {
                        let mut talks = Vec::new();
                        while let Some(Device { uid, key }) = new.get(next.fetch_add(1, Ordering::Relaxed)) {
                            let number = next.load(Ordering::Relaxed);
                            let own = Login {
                                address: site.sessions(),
                                local: Some(address(number)),
                                tls: Some(tls),
                                largest: 0,
                                uid: *uid,
                                key: *key,
                                redirect_hosts: &[],
                            };
                            talks.push(login(&own).await.unwrap());
                        }
                        talks
                    })
                })
                .collect();
            let talks = smol::block_on(executor.run(async {
                let mut talks = Vec::new();
                for login in logins {
                    talks.extend(login.await);
                }
                talks
            }));
            let took = began.elapsed();
            println!(
                "{} logins over TLS in {took:.1?}, {:.0}/s",
                talks.len(),
                talks.len() as f64 / took.as_secs_f64()
            );
            assert!(took < UP_MAX);
            assert_eq!(site.number("/sessions/live"), (storm + OLD) as u64);
            watch.check();
        });
    });
    let p99 = tell("pings of who was there before", &mut pings.into_inner().unwrap());
    println!(
        "{} KiB and {} files at most; the target of 200 ms is {}",
        seen.memory_kib,
        seen.files,
        if p99 < Duration::from_millis(200) { "met" } else { "missed" }
    );
}

/// What a stranger does instead of a handshake.
fn misbehave(
    random: &mut Random,
    to: SocketAddr,
    local: IpAddr,
    held: &mut Vec<TcpStream>,
) -> std::io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(local, 0).into())?;
    socket.connect(&to.into())?;
    let mut socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    // A client of sessions asks for TLS first.
    if to.port() == 5505 {
        socket.write_all(&[0x81, 0, 0, 0])?;
        socket.read_exact(&mut [0; 2])?;
    }
    let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03];
    match random.below(6) {
        // Silent.
        0 => {}
        // Half of a hello.
        1 => socket.write_all(&hello[..6])?,
        // Garbage.
        2 => socket.write_all(&std::array::from_fn::<u8, 64, _>(|_| random.below(256) as u8))?,
        // A byte at a time, in records of their own.
        3 => hello.iter().try_for_each(|byte| socket.write_all(&[0x16, 0x03, 0x01, 0, 1, *byte]))?,
        // A goodbye behind the hello.
        4 => socket.write_all(&[&hello[..], &[0x15, 0x03, 0x01, 0, 2, 1, 0]].concat())?,
        // Gone.
        _ => return Ok(()),
    }
    held.push(socket);
    Ok(())
}

/// A flood of handshakes that come to nothing, on both listeners: a login beside it works.
#[test]
fn a_flood_of_handshakes_that_come_to_nothing_holds_up_nobody() {
    let seed = seed();
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let bounds = Bounds { memory_kib: 96 * 1024, files: 2_000 };
    let (is_over, count, mut took) = (AtomicBool::new(false), AtomicU64::new(0), Vec::new());
    let ((), seen) = watched(&site, bounds, |watch| {
        thread::scope(|scope| {
            let _over = Over(&is_over);
            let (site, is_over, count) = (&site, &is_over, &count);
            for flooder in 0..FLOODERS {
                scope.spawn(move || {
                    let (mut random, mut held) = (Random::new(seed ^ flooder << 32), Vec::new());
                    while !is_over.load(Ordering::Relaxed) {
                        let to = if random.below(2) == 0 { site.sessions() } else { site.api() };
                        let local = IpAddr::from([127, 3, flooder as u8, 1 + random.below(250) as u8]);
                        // It may be refused, or closed for somebody else.
                        let _refused = misbehave(&mut random, to, local, &mut held);
                        count.fetch_add(1, Ordering::Relaxed);
                        if held.len() > HELD {
                            held.swap_remove(random.below(held.len() as u64) as usize);
                        }
                    }
                });
            }
            let began = Instant::now();
            while began.elapsed() < FLOOD[usize::from(is_full())] {
                let asked = Instant::now();
                let (mut peer, _) = site.login_with_token(pump);
                took.push(asked.elapsed());
                peer.is_alive();
                assert_eq!(site.http().get("/readyz").status, 200);
                watch.check();
            }
            println!(
                "{:.0} bad connections/s",
                count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
            );
        });
    });
    let p99 = tell("good logins beside them", &mut took);
    println!(
        "{} KiB and {} files at most; the target of 500 ms is {}",
        seen.memory_kib,
        seen.files,
        if p99 < Duration::from_millis(500) { "met" } else { "missed" }
    );
    eventually("all of them are gone", || site.number("/sessions/unauthenticated") == 0);
    site.login_with_token(pump).0.is_alive();
}
