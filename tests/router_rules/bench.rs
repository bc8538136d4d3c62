//! A router on a bench: two groups, a clock that is turned by hand, and what it did in a form that reads well.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use iotsocketd::hub::recording::{Clocks, call_record, fact_record, restored};
use iotsocketd::journal::state::Small;
use iotsocketd::net::AllowFrom;
use iotsocketd::router::access::AccessList;
use iotsocketd::router::{
    CallChange, CallRecords, Command, ConnectionId, Ending, Fact, Group, Login, Origin, Queued, Router,
    Serial, Settings, Tag, Ticket,
};
use iotsocketd::wire::{
    AclItem, AuthKey, Datagram, Decoded, Format, GroupName, Payload, Token, Transmission, Uid,
};

pub use crate::effects::Effect;
use crate::effects::Recorder;

pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
pub const KEEP: Duration = Duration::from_secs(60);
pub const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(8);
pub const TTL: Duration = Duration::from_secs(3600);
pub const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Something that a connection was sent, or an HTTP caller was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Token,
    Request(ConnectionId, u16, String),
    Response(ConnectionId, u16, u8, String),
    Answer(Ticket, u8, String),
    Webhook(u16, String),
}

pub struct Bench {
    pub now: Instant,
    pub router: Router,
    pub recorder: Recorder,
    pub settings: Settings,
    /// Everything since it was emptied last, as the router did it.
    pub raw: Vec<Effect>,
    /// Tokens in the order they were sent.
    pub tokens: Vec<Token>,
    /// Facts since this was emptied last.
    pub facts: Vec<Fact>,
    /// What a restart would find.
    pub flash: Small,
    access: AccessList,
    beginning: Instant,
    last: ConnectionId,
}

pub fn uid(name: &str) -> Uid {
    Uid::parse(name).unwrap()
}

pub fn group(name: &str) -> GroupName {
    GroupName::parse(name).unwrap()
}

/// The key of a peer.
pub fn key(name: &str) -> AuthKey {
    AuthKey([name.bytes().last().unwrap_or(1); 16])
}

pub fn item(name: &str, of: &str) -> AclItem {
    AclItem { group: group(of), uid: uid(name), key: key(name) }
}

/// `meters`: telemetry; `plain`: none, and no limits either.
pub fn settings() -> Settings {
    let plain = Group {
        telemetry: false,
        token_ttl: TTL,
        validate: false,
        max_payload: 65_536,
        rate: 0,
        allow_from: AllowFrom::default(),
    };
    let meters = Group { telemetry: true, ..plain.clone() };
    Settings {
        central_key: key(""),
        request_timeout: REQUEST_TIMEOUT,
        keep_session: KEEP,
        webhook_timeout: None,
        calls: CallRecords::Headers,
        telemetry_allow_from: AllowFrom::default(),
        groups: [(group("plain"), plain), (group("meters"), meters)].into(),
    }
}

pub fn payload(text: &str) -> Payload<'_> {
    Payload::new(Format::Ascii, text.as_bytes()).unwrap()
}

/// A request that waits, or did not go out.
pub fn unsent(effects: &[Effect], from: ConnectionId) -> Vec<Queued> {
    let queued = effects.iter().filter_map(|effect| match effect {
        Effect::Queued { to, tag, bytes } if *to == from => Some(Queued { tag: *tag, bytes: bytes.clone() }),
        _ => None,
    });
    queued.filter(|queued| queued.tag != Tag::Token).collect()
}

impl Bench {
    /// Objects `a` and `b` of `plain` and `m` of `meters`, nobody connected.
    pub fn new() -> Self {
        Self::with(settings())
    }

    pub fn with(settings: Settings) -> Self {
        let items = [item("a", "plain"), item("b", "plain"), item("m", "meters")];
        let access = AccessList::build(items, |_| true).unwrap();
        let now = Instant::now();
        Self {
            now,
            router: Router::new(settings.clone(), access.clone()),
            recorder: Recorder::default(),
            settings,
            raw: Vec::new(),
            tokens: Vec::new(),
            facts: Vec::new(),
            flash: Small::default(),
            access,
            beginning: now,
            last: 0,
        }
    }

    /// A bench whose group `plain` is different.
    pub fn with_plain(change: impl FnOnce(&mut Group)) -> Self {
        let mut settings = settings();
        change(settings.groups.get_mut(&group("plain")).unwrap());
        Self::with(settings)
    }

    /// Does something; says what came of it.
    pub fn handle(&mut self, command: Command<'_>) -> Vec<Seen> {
        self.router.handle(self.now, command, &mut self.recorder);
        self.gather();
        self.raw = std::mem::take(&mut self.recorder.effects);
        let mut tokens = Vec::new();
        let seen = self.raw.iter().filter_map(|effect| seen(effect, &mut tokens)).collect();
        self.tokens.extend(tokens);
        seen
    }

    /// Time passes, and is noticed.
    pub fn wait(&mut self, time: Duration) -> Vec<Seen> {
        self.now += time;
        self.handle(Command::Tick)
    }

    /// Logs in from near; gives the connection and what was sent to it.
    pub fn login_with(&mut self, name: &str, largest: u16) -> (Origin, Vec<Seen>) {
        self.last += 1;
        let origin = Origin { connection: self.last, uid: uid(name) };
        let login = Login { connection: self.last, uid: uid(name), key: key(name), source: NEAR, largest };
        let seen = self.handle(Command::Login(login));
        (origin, seen)
    }

    pub fn login(&mut self, name: &str) -> Origin {
        self.login_with(name, 0).0
    }

