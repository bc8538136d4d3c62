//! The audit log: who did what to the concentrator, recorded as messages that form a chain
//! ([`crate::journal::chain`]).
//!
//! A record waits for no flush of its own: it is on flash with what comes next to it. What repeats is counted
//! ([`tallies`]); where there is no room for a record it is counted, too, and the chain goes on without it.

pub mod tallies;

use std::net::IpAddr;
use std::time::Instant;

use serde::Serialize;

use super::Hub;
use crate::journal::chain::Link;
use crate::journal::record::{Kind, Message, State, Via};
use crate::limits::ACL_ITEMS_MAX;
use crate::wire::{Format, GroupName, Token, Uid};
use tallies::{Doer, OBJECTS_TOLD_APART_MAX, SENDERS_TOLD_APART_MAX, TOLD_APART_MAX, Tallies};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// An object, or the central (which has no UID), logged in.
    Login,
    /// Somebody was refused before it was known who it is.
    Refused,
    /// A key of the API was used.
    KeyUsed,
    /// A key of the API was used for what it may not do.
    KeyRefused,
    /// Another access list is in force.
    AccessList,
    /// Another configuration is in force.
    Configuration,
    /// A command was queued for an object.
    Command,
    /// An operator did something over the maintenance socket.
    Operator,
    /// The program started.
    Started,
    /// The program was told to stop.
    Stopped,
    /// A message of an object was refused.
    MessageRefused,
    /// What a source of a partner network brought was refused as a whole.
    IngestRefused,
    /// A datagram of nobody that is known was dropped.
    DatagramRefused,
}

impl What {
    /// All there are.
    pub const ALL: [Self; 13] = [
        Self::Login,
        Self::Refused,
        Self::KeyUsed,
        Self::KeyRefused,
        Self::AccessList,
        Self::Configuration,
        Self::Command,
        Self::Operator,
        Self::Started,
        Self::Stopped,
        Self::MessageRefused,
        Self::IngestRefused,
        Self::DatagramRefused,
    ];

    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Refused => "refused",
            Self::KeyUsed => "key_used",
            Self::KeyRefused => "key_refused",
            Self::AccessList => "access_list",
            Self::Configuration => "configuration",
            Self::Command => "command",
            Self::Operator => "operator",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::MessageRefused => "message_refused",
            Self::IngestRefused => "ingest_refused",
            Self::DatagramRefused => "datagram_refused",
        }
    }

    /// How many doers are told apart within a period; `None`: each deed is told.
    fn told_apart(self) -> Option<usize> {
        match self {
            Self::Refused | Self::KeyUsed | Self::KeyRefused => Some(TOLD_APART_MAX),
            Self::MessageRefused => Some(OBJECTS_TOLD_APART_MAX),
            Self::IngestRefused | Self::DatagramRefused => Some(SENDERS_TOLD_APART_MAX),
            // Whoever logs in is on the access list, or the central.
            Self::Login => Some(ACL_ITEMS_MAX + 1),
            _ => None,
        }
    }
}

/// A deed.
#[derive(Debug, Clone, Copy)]
pub struct Deed<'a> {
    /// What was done.
    pub what: What,
    /// By whom: an object's UID, the name of a key or of a source; empty if that is not known.
    pub who: &'a str,
    /// The object that it was done by or for.
    pub uid: Option<Uid>,
    /// From where; `None`: from this machine, without a network.
    pub from: Option<IpAddr>,
    /// What else there is to know. Never a secret.
    pub detail: &'a str,
}

impl Deed<'_> {
    /// A deed by nobody else than the concentrator.
    pub fn own(what: What, detail: &str) -> Deed<'_> {
        Deed { what, who: "", uid: None, from: None, detail }
    }
}

/// The hub's side of the audit log.
#[derive(Debug)]
pub(super) struct Auditing {
    link: Link,
    tallies: Tallies,
}

impl Auditing {
    pub(super) fn new(link: Link) -> Self {
        Self { link, tallies: Tallies::default() }
    }
}

/// The members of a record.
#[derive(Serialize)]
struct Members<'a> {
    what: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    who: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<IpAddr>,
    count: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    at: String,
}

impl Hub {
    /// Records a deed, or counts it if its doer was told less than a minute ago.
    pub fn audit(&self, deed: Deed<'_>) {
        self.turn(Instant::now()).audit(deed);
    }

