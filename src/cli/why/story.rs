//! What the black box says of a moment, in sentences.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;

use crate::cli::table::{grouped, rate};
use crate::service::blackbox::{Body, Entry, FIGURES, Figures, INTERVAL, Unit};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
/// Figures are averaged over so long before and after.
const WINDOW: i64 = 10 * MINUTE;
/// What happened so long before and after is told.
const NEAR: i64 = 30 * MINUTE;
/// Longer without an entry is a gap.
const GAP: i64 = 60 * SECOND;
/// A change by a smaller share of the larger value says nothing.
const SHARE_MIN: f64 = 0.25;
/// Figures that are told at most.
const CHANGES_MAX: usize = 12;

/// The entries, each with its time as far as it can be known.
pub(super) struct Past(Vec<(i64, Entry)>);

/// Something that happened.
pub(super) struct Line {
    /// Microseconds since 1970.
    pub at: i64,
    /// What.
    pub text: String,
}

impl Past {
    /// What was noted before the machine knew the time gets its time by what was noted afterwards.
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let time = |entry: &Entry| {
            if entry.is_right {
                return entry.wall_us;
            }
            let same = entries.iter().find(|other| other.is_right && other.boot == entry.boot);
            let since_start = |entry: &Entry| i64::try_from(entry.mono_us).unwrap_or(i64::MAX);
            same.map_or(entry.wall_us, |right| {
                right.wall_us.saturating_sub(since_start(right)).saturating_add(since_start(entry))
            })
        };
        Self(entries.iter().map(|entry| (time(entry), entry.clone())).collect())
    }

    /// The moment that is wanted, if anything was noted near it; else the newest start or alert.
    pub(super) fn moment(&self, wanted: Option<i64>) -> Result<i64, String> {
        let (Some((first, _)), Some((last, _))) = (self.0.first(), self.0.last()) else {
            return Err("nothing is in the black box yet: ask again in a minute".to_owned());
        };
        let Some(wanted) = wanted else {
            let tells = |(_, entry): &&(i64, Entry)| matches!(entry.body, Body::Raised(_) | Body::Started(_));
            return Ok(self.0.iter().rev().find(tells).map_or(*last, |(at, _)| *at));
        };
        if self.0.iter().any(|(at, _)| (at - wanted).abs() <= NEAR) {
            return Ok(wanted);
        }
        Err(format!(
            "nothing was noted around {}: the black box reaches from {} to {}",
            clock(wanted),
            clock(*first),
            clock(*last)
        ))
    }

    /// All that is told of this moment.
    pub(super) fn tell(&self, at: i64) -> String {
        let mut text = format!("around {} UTC\n", clock(at));
        let up = self.alerts_at(at);
        if !up.is_empty() {
            let _written = writeln!(text, "alerts that were up: {}", up.join(", "));
        }
        let happened = self.happened(at);
        if happened.is_empty() {
            text.push_str("\nno start, end or alert within half an hour\n");
        } else {
            text.push_str("\nwhat happened\n");
            add_lines(&mut text, happened);
        }
        let changes = self.changes(at);
        match changes {
            None => text.push_str("\nfigures of the ten minutes before or after are not there to compare\n"),
            Some(changes) if changes.is_empty() => {
                text.push_str("\nno figure changed much from the ten minutes before to the ten after\n");
            }
            Some(changes) => {
                text.push_str("\nwhat changed, from the ten minutes before to the ten after\n");
                for change in changes {
                    let _written = writeln!(text, "  {change}");
                }
            }
        }
        text
    }

    /// Alerts that were up at a moment. Each start tells anew what is up.
    fn alerts_at(&self, at: i64) -> Vec<&str> {
        let mut up = BTreeSet::new();
        for (_, entry) in self.0.iter().take_while(|(time, _)| *time <= at) {
            match &entry.body {
                Body::Started(_) => up.clear(),
                Body::Raised(name) => _ = up.insert(name.as_str()),
                Body::Cleared(name) => _ = up.remove(name.as_str()),
                Body::Figures(_) | Body::Stopped => {}
            }
        }
        up.into_iter().collect()
    }

    fn happened(&self, at: i64) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut before: Option<&(i64, Entry)> = None;
        for now in &self.0 {
            let (time, entry) = now;
            let mut tell = |at: i64, text: String| lines.push(Line { at, text });
            match &entry.body {
                Body::Figures(_) => {
                    let gap = before.map_or(0, |(earlier, _)| time - earlier);
                    if gap > GAP {
                        tell(*time, format!("nothing was noted for {} before: it hung, or slept", span(gap)));
                    }
                }
                Body::Started(version) => tell(*time, started(version, *time, entry, before)),
                Body::Stopped => tell(*time, "it was asked to stop, and did".to_owned()),
                Body::Raised(name) => tell(*time, format!("alert {name} came up")),
                Body::Cleared(name) => tell(*time, format!("alert {name} was over")),
            }
            before = Some(now);
        }
        lines.retain(|line| (line.at - at).abs() <= NEAR);
        lines
    }

    /// Sentences about figures, those that changed most first; `None` if one side has none.
    fn changes(&self, at: i64) -> Option<Vec<String>> {
        let figures = |from: i64, to: i64| {
            let within = self.0.iter().filter(move |(time, _)| (from..to).contains(time));
            within.filter_map(|(_, entry)| match &entry.body {
                Body::Figures(figures) => Some(*figures),
                _ => None,
            })
        };
        let before: Vec<Figures> = figures(at - WINDOW, at).collect();
        let after: Vec<Figures> = figures(at, at + WINDOW + 1).collect();
        if before.is_empty() || after.is_empty() {
            return None;
        }
        let mut changes = Vec::new();
        for (index, figure) in FIGURES.iter().enumerate() {
            let (Some(one), Some(other)) = (average(&before, index), average(&after, index)) else {
                continue;
            };
            let change = (one - other).abs();
            let share = change / one.abs().max(other.abs()).max(f64::MIN_POSITIVE);
            if change >= figure.least && share >= SHARE_MIN {
                let verb = if other > one { "rose" } else { "fell" };
                let (one, other) = (shown(one, figure.unit), shown(other, figure.unit));
                changes.push((share, format!("{} {verb} from {one} to {other}", figure.words)));
            }
        }
        changes.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        Some(changes.into_iter().take(CHANGES_MAX).map(|(_, sentence)| sentence).collect())
    }
}

