//! A router that anything happens to: three bytes are one thing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use iotsocketd::limits::OUTGOING_MAX;
use iotsocketd::net::AllowFrom;
use iotsocketd::router::access::AccessList;
use iotsocketd::router::{
    AccessChange, Answer, CallEnd, CallRecords, CentralSession, Command, ConnectionId, Effects, Ending, Fact,
    Group, Login, LoginRefusal, Origin, Queued, Router, Serial, Settings, Sizes, Tag, Ticket, WebhookRefusal,
    WebhookRequest,
};
use iotsocketd::wire::{
    AclItem, AuthKey, CloseCode, Datagram, Decoded, Format, GroupName, Payload, Token, Transmission, Uid,
};

const KEY: AuthKey = AuthKey([5; 16]);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What the router did.
#[derive(Default)]
struct World {
    queues: HashMap<ConnectionId, Vec<Queued>>,
    central: Option<ConnectionId>,
    /// Tickets that are not answered.
    tickets: Vec<Ticket>,
    webhook: Vec<(Uid, u16, Serial)>,
    tokens: Vec<Token>,
}

impl World {
    fn queue(&mut self, to: ConnectionId, tag: Tag, bytes: Vec<u8>) {
        let whole = Transmission::decode(&bytes);
        assert!(matches!(whole, Ok(Decoded::Done(_, used)) if used == bytes.len()));
        let queue = self.queues.get_mut(&to).expect("a connection that is admitted and not gone");
        queue.push(Queued { tag, bytes: bytes.into() });
    }
}

fn encode(transmission: Transmission<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    transmission.encode(&mut bytes);
    bytes
}

