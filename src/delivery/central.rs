//! Telemetry to the central: one destination, two ways to reach it.
//!
//! While the central's TCP session is live, messages go there in order; the protocol has no acknowledgement for
//! telemetry, but transmissions arrive in order and a ping must be answered, so the pong of a ping sent behind them
//! says that everything before it arrived. Else they go to the telemetry webhook, if there is one, where several
//! objects' messages are under way at a time and each 2xx counts for its own. What was not acknowledged when a way
//! closes goes out again by whichever opens next: at least once, never both ways at a time.
//!
//! How far it is stands in the journal: a cursor with its holes, and in the same batch what the books say of it, so that
//! both are as of the same moment after a crash.
//!
//! Pure: it says what to send ([`Central::next_for_session`], [`Central::next_for_webhook`]) and is told what arrived.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::books::Books;
use super::cursor::Cursor;
use super::feed::{Feed, Judgement, Source};
use crate::journal::Seq;
use crate::journal::record::{Cause, Kind, Message, Record, State};
use crate::journal::state::{CursorState, Small};
use crate::journal::stored::Stored;
use crate::router::{CentralSession, ConnectionId};
use crate::wire::{GroupName, Payload, Transmission};

/// Its name in cursors and books.
pub const NAME: &str = "central";

/// Messages too large for the session that are remembered while others pass them; then they hold up what follows, so
/// that memory and the cursor's record stay bounded.
pub const SET_ASIDE_MAX: usize = 16_384;

/// Which way messages go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Session(CentralSession),
    Webhook,
    None,
}

/// A message on its way.
#[derive(Debug, Clone, Copy)]
struct Sent {
    seq: Seq,
    group: GroupName,
    taken: Taken,
}

/// When a message was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// In which boot of the machine.
    pub boot: u32,
    /// How long after its start, in microseconds.
    pub mono_us: u64,
}

impl Sent {
    fn of(stored: &Stored) -> Self {
        let taken = Taken { boot: stored.boot, mono_us: stored.stamp.mono_us };
        Self { seq: stored.seq, group: stored.message.group, taken }
    }
}

/// The central as a destination of messages.
#[derive(Debug)]
pub struct Central {
    session: Option<CentralSession>,
    webhook: bool,
    feed: Feed,
    cursor: Cursor,
    /// Messages that were too large for the session: they wait for a way that takes them.
    set_aside: BTreeSet<Seq>,
    /// Messages that the session was given and did not acknowledge, in order.
    in_flight: VecDeque<Sent>,
    /// Messages that the webhook's workers have; `None`: written off meanwhile.
    at_webhook: BTreeMap<Seq, Option<Sent>>,
    /// The way changed while the workers still had some: they finish first, so that no message goes both ways and
    /// none overtakes an earlier one that they give back.
    is_draining: bool,
    /// Everything below arrived by the session, but for what was set aside.
    acknowledged_to: Seq,
    /// Up to where the last ping behind a window reached, until its pong.
    pinged: Option<Seq>,
    books: Books,
    /// When those were taken that arrived since this was asked for.
    arrived: Vec<Taken>,
}

impl Central {
    /// The destination as the journal knows it.
    pub fn new(webhook: bool, small: &Small) -> Self {
        let mut central = Self {
            session: None,
            webhook,
            feed: Feed::default(),
            cursor: Cursor::of(NAME, small),
            set_aside: BTreeSet::new(),
            in_flight: VecDeque::new(),
            at_webhook: BTreeMap::new(),
            is_draining: false,
            acknowledged_to: 0,
            pinged: None,
            books: Books::of(NAME, Kind::Telemetry, small),
            arrived: Vec::new(),
        };
        central.start_over();
        central
    }

    /// The TCP session became live or is no longer. What it did not acknowledge goes out again.
    pub fn set_session(&mut self, session: Option<CentralSession>) {
        self.session = session;
        self.start_over();
    }

    /// The telemetry webhook was configured, or taken out.
    pub fn set_webhook(&mut self, webhook: bool) {
        let has_changed = std::mem::replace(&mut self.webhook, webhook) != webhook;
        if has_changed && self.session.is_none() {
            self.start_over();
        }
    }

    fn start_over(&mut self) {
        self.feed.go_to(self.cursor.first_missing());
        self.acknowledged_to = self.feed.position();
        self.pinged = None;
        self.set_aside.clear();
        self.in_flight.clear();
        self.is_draining = !self.at_webhook.is_empty();
    }

    /// The books: what came in for it and what became of it.
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// A message for it is in the journal.
    pub fn received(&mut self, group: GroupName) {
        self.books.received(group);
    }

    /// The journal did not take a message for it.
    pub fn refused(&mut self, group: GroupName) {
        self.books.settle(group, Cause::Refused);
    }

