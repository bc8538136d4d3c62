//! One connection as a state machine: bytes and time in, events and bytes to write out.
//!
//! ```text
//!  Initiation ──TLS bit──▶ TlsHandshake ──established──▶ Proof ──48 bytes──▶ Verdict ──accepted──▶ Live
//!      │                                                   ▲                    │                   │
//!      ├──plain, allowed──────────────────────────────────┘                 refused        close, violation,
//!      └──wrong version, plain where TLS is required──▶ Ended ◀────────────────┴──────────── silence ◀──┘
//! ```
//!
//! The session knows no clock, no socket and no randomness: `now` and the challenge are arguments. It judges
//! form (what the wire allows and who may send what); rights and tracking numbers are the router's.
//! After each call the caller writes what [`Session::poll_output`] gives, and arms a timer for
//! [`Session::deadline`].

mod reassembly;
mod violation;

use std::time::{Duration, Instant};

use crate::limits::ACL_ITEMS_MAX;
use crate::wire::{
    ACL_ITEM_LEN, Challenge, CloseCode, INITIATION_LEN, Initiation, InitiationReply, PROOF_LEN, Payload,
    Proof, Transmission, Uid, VERSION, verdict_byte,
};

use reassembly::{Reassembly, Staging, fill};

pub use violation::{End, Violation};

/// What the configuration says about sessions.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Refuse clients that do not ask for TLS.
    pub tls_required: bool,
    /// From accept to verdict.
    pub handshake_timeout: Duration,
    /// A peer silent for this long is pinged; silent for two of these, it is closed and kept.
    pub ping_interval: Duration,
}

/// Whose session it is, known from the verdict on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A device: sends and receives without RTE.
    Object,
    /// The back-end: every request and response carries the object's UID.
    Central,
}

/// What the peer said, or what the caller must do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Write the output, then start TLS as server and call [`Session::established`].
    StartTls,
    /// Write the output (nothing yet), then call [`Session::established`]: no TLS on this connection.
    StayPlain,
    /// Verify this against the challenge and call [`Session::verdict`].
    Proof(Proof),
    /// The peer wants to know whether we live; the pong is in the output.
    Ping,
    /// The answer to the oldest ping not yet answered.
    Pong,
    /// A request; `uid` is the object's, `None` from an object.
    Request {
        /// The object to ask.
        uid: Option<Uid>,
        /// The creator's tracking number.
        number: u16,
        /// What is asked.
        payload: Payload<'a>,
    },
    /// An answer; `uid` is the object's, `None` from an object.
    Response {
        /// The object that asked.
        uid: Option<Uid>,
        /// The tracking number of the request.
        number: u16,
        /// The response code.
        code: u8,
        /// The answer.
        payload: Payload<'a>,
    },
    /// The central's whole access list, items as they came; nothing behind it may be handled before it is in force.
    AccessList(Vec<[u8; ACL_ITEM_LEN]>),
    /// The peer is about to disconnect.
    Close(CloseCode),
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Initiation,
    TlsHandshake,
    Proof,
    Verdict,
    Live(Role),
    Ended,
}

/// Small things to write: setup bytes, pings, pongs.
pub type Output = heapless::Vec<u8, 16>;

/// One connection's state machine.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    state: State,
    /// When the handshake must be over; meaningless once live.
    handshake_deadline: Instant,
    last_heard: Instant,
    pinged: bool,
    largest: u16,
    /// What has arrived of the set-up structure that is awaited.
    setup: Vec<u8>,
    reassembly: Reassembly,
    staging: Option<Box<Staging>>,
    output: heapless::Deque<Output, 4>,
}

impl Session {
    /// A session of a connection accepted at `now`.
    pub fn new(now: Instant, settings: Settings) -> Self {
        Self {
            settings,
            state: State::Initiation,
            handshake_deadline: now + settings.handshake_timeout,
            last_heard: now,
            pinged: false,
            largest: 0,
            setup: Vec::new(),
            reassembly: Reassembly::default(),
            staging: None,
            output: heapless::Deque::new(),
        }
    }

