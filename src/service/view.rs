//! The concentrator as the API, the maintenance socket and `status` see it: one snapshot behind all of them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::backup::nightly::Nightly;
use super::config::Config;
use super::destinations::{self, CentralWay};
use super::journal::{Health, Journal};
use super::wear::{self, Medium, Work};
use crate::endpoint::http::api::Api;
use crate::endpoint::http::server::Server;
use crate::endpoint::tcp::TcpServer;
use crate::endpoint::udp::UdpServer;
use crate::endpoint::webhook::{Counters, Failing, WebhookCounters, Webhooks};
use crate::hub::access_keeper::{AccessKeeper, ReplaceError};
use crate::hub::alerts::{Up, Weight};
use crate::hub::auditing::Deed;
use crate::hub::backend::{Backend, DeadLetterList, ObjectView, Pending, Presence, Steered};
use crate::hub::commands::{CommandRefusal, NewCommand};
use crate::hub::durable::NeverDurable;
use crate::hub::heartbeats::Heartbeats;
use crate::hub::seen::{Seen, When};
use crate::hub::status::{
    Alert, Availability, Books, Calls, Certificate, Disk, Queue, Rates, Sessions, Status,
};
use crate::hub::{CallAnswer, Glance, Hub, lock};
use crate::journal::Seq;
use crate::journal::stamp::MessageId;
use crate::router::access::AccessEntry;
use crate::router::{Count, Router, SessionState};
use crate::sys::disk_space;
use crate::wire::{AclItem, Format, GroupName, Payload, Uid};

/// Rates are averaged over this many samples, one a second.
pub const RATE_SAMPLES: usize = 5;

/// Everything that a snapshot is taken of.
#[derive(Debug)]
pub struct View {
    pub(super) hub: Arc<Hub>,
    journal: Arc<Journal>,
    pub(super) access: Arc<AccessKeeper>,
    pub(super) tcp: Arc<TcpServer>,
    pub(super) udp: Arc<UdpServer>,
    pub(super) webhooks: Arc<Webhooks>,
    /// Set once the API is there; it holds this view itself.
    api: OnceLock<(Weak<Api>, Arc<Mutex<Server>>)>,
    /// Set once there are backups; it holds the journal, as this does.
    nightly: OnceLock<Weak<Nightly>>,
    facts: Mutex<Facts>,
    started: Instant,
    is_draining: AtomicBool,
    rates: Mutex<RateMeter>,
    subscribers: Mutex<destinations::Meter>,
    availability: Mutex<Availability>,
}

/// What the snapshot takes from the configuration.
#[derive(Debug)]
struct Facts {
    environment: &'static str,
    state_dir: PathBuf,
    has_telemetry_webhook: bool,
    /// The medium below `state_dir`, as the kernel tells of it.
    medium: Option<Medium>,
}

impl Facts {
    fn new(config: &Config) -> Self {
        Self {
            environment: config.environment.name(),
            state_dir: config.state_dir.clone(),
            has_telemetry_webhook: config.central.webhooks.telemetry.is_some(),
            medium: Medium::below(Path::new("/sys"), &config.state_dir),
        }
    }
}

/// Rates out of counters.
#[derive(Debug, Default)]
struct RateMeter(VecDeque<(Instant, [u64; 3])>);

impl RateMeter {
    /// Requests, telemetry taken and telemetry delivered, since the start.
    fn sample(&mut self, now: Instant, counters: [u64; 3]) {
        self.0.push_back((now, counters));
        if self.0.len() > RATE_SAMPLES + 1 {
            self.0.pop_front();
        }
    }

    fn rates(&self) -> Rates {
        let (Some((first, before)), Some((last, after))) = (self.0.front(), self.0.back()) else {
            return Rates::default();
        };
        let seconds = last.duration_since(*first).as_secs_f64();
        if seconds <= 0.0 {
            return Rates::default();
        }
        let [requests, telemetry, delivered] = after;
        let [requests_before, telemetry_before, delivered_before] = before;
        let rate = |after: &u64, before: &u64| after.saturating_sub(*before) as f64 / seconds;
        Rates {
            requests_per_second: rate(requests, requests_before),
            telemetry_per_second: rate(telemetry, telemetry_before),
            delivered_per_second: rate(delivered, delivered_before),
        }
    }
}

