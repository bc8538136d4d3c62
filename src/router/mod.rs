//! Who may do what, and which answer belongs to whom. Pure, one owner: `handle(now, Command, &mut Effects)`.
//!
//! The router holds the access list, the sessions (live, kept, being replaced), the telemetry tokens and every
//! call that awaits its answer, in both directions. It knows no clock, no socket and no randomness: time is an
//! argument, everything else goes through [`Effects`]. What it promises, each held by `tests/router_world.rs`:
//! every call is answered exactly once; an answer is taken only from the object that was asked; nothing crosses
//! from one object to another; memory is bounded by the limits in [`crate::limits`].
//!
//! It survives the end of its process: what must not be forgotten is told as [`Fact`]s and [`CallChange`]s, and comes
//! back through [`Router::restore`].
//!
//! One file a concern: `login` (sessions begin, pass over, end), `calls` (requests to objects, and what both
//! directions share), `requests` (those of objects), `telemetry` (tokens and datagrams), `ingested` (what partner networks
//! bring), `presence` (where
//! transmissions for a peer go), `timers`, `recording` (which calls the journal does not know as they are), `restore`,
//! `ended` (what is told of calls for the record), `handover` (what a newer process gets and what it does not).

pub mod access;
mod calls;
mod count;
mod effects;
mod ended;
mod facts;
mod handover;
mod ingested;
mod login;
mod presence;
mod probe;
mod recording;
mod requests;
mod restore;
mod status;
mod telemetry;
mod timers;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::net::AllowFrom;
use crate::payload_json;
use crate::wire::{AuthKey, GroupName, Payload, Token, Uid};
use access::AccessList;
use calls::Call;
pub use count::{Count, Counts};
pub use effects::{Answer, CentralSession, Effects, LoginRefusal, WebhookRefusal, WebhookRequest};
pub use ended::{AccessChange, AskedBy, CallEnd, CallRecords, Outcome, Side};
pub use facts::{About, CallChange, Fact, PendingCall, Restored, RestoredSession, RestoredToken, Waits, Way};
use ingested::Allowances;
use presence::Presence;
pub use presence::{Queued, Tag};
use probe::Probe;
use recording::{Listed, Noted, Recording};
use requests::Asked;
pub use status::{SessionState, Sizes};
use telemetry::TokenEntry;
use timers::{Timer, Timers};

/// Names one connection for as long as the program runs.
pub type ConnectionId = u64;
/// Names one call that came over HTTP.
pub type Ticket = u64;
/// Tells two calls apart that had the same tracking number one after the other.
pub type Serial = u64;

/// What the configuration says about rights and times.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The central's secret.
    pub central_key: AuthKey,
    /// Longest wait for an answer over TCP.
    pub request_timeout: Duration,
    /// How long a session waits for its peer's return.
    pub keep_session: Duration,
    /// Longest wait for the request webhook's answer; `None`: there is no request webhook.
    pub webhook_timeout: Option<Duration>,
    /// What is told of calls that are over.
    pub calls: CallRecords,
    /// Networks that telemetry is taken from.
    pub telemetry_allow_from: AllowFrom,
    /// The groups that the access list may name.
    pub groups: HashMap<GroupName, Group>,
}

/// The rights of a group's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Whether they may send telemetry.
    pub telemetry: bool,
    /// Life of a telemetry token.
    pub token_ttl: Duration,
    /// Whether payloads that are not what their format says are refused.
    pub validate: bool,
    /// Longest payload, in bytes of data.
    pub max_payload: usize,
    /// Messages and requests a second of one object; 0: no limit.
    pub rate: u32,
    /// Networks they may come from.
    pub allow_from: AllowFrom,
}

/// A connection and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The connection.
    pub connection: ConnectionId,
    /// Who proved itself on it.
    pub uid: Uid,
}

/// A login whose proof was right for this key.
#[derive(Debug, Clone, Copy)]
pub struct Login {
    /// The connection.
    pub connection: ConnectionId,
    /// Who it is.
    pub uid: Uid,
    /// The key that the proof was checked against.
    pub key: AuthKey,
    /// Where it comes from.
    pub source: IpAddr,
    /// Largest transmission it takes; 0: no limit stated.
    pub largest: u16,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The session is kept for its peer's return.
    Kept,
    /// The session is over.
    Ended,
}

