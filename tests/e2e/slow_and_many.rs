//! Slow clients, and many: nobody else notices, and all of them are gone within their deadlines.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use iotsocketd::wire::{CloseCode, Format, Transmission};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::sessions::fill_up;
use crate::support::{Said, Site, eventually, request};
use crate::undisturbed::undisturbed;

/// A connection from an address of loopback.
fn connect_from(local: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(IpAddr::from(local), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

fn within(time: Duration, what: &str, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    assert!(start.elapsed() < time, "{what} took {:?}", start.elapsed());
}

/// B1: more idle sockets than `select` takes, and a good login works at once, during and after.
#[test]
fn a_login_works_at_once_beside_1100_idle_sockets_and_after_them() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let before = site.open_files();
    let idle: Vec<_> =
        (0..1100_u32).map(|n| connect_from([127, 0, 1, (n / 220) as u8 + 1], site.sessions())).collect();
    eventually("the places are taken", || site.number("/sessions/unauthenticated") >= 1000);
    for _ in 0..5 {
        within(Duration::from_secs(1), "a login", || drop(site.login_with_token(pump)));
    }
    assert!(site.number("/sessions/unauthenticated") <= 1024);
    drop(idle);
    eventually("all of them are gone", || site.number("/sessions/unauthenticated") == 0);
    within(Duration::from_secs(1), "a login", || drop(site.login_with_token(pump)));
    eventually("their descriptors are free", || site.open_files() <= before + 2);
}

/// B2: a client that is silent within the TLS handshake holds up only itself.
#[test]
fn a_login_works_at_once_beside_60_silent_tls_clients() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let silent: Vec<_> = (0..60)
        .map(|n| {
            let mut socket = TcpStream::connect(site.sessions()).unwrap();
            socket.write_all(&[0x81, 0, 0, 0]).unwrap();
            socket.read_exact(&mut [0; 2]).unwrap();
            if n % 2 == 0 {
                socket.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).unwrap();
            }
            socket
        })
        .collect();
    let api: Vec<_> = (0..60).map(|_| TcpStream::connect(site.api()).unwrap()).collect();
    within(Duration::from_secs(1), "a login", || drop(site.login_with_token(pump)));
    within(Duration::from_secs(1), "a call", || assert_eq!(site.http().get("/readyz").status, 200));
    drop((silent, api));
}

