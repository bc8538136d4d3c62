//! What is known of the backups of every night, and when the next is due. Kept in a file of the state folder.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::hub::status::Backups;
use crate::service::config::TimeOfDay;

const DAY: i64 = 86_400;
/// Before what failed is tried again.
const RETRY: i64 = 3600;
/// A newest backup that is older is told: one night may fail and be made good.
const AGE_MAX: i64 = 2 * DAY;

/// The record. Moments are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// Since when backups are made here: nights before are none that were missed.
    pub since: Option<i64>,
    /// The newest that was proven.
    pub made: Option<Made>,
    /// When one was tried that failed, since then.
    pub failed: Option<Failed>,
    /// The name of the newest that is in the second place too, and since when.
    pub copied: Option<(String, i64)>,
    /// When a copy was tried that failed, since then.
    pub copy_failed: Option<Failed>,
}

/// A backup that a trial restore proved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    pub at: i64,
    pub name: String,
    pub bytes: u64,
    pub messages: u64,
    pub objects: u64,
}

/// An attempt that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed {
    pub at: i64,
    pub why: String,
}

impl Record {
    /// What the file says; nothing if there is none, or one that cannot be understood.
    pub fn load(path: &Path) -> Self {
        let text = fs::read(path).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes the file anew, in one step.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let new = path.with_extension("new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(new, path)
    }

    /// Whether a backup is to be made: a night's time came since the newest, or since backups are made here.
    pub fn is_due(&self, now: i64, at: TimeOfDay) -> bool {
        let newest = [self.since, self.made.as_ref().map(|made| made.at)];
        // What seems to come from the future was written while the clock was wrong.
        let newest = newest.into_iter().flatten().filter(|moment| *moment <= now).max();
        newest.is_none_or(|moment| moment < last(now, at)) && has_rested(self.failed.as_ref(), now)
    }

    /// The newest backup, if it is to be copied to the second place.
    pub fn to_copy(&self, now: i64) -> Option<&Made> {
        let made = self.made.as_ref()?;
        let is_there = self.copied.as_ref().is_some_and(|(name, _)| *name == made.name);
        (!is_there && has_rested(self.copy_failed.as_ref(), now)).then_some(made)
    }

    /// As it is shown. `now` is absent while the clock is not right.
    pub fn status(&self, now: Option<i64>, at: TimeOfDay, has_second_place: bool) -> Backups {
        let made = self.made.as_ref();
        let next = now.map(|now| if self.is_due(now, at) { now } else { last(now, at) + DAY });
        let copied = self.copied.as_ref().filter(|_| has_second_place);
        Backups {
            last: made.and_then(|made| text(made.at)),
            file: made.map(|made| made.name.clone()),
            bytes: made.map_or(0, |made| made.bytes),
            messages: made.map_or(0, |made| made.messages),
            last_unix: made.map_or(0, |made| made.at),
            next: next.and_then(text),
            error: self.failed.as_ref().map(|failed| failed.why.clone()),
            copied: copied.and_then(|(_, at)| text(*at)),
            copy_error: self
                .copy_failed
                .as_ref()
                .filter(|_| has_second_place)
                .map(|failed| failed.why.clone()),
            is_old: now.is_some_and(|now| {
                let newest = made.map(|made| made.at).or(self.since);
                newest.is_some_and(|moment| now - moment > AGE_MAX)
            }),
        }
    }
}

fn has_rested(failed: Option<&Failed>, now: i64) -> bool {
    failed.is_none_or(|failed| failed.at > now || now - failed.at >= RETRY)
}

/// The last time that it was so late, UTC.
fn last(now: i64, at: TimeOfDay) -> i64 {
    let second = i64::from(at.hour) * 3600 + i64::from(at.minute) * 60;
    (now - second).div_euclid(DAY) * DAY + second
}

fn text(at: i64) -> Option<String> {
    Timestamp::from_second(at).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: TimeOfDay = TimeOfDay { hour: 3, minute: 15 };

    fn second(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn made(at: &str) -> Option<Made> {
        Some(Made { at: second(at), name: at.to_owned(), ..Made::default() })
    }

    #[test]
    fn a_backup_is_due_once_a_night_and_a_missed_one_at_once() {
        let mut record = Record { since: Some(second("2026-11-20T12:00:00Z")), ..Record::default() };
        let due = |record: &Record, now| record.is_due(second(now), AT);
        assert!(!due(&record, "2026-11-20T12:00:00Z") && !due(&record, "2026-11-21T03:14:59Z"));
        assert!(due(&record, "2026-11-21T03:15:00Z"));
        record.made = made("2026-11-21T03:15:02Z");
        assert!(!due(&record, "2026-11-21T03:15:03Z") && !due(&record, "2026-11-22T03:14:59Z"));
        assert!(due(&record, "2026-11-22T03:15:00Z") && due(&record, "2026-11-25T23:00:00Z"));
        // Written by a clock that was ahead.
        assert!(due(
            &Record { since: Some(second("2030-01-01T00:00:00Z")), ..record },
            "2026-11-22T03:15:00Z"
        ));
    }

    #[test]
    fn what_failed_is_tried_again_after_an_hour() {
        let why = "no room".to_owned();
        let mut record = Record { made: made("2026-11-20T03:15:02Z"), ..Record::default() };
        record.failed = Some(Failed { at: second("2026-11-22T03:15:00Z"), why });
        assert!(!record.is_due(second("2026-11-22T04:14:59Z"), AT));
        assert!(record.is_due(second("2026-11-22T04:15:00Z"), AT));
        // It failed while the clock was ahead.
        assert!(record.is_due(second("2026-11-22T03:00:00Z"), AT));
        record.made = made("2026-11-21T03:15:02Z");
        record.copy_failed = Some(Failed { at: second("2026-11-21T03:20:00Z"), why: String::new() });
        assert_eq!(record.to_copy(second("2026-11-21T04:19:59Z")), None);
        assert!(record.to_copy(second("2026-11-21T04:20:00Z")).is_some());
        record.copied = Some(("2026-11-21T03:15:02Z".to_owned(), 0));
        assert_eq!(record.to_copy(second("2026-11-21T04:20:00Z")), None);
    }

    #[test]
    fn an_old_one_is_told_at_its_edge_and_never_by_a_clock_that_is_not_right() {
        let record = Record { made: made("2026-11-21T03:15:00Z"), ..Record::default() };
        let is_old = |now: Option<&str>| record.status(now.map(second), AT, false).is_old;
        assert!(!is_old(Some("2026-11-23T03:15:00Z")) && is_old(Some("2026-11-23T03:15:01Z")));
        assert!(!is_old(None));
        let status = record.status(Some(second("2026-11-21T12:00:00Z")), AT, false);
        assert_eq!(status.next.as_deref(), Some("2026-11-22T03:15:00Z"));
        assert_eq!(record.status(None, AT, false).next, None);
        let never = Record { since: Some(second("2026-11-21T03:15:00Z")), ..Record::default() };
        assert!(never.status(Some(second("2026-11-23T03:15:01Z")), AT, false).is_old);
    }

    #[test]
    fn the_record_is_kept_and_a_broken_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup.json");
        assert_eq!(Record::load(&path), Record::default());
        let copied = Some(("x".to_owned(), 7));
        let record = Record { made: made("2026-11-21T03:15:00Z"), copied, ..Record::default() };
        record.save(&path).unwrap();
        assert_eq!(Record::load(&path), record);
        fs::write(&path, "{\"made\": 3").unwrap();
        assert_eq!(Record::load(&path), Record::default());
    }
}
