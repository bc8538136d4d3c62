//! Queued commands: requests for objects that sleep, each delivered at the object's next session.
//!
//! A command waits, in order for each object, until its object has a session; then it is under way, one at a time for
//! each object; it is over when it was answered, when its time is up, or when a newer one took its place. If the session
//! ends first it waits again. Each step is a record of the journal, so that a restart goes on where this stopped; what a
//! command asks stays in the journal and is read when it is sent.
//!
//! Pure: it says what to send and what to record, and is told what happened.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::journal::Seq;
use crate::journal::record::{Cause, Record, State};
use crate::journal::state::{IDEMPOTENCY_MAX, IDEMPOTENCY_US, IdempotencyState, Small};
use crate::wire::{Format, RESPONSE_NOT_FOUND, RESPONSE_TIMED_OUT, Uid};

/// Commands that are not over, of all objects.
pub const COMMANDS_MAX: usize = 10_000;
/// Commands that are not over, of one object.
pub const COMMANDS_PER_OBJECT_MAX: usize = 100;
/// Bytes of what names a command in `Supersedes`.
pub const SUPERSEDES_MAX: usize = 64;

/// Its name where messages are told of that are gone.
pub const NAME: &str = "commands";

const SUPERSEDED: &str = "a newer command took its place";
const TOO_LATE: &str = "its deadline passed";

/// What is kept of a command besides what it asks.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    uid: [u8; crate::wire::NAME_LEN],
    /// When it was taken by the wall clock, in microseconds since 1970.
    at_us: i64,
    /// Its end by the wall clock, in microseconds since 1970.
    deadline_us: Option<i64>,
    /// Only the newest command of this name and object is delivered.
    supersedes: Option<String>,
    /// How often it was sent, and when last.
    attempts: u32,
    sent_us: Option<i64>,
    outcome: Option<Outcome>,
}

/// How a command ended.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What became of it.
    pub state: State,
    /// The object's response code, or one made here.
    pub code: u8,
    format: u8,
    payload: Vec<u8>,
}

/// Shows none of the payload.
impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outcome({:?}, {})", self.state, self.code)
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept")
            .field("attempts", &self.attempts)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl Outcome {
    fn made_here(state: State, code: u8, reason: &str) -> Self {
        Self { state, code, format: Format::Json.nibble(), payload: reason.into() }
    }

    /// Why there is no answer, as a sentence without an end.
    pub fn reason(&self) -> Option<&str> {
        match self.state {
            State::Delivered => None,
            // Version 1 kept none.
            State::Dropped if self.payload.is_empty() => Some(SUPERSEDED),
            State::Expired if self.payload.is_empty() => Some(TOO_LATE),
            _ => str::from_utf8(&self.payload).ok(),
        }
    }

    /// An answer of the object.
    pub fn answered(code: u8, format: Format, payload: Vec<u8>) -> Self {
        Self { state: State::Delivered, code, format: format.nibble(), payload }
    }

    /// How the answer's payload is meant, and its data; `None`: there is none, the answer was made here.
    pub fn payload(&self) -> Option<(Format, &[u8])> {
        match self.state {
            State::Delivered => Some((Format::from_nibble(self.format).ok()?, &self.payload)),
            _ => None,
        }
    }
}

impl Kept {
    /// What a record of the journal says of a command.
    pub fn decode(data: &[u8]) -> Option<Self> {
        postcard::from_bytes(data).ok()
    }

    /// How it ended, if it did.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// How often it was sent, and when last, in microseconds since 1970.
    pub fn sent(&self) -> Option<(u32, i64)> {
        Some((self.attempts, self.sent_us?))
    }
}

/// What a sender says so that a command that it sends again is not taken twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Once {
    /// The sender and its key, as a digest.
    pub key: [u8; 16],
    /// What is asked, as a digest.
    pub body: [u8; 16],
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// The same was asked under it: this command, taken at this time by the wall clock, in microseconds since 1970.
    Same(Seq, i64),
    /// Something else was.
    Other,
}

