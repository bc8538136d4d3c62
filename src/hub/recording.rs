//! What the router tells, as the journal keeps it: moments become wall time, calls that are over become messages.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::recorded_calls;
use crate::journal::Seq;
use crate::journal::record::{Cause, Kind, Message, Record, SessionRecord, State, Via};
use crate::journal::state::Small;
use crate::payload_json::write_string;
use crate::router::{
    AccessChange, AskedBy, CallChange, CallEnd, Fact, Outcome, Restored, RestoredSession, RestoredToken,
    Serial, Side,
};
use crate::wire::{Format, GroupName, Token, Uid};

/// Both clocks at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// The monotonic one.
    pub now: Instant,
    /// The wall clock: microseconds since 1970.
    pub wall_us: i64,
}

impl Clocks {
    /// A moment by the wall clock.
    pub fn to_wall(self, at: Instant) -> i64 {
        match at.checked_duration_since(self.now) {
            Some(ahead) => self.wall_us.saturating_add(micros(ahead)),
            None => self.wall_us.saturating_sub(micros(self.now.saturating_duration_since(at))),
        }
    }

    /// The moment of a wall time. One that no monotonic clock of this machine has is now: it is over.
    pub fn to_instant(self, wall_us: i64) -> Instant {
        let distance = Duration::from_micros(wall_us.abs_diff(self.wall_us));
        let at = if wall_us >= self.wall_us {
            self.now.checked_add(distance)
        } else {
            self.now.checked_sub(distance)
        };
        at.unwrap_or(self.now)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A fact as it is recorded.
pub fn fact_record(fact: Fact, clocks: Clocks) -> Record<'static> {
    match fact {
        Fact::TokenIssued { uid, token, expires } => {
            Record::Token { uid, token: token.0, expires_us: clocks.to_wall(expires) }
        }
        Fact::TokensEnded { uid } => Record::TokensEnded { uid },
        Fact::SessionLive { uid } => Record::Session { uid, session: SessionRecord::Live },
        Fact::SessionKept { uid, until } => {
            Record::Session { uid, session: SessionRecord::Kept { until_us: clocks.to_wall(until) } }
        }
        Fact::SessionEnded { uid } => Record::Session { uid, session: SessionRecord::Ended },
    }
}

/// A change of what is known of a call as it is recorded.
pub fn call_record(change: CallChange, clocks: Clocks) -> Record<'static> {
    match change {
        CallChange::Waiting { id, call } => {
            Record::Waiting { id, data: recorded_calls::encode(call, clocks) }
        }
        CallChange::Settled { id } => Record::Settled { id },
    }
}

/// What the journal knows, as the router takes it over; and the calls whose record this version cannot read, to be
/// settled. `serial_floor`: see [`Restored::serial_floor`].
pub fn restored(small: &Small, clocks: Clocks, serial_floor: Serial) -> (Restored, Vec<Serial>) {
    let tokens = small.tokens().flat_map(|(uid, tokens)| {
        tokens.iter().map(move |token| RestoredToken {
            uid,
            token: Token(token.token),
            expires: clocks.to_instant(token.expires_us),
        })
    });
    let sessions = small.sessions().filter_map(|(uid, session)| match session {
        SessionRecord::Live => Some((uid, RestoredSession::Live)),
        SessionRecord::Kept { until_us } => {
            Some((uid, RestoredSession::Kept { until: clocks.to_instant(until_us) }))
        }
        SessionRecord::Ended => None,
    });
    let (mut calls, mut unreadable) = (Vec::new(), Vec::new());
    for (id, data) in &small.waiting {
        match recorded_calls::decode(data, clocks) {
            Some(call) => calls.push((*id, call)),
            None => unreadable.push(*id),
        }
    }
    let restored = Restored { serial_floor, tokens: tokens.collect(), sessions: sessions.collect(), calls };
    (restored, unreadable)
}

/// A call that is over, as a message. Its `network` says who was asked, the answer's code unless nobody is there to
/// get one, and how long it took in milliseconds.
pub fn call_message(end: &CallEnd<'_>, now: Instant) -> Message<'static> {
    let to = match end.to {
        Side::Object => "object",
        Side::Central => "central",
    };
    let mut about = format!("{{\"to\":\"{to}\"");
    // Writing into a string cannot fail.
    if let Some(code) = end.code {
        let _written = write!(about, ",\"code\":{code}");
    }
    let took = now.saturating_duration_since(end.started).as_millis();
    let _written = write!(about, ",\"ms\":{took}}}");
    Message {
        uid: end.uid,
        group: end.group.unwrap_or(GroupName::NONE),
        kind: Kind::Request,
        via: match end.by {
            AskedBy::Session => Via::Tcp,
            AskedBy::Http => Via::Https,
        },
        format: end.format,
        state: match end.outcome {
            Outcome::Answered => State::Delivered,
            Outcome::NotFound | Outcome::AlreadyUsed | Outcome::Failed => State::Refused,
            Outcome::TimedOut | Outcome::Abandoned => State::Expired,
        },
        source: None,
        network: Some(Cow::Owned(about.into_bytes())),
        payload: Cow::Owned(end.payload.unwrap_or_default().to_vec()),
    }
}

/// What a destination never gets, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its name.
    pub destination: String,
    /// Why.
    pub cause: Cause,
    /// First and last number.
    pub numbers: (Seq, Seq),
    /// How many of each group.
    pub groups: BTreeMap<GroupName, u64>,
}

