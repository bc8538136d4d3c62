//! Messages of a partner network: how many are on flash in a second, and how soon one is at the central's webhook.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use async_io::Timer;
use iotsocketd::client::http::{Connection, post_head};
use iotsocketd::client::{Distribution, Histogram, Stream};
use smol::LocalExecutor;

use super::load::Busy;
use super::machine;
use super::row::{Bound, Figure, Measured, Row, Settings};
use super::site::Site;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    Row {
        name: "ingest",
        what: "POST /v1/ingest, 64 callers, HTTPS keep-alive, each on flash before its 200",
        figures: &[
            Figure { name: "messages/s", bound: Bound::AtLeast(5_000.0) },
            Figure { name: "p50 ms", bound: Bound::AtMost(30.0) },
            Figure { name: "p99 ms", bound: Bound::None },
        ],
        measure: |settings| {
            let site = Site::start_with(0, SOURCE)?;
            let (taken, seconds, busy) = bring(&site, settings, None)?;
            let values =
                vec![taken.count() as f64 / seconds, ms(taken.percentile(0.5)), ms(taken.percentile(0.99))];
            Ok(Measured { values, busy: Some(busy) })
        },
    },
    Row {
        name: "ingest-webhook",
        what: "from the post of a message to the central's webhook on this machine, 500 a second",
        figures: &[
            Figure { name: "p50 ms", bound: Bound::AtMost(50.0) },
            Figure { name: "p99 ms", bound: Bound::None },
            Figure { name: "delivered/s", bound: Bound::None },
        ],
        measure: |settings| {
            let hook = Hook::start()?;
            let webhook = format!("\n[central.webhooks]\ntelemetry = \"http://{}/t\"\n", hook.address);
            let site = Site::start_with(0, &format!("{SOURCE}{webhook}"))?;
            let (_, seconds, busy) = bring(&site, settings, Some((RATE, hook.begun)))?;
            let arrived = hook.delays.distribution();
            let values = vec![
                ms(arrived.percentile(0.5)),
                ms(arrived.percentile(0.99)),
                arrived.count() as f64 / seconds,
            ];
            Ok(Measured { values, busy: Some(busy) })
        },
    },
];

/// A source of uplinks.
pub const SOURCE: &str = "\n[ingest.fleet]\nformat = \"chirpstack\"\ngroup = \"Devices\"\n";
const CALLERS: u64 = 64;
/// Objects that the messages are of.
const OBJECTS: u64 = 1_000;
/// Messages a second of all callers, where the way of one is measured.
const RATE: u64 = 500;

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Posts as fast as it is answered, or at a rate, with the microseconds since a moment as payload.
fn bring(
    site: &Site,
    settings: &Settings,
    paced: Option<(u64, Instant)>,
) -> Result<(Distribution, f64, Busy), String> {
    let tls = site.tls()?;
    let head = post_head("/v1/ingest/fleet", &site.api.to_string(), site.central_key()?);
    let histogram = Histogram::default();
    let time = Duration::from_secs(settings.seconds.into());
    let (server, own) =
        (machine::processor_seconds(site.process())?, machine::processor_seconds(std::process::id())?);
    let executor = LocalExecutor::new();
    let began = smol::block_on(executor.run(async {
        let mut connections = Vec::new();
        for _ in 0..CALLERS {
            let stream = Stream::open(site.api, Some(&tls)).await.map_err(|error| error.to_string())?;
            connections.push(Connection::new(stream));
        }
        let began = Instant::now();
        let tasks: Vec<_> = (0..CALLERS)
            .zip(connections)
            .map(|(caller, connection)| {
                let pause =
                    paced.map(|(rate, since)| (Duration::from_secs(1) * CALLERS as u32 / rate as u32, since));
                executor.spawn(call(connection, &head, caller, began + time, pause, &histogram))
            })
            .collect();
        for task in tasks {
            task.await?;
        }
        Ok::<_, String>(began)
    }))?;
    let elapsed = began.elapsed().as_secs_f64();
    let busy = Busy {
        server: machine::processor_seconds(site.process())? - server,
        load: machine::processor_seconds(std::process::id())? - own,
        elapsed,
    };
    Ok((histogram.distribution(), elapsed, busy))
}