/// What happened in the world.
#[derive(Debug)]
pub enum Command<'a> {
    /// A peer proved itself.
    Login(Login),
    /// A connection of a peer is gone; `unsent` was not written whole to it, in order.
    Disconnected {
        /// Which.
        origin: Origin,
        /// What becomes of the session.
        ending: Ending,
        /// What was not handed over.
        unsent: Vec<Queued>,
    },
    /// A request came over TCP; `uid` is the object that the central names.
    Request {
        /// Who asks.
        origin: Origin,
        /// The object to ask, from the central.
        uid: Option<Uid>,
        /// The creator's tracking number.
        number: u16,
        /// What is asked.
        payload: Payload<'a>,
    },
    /// A response came over TCP.
    Response {
        /// Who answers.
        origin: Origin,
        /// The object that asked, from the central.
        uid: Option<Uid>,
        /// The request's tracking number.
        number: u16,
        /// The response code.
        code: u8,
        /// The answer.
        payload: Payload<'a>,
    },
    /// A request came over HTTP.
    HttpRequest {
        /// To be given back with the answer.
        ticket: Ticket,
        /// The object to ask.
        uid: Uid,
        /// What is asked.
        payload: Payload<'a>,
        /// When the caller stops waiting.
        deadline: Instant,
    },
    /// The HTTP caller went away.
    HttpAbandoned {
        /// Its call.
        ticket: Ticket,
    },
    /// The request webhook answered, or failed (`None`).
    WebhookAnswered {
        /// The object that asked.
        uid: Uid,
        /// Its tracking number.
        number: u16,
        /// As given with the request.
        serial: Serial,
        /// Code and payload.
        answer: Option<(u8, Payload<'a>)>,
    },
    /// A new access list is on disk and takes effect now.
    ReplaceAccess(AccessList),
    /// The configuration changed.
    Reconfigure(Box<Settings>),
    /// There is a made-up object from now on, of the group without a name; or none any more.
    Probe(Option<(Uid, AuthKey)>),
    /// Time passed.
    Tick,
}

/// A telemetry datagram that was taken: whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenTelemetry {
    /// The object.
    pub uid: Uid,
    /// Its group.
    pub group: GroupName,
}

/// Everything known of one peer, the central included (under the empty UID).
#[derive(Debug, Default)]
struct Peer {
    presence: Presence,
    /// The newest telemetry tokens, oldest first; one of them at least is valid.
    tokens: heapless::Deque<Token, { crate::limits::TOKENS_PER_OBJECT_MAX }>,
    /// When the newest token is renewed.
    renewal: Option<Instant>,
    /// Requests that this object was asked and has not answered, by the number on its side.
    calls: HashMap<u16, Call>,
    /// Requests that this object made and that are not answered, by its number.
    asked: HashMap<u16, Asked>,
    /// When the object's rate allowance is used up to (generic cell rate algorithm).
    allowance: Option<Instant>,
}

impl Peer {
    fn is_forgettable(&self) -> bool {
        matches!(self.presence, Presence::Absent)
            && self.tokens.is_empty()
            && self.calls.is_empty()
            && self.asked.is_empty()
    }
}

/// The one owner of rights, sessions, tokens and pending calls.
#[derive(Debug)]
pub struct Router {
    settings: Settings,
    access: AccessList,
    peers: HashMap<Uid, Peer>,
    tokens: HashMap<Token, TokenEntry>,
    /// Pending requests of the central's session, by its number: the object and the number on its side.
    central_numbers: HashMap<u16, (Uid, u16)>,
    /// Pending HTTP calls: the object and the number on its side.
    http_calls: HashMap<Ticket, (Uid, u16)>,
    /// Requests of all objects that are not answered.
    asked_total: usize,
    timers: Timers,
    counts: Counts,
    last_serial: Serial,
    recording: Recording,
    ingested: Allowances,
    probe: Option<Box<Probe>>,
}

impl Router {
    /// A router with this access list and nobody connected.
    pub fn new(settings: Settings, access: AccessList) -> Self {
        Self {
            settings,
            access,
            peers: HashMap::new(),
            tokens: HashMap::new(),
            central_numbers: HashMap::new(),
            http_calls: HashMap::new(),
            asked_total: 0,
            timers: Timers::default(),
            counts: Counts::default(),
            last_serial: 0,
            recording: Recording::default(),
            ingested: Allowances::default(),
            probe: None,
        }
    }

    /// Takes in what happened and says through `effects` what follows from it.
    pub fn handle(&mut self, now: Instant, command: Command<'_>, effects: &mut impl Effects) {
        match command {
            Command::Login(login) => self.login(now, login, effects),
            Command::Disconnected { origin, ending, unsent } => {
                self.disconnected(now, origin, ending, unsent, effects);
            }
            Command::Request { origin, uid, number, payload } => {
                if self.speaks(origin) {
                    match (origin.uid.is_central(), uid) {
                        (true, Some(object)) => self.central_asks(now, object, number, payload, effects),
                        (false, None) => self.object_asks(now, origin.uid, number, payload, effects),
                        // The session ended whoever speaks for another.
                        (true, None) | (false, Some(_)) => {}
                    }
                }
            }
            Command::Response { origin, uid, number, code, payload } => {
                if self.speaks(origin) {
                    match (origin.uid.is_central(), uid) {
                        (true, Some(object)) => {
                            self.central_answers(object, number, code, payload, effects);
                        }
                        (false, None) => self.object_answers(origin.uid, number, code, payload, effects),
                        (true, None) | (false, Some(_)) => {}
                    }
                }
            }
            Command::HttpRequest { ticket, uid, payload, deadline } => {
                self.http_asks(now, ticket, uid, payload, deadline, effects);
            }
            Command::HttpAbandoned { ticket } => self.http_abandons(ticket, effects),
            Command::WebhookAnswered { uid, number, serial, answer } => {
                self.webhook_answers(uid, number, serial, answer, effects);
            }
            Command::ReplaceAccess(list) => self.replace_access(list, effects),
            Command::Reconfigure(settings) => self.reconfigure(now, *settings, effects),
            Command::Probe(probe) => self.set_probe(probe, effects),
            Command::Tick => {}
        }
        self.handle_timers(now, effects);
    }

