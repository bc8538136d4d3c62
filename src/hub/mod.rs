//! The one owner of router, messages and delivery, and what carries their effects to connections.
//!
//! Every endpoint calls in here; everything decided in one call is queued before the lock is given back, so the
//! order in which things happened is the order in which peers see them. Nothing in here waits: queues are bounded
//! memory, tasks are woken after the lock is released.

pub mod access_file;
pub mod access_keeper;
pub mod alerts;
pub mod auditing;
pub mod backend;
pub mod commands;
mod dispatch;
pub mod durable;
mod expecting;
pub mod file_stamp;
mod glance;
mod handover;
pub mod heartbeats;
pub mod history;
mod http_call;
pub mod ingesting;
pub mod intake;
mod keeping;
pub mod latency;
mod leaving;
pub mod outbox;
pub mod own_file;
pub mod recorded_calls;
pub mod recording;
mod rights;
pub mod second_tries;
pub mod seen;
pub mod status;
pub mod subscribers;
#[cfg(test)]
pub mod testing;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::delivery::central::Central;
use crate::delivery::commands::{Commands, Outcome};
use crate::journal::Seq;
use crate::journal::record::{Kind as MessageKind, Message, State, Via};
use crate::journal::stamp::MessageId;
use crate::journal::state::Small;
use crate::limits::TELEMETRY_WINDOW;
use crate::router::access::{AccessList, WeakObjects};
use crate::router::{
    Command, ConnectionId, Count, Ending, Fact, Login, Origin, Queued, Router, Settings, Ticket,
    WebhookRefusal, WebhookRequest,
};
use crate::wire::{AuthKey, Datagram, Format, Payload, Transmission, Uid};
use commands::CommandDesk;
use dispatch::{Dispatch, open_sessions};
pub use glance::Glance;
use http_call::Slot;
pub use http_call::{CallAnswer, HttpCall};
use keeping::Log;
pub use keeping::{Keeper, Keeping, Taken, Urgency};
pub use leaving::{Lost, WrittenOff};
use outbox::{Kind, Outbox};
use subscribers::Subscribers;

/// A lock whose holder panicked is still taken: the release build aborts on a panic, and a test that panics has
/// failed already.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What carries requests and telemetry to the central's webhooks. Calls only queue.
pub trait WebhookSink: Send + Sync {
    /// Queues an object's request.
    fn request(&self, request: WebhookRequest<'_>) -> Result<(), WebhookRefusal>;
    /// Queues a telemetry message; `false`: no room.
    fn telemetry(&self, uid: Uid, seq: Seq, format: Format, data: &[u8]) -> bool;
    /// Gives back what is queued and not under way, in no order; what is under way reports for itself.
    fn recall_telemetry(&self) -> Vec<Seq>;
    /// Whether one more telemetry message would be taken.
    fn has_telemetry_room(&self) -> bool;
    /// Queues the outcome of a command; `false`: no room.
    fn result(&self, uid: Uid, seq: Seq, id: MessageId, outcome: &Outcome) -> bool;
}

/// Everything that changes together.
struct Core {
    router: Router,
    log: Log,
    desk: CommandDesk,
    central: Central,
    subscribers: Subscribers,
    connections: HashMap<ConnectionId, Arc<Outbox>>,
    slots: HashMap<Ticket, Arc<Slot>>,
    seen: seen::Seen,
    auditing: auditing::Auditing,
    ingest: ingesting::IngestDesk,
    tries: second_tries::TriesDesk,
    weak_objects: WeakObjects,
    last_id: u64,
    /// The moment for which the timer task sleeps; `None`: it waits to be told.
    timer_armed: Option<Instant>,
    timer_waker: Option<Waker>,
}

/// The owner; cheap to share.
pub struct Hub {
    core: Mutex<Core>,
    webhooks: std::sync::OnceLock<Arc<dyn WebhookSink>>,
    random: ring::rand::SystemRandom,
    /// How long things take.
    pub meters: latency::Meters,
    /// Whether the loops turn.
    pub heartbeats: heartbeats::Heartbeats,
    /// What is wrong.
    pub alerts: alerts::Alerts,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hub")
    }
}

/// Several things that happen at once, under one lock. Dropped, it wakes who has to act.
pub struct Turn<'a> {
    hub: &'a Hub,
    core: MutexGuard<'a, Core>,
    wakes: Vec<Waker>,
    now: Instant,
}