/// A start, and how what ran before had ended.
fn started(version: &str, time: i64, entry: &Entry, before: Option<&(i64, Entry)>) -> String {
    let mut text = format!("it started, version {version}");
    let Some((earlier, last)) = before else { return text };
    if !matches!(last.body, Body::Stopped) {
        let reason = match last.boot == entry.boot {
            true => "killed, or a crash",
            false => "the machine stopped: no power, or a restart of it",
        };
        let _written = write!(text, "; before, it ended without a word ({reason})");
    } else if last.boot != entry.boot {
        text.push_str("; the machine had been restarted");
    }
    let gap = time - earlier;
    if gap > 0 {
        let _written = write!(text, "; {} without it", span(gap));
    }
    text
}

fn average(figures: &[Figures], index: usize) -> Option<f64> {
    let values: Vec<f64> = figures.iter().filter_map(|figures| figures.value(index, INTERVAL)).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count if value >= 10.0 => grouped(value.round() as u64),
        Unit::Count | Unit::Hundredth => format!("{value:.1}"),
        Unit::Flow => format!("{}/s", rate(value)),
        Unit::FlowKib => format!("{value:.0} KiB/s"),
        Unit::Mib => format!("{} MiB", grouped(value.round() as u64)),
        Unit::TenthDegree => format!("{value:.0} °C"),
        Unit::FlowMs => format!("{:.0} %", value / 10.0),
    }
}

/// The time around a moment of which what happened is told.
pub(super) fn near(at: i64) -> (i64, i64) {
    (at.saturating_sub(NEAR), at.saturating_add(NEAR))
}

/// Lines by their time.
pub(super) fn add_lines(text: &mut String, mut lines: Vec<Line>) {
    lines.sort_by_key(|line| line.at);
    for Line { at, text: said } in lines {
        let _written = writeln!(text, "  {}  {said}", clock(at));
    }
}

