//! What partner networks bring on its way into the journal: told from second tries, judged by the rules of groups,
//! recorded, and handed to the central like any telemetry.
//!
//! Everything that comes of a message is a message itself, with a [`Link`] to the first: second tries and what networks say
//! later are events of its object. What cannot be mapped is an event without an object, which stands in for the message
//! that it may become (see [`MessageId::beside`]).

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use async_io::Timer;
use smol::future::FutureExt as _;

use super::backend::Pending;
use super::durable::NeverDurable;
use super::intake::{Arrival, Intake, IntakeError, Receipt};
use super::{Hub, Turn, lock};
use crate::ingest::{Kept, Link, Mapped, Seen, Shape, Shapes};
use crate::journal::front::{Refused, Takes};
use crate::journal::record::{Kind, Message, State, Via};
use crate::journal::stamp::{Clock, MessageId};
use crate::logfmt::Quoted;
use crate::router::Count;
use crate::wire::{Format, GroupName, Payload, Uid};

/// How long a request is held while it is not known what came before the start. Networks wait 10 s.
const PATIENCE: Duration = Duration::from_secs(5);
/// What stands before the key of what a network says later: it has second tries of its own.
const LATER: &str = "later ";

/// What is known of messages that came before.
#[derive(Debug, Default)]
pub struct Before {
    seen: Seen<MessageId>,
    shapes: Shapes,
    /// Elements in quarantine by source, as far as this knows.
    quarantined: BTreeMap<String, u64>,
}

impl Before {
    /// Takes up a record that came in by a source, oldest first. `id` is the record's own, `time_us` when it came in.
    pub fn note(&mut self, id: MessageId, time_us: i64, message: &Message<'_>) {
        let (Some(source), Some(network)) = (&message.source, &message.network) else { return };
        let dedup = || crate::ingest::dedup_of_stored(network);
        let (key, first) = match (message.kind, Link::of_stored(network)) {
            (Kind::Telemetry, Some(Link::Remapped(first, _))) => (dedup(), first),
            (Kind::Telemetry, _) => (dedup(), id),
            (_, Some(Link::Merged(first))) => (dedup().map(|key| format!("{LATER}{key}")), first),
            (_, Some(Link::Released(_))) => return self.release(source),
            (_, Some(_)) => return,
            (_, None) if is_quarantine(message) => {
                let Some(kept) = Kept::from_network(network) else { return };
                self.quarantine(source, kept.shape);
                return;
            }
            (_, None) => (dedup().map(|key| format!("{LATER}{key}")), id),
        };
        if let Some(key) = key {
            self.seen.note(source, &key, first, time_us);
        }
    }

    /// One element more; whether its shape is new.
    fn quarantine(&mut self, source: &str, shape: Shape) -> bool {
        *self.quarantined.entry(source.to_owned()).or_default() += 1;
        self.shapes.is_new(source, shape)
    }

    /// One element less.
    fn release(&mut self, source: &str) {
        if let Some(count) = self.quarantined.get_mut(source) {
            *count -= 1;
            if *count == 0 {
                self.quarantined.remove(source);
                self.shapes.forget(source);
            }
        }
    }
}

/// The hub's side of it.
#[derive(Debug, Default)]
pub(super) struct IngestDesk {
    /// `None`: it is still being read.
    before: Option<Before>,
    waiting: Vec<Waker>,
}

/// The intake of this hub.
#[derive(Debug, Clone)]
pub struct HubIntake(Arc<Hub>);

impl HubIntake {
    /// It takes nothing before [`Hub::give_before`].
    pub fn new(hub: &Arc<Hub>) -> Self {
        Self(Arc::clone(hub))
    }
}

impl Intake for HubIntake {
    fn take(&self, source: &str, arrivals: Vec<Arrival>) -> Pending<Result<Vec<Receipt>, IntakeError>> {
        let (hub, source) = (Arc::clone(&self.0), source.to_owned());
        Box::pin(async move {
            hub.wait_for_before().await?;
            let (receipts, on_flash) = hub.take_arrivals(&source, arrivals)?;
            on_flash.await.map_err(|NeverDurable| IntakeError::ReadOnly)?;
            Ok(receipts)
        })
    }

