//! The load on a peer: clients of the same number and kind as `simulate` has, on one thread as there.

use std::io::Write as _;
use std::time::{Duration, Instant};

use async_io::Timer;
use iotsocketd::client::{Distribution, Histogram};
use smol::LocalExecutor;

use super::ingest;
use super::link::{Event, Language, Link, publish};
use super::load::Busy;
use super::machine;
use super::peer::{Kind, Peer};

/// Bytes of each call and each telemetry message, as `simulate` has them.
const PAYLOAD: usize = 64;
/// Logins at the same moment, as `simulate` has them.
const AT_ONCE: usize = 32;
/// Who was busy a moment ago is given this time to become idle.
const SETTLE: Duration = Duration::from_millis(500);
/// What did not come within this time after the last one does not come any more.
const LATE: Duration = Duration::from_millis(500);
/// Callers with a message that is to be kept.
const KEEPERS: usize = 64;

/// What a load came to.
pub struct Outcome {
    /// How many there were, and how long each took, if that was measured.
    pub count: f64,
    pub delays: Option<Distribution>,
    /// Seconds of the work, without logging in.
    pub seconds: f64,
    pub busy: Busy,
}

impl Outcome {
    pub fn rate(&self) -> f64 {
        self.count / self.seconds
    }

    /// This share of the delays, in microseconds.
    pub fn delay_us(&self, share: f64) -> f64 {
        self.delays.as_ref().map_or(0.0, |delays| delays.percentile(share).as_secs_f64() * 1e6)
    }

    /// Microseconds of processor time for each: the peer's and the load's.
    pub fn cost_us(&self) -> [f64; 2] {
        [self.busy.server, self.busy.load].map(|seconds| seconds * 1e6 / self.count.max(1.0))
    }
}

/// Processor time from a moment on.
struct Watch<'a> {
    peer: &'a Peer,
    server: f64,
    load: f64,
    began: Instant,
}

impl<'a> Watch<'a> {
    fn start(peer: &'a Peer) -> Result<Self, String> {
        let server = machine::processor_seconds(peer.process())?;
        let load = machine::processor_seconds(std::process::id())?;
        Ok(Self { peer, server, load, began: Instant::now() })
    }

    fn stop(&self) -> Result<Busy, String> {
        Ok(Busy {
            server: machine::processor_seconds(self.peer.process())? - self.server,
            load: machine::processor_seconds(std::process::id())? - self.load,
            elapsed: self.began.elapsed().as_secs_f64(),
        })
    }
}

/// Objects that answer, and callers with a connection and so many calls in flight each.
pub fn calls(
    kind: Kind,
    objects: usize,
    callers: usize,
    window: usize,
    time: Duration,
) -> Result<Outcome, String> {
    let peer = Peer::start(kind)?;
    let watch = Watch::start(&peer)?;
    let histogram = Histogram::default();
    let executor = LocalExecutor::new();
    let seconds = smol::block_on(executor.run(async {
        let mut answering = Vec::new();
        for object in 0..objects {
            let mut link = peer.connect(&format!("object-{object}")).await?;
            link.subscribe(&format!("call-{object}"), false).await?;
            answering.push(executor.spawn(answer(link, format!("answer-{}", object % callers))));
        }
        let mut links = Vec::new();
        for caller in 0..callers {
            let mut link = peer.connect(&format!("caller-{caller}")).await?;
            link.subscribe(&format!("answer-{caller}"), false).await?;
            links.push(link);
        }
        let began = Instant::now();
        let mut calling = Vec::new();
        for (caller, link) in links.into_iter().enumerate() {
            let objects: Vec<String> =
                (caller..objects).step_by(callers).map(|object| format!("call-{object}")).collect();
            let own = format!("answer-{caller}");
            calling.push(executor.spawn(call(link, own, objects, window, began + time, &histogram)));
        }
        for caller in calling {
            caller.await?;
        }
        let seconds = began.elapsed().as_secs_f64();
        // An object that failed says why; one that still listens is done.
        for object in answering {
            if let Some(Err(error)) = object.cancel().await {
                return Err(error);
            }
        }
        Ok::<_, String>(seconds)
    }))?;
    let delays = histogram.distribution();
    Ok(Outcome { count: delays.count() as f64, delays: Some(delays), seconds, busy: watch.stop()? })
}