    pub fn drops(&mut self, origin: Origin, unsent: Vec<Queued>) -> Vec<Seen> {
        self.handle(Command::Disconnected { origin, ending: Ending::Kept, unsent })
    }

    pub fn ends(&mut self, origin: Origin, unsent: Vec<Queued>) -> Vec<Seen> {
        self.handle(Command::Disconnected { origin, ending: Ending::Ended, unsent })
    }

    /// The central asks an object.
    pub fn asks(&mut self, central: Origin, object: &str, number: u16, text: &str) -> Vec<Seen> {
        let uid = Some(uid(object));
        self.handle(Command::Request { origin: central, uid, number, payload: payload(text) })
    }

    /// An object asks the central.
    pub fn object_asks(&mut self, object: Origin, number: u16, text: &str) -> Vec<Seen> {
        self.handle(Command::Request { origin: object, uid: None, number, payload: payload(text) })
    }

    /// An object answers.
    pub fn answers(&mut self, object: Origin, number: u16, code: u8, text: &str) -> Vec<Seen> {
        let payload = payload(text);
        self.handle(Command::Response { origin: object, uid: None, number, code, payload })
    }

    /// The central answers an object.
    pub fn central_answers(&mut self, central: Origin, object: &str, number: u16, text: &str) -> Vec<Seen> {
        let (uid, payload) = (Some(uid(object)), payload(text));
        self.handle(Command::Response { origin: central, uid, number, code: 0, payload })
    }

    /// An HTTP caller asks an object, with ten seconds of patience.
    pub fn http(&mut self, ticket: Ticket, object: &str, text: &str) -> Vec<Seen> {
        let deadline = self.now + Duration::from_secs(10);
        self.handle(Command::HttpRequest { ticket, uid: uid(object), payload: payload(text), deadline })
    }

    /// Whether a datagram with this token is taken.
    pub fn datagram(&mut self, token: Token, source: IpAddr) -> bool {
        let datagram = Datagram { token, payload: payload("21.5") };
        self.router.telemetry(self.now, &datagram, source).is_ok()
    }

    fn clocks(&self) -> Clocks {
        let passed = self.now.duration_since(self.beginning).as_micros() as i64;
        Clocks { now: self.now, wall_us: 1_795_287_162_000_000 + passed }
    }

    /// Facts come on flash as they are told; calls ahead of those of sessions.
    fn gather(&mut self) {
        let facts = std::mem::take(&mut self.recorder.facts);
        if facts.iter().any(Fact::is_of_session) {
            self.commit();
        }
        for fact in &facts {
            self.flash.apply(fact_record(*fact, self.clocks()));
        }
        self.facts.extend(facts);
    }

    /// What changed in calls comes on flash.
    pub fn commit(&mut self) -> Vec<CallChange> {
        let changes = self.router.take_call_changes();
        for change in &changes {
            self.flash.apply(call_record(change.clone(), self.clocks()));
        }
        changes
    }

    /// The process is killed, and started so much later with the settings of now.
    pub fn restart_after(&mut self, time: Duration) {
        self.restart_with(time, 0, self.access.clone());
    }

    /// The same with another access list, and a floor for serials.
    pub fn restart_with(&mut self, time: Duration, floor: Serial, access: AccessList) {
        self.now += time;
        self.facts.clear();
        let (found, unreadable) = restored(&self.flash, self.clocks(), floor);
        assert!(unreadable.is_empty());
        self.router = Router::new(self.settings.clone(), access);
        self.router.restore(self.now, found, &mut self.recorder);
        assert_eq!(self.recorder.effects, [], "nobody is there");
        self.recorder.outstanding.clear();
        self.gather();
    }

    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Settings)) -> Vec<Seen> {
        change(&mut self.settings);
        self.handle(Command::Reconfigure(Box::new(self.settings.clone())))
    }

    pub fn replace_access(&mut self, items: &[AclItem]) -> Vec<Seen> {
        let list = AccessList::build(items.iter().copied(), |_| true).unwrap();
        self.access = list.clone();
        self.handle(Command::ReplaceAccess(list))
    }
}

fn seen(effect: &Effect, tokens: &mut Vec<Token>) -> Option<Seen> {
    let text = |data: &[u8]| String::from_utf8(data.to_vec()).unwrap();
    match effect {
        Effect::Queued { to, bytes, .. } => match Transmission::decode(bytes).unwrap() {
            Decoded::Done(Transmission::Token(token), _) => {
                tokens.push(token);
                Some(Seen::Token)
            }
            Decoded::Done(Transmission::Request { number, payload, .. }, _) => {
                Some(Seen::Request(*to, number, text(payload.data())))
            }
            Decoded::Done(Transmission::Response { number, code, payload, .. }, _) => {
                Some(Seen::Response(*to, number, code, text(payload.data())))
            }
            other => panic!("the router sent {other:?}"),
        },
        Effect::Answer { ticket, code, data, .. } => Some(Seen::Answer(*ticket, *code, text(data))),
        Effect::Webhook { number, data, .. } => Some(Seen::Webhook(*number, text(data))),
        _ => None,
    }
}

pub fn request(to: Origin, number: u16, text: &str) -> Seen {
    Seen::Request(to.connection, number, text.to_owned())
}

pub fn response(to: Origin, number: u16, code: u8, text: &str) -> Seen {
    Seen::Response(to.connection, number, code, text.to_owned())
}

pub fn answer(ticket: Ticket, code: u8, text: &str) -> Seen {
    Seen::Answer(ticket, code, text.to_owned())
}

pub const NOTHING: [Seen; 0] = [];
