//! What partner networks bring on its way into the journal: told from second tries, judged by the rules of groups,
//! recorded, and handed to the central like any telemetry.
//!
//! Everything that comes of a message is a message itself, with a [`Link`] to the first: second tries and what networks say
//! later are events of its object. What cannot be mapped is an event without an object, which stands in for the message
//! that it may become (see [`MessageId::beside`]).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::alerts::{Alerts, Rule};
use super::auditing::{Deed, What};
use super::durable::NeverDurable;
use super::intake::{Arrival, IntakeError, Receipt};
use super::second_tries::{Recollect, key_of_later};
use super::{Hub, Turn, lock};
use crate::ingest::{Kept, Link, Mapped, Outcome, Shape};
use crate::journal::front::{Refused, Takes};
use crate::journal::record::{Kind, Message, State, Via};
use crate::journal::stamp::{Clock, MessageId};
use crate::router::Count;
use crate::wire::{Format, GroupName, Payload, Uid};

/// Shapes of one source that are told one by one: there is room for other alerts, too.
pub const SHAPES_TOLD_MAX: usize = 16;

/// An element that is kept in quarantine.
#[derive(Debug, Clone, Copy)]
pub struct InQuarantine<'a> {
    /// The source that brought it.
    pub source: &'a str,
    /// The group of its objects that the access list does not name.
    pub group: Option<GroupName>,
    /// The only groups that it may be of, if there are any.
    pub groups: &'a BTreeSet<GroupName>,
    /// The id that it was answered with.
    pub id: MessageId,
    /// When it came, in microseconds since 1970.
    pub arrived_us: i64,
}

/// What became of an element that was in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// It is a message now.
    Mapped,
    /// It came before, or belongs to a message that did.
    Duplicate,
    /// It carries nothing.
    Ignored,
    /// It stays; why.
    Stays(Cow<'static, str>),
}

/// The hub's side of it.
#[derive(Debug, Default)]
pub(super) struct IngestDesk {
    /// Shapes of bodies in quarantine that were told, by source.
    told: BTreeMap<String, BTreeSet<Shape>>,
}

impl IngestDesk {
    /// Alerts to a shape that cannot be mapped.
    fn tell(&mut self, alerts: &Alerts, source: &str, shape: Shape, reason: &str) {
        let told = self.told.entry(source.to_owned()).or_default();
        let is_one_of_few = told.len() < SHAPES_TOLD_MAX || told.contains(&shape);
        let (subject, reason) = match is_one_of_few {
            true => (format!("{source} {shape}"), reason),
            false => (source.to_owned(), "bodies of many shapes"),
        };
        if is_one_of_few {
            told.insert(shape);
        }
        let sentence = format!(
            "what `{source}` posts is kept in quarantine ({reason}): mend [ingest.{source}], then `iotsocketd remap {source}`"
        );
        alerts.raise(Rule::Quarantine, &subject, sentence);
    }
}

impl Hub {
    /// Takes what a source brought, see [`super::intake::Intake::take`].
    pub async fn take_of_network(
        &self,
        source: &str,
        arrivals: Vec<Arrival>,
        journal: &impl Recollect,
    ) -> Result<Vec<Receipt>, IntakeError> {
        self.wait_for_before().await?;
        self.recollect(source, arrivals.iter().filter_map(Arrival::mapped), journal).await?;
        let (receipts, on_flash) = self.take_arrivals(source, arrivals)?;
        on_flash.await?;
        Ok(receipts)
    }

    /// Microseconds since 1970, `None` while the machine does not know the time.
    pub fn right_us(&self) -> Option<i64> {
        let now = lock(&self.core).log.stamp();
        (now.clock == Clock::Synced).then_some(now.wall_us)
    }

