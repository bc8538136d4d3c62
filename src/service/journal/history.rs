//! What was recorded, for the API, the stream and the commands.

use std::fmt::Write as _;
use std::sync::{Arc, Weak};

use super::audited;
use super::seen::{Newest, Seen};
use super::worker::{Busy, Worker};
use super::{linked, subscribed};
use crate::delivery::central;
use crate::delivery::commands::Kept;
use crate::hub::Hub;
use crate::hub::backend::Pending;
use crate::hub::history::{
    Answer, AuditReport, Found, Gone, History, HistoryError, Kind, MessageQuery, MessageView, Outcome, Page,
    State, TraceEvent, Which,
};
use crate::journal::Seq;
use crate::journal::catalog::Catalog;
use crate::journal::error::JournalError;
use crate::journal::reader::Reader;
use crate::journal::record::{self, Moment, Record};
use crate::journal::state::Small;
use crate::journal::stored::shown_time;
use crate::service::disk::Disk;

/// The journal, to be asked.
#[derive(Debug)]
pub struct Records {
    newest: Arc<Newest>,
    worker: Arc<Worker>,
    hub: Weak<Hub>,
}

impl Records {
    pub(super) fn new(newest: Arc<Newest>, worker: Arc<Worker>, hub: Weak<Hub>) -> Self {
        Self { newest, worker, hub }
    }

    /// Asks the thread that reads.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Reader<Disk>, &Seen) -> Result<T, JournalError> + Send + 'static,
    ) -> Pending<Result<T, HistoryError>> {
        let (answer, answered) = smol::channel::bounded(1);
        let asked = self.worker.ask(move |reader, seen| {
            // Whoever asked may have gone away.
            let _gone = answer.try_send(question(reader, seen));
        });
        Box::pin(async move {
            asked.map_err(|Busy| HistoryError::Busy)?;
            let answer = answered.recv().await.map_err(|_| HistoryError::Busy)?;
            answer.map_err(|error| HistoryError::Storage(error.to_string()))
        })
    }
}

impl History for Records {
    fn messages(&self, query: MessageQuery) -> Pending<Result<Page, HistoryError>> {
        let hub = Weak::clone(&self.hub);
        self.ask(move |reader, seen| {
            let asked = query.to_reader();
            let order = asked.as_ref().map(|asked| asked.order);
            let found = asked.map(|asked| reader.read(&seen.catalog, &asked)).transpose()?;
            let order = order.unwrap_or(crate::journal::reader::Order::OldestFirst);
            let mut page = Page::of_reader(found, order, &seen.catalog);
            page.messages.iter_mut().for_each(|message| message.state = state(seen, message));
            subscribed::add_states(&hub, &mut page.messages);
            Ok(page)
        })
    }

    fn message(&self, which: Which) -> Pending<Result<Found, HistoryError>> {
        let hub = Weak::clone(&self.hub);
        self.ask(move |reader, seen| {
            let found = match which {
                Which::Id(id) => Some(id),
                Which::Seq(seq) => {
                    let stored = reader.get(&seen.catalog, seq)?;
                    stored.map(|stored| stored.id(seen.catalog.journal))
                }
            };
            let Some(id) = found else { return Ok(no_more(seen, which)) };
            let Some((stored, mut events)) = linked::find(reader, seen, id)? else {
                let seq = id.seq(seen.catalog.journal).unwrap_or_default();
                let is_another = reader.get(&seen.catalog, seq)?.is_some();
                return Ok(if is_another { Found::Nothing } else { no_more(seen, which) });
            };
            let for_central = central::is_for_central(&stored.message);
            let later = linked::later(reader, seen, &stored, id)?;
            let mut view = MessageView { id, ..MessageView::of_stored(stored, &seen.catalog) };
            view.state = state(seen, &view);
            subscribed::add_states(&hub, std::slice::from_mut(&mut view));
            events.extend(subscribed::events(reader, seen, &hub, &view)?);
            if for_central {
                events.extend(end_at_central(reader, seen, &view)?);
            }
            if view.kind == Kind::Command {
                let (state, end) = end_of_command(reader, seen, &view)?;
                view.state = state;
                events.extend(end);
            }
            if !later.is_empty() {
                events.extend(later);
                events.sort_by_key(|event| event.time_us);
            }
            view.trace = Some(events);
            Ok(Found::Message(Box::new(view)))
        })
    }

    fn verify_audit(&self) -> Pending<Result<AuditReport, HistoryError>> {
        self.ask(audited::verify)
    }

    fn wait_beyond(&self, seq: Seq) -> Pending<()> {
        let newest = Arc::clone(&self.newest);
        Box::pin(async move { newest.wait_beyond(seq).await })
    }
}

