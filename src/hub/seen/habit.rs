//! How an object usually speaks, learned from when it did. Times are arguments, in seconds of the monotonic clock.
//!
//! The usual interval is the gap in which a moment lies on average: each gap counts by its length. So a device that wakes
//! once a day and sends a hundred messages at once has an interval of a day, and one that is regular has its own. What lies
//! long ago counts less and less, by time and not by messages.

use serde::{Deserialize, Serialize};

/// Gaps after which the interval counts as learned. Those within a batch are none.
pub const LEARNED_GAPS: u8 = 8;
/// A gap that is shorter than one of so many parts of the usual one lies within a batch.
const BATCH_SHARE: f64 = 8.0;
/// Time that must be remembered, too: of an object that is regular, and of one that is not, which also sleeps at night.
pub const REGULAR_SPAN: f64 = 600.0;
pub const IRREGULAR_SPAN: f64 = DAY / 2.0;
/// An object is regular if its gaps deviate by less than this share of the usual one.
const REGULAR_DEVIATION: f64 = 0.5;

/// An object is late after so many usual intervals, or after one and so many deviations, and never before this.
const LATE_INTERVALS: f64 = 2.0;
const LATE_DEVIATIONS: f64 = 8.0;
pub const LATE_MIN: f64 = 60.0;
/// It is silent one usual interval later, and at least so much: by then it shows whether others are late, too.
pub const SILENT_MIN: f64 = 30.0;
/// Late so often in a row, it has another habit now.
const LATE_IN_A_ROW: u8 = 3;

/// What is remembered: so many usual intervals, within these times.
const MEMORY_GAPS: f64 = 32.0;
const MEMORY_MIN: f64 = DAY;
pub const MEMORY_MAX: f64 = 30.0 * DAY;

/// An object is chatty that sends so many times as often as usual, ...
pub const CHATTY_TIMES: f64 = 10.0;
/// ... by more than so many of its largest usual batches, and never by fewer messages than this ...
const CHATTY_BATCHES: f32 = 2.0;
pub const CHATTY_MIN: f32 = 100.0;
/// ... in this time.
pub const CHATTY_WINDOW: f64 = 600.0;

const DAY: f64 = 86_400.0;

/// What an object said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It logged in.
    Login,
    /// A datagram, a request, a message of a partner network.
    Data,
}

/// What is known of one object.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Habit {
    /// Gaps, as they are remembered: how many, and the sums of their first three powers.
    sums: [f64; 4],
    /// Messages above what is usual, draining; below zero: what it owes from a gap that was longer than usual.
    level: f32,
    /// The highest level of the batch that is under way, and of those that are remembered.
    top: f32,
    largest: f32,
    /// Gaps that were learned, up to [`LEARNED_GAPS`].
    gaps: u8,
    /// Messages other than logins, up to [`LEARNED_GAPS`].
    data: u8,
    /// How often in a row it was late.
    late: u8,
    is_chatty: bool,
}

impl Habit {
    /// It said something, so long after what it said before; `None`: that was the first. `is_own`: the gap is its own, and
    /// not that of a network which was away. Whether the next gap begins here.
    pub fn said(&mut self, word: Word, gap: Option<f64>, is_own: bool) -> bool {
        match word {
            // Of an object that sends data it is only known that it is there.
            Word::Login if self.has_data() => return false,
            Word::Login => {}
            Word::Data => self.data = self.data.saturating_add(1).min(LEARNED_GAPS),
        }
        let gap = gap.map(|gap| gap.max(0.0));
        self.weigh(gap);
        if let Some(gap) = gap.filter(|_| is_own) {
            self.learn(gap);
        }
        true
    }

    /// It could not send anything for so long: what it kept meanwhile it may send at once.
    pub fn was_cut_off(&mut self, gap: f64) {
        self.level = self.level.min(-(self.rate() * gap.min(MEMORY_MAX)) as f32);
    }

    /// Whether its numbers can be what was learned: they may have been read.
    pub fn is_sound(&self) -> bool {
        let levels = [self.level, self.top, self.largest];
        self.sums.iter().all(|sum| sum.is_finite() && *sum >= 0.0)
            && levels.iter().all(|level| level.is_finite())
    }