    /// Takes an element out of quarantine, if the outcome of mapping it now is more than that it cannot be mapped. It
    /// keeps its id and time. What is recorded is on flash after [`Hub::all_recorded`].
    pub fn release(&self, kept: &InQuarantine<'_>, outcome: Outcome) -> Result<Released, IntakeError> {
        let mut turn = self.turn(Instant::now());
        let released = turn.release(kept, outcome);
        turn.pump();
        released
    }

    /// A source's quarantine was looked through: these are left of it, each with what is wrong.
    pub fn looked_through(&self, source: &str, left: &[(Shape, String)]) {
        let mut core = lock(&self.core);
        core.ingest.told.remove(source);
        let of_source = |subject: &str| subject.split(' ').next() == Some(source);
        for up in self.alerts.up().iter().filter(|up| up.rule == Rule::Quarantine && of_source(&up.subject)) {
            self.alerts.clear(Rule::Quarantine, &up.subject);
        }
        for (shape, reason) in left {
            core.ingest.tell(&self.alerts, source, *shape, reason);
        }
    }

    fn take_arrivals(
        &self,
        source: &str,
        arrivals: Vec<Arrival>,
    ) -> Result<(Vec<Receipt>, impl Future<Output = Result<(), NeverDurable>> + Send + use<>), IntakeError>
    {
        let mut turn = self.turn(Instant::now());
        match turn.core.log.front.takes() {
            Takes::Everything => {}
            Takes::Essentials => return Err(IntakeError::Full),
            Takes::Nothing => return Err(IntakeError::ReadOnly),
        }
        let taken: Result<Vec<_>, _> =
            arrivals.into_iter().map(|arrival| turn.take_arrival(source, arrival)).collect();
        turn.pump();
        Ok((taken?, turn.core.log.wait_for_all()))
    }
}

