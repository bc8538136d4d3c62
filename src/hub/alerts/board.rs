//! Which alerts are up, and which were a short while ago. Time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Up;
use super::rules::{End, Rule, Weight};

/// Alerts that are up or held in mind; one more is not raised, and the log says so.
pub const ALERTS_MAX: usize = 256;
/// An alert that comes again within this time after it was cleared flaps: it must be over for twice as long as before.
const HOLD_MEMORY: Duration = Duration::from_secs(600);
/// The longest time for which one that flaps must be over.
const HOLD_MAX: Duration = Duration::from_secs(600);
/// How long what was up before a restart may take to be found again, before it counts as over.
const RESTART_GRACE: Duration = Duration::from_secs(15);
/// Bytes of a subject and of a sentence; what is longer is cut.
const SUBJECT_MAX: usize = 128;
const SENTENCE_MAX: usize = 512;

/// A moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The monotonic one.
    pub at: Instant,
    /// Microseconds since 1970.
    pub wall_us: i64,
}

/// What became of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is up.
    Raised,
    /// It is over.
    Cleared,
}

/// Something that became of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub step: Step,
    /// The alert, as it is or was.
    pub alert: Up,
}

#[derive(Debug)]
struct Held {
    sentence: String,
    state: State,
    /// For how long it must be over.
    hold: Duration,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Raised, and not told yet; over since then, unless it is still so.
    Fresh { quiet: Option<Instant> },
    /// Up since then; over since then, unless it is still so.
    Up { since_us: i64, quiet: Option<Instant> },
    /// Cleared then.
    Gone(Instant),
}

/// Every alert that is up or held in mind, by rule and subject.
#[derive(Debug, Default)]
pub(super) struct Board {
    alerts: BTreeMap<(Rule, String), Held>,
    /// What is up changed since the last [`Board::pack`].
    pub(super) is_changed: bool,
    /// How often there was no place for one.
    pub(super) crowded_out: u64,
}

/// What is up, for the next run. Names and not numbers: rules come and go.
#[derive(Serialize, Deserialize)]
struct Packed {
    rule: String,
    subject: String,
    sentence: String,
    since_us: i64,
}

impl Board {
    pub(super) fn raise(&mut self, rule: Rule, subject: &str, sentence: String, now: Instant) {
        let key = (rule, cut(subject.to_owned(), SUBJECT_MAX));
        let sentence = cut(sentence, SENTENCE_MAX);
        if !self.alerts.contains_key(&key) && self.alerts.len() >= ALERTS_MAX {
            self.forget_oldest();
            if self.alerts.len() >= ALERTS_MAX {
                self.crowded_out += 1;
                return;
            }
        }
        let (first, quiet) = match rule.end() {
            End::Over(first) => (first, None),
            End::After(first) => (first, Some(now)),
        };
        let fresh = || Held { sentence: String::new(), state: State::Fresh { quiet }, hold: first };
        let held = self.alerts.entry(key).or_insert_with(fresh);
        held.sentence = sentence;
        if let End::After(first) = rule.end() {
            held.hold = first;
        }
        held.state = match held.state {
            State::Fresh { .. } => State::Fresh { quiet },
            State::Up { since_us, .. } => State::Up { since_us, quiet },
            State::Gone(_) => {
                held.hold = held.hold.saturating_mul(2).min(HOLD_MAX.max(first));
                State::Fresh { quiet }
            }
        };
    }

    pub(super) fn clear(&mut self, rule: Rule, subject: &str, now: Instant) {
        let key = (rule, cut(subject.to_owned(), SUBJECT_MAX));
        if let Some(held) = self.alerts.get_mut(&key) {
            held.calm(now);
            if let End::After(_) = rule.end() {
                // It tells of something that happened, and somebody saw to it.
                held.hold = Duration::ZERO;
            }
        }
    }

    pub(super) fn assess(&mut self, rules: &[Rule], found: Vec<(Rule, String, String)>, now: Instant) {
        for ((rule, subject), held) in &mut self.alerts {
            let is_found = || found.iter().any(|(other, of, _)| other == rule && of == subject);
            if rules.contains(rule) && !is_found() {
                held.calm(now);
            }
        }
        for (rule, subject, sentence) in found {
            self.raise(rule, &subject, sentence, now);
        }
    }