    /// So many messages for it are damaged.
    pub fn lost(&mut self, group: GroupName, count: u64) {
        (0..count).for_each(|_| self.books.settle(group, Cause::Damaged));
    }

    /// The number of the first message that it does not have, or of one that nobody has to get before it.
    pub fn position(&self) -> Seq {
        self.cursor.first_missing()
    }

    fn way(&self) -> Way {
        match self.session {
            _ if self.is_draining => Way::None,
            Some(session) => Way::Session(session),
            None if self.webhook => Way::Webhook,
            None => Way::None,
        }
    }

    /// The connection that messages go to now, if they go by TCP.
    pub fn connection(&self) -> Option<ConnectionId> {
        match self.way() {
            Way::Session(session) => Some(session.connection),
            Way::Webhook | Way::None => None,
        }
    }

    /// From where the journal's medium must be read for what comes next, said once; see [`Central::give`].
    pub fn take_read(&mut self) -> Option<Seq> {
        self.feed.take_read()
    }

    /// What was read from the medium; see [`Feed::give`].
    pub fn give(&mut self, from: Seq, page: VecDeque<Stored>, to: Seq) {
        self.feed.give(from, page, to);
    }

    /// The next transmission for the TCP session, once; `None`: nothing new, or another way is open.
    pub fn next_for_session<'a>(&'a mut self, source: Source<'a>) -> Option<Transmission<'a>> {
        let Way::Session(session) = self.way() else { return None };
        let Self { feed, cursor, set_aside, in_flight, .. } = self;
        let found = feed.next(source, |stored| {
            if !is_for_central(&stored.message) || !cursor.is_missing(stored.seq, stored.message.group) {
                return Judgement::Pass;
            }
            if telemetry(&stored.message).is_some_and(|sent| sent.wire_len() <= session.largest) {
                return Judgement::Take;
            }
            if set_aside.len() >= SET_ASIDE_MAX {
                return Judgement::Stop;
            }
            set_aside.insert(stored.seq);
            Judgement::Pass
        })?;
        in_flight.push_back(Sent::of(found));
        telemetry(&found.message)
    }

    /// The ping that belongs behind what was sent: which messages its pong acknowledges. One is under way at a time.
    pub fn next_ping(&mut self) -> Option<Seq> {
        let Way::Session(_) = self.way() else { return None };
        // A ping is worth its bytes for what was sent, not for what was passed over.
        if self.pinged.is_some() || self.in_flight.back().is_none_or(|last| last.seq < self.acknowledged_to) {
            return None;
        }
        let reached = self.feed.position();
        self.pinged = Some(reached);
        Some(reached)
    }

    /// The pong came: everything below `seq` arrived, but for what was set aside.
    pub fn acknowledged(&mut self, connection: ConnectionId, seq: Seq) {
        if self.session.is_none_or(|session| session.connection != connection) || self.pinged != Some(seq) {
            return;
        }
        self.pinged = None;
        while let Some(sent) = self.in_flight.front().copied().filter(|sent| sent.seq < seq) {
            self.in_flight.pop_front();
            self.settle(sent);
        }
        let passed = self.cursor.behind()..seq.max(self.cursor.behind());
        self.cursor.pass(seq.saturating_sub(1), self.set_aside.range(passed).copied());
        self.acknowledged_to = seq;
    }