async fn call(
    mut connection: Connection<Stream>,
    head: &[u8],
    caller: u64,
    end: Instant,
    pause: Option<(Duration, Instant)>,
    histogram: &Histogram,
) -> Result<(), String> {
    let mut next =
        Instant::now() + pause.map_or(Duration::ZERO, |(pause, _)| pause * caller as u32 / CALLERS as u32);
    for number in (caller..).step_by(CALLERS as usize) {
        if pause.is_some() {
            Timer::at(next).await;
        }
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        let said = pause.map_or(number, |(_, since)| micros(since.elapsed()));
        let answer = connection.post(head, body(number, said).as_bytes()).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status != 200 {
            return Err(format!("answered {}: {}", answer.status, String::from_utf8_lossy(answer.body)));
        }
        histogram.record(sent.elapsed());
        next += pause.map_or(Duration::ZERO, |(pause, _)| pause);
    }
    Ok(())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// An uplink as a network server posts it, with a number of six bytes in it.
pub fn body(number: u64, said: u64) -> String {
    let object = number % OBJECTS;
    let data = base64(said);
    format!(
        "{{\"deduplicationId\":\"5e6f7a80-1b2c-4d3e-8f90-{number:012}\",\"time\":\"2026-11-21T18:52:42.5+00:00\",\
         \"deviceInfo\":{{\"tenantName\":\"us\",\"applicationName\":\"fleet\",\"deviceName\":\"t\",\
         \"devEui\":\"0018b20000{object:06x}\"}},\"devAddr\":\"01a2b3c4\",\"adr\":true,\"dr\":5,\"fCnt\":{number},\
         \"fPort\":2,\"data\":\"{data}\",\"rxInfo\":[{{\"gatewayId\":\"aa555a0000000001\",\"uplinkId\":4711,\
         \"rssi\":-97,\"snr\":7.2}}],\"txInfo\":{{\"frequency\":868300000}}}}"
    )
}

/// Eight digits for the lower six bytes.
fn base64(bits: u64) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |place: u32| DIGITS.get((bits >> (6 * place) & 63) as usize).copied().map_or('A', char::from);
    (0..8).rev().map(digit).collect()
}

/// The central's webhook: it takes everything, and notes how old it is.
struct Hook {
    address: SocketAddr,
    begun: Instant,
    delays: Arc<Histogram>,
}

impl Hook {
    fn start() -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let hook = Self { address, begun: Instant::now(), delays: Arc::default() };
        let (begun, delays) = (hook.begun, Arc::clone(&hook.delays));
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let delays = Arc::clone(&delays);
                thread::spawn(move || serve(socket, begun, &delays));
            }
        });
        Ok(hook)
    }
}

/// Until the other side has enough.
fn serve(mut socket: TcpStream, begun: Instant, delays: &Histogram) {
    let mut bytes = Vec::new();
    let mut room = [0; 8192];
    while let Ok(len @ 1..) = socket.read(&mut room) {
        bytes.extend_from_slice(room.get(..len).unwrap_or_default());
        // Small bodies of our own program: the end is the end of what came.
        let text = String::from_utf8_lossy(&bytes);
        if !text.trim_end().ends_with('}') {
            continue;
        }
        let payload = text.split("\"Payload\":[").nth(1).and_then(|rest| rest.split(']').next());
        let sent = payload.map(|list| {
            list.split(',')
                .filter_map(|byte| byte.trim().parse::<u64>().ok())
                .fold(0, |sum, byte| sum << 8 | byte)
        });
        if let Some(sent) = sent {
            delays.record(begun.elapsed().saturating_sub(Duration::from_micros(sent)));
        }
        bytes.clear();
        if socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}
