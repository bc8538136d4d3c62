//! A world around the router: peers, callers, webhooks and a clock, all driven by one random number generator.
//!
//! The world keeps books of its own: `ledger` knows every call, [`World`] knows how each peer stands, and `check`
//! holds each thing that the router does against them. `acts` and `asks` are what may happen; `flash` is what a
//! restart finds.

mod acts;
mod asks;
mod check;
mod flash;
mod ledger;
mod peers;
mod rng;
mod turn;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use iotsocketd::net::AllowFrom;
use iotsocketd::router::{
    CallRecords, ConnectionId, Ending, Group, Router, Serial, Settings, Sizes, Tag, Ticket,
};
use iotsocketd::wire::{AuthKey, GroupName, Token, Uid};

use crate::effects::Recorder;
use flash::Flash;
use ledger::{Asker, CallId, Ledger, PeerId};
use rng::Rng;

pub const OBJECTS: usize = 6;
pub const GROUPS: [&str; 3] = ["plain", "strict", "mute"];
pub const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
pub const ABROAD: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub const TOKEN_TTL: Duration = Duration::from_secs(100);

/// What stands in an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Token,
    Request(CallId),
    Answer(CallId),
}

#[derive(Debug)]
pub struct Item {
    pub what: What,
    pub tag: Tag,
    pub bytes: Box<[u8]>,
}

/// A connection, from its login to the moment that the router hears of its end.
#[derive(Debug)]
pub struct Conn {
    pub peer: PeerId,
    pub largest: usize,
    pub items: VecDeque<Item>,
    pub is_admitted: bool,
    pub wants_token: bool,
    /// The peer neither reads nor speaks any more.
    pub is_dead: bool,
    /// The router wants it closed, and what becomes of the session then.
    pub told: Option<Ending>,
}

/// How a peer stands, by the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Absent,
    Live(ConnectionId),
    Kept(Instant),
    Replaced { old: ConnectionId, next: Option<ConnectionId> },
}

/// A request that a peer got: from whom (an object, for the central), its number, and which it was.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    pub object: PeerId,
    pub number: u16,
    pub call: CallId,
}

#[derive(Debug)]
pub struct Peer {
    pub uid: Uid,
    pub presence: Presence,
    /// What its last connection did not hand over, in order.
    pub limbo: VecDeque<Item>,
    /// No fewer bytes than wait for it in the router.
    pub waiting_bytes: usize,
    /// Valid tokens and their ends, oldest first.
    pub tokens: VecDeque<(Token, Instant)>,
    pub renewal: Option<Instant>,
    /// Which of its sessions this is; a session that ends for good ends the number.
    pub session: u32,
    /// Requests that it got and may answer.
    pub inbox: Vec<Heard>,
}

/// What the access list says of an object: group and key by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub group: usize,
    pub key: u8,
}

pub struct World {
    pub seed: u64,
    pub step: usize,
    rng: Rng,
    now: Instant,
    router: Router,
    recorder: Recorder,
    settings: Settings,
    access: [Option<Entry>; OBJECTS + 1],
    peers: Vec<Peer>,
    by_uid: HashMap<Uid, PeerId>,
    conns: BTreeMap<ConnectionId, Conn>,
    ledger: Ledger,
    /// What a restart would find.
    flash: Flash,
    /// Calls by the serial that the router gave them.
    serials: HashMap<Serial, CallId>,
    /// Calls that the webhook has.
    webhook: Vec<(CallId, Serial)>,
    all_tokens: Vec<Token>,
    last_connection: ConnectionId,
    last_ticket: Ticket,
    /// Counts what happens, to tell orders apart.
    event: u64,
    /// Calls whose asker must have its answer when the turn is over, if it can be seen.
    must_show: Vec<CallId>,
    /// Connections that had no room in this turn.
    full: Vec<ConnectionId>,
    /// Large payloads happen in this world: queues fill up.
    is_fat: bool,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("IOTSOCKETD_SEED={} failed at step {}", self.seed, self.step);
        }
    }
}

pub fn key(number: u8) -> AuthKey {
    AuthKey([number; 16])
}

pub fn group_name(group: usize) -> GroupName {
    GroupName::parse(GROUPS[group]).unwrap()
}