async fn answer(mut link: Link, subject: String) -> Result<(), String> {
    let mut answer = Vec::new();
    loop {
        if let Event::Message { reply, payload } = link.next().await? {
            answer.clear();
            answer.extend_from_slice(link.bytes(payload));
            if reply.is_empty() {
                link.publish(&subject, "", &answer);
            } else {
                let subject = String::from_utf8_lossy(link.bytes(reply)).into_owned();
                link.publish(&subject, "", &answer);
            }
        }
    }
}

async fn call(
    mut link: Link,
    own: String,
    objects: Vec<String>,
    window: usize,
    end: Instant,
    histogram: &Histogram,
) -> Result<(), String> {
    let mut payload = [7; PAYLOAD];
    let mut sent = vec![Instant::now(); window];
    let mut turn = objects.iter().cycle();
    let mut begin = |link: &mut Link, slot: usize, sent: &mut [Instant]| {
        // The first byte tells which call it is.
        if let (Some(object), Some(at), Some(first)) = (turn.next(), sent.get_mut(slot), payload.first_mut())
        {
            *first = slot as u8;
            *at = Instant::now();
            link.publish(object, &own, &payload);
        }
    };
    for slot in 0..window {
        begin(&mut link, slot, &mut sent);
    }
    loop {
        let Event::Message { payload, .. } = link.next().await? else { continue };
        let [slot, rest @ ..] = link.bytes(payload) else { return Err("an empty answer".to_owned()) };
        let slot = usize::from(*slot);
        let (true, Some(at)) = (rest == [7; PAYLOAD - 1], sent.get(slot)) else {
            return Err("an answer is not what was asked".to_owned());
        };
        if Instant::now() >= end {
            return Ok(());
        }
        histogram.record(at.elapsed());
        begin(&mut link, slot, &mut sent);
    }
}

/// So many idle sessions: KiB of each.
pub fn sessions(kind: Kind, count: usize) -> Result<f64, String> {
    let peer = Peer::start(kind)?;
    std::thread::sleep(SETTLE);
    let before = machine::resident_kib(peer.process())?;
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        let mut links = Vec::new();
        while links.len() < count {
            let names: Vec<String> =
                (links.len()..count).take(AT_ONCE).map(|index| format!("idle-{index}")).collect();
            let peer = &peer;
            let logins: Vec<_> = names
                .into_iter()
                .map(|name| {
                    executor.spawn(async move {
                        let mut link = peer.connect(&name).await?;
                        // As a device of ours can be called, this one can, too.
                        link.subscribe(&name, false).await?;
                        Ok::<_, String>(link)
                    })
                })
                .collect();
            for login in logins {
                links.push(login.await?);
            }
        }
        Timer::after(SETTLE).await;
        Ok::<_, String>((machine::resident_kib(peer.process())? - before) / count as f64)
    }))
}

/// Clients that log in under TLS and leave.
pub fn logins(kind: Kind, time: Duration) -> Result<Outcome, String> {
    let peer = Peer::start(kind)?;
    let watch = Watch::start(&peer)?;
    let executor = LocalExecutor::new();
    let began = Instant::now();
    let count = smol::block_on(executor.run(async {
        let peer = &peer;
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|worker| {
                executor.spawn(async move {
                    let mut count = 0_u32;
                    while began.elapsed() < time {
                        drop(peer.connect(&format!("worker-{worker}-{count}")).await?);
                        count += 1;
                    }
                    Ok::<_, String>(count)
                })
            })
            .collect();
        let mut count = 0;
        for worker in workers {
            count += worker.await?;
        }
        Ok::<_, String>(count)
    }))?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(Outcome { count: count.into(), delays: None, seconds, busy: watch.stop()? })
}

