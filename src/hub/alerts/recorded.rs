//! Alerts in the journal: an event for each that is raised and cleared, and what is up for the next run.

use std::time::Instant;

use serde::Serialize;

use super::board::{ALERTS_MAX, Change, Now, Step};
use super::{KEPT, Rule};
use crate::hub::recording::event_message;
use crate::hub::{Hub, lock};
use crate::journal::record::{Message, Record};
use crate::journal::stamp::MessageId;
use crate::journal::state::Small;
use crate::logfmt::Quoted;
use crate::wire::{GroupName, Uid};

/// Something that became of an alert, as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The event's id; `None`: the journal does not take it.
    pub id: Option<MessageId>,
    /// When, in microseconds since 1970.
    pub at_us: i64,
    /// What.
    pub change: Change,
}

/// The payload of an event.
#[derive(Serialize)]
struct Event<'a> {
    name: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    state: &'static str,
    sentence: &'a str,
    since: String,
}

impl Step {
    /// Its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Cleared => "cleared",
        }
    }
}

impl Change {
    /// What events and the alert webhook say of it, as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let alert = &self.alert;
        let event = Event {
            name: alert.rule.name(),
            subject: &alert.subject,
            state: self.step.name(),
            sentence: &alert.sentence,
            since: alert.since(),
        };
        // Only running out of memory could fail here.
        serde_json::to_vec(&event).unwrap_or_default()
    }

    fn tell(&self) {
        let (name, subject) = (self.alert.rule.name(), Quoted(&self.alert.subject));
        match self.step {
            Step::Raised => {
                let detail = Quoted(&self.alert.sentence);
                log::warn!("event=alert_raised alert={name} subject={subject} detail={detail}");
            }
            Step::Cleared => log::info!("event=alert_cleared alert={name} subject={subject}"),
        }
    }
}

impl Hub {
    /// Goes on with the alerts that were up when the journal was written last.
    pub(in crate::hub) fn restore_alerts(&self, small: &Small) {
        if let Some(bytes) = small.kept(KEPT) {
            lock(&self.alerts.board).unpack(bytes, Instant::now());
        }
    }

    /// Keeps something small for the next run, under one of a few names.
    pub fn keep(&self, name: &str, data: Vec<u8>) {
        let mut turn = self.turn(Instant::now());
        // Not taken: the next run goes on with what was kept before.
        _ = turn.core.log.note(&[Record::Kept { name: name.to_owned(), data }]);
    }

    /// Lets time pass for alerts, and records and tells what was raised and cleared since; to be called every second.
    pub fn tick_alerts(&self, now: Instant) -> Vec<Told> {
        let mut turn = self.turn(now);
        let now = turn.core.log.stamp();
        let mut board = lock(&self.alerts.board);
        let changes = board.tick(Now { at: turn.now, wall_us: now.wall_us });
        let crowded_out = std::mem::take(&mut board.crowded_out);
        // Kept behind its events: after a crash between the two an alert is raised again, and none is forgotten.
        let kept = board.is_changed.then(|| board.pack());
        drop(board);
        let told = changes.into_iter().map(|change| Told {
            id: turn.record_event(&change),
            at_us: now.wall_us,
            change,
        });
        let told: Vec<_> = told.collect();
        if let Some(data) = kept {
            turn.core.log.note(&[Record::Kept { name: KEPT.to_owned(), data }]);
        }
        drop(turn);
        told.iter().for_each(|told| told.change.tell());
        if crowded_out > 0 {
            log::warn!("event=alerts_crowded_out count={crowded_out} max={ALERTS_MAX}");
        }
        told
    }
}

impl crate::hub::Turn<'_> {
    /// Records what became of an alert: of the object that it is about, if it is about one.
    fn record_event(&mut self, change: &Change) -> Option<MessageId> {
        let core = &mut *self.core;
        let uid = subject_uid(change.alert.rule, &change.alert.subject);
        let group = core.router.group_of(uid).unwrap_or(GroupName::NONE);
        let message = Message { uid, group, ..event_message(change.to_json()) };
        core.log.append_with_id(message)
    }
}

fn subject_uid(rule: Rule, subject: &str) -> Uid {
    let uid = rule.is_of_object().then(|| Uid::parse(subject).ok());
    uid.flatten().unwrap_or(Uid::CENTRAL)
}
