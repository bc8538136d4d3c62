//! What an operator should act upon: raised once, cleared once, whoever finds it however often.
//!
//! Whoever finds something wrong calls [`Alerts::raise`], from anywhere and at any time; it takes a moment and blocks
//! nobody. Whoever looks at something again and again tells all that it finds with [`Alerts::assess`]: what it does not
//! find any more is over. [`Hub::tick_alerts`](super::Hub::tick_alerts), called every second, lets time pass and records
//! what was raised and cleared, so that a restart goes on with what was up.
//!
//! ```text
//!            raise                       over for End                 HOLD_MEMORY
//!  (nothing) ─────▶ up ──(over)──▶ up, quiet ─────────▶ held in mind ─────────▶ (nothing)
//!                    ▲                 │ raise                │ raise: it flaps, and must be
//!                    └─────────────────┘ ◀────────────────────┘ over for twice as long next time
//! ```

mod board;
mod recorded;
pub mod rules;

use std::sync::Mutex;
use std::time::Instant;

use jiff::Timestamp;

use super::lock;
use board::Board;
pub use board::{ALERTS_MAX, Change, Now, Step};
pub use recorded::Told;
pub use rules::{End, Rule, Weight};

/// Name under which the journal keeps what is up.
const KEPT: &str = "alerts";

/// The alerts of a concentrator.
#[derive(Debug, Default)]
pub struct Alerts {
    board: Mutex<Board>,
}

/// An alert that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Up {
    /// What is wrong.
    pub rule: Rule,
    /// With whom or what; empty if there is only one.
    pub subject: String,
    /// What is wrong and who must act.
    pub sentence: String,
    /// Since when, in microseconds since 1970.
    pub since_us: i64,
}

impl Up {
    /// Since when, RFC 3339.
    pub fn since(&self) -> String {
        Timestamp::from_microsecond(self.since_us).unwrap_or_default().to_string()
    }
}

impl Alerts {
    /// Something is wrong. Said again it changes the sentence, and nothing is raised twice. `subject` tells apart what the
    /// same rule finds in several places: it is a name of the configuration or of an object, and is shown.
    pub fn raise(&self, rule: Rule, subject: &str, sentence: impl Into<String>) {
        lock(&self.board).raise(rule, subject, sentence.into(), Instant::now());
    }

    /// It is not wrong any more. Nothing happens if it was not.
    pub fn clear(&self, rule: Rule, subject: &str) {
        lock(&self.board).clear(rule, subject, Instant::now());
    }

    /// All that is wrong by these rules at this moment: rule, subject, sentence.
    pub fn assess(&self, rules: &[Rule], found: Vec<(Rule, String, String)>) {
        lock(&self.board).assess(rules, found, Instant::now());
    }

    /// Whether this is up.
    pub fn is_up(&self, rule: Rule, subject: &str) -> bool {
        lock(&self.board).is_up(rule, subject)
    }

    /// What is up, in the order of the rules.
    pub fn up(&self) -> Vec<Up> {
        lock(&self.board).up()
    }

    /// How much the heaviest alert presses; `None`: none is up.
    pub fn weight(&self) -> Option<Weight> {
        lock(&self.board).weight()
    }
}
