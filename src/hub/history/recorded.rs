//! Questions and answers in the journal's own terms.

use std::collections::BTreeMap;

use super::{MessageQuery, MessageView, Page, Via};
use crate::hub::ingesting::is_quarantine;
use crate::ingest::Link;
use crate::journal::catalog::Catalog;
use crate::journal::reader::{self, Order, Query};
use crate::journal::stamp::JournalId;
use crate::journal::stored::Stored;

impl MessageQuery {
    /// What a reader of the journal is asked; `None`: nothing can match, which it has no way to say.
    pub fn to_reader(&self) -> Option<Query> {
        if self.groups.as_ref().is_some_and(Vec::is_empty) || self.after == u64::MAX {
            return None;
        }
        let from = Query::from(self.after.saturating_add(1));
        Some(Query {
            from_us: self.from_us.unwrap_or(from.from_us),
            below_us: self.to_us.unwrap_or(from.below_us),
            uid: self.uid,
            groups: self.groups.clone().unwrap_or_default(),
            kinds: self.kind.into_iter().collect(),
            limit: self.limit,
            bytes_max: self.bytes,
            order: if self.newest { Order::NewestFirst } else { Order::OldestFirst },
            ..from
        })
    }
}

impl Page {
    /// What a reader found in the journal of this catalog, `None` if it was not asked.
    pub fn of_reader(found: Option<reader::Page>, order: Order, catalog: &Catalog) -> Self {
        let last = catalog.next_seq.saturating_sub(1);
        let Some(found) = found else { return Self { messages: Vec::new(), next: last } };
        let mut messages: Vec<_> =
            found.messages.into_iter().map(|stored| MessageView::of_stored(stored, catalog)).collect();
        let next = match order {
            Order::OldestFirst => found.next.map_or(last, |next| next.saturating_sub(1)),
            Order::NewestFirst => {
                messages.reverse();
                last
            }
        };
        Self { messages, next }
    }
}

impl MessageView {
    /// A message of the journal of this catalog, in its state at insertion and without a trace. One that left the
    /// quarantine has the id and the time that it got when it arrived.
    pub fn of_stored(stored: Stored, catalog: &Catalog) -> Self {
        Self::of(stored, catalog.journal, &catalog.boots)
    }

    /// The same of the journal of this number, where the time of these boots is known.
    pub fn of(stored: Stored, journal: JournalId, boots: &BTreeMap<u32, i64>) -> Self {
        let (mut id, (mut time_us, clock)) = (stored.id(journal), stored.time(boots));
        let message = stored.message;
        if is_quarantine(&message) {
            id = id.beside();
        } else if message.via == Via::Ingest
            && let Some(Link::Remapped(first, arrived_us)) =
                message.network.as_deref().and_then(Link::of_stored)
        {
            (id, time_us) = (first, arrived_us);
        }
        Self {
            id,
            seq: stored.seq,
            time_us,
            clock,
            kind: message.kind,
            uid: message.uid,
            group: message.group,
            via: message.via,
            format: message.format,
            payload: message.payload.into_owned(),
            state: message.state,
            source: message.source.map(|source| source.into_owned()),
            network: message.network.map(|network| network.into_owned()),
            trace: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Clock, Kind, State};
    use super::*;
    use crate::journal::record::Message;
    use crate::journal::stamp::{self, Stamp};
    use crate::wire::{Format, GroupName, Uid};

    fn catalog() -> Catalog {
        let boots = Arc::new(BTreeMap::from([(1, 1_000_000)]));
        Catalog { journal: JournalId([7; 16]), segments: Vec::new(), next_seq: 10, boots }
    }

    fn stored(seq: u64) -> Stored {
        let message = Message {
            uid: Uid::parse("o").unwrap(),
            group: GroupName::parse("g").unwrap(),
            kind: Kind::Telemetry,
            via: Via::Ingest,
            format: Format::Utf8,
            state: State::Waiting,
            source: Some("net".into()),
            network: Some(b"{}"[..].into()),
            payload: b"x"[..].into(),
        };
        let stamp = Stamp { mono_us: 500, wall_us: 2000, clock: stamp::Clock::Unsynced };
        Stored { seq, boot: 1, stamp, message }
    }

    fn found(seqs: &[u64], next: Option<u64>) -> Option<reader::Page> {
        let mut page = reader::Page::default();
        page.messages = seqs.iter().map(|seq| stored(*seq)).collect();
        page.next = next;
        Some(page)
    }

    #[test]
    fn a_question_that_nothing_can_match_is_not_asked() {
        let mut query = MessageQuery::all(5, 100);
        assert_eq!(query.to_reader().unwrap().from, 1);
        assert!(query.to_reader().unwrap().groups.is_empty(), "to the reader that means any");
        query.groups = Some(Vec::new());
        assert!(query.to_reader().is_none());
        query.groups = None;
        query.after = u64::MAX;
        assert!(query.to_reader().is_none());
    }

    #[test]
    fn pages_are_in_order_and_say_where_to_go_on() {
        let of = |found, order| {
            let page = Page::of_reader(found, order, &catalog());
            let seqs: Vec<u64> = page.messages.iter().map(|message| message.seq).collect();
            (seqs, page.next)
        };
        assert_eq!(of(found(&[2, 4], Some(5)), Order::OldestFirst), (vec![2, 4], 4));
        assert_eq!(of(found(&[2, 4], None), Order::OldestFirst), (vec![2, 4], 9));
        assert_eq!(of(found(&[8, 6], Some(6)), Order::NewestFirst), (vec![6, 8], 9));
        assert_eq!(of(None, Order::OldestFirst), (vec![], 9));
    }

    #[test]
    fn a_message_has_its_corrected_time_and_keeps_the_id_of_its_first() {
        let view = MessageView::of_stored(stored(3), &catalog());
        assert_eq!((view.time_us, view.clock), (1_000_500, Clock::Corrected));
        assert_eq!(view.id.seq(catalog().journal), Some(3));
        assert_eq!((view.source.as_deref(), view.network.as_deref()), (Some("net"), Some(&b"{}"[..])));
    }

    #[test]
    fn what_left_the_quarantine_has_its_first_id_and_time() {
        let first = stored(3).id(catalog().journal);
        let mut kept = stored(3);
        (kept.message.kind, kept.message.state) = (Kind::Event, State::Refused);
        assert_eq!(MessageView::of_stored(kept, &catalog()).id, first.beside());
        let mut later = stored(7);
        let network = Link::Remapped(first, 1_795_287_162_123_456).put_before("{}");
        later.message.network = Some(network.into_bytes().into());
        let view = MessageView::of_stored(later, &catalog());
        assert_eq!((view.id, view.seq, view.time_us), (first, 7, 1_795_287_162_123_456));
    }
}
