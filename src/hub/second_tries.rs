//! Second tries of partner networks: which messages came before, as far as memory goes, and what the journal is asked for the rest.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use async_io::Timer;
use smol::future::FutureExt as _;

use super::backend::Pending;
use super::intake::IntakeError;
use super::status::SecondTries;
use super::{Hub, Turn, lock};
use crate::ingest::{Between, Link, Mapped, Recalled, SEEN_MARGIN_US, SEEN_US, Seen, dedup_of_stored};
use crate::journal::Seq;
use crate::journal::record::{Kind, Message};
use crate::journal::stamp::{Clock, MessageId};
use crate::wire::Uid;

/// How long a request is held while it is not known what came before the start. Networks wait 10 s.
const PATIENCE: Duration = Duration::from_secs(5);
/// What stands before the key of what a network says later: it has second tries of its own.
const LATER: &str = "later ";

/// A message that may have come before, longer ago than memory goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// Its object.
    pub uid: Uid,
    /// What tells its deliveries from other messages of its source.
    pub key: String,
    /// Where the first is recorded, if there is one.
    pub between: Between,
    /// When it came at the earliest, in microseconds since 1970.
    pub from_us: i64,
}

/// What the journal has of a [`Doubt`]: what the first message is called. `None`: it did not come before.
pub type Recollected = Option<MessageId>;

/// Who reads the journal.
pub trait Recollect {
    /// Looks for messages of a source, and gives what it finds in the order of the doubts.
    fn recollect(&self, source: &str, doubts: Vec<Doubt>) -> Pending<Result<Vec<Recollected>, IntakeError>>;
}

/// What is known of messages that came before.
#[derive(Debug, Default)]
pub struct Before(Seen<MessageId>);

impl Before {
    /// Takes up a record that came in by a source, oldest first. `id` is the record's own, `at` its number, `time_us` when it
    /// came in.
    pub fn note(&mut self, id: MessageId, at: Seq, time_us: i64, message: &Message<'_>) {
        if let (Some(source), Some((key, first))) = (&message.source, key_of_stored(id, message)) {
            self.note_key(source, &key, first, at, time_us);
        }
    }

    /// Takes up a key, with the message that came first by it and the number of its record.
    pub(super) fn note_key(&mut self, source: &str, key: &str, first: MessageId, at: Seq, time_us: i64) {
        self.0.note(source, key, first, at, time_us);
    }
}

/// The key of a record that came in by a source, and what the message that it stands for is called. `id` is the record's own.
pub fn key_of_stored(id: MessageId, message: &Message<'_>) -> Option<(String, MessageId)> {
    let network = message.network.as_deref()?;
    let (is_later, first) = match (message.kind, Link::of_stored(network)) {
        (Kind::Telemetry, Some(Link::Remapped(first, _))) => (false, first),
        (Kind::Telemetry, _) => (false, id),
        (_, Some(Link::Merged(first))) => (true, first),
        // What is in quarantine has no key.
        (_, None) => (true, id),
        (_, Some(_)) => return None,
    };
    let key = dedup_of_stored(network)?;
    Some((if is_later { key_of_later(&key) } else { key }, first))
}

/// The key of what a network says later of a message with this key.
pub(super) fn key_of_later(key: &str) -> String {
    format!("{LATER}{key}")
}

/// The hub's side of it.
#[derive(Debug, Default)]
pub(super) struct TriesDesk {
    /// `None`: it is still being read.
    pub(super) before: Option<Before>,
    waiting: Vec<Waker>,
}

impl TriesDesk {
    fn recall(&self, source: &str, key: &str) -> Recalled<MessageId> {
        self.before.as_ref().map_or(Recalled::Never, |Before(seen)| seen.recall(source, key))
    }
}

impl Hub {
    /// How well second tries are known; `None`: that is not known yet, or nothing is brought.
    pub fn second_tries(&self) -> Option<SecondTries> {
        let core = lock(&self.core);
        let Before(seen) = core.tries.before.as_ref()?;
        let window_seconds = u64::try_from(seen.window_us()).unwrap_or_default() / 1_000_000;
        Some(SecondTries { known: seen.len() as u64, crowded_out: seen.crowded_out(), window_seconds })
    }