impl Turn<'_> {
    fn take_arrival(&mut self, source: &str, arrival: Arrival) -> Result<Receipt, IntakeError> {
        match arrival {
            Arrival::Message { group, mapped } => self.take_message(source, group, &mapped),
            Arrival::Merge { group, mapped } => self.take_merge(source, group, &mapped),
            Arrival::Quarantine { group, kept, raw } => self.quarantine(source, group, &kept, &raw),
        }
    }

    fn take_message(
        &mut self,
        source: &str,
        group: GroupName,
        mapped: &Mapped,
    ) -> Result<Receipt, IntakeError> {
        if let Some(first) = self.first_of(source, mapped.dedup.as_deref()) {
            let network = Link::Duplicate(first).put_before("{}");
            let event = event(mapped.uid, group, source, &network);
            self.core.log.append(event).map_err(not_taken)?;
            return Ok(Receipt::Duplicate(first));
        }
        let payload = Payload::new(mapped.format, &mapped.payload).unwrap_or(Payload::EMPTY);
        if let Err(count) = self.core.router.ingested(self.now, mapped.uid, group, payload) {
            let why = refusal(count, group, mapped);
            let (who, uid) = (mapped.uid.as_str(), Some(mapped.uid));
            self.audit(Deed { who, uid, ..Deed::own(What::MessageRefused, &format!("{source}: {why}")) });
            return Ok(match count {
                Count::RateExceeded => Receipt::TooFast(why.into()),
                _ => Receipt::Refused(why.into()),
            });
        }
        let message = telemetry(group, source, &mapped.network, mapped);
        let appended = self.core.log.append(message);
        let seq = match appended {
            Ok(seq) => seq,
            Err(Refused::TooLarge) => return Ok(Receipt::Refused(Refused::TooLarge.to_string().into())),
            Err(refused) => return Err(not_taken(refused)),
        };
        let (id, time_us) = self.id_of(seq);
        self.core.central.received(group);
        if let Some(group) = self.core.router.group_of(mapped.uid) {
            self.core.seen.sent(mapped.uid, group, None, self.now);
        }
        if let (Some(dedup), Some(before)) = (&mapped.dedup, &mut self.core.tries.before) {
            before.note_key(source, dedup, id, seq, time_us);
        }
        Ok(Receipt::Taken(id))
    }

    fn take_merge(
        &mut self,
        source: &str,
        group: GroupName,
        mapped: &Mapped,
    ) -> Result<Receipt, IntakeError> {
        let first = self.first_of(source, mapped.dedup.as_deref());
        let later = mapped.dedup.as_deref().map(key_of_later);
        let again = self.first_of(source, later.as_deref());
        let network = match (again, first) {
            (Some(first), _) => Link::Duplicate(first).put_before("{}"),
            (None, Some(first)) => Link::Merged(first).put_before(&mapped.network),
            (None, None) if mapped.has_data => return self.take_message(source, group, mapped),
            (None, None) => mapped.network.clone(),
        };
        let event = event(mapped.uid, group, source, &network);
        let seq = self.core.log.append(event).map_err(not_taken)?;
        let (id, time_us) = self.id_of(seq);
        let (receipt, of) = match (again, first) {
            (Some(first), _) => return Ok(Receipt::Duplicate(first)),
            (None, Some(first)) => (Receipt::Merged(first), first),
            (None, None) => (Receipt::Taken(id), id),
        };
        if let (Some(later), Some(before)) = (&later, &mut self.core.tries.before) {
            before.note_key(source, later, of, seq, time_us);
        }
        Ok(receipt)
    }

    fn release(&mut self, kept: &InQuarantine<'_>, outcome: Outcome) -> Result<Released, IntakeError> {
        let (mapped, is_later) = match outcome {
            Outcome::Unmapped(unmapped) => return Ok(Released::Stays(unmapped.sentence)),
            Outcome::Ignored(_) => {
                let network = Link::Released(kept.id).put_before("{}");
                let release = event(Uid::CENTRAL, GroupName::NONE, kept.source, &network);
                self.core.log.append(release).map_err(not_taken)?;
                return Ok(Released::Ignored);
            }
            Outcome::Message(mapped) => (mapped, false),
            Outcome::Merge(mapped) => (mapped, true),
        };
        let listed = self.core.router.group_of(mapped.uid);
        let Some(group) = listed.or(kept.group) else {
            return Ok(Released::Stays("the access list does not name this object".into()));
        };
        if !kept.groups.is_empty() && !kept.groups.contains(&group) {
            let sentence = format!("the key that brought it may not bring messages of the group `{group}`");
            return Ok(Released::Stays(sentence.into()));
        }
        let released = Link::Released(kept.id).put_before("{}");
        // Of no group, as one that goes before what was in quarantine would let it leave that twice.
        let release = event(Uid::CENTRAL, GroupName::NONE, kept.source, &released);
        let first = self.first_of(kept.source, mapped.dedup.as_deref());
        let later = mapped.dedup.as_deref().filter(|_| is_later).map(key_of_later);
        let again = self.first_of(kept.source, later.as_deref());
        let beside = match (again, first) {
            (Some(first), _) => Some(Link::Duplicate(first).put_before("{}")),
            (None, Some(first)) if is_later => Some(Link::Merged(first).put_before(&mapped.network)),
            (None, Some(first)) => Some(Link::Duplicate(first).put_before("{}")),
            (None, None) if is_later && !mapped.has_data => Some(mapped.network.clone()),
            (None, None) => None,
        };
        if let Some(network) = beside {
            let event = event(mapped.uid, group, kept.source, &network);
            let seq = self.core.log.append_with(event, release).map_err(not_taken)?;
            let (id, time_us) = self.id_of(seq);
            if let (Some(later), None, Some(before)) = (&later, again, &mut self.core.tries.before) {
                before.note_key(kept.source, later, first.unwrap_or(id), seq, time_us);
            }
            return Ok(Released::Duplicate);
        }
        let payload = Payload::new(mapped.format, &mapped.payload).unwrap_or(Payload::EMPTY);
        if let Err(count) = self.core.router.takes_of_network(group, payload) {
            return Ok(Released::Stays(refusal(count, group, &mapped).into()));
        }
        let network = Link::Remapped(kept.id, kept.arrived_us).put_before(&mapped.network);
        let message = telemetry(group, kept.source, &network, &mapped);
        let seq = self.core.log.append_with(message, release).map_err(not_taken)?;
        self.core.central.received(group);
        // When it was recorded, not when it came: by the times of keys their age is measured.
        let (_, time_us) = self.id_of(seq);
        if let (Some(dedup), Some(before)) = (&mapped.dedup, &mut self.core.tries.before) {
            before.note_key(kept.source, dedup, kept.id, seq, time_us);
        }
        Ok(Released::Mapped)
    }

    fn quarantine(
        &mut self,
        source: &str,
        group: Option<GroupName>,
        kept: &Kept,
        raw: &[u8],
    ) -> Result<Receipt, IntakeError> {
        let network = kept.to_network();
        let format = match serde_json::from_slice::<&serde_json::value::RawValue>(raw) {
            Ok(_) => Format::Json,
            Err(_) => Format::Binary,
        };
        let group = group.unwrap_or(GroupName::NONE);
        let message = Message {
            format,
            state: State::Refused,
            payload: raw.into(),
            ..event(Uid::CENTRAL, group, source, &network)
        };
        let seq = match self.core.log.append(message) {
            Ok(seq) => seq,
            Err(Refused::TooLarge) => return Ok(Receipt::Refused(Refused::TooLarge.to_string().into())),
            Err(refused) => return Err(not_taken(refused)),
        };
        let (id, _) = self.id_of(seq);
        self.core.ingest.tell(&self.hub.alerts, source, kept.shape, &kept.sentence);
        Ok(Receipt::Quarantined(id))
    }

    /// The id and the time of what was just appended.
    fn id_of(&self, seq: crate::journal::Seq) -> (MessageId, i64) {
        let front = &self.core.log.front;
        // What was just appended is in memory.
        let time_us = front.get(seq).map_or(0, |stored| stored.stamp.wall_us);
        (MessageId::new(time_us, seq, front.journal()), time_us)
    }
}