impl std::fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Turn")
    }
}

impl Hub {
    /// A hub with nobody connected, on this journal.
    pub fn new(
        settings: Settings,
        access: AccessList,
        keeping: Keeping<'_>,
        telemetry_webhook: bool,
        result_webhook: bool,
    ) -> Arc<Self> {
        let desk = CommandDesk::new(Commands::new(keeping.small, result_webhook));
        let central = Central::new(telemetry_webhook, keeping.small);
        let small = keeping.small;
        let hub = Arc::new(Self {
            core: Mutex::new(Core {
                weak_objects: access.weak_objects(),
                router: Router::new(settings, access),
                log: Log::new(keeping),
                desk,
                central,
                subscribers: Subscribers::default(),
                connections: HashMap::new(),
                slots: HashMap::new(),
                seen: seen::Seen::new(Instant::now()),
                auditing: auditing::Auditing::new(small.audit()),
                ingest: ingesting::IngestDesk::default(),
                tries: second_tries::TriesDesk::default(),
                last_id: 0,
                timer_armed: None,
                timer_waker: None,
            }),
            webhooks: std::sync::OnceLock::new(),
            random: ring::rand::SystemRandom::new(),
            meters: latency::Meters::default(),
            heartbeats: heartbeats::Heartbeats::default(),
            alerts: alerts::Alerts::default(),
        });
        hub.restore_alerts(small);
        hub.turn(Instant::now()).restore(small);
        hub
    }

    /// Connects the webhook workers, once, before the first peer comes. They get what waits from before the start.
    pub fn set_webhooks(&self, sink: Arc<dyn WebhookSink>) {
        let _only_once = self.webhooks.set(sink);
        self.pump();
    }

    /// Begins a turn.
    pub fn turn(&self, now: Instant) -> Turn<'_> {
        Turn { hub: self, core: lock(&self.core), wakes: Vec::new(), now }
    }

    /// A number for a new connection.
    pub fn connection_id(&self) -> ConnectionId {
        lock(&self.core).fresh_id()
    }

    /// The key that a UID must prove to have.
    pub fn key_of(&self, uid: Uid) -> Option<AuthKey> {
        lock(&self.core).router.key_of(uid)
    }

    /// Asks an object on behalf of an HTTP caller.
    pub fn call(self: &Arc<Self>, uid: Uid, payload: Payload<'_>, timeout: Duration) -> HttpCall {
        let now = Instant::now();
        let slot = Arc::new(Slot::default());
        let mut turn = self.turn(now);
        let ticket = turn.core.fresh_id();
        turn.core.slots.insert(ticket, Arc::clone(&slot));
        turn.handle(Command::HttpRequest { ticket, uid, payload, deadline: now + timeout });
        drop(turn);
        HttpCall { hub: Arc::clone(self), ticket, slot, done: false }
    }

    fn abandon(&self, ticket: Ticket) {
        let mut turn = self.turn(Instant::now());
        turn.core.slots.remove(&ticket);
        turn.handle(Command::HttpAbandoned { ticket });
    }

    /// Puts a new access list in force, which came this way. It is on disk already.
    pub fn replace_access(&self, list: AccessList, by: &str) {
        let weak_objects = list.weak_objects();
        let mut turn = self.turn(Instant::now());
        turn.core.weak_objects = weak_objects;
        let (before, after) = (turn.core.router.access().len(), list.len());
        turn.handle(Command::ReplaceAccess(list));
        let detail = format!("{before} objects before, {after} after");
        turn.audit(auditing::Deed { who: by, ..auditing::Deed::own(auditing::What::AccessList, &detail) });
        let Core { router, seen, .. } = &mut *turn.core;
        seen.regroup(|uid| router.group_of(uid));
    }

    /// Puts a new configuration in force.
    pub fn reconfigure(
        &self,
        settings: Settings,
        durable_only: bool,
        telemetry_webhook: bool,
        result_webhook: bool,
    ) {
        let mut turn = self.turn(Instant::now());
        turn.set_result_webhook(result_webhook);
        turn.core.log.durable_only = durable_only;
        turn.core.central.set_webhook(telemetry_webhook);
        turn.handle(Command::Reconfigure(Box::new(settings)));
        turn.pump();
    }

    /// The objects whose keys everybody knows.
    pub fn weak_objects(&self) -> WeakObjects {
        lock(&self.core).weak_objects
    }

    /// Orders every connection of a peer to close with this code.
    pub fn close_all(&self, code: crate::wire::CloseCode) {
        let wakes: Vec<_> = {
            let core = lock(&self.core);
            core.connections.values().filter_map(|outbox| outbox.order_close(code)).collect()
        };
        wakes.into_iter().for_each(Waker::wake);
    }

    /// Answers every held HTTP call "timed out".
    pub fn time_out_http_calls(&self) {
        let mut turn = self.turn(Instant::now());
        let tickets: Vec<_> = turn.core.slots.keys().copied().collect();
        for ticket in tickets {
            if let Some(slot) = turn.core.slots.remove(&ticket) {
                let answer = CallAnswer {
                    code: crate::wire::RESPONSE_TIMED_OUT,
                    format: Format::Binary,
                    payload: Vec::new(),
                    made_here: true,
                };
                turn.wakes.extend(slot.fill(answer));
                turn.handle(Command::HttpAbandoned { ticket });
            }
        }
    }

    /// Number of connections with a peer behind them, and of HTTP calls that are held.
    pub fn open_counts(&self) -> (usize, usize) {
        let core = lock(&self.core);
        (core.connections.len(), core.slots.len())
    }

    /// The moment at which time must be told to have passed. Registers to be woken when it moves closer.
    pub fn poll_deadline(&self, waker: &Waker) -> Option<Instant> {
        let mut core = lock(&self.core);
        core.timer_armed = core.router.next_deadline();
        core.timer_waker = Some(waker.clone());
        core.timer_armed
    }

    /// Time passed.
    pub fn tick(&self) {
        self.turn(Instant::now()).handle(Command::Tick);
    }

    /// The request webhook answered, or failed (`None`).
    pub fn webhook_answered(&self, uid: Uid, number: u16, serial: u64, answer: Option<(u8, Payload<'_>)>) {
        self.turn(Instant::now()).handle(Command::WebhookAnswered { uid, number, serial, answer });
    }

    /// The telemetry webhook took a message.
    pub fn webhook_delivered(&self, seq: Seq) {
        let mut turn = self.turn(Instant::now());
        turn.core.central.webhook_delivered(seq);
        turn.pump();
    }

    /// The workers gave a message back undelivered.
    pub fn webhook_returned(&self, seq: Seq) {
        let mut turn = self.turn(Instant::now());
        turn.core.central.webhook_returned(seq);
        turn.pump();
    }

    /// The workers or the central's connection have room again.
    pub fn pump(&self) {
        self.turn(Instant::now()).pump();
    }
}