    /// Whether it is one that sends data: then its connection alone does not mean that all is well.
    pub fn has_data(&self) -> bool {
        self.data >= LEARNED_GAPS
    }

    /// The usual interval, once it is learned.
    pub fn usual(&self) -> Option<f64> {
        let is_regular = self.deviation() < self.interval() * REGULAR_DEVIATION;
        let span = if is_regular { REGULAR_SPAN } else { IRREGULAR_SPAN };
        let [_, seen, ..] = self.sums;
        (self.gaps >= LEARNED_GAPS && seen >= span).then(|| self.interval())
    }

    /// After how long a gap it is late.
    pub fn late_after(&self) -> Option<f64> {
        let usual = self.usual()?;
        let irregular = usual + LATE_DEVIATIONS * self.deviation();
        Some(irregular.max(usual * LATE_INTERVALS).max(LATE_MIN))
    }

    /// After how long a gap it is silent.
    pub fn silent_after(&self) -> Option<f64> {
        Some(self.late_after()? + self.usual()?.max(SILENT_MIN))
    }

    /// Whether it is chatty, so long after it said something the last time.
    pub fn is_chatty(&self, gap: f64) -> bool {
        self.is_chatty && f64::from(self.level) - self.drain() * gap >= f64::from(self.bound()) / 2.0
    }

    /// Messages a second.
    fn rate(&self) -> f64 {
        let [count, seen, ..] = self.sums;
        if seen > 0.0 { count / seen } else { 0.0 }
    }

    fn interval(&self) -> f64 {
        let [_, seen, squares, _] = self.sums;
        if seen > 0.0 { squares / seen } else { 0.0 }
    }

    fn deviation(&self) -> f64 {
        let [_, seen, _, cubes] = self.sums;
        let interval = self.interval();
        if seen > 0.0 { (cubes / seen - interval * interval).max(0.0).sqrt() } else { 0.0 }
    }

    /// How fast its level drains.
    fn drain(&self) -> f64 {
        (CHATTY_TIMES * self.rate()).max(f64::from(CHATTY_MIN) / CHATTY_WINDOW)
    }

    /// The level above which it is chatty.
    fn bound(&self) -> f32 {
        (CHATTY_BATCHES * self.largest).max(CHATTY_MIN)
    }

    /// Adds one message to the level.
    fn weigh(&mut self, gap: Option<f64>) {
        let gap = gap.unwrap_or_default();
        if self.level > 0.0 {
            self.level = (f64::from(self.level) - self.drain() * gap).max(0.0) as f32;
        }
        if self.level <= 0.0 {
            self.largest = self.largest.max(self.top);
            self.top = 0.0;
        }
        if let Some(more) = self.usual().map(|usual| gap - usual).filter(|more| *more > 0.0) {
            self.was_cut_off(more);
        }
        self.level = (self.level + 1.0).min(2.0 * self.bound());
        self.top = self.top.max(self.level);
        self.is_chatty = self.usual().is_some()
            && (self.level > self.bound() || (self.is_chatty && self.level >= self.bound() / 2.0));
    }

    fn learn(&mut self, mut gap: f64) {
        if let (Some(late), Some(usual)) = (self.late_after(), self.usual()) {
            if gap > late {
                self.late += 1;
                if self.late >= LATE_IN_A_ROW {
                    *self = Self { data: self.data, ..Self::default() };
                } else {
                    // An outage of a week is no habit; one that comes again and again is.
                    gap = late;
                }
            } else if gap >= usual / 2.0 {
                self.late = 0;
            }
        }
        if gap >= self.interval() / BATCH_SHARE {
            self.gaps = self.gaps.saturating_add(1).min(LEARNED_GAPS);
        }
        let memory = (MEMORY_GAPS * self.interval()).clamp(MEMORY_MIN, MEMORY_MAX);
        let kept = memory / (memory + gap);
        let mut power = 1.0;
        for sum in &mut self.sums {
            *sum = *sum * kept + power;
            power *= gap;
        }
        self.largest *= kept as f32;
    }
}

#[cfg(test)]
impl Habit {
    /// Makes a number of it one that cannot be.
    pub fn spoil(&mut self) {
        self.sums[2] = f64::NAN;
    }
}
