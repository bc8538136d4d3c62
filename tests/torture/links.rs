//! Objects and the central over links that are slow, cut, half open and lossy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use async_io::Timer;
use iotsocketd::client::Login;
use iotsocketd::wire::{Format, Payload, Token};
use smol::future::FutureExt as _;

use crate::support::chaos::Link;
use crate::support::{Device, Peer, Said, Site, eventually};
use crate::{seed, variable};

/// Objects on bad links.
const OBJECTS: usize = 4;
/// Logins that they try, in all.
const LOGINS: u64 = 80;
/// Datagrams behind each login.
const DATAGRAMS: u64 = 25;
/// An object gives a login up that takes longer.
const LOGIN_TIME: Duration = Duration::from_secs(5);
/// What the process may take meanwhile.
const MEMORY_KIB_MAX: u64 = 96 * 1024;
const OPEN_FILES_MAX: usize = 400;

/// A login over a link, unless it takes too long.
pub fn log_in(site: &Site, device: Device, address: SocketAddr) -> Option<Peer> {
    let Device { uid, key } = device;
    let tls = site.tls();
    let login = Login { address, local: None, tls: Some(&tls), largest: 0, uid, key, redirect_hosts: &[] };
    let in_time = async {
        Timer::after(LOGIN_TIME).await;
        None
    };
    let login = async { iotsocketd::client::login(&login).await.ok() };
    smol::block_on(login.or(in_time)).map(Peer::new)
}

/// An object: it logs in over the one link and sends what is numbered over the other, by the newest token that it got.
fn object(site: &Site, device: Device, tcp: SocketAddr, udp: SocketAddr, logins: &AtomicU64, bound: u64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut token, mut next) = (None::<Token>, 0_u64);
    while logins.fetch_add(1, Ordering::Relaxed) < bound {
        let mut peer = log_in(site, device, tcp);
        if let Some(Said::Token(fresh)) =
            peer.as_mut().and_then(|peer| peer.next_within(Duration::from_secs(1)))
        {
            token = Some(fresh);
        }
        let Some(token) = token else { continue };
        for _ in 0..DATAGRAMS {
            let text = format!("{}/{next}", device.uid);
            next += 1;
            let payload = Payload::new(Format::Utf8, text.as_bytes()).unwrap();
            let datagram = [&token.0, payload.encode_head().as_slice(), text.as_bytes()].concat();
            socket.send_to(&datagram, udp).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What the central heard, in order, the first time that each came.
#[derive(Default)]
struct Heard {
    order: Vec<String>,
    all: BTreeSet<String>,
}

impl Heard {
    fn take(&mut self, data: &[u8]) {
        let text = String::from_utf8(data.to_vec()).unwrap();
        if self.all.insert(text.clone()) {
            self.order.push(text);
        }
    }
}

/// The central: it comes again whenever its connection ends, over a bad link until told that links are good.
fn central(site: &Site, link: SocketAddr, is_good: &AtomicBool, is_over: &AtomicBool, heard: &Mutex<Heard>) {
    while !is_over.load(Ordering::Relaxed) {
        let address = if is_good.load(Ordering::Relaxed) { site.sessions() } else { link };
        let Some(mut peer) = log_in(site, site.central(), address) else { continue };
        let began_good = address == site.sessions();
        while !is_over.load(Ordering::Relaxed) && (began_good || !is_good.load(Ordering::Relaxed)) {
            match peer.next_within(Duration::from_millis(100)) {
                None => {}
                Some(Said::Telemetry { data, .. }) => heard.lock().unwrap().take(&data),
                Some(Said::End | Said::Close(_)) => break,
                Some(other) => panic!("{other:?} instead of telemetry"),
            }
        }
    }
}

/// Payloads of the history, by number.
fn history(site: &Site) -> BTreeMap<u64, String> {
    let (mut http, mut after, mut found) = (site.http(), 0, BTreeMap::new());
    loop {
        let page = http.get(&format!("/v1/messages?kind=telemetry&after={after}&limit=1000")).json();
        let messages = page["messages"].as_array().unwrap();
        for message in messages {
            let payload = message["payload"].as_str().unwrap().to_owned();
            found.insert(message["seq"].as_u64().unwrap(), payload);
        }
        after = page["next"].as_u64().unwrap();
        if messages.is_empty() {
            return found;
        }
    }
}

/// What was taken arrives, in its order; the books close; nothing grows; who has a good link notices nothing.
#[test]
fn over_bad_links_what_was_taken_arrives_in_order_and_nobody_else_notices() {
    let (seed, bound) = (seed(), variable("IOTSOCKETD_RUNS").unwrap_or(LOGINS));
    let site = Site::new();
    let devices: Vec<_> = (0..OBJECTS).map(|n| site.device(&format!("far-{n}"), "Devices")).collect();
    let near = site.device("near", "Devices");
    site.start();
    let (mut near, _) = site.login_with_token(near);
    let (tcp, udp, to_central) = (
        Link::tcp(site.sessions(), seed),
        Link::udp(site.sessions(), seed ^ 1),
        Link::tcp(site.sessions(), seed ^ 2),
    );
    let (logins, is_good, is_over) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
    let heard = Mutex::<Heard>::default();
    thread::scope(|scope| {
        let (site, logins, is_good, is_over, heard) = (&site, &logins, &is_good, &is_over, &heard);
        let (tcp, udp, to_central) = (tcp.address, udp.address, to_central.address);
        let objects: Vec<_> = devices
            .iter()
            .map(|device| scope.spawn(move || object(site, *device, tcp, udp, logins, bound)))
            .collect();
        let listening = scope.spawn(move || central(site, to_central, is_good, is_over, heard));
        while objects.iter().any(|object| !object.is_finished()) {
            near.is_alive();
            assert!(site.memory_kib() < MEMORY_KIB_MAX, "{} KiB", site.memory_kib());
            assert!(site.open_files() < OPEN_FILES_MAX, "{} open files", site.open_files());
            thread::sleep(Duration::from_millis(100));
        }
        is_good.store(true, Ordering::Relaxed);
        eventually("links are good again, and everything arrives", || {
            let books = &site.status()["books"];
            listening.is_finished() || (books["waiting"] == 0 && books["delivered"] == books["received"])
        });
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(tcp.came.load(Ordering::Relaxed) > 0 && udp.came.load(Ordering::Relaxed) > 0);
    let taken = history(&site);
    assert!(!taken.is_empty(), "nothing was taken");
    let heard = heard.into_inner().unwrap();
    let distinct: BTreeSet<_> = taken.values().cloned().collect();
    assert_eq!(distinct.len(), taken.len(), "one datagram, two messages");
    assert_eq!(heard.all, distinct);
    for device in &devices {
        let own = format!("{}/", device.uid);
        let of = |texts: &mut dyn Iterator<Item = &String>| {
            texts.filter(|text| text.starts_with(&own)).cloned().collect::<Vec<_>>()
        };
        assert_eq!(of(&mut heard.order.iter()), of(&mut taken.values()), "{own} in another order");
    }
    near.is_alive();
}