impl View {
    /// A view of these, from now on.
    pub fn new(
        hub: Arc<Hub>,
        journal: Arc<Journal>,
        access: Arc<AccessKeeper>,
        tcp: Arc<TcpServer>,
        udp: Arc<UdpServer>,
        webhooks: Arc<Webhooks>,
        config: &Config,
    ) -> Self {
        Self {
            hub,
            journal,
            access,
            tcp,
            udp,
            webhooks,
            api: OnceLock::new(),
            nightly: OnceLock::new(),
            facts: Mutex::new(Facts::new(config)),
            started: Instant::now(),
            is_draining: AtomicBool::new(false),
            rates: Mutex::default(),
            subscribers: Mutex::default(),
            availability: Mutex::default(),
        }
    }

    /// Adds the API, once it is there.
    pub fn set_api(&self, api: &Arc<Api>, server: &Arc<Mutex<Server>>) {
        let _only_once = self.api.set((Arc::downgrade(api), Arc::clone(server)));
    }

    /// Adds the backups of every night, once they are made.
    pub fn set_nightly(&self, nightly: &Arc<Nightly>) {
        let _only_once = self.nightly.set(Arc::downgrade(nightly));
    }

    /// Takes up a changed configuration.
    pub fn set_facts(&self, config: &Config) {
        *lock(&self.facts) = Facts::new(config);
    }

    /// The snapshot, and how the journal is.
    pub fn look_closely(&self) -> (Status, Health) {
        (self.status(), self.journal.health())
    }

    /// The wall clock in microseconds since 1970, if it is right.
    pub fn right_us(&self) -> Option<i64> {
        self.journal.right_us()
    }

    /// From now on this is the share of the time in which it served.
    pub fn set_availability(&self, availability: Availability) {
        *lock(&self.availability) = availability;
    }

    /// Which of the central's webhooks fail.
    pub fn failing_webhooks(&self) -> Failing {
        let counters = self.webhooks.pool().counters();
        Failing {
            request: counters.request.is_failing,
            telemetry: counters.telemetry.is_failing,
            result: counters.result.is_failing,
        }
    }

    /// From now on it is not ready.
    pub fn set_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Takes the counters of now for the rates; to be called every second.
    pub fn sample_rates(&self) {
        let counters = self.hub.look(|Glance { router, central, .. }| {
            let counts = router.counts();
            let requests = counts.get(Count::CallsStarted) + counts.get(Count::RequestsStarted);
            [requests, counts.get(Count::TelemetryTaken), central.books().sum().delivered]
        });
        let now = Instant::now();
        lock(&self.rates).sample(now, counters);
        lock(&self.subscribers).sample(&self.hub, now);
    }

    fn refusals(&self, router: &Router, webhooks: &Counters) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        self.tcp.refusals.add_to(&mut all);
        self.udp.refusals.add_to(&mut all);
        if let Some(api) = self.api.get().and_then(|(api, _)| api.upgrade()) {
            api.refusals.add_to(&mut all);
        }
        for count in Count::REFUSALS {
            all.insert(format!("router.{}", count.name()), router.counts().get(*count));
        }
        all.insert("telemetry.kernel_dropped".to_owned(), u64::from(self.udp.kernel_drops()));
        for (name, webhook) in [("request", webhooks.request), ("telemetry", webhooks.telemetry)] {
            add_webhook(&mut all, name, &webhook);
        }
        let admission = self.tcp.admission.counts();
        for (name, count) in [
            ("evicted_for_its_source", admission.evicted_source_full),
            ("evicted_for_all", admission.evicted_full),
            ("refusal_delayed", admission.delayed_refusals),
        ] {
            all.insert(format!("sessions.{name}"), count);
        }
        all
    }

    fn disk(&self) -> Disk {
        // Not under the lock: a disk that hangs must not stop anybody else.
        let state_dir = lock(&self.facts).state_dir.clone();
        // A folder that cannot be examined shows as a disk of no size.
        let (total, free) = disk_space(&state_dir).unwrap_or_default();
        Disk { total, free }
    }
}