    /// What came before the start is known now.
    pub fn give_before(&self, before: Before) {
        let waiting = {
            let desk = &mut lock(&self.core).tries;
            desk.before = Some(before);
            std::mem::take(&mut desk.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Resolves when it is known what came before the start.
    pub async fn wait_for_before(&self) -> Result<(), IntakeError> {
        let known = poll_fn(|context| {
            let desk = &mut lock(&self.core).tries;
            if desk.before.is_some() {
                return Poll::Ready(Ok(()));
            }
            desk.waiting.push(context.waker().clone());
            Poll::Pending
        });
        if lock(&self.core).tries.before.is_some() {
            return Ok(());
        }
        known
            .or(async {
                Timer::after(PATIENCE).await;
                Err(IntakeError::Starting)
            })
            .await
    }

    /// Resolves when memory knows of all these messages of a source whether they came before; with each, whether it is what a
    /// network says later. What memory forgot is looked for in the journal, until nothing is left that may be forgotten: while
    /// it is looked for, others may go.
    pub async fn recollect<'a>(
        &self,
        source: &str,
        messages: impl Iterator<Item = (&'a Mapped, bool)> + Clone,
        journal: &impl Recollect,
    ) -> Result<(), IntakeError> {
        let mut looked_for = BTreeSet::new();
        loop {
            let doubts = self.doubts(source, messages.clone(), &looked_for);
            if doubts.is_empty() {
                return Ok(());
            }
            let found = journal.recollect(source, doubts.clone()).await?;
            let before = &mut lock(&self.core).tries.before;
            for (doubt, found) in doubts.into_iter().zip(found) {
                if let (Some(first), Some(Before(seen))) = (found, &mut *before) {
                    seen.remember(source, &doubt.key, first);
                }
                looked_for.insert(doubt.key);
            }
        }
    }

    fn doubts<'a>(
        &self,
        source: &str,
        messages: impl Iterator<Item = (&'a Mapped, bool)>,
        looked_for: &BTreeSet<String>,
    ) -> Vec<Doubt> {
        let core = &mut *lock(&self.core);
        if core.tries.before.as_ref().is_some_and(|Before(seen)| seen.knows_all()) {
            return Vec::new();
        }
        // A clock that is not set says nothing of how old a message is.
        let now = core.log.stamp();
        let from_us = match now.clock {
            Clock::Synced => now.wall_us.saturating_sub(SEEN_US + SEEN_MARGIN_US),
            Clock::Unsynced => i64::MIN,
        };
        let keys = messages.flat_map(|(mapped, is_later)| {
            let key = mapped.dedup.clone();
            let later = key.as_deref().filter(|_| is_later).map(key_of_later);
            key.into_iter().chain(later).map(|key| (mapped.uid, key))
        });
        let doubtful = keys.filter_map(|(uid, key)| match core.tries.recall(source, &key) {
            Recalled::Perhaps(between) => Some(Doubt { uid, key, between, from_us }),
            Recalled::First(_) | Recalled::Never => None,
        });
        doubtful.filter(|doubt| !looked_for.contains(&doubt.key)).collect()
    }
}

impl Turn<'_> {
    /// The first message with this key, as far as memory goes.
    pub(super) fn first_of(&self, source: &str, key: Option<&str>) -> Option<MessageId> {
        match self.core.tries.recall(source, key?) {
            Recalled::First(first) => Some(first),
            Recalled::Perhaps(_) | Recalled::Never => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;
    use crate::hub::ingesting::{InQuarantine, Released};
    use crate::hub::testing::{hub_that_records, settings};
    use crate::ingest::Outcome;
    use crate::journal::stamp::JournalId;
    use crate::router::access::AccessList;
    use crate::router::{Group, Settings};
    use crate::wire::{Format, GroupName};

    /// More than are known by heart, by so many that the oldest 50,000 are not.
    const MANY: u64 = 1_000_001;

    /// Answers each question alike, and remembers what it was asked.
    struct Journal {
        answer: Result<Recollected, IntakeError>,
        asked: Mutex<Vec<Vec<String>>>,
    }

    impl Recollect for Journal {
        fn recollect(
            &self,
            source: &str,
            doubts: Vec<Doubt>,
        ) -> Pending<Result<Vec<Recollected>, IntakeError>> {
            assert_eq!(source, "net");
            assert!(
                doubts
                    .iter()
                    .all(|doubt| doubt.between.0 <= 2 && doubt.between.1 >= 2 && doubt.between.1 < MANY)
            );
            lock(&self.asked).push(doubts.iter().map(|doubt| doubt.key.clone()).collect());
            let answers = self.answer.map(|found| vec![found; doubts.len()]);
            Box::pin(async move { answers })
        }
    }

    fn message(key: &str) -> Mapped {
        Mapped {
            uid: Uid::parse("pump").unwrap(),
            format: Format::Utf8,
            payload: Vec::new(),
            has_data: true,
            network: "{}".to_owned(),
            time_us: None,
            flags: Vec::new(),
            dedup: Some(key.to_owned()),
            wants_downlink: false,
        }
    }

    #[test]
    fn what_memory_forgot_is_asked_for_once_and_kept_in_mind() {
        let id = MessageId::new(7_000, 2, JournalId([1; 16]));
        let hub = hub_that_records(settings(), AccessList::default());
        let mut before = Before::default();
        for n in 0..MANY {
            before.note_key("net", &n.to_string(), id, n, 0);
        }
        hub.give_before(before);
        let ask = |journal: &Journal, keys: &[&str]| {
            let messages: Vec<Mapped> = keys.iter().map(|key| message(key)).collect();
            smol::block_on(hub.recollect("net", messages.iter().map(|mapped| (mapped, false)), journal))
        };
        let asked = |journal: Journal| journal.asked.into_inner().unwrap();
        let journal = |answer| Journal { answer, asked: Mutex::default() };
        let newest = (MANY - 1).to_string();
        let nobody = journal(Ok(None));
        assert_eq!(ask(&nobody, &[&newest, "never came"]), Ok(()));
        assert_eq!(asked(nobody), Vec::<Vec<String>>::new(), "known by heart, and never put in");
        let failing = journal(Err(IntakeError::Searching));
        assert_eq!(ask(&failing, &["2"]), Err(IntakeError::Searching));
        let in_vain = journal(Ok(None));
        assert_eq!(ask(&in_vain, &["2", &newest]), Ok(()));
        assert_eq!(asked(in_vain), [["2"]], "and not again for this one");
        let finding = journal(Ok(Some(id)));
        assert_eq!(ask(&finding, &["2"]), Ok(()));
        assert_eq!(ask(&finding, &["2"]), Ok(()));
        assert_eq!(asked(finding), [["2"]], "it is known by heart again");
        assert_eq!(hub.turn(std::time::Instant::now()).first_of("net", Some("2")), Some(id));
    }

    /// What was in quarantine is old, and what memory knows does not get older by it.
    #[test]
    fn what_leaves_the_quarantine_makes_memory_forget_nothing() {
        let group = GroupName::parse("Devices").unwrap();
        let rights = Group {
            telemetry: true,
            token_ttl: Duration::from_secs(60),
            validate: false,
            max_payload: 100,
            rate: 0,
            allow_from: Default::default(),
        };
        let settings = Settings { groups: HashMap::from([(group, rights)]), ..settings() };
        let hub = hub_that_records(settings, AccessList::default());
        let mut before = Before::default();
        let first = MessageId::new(7_000, 2, JournalId([1; 16]));
        before.note_key("net", "today", first, 2, 0);
        hub.give_before(before);
        for half_hour in 1..=60 {
            let arrived_us = (half_hour - 60) * 1_800 * 1_000_000;
            let id = MessageId::new(0, 100, JournalId([1; 16]));
            let kept =
                InQuarantine { source: "net", group: Some(group), groups: &BTreeSet::new(), id, arrived_us };
            let outcome = Outcome::Message(message(&format!("old {half_hour}")));
            assert_eq!(hub.release(&kept, outcome), Ok(Released::Mapped));
        }
        let other = BTreeSet::from([GroupName::parse("Stations").unwrap()]);
        let id = MessageId::new(0, 101, JournalId([1; 16]));
        let kept = InQuarantine { source: "net", group: Some(group), groups: &other, id, arrived_us: 0 };
        let stays = hub.release(&kept, Outcome::Message(message("of a limited key")));
        assert!(matches!(stays, Ok(Released::Stays(why)) if why.contains("the key that brought it")));
        let turn = hub.turn(std::time::Instant::now());
        assert_eq!(turn.first_of("net", Some("today")), Some(first));
        assert!(turn.first_of("net", Some("old 1")).is_some());
    }
}