    /// How many bytes the set-up waits for now. The caller reads no more than that before TLS starts and before
    /// the verdict, so that what a hasty client sends behind stays in the socket. 0 once live.
    pub fn setup_bytes_wanted(&self) -> usize {
        match self.state {
            State::Initiation => INITIATION_LEN - self.setup.len(),
            State::Proof => PROOF_LEN - self.setup.len(),
            State::TlsHandshake | State::Verdict | State::Live(_) | State::Ended => 0,
        }
    }

    /// Largest transmission that the client stated, in bytes from byte 0; 0: none.
    pub fn largest(&self) -> u16 {
        self.largest
    }

    /// Whether the client asked for a TLS connection and it is up, or it was allowed to stay plain.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Live(_))
    }

    /// TLS is up, or the connection stays plain: the challenge goes out.
    pub fn established(&mut self, challenge: Challenge) {
        if self.state == State::TlsHandshake {
            self.state = State::Proof;
            write(&mut self.output, &challenge.0);
        }
    }

    /// The proof was judged; `Some`: accepted. The verdict byte is the first output of the live session, or the
    /// last of a refused one.
    pub fn verdict(&mut self, now: Instant, role: Option<Role>) {
        if self.state == State::Verdict {
            self.last_heard = now;
            write(&mut self.output, &[verdict_byte(role.is_some())]);
            self.state = role.map_or(State::Ended, State::Live);
        }
    }

    /// Takes received bytes, advances `input` behind what it used, and returns the next event, if it is whole.
    /// `None` with bytes left in `input` means that the caller's next step is due first (TLS, verdict).
    pub fn receive<'s, 'i: 's>(
        &'s mut self,
        now: Instant,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'s>>, End> {
        if !input.is_empty() {
            self.last_heard = now;
            self.pinged = false;
        }
        match self.state {
            State::Initiation => self.receive_initiation(input),
            State::Proof => Ok(self.receive_proof(input)),
            State::Live(role) => self.receive_live(role, input),
            State::TlsHandshake | State::Verdict | State::Ended => Ok(None),
        }
    }

    /// The moment for which the caller arms its timer.
    pub fn deadline(&self) -> Instant {
        match self.state {
            State::Live(_) if self.pinged => self.last_heard + 2 * self.settings.ping_interval,
            State::Live(_) => self.last_heard + self.settings.ping_interval,
            _ => self.handshake_deadline,
        }
    }

    /// Acts on the passing of time: a ping to a silent peer, or the end.
    pub fn tick(&mut self, now: Instant) -> Result<(), End> {
        match self.state {
            State::Live(_) => {
                let silence = now.saturating_duration_since(self.last_heard);
                if silence >= 2 * self.settings.ping_interval {
                    return Err(self.end(Violation::PeerSilent));
                }
                if silence >= self.settings.ping_interval && !self.pinged {
                    self.pinged = true;
                    write(&mut self.output, &Transmission::Ping.encode_head());
                }
                Ok(())
            }
            State::Ended => Ok(()),
            _ if now >= self.handshake_deadline => Err(self.end(Violation::HandshakeTimeout)),
            _ => Ok(()),
        }
    }

    /// Next bytes to write, in order, ahead of anything that the router sends later.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    fn end(&mut self, violation: Violation) -> End {
        self.state = State::Ended;
        self.reassembly = Reassembly::default();
        self.staging = None;
        End(violation)
    }

    fn receive_initiation(&mut self, input: &mut &[u8]) -> Result<Option<Event<'static>>, End> {
        if !fill(&mut self.setup, INITIATION_LEN, input) {
            return Ok(None);
        }
        let initiation = Initiation::decode(self.setup.first_chunk().copied().unwrap_or_default());
        self.setup.clear();
        let violation = if initiation.version != VERSION {
            Some(Violation::WrongVersion(initiation.version))
        } else if !initiation.tls && self.settings.tls_required {
            Some(Violation::TlsRequired)
        } else {
            None
        };
        if let Some(violation) = violation {
            write(&mut self.output, &InitiationReply::REFUSED);
            return Err(self.end(violation));
        }
        self.largest = initiation.largest;
        self.state = State::TlsHandshake;
        write(&mut self.output, &InitiationReply::WELCOME);
        Ok(Some(if initiation.tls { Event::StartTls } else { Event::StayPlain }))
    }

    fn receive_proof(&mut self, input: &mut &[u8]) -> Option<Event<'static>> {
        if !fill(&mut self.setup, PROOF_LEN, input) {
            return None;
        }
        let proof = self.setup.first_chunk().map(Proof::decode);
        self.setup = Vec::new();
        self.state = State::Verdict;
        proof.map(Event::Proof)
    }

    fn receive_live<'s, 'i: 's>(
        &'s mut self,
        role: Role,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'s>>, End> {
        if let Some(staging) = &mut self.staging {
            let list = staging.take(input);
            if list.is_some() {
                self.staging = None;
            }
            return Ok(list.map(Event::AccessList));
        }
        // Transmissions may borrow the reassembly: from here on only other fields are touched.
        let judged = match self.reassembly.next(input) {
            Ok(None) => return Ok(None),
            Ok(Some(transmission)) => judge(role, transmission),
            Err(error) => Err(Violation::Wire(error)),
        };
        match judged {
            Ok(Judged::Event(event)) => Ok(Some(event)),
            Ok(Judged::Ping) => {
                write(&mut self.output, &Transmission::Pong.encode_head());
                Ok(Some(Event::Ping))
            }
            Ok(Judged::Acl(count)) => match usize::try_from(count) {
                Ok(missing) if missing <= ACL_ITEMS_MAX => {
                    let mut staging = Box::new(Staging::new(missing));
                    let list = staging.take(input);
                    self.staging = list.is_none().then_some(staging);
                    Ok(list.map(Event::AccessList))
                }
                _ => {
                    self.state = State::Ended;
                    Err(End(Violation::TooManyAclItems(count)))
                }
            },
            Err(violation) => {
                self.state = State::Ended;
                Err(End(violation))
            }
        }
    }
}