    /// The next message for the webhook's workers, once; `None`: nothing new, or another way is open.
    pub fn next_for_webhook<'a>(&'a mut self, source: Source<'a>) -> Option<(Seq, &'a Message<'static>)> {
        if self.way() != Way::Webhook {
            return None;
        }
        let Self { feed, cursor, at_webhook, .. } = self;
        let found = feed.next(source, |stored| {
            let is_missing =
                is_for_central(&stored.message) && cursor.is_missing(stored.seq, stored.message.group);
            if is_missing && !at_webhook.contains_key(&stored.seq) {
                Judgement::Take
            } else {
                Judgement::Pass
            }
        })?;
        at_webhook.insert(found.seq, Some(Sent::of(found)));
        cursor.hand_over(found.seq);
        Some((found.seq, &found.message))
    }

    /// The webhook took it.
    pub fn webhook_delivered(&mut self, seq: Seq) {
        if let Some(Some(sent)) = self.leave_webhook(seq) {
            self.settle(sent);
        }
    }

    /// The workers gave it back, undelivered: it waits for the way that opens next.
    pub fn webhook_returned(&mut self, seq: Seq) {
        if self.leave_webhook(seq).is_some() && seq < self.feed.position() {
            self.feed.go_to(seq);
        }
    }

    /// The workers no longer have it; what was known of it if they had it.
    fn leave_webhook(&mut self, seq: Seq) -> Option<Option<Sent>> {
        let had = self.at_webhook.remove(&seq);
        self.is_draining &= !self.at_webhook.is_empty();
        had
    }

    /// It has the message.
    fn settle(&mut self, sent: Sent) {
        self.cursor.arrived(sent.seq);
        self.books.settle(sent.group, Cause::Delivered);
        self.arrived.push(sent.taken);
    }

    /// When those were taken that arrived since the last time. To be asked for after whatever may tell of arrivals.
    pub fn take_arrived(&mut self) -> Vec<Taken> {
        std::mem::take(&mut self.arrived)
    }

    /// The messages for it from `first` to `last` are leaving the journal: these. What of them did not arrive never
    /// will, and goes to the books under this cause; those are given.
    pub fn write_off(
        &mut self,
        first: Seq,
        last: Seq,
        messages: &[(Seq, GroupName)],
        cause: Cause,
    ) -> Vec<(Seq, GroupName)> {
        if last < first {
            return Vec::new();
        }
        let is_missing = |(seq, group): &&(Seq, GroupName)| self.cursor.is_missing(*seq, *group);
        let lost: Vec<_> = messages.iter().filter(is_missing).copied().collect();
        for (_, group) in &lost {
            self.books.settle(*group, cause);
        }
        self.cursor.write_off(first, last);
        self.set_aside.retain(|seq| !(first..=last).contains(seq));
        self.in_flight.retain(|sent| !(first..=last).contains(&sent.seq));
        self.at_webhook.range_mut(first..=last).for_each(|(_, sent)| *sent = None);
        lost
    }

    /// The messages for it of a group from `first` to `last` are leaving the journal, and no others: these. What of them
    /// did not arrive never will, and goes to the books under this cause; those are given.
    pub fn thin(
        &mut self,
        first: Seq,
        last: Seq,
        group: GroupName,
        messages: &[Seq],
        cause: Cause,
    ) -> Vec<(Seq, GroupName)> {
        let is_missing = |seq: &Seq| self.cursor.is_missing(*seq, group);
        let lost: BTreeSet<_> = messages.iter().copied().filter(is_missing).collect();
        lost.iter().for_each(|_| self.books.settle(group, cause));
        self.cursor.thin(first, last, group, lost.iter().copied());
        self.set_aside.retain(|seq| !lost.contains(seq));
        self.in_flight.retain(|sent| !lost.contains(&sent.seq));
        self.at_webhook.range_mut(first..=last).for_each(|(seq, sent)| {
            *sent = sent.filter(|_| !lost.contains(seq));
        });
        lost.into_iter().map(|seq| (seq, group)).collect()
    }

    /// Whether there is something to record.
    pub fn has_progress(&self) -> bool {
        self.cursor.has_moved() || self.books.has_changed()
    }

    /// How far it is and what the books say of it, to be recorded in one batch.
    pub fn take_progress(&mut self) -> Vec<Record<'static>> {
        self.take_progress_before(Seq::MAX, std::iter::empty())
    }

    /// The same as far as there is nothing from `end` on; `behind` are the messages that are not there.
    pub fn take_progress_before<'a>(
        &mut self,
        end: Seq,
        behind: impl Iterator<Item = &'a Stored>,
    ) -> Vec<Record<'static>> {
        let mut arrived = BTreeMap::new();
        for stored in behind {
            let group = stored.message.group;
            if is_for_central(&stored.message) && !self.cursor.is_missing(stored.seq, group) {
                *arrived.entry(group).or_default() += 1;
            }
        }
        let cursor = self.cursor.take_record(end);
        std::iter::once(cursor).chain(self.books.take_records(&arrived)).collect()
    }

    /// Records that were taken are not going to be written: what they say is to be recorded again.
    pub fn take_back(&mut self, records: &[Record<'_>]) {
        for record in records {
            match record {
                Record::Cursor { destination, .. } if destination == NAME => self.cursor.set_moved(),
                Record::Tally { destination, .. } if destination == NAME => self.books.take_back(record),
                _ => {}
            }
        }
    }

    /// How far it is, as far as there is nothing from `end` on. Where nothing waits for it that is all.
    pub fn place_before(&self, end: Seq) -> CursorState {
        if self.books.sum().waiting() == 0 {
            return CursorState { up_to: end.saturating_sub(1), holes: Vec::new() };
        }
        self.cursor.before(end)
    }

    /// Messages below its place that it does not have: set aside, or on their way by the webhook.
    pub fn holes(&self) -> usize {
        self.cursor.holes()
    }
}

/// Whether a message of the journal is one that the central gets.
pub fn is_for_central(message: &Message<'_>) -> bool {
    message.kind == Kind::Telemetry && message.state == State::Waiting
}

fn telemetry<'a>(message: &'a Message<'_>) -> Option<Transmission<'a>> {
    let payload = Payload::new(message.format, &message.payload)?;
    Some(Transmission::Telemetry { uid: message.uid, payload })
}

#[cfg(test)]
mod tests;
