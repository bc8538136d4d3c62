//! Everything small that the records add up to: cursors, tokens, sessions, what waits, the books.
//!
//! Each segment starts with a snapshot of it, so it is known after a restart from the last segment alone. Applying a
//! record twice may count twice; recovery applies each exactly once.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Seq;
use super::chain::Link;
use super::dead::DeadLetters;
use super::ranges::Ranges;
use super::record::{Cause, Gone, Kind, Record, RightsDigest, SessionRecord, State};
use crate::wire::{GroupName, NAME_LEN, Uid};

/// Telemetry tokens of one object that are remembered; the oldest makes room.
const TOKENS_MAX: usize = 8;
/// Keys of commands that are remembered; the oldest makes room.
pub const IDEMPOTENCY_MAX: usize = 10_000;
/// How long they are, in microseconds.
pub const IDEMPOTENCY_US: i64 = 24 * 3_600 * 1_000_000;
/// Commands that are over and whose end is remembered; the oldest makes room, its end is found by its trace.
const FINISHED_MAX: usize = 4096;
/// Ranges of messages that are gone that are remembered for traces; the oldest two of a kind become one.
const GONE_MAX: usize = 256;
/// Names under which something is kept; what comes under one more is not.
pub const KEPT_MAX: usize = 16;

type Name = [u8; NAME_LEN];

/// How far a destination is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CursorState {
    /// The last number that it has, or need not have.
    pub up_to: Seq,
    /// Numbers up to there that it still has to get.
    pub holes: Vec<Seq>,
}

/// A telemetry token.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenState {
    /// The token.
    pub token: [u8; 8],
    /// Its end by the wall clock, microseconds since 1970.
    pub expires_us: i64,
}

impl std::fmt::Debug for TokenState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenState(hidden)")
    }
}

/// Messages that are gone, as version 1 remembered them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Drop {
    from: Seq,
    to: Seq,
    count: u64,
    cause: Cause,
}

/// A queued command.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandState {
    /// Its state.
    pub state: State,
    /// What else was recorded with it.
    pub data: Vec<u8>,
}

impl std::fmt::Debug for CommandState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CommandState({:?})", self.state)
    }
}

/// A command's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyState {
    /// What was asked, as a digest.
    pub body: [u8; 16],
    /// The command.
    pub seq: Seq,
    /// When, by the wall clock, microseconds since 1970.
    pub at_us: i64,
}

/// The small state. Its fields are those of version 1; what came later is in [`More`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Small {
    /// Destinations by name.
    pub cursors: BTreeMap<String, CursorState>,
    /// How much was dropped, by cause.
    pub dropped: BTreeMap<Cause, u64>,
    /// What became [`More::gone`].
    drops: Vec<Drop>,
    /// Boots whose time is known: the wall clock at their monotonic zero, in microseconds.
    pub boots: BTreeMap<u32, i64>,
    tokens: BTreeMap<Name, Vec<TokenState>>,
    sessions: BTreeMap<Name, SessionRecord>,
    /// Calls that wait.
    pub waiting: BTreeMap<u64, Vec<u8>>,
    /// Commands that are not over.
    pub commands: BTreeMap<Seq, CommandState>,
    /// The newest of those that are, and how they ended.
    pub finished: BTreeMap<Seq, State>,
    /// Keys under which commands were accepted, as digests.
    pub idempotency: BTreeMap<[u8; 16], IdempotencyState>,
    received: BTreeMap<(Name, Kind), u64>,
    tallies: BTreeMap<(Name, String, Cause), u64>,
    /// Segments that are deleted.
    retired: BTreeSet<u64>,
    /// All segments below are deleted.
    retired_below: u64,
    /// No message gets a number below: what was left out stays left out.
    pub seq_floor: Seq,
    #[serde(skip)]
    more: More,
    /// What destinations still have to get of what their cursors have passed.
    #[serde(skip)]
    pub behind: BTreeMap<String, Behind>,
    /// What destinations never took.
    #[serde(skip)]
    pub dead: BTreeMap<String, DeadLetters>,
    /// Groups whose messages are gone from segments that others still have messages in.
    #[serde(skip)]
    thinned: BTreeMap<u64, BTreeSet<Name>>,
}

