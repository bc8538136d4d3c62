//! What is told of calls that are over and of access lists that changed, for the record.

use std::time::Instant;

use super::access::AccessList;
use super::calls::Call;
use super::requests::Asked;
use super::{Answer, Effects, Router};
use crate::wire::{Format, GroupName, Payload, Uid};

/// What is told of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallRecords {
    /// All of them, with what was asked.
    All,
    /// All of them, without it.
    Headers,
    /// Those that failed, without it.
    Failed,
    /// Nothing.
    None,
}

/// Who was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// An object.
    Object,
    /// The central.
    Central,
}

/// How somebody asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy {
    /// By a session.
    Session,
    /// By the HTTP API.
    Http,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Who was asked answered.
    Answered,
    /// It could not be handed over.
    NotFound,
    /// Its number was in use.
    AlreadyUsed,
    /// There was no answer in time.
    TimedOut,
    /// The webhook did not answer correctly.
    Failed,
    /// Who asked is gone.
    Abandoned,
}

/// A call that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallEnd<'a> {
    /// The object that asked or was asked.
    pub uid: Uid,
    /// Its group; `None`: the access list does not know it.
    pub group: Option<GroupName>,
    /// Who was asked.
    pub to: Side,
    /// How.
    pub by: AskedBy,
    /// How it ended.
    pub outcome: Outcome,
    /// The code of the answer; `None`: nobody is there to get one.
    pub code: Option<u8>,
    /// When it was asked.
    pub started: Instant,
    /// The format of what was asked.
    pub format: Format,
    /// What was asked, if that is to be recorded and known. After a restart it is not.
    pub payload: Option<&'a [u8]>,
}

impl CallEnd<'_> {
    /// Whether it was not answered, or not well.
    pub fn is_failure(&self) -> bool {
        self.outcome != Outcome::Answered || self.code != Some(0)
    }
}

/// How an access list differs from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessChange {
    /// Objects in the old one.
    pub before: usize,
    /// Objects in the new one.
    pub after: usize,
    /// Those that are in the new one only.
    pub added: usize,
    /// Those that are in the old one only.
    pub removed: usize,
    /// Those whose key or group is another.
    pub changed: usize,
}

impl AccessChange {
    /// The difference of two lists.
    pub fn between(old: &AccessList, new: &AccessList) -> Self {
        let (mut removed, mut changed) = (0, 0);
        for (uid, entry) in old.iter() {
            match new.get(uid) {
                None => removed += 1,
                Some(other) if other != entry => changed += 1,
                Some(_) => {}
            }
        }
        // Every object of the old list that was not removed is in the new one.
        let added = (new.len() + removed).saturating_sub(old.len());
        Self { before: old.len(), after: new.len(), added, removed, changed }
    }
}

impl Router {
    /// Tells of a call that was refused when it was asked.
    pub(super) fn tell_refused(
        &self,
        (uid, to, by): (Uid, Side, AskedBy),
        (outcome, code): (Outcome, u8),
        started: Instant,
        payload: Payload<'_>,
        effects: &mut impl Effects,
    ) {
        let (format, payload) = (payload.format(), Some(payload.data()));
        self.tell(
            CallEnd { uid, group: None, to, by, outcome, code: Some(code), started, format, payload },
            effects,
        );
    }

    /// Tells of a call to an object that is over; `None`: there is no answer.
    pub(super) fn tell_call(
        &self,
        uid: Uid,
        call: &Call,
        outcome: Outcome,
        answer: Option<Answer<'_>>,
        effects: &mut impl Effects,
    ) {
        let open = &call.open;
        let end = CallEnd {
            uid,
            group: None,
            to: Side::Object,
            by: call.asker.by(),
            outcome,
            code: answer.map(|answer| answer.code),
            started: open.about.started,
            format: open.about.format,
            payload: open.payload.as_deref(),
        };
        self.tell(end, effects);
    }

    /// Tells of a request of an object that is over; `None`: there is no answer.
    pub(super) fn tell_asked(
        &self,
        uid: Uid,
        asked: &Asked,
        outcome: Outcome,
        code: Option<u8>,
        effects: &mut impl Effects,
    ) {
        let open = &asked.open;
        let end = CallEnd {
            uid,
            group: None,
            to: Side::Central,
            by: AskedBy::Session,
            outcome,
            code,
            started: open.about.started,
            format: open.about.format,
            payload: open.payload.as_deref(),
        };
        self.tell(end, effects);
    }

    /// Tells what the settings want to hear.
    fn tell(&self, end: CallEnd<'_>, effects: &mut impl Effects) {
        if end.outcome == Outcome::Answered {
            effects.answered(end.started);
        }
        let (is_told, payload) = match self.settings.calls {
            CallRecords::All => (true, end.payload),
            CallRecords::Headers => (true, None),
            CallRecords::Failed => (end.is_failure(), None),
            CallRecords::None => (false, None),
        };
        if is_told {
            effects.call_ended(CallEnd { group: self.group_of(end.uid), payload, ..end });
        }
    }
}