/// Whether the other side closed; what it says is dropped.
fn is_closed(socket: &mut TcpStream) -> bool {
    loop {
        match socket.read(&mut [0; 64]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Who is refused and never closes holds no more than its place: a newcomer takes that, whatever is still to be said.
#[test]
fn five_hundred_who_are_refused_and_never_close_hold_their_places_at_most() {
    const PLACES: usize = 30;
    /// Connections that were accepted a moment ago, and those that are about to hear that they were pushed out.
    const UNDER_WAY: usize = 10;
    let site = Site::new();
    for section in ["sessions", "api"] {
        site.set(section, "max_connections", &PLACES.to_string());
    }
    site.set("sessions", "tls", "\"optional\"");
    site.set("api", "tls", "\"off\"");
    site.start();
    let before = site.open_files();
    let login = [[0x01, 0, 0, 0].as_slice(), &[0; 48]].concat();
    let call = b"POST /request HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    for (to, says, cause) in
        [(site.sessions(), login.as_slice(), "sessions.login"), (site.api(), call.as_slice(), "api.key")]
    {
        let mut most = 0;
        let held: Vec<_> = (0..500_u32)
            .map(|n| {
                let mut socket = connect_from([127, 0, 4, (n / 50) as u8 + 1], to);
                socket.write_all(says).unwrap();
                most = most.max(site.open_files());
                socket
            })
            .collect();
        eventually("some are refused", || site.refused(cause) >= 1);
        assert!(most <= before + PLACES + UNDER_WAY, "{cause}: {most} descriptors, {before} before");
        drop(held);
        eventually("their descriptors are free", || site.open_files() <= before + 2);
    }
}

/// B13: the deadline is one for the whole phase, however many bytes come.
#[test]
fn a_thousand_connections_of_one_byte_a_second_on_each_listener_are_gone_within_their_deadlines() {
    let site = Site::new();
    let good = site.device("good", "Devices");
    site.set("sessions", "handshake_timeout", "\"3s\"");
    site.set("api", "header_timeout", "\"3s\"");
    site.start();
    undisturbed(&site, good, || {
        let mut sockets: Vec<_> = (0..2000_u32)
            .map(|n| {
                let to = if n % 2 == 0 { site.sessions() } else { site.api() };
                let socket = connect_from([127, 0, 2, (n / 200) as u8 + 1], to);
                socket.set_nonblocking(true).unwrap();
                socket
            })
            .collect();
        let start = Instant::now();
        // TLS: the head of a long record, then its first bytes. Sessions: an initiation before.
        let hello = [0x16, 0x03, 0x01, 0x40, 0x00, 0x01, 0x00, 0x3F, 0xFC, 0x03, 0x03];
        let initiation = [0x81, 0, 0, 0];
        let mut second = 0;
        while !sockets.is_empty() {
            assert!(start.elapsed() < Duration::from_secs(8), "{} are still there", sockets.len());
            for (n, socket) in sockets.iter_mut().enumerate() {
                let bytes = if n % 2 == 0 { initiation.as_slice() } else { &hello };
                let byte = bytes.get(second).or(hello.get(second)).copied().unwrap_or(0);
                let _may_be_closed = socket.write(&[byte]);
            }
            let end = Instant::now() + Duration::from_secs(1);
            while Instant::now() < end {
                sockets.retain_mut(|socket| !is_closed(socket));
                let reply = site.http().get("/healthz");
                assert_eq!(reply.status, 200);
                thread::sleep(Duration::from_millis(50));
            }
            second += 1;
        }
    });
    eventually("no place is taken", || site.number("/sessions/unauthenticated") == 0);
    assert_eq!(site.number("/sessions/by_listener/api"), 0);
    let timeouts = site.refused("sessions.handshake_timeout") + site.refused("sessions.evicted");
    assert!(timeouts >= 900, "{timeouts} of 1000 were counted");
}

/// B14: ten thousand short connections, ended in every way, and all is as before.
#[test]
fn ten_thousand_short_connections_leave_no_trace() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (mut object, _) = site.login_with_token(pump);
    let before = site.open_files();
    thread::scope(|scope| {
        for worker in 0..4_u8 {
            let site = &site;
            scope.spawn(move || {
                for n in 0..2500 {
                    let to = if n % 10 == 9 { site.api() } else { site.sessions() };
                    let mut socket = connect_from([127, 0, 3, worker + 1], to);
                    if n % 3 == 0 {
                        let _may_be_pushed_out = socket.write_all(&[0x81, 0, 0, 0]);
                    }
                    // A reset: it also leaves no connection in TIME_WAIT here.
                    if n % 4 != 0 {
                        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
                    }
                }
            });
        }
    });
    object.is_alive();
    eventually("all are gone", || site.number("/sessions/unauthenticated") == 0);
    eventually("their descriptors are free", || site.open_files() <= before + 2);
    within(Duration::from_secs(1), "a login", || drop(site.login_with_token(pump)));
    assert_eq!(site.http().get("/readyz").status, 200);
}

#[test]
fn a_peer_that_takes_nothing_is_closed_and_nobody_else_notices() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    let good = site.device("good", "Devices");
    site.set("sessions", "request_timeout", "\"30s\"");
    site.start();
    let (stuck, _) = site.login_with_token(pump);
    let stuck = stuck.with_room(200_000);
    let mut central = site.login(site.central());
    fill_up(&mut central, pump.uid, 0);
    // For good: the answers to these calls are for nobody.
    central.leave(CloseCode::Maintenance);
    undisturbed(&site, good, || {
        eventually("it is closed", || {
            // The system makes room for some more from time to time: it shall stay full.
            for len in [60_000, 1] {
                site.call_for("pump-1", Value::from("x".repeat(len)), "UTF8", 1);
            }
            site.refused("sessions.stalled") == 1
        });
    });
    eventually("the good object is kept, it is not", || site.number("/sessions/kept") == 1);
    assert!(site.memory_kib() < 64 * 1024, "{} KiB", site.memory_kib());
    drop(stuck);
}

#[test]
fn above_max_connections_the_initiation_is_refused_and_nobody_else_notices() {
    let site = Site::new();
    let (one, two, three) =
        (site.device("1", "Devices"), site.device("2", "Devices"), site.device("3", "Devices"));
    site.set("sessions", "max_connections", "2");
    site.start();
    let (mut first, _) = site.login_with_token(one);
    let (mut second, _) = site.login_with_token(two);
    let refused = site.try_login(three).err().unwrap();
    assert!(matches!(refused, iotsocketd::client::LoginError::InitiationRefused), "{refused}");
    assert_eq!(site.refused("sessions.full"), 1);
    first.is_alive();
    second.is_alive();
    drop(second);
    eventually("there is a place again", || site.number("/sessions/by_listener/sessions") == 1);
    site.login_with_token(three).0.is_alive();
}

/// B10: one object that floods while the central is away costs bounded memory, and the books close.
#[test]
fn a_flood_while_the_central_is_away_costs_bounded_memory() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let central = site.login(site.central());
    central.leave(CloseCode::Sleep);
    eventually("the central is away", || site.status()["sessions"]["central"] == Value::Bool(false));
    let (mut object, token) = site.login_with_token(pump);
    for number in 0..400 {
        object.send(&request(None, number, &[b'x'; 60_000]));
    }
    object.send(&Transmission::Ping);
    let mut not_found = 0;
    loop {
        match object.next() {
            Said::Response { code: 0xA0, .. } => not_found += 1,
            Said::Pong => break,
            other => panic!("{other:?}"),
        }
    }
    assert!((390..400).contains(&not_found), "{not_found} of 400 found no room");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(site.sessions()).unwrap();
    let data = vec![1; 4000];
    let head = iotsocketd::wire::Payload::new(Format::Binary, &data).unwrap().encode_head();
    let datagram = [token.0.as_slice(), head.as_slice(), &data].concat();
    // More than memory has room for; what flash does not take in time is dropped and counted.
    eventually("enough was taken", || {
        for _ in 0..2000 {
            let _may_be_full = socket.send(&datagram);
        }
        site.number("/books/received") > 18_000
    });
    assert!(site.memory_kib() < 96 * 1024, "{} KiB", site.memory_kib());
    eventually("the books close", || {
        let books = site.status()["books"].clone();
        let dropped: u64 = books["dropped"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        let [received, delivered, waiting] =
            ["received", "delivered", "waiting"].map(|name| books[name].as_u64().unwrap());
        received == delivered + waiting + dropped
    });
}

/// B11: telemetry of the time without a central is delivered when it returns, in order.
#[test]
fn no_telemetry_is_lost_while_the_central_reconnects() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (_object, token) = site.login_with_token(pump);
    let mut sent = 0_u64;
    let mut send = |count: u64| {
        for _ in 0..count {
            site.telemetry(token, Format::Binary, &sent.to_be_bytes());
            sent += 1;
        }
        eventually("all were taken", || site.number("/books/received") == sent);
    };
    let mut central = site.login(site.central());
    send(1);
    assert_eq!(central.telemetry().1, 0_u64.to_be_bytes());
    // Acknowledged, so that it does not come again.
    eventually("the first is delivered", || {
        central.is_alive();
        site.number("/books/delivered") == 1
    });
    drop(central);
    eventually("the central is away", || site.status()["sessions"]["central"] == Value::Bool(false));
    send(10);
    let mut central = site.login(site.central());
    for number in 1..=10_u64 {
        assert_eq!(central.telemetry().1, number.to_be_bytes());
    }
    eventually("all are delivered", || {
        central.is_alive();
        site.number("/books/delivered") == 11
    });
}