impl Effects for World {
    fn send(&mut self, to: ConnectionId, tag: Tag, transmission: Transmission<'_>) -> bool {
        let queued: usize = self.queues[&to].iter().map(|queued| queued.bytes.len()).sum();
        let has_room = queued + transmission.wire_len() <= OUTGOING_MAX;
        if has_room {
            self.queue(to, tag, encode(transmission));
        }
        has_room
    }
    fn reply(&mut self, to: ConnectionId, tag: Tag, transmission: Transmission<'_>) {
        self.queue(to, tag, encode(transmission));
    }
    fn resend(&mut self, to: ConnectionId, waited: Queued) {
        self.queue(to, waited.tag, waited.bytes.into());
    }
    fn admit(&mut self, connection: ConnectionId) {
        assert!(self.queues.insert(connection, Vec::new()).is_none(), "admitted twice");
    }
    fn refuse(&mut self, connection: ConnectionId, _why: LoginRefusal) {
        assert!(!self.queues.contains_key(&connection), "refused after it was admitted");
    }
    fn close(&mut self, connection: ConnectionId, _code: CloseCode) {
        assert!(self.queues.contains_key(&connection));
    }
    fn answer(&mut self, ticket: Ticket, _answer: Answer<'_>) {
        let at = self.tickets.iter().position(|held| *held == ticket);
        self.tickets.swap_remove(at.expect("answered twice"));
    }
    fn ask_webhook(&mut self, request: WebhookRequest<'_>) -> Result<(), WebhookRefusal> {
        assert_eq!(self.central, None, "the central has a session");
        self.webhook.push((request.uid, request.number, request.serial));
        Ok(())
    }
    fn central_changed(&mut self, session: Option<CentralSession>) {
        assert_ne!(self.central.is_some(), session.is_some(), "changed to the same");
        self.central = session.map(|session| session.connection);
    }
    fn fresh_token(&mut self) -> Token {
        let token = Token((self.tokens.len() as u64).to_be_bytes());
        self.tokens.push(token);
        token
    }
    fn remember(&mut self, _fact: Fact) {}
    fn call_ended(&mut self, _end: CallEnd<'_>) {}
    fn access_changed(&mut self, _change: AccessChange) {}
}

fn settings() -> Settings {
    let group = Group {
        telemetry: true,
        token_ttl: Duration::from_secs(100),
        validate: false,
        max_payload: 1_000,
        rate: 0,
        allow_from: AllowFrom::default(),
    };
    Settings {
        central_key: KEY,
        request_timeout: Duration::from_secs(5),
        keep_session: Duration::from_secs(10),
        webhook_timeout: Some(Duration::from_secs(3)),
        calls: CallRecords::Headers,
        telemetry_allow_from: AllowFrom::default(),
        groups: [(GroupName::parse("g").unwrap(), group)].into(),
    }
}

/// The central, or one of three objects.
fn uid(byte: u8) -> Uid {
    Uid::parse(["", "a", "b", "c"][usize::from(byte % 4)]).unwrap()
}

fn access(which: u8) -> AccessList {
    let present = (1..4).filter(|object| which & 1 << object != 0);
    let group = GroupName::parse("g").unwrap();
    AccessList::build(present.map(|object| AclItem { group, uid: uid(object), key: KEY }), |_| true).unwrap()
}

/// A story of commands, told to its end.
pub fn router(data: &[u8]) {
    let mut now = Instant::now();
    let mut router = Router::new(settings(), access(0xff));
    let mut world = World::default();
    let mut peers: Vec<Origin> = Vec::new();
    let mut ticket = 0;
    let payload = Payload::new(Format::Binary, b"x").unwrap();
    for step in data.as_chunks::<3>().0 {
        let [what, who, number] = *step;
        let number = u16::from(number);
        let peer = peers.get(usize::from(who) % peers.len().max(1)).copied();
        // Four bits of the first byte say what happens, the others to which object.
        let object = uid(1 + (what >> 4) % 3);
        let named = |origin: Origin| origin.uid.is_central().then_some(object);
        let command = match (what % 16, peer) {
            (0 | 1, _) => {
                let connection = 1 + peers.iter().map(|peer| peer.connection).max().unwrap_or_default();
                let origin = Origin { connection, uid: uid(who) };
                peers.push(origin);
                let largest = if number == 7 { 30 } else { 0 };
                Command::Login(Login { connection, uid: origin.uid, key: KEY, source: HERE, largest })
            }
            (2 | 3, Some(origin)) => {
                let ending = if what % 16 == 2 { Ending::Kept } else { Ending::Ended };
                let mut unsent =
                    world.queues.get_mut(&origin.connection).map(std::mem::take).unwrap_or_default();
                // Some of it was handed over.
                unsent.drain(..usize::from(number).min(unsent.len()));
                if world.queues.contains_key(&origin.connection) {
                    router.handle(now, Command::Disconnected { origin, ending, unsent }, &mut world);
                    world.queues.remove(&origin.connection);
                    peers.retain(|peer| *peer != origin);
                }
                Command::Tick
            }
            (4..=6, Some(origin)) if world.queues.contains_key(&origin.connection) => {
                Command::Request { origin, uid: named(origin), number, payload }
            }
            (7..=9, Some(origin)) if world.queues.contains_key(&origin.connection) => {
                Command::Response { origin, uid: named(origin), number, code: who, payload }
            }
            (10, _) => {
                ticket += 1;
                world.tickets.push(ticket);
                let deadline = now + Duration::from_millis(100) * u32::from(number);
                Command::HttpRequest { ticket, uid: object, payload, deadline }
            }
            (11, _) if !world.tickets.is_empty() => {
                let at = usize::from(who) % world.tickets.len();
                Command::HttpAbandoned { ticket: world.tickets.swap_remove(at) }
            }
            (12, _) if !world.webhook.is_empty() => {
                let at = usize::from(who) % world.webhook.len();
                let (uid, number, serial) = world.webhook.swap_remove(at);
                Command::WebhookAnswered {
                    uid,
                    number,
                    serial,
                    answer: (who % 2 == 0).then_some((9, payload)),
                }
            }
            (13, _) => Command::ReplaceAccess(access(who)),
            (14, _) => {
                let token = world.tokens.get(usize::from(who)).copied().unwrap_or(Token([9; 8]));
                let _judged = router.telemetry(now, &Datagram { token, payload }, HERE);
                Command::Tick
            }
            _ => {
                now += Duration::from_millis(200) * u32::from(number);
                Command::Tick
            }
        };
        router.handle(now, command, &mut world);
    }
    now += Duration::from_secs(1);
    for origin in peers {
        let ended = Command::Disconnected { origin, ending: Ending::Ended, unsent: Vec::new() };
        router.handle(now, ended, &mut world);
    }
    now += Duration::from_secs(1_000);
    router.handle(now, Command::Tick, &mut world);
    assert_eq!(router.sizes(), Sizes::default(), "something stays for ever");
    assert!(world.tickets.is_empty(), "calls without an answer: {:?}", world.tickets);
}