/// Whether this is an element that is kept in quarantine.
pub fn is_quarantine(message: &Message<'_>) -> bool {
    message.kind == Kind::Event && message.via == Via::Ingest && message.state == State::Refused
}

/// What the sender is told of a message that is against the rules of its object's group.
fn refusal(count: Count, group: GroupName, mapped: &Mapped) -> String {
    match count {
        Count::PayloadTooLarge => {
            format!("objects of the group `{group}` may not send {} bytes", mapped.payload.len())
        }
        Count::PayloadNotItsFormat => format!("the payload is no {}", mapped.format.name()),
        Count::RateExceeded => {
            format!("more than the group `{group}` may send of one object: try again later")
        }
        _ => format!("objects of the group `{group}` may not send telemetry"),
    }
}

fn telemetry<'a>(group: GroupName, source: &'a str, network: &'a str, mapped: &'a Mapped) -> Message<'a> {
    Message {
        kind: Kind::Telemetry,
        format: mapped.format,
        state: State::Waiting,
        payload: mapped.payload.as_slice().into(),
        ..event(mapped.uid, group, source, network)
    }
}

/// Something that is kept beside messages, without data.
fn event<'a>(uid: Uid, group: GroupName, source: &'a str, network: &'a str) -> Message<'a> {
    Message {
        uid,
        group,
        kind: Kind::Event,
        via: Via::Ingest,
        format: Format::Binary,
        state: State::Stored,
        source: Some(source.into()),
        network: Some(network.as_bytes().into()),
        payload: (&[][..]).into(),
    }
}

fn not_taken(refused: Refused) -> IntakeError {
    match refused {
        Refused::Behind | Refused::TooLarge => IntakeError::Busy,
        Refused::Full => IntakeError::Full,
        Refused::ReadOnly => IntakeError::ReadOnly,
    }
}