impl Told {
    /// These, to begin with; `None`: it is nothing.
    pub fn of(destination: &str, cause: Cause, lost: &[(Seq, GroupName)]) -> Option<Self> {
        let numbers = (lost.first()?.0, lost.last()?.0);
        let mut groups = BTreeMap::new();
        for (_, group) in lost {
            *groups.entry(*group).or_default() += 1;
        }
        Some(Self { destination: destination.to_owned(), cause, numbers, groups })
    }

    /// Adds what is told of the same destination for the same cause; whether it is.
    pub fn take_up(&mut self, other: &Self) -> bool {
        let is_same = (&self.destination, self.cause) == (&other.destination, other.cause);
        if is_same {
            self.numbers.0 = self.numbers.0.min(other.numbers.0);
            self.numbers.1 = self.numbers.1.max(other.numbers.1);
            for (group, count) in &other.groups {
                *self.groups.entry(*group).or_default() += count;
            }
        }
        is_same
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.groups.values().sum()
    }

    /// As a message.
    pub fn message(&self) -> Message<'static> {
        let (state, reason) = self.cause.says();
        let mut text = format!("{{\"event\":\"messages_{}\",\"to\":", state.name());
        write_string(&mut text, &self.destination);
        let (first, last) = self.numbers;
        // Writing into a string cannot fail.
        let _written = write!(
            text,
            ",\"reason\":\"{reason}\",\"count\":{},\"first\":{first},\"last\":{last},\"groups\":{{",
            self.count()
        );
        for (index, (group, count)) in self.groups.iter().enumerate() {
            text.push_str(if index > 0 { "," } else { "" });
            write_string(&mut text, group.as_str());
            let _written = write!(text, ":{count}");
        }
        text.push_str("}}");
        event_message(text)
    }
}

/// Messages that had to go before they were in the archive, as a message for operators.
pub fn unarchived_message(count: u64, first: Seq, last: Seq) -> Message<'static> {
    event_message(format!(
        "{{\"event\":\"messages_unarchived\",\"reason\":\"the journal was full\",\"count\":{count},\"first\":{first},\"last\":{last}}}"
    ))
}

/// Something that operators should know, as a message: an object in JSON.
pub fn event_message(json: impl Into<Vec<u8>>) -> Message<'static> {
    Message {
        uid: Uid::CENTRAL,
        group: GroupName::NONE,
        kind: Kind::Event,
        via: Via::Local,
        format: Format::Json,
        state: State::Stored,
        source: None,
        network: None,
        payload: Cow::Owned(json.into()),
    }
}