fn shown_alert(up: Up) -> Alert {
    let (name, since) = (up.rule.name().to_owned(), up.since());
    let urgent = up.rule.weight() == Weight::Now;
    Alert { name, subject: up.subject, urgent, sentence: up.sentence, since }
}

fn add_webhook(all: &mut BTreeMap<String, u64>, name: &str, webhook: &WebhookCounters) {
    let causes = webhook.causes;
    for (cause, count) in [
        ("resolve", causes.resolve),
        ("connect", causes.connect),
        ("tls", causes.tls),
        ("timeout", causes.timeout),
        ("disconnected", causes.disconnected),
        ("protocol", causes.protocol),
        ("status", causes.status),
        ("redirect", causes.redirect),
        ("too_large", causes.too_large),
        ("garbage", causes.garbage),
        ("sent_as_binary", webhook.sent_as_binary),
    ] {
        all.insert(format!("webhook_{name}.{cause}"), count);
    }
}

fn object_view(router: &Router, seen: &Seen, uid: Uid, entry: &AccessEntry) -> ObjectView {
    let state = match router.session_state(uid) {
        SessionState::Live => Presence::Live,
        SessionState::Kept => Presence::Kept,
        SessionState::Absent => Presence::Absent,
    };
    let known = seen.get(uid, state == Presence::Live, Instant::now());
    // By the clock of now, since it may have been set meanwhile.
    let told = |when: When| {
        let moment = match when {
            When::Ago(ago) => Timestamp::now() - ago,
            When::At(us) => Timestamp::from_microsecond(us).ok()?,
        };
        let second = Timestamp::from_second(moment.as_second());
        second.ok().map(|second| second.to_string())
    };
    ObjectView {
        uid: uid.as_str().to_owned(),
        group: entry.group.as_str().to_owned(),
        state,
        since: known.and_then(|known| known.changed).map(When::Ago).and_then(told),
        last_seen: known.and_then(|known| known.heard).and_then(told),
        usual_seconds: known.and_then(|known| known.usual),
        expectation: known.and_then(|known| known.expectation),
    }
}

impl Backend for View {
    fn call(&self, uid: Uid, format: Format, payload: Vec<u8>, timeout: Duration) -> Pending<CallAnswer> {
        // The API refuses what is longer than a payload may be.
        let payload = Payload::new(format, &payload).unwrap_or(Payload::EMPTY);
        Box::pin(self.hub.call(uid, payload, timeout))
    }

    fn queue_command(&self, command: NewCommand) -> Pending<Result<MessageId, CommandRefusal>> {
        let queued = self.hub.queue_command(command);
        Box::pin(async move {
            let (id, on_flash) = queued?;
            on_flash.await.map_err(|_: NeverDurable| CommandRefusal::NoRoom)?;
            Ok(id)
        })
    }

    fn group_of(&self, uid: Uid) -> Option<GroupName> {
        self.hub.with_router(|router| router.group_of(uid))
    }

    fn replace_access(&self, items: Vec<AclItem>) -> Pending<Result<(), ReplaceError>> {
        let access = Arc::clone(&self.access);
        Box::pin(async move {
            let count = access.replace(items, "https").await?;
            log::info!("event=access_list_replaced via=https objects={count}");
            Ok(())
        })
    }

