//! Clients that hold connections and say next to nothing, and what that does to the others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use async_io::Timer;
use iotsocketd::client::{Stream, Tls, open};
use smol::LocalExecutor;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::load::Load;
use super::row::{Bound, Figure, Measured, Row, Settings};
use super::site::{Site, number};

/// The row of this file.
pub const ROWS: &[Row] = &[Row {
    name: "silent",
    what: "1,000 silent or one-byte-a-second connections on each listener",
    figures: &[
        Figure { name: "others' calls over TCP, p99 ms", bound: Bound::AtMost(200.0) },
        Figure { name: "others' calls over HTTPS, p99 ms", bound: Bound::AtMost(200.0) },
        Figure { name: "last one gone from sessions after s", bound: Bound::AtMost(11.0) },
        Figure { name: "last one gone from the API after s", bound: Bound::AtMost(11.0) },
    ],
    measure,
}];

/// Connections on each listener.
const CONNECTIONS: usize = 1_000;
/// Addresses that they come from, on each listener.
const SOURCES: usize = 50;
/// Who is still connected then is given up; deadlines are 10 s.
const GIVE_UP_AFTER: Duration = Duration::from_secs(40);

/// What a slow client says to the sessions: an initiation that asks for TLS, then a greeting that never ends.
const SLOW_LOGIN: &[u8] = b"\x81\0\0\0\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
/// What a slow client says to the API, under TLS: a head that never ends.
const SLOW_HEAD: &[u8] = b"POST /request HTTP/1.1\r\nHost: localhost\r\nX: ";

/// How a connection is held.
#[derive(Clone, Copy)]
enum Manner {
    Silent,
    /// One byte a second of these, the last one over and over.
    Slow(&'static [u8]),
}

fn measure(_settings: &Settings) -> Result<Measured, String> {
    let mut site = Site::start(1_000)?;
    // Everybody is logged in before, and at work until, the last silent connection is gone.
    let tcp = Load::start(&site, "--objects 50 --prefix sim-1 --in-flight 16 --rate 500 --for 16s")?;
    let https = Load::start(&site, "--objects 50 --prefix sim-2 --callers 16 --rate 500 --for 16s")?;
    site.wait_until("everybody is in", |status| number(status, "/sessions/live") == 100.0)?;
    let (sessions, api) = smol::block_on(hold(&site))?;
    let (tcp, https) = (tcp.finish()?.without_errors()?, https.finish()?.without_errors()?);
    let values = vec![
        tcp.calls_us("p99")? / 1000.0,
        https.calls_us("p99")? / 1000.0,
        sessions.as_secs_f64(),
        api.as_secs_f64(),
    ];
    Ok(Measured { values, busy: None })
}

/// Holds all the connections until the concentrator closes them: how long the most patient of each listener lasted.
async fn hold(site: &Site) -> Result<(Duration, Duration), String> {
    let tls = site.tls()?;
    let executor = LocalExecutor::new();
    let spawn_all = |address: SocketAddr, tls: Option<&Tls>, slow: &'static [u8]| -> Vec<_> {
        (0..CONNECTIONS)
            .map(|index| {
                let manner = if index % 2 == 0 { Manner::Silent } else { Manner::Slow(slow) };
                let tls = tls.filter(|_| index % 2 == 1).cloned();
                executor.spawn(last(address, index, tls, manner))
            })
            .collect()
    };
    let sessions = spawn_all(site.sessions, None, SLOW_LOGIN);
    let api = spawn_all(site.api, Some(&tls), SLOW_HEAD);
    executor
        .run(async {
            let (mut longest_session, mut longest_api) = (Duration::ZERO, Duration::ZERO);
            for task in sessions {
                longest_session = longest_session.max(task.await?);
            }
            for task in api {
                longest_api = longest_api.max(task.await?);
            }
            Ok((longest_session, longest_api))
        })
        .await
}

/// How long the concentrator bears one connection.
async fn last(
    address: SocketAddr,
    index: usize,
    tls: Option<Tls>,
    manner: Manner,
) -> Result<Duration, String> {
    let started = Instant::now();
    let mut stream = match &tls {
        Some(_) => Stream::open(address, tls.as_ref()).await.map_err(|error| error.to_string())?,
        None => Stream::Plain(open(address, Some(source(index))).await.map_err(|error| error.to_string())?),
    };
    let mut position = 0;
    let mut room = [0; 256];
    while started.elapsed() < GIVE_UP_AFTER {
        let read = async { Some(stream.read(&mut room).await) };
        let next = async {
            Timer::after(Duration::from_secs(1)).await;
            None
        };
        match smol::future::or(read, next).await {
            Some(Ok(0) | Err(_)) => return Ok(started.elapsed()),
            Some(Ok(_)) => {}
            None => {
                if let Manner::Slow(text) = manner {
                    let byte = text.get(position).or(text.last()).copied().unwrap_or_default();
                    position += 1;
                    let said = async {
                        stream.write_all(&[byte]).await?;
                        stream.flush().await
                    };
                    if said.await.is_err() {
                        return Ok(started.elapsed());
                    }
                }
            }
        }
    }
    Ok(started.elapsed())
}

/// One of a few addresses of loopback.
fn source(index: usize) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, u8::try_from(index % SOURCES + 1).unwrap_or(1)).into()
}