/// Queues bytes. Callers drain the output after each call, and no call queues more than one item.
fn write(output: &mut heapless::Deque<Output, 4>, bytes: &[u8]) {
    if let Ok(bytes) = Output::from_slice(bytes) {
        let _room_by_contract = output.push_back(bytes);
    }
}

enum Judged<'a> {
    Event(Event<'a>),
    Ping,
    Acl(u32),
}

/// Who may send what; everything else is a violation of its own.
fn judge(role: Role, transmission: Transmission<'_>) -> Result<Judged<'_>, Violation> {
    let event = match (role, transmission) {
        (_, Transmission::Ping) => return Ok(Judged::Ping),
        (_, Transmission::Pong) => Event::Pong,
        (_, Transmission::Close(code)) => Event::Close(code),
        (Role::Central, Transmission::AclHead { count }) => return Ok(Judged::Acl(count)),
        (Role::Object, Transmission::AclHead { .. }) => return Err(Violation::ObjectSentAcl),
        (Role::Object, Transmission::Token(_)) => return Err(Violation::ObjectSentToken),
        (Role::Central, Transmission::Token(_)) => return Err(Violation::CentralSentToken),
        (Role::Object, Transmission::Telemetry { .. }) => return Err(Violation::ObjectSentTelemetry),
        (Role::Central, Transmission::Telemetry { .. }) => return Err(Violation::CentralSentTelemetry),
        (
            Role::Object,
            Transmission::Request { uid: Some(_), .. } | Transmission::Response { uid: Some(_), .. },
        ) => {
            return Err(Violation::ObjectSentUid);
        }
        (
            Role::Central,
            Transmission::Request { uid: None, .. } | Transmission::Response { uid: None, .. },
        ) => {
            return Err(Violation::CentralWithoutUid);
        }
        (_, Transmission::Request { uid, number, payload }) => Event::Request { uid, number, payload },
        (_, Transmission::Response { uid, number, code, payload }) => {
            Event::Response { uid, number, code, payload }
        }
    };
    Ok(Judged::Event(event))
}

#[cfg(test)]
mod tests;