    /// Lets time pass. What is to be told, in the order of the rules.
    pub(super) fn tick(&mut self, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        self.alerts.retain(|(rule, subject), held| {
            let told = |step, sentence: &str, since_us| Change {
                step,
                alert: Up { rule: *rule, subject: subject.clone(), sentence: sentence.to_owned(), since_us },
            };
            let has_passed = |since: Instant, time| now.at.saturating_duration_since(since) >= time;
            match held.state {
                State::Fresh { quiet } => {
                    held.state = State::Up { since_us: now.wall_us, quiet };
                    changes.push(told(Step::Raised, &held.sentence, now.wall_us));
                }
                State::Up { since_us, quiet: Some(quiet) } if has_passed(quiet, held.hold) => {
                    held.state = State::Gone(now.at);
                    changes.push(told(Step::Cleared, &held.sentence, since_us));
                }
                State::Up { .. } => {}
                State::Gone(since) => return !has_passed(since, HOLD_MEMORY),
            }
            true
        });
        self.is_changed |= !changes.is_empty();
        changes
    }

    /// Makes room: what was cleared longest ago is not held in mind.
    fn forget_oldest(&mut self) {
        let gone = self.alerts.iter().filter_map(|(key, held)| match held.state {
            State::Gone(since) => Some((since, key)),
            State::Fresh { .. } | State::Up { .. } => None,
        });
        if let Some(oldest) = gone.min().map(|(_, key)| key.clone()) {
            self.alerts.remove(&oldest);
        }
    }

    pub(super) fn is_up(&self, rule: Rule, subject: &str) -> bool {
        let held = self.alerts.get(&(rule, cut(subject.to_owned(), SUBJECT_MAX)));
        held.is_some_and(|held| matches!(held.state, State::Up { .. }))
    }

    pub(super) fn up(&self) -> Vec<Up> {
        let up = self.alerts.iter().filter_map(|((rule, subject), held)| match held.state {
            State::Up { since_us, .. } => {
                Some(Up { rule: *rule, subject: subject.clone(), sentence: held.sentence.clone(), since_us })
            }
            State::Fresh { .. } | State::Gone(_) => None,
        });
        up.collect()
    }

    pub(super) fn weight(&self) -> Option<Weight> {
        let up = self.alerts.iter().filter(|(_, held)| matches!(held.state, State::Up { .. }));
        up.map(|((rule, _), _)| rule.weight()).max()
    }

    /// What is up, for the next run.
    pub(super) fn pack(&mut self) -> Vec<u8> {
        self.is_changed = false;
        let packed: Vec<_> = self
            .up()
            .into_iter()
            .map(|up| Packed {
                rule: up.rule.name().to_owned(),
                subject: up.subject,
                sentence: up.sentence,
                since_us: up.since_us,
            })
            .collect();
        // Only running out of memory could fail here; without it alerts are raised again.
        postcard::to_stdvec(&packed).unwrap_or_default()
    }

    /// Goes on with what was up. What is not found again counts as over after a while.
    pub(super) fn unpack(&mut self, bytes: &[u8], now: Instant) {
        let packed: Vec<Packed> = postcard::from_bytes(bytes).unwrap_or_default();
        for Packed { rule, subject, sentence, since_us } in packed.into_iter().take(ALERTS_MAX) {
            // One that this version does not know is over without a word.
            let Some(rule) = Rule::find(&rule) else { continue };
            let (End::Over(hold) | End::After(hold)) = rule.end();
            // Over from a moment on from which its time ends behind the grace.
            let quiet = Some(now + RESTART_GRACE.saturating_sub(hold));
            self.alerts
                .insert((rule, subject), Held { sentence, state: State::Up { since_us, quiet }, hold });
        }
    }
}

impl Held {
    /// It is over, unless it was before, or goes by itself.
    fn calm(&mut self, now: Instant) {
        match &mut self.state {
            // Raised and over within a second: told all the same.
            State::Fresh { quiet } | State::Up { quiet, .. } => *quiet = quiet.or(Some(now)),
            State::Gone(_) => {}
        }
    }
}