    /// Lets time pass for deeds that were counted; to be called every second. `all`: nothing comes after this.
    pub fn tick_audit(&self, all: bool) {
        let mut turn = self.turn(Instant::now());
        let now = turn.now;
        for (Doer { what, who, from }, count, detail) in turn.core.auditing.tallies.due(now, all) {
            let is_of_object = matches!(what, What::Login | What::MessageRefused);
            let uid = is_of_object.then(|| Uid::parse(&who).ok()).flatten();
            turn.record_deed(Deed { what, who: &who, uid, from, detail: &detail }, count);
        }
    }
}

impl super::Turn<'_> {
    /// Records a deed, or counts it.
    pub fn audit(&mut self, deed: Deed<'_>) {
        let Some(max) = deed.what.told_apart() else { return self.record_deed(deed, 1) };
        let doer = Doer { what: deed.what, who: deed.who.to_owned(), from: deed.from };
        let told = self.core.auditing.tallies.count(doer, deed.detail, max, self.now);
        if let Some((doer, count)) = told {
            let uid = deed.uid.filter(|_| doer.who == deed.who);
            self.record_deed(Deed { who: &doer.who, from: doer.from, uid, ..deed }, count);
        }
    }

    /// Records, or counts, that a datagram was dropped: of the object whose token it has, or of nobody.
    pub fn audit_datagram(&mut self, token: Option<Token>, from: IpAddr, why: &str) {
        let uid = token.and_then(|token| self.core.router.object_of(self.now, token));
        let (what, who) = match &uid {
            Some(uid) => (What::MessageRefused, uid.as_str()),
            None => (What::DatagramRefused, ""),
        };
        self.audit(Deed { what, who, uid, from: Some(from), detail: why });
    }

    fn record_deed(&mut self, deed: Deed<'_>, count: u64) {
        let core = &mut *self.core;
        let Deed { what, who, uid, from, detail } = deed;
        let at = core.log.stamp().wall_us;
        let at = jiff::Timestamp::from_microsecond(at).unwrap_or_default();
        let members = Members { what: what.name(), who, from, count, detail, at: format!("{at:.6}") };
        // Only running out of memory could fail here; a record without its members says so itself.
        let members = serde_json::to_string(&members).unwrap_or_default();
        let members = members.trim_start_matches('{').trim_end_matches('}');
        let uid = uid.unwrap_or(Uid::CENTRAL);
        let group = core.router.group_of(uid).unwrap_or(GroupName::NONE);
        let (payload, next) = core.auditing.link.forge(uid, group, members);
        let message = Message {
            uid,
            group,
            kind: Kind::Audit,
            // The concentrator's own word: taken while there is no room for what comes from outside.
            via: Via::Local,
            format: Format::Json,
            state: State::Stored,
            source: None,
            network: None,
            payload: payload.into_bytes().into(),
        };
        match core.log.append(message) {
            Ok(_) => core.auditing.link = next,
            Err(_) => core.log.unrecorded += 1,
        }
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::hub::{Taken, testing};
    use crate::journal::record::{Record, Records};
    use crate::router::access::AccessList;

    fn hub() -> std::sync::Arc<Hub> {
        testing::hub_that_records(testing::settings(), AccessList::default())
    }

    /// The payloads of what would be committed now.
    fn recorded(taken: &Taken) -> Vec<Vec<u8>> {
        let records = Records::new(&taken.batch().records).filter_map(|raw| raw.decode());
        let payload = |record| match record {
            Record::Message(message) if message.kind == Kind::Audit => Some(message.payload.into_owned()),
            _ => None,
        };
        records.filter_map(payload).collect()
    }

    #[test]
    fn deeds_form_a_chain_and_those_that_repeat_are_counted() {
        let hub = hub();
        let pump = Uid::parse("pump").unwrap();
        let from = Some(IpAddr::from([10, 0, 0, 1]));
        hub.audit(Deed::own(What::Started, "version \"1\""));
        let login = Deed { what: What::Login, who: "pump", uid: Some(pump), from, detail: "" };
        (0..3).for_each(|_| hub.audit(login));
        hub.audit(Deed { what: What::Refused, who: "", uid: None, from, detail: "tls" });
        hub.tick_audit(true);
        let payloads = recorded(&hub.take_batch().unwrap());
        let mut link = Link::default();
        let said = payloads.iter().map(|payload| {
            let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
            let uid = if json["what"] == "login" { pump } else { Uid::CENTRAL };
            assert_eq!(link.step(uid, GroupName::NONE, payload), Ok(()));
            format!("{} {} {}", json["n"], json["what"].as_str().unwrap(), json["count"])
        });
        let said: Vec<_> = said.collect();
        assert_eq!(said, ["1 started 1", "2 login 1", "3 refused 1", "4 login 2"]);
    }
}
