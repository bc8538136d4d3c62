//! What is measured, against which bound.

use super::load::Busy;

/// How to measure.
pub struct Settings {
    /// Runs of each row.
    pub runs: usize,
    /// Seconds that a load works in each run.
    pub seconds: u32,
}

impl Settings {
    /// The seconds as `simulate` takes them.
    pub fn time(&self) -> String {
        format!("{}s", self.seconds)
    }
}

/// Something to measure that yields a few figures at once.
pub struct Row {
    /// What it is asked for by.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Its figures, in the order of [`Measured::values`].
    pub figures: &'static [Figure],
    /// One run.
    pub measure: fn(&Settings) -> Result<Measured, String>,
}

/// One figure of a row.
pub struct Figure {
    /// What it counts, with its unit.
    pub name: &'static str,
    /// What it should be.
    pub bound: Bound,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// It explains another figure.
    None,
}

/// What one run of a row came to.
pub struct Measured {
    /// A value for each figure.
    pub values: Vec<f64>,
    /// Who was how busy, where it says something.
    pub busy: Option<Busy>,
}