    fn now_us(&self) -> Option<i64> {
        let now = lock(&self.0.core).log.stamp();
        (now.clock == Clock::Synced).then_some(now.wall_us)
    }
}

impl Hub {
    /// What came before the start is known now.
    pub fn give_before(&self, before: Before) {
        let waiting = {
            let desk = &mut lock(&self.core).ingest;
            desk.before = Some(before);
            std::mem::take(&mut desk.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// How many elements are in quarantine, by source; of the last day and since the start.
    pub fn quarantined(&self) -> BTreeMap<String, u64> {
        let core = lock(&self.core);
        core.ingest.before.as_ref().map(|before| before.quarantined.clone()).unwrap_or_default()
    }

    /// Resolves when it is known what came before the start.
    async fn wait_for_before(&self) -> Result<(), IntakeError> {
        let known = poll_fn(|context| {
            let desk = &mut lock(&self.core).ingest;
            if desk.before.is_some() {
                return Poll::Ready(Ok(()));
            }
            desk.waiting.push(context.waker().clone());
            Poll::Pending
        });
        if lock(&self.core).ingest.before.is_some() {
            return Ok(());
        }
        known
            .or(async {
                Timer::after(PATIENCE).await;
                Err(IntakeError::Starting)
            })
            .await
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
        if let Err(receipt) = self.judge(group, mapped) {
            return Ok(receipt);
        }
        let message = telemetry(group, source, &mapped.network, mapped);
        let appended = self.core.log.append(message);
        let (id, time_us) = match appended {
            Ok(seq) => self.id_of(seq),
            Err(Refused::TooLarge) => return Ok(Receipt::Refused(Refused::TooLarge.to_string().into())),
            Err(refused) => return Err(not_taken(refused)),
        };
        self.core.central.received(group);
        if self.core.router.group_of(mapped.uid).is_some() {
            self.core.seen.heard(mapped.uid, self.now);
        }
        if let (Some(dedup), Some(before)) = (&mapped.dedup, &mut self.core.ingest.before) {
            before.seen.note(source, dedup, id, time_us);
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
        let later = mapped.dedup.as_ref().map(|dedup| format!("{LATER}{dedup}"));
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
        if let (Some(later), Some(before)) = (&later, &mut self.core.ingest.before) {
            before.seen.note(source, later, of, time_us);
        }
        Ok(receipt)
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
        let before = self.core.ingest.before.as_mut();
        if before.is_some_and(|before| before.quarantine(source, kept.shape)) {
            let (shape, reason) = (kept.shape, Quoted(&kept.sentence));
            log::warn!(
                "event=quarantined source={} shape={shape} id={id} reason={reason} action=\"mend [ingest], then remap\"",
                Quoted(&source)
            );
        }
        Ok(Receipt::Quarantined(id))
    }

    /// The first message with this key.
    fn first_of(&self, source: &str, dedup: Option<&str>) -> Option<MessageId> {
        self.core.ingest.before.as_ref()?.seen.find(source, dedup?)
    }

    /// Whether the rules of its object's group take a message; if not, what its sender is told.
    fn judge(&mut self, group: GroupName, mapped: &Mapped) -> Result<(), Receipt> {
        let payload = Payload::new(mapped.format, &mapped.payload).unwrap_or(Payload::EMPTY);
        let judged = self.core.router.ingested(self.now, mapped.uid, group, payload);
        judged.map_err(|count| match count {
            Count::RateExceeded => Receipt::TooFast(group),
            Count::PayloadTooLarge => {
                let len = mapped.payload.len();
                Receipt::Refused(format!("objects of the group `{group}` may not send {len} bytes").into())
            }
            Count::PayloadNotItsFormat => {
                Receipt::Refused(format!("the payload is no {}", mapped.format.name()).into())
            }
            _ => Receipt::Refused(format!("objects of the group `{group}` may not send telemetry").into()),
        })
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
