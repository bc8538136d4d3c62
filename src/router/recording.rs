//! Which calls the journal does not know as they are.
//!
//! A call is listed when it starts and when it changes, and leaves the list at its end; most do before the list is asked
//! for. What waits for a peer that is away is found in its queue: what was recorded of it stands in front.

use std::collections::BTreeSet;

use super::calls::{Asker, Open, place_of};
use super::facts::{CallChange, PendingCall, Waits};
use super::presence::{Entry, Waiting};
use super::{Peer, Presence, Router, Serial, Side, Tag};
use crate::wire::Uid;

/// What the journal knows of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// Nothing, and it need not.
    Never,
    /// Nothing yet.
    New,
    /// All.
    Recorded,
    /// What it was before.
    Changed,
}

impl Noted {
    /// Whether the journal has to be told.
    pub fn is_due(self) -> bool {
        matches!(self, Self::New | Self::Changed)
    }

    /// The same of something that is not as it was.
    pub fn changed(self) -> Self {
        if self == Self::Recorded { Self::Changed } else { self }
    }

    /// Whether the journal knows of it at all.
    pub fn is_known(self) -> bool {
        matches!(self, Self::Recorded | Self::Changed)
    }
}

/// A pending call, by where it is found.
#[derive(Debug, Clone, Copy)]
pub struct Listed {
    /// Tells it from a later one there.
    pub serial: Serial,
    /// The object.
    pub uid: Uid,
    /// The number on the object's side.
    pub number: u16,
    /// Who was asked.
    pub to: Side,
}

/// What changed since the journal was told last.
#[derive(Debug, Default)]
pub struct Recording {
    /// Calls that are due. A place that one leaves is given to the next, so there are no more than calls were pending.
    listed: Vec<Option<Listed>>,
    free: Vec<usize>,
    /// Peers whose queue has something new at its end.
    queues: BTreeSet<Uid>,
    settled: Vec<Serial>,
}

impl Recording {
    /// Something is over.
    pub fn settle(&mut self, id: Serial, noted: Noted) {
        if noted.is_known() {
            self.settled.push(id);
        }
    }

    /// A call is over.
    pub fn end(&mut self, open: &Open) {
        self.settle(open.serial, open.noted);
        if open.noted.is_due()
            && let Some(slot) = self.listed.get_mut(open.listed_at)
            && slot.is_some_and(|listed| listed.serial == open.serial)
        {
            *slot = None;
            self.free.push(open.listed_at);
        }
    }

    /// Lists a call that is due; says where.
    pub fn list(&mut self, place: Listed) -> usize {
        let at = self.free.pop().unwrap_or(self.listed.len());
        match self.listed.get_mut(at) {
            Some(slot) => *slot = Some(place),
            None => self.listed.push(Some(place)),
        }
        at
    }

    /// Something was added to the queue of a peer, if it has one.
    pub fn queue_changed(&mut self, uid: Uid, presence: &mut Presence) {
        if let Presence::Waiting(waiting) = presence
            && !std::mem::replace(&mut waiting.is_listed, true)
        {
            self.queues.insert(uid);
        }
    }
}

impl Router {
    /// What changed in the calls that must survive a restart, since this was asked last. To be asked right before the
    /// journal is written, and before the session facts of a turn are appended; what it gives is appended in its order.
    pub fn take_call_changes(&mut self) -> Vec<CallChange> {
        self.recording.settled.sort_unstable();
        let mut changes: Vec<_> =
            self.recording.settled.drain(..).map(|id| CallChange::Settled { id }).collect();
        // Queues first: what waits is recorded with its bytes, and is then not due any more.
        while let Some(uid) = self.recording.queues.pop_first() {
            self.note_queue(uid, &mut changes);
        }
        let mut listed = std::mem::take(&mut self.recording.listed);
        self.recording.free.clear();
        for place in listed.drain(..).flatten() {
            if let Some(call) = self.note(place, None) {
                changes.push(CallChange::Waiting { id: place.serial, call });
            }
        }
        self.recording.listed = listed;
        changes
    }

    /// What waited for this peer is on its way to it.
    pub(super) fn handed_over(&mut self, to: Uid, entry: &Entry) {
        match entry.queued.tag {
            Tag::Response => self.recording.settle(entry.id, entry.noted),
            Tag::Request(_) => {
                if let Some(place) = place_of(to, &entry.queued)
                    && self.open_of(place).is_some_and(|open| open.noted == Noted::Recorded)
                {
                    let listed_at = self.recording.list(place);
                    if let Some(open) = self.open_of(place) {
                        (open.noted, open.listed_at) = (Noted::Changed, listed_at);
                    }
                }
            }
            Tag::Token => {}
        }
    }

    /// The call at this place, if it is still the one.
    pub(super) fn open_of(&mut self, place: Listed) -> Option<&mut Open> {
        let Peer { calls, asked, .. } = self.peers.get_mut(&place.uid)?;
        let open = match place.to {
            Side::Object => &mut calls.get_mut(&place.number)?.open,
            Side::Central => &mut asked.get_mut(&place.number)?.open,
        };
        (open.serial == place.serial).then_some(open)
    }

    /// What is recorded of a call, if that is due.
    fn note(&mut self, place: Listed, waits: Option<Waits>) -> Option<PendingCall> {
        let open = self.open_of(place)?;
        if !open.noted.is_due() && (waits.is_none() || open.noted == Noted::Never) {
            return None;
        }
        open.noted = Noted::Recorded;
        let about = open.about;
        let Listed { uid: object, number, .. } = place;
        let peer = self.peers.get(&object)?;
        match place.to {
            Side::Object => match peer.calls.get(&number)?.asker {
                Asker::Central(central_number) => {
                    Some(PendingCall::ToObject { object, number, central_number, about, waits })
                }
                Asker::Http(_) => None,
            },
            Side::Central => {
                let way = peer.asked.get(&number)?.way;
                Some(PendingCall::ToCentral { object, number, way, about, waits })
            }
        }
    }

    /// Records what is new in a queue.
    fn note_queue(&mut self, uid: Uid, changes: &mut Vec<CallChange>) {
        let Some(peer) = self.peers.get_mut(&uid) else { return };
        let Presence::Waiting(Waiting { queue, is_listed, .. }) = &mut peer.presence else { return };
        *is_listed = false;
        let mut queue = std::mem::take(queue);
        let known = queue.iter().rposition(|entry| !entry.noted.is_due()).map_or(0, |last| last + 1);
        for entry in queue.iter_mut().skip(known) {
            entry.noted = Noted::Recorded;
            let waits = Waits { position: entry.position, bytes: entry.queued.bytes.clone() };
            match entry.queued.tag {
                Tag::Response => {
                    let call = PendingCall::Answer { to: uid, waits };
                    changes.push(CallChange::Waiting { id: entry.id, call });
                }
                Tag::Request(id) => {
                    if let Some(place) = place_of(uid, &entry.queued)
                        && let Some(call) = self.note(place, Some(waits))
                    {
                        changes.push(CallChange::Waiting { id, call });
                    }
                }
                Tag::Token => {}
            }
        }
        // It is where it was: nothing came or went in between.
        if let Some(Peer { presence: Presence::Waiting(waiting), .. }) = self.peers.get_mut(&uid) {
            waiting.queue = queue;
        }
    }
}