    fn objects(&self, after: Option<Uid>, limit: usize, groups: &[GroupName]) -> Vec<ObjectView> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.hub.look_at_objects(|router, seen| {
            router
                .access()
                .range(start)
                .filter(|(_, entry)| groups.is_empty() || groups.contains(&entry.group))
                .take(limit)
                .map(|(uid, entry)| object_view(router, seen, *uid, entry))
                .collect()
        })
    }

    fn object(&self, uid: Uid) -> Option<ObjectView> {
        self.hub.look_at_objects(|router, seen| {
            router.access().get(&uid).map(|entry| object_view(router, seen, uid, entry))
        })
    }

    fn status(&self) -> Status {
        let disk = self.disk();
        let webhooks = self.webhooks.pool().counters();
        let commands = self.hub.waiting_commands() as u64;
        let mut status = self.hub.look(|Glance { router, central, recorded, .. }| {
            let counts = router.counts();
            let (live, kept) = router.session_counts();
            let (calls, requests) = router.pending_calls();
            let books = central.books().sum();
            let (bytes, limit) = self.journal.backlog(central.position());
            let messages = books.waiting();
            // Behind its place may be much that is not for the central.
            let queue = Queue { messages, bytes: if messages > 0 { bytes } else { 0 }, limit, commands };
            Status {
                sessions: Sessions {
                    live: live as u64,
                    kept: kept as u64,
                    central: router.session_state(Uid::CENTRAL) == SessionState::Live,
                    logins: counts.get(Count::LoginsAccepted),
                    ..Sessions::default()
                },
                calls: Calls {
                    pending: (calls + requests) as u64,
                    answered: counts.get(Count::CallsAnswered) + counts.get(Count::RequestsAnswered),
                    not_found: counts.get(Count::CallsNotFound) + counts.get(Count::RequestsNotFound),
                    timed_out: counts.get(Count::CallsTimedOut) + counts.get(Count::RequestsTimedOut),
                    abandoned: counts.get(Count::CallsAbandoned),
                },
                books: Books::of(central.books()),
                recorded: recorded.iter().map(|(kind, count)| (kind.name(), *count)).collect(),
                refusals: self.refusals(router, &webhooks),
                disk,
                queue,
                ..Status::default()
            }
        });
        self.add_what_needs_no_lock(&mut status, &webhooks);
        status
    }

    fn audit(&self, deed: Deed<'_>) {
        self.hub.audit(deed);
    }

    fn ready(&self) -> Result<(), &'static str> {
        if self.is_draining.load(Ordering::Relaxed) {
            return Err("stopping");
        }
        if self.hub.heartbeats.stopped().is_empty() { Ok(()) } else { Err("hanging") }
    }

    fn dead_letters(&self) -> DeadLetterList {
        destinations::dead_letters(&self.hub)
    }

    fn steer(
        &self,
        subscriber: &str,
        from: Seq,
        to: Seq,
        work: Steered,
    ) -> Option<Pending<Result<u64, NeverDurable>>> {
        destinations::steer(&self.hub, subscriber, from, to, work)
    }

    fn heartbeats(&self) -> Option<&Heartbeats> {
        Some(&self.hub.heartbeats)
    }
}

impl View {
    fn add_what_needs_no_lock(&self, status: &mut Status, webhooks: &Counters) {
        status.version = env!("CARGO_PKG_VERSION").to_owned();
        let uptime = self.started.elapsed();
        status.uptime_seconds = uptime.as_secs();
        status.ready = self.ready().is_ok();
        status.rates = lock(&self.rates).rates();
        status.sessions.unauthenticated = self.tcp.admission.unauthenticated() as u64;
        let api = self.api.get().map_or(0, |(_, server)| lock(server).connections());
        status.sessions.by_listener = BTreeMap::from([
            ("sessions".to_owned(), self.tcp.admission.connections() as u64),
            ("api".to_owned(), api as u64),
        ]);
        status.backup = self.nightly.get().and_then(Weak::upgrade).map(|nightly| nightly.status());
        status.availability = *lock(&self.availability);
        status.second_tries = self.hub.second_tries();
        status.clock_is_set = self.journal.knows_time();
        status.alerts = self.hub.alerts.up().into_iter().map(shown_alert).collect();
        status.latency = self.hub.meters.read();
        status.certificate = self.tcp.certificates.not_after().map(|end| Certificate {
            not_after: end.to_string(),
            days_left: end.duration_since(Timestamp::now()).as_hours().div_euclid(24),
        });
        let payload = self.hub.look(|glance| glance.front.payload_bytes());
        let facts = lock(&self.facts);
        status.environment = facts.environment.to_owned();
        let work = Work { uptime, payload };
        status.wear = wear::wear(work, status.disk.total, facts.medium.as_ref());
        let way = CentralWay {
            session: status.sessions.central,
            webhook: facts.has_telemetry_webhook,
            is_failing: webhooks.telemetry.is_failing,
            failures: webhooks.telemetry.jobs.failed,
        };
        let books = &status.books;
        status.destinations = vec![destinations::central(way, books.waiting, books.delivered, &status.rates)];
        status.destinations.extend(lock(&self.subscribers).subscribers(&self.hub));
    }
}