fn settings() -> Settings {
    let group = Group {
        telemetry: true,
        token_ttl: TOKEN_TTL,
        validate: false,
        max_payload: 65_536,
        rate: 0,
        allow_from: AllowFrom::default(),
    };
    let strict = Group {
        validate: true,
        max_payload: 200,
        allow_from: AllowFrom(vec!["10.0.0.0/8".parse().unwrap()]),
        ..group.clone()
    };
    let mute = Group { telemetry: false, rate: 5, ..group.clone() };
    Settings {
        central_key: key(1),
        request_timeout: Duration::from_secs(5),
        keep_session: Duration::from_secs(10),
        webhook_timeout: Some(Duration::from_secs(3)),
        calls: CallRecords::All,
        telemetry_allow_from: AllowFrom::default(),
        groups: [group, strict, mute].into_iter().enumerate().map(|(n, g)| (group_name(n), g)).collect(),
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let now = Instant::now();
        let settings = settings();
        let uid = |peer| Uid::parse(&if peer == 0 { String::new() } else { format!("o{peer}") }).unwrap();
        let peers: Vec<_> = (0..=OBJECTS)
            .map(|peer| Peer {
                uid: uid(peer),
                presence: Presence::Absent,
                limbo: VecDeque::new(),
                waiting_bytes: 0,
                tokens: VecDeque::new(),
                renewal: None,
                session: 0,
                inbox: Vec::new(),
            })
            .collect();
        let mut world = Self {
            seed,
            step: 0,
            is_fat: rng.chance(15),
            rng,
            now,
            router: Router::new(settings.clone(), Default::default()),
            recorder: Recorder::default(),
            settings,
            access: [None; OBJECTS + 1],
            by_uid: peers.iter().enumerate().map(|(id, peer)| (peer.uid, id)).collect(),
            peers,
            conns: BTreeMap::new(),
            ledger: Ledger::default(),
            flash: Flash::new(now),
            serials: HashMap::new(),
            webhook: Vec::new(),
            all_tokens: Vec::new(),
            last_connection: 0,
            last_ticket: 0,
            event: 0,
            must_show: Vec::new(),
            full: Vec::new(),
        };
        let mut access = [None; OBJECTS + 1];
        for (peer, entry) in access.iter_mut().enumerate().skip(1) {
            *entry = Some(Entry { group: peer % GROUPS.len(), key: 10 + peer as u8 });
        }
        world.replace_access(access);
        world
    }

    /// Lets that many things happen, then lets everything come to its end.
    pub fn run(mut self, steps: usize) {
        for step in 0..steps {
            self.step = step;
            self.act();
            if step % 32 == 0 {
                self.tick();
                self.check_books();
            }
        }
        self.settle();
        self.end();
    }

    /// Everybody who is there stays, reads, and hears all answers.
    fn settle(&mut self) {
        for _ in 0..200 {
            let dying: Vec<_> = self.conns.iter().filter(|(_, c)| c.is_dead || c.told.is_some()).collect();
            for id in dying.into_iter().map(|(id, _)| *id).collect::<Vec<_>>() {
                self.report(id);
            }
            for id in self.conns.keys().copied().collect::<Vec<_>>() {
                self.read(id, usize::MAX);
            }
            self.now += Duration::from_millis(500);
            self.tick();
        }
        assert!(self.ledger.open.is_empty(), "calls without an end: {:?}", self.ledger.open);
        for (id, call) in self.ledger.calls.iter().enumerate() {
            let is_gone = match call.asker {
                Asker::Peer(peer) => call.session != self.peers[peer].session,
                Asker::Http(_) => call.is_void,
            };
            let expected = if is_gone { 0..=1 } else { 1..=1 };
            assert!(call.told == 1 || call.is_older_than_restart, "told {} times: {call:?}", call.told);
            assert!(expected.contains(&call.received), "call {id} got {} answers: {call:?}", call.received);
        }
        self.check_books();
    }

    /// Everybody leaves, and all time passes.
    fn end(&mut self) {
        for id in self.conns.keys().copied().collect::<Vec<_>>() {
            self.conns.get_mut(&id).unwrap().told = Some(Ending::Ended);
            self.report(id);
        }
        self.now += Duration::from_secs(7200);
        self.tick();
        assert_eq!(self.router.sizes(), Sizes::default(), "something stays for ever");
    }
}