impl Turn<'_> {
    /// Hands a command to the router and carries out what follows.
    pub fn handle(&mut self, command: Command<'_>) {
        self.note_words(&command);
        self.route(|router, now, effects| router.handle(now, command, effects));
    }

    /// Takes over what the journal knows of sessions, tokens and calls of earlier processes.
    fn restore(&mut self, small: &Small) {
        let clocks = self.core.log.clocks(self.now);
        let floor = u64::try_from(clocks.wall_us).unwrap_or(0);
        let (mut restored, unreadable) = recording::restored(small, clocks, floor);
        let ended = rights::take_out(&mut restored, small, &self.core.router);
        self.core.log.note_restored(&unreadable, &ended);
        self.route(|router, now, effects| router.restore(now, restored, effects));
    }

    /// Has the router do something, and carries out what follows.
    fn route(&mut self, work: impl FnOnce(&mut Router, Instant, &mut Dispatch<'_>)) {
        let core = &mut *self.core;
        let mut dispatch = Dispatch {
            connections: &mut core.connections,
            slots: &mut core.slots,
            webhooks: self.hub.webhooks.get().map(Arc::as_ref),
            random: &self.hub.random,
            meters: &self.hub.meters,
            wakes: &mut self.wakes,
            central_changed: None,
            admitted: Vec::new(),
            log: &mut core.log,
            desk: &mut core.desk,
            command_answers: Vec::new(),
            sessions: Vec::new(),
            token: None,
            now: self.now,
        };
        work(&mut core.router, self.now, &mut dispatch);
        let Dispatch { sessions, admitted, central_changed, command_answers, .. } = dispatch;
        core.log.note_sessions(&sessions, &mut core.router, self.now, &mut self.wakes);
        // A restart must know of a session before its peer does: what waited for it must not come twice.
        core.log.hold_all(&admitted);
        open_sessions(&admitted, &mut self.wakes);
        if let Some(session) = central_changed {
            core.central.set_session(session);
            if let (Some(_), Some(webhooks)) = (session, self.hub.webhooks.get()) {
                for seq in webhooks.recall_telemetry() {
                    core.central.webhook_returned(seq);
                }
            }
            self.pump();
        }
        for (uid, seq, answer) in command_answers {
            self.command_answered(uid, seq, answer);
        }
        for fact in sessions {
            match fact {
                Fact::SessionLive { uid } => self.start_command(uid),
                Fact::SessionEnded { uid } => self.stop_command(uid),
                Fact::SessionKept { .. } | Fact::TokenIssued { .. } | Fact::TokensEnded { .. } => {}
            }
        }
        let next = self.core.router.next_deadline();
        if next.is_some_and(|next| self.core.timer_armed.is_none_or(|armed| next < armed)) {
            self.wakes.extend(self.core.timer_waker.take());
        }
    }

    /// A peer proved itself on this connection; what was decided shows in the outbox.
    pub fn login(&mut self, login: Login, outbox: &Arc<Outbox>) {
        self.core.connections.insert(login.connection, Arc::clone(outbox));
        self.handle(Command::Login(login));
    }

    /// The connection is gone.
    pub fn disconnected(&mut self, origin: Origin, ending: Ending, unsent: Vec<Queued>) {
        self.core.connections.remove(&origin.connection);
        self.handle(Command::Disconnected { origin, ending, unsent });
    }

    /// Takes a telemetry datagram, or says why not; delivery follows at [`Turn::pump`].
    pub fn telemetry(&mut self, datagram: &Datagram<'_>, source: IpAddr) -> Result<(), Count> {
        let core = &mut *self.core;
        let taken = core.router.telemetry(self.now, datagram, source)?;
        let payload = datagram.payload;
        if taken.group == crate::wire::GroupName::NONE {
            self.probe_sent(taken.uid, payload);
            return Ok(());
        }
        let is_of_two = core.seen.sent(taken.uid, taken.group, Some(source), self.now);
        let message = Message {
            uid: taken.uid,
            group: taken.group,
            kind: MessageKind::Telemetry,
            via: Via::Udp,
            format: payload.format(),
            state: State::Waiting,
            source: None,
            network: None,
            payload: payload.data().into(),
        };
        match core.log.append(message) {
            Ok(_) => core.central.received(taken.group),
            // It is in the books; nobody can be told by datagram.
            Err(_) => core.central.refused(taken.group),
        }
        if is_of_two {
            self.tell_two_addresses(taken.uid, source);
        }
        Ok(())
    }

    /// The pong behind a window of telemetry came.
    pub fn acknowledged(&mut self, connection: ConnectionId, seq: Seq) {
        self.core.central.acknowledged(connection, seq);
        self.pump();
    }

    /// Moves messages on, as far as the open way has room.
    pub fn pump(&mut self) {
        let core = &mut *self.core;
        let source = core.log.source();
        if let Some(connection) = core.central.connection() {
            let Some(outbox) = core.connections.get(&connection) else { return };
            while outbox.outstanding() < TELEMETRY_WINDOW {
                let Some(telemetry) = core.central.next_for_session(source) else { break };
                self.wakes.extend(outbox.push(Kind::Passing, telemetry));
            }
            if let Some(seq) = core.central.next_ping() {
                self.wakes.extend(outbox.push(Kind::Ping(Some(seq)), Transmission::Ping));
            }
        } else if let Some(webhooks) = self.hub.webhooks.get() {
            while webhooks.has_telemetry_room() {
                let Some((seq, message)) = core.central.next_for_webhook(source) else { break };
                if !webhooks.telemetry(message.uid, seq, message.format, &message.payload) {
                    core.central.webhook_returned(seq);
                    break;
                }
            }
        }
        if let Some(from) = core.central.take_read() {
            core.log.read(from);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Core { log, central, subscribers, .. } = &mut *self.core;
        self.hub.meters.arrived(central.take_arrived(), log);
        log.ring(|| central.has_progress() || subscribers.has_progress());
        // Woken tasks may run at once on another thread; they find the lock free a moment later.
        for waker in self.wakes.drain(..) {
            waker.wake();
        }
    }
}

impl Core {
    fn fresh_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}