/// Messages of so many senders, one after the other as fast as it goes, to one receiver: what was received, and how
/// many were sent and never came.
pub fn telemetry(kind: Kind, senders: usize, time: Duration) -> Result<(Outcome, f64), String> {
    let peer = Peer::start(kind)?;
    let watch = Watch::start(&peer)?;
    let language = peer.language();
    let (mut receiver, sockets) = smol::block_on(async {
        let mut receiver = peer.connect("receiver").await?;
        receiver.subscribe("telemetry", false).await?;
        let mut sockets = Vec::new();
        for sender in 0..senders {
            sockets.push(peer.connect_in_clear(&format!("sender-{sender}")).await?.into_socket()?);
        }
        Ok::<_, String>((receiver, sockets))
    })?;
    let began = Instant::now();
    let sending = std::thread::spawn(move || send(language, sockets, began + time));
    let (count, late) = smol::block_on(receive(&mut receiver, began + time))?;
    let busy = watch.stop()?;
    let sent = sending.join().map_err(|_| "the sender panicked".to_owned())??;
    let outcome = Outcome { count, delays: None, seconds: time.as_secs_f64(), busy };
    Ok((outcome, sent - count - late))
}

/// Each message in a write of its own, as a device sends it.
fn send(language: Language, mut sockets: Vec<std::net::TcpStream>, end: Instant) -> Result<f64, String> {
    let mut message = Vec::new();
    publish(language, &mut message, "telemetry", "", &[7; PAYLOAD]);
    let mut sent = 0.0;
    while Instant::now() < end {
        for socket in &mut sockets {
            socket.write_all(&message).map_err(|error| format!("a sender: {error}"))?;
            sent += 1.0;
        }
    }
    // They stay connected until what they said is read.
    std::thread::sleep(LATE);
    Ok(sent)
}

/// Counts what comes until `end`, and what comes later.
async fn receive(receiver: &mut Link, end: Instant) -> Result<(f64, f64), String> {
    let (mut count, mut late) = (0.0, 0.0);
    loop {
        let quiet = async {
            Timer::after(LATE).await;
            Ok(None)
        };
        match smol::future::or(async { receiver.next().await.map(Some) }, quiet).await? {
            Some(Event::Message { .. }) if Instant::now() < end => count += 1.0,
            Some(Event::Message { .. }) => late += 1.0,
            Some(_) => {}
            None if Instant::now() < end => {}
            None => return Ok((count, late)),
        }
    }
}

/// Callers with one message in flight each, which the peer keeps and acknowledges: the same bodies as ours gets.
pub fn ingest(kind: Kind, time: Duration) -> Result<Outcome, String> {
    let peer = Peer::start(kind)?;
    let histogram = Histogram::default();
    let executor = LocalExecutor::new();
    let (seconds, busy) = smol::block_on(executor.run(async {
        match peer.language() {
            // Without somebody who is away and for whom it is kept, a broker of MQTT throws a message away.
            Language::Mqtt => {
                peer.connect_to_stay("central").await?.subscribe("ingest", true).await?;
            }
            Language::Nats => peer.connect("maker").await?.make_stream("ingest", "ingest").await?,
        }
        let mut links = Vec::new();
        for keeper in 0..KEEPERS {
            let mut link = peer.connect(&format!("keeper-{keeper}")).await?;
            if peer.language() == Language::Nats {
                link.subscribe(&format!("answer-{keeper}"), false).await?;
            }
            links.push(link);
        }
        let watch = Watch::start(&peer)?;
        let began = Instant::now();
        let keeping: Vec<_> = links
            .into_iter()
            .enumerate()
            .map(|(keeper, link)| executor.spawn(keep(link, keeper, began + time, &histogram)))
            .collect();
        for keeper in keeping {
            keeper.await?;
        }
        Ok::<_, String>((began.elapsed().as_secs_f64(), watch.stop()?))
    }))?;
    let delays = histogram.distribution();
    Ok(Outcome { count: delays.count() as f64, delays: Some(delays), seconds, busy })
}

async fn keep(mut link: Link, keeper: usize, end: Instant, histogram: &Histogram) -> Result<(), String> {
    let reply = format!("answer-{keeper}");
    for number in (keeper as u64..).step_by(KEEPERS) {
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        let body = ingest::body(number, number);
        let id = u16::try_from(number % 65_535).unwrap_or_default() + 1;
        link.hand_over("ingest", &reply, body.as_bytes(), id).await?;
        histogram.record(sent.elapsed());
    }
    Ok(())
}