/// What a destination still has to get of what its cursor has passed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Behind {
    /// What it did not get yet.
    pub backlog: Ranges,
    /// What it is to get once more.
    pub again: Ranges,
}

/// What version 2 keeps besides.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct More {
    /// What is gone, roughly in the order in which it went. Old ranges may have numbers in them that did not.
    gone: Vec<Gone>,
    /// What tokens and sessions were given for.
    rights: BTreeMap<Name, RightsDigest>,
    /// What the program keeps for itself, by name.
    kept: BTreeMap<String, Vec<u8>>,
    /// Where the chain of audit records is.
    audit: Link,
}

/// What a snapshot holds; a changed [`Small`] is a variant more.
#[derive(Debug, Serialize, Deserialize)]
enum Versions {
    V1(Small),
    V2(Small, More),
    V3(Small, More, Subscribers),
    V4(Small, More, Subscribers, BTreeMap<u64, BTreeSet<Name>>),
}

/// What version 3 keeps besides.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Subscribers {
    behind: BTreeMap<String, Behind>,
    dead: BTreeMap<String, DeadLetters>,
}

impl Gone {
    /// Version 1 knew of one destination, and of no time.
    fn of_version_1(from: Seq, to: Seq, count: u64, cause: Cause) -> Self {
        Self { from, to, count, cause, destination: "central".to_owned(), at: None }
    }
}

impl Small {
    /// Its bytes, for a snapshot: in the older version if it can say it, so that an older program can take over.
    pub fn encode(&self) -> Vec<u8> {
        let (small, more) = (self.clone(), self.more.clone());
        let subscribers = Subscribers { behind: self.behind.clone(), dead: self.dead.clone() };
        let version = if !self.thinned.is_empty() {
            Versions::V4(small, more, subscribers, self.thinned.clone())
        } else if self.behind.is_empty() && self.dead.is_empty() {
            Versions::V2(small, more)
        } else {
            Versions::V3(small, more, subscribers)
        };
        // Only running out of memory could fail here; an empty snapshot is not believed.
        postcard::to_stdvec(&version).unwrap_or_default()
    }