/// The first so many bytes of a text, in whole characters.
fn cut(mut text: String, max: usize) -> String {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::alerts::rules::QUIET;

    const HOUR: Duration = Duration::from_secs(3600);

    struct Story {
        board: Board,
        start: Instant,
        passed: Duration,
    }

    impl Story {
        fn new() -> Self {
            Self { board: Board::default(), start: Instant::now(), passed: Duration::ZERO }
        }

        fn now(&self) -> Instant {
            self.start + self.passed
        }

        fn raise(&mut self, rule: Rule, subject: &str) {
            let now = self.now();
            self.board.raise(rule, subject, format!("{subject} is wrong"), now);
        }

        fn clear(&mut self, rule: Rule, subject: &str) {
            let now = self.now();
            self.board.clear(rule, subject, now);
        }

        /// What is told after so long: names with `+` for raised and `-` for cleared.
        fn after(&mut self, time: Duration) -> Vec<String> {
            self.passed += time;
            let now = Now { at: self.now(), wall_us: self.passed.as_micros() as i64 };
            let told = self.board.tick(now).into_iter().map(|change| {
                let sign = if change.step == Step::Raised { '+' } else { '-' };
                format!("{sign}{} {}", change.alert.rule.name(), change.alert.subject)
            });
            told.collect()
        }
    }

    const SECOND: Duration = Duration::from_secs(1);
    const NOTHING: [&str; 0] = [];

    #[test]
    fn it_is_raised_once_and_cleared_once_with_the_sentence_of_now() {
        let mut story = Story::new();
        story.raise(Rule::Disk, "");
        assert_eq!(story.after(SECOND), ["+disk "]);
        let now = story.now();
        story.board.raise(Rule::Disk, "", "worse".to_owned(), now);
        assert_eq!(story.after(HOUR), NOTHING);
        let up = story.board.up();
        assert_eq!((up[0].sentence.as_str(), up[0].since_us), ("worse", 1_000_000));
        assert_eq!(story.board.weight(), Some(Weight::Now));
        story.clear(Rule::Disk, "");
        assert_eq!(story.after(QUIET - SECOND), NOTHING);
        assert_eq!(story.after(SECOND), ["-disk "]);
        assert_eq!((story.after(HOUR), story.board.up().len()), (vec![], 0));
        assert_eq!(
            (story.board.alerts.len(), story.board.weight()),
            (0, None),
            "it is not held in mind for ever"
        );
    }

    #[test]
    fn a_short_pause_is_the_same_alert_and_one_that_flaps_must_be_over_for_longer_and_longer() {
        let mut story = Story::new();
        story.raise(Rule::Queue, "");
        story.after(SECOND);
        story.clear(Rule::Queue, "");
        story.after(QUIET - SECOND);
        story.raise(Rule::Queue, "");
        assert_eq!(story.after(QUIET), NOTHING);
        let (mut hold, mut told) = (QUIET, 0);
        for _ in 0..20 {
            story.clear(Rule::Queue, "");
            assert_eq!(story.after(hold - SECOND), NOTHING);
            assert_eq!(story.after(SECOND), ["-queue "]);
            story.raise(Rule::Queue, "");
            assert_eq!(story.after(SECOND), ["+queue "]);
            hold = (hold * 2).min(HOLD_MAX);
            told += 2;
        }
        assert!(
            story.passed > HOLD_MAX * (told / 2 - 8),
            "one that flaps is told twice in ten minutes at most"
        );
        story.clear(Rule::Queue, "");
        assert_eq!(story.after(HOLD_MAX), ["-queue "]);
        story.after(HOLD_MEMORY);
        story.raise(Rule::Queue, "");
        story.after(SECOND);
        story.clear(Rule::Queue, "");
        assert_eq!(story.after(QUIET), ["-queue "], "it is forgiven");
    }

    #[test]
    fn what_happened_is_over_by_itself_and_not_raised_again_meanwhile() {
        let mut story = Story::new();
        story.raise(Rule::Quarantine, "net 12ab");
        story.raise(Rule::Quarantine, "net 34cd");
        assert_eq!(story.after(SECOND), ["+quarantine net 12ab", "+quarantine net 34cd"]);
        assert_eq!(story.after(HOUR * 23), NOTHING);
        story.raise(Rule::Quarantine, "net 34cd");
        assert_eq!(story.after(HOUR), ["-quarantine net 12ab"]);
        assert_eq!(story.after(HOUR * 22), NOTHING);
        assert_eq!(story.after(HOUR), ["-quarantine net 34cd"]);
    }

    #[test]
    fn what_happened_is_over_when_somebody_saw_to_it() {
        let mut story = Story::new();
        story.raise(Rule::Quarantine, "net 12ab");
        story.after(SECOND);
        story.clear(Rule::Quarantine, "net 12ab");
        story.raise(Rule::Quarantine, "net 12ab");
        assert_eq!(story.after(HOUR), NOTHING, "it happened again");
        story.clear(Rule::Quarantine, "net 12ab");
        assert_eq!(story.after(SECOND), ["-quarantine net 12ab"]);
        story.raise(Rule::Quarantine, "net 12ab");
        assert_eq!(story.after(SECOND), ["+quarantine net 12ab"]);
        assert_eq!(story.after(HOUR * 23), NOTHING);
    }

    #[test]
    fn what_is_raised_and_over_at_once_is_told() {
        let mut story = Story::new();
        story.raise(Rule::Backup, "");
        story.clear(Rule::Backup, "");
        assert_eq!(story.after(SECOND), ["+backup "]);
        assert_eq!(story.after(QUIET), ["-backup "]);
    }

    #[test]
    fn what_an_assessment_does_not_find_is_over_and_others_alerts_stay() {
        let mut story = Story::new();
        let found = |rule, subject: &str| (rule, subject.to_owned(), String::new());
        let rules = [Rule::Disk, Rule::Certificate];
        story.raise(Rule::Backup, "");
        let now = story.now();
        story.board.assess(&rules, vec![found(Rule::Disk, ""), found(Rule::Certificate, "30 days")], now);
        assert_eq!(story.after(SECOND), ["+disk ", "+certificate 30 days", "+backup "]);
        let now = story.now();
        story.board.assess(&rules, vec![found(Rule::Certificate, "7 days")], now);
        assert_eq!(story.after(SECOND), ["+certificate 7 days"]);
        assert_eq!(story.after(QUIET), ["-disk ", "-certificate 30 days"]);
        assert!(story.board.is_up(Rule::Backup, "") && story.board.is_up(Rule::Certificate, "7 days"));
    }

    #[test]
    fn after_a_restart_nothing_is_raised_again_and_what_is_over_is_cleared() {
        let mut story = Story::new();
        for subject in ["a", "b"] {
            story.raise(Rule::Destination, subject);
        }
        story.after(SECOND);
        assert!(story.board.is_changed);
        let packed = story.board.pack();
        assert!(!story.board.is_changed);

        let mut next = Story::new();
        next.board.unpack(&packed, next.start);
        assert_eq!(next.board.up(), story.board.up(), "since when they were up");
        next.raise(Rule::Destination, "a");
        assert_eq!(next.after(RESTART_GRACE - SECOND), NOTHING);
        assert_eq!(next.after(SECOND), ["-destination b"]);
        next.clear(Rule::Destination, "a");
        assert_eq!(next.after(QUIET), ["-destination a"], "what was found again is over as ever");
        next.board.unpack(b"\xff\xff garbage", next.start);
        assert_eq!(next.board.up().len(), 0);
    }

    #[test]
    fn so_many_at_most_and_what_is_up_makes_no_room() {
        let mut story = Story::new();
        for number in 0..=ALERTS_MAX {
            story.raise(Rule::Quarantine, &number.to_string());
        }
        assert_eq!((story.after(SECOND).len(), story.board.crowded_out), (ALERTS_MAX, 1));
        story.clear(Rule::Quarantine, "7");
        assert_eq!(story.after(HOUR * 24).len(), ALERTS_MAX);
        story.raise(Rule::Disk, "");
        assert_eq!(story.after(SECOND), ["+disk "], "what is only held in mind makes room");
        assert_eq!(story.board.alerts.len(), ALERTS_MAX);
    }

    #[test]
    fn long_texts_are_cut_in_whole_characters() {
        let mut story = Story::new();
        let now = story.now();
        story.board.raise(Rule::Quarantine, &"é".repeat(200), "x".repeat(2000), now);
        story.after(SECOND);
        let up = story.board.up();
        assert_eq!((up[0].subject.len(), up[0].sentence.len()), (SUBJECT_MAX, SENTENCE_MAX));
        assert!(story.board.is_up(Rule::Quarantine, &"é".repeat(300)), "it is found by its whole name");
    }
}