    /// When [`Command::Tick`] is due at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The key that a UID must prove to have; `None`: nobody knows it.
    pub fn key_of(&self, uid: Uid) -> Option<AuthKey> {
        if uid.is_central() {
            return Some(self.settings.central_key);
        }
        let probe = self.probe.as_deref().filter(|probe| probe.uid == uid);
        self.access.get(&uid).map(|entry| entry.key).or(probe.map(|probe| probe.key))
    }

    /// The group of an object that the access list knows.
    pub fn group_of(&self, uid: Uid) -> Option<GroupName> {
        self.access.get(&uid).map(|entry| entry.group)
    }

    /// The access list in force.
    pub fn access(&self) -> &AccessList {
        &self.access
    }

    /// The groups of the configuration.
    pub fn groups(&self) -> impl Iterator<Item = GroupName> {
        self.settings.groups.keys().copied()
    }

    /// What was counted since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Does what is due.
    fn handle_timers(&mut self, now: Instant, effects: &mut impl Effects) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Call { uid, number } => self.call_timed_out(uid, number, effects),
                Timer::Asked { uid, number } => self.asked_timed_out(uid, number, effects),
                Timer::KeepEnd(uid) => self.keep_time_over(uid, effects),
                Timer::TokenExpiry(token) => self.token_expired(token),
                Timer::TokenRenewal(uid) => self.renew_token(now, uid, effects),
            }
        }
    }

    /// Whether this connection is the peer's own: its live one, or the one that is just being replaced, whose last
    /// words were said before its successor's first.
    fn speaks(&self, origin: Origin) -> bool {
        self.peers.get(&origin.uid).is_some_and(|peer| peer.presence.is_of(origin.connection))
    }

    fn next_serial(&mut self) -> Serial {
        self.last_serial += 1;
        self.last_serial
    }

    fn group(&self, uid: Uid) -> Option<(GroupName, &Group)> {
        Self::rights(&self.access, &self.settings, self.probe.as_deref(), uid)
    }

    /// The same, for who changes something else of the router meanwhile.
    fn rights<'a>(
        access: &AccessList,
        settings: &'a Settings,
        probe: Option<&'a Probe>,
        uid: Uid,
    ) -> Option<(GroupName, &'a Group)> {
        match (access.get(&uid), probe) {
            (Some(entry), _) => Some((entry.group, settings.groups.get(&entry.group)?)),
            (None, Some(probe)) if probe.uid == uid => Some((GroupName::NONE, &probe.group)),
            (None, _) => None,
        }
    }

    /// Whether an object may be asked this at all: it has a group, whose rules take the payload.
    pub fn may_be_asked(&self, uid: Uid, payload: Payload<'_>) -> Result<(), Count> {
        let (_, group) = self.group(uid).ok_or(Count::CallsNotFound)?;
        Self::takes_payload(group, payload)
    }

    /// Whether the group's rules take this payload.
    fn takes_payload(group: &Group, payload: Payload<'_>) -> Result<(), Count> {
        if payload.data().len() > group.max_payload {
            return Err(Count::PayloadTooLarge);
        }
        if group.validate && !payload_json::is_valid(payload.format(), payload.data()) {
            return Err(Count::PayloadNotItsFormat);
        }
        Ok(())
    }

    /// Uses one message of the object's rate; `false`: too many.
    fn within_rate(allowance: &mut Option<Instant>, rate: u32, now: Instant) -> bool {
        /// An object that was quiet may send this much of its rate at once.
        const BURST: Duration = Duration::from_secs(1);
        if rate == 0 {
            return true;
        }
        let start = allowance.map_or(now, |used_up_to| used_up_to.max(now));
        if start.saturating_duration_since(now) >= BURST {
            return false;
        }
        *allowance = Some(start + BURST / rate);
        true
    }

    fn forget_if_empty(&mut self, uid: Uid) {
        if self.peers.get(&uid).is_some_and(Peer::is_forgettable) {
            self.peers.remove(&uid);
        }
    }
}