/// A command that is accepted.
#[derive(Debug, Clone)]
pub struct New {
    /// The object that it is for.
    pub uid: Uid,
    /// Under which key it was sent.
    pub once: Option<Once>,
    /// When it was taken, by the wall clock, in microseconds since 1970.
    pub now_us: i64,
    /// Its end by the wall clock, in microseconds since 1970; `None`: it waits for ever.
    pub deadline_us: Option<i64>,
    /// Takes the place of commands of the same name that were not sent yet.
    pub supersedes: Option<String>,
}

/// There is no room for another command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// A command that ended, for the result webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub seq: Seq,
    /// Whose it was.
    pub uid: Uid,
    /// When it was taken, by the wall clock, in microseconds since 1970: its id follows from it.
    pub at_us: i64,
    /// How it ended.
    pub outcome: Outcome,
}

#[derive(Debug)]
struct Command {
    uid: Uid,
    kept: Kept,
}

/// Commands that are not over.
#[derive(Debug, Default)]
pub struct Commands {
    all: BTreeMap<Seq, Command>,
    /// Those that wait or are under way, by object.
    queues: HashMap<Uid, BTreeSet<Seq>>,
    under_way: HashMap<Uid, Seq>,
    deadlines: BTreeSet<(i64, Seq)>,
    keys: BTreeMap<[u8; 16], IdempotencyState>,
    /// Outcomes are kept until the result webhook has them.
    has_webhook: bool,
}

impl Commands {
    /// As the journal knows them; whether there is a webhook for results.
    pub fn new(small: &Small, has_webhook: bool) -> Self {
        let mut commands = Self { has_webhook, keys: small.idempotency.clone(), ..Self::default() };
        for (seq, state) in &small.commands {
            let Some(kept) = Kept::decode(&state.data) else { continue };
            let Ok(uid) = Uid::from_wire(kept.uid) else { continue };
            if kept.outcome.is_none() {
                commands.enqueue(*seq, uid, kept.deadline_us);
            }
            commands.all.insert(*seq, Command { uid, kept });
        }
        commands
    }

    fn enqueue(&mut self, seq: Seq, uid: Uid, deadline_us: Option<i64>) {
        self.queues.entry(uid).or_default().insert(seq);
        self.deadlines.extend(deadline_us.map(|deadline| (deadline, seq)));
    }

    /// Commands that wait or are under way.
    pub fn waiting(&self) -> usize {
        self.queues.values().map(BTreeSet::len).sum()
    }

    /// Whether one more is taken for this object.
    pub fn has_room(&self, uid: Uid) -> Result<(), TooMany> {
        let of_object = self.queues.get(&uid).map_or(0, BTreeSet::len);
        if self.all.len() < COMMANDS_MAX && of_object < COMMANDS_PER_OBJECT_MAX {
            Ok(())
        } else {
            Err(TooMany)
        }
    }

    /// What is known of a key; it is forgotten after a day.
    pub fn known(&self, once: &Once, now_us: i64) -> Option<Known> {
        let state = self.keys.get(&once.key)?;
        if now_us >= state.at_us.saturating_add(IDEMPOTENCY_US) {
            return None;
        }
        Some(if state.body == once.body { Known::Same(state.seq, state.at_us) } else { Known::Other })
    }