/// What became of a message that was to be delivered, and is there: what was dropped is not.
fn state(seen: &Seen, message: &MessageView) -> State {
    if message.state != State::Waiting {
        return message.state;
    }
    if message.kind == Kind::Command {
        return seen.finished.get(&message.seq).copied().unwrap_or(State::Waiting);
    }
    let has_it = seen.cursors.get(central::NAME).is_some_and(|cursor| {
        message.seq <= cursor.up_to && cursor.holes.binary_search(&message.seq).is_err()
    });
    if has_it { State::Delivered } else { State::Waiting }
}

/// What is known of a message that is not there.
fn no_more(seen: &Seen, which: Which) -> Found {
    let (id, seq) = match which {
        Which::Id(id) => match id.seq(seen.catalog.journal) {
            Some(seq) => (Some(id), seq),
            None => return Found::Foreign,
        },
        Which::Seq(seq) => (None, seq),
    };
    if !(1..seen.catalog.next_seq).contains(&seq) {
        return Found::Nothing;
    }
    let ranges: Vec<_> = seen.gone.iter().filter(|gone| (gone.from..=gone.to).contains(&seq)).collect();
    let Some(last) = ranges.last() else { return Found::Left };
    let received = id.map(|id| TraceEvent::new(Outcome::Received, id.time_us()));
    let ends = ranges.iter().map(|gone| end_of_gone(gone, &seen.catalog));
    Found::Gone(Gone {
        id,
        seq,
        state: last.cause.says().0,
        trace: received.into_iter().chain(ends).collect(),
    })
}

fn end_of_gone(gone: &record::Gone, catalog: &Catalog) -> TraceEvent {
    let record::Gone { from, to, count, cause, destination, at } = gone;
    let (state, reason) = cause.says();
    let what = if state == State::Expired { Outcome::Expired } else { Outcome::Dropped };
    let time = at.map(|Moment { boot, stamp }| shown_time(&stamp, boot, &catalog.boots).0);
    let mut reason = reason.to_owned();
    if *count > 1 {
        // Writing into a string cannot fail.
        let _written = write!(reason, "; it is one of {count} from {from} to {to}");
    }
    if time.is_none() {
        reason.push_str("; when is not known");
    }
    let to = Some(destination.clone());
    TraceEvent { to, reason: Some(reason), ..TraceEvent::new(what, time.unwrap_or_default()) }
}

/// What the central had to do with a message in the end, if it came to an end.
fn end_at_central(
    reader: &mut Reader<Disk>,
    seen: &Seen,
    message: &MessageView,
) -> Result<Option<TraceEvent>, JournalError> {
    let seq = message.seq;
    let has = |up_to: Seq, holes: &[Seq]| seq <= up_to && !holes.contains(&seq);
    let is_over = |small: &Small| {
        small.cursors.get(central::NAME).is_some_and(|cursor| has(cursor.up_to, &cursor.holes))
    };
    let found = reader.first_note(&seen.catalog, seq, is_over, |record| match record {
        Record::Cursor { destination, up_to, holes }
            if destination == central::NAME && has(up_to, &holes) =>
        {
            Some(())
        }
        _ => None,
    })?;
    let to = Some(central::NAME.to_owned());
    Ok(found.map(|((), time_us)| TraceEvent { to, ..TraceEvent::new(Outcome::Delivered, time_us) }))
}

/// What became of a queued command, with the object's answer.
fn end_of_command(
    reader: &mut Reader<Disk>,
    seen: &Seen,
    message: &MessageView,
) -> Result<(State, Vec<TraceEvent>), JournalError> {
    let seq = message.seq;
    let is_over = |small: &Small| {
        let kept = small.commands.get(&seq).and_then(|state| Kept::decode(&state.data));
        kept.is_none_or(|kept| kept.outcome().is_some())
    };
    let ended = reader.first_note(&seen.catalog, seq, is_over, |record| match record {
        Record::Command { seq: of, data, .. } if of == seq => {
            Kept::decode(&data).filter(|kept| kept.outcome().is_some())
        }
        _ => None,
    })?;
    let Some((kept, time_us)) = ended else { return Ok((State::Waiting, Vec::new())) };
    let mut events = Vec::new();
    if let Some((attempt, sent_us)) = kept.sent() {
        let to = Some(message.uid.as_str().to_owned());
        events.push(TraceEvent { to, attempt: Some(attempt), ..TraceEvent::new(Outcome::Sent, sent_us) });
    }
    let Some(outcome) = kept.outcome() else { return Ok((State::Waiting, events)) };
    let what = match outcome.state {
        State::Delivered => Outcome::Delivered,
        State::Expired => Outcome::Expired,
        _ => Outcome::Dropped,
    };
    let answer =
        outcome.payload().map(|(format, data)| Answer { code: outcome.code, format, data: data.to_vec() });
    let reason = outcome.reason().map(str::to_owned);
    events.push(TraceEvent {
        to: Some(message.uid.as_str().to_owned()),
        reason,
        answer,
        ..TraceEvent::new(what, time_us)
    });
    Ok((outcome.state, events))
}