/// A moment as everybody writes it.
pub(super) fn rfc3339(at: i64) -> String {
    Timestamp::from_microsecond(at)
        .map_or_else(|_| "1970-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}

/// A moment to be read, UTC, to the second.
fn clock(at: i64) -> String {
    rfc3339(at).chars().take(19).map(|letter| if letter == 'T' { ' ' } else { letter }).collect()
}

fn span(us: i64) -> String {
    let seconds = us / SECOND;
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-27T12:00:00Z.
    const NOON: i64 = 1_795_780_800 * SECOND;

    struct Noted(Vec<Entry>);

    impl Noted {
        fn add(&mut self, at: i64, boot: u32, body: Body) {
            let number = self.0.len() as u64 + 1;
            let mono_us = (at - NOON + 7200 * SECOND) as u64;
            self.0.push(Entry { number, wall_us: at, is_right: true, mono_us, boot, body });
        }

        /// Figures every ten seconds in a stretch of minutes from noon.
        fn figures(&mut self, minutes: std::ops::Range<i64>, boot: u32, live: u32, received: u32) {
            for at in (minutes.start * 6)..(minutes.end * 6) {
                let mut figures = Figures::default();
                (figures.0[0], figures.0[5]) = (live, received);
                self.add(NOON + at * 10 * SECOND, boot, Body::Figures(figures));
            }
        }
    }

    #[test]
    fn a_kill_is_told_with_what_it_changed() {
        let mut noted = Noted(Vec::new());
        noted.add(NOON - 3600 * SECOND, 1, Body::Started("1.0 test".to_owned()));
        noted.figures(-20..0, 1, 1003, 9500);
        noted.add(NOON - 10 * SECOND, 1, Body::Raised("queue".to_owned()));
        noted.add(NOON + 20 * SECOND, 1, Body::Started("1.0 test".to_owned()));
        noted.figures(1..5, 1, 12, 100);
        let told = Past::new(noted.0);
        let at = told.moment(None).unwrap();
        assert_eq!(at, NOON + 20 * SECOND, "the newest start");
        let text = told.tell(at);
        for words in [
            "around 2026-11-27 12:00:20 UTC\n",
            "2026-11-27 11:59:50  alert queue came up\n",
            "12:00:20  it started, version 1.0 test; before, it ended without a word (killed, or a crash); 30 s without it\n",
            "objects connected fell from 1,003 to 12\n",
            "telemetry received fell from 950/s to 10.0/s\n",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains("11:00"), "an hour before: {text}");
        assert!(told.tell(NOON - 5 * SECOND).contains("alerts that were up: queue\n"));
    }

    #[test]
    fn ends_are_told_apart() {
        let mut noted = Noted(Vec::new());
        noted.figures(-2..-1, 1, 1, 0);
        noted.add(NOON - 60 * SECOND, 1, Body::Stopped);
        noted.add(NOON, 1, Body::Started("2.0 test".to_owned()));
        noted.figures(1..2, 1, 1, 0);
        noted.add(NOON + 300 * SECOND, 2, Body::Started("2.0 test".to_owned()));
        noted.figures(9..10, 2, 1, 0);
        let text = Past::new(noted.0).tell(NOON);
        assert!(text.contains("it was asked to stop, and did"), "{text}");
        assert!(text.contains("12:00:00  it started, version 2.0 test; 1 min without it\n"), "{text}");
        assert!(
            text.contains("without a word (the machine stopped: no power, or a restart of it)"),
            "{text}"
        );
        assert!(text.contains("12:09:00  nothing was noted for 4 min before"), "{text}");
        assert!(text.contains("no figure changed much"), "{text}");
    }

    #[test]
    fn a_moment_of_which_nothing_is_known_is_no_moment() {
        let sentence = |wanted| Past::new(Vec::new()).moment(wanted).unwrap_err();
        assert!(sentence(None).contains("nothing is in the black box yet"));
        let mut noted = Noted(Vec::new());
        noted.figures(0..1, 1, 1, 0);
        let told = Past::new(noted.0);
        assert_eq!(told.moment(Some(NOON - NEAR)), Ok(NOON - NEAR));
        let sentence = told.moment(Some(NOON - NEAR - 1)).unwrap_err();
        assert!(sentence.contains("reaches from 2026-11-27 12:00:00 to 2026-11-27 12:00:50"), "{sentence}");
        assert!(told.tell(NOON).contains("are not there to compare"));
    }

    #[test]
    fn what_was_noted_before_the_clock_was_right_gets_its_time() {
        let mut noted = Noted(Vec::new());
        noted.add(NOON, 1, Body::Started("1.0 test".to_owned()));
        noted.add(NOON + 100 * SECOND, 1, Body::Raised("disk".to_owned()));
        noted.0[0].is_right = false;
        noted.0[0].wall_us = 0;
        let told = Past::new(noted.0);
        assert_eq!(told.0[0].0, NOON);
    }
}