    fn remember(&mut self, once: Once, seq: Seq, at_us: i64) -> Record<'static> {
        self.keys.retain(|_, state| at_us < state.at_us.saturating_add(IDEMPOTENCY_US));
        if self.keys.len() >= IDEMPOTENCY_MAX {
            let oldest = self.keys.iter().min_by_key(|(_, state)| state.seq).map(|(key, _)| *key);
            oldest.and_then(|key| self.keys.remove(&key));
        }
        self.keys.insert(once.key, IdempotencyState { body: once.body, seq, at_us });
        Record::Idempotency { key: once.key, body: once.body, seq, at_us }
    }

    /// Takes a command that the journal has under this number. Gives what is to be recorded, and commands that ended
    /// because this one takes their place.
    pub fn accept(&mut self, seq: Seq, new: New) -> (Vec<Record<'static>>, Vec<Ended>) {
        let mut records = Vec::new();
        let mut ended = Vec::new();
        if let Some(name) = &new.supersedes {
            let queue = self.queues.get(&new.uid).into_iter().flatten();
            let same = queue.filter(|seq| {
                self.all.get(seq).is_some_and(|old| old.kept.supersedes.as_ref() == Some(name))
            });
            let under_way = self.under_way.get(&new.uid);
            let same: Vec<_> = same.filter(|seq| Some(*seq) != under_way).copied().collect();
            for old in same {
                self.end(
                    old,
                    Outcome::made_here(State::Dropped, RESPONSE_NOT_FOUND, SUPERSEDED),
                    &mut records,
                    &mut ended,
                );
            }
        }
        let kept = Kept {
            uid: new.uid.to_wire(),
            at_us: new.now_us,
            deadline_us: new.deadline_us,
            supersedes: new.supersedes,
            attempts: 0,
            sent_us: None,
            outcome: None,
        };
        records.push(record(seq, State::Waiting, &kept));
        records.extend(new.once.map(|once| self.remember(once, seq, new.now_us)));
        self.enqueue(seq, new.uid, new.deadline_us);
        self.all.insert(seq, Command { uid: new.uid, kept });
        (records, ended)
    }

    /// The object has a session: the command that is to be sent now, if there is one and none is under way.
    pub fn next(&mut self, uid: Uid) -> Option<Seq> {
        if self.under_way.contains_key(&uid) {
            return None;
        }
        let seq = *self.queues.get(&uid)?.first()?;
        self.under_way.insert(uid, seq);
        Some(seq)
    }

    /// Whether this command is the one that is under way to its object.
    pub fn is_under_way(&self, uid: Uid, seq: Seq) -> bool {
        self.under_way.get(&uid) == Some(&seq)
    }

    /// It was sent at this time. Gives its deadline, and what is to be recorded.
    pub fn sent(&mut self, seq: Seq, now_us: i64) -> Option<(Option<i64>, Record<'static>)> {
        let command = self.all.get_mut(&seq)?;
        command.kept.attempts += 1;
        command.kept.sent_us = Some(now_us);
        Some((command.kept.deadline_us, record(seq, State::Waiting, &command.kept)))
    }

    /// It could not be delivered, or its session ended: it waits for the next.
    pub fn put_back(&mut self, uid: Uid) -> Option<Seq> {
        self.under_way.remove(&uid)
    }

    /// Its object answered.
    pub fn answered(&mut self, seq: Seq, outcome: Outcome) -> (Vec<Record<'static>>, Vec<Ended>) {
        let (mut records, mut ended) = (Vec::new(), Vec::new());
        self.end(seq, outcome, &mut records, &mut ended);
        (records, ended)
    }

    /// Ends those whose time is up by the wall clock, which is to be right.
    pub fn expire(&mut self, now_us: i64) -> (Vec<Record<'static>>, Vec<Ended>) {
        let (mut records, mut ended) = (Vec::new(), Vec::new());
        while let Some((deadline_us, seq)) = self.deadlines.first().copied()
            && deadline_us <= now_us
        {
            let outcome = Outcome::made_here(State::Expired, RESPONSE_TIMED_OUT, TOO_LATE);
            self.end(seq, outcome, &mut records, &mut ended);
        }
        (records, ended)
    }

    /// What those of these numbers ask is gone from the journal: they end, but for those that are under way. Of one that
    /// was to be sent it is said with `even_under_way`.
    pub fn lost(
        &mut self,
        numbers: RangeInclusive<Seq>,
        cause: Cause,
        even_under_way: bool,
    ) -> (Vec<Record<'static>>, Vec<Ended>) {
        let (mut records, mut ended) = (Vec::new(), Vec::new());
        let (state, reason) = cause.says();
        let code = if state == State::Expired { RESPONSE_TIMED_OUT } else { RESPONSE_NOT_FOUND };
        for seq in self.waiting_in(numbers, even_under_way) {
            self.end(seq, Outcome::made_here(state, code, reason), &mut records, &mut ended);
        }
        (records, ended)
    }

    fn waiting_in(&self, numbers: RangeInclusive<Seq>, even_under_way: bool) -> Vec<Seq> {
        let waits = self.all.range(numbers).filter(|(seq, command)| {
            let is_under_way = self.under_way.get(&command.uid) == Some(seq);
            command.kept.outcome.is_none() && (even_under_way || !is_under_way)
        });
        waits.map(|(seq, _)| *seq).collect()
    }

    /// The numbers below this one of those that wait: what they ask is needed.
    pub fn needed(&self, end: Seq) -> Vec<Seq> {
        let waits = self.all.range(..end).filter(|(_, command)| command.kept.outcome.is_none());
        waits.map(|(seq, _)| *seq).collect()
    }

    /// When the next one's time is up, by the wall clock.
    pub fn next_deadline_us(&self) -> Option<i64> {
        self.deadlines.first().map(|(deadline_us, _)| *deadline_us)
    }

    /// The result webhook has its outcome, or there is none any more.
    pub fn result_delivered(&mut self, seq: Seq) -> Option<Record<'static>> {
        self.all.get(&seq)?.kept.outcome.as_ref()?;
        let command = self.all.remove(&seq)?;
        let state = command.kept.outcome.as_ref().map_or(State::Delivered, |outcome| outcome.state);
        Some(record(seq, state, &command.kept))
    }

    /// The result webhook was configured or taken out. Without one, nobody waits for outcomes any more.
    pub fn set_webhook(&mut self, has_webhook: bool) -> Vec<Record<'static>> {
        self.has_webhook = has_webhook;
        let over: Vec<_> = self.ended().map(|ended| ended.seq).collect();
        if has_webhook {
            Vec::new()
        } else {
            over.into_iter().filter_map(|seq| self.result_delivered(seq)).collect()
        }
    }

    /// Those that ended and whose outcome nobody has.
    pub fn ended(&self) -> impl Iterator<Item = Ended> {
        self.all.iter().filter_map(|(seq, command)| {
            let outcome = command.kept.outcome.clone()?;
            Some(Ended { seq: *seq, uid: command.uid, at_us: command.kept.at_us, outcome })
        })
    }

    fn end(
        &mut self,
        seq: Seq,
        outcome: Outcome,
        records: &mut Vec<Record<'static>>,
        ended: &mut Vec<Ended>,
    ) {
        let Some(command) = self.all.get_mut(&seq) else { return };
        let (uid, at_us) = (command.uid, command.kept.at_us);
        let state = outcome.state;
        command.kept.outcome = Some(outcome.clone());
        if let Some(deadline_us) = command.kept.deadline_us {
            self.deadlines.remove(&(deadline_us, seq));
        }
        // Until the webhook has the outcome, the journal keeps it among what is not over.
        records.push(record(seq, if self.has_webhook { State::Waiting } else { state }, &command.kept));
        if !self.has_webhook {
            self.all.remove(&seq);
        }
        if let Some(queue) = self.queues.get_mut(&uid) {
            queue.remove(&seq);
            if queue.is_empty() {
                self.queues.remove(&uid);
            }
        }
        if self.under_way.get(&uid) == Some(&seq) {
            self.under_way.remove(&uid);
        }
        if self.has_webhook {
            ended.push(Ended { seq, uid, at_us, outcome });
        }
    }
}

fn record(seq: Seq, state: State, kept: &Kept) -> Record<'static> {
    // Only running out of memory could fail here.
    Record::Command { seq, state, data: postcard::to_stdvec(kept).unwrap_or_default() }
}

#[cfg(test)]
mod tests;