/// A change of the access list as a message. Which way it came is for the caller to say.
pub fn access_message(change: &AccessChange) -> Message<'static> {
    let AccessChange { before, after, added, removed, changed } = change;
    let counts = format!(
        "{{\"before\":{before},\"after\":{after},\"added\":{added},\"removed\":{removed},\"changed\":{changed}}}"
    );
    Message {
        uid: Uid::CENTRAL,
        group: GroupName::NONE,
        kind: Kind::Access,
        via: Via::Local,
        format: Format::Json,
        state: State::Stored,
        source: None,
        network: None,
        payload: Cow::Owned(counts.into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::{Records, encode};

    fn clocks() -> Clocks {
        Clocks { now: Instant::now(), wall_us: 1_795_287_162_000_000 }
    }

    fn uid() -> Uid {
        Uid::parse("o").unwrap()
    }

    #[test]
    fn moments_go_to_the_wall_and_back_behind_a_restart() {
        let before = clocks();
        let deadline = before.now + Duration::from_millis(1_500);
        let wall = before.to_wall(deadline);
        assert_eq!(wall - before.wall_us, 1_500_000);
        assert_eq!(before.to_instant(wall), deadline);
        // A second later, in another process.
        let after = Clocks { now: before.now + Duration::from_secs(77), wall_us: before.wall_us + 1_000_000 };
        assert_eq!(after.to_instant(wall), after.now + Duration::from_millis(500));
        let past = after.now - Duration::from_secs(2);
        assert_eq!(after.to_instant(after.to_wall(past)), past);
        assert!(after.to_instant(i64::MIN) <= after.now, "long before the machine was on");
        assert_eq!(after.to_instant(after.wall_us), after.now);
    }

    #[test]
    fn facts_add_up_in_the_journal_to_what_is_restored() {
        let clocks = clocks();
        let (until, expires) = (clocks.now + Duration::from_secs(9), clocks.now + Duration::from_secs(3_600));
        let (away, gone) = (Uid::parse("away").unwrap(), Uid::parse("gone").unwrap());
        let token = |uid, byte| Fact::TokenIssued { uid, token: Token([byte; 8]), expires };
        let mut small = Small::default();
        for fact in [
            Fact::SessionLive { uid: Uid::CENTRAL },
            Fact::SessionLive { uid: away },
            token(away, 1),
            token(away, 2),
            Fact::SessionKept { uid: away, until },
            Fact::SessionLive { uid: gone },
            token(gone, 3),
            Fact::TokensEnded { uid: gone },
            Fact::SessionEnded { uid: gone },
        ] {
            let record = fact_record(fact, clocks);
            let mut bytes = Vec::new();
            encode(&record, 0, &mut bytes).unwrap();
            let read = Records::new(&bytes).next().unwrap().decode().unwrap();
            assert_eq!(read, record);
            small.apply(record);
        }
        small.apply(Record::Waiting { id: 5, data: vec![0xff; 3] });
        let (restored, unreadable) = restored(&small, clocks, 40);
        let token = |byte| RestoredToken { uid: away, token: Token([byte; 8]), expires };
        assert_eq!(restored.tokens, [token(1), token(2)]);
        let sessions = [(Uid::CENTRAL, RestoredSession::Live), (away, RestoredSession::Kept { until })];
        assert_eq!(restored.sessions, sessions);
        assert_eq!((restored.serial_floor, restored.calls.len()), (40, 0));
        assert_eq!(unreadable, [5], "a call of a later version");
    }

    #[test]
    fn a_call_is_told_with_its_outcome() {
        let now = Instant::now();
        let end = CallEnd {
            uid: uid(),
            group: None,
            to: Side::Object,
            by: AskedBy::Http,
            outcome: Outcome::Answered,
            code: Some(7),
            started: now,
            format: Format::Json,
            payload: Some(b"{}"),
        };
        let message = call_message(&end, now + Duration::from_micros(12_900));
        assert_eq!(message.network.as_deref(), Some(br#"{"to":"object","code":7,"ms":12}"#.as_slice()));
        assert_eq!((message.kind, message.via, message.state), (Kind::Request, Via::Https, State::Delivered));
        assert_eq!((message.group, message.format), (GroupName::NONE, Format::Json));
        assert_eq!(&*message.payload, b"{}");
        let states = [
            (Outcome::NotFound, State::Refused),
            (Outcome::AlreadyUsed, State::Refused),
            (Outcome::Failed, State::Refused),
            (Outcome::TimedOut, State::Expired),
            (Outcome::Abandoned, State::Expired),
        ];
        for (outcome, state) in states {
            assert_eq!(call_message(&CallEnd { outcome, ..end }, now).state, state);
        }
        let gone = CallEnd { to: Side::Central, by: AskedBy::Session, code: None, payload: None, ..end };
        let message = call_message(&gone, now);
        assert_eq!(message.network.as_deref(), Some(br#"{"to":"central","ms":0}"#.as_slice()));
        assert_eq!((message.via, message.payload.len()), (Via::Tcp, 0));
    }

    #[test]
    fn what_is_gone_is_told_in_one_message() {
        let group = |name: &str| GroupName::parse(name).unwrap();
        let numbers = [(4, group("a\"b")), (5, group("Devices")), (9, group("Devices"))];
        let mut told = Told::of("central", Cause::Full, &numbers[..2]).unwrap();
        assert!(told.take_up(&Told::of("central", Cause::Full, &numbers[2..]).unwrap()));
        assert!(!told.take_up(&Told::of("central", Cause::Expired, &numbers).unwrap()));
        assert!(!told.take_up(&Told::of("other", Cause::Full, &numbers).unwrap()));
        let message = told.message();
        assert_eq!((message.kind, message.state, message.via), (Kind::Event, State::Stored, Via::Local));
        assert_eq!(
            str::from_utf8(&message.payload).unwrap(),
            r#"{"event":"messages_dropped","to":"central","reason":"the journal was full","count":3,"first":4,"last":9,"groups":{"a\"b":1,"Devices":2}}"#
        );
        let message = Told::of("central", Cause::Expired, &numbers[..1]).unwrap().message();
        assert!(message.payload.starts_with(br#"{"event":"messages_expired","#));
    }

    #[test]
    fn a_change_of_the_list_is_told_in_numbers() {
        let change = AccessChange { before: 3, after: 4, added: 2, removed: 1, changed: 1 };
        let message = access_message(&change);
        assert_eq!(message.kind, Kind::Access);
        assert_eq!(
            &*message.payload,
            br#"{"before":3,"after":4,"added":2,"removed":1,"changed":1}"#.as_slice()
        );
    }
}