    /// Reads a snapshot.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut small, more, subscribers, thinned) = match postcard::from_bytes(bytes).ok()? {
            Versions::V1(small) => (small, More::default(), Subscribers::default(), BTreeMap::new()),
            Versions::V2(small, more) => (small, more, Subscribers::default(), BTreeMap::new()),
            Versions::V3(small, more, subscribers) => (small, more, subscribers, BTreeMap::new()),
            Versions::V4(small, more, subscribers, thinned) => (small, more, subscribers, thinned),
        };
        (small.more, small.thinned) = (more, thinned);
        (small.behind, small.dead) = (subscribers.behind, subscribers.dead);
        for Drop { from, to, count, cause } in std::mem::take(&mut small.drops) {
            small.remember(Gone::of_version_1(from, to, count, cause));
        }
        Some(small)
    }

    /// Takes up one record. A message changes only the count of what was received, and the chain of
    /// audit records.
    pub fn apply(&mut self, record: Record<'_>) {
        match record {
            Record::Message(message) => {
                *self.received.entry((message.group.to_wire(), message.kind)).or_default() += 1;
                if message.kind == Kind::Audit
                    && let Some(link) = Link::stated(&message.payload)
                {
                    self.more.audit = link;
                }
            }
            Record::Cursor { destination, up_to, holes } => {
                self.cursors.insert(destination, CursorState { up_to, holes });
            }
            Record::Dropped { from, to, count, cause } => {
                *self.dropped.entry(cause).or_default() += count;
                self.remember(Gone::of_version_1(from, to, count, cause));
            }
            Record::Gone(gone) => {
                *self.dropped.entry(gone.cause).or_default() += gone.count;
                self.remember(gone);
            }
            Record::Rights { uid, rights } => {
                self.more.rights.insert(uid.to_wire(), rights);
            }
            Record::Received { group, kind, add } => {
                *self.received.entry((group.to_wire(), kind)).or_default() += add;
            }
            Record::BootTime { boot, wall_at_zero_us } => {
                self.boots.insert(boot, wall_at_zero_us);
            }
            Record::Token { uid, token, expires_us } => {
                let tokens = self.tokens.entry(uid.to_wire()).or_default();
                if tokens.len() >= TOKENS_MAX {
                    tokens.remove(0);
                }
                tokens.push(TokenState { token, expires_us });
            }
            Record::TokensEnded { uid } => {
                self.tokens.remove(&uid.to_wire());
            }
            Record::Session { uid, session: SessionRecord::Ended } => {
                self.sessions.remove(&uid.to_wire());
            }
            Record::Session { uid, session } => {
                self.sessions.insert(uid.to_wire(), session);
            }
            Record::Waiting { id, data } => {
                self.waiting.insert(id, data);
            }
            Record::Settled { id } => {
                self.waiting.remove(&id);
            }
            Record::Command { seq, state: State::Stored | State::Waiting, data } => {
                self.commands.insert(seq, CommandState { state: State::Waiting, data });
            }
            Record::Command { seq, state, .. } => {
                self.commands.remove(&seq);
                self.finished.insert(seq, state);
                if self.finished.len() > FINISHED_MAX {
                    self.finished.pop_first();
                }
            }
            Record::Idempotency { key, body, seq, at_us } => {
                self.idempotency.insert(key, IdempotencyState { body, seq, at_us });
                if self.idempotency.len() > IDEMPOTENCY_MAX {
                    let oldest = self.idempotency.iter().min_by_key(|(_, state)| state.seq);
                    oldest.map(|(key, _)| *key).and_then(|key| self.idempotency.remove(&key));
                }
            }
            Record::Retired { segments } => {
                segments.iter().for_each(|segment| _ = self.thinned.remove(segment));
                self.retired.extend(segments);
            }
            Record::Thinned { segment, group } => {
                self.thinned.entry(segment).or_default().insert(group.to_wire());
            }
            Record::Tally { group, destination, cause, add } => {
                *self.tallies.entry((group.to_wire(), destination, cause)).or_default() += add;
            }
            Record::Jump { to, .. } => self.seq_floor = self.seq_floor.max(to),
            Record::Kept { name, data } => {
                let kept = &mut self.more.kept;
                if kept.len() < KEPT_MAX || kept.contains_key(&name) {
                    kept.insert(name, data);
                }
            }
            Record::Behind { destination, backlog, again } if backlog.is_empty() && again.is_empty() => {
                self.behind.remove(&destination);
            }
            Record::Behind { destination, backlog, again } => {
                let behind = Behind { backlog: Ranges::of(backlog), again: Ranges::of(again) };
                self.behind.insert(destination, behind);
            }
            Record::Tried { destination, tried } if tried.is_dead => {
                self.dead.entry(destination).or_default().add(tried);
            }
            Record::Tried { .. } => {}
            Record::DeadSettled { destination, from, to } => {
                if let Some(dead) = self.dead.get_mut(&destination) {
                    dead.settle(from, to);
                    if dead.is_empty() {
                        self.dead.remove(&destination);
                    }
                }
            }
            Record::Forgotten { destination } => self.forget_destination(&destination),
            Record::Snapshot { .. } => {}
        }
    }

    /// Takes up a range for traces.
    fn remember(&mut self, new: Gone) {
        if self.more.gone.len() >= GONE_MAX {
            self.merge_oldest();
        }
        self.more.gone.push(new);
    }

    /// Makes one range of the two oldest of a kind; if there are no two, the oldest of all is forgotten.
    fn merge_oldest(&mut self) {
        let gone = &mut self.more.gone;
        let pairs = gone.iter().enumerate().filter_map(|(at, old)| {
            let is_alike = |new: &Gone| new.cause == old.cause && new.destination == old.destination;
            let other = gone.iter().enumerate().skip(at + 1).find(|(_, new)| is_alike(new));
            other.map(|(other, _)| (at, other))
        });
        let pair = pairs.min_by_key(|(_, other)| *other);
        let (at, newer) = match pair {
            Some((at, other)) => (at, gone.remove(other)),
            None => (usize::MAX, gone.remove(0)),
        };
        if let Some(old) = gone.get_mut(at) {
            old.from = old.from.min(newer.from);
            old.to = old.to.max(newer.to);
            old.count += newer.count;
            old.at = newer.at;
        }
    }

    /// What is gone, in ranges, roughly in the order in which it went.
    pub fn gone(&self) -> &[Gone] {
        &self.more.gone
    }

    /// What the program keeps for itself under this name.
    pub fn kept(&self, name: &str) -> Option<&[u8]> {
        self.more.kept.get(name).map(Vec::as_slice)
    }

    /// What an object's tokens and session were given for.
    pub fn rights_of(&self, uid: &Uid) -> Option<RightsDigest> {
        self.more.rights.get(&uid.to_wire()).copied()
    }

    fn forget_destination(&mut self, name: &str) {
        self.cursors.remove(name);
        self.behind.remove(name);
        self.dead.remove(name);
        self.tallies.retain(|(_, destination, _), _| destination != name);
    }

    /// Where the chain of audit records is.
    pub fn audit(&self) -> Link {
        self.more.audit
    }

    /// Forgets all tokens: which of them ended is not known.
    pub(super) fn forget_tokens(&mut self) {
        self.tokens.clear();
    }

    /// Forgets tokens and keys whose time is over. Only for a clock that is right.
    pub fn expire(&mut self, wall_us: i64) {
        self.idempotency.retain(|_, state| wall_us < state.at_us.saturating_add(IDEMPOTENCY_US));
        for tokens in self.tokens.values_mut() {
            tokens.retain(|token| wall_us < token.expires_us);
        }
        self.tokens.retain(|_, tokens| !tokens.is_empty());
        let Self { tokens, sessions, more, .. } = self;
        more.rights.retain(|name, _| tokens.contains_key(name) || sessions.contains_key(name));
    }

    /// Whether this segment is deleted, or to be.
    pub fn is_retired(&self, segment: u64) -> bool {
        segment < self.retired_below || self.retired.contains(&segment)
    }

    /// Groups whose messages are gone from a segment that others still have messages in.
    pub fn thinned(&self, segment: u64) -> BTreeSet<GroupName> {
        let names = self.thinned.get(&segment).into_iter().flatten();
        names.filter_map(|name| GroupName::from_wire(*name).ok()).collect()
    }

    /// Nothing below this segment is there: what is known of single ones can be forgotten.
    pub fn forget_retired(&mut self, below: u64) {
        if self.retired.first().is_some_and(|first| *first < below) {
            self.retired_below = self.retired_below.max(below);
            self.retired.retain(|number| *number >= below);
        }
    }

    /// The tokens of every object, oldest first.
    pub fn tokens(&self) -> impl Iterator<Item = (Uid, &[TokenState])> {
        self.tokens.iter().filter_map(|(name, tokens)| Some((Uid::from_wire(*name).ok()?, tokens.as_slice())))
    }

    /// Sessions that were live or kept.
    pub fn sessions(&self) -> impl Iterator<Item = (Uid, SessionRecord)> {
        self.sessions.iter().filter_map(|(name, session)| Some((Uid::from_wire(*name).ok()?, *session)))
    }

    /// How many messages were taken, by group and kind, since the journal was made.
    pub fn received(&self) -> impl Iterator<Item = (GroupName, Kind, u64)> {
        self.received
            .iter()
            .filter_map(|((group, kind), count)| Some((GroupName::from_wire(*group).ok()?, *kind, *count)))
    }

    /// The books by group, destination and cause.
    pub fn tallies(&self) -> impl Iterator<Item = (GroupName, &str, Cause, u64)> {
        self.tallies.iter().filter_map(|((group, destination, cause), count)| {
            Some((GroupName::from_wire(*group).ok()?, destination.as_str(), *cause, *count))
        })
    }

    /// The wall clock of a moment of a boot whose time is known, in microseconds.
    pub fn corrected(&self, boot: u32, mono_us: u64) -> Option<i64> {
        Some(self.boots.get(&boot)?.saturating_add(i64::try_from(mono_us).ok()?))
    }
}

#[cfg(test)]
mod tests;
