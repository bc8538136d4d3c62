//! The result for people: one line for each figure.

use super::load::Busy;
use super::row::{Bound, Figure, Measured, Row};

/// The table's head.
pub fn head() -> String {
    line("figure", "median", "min - max", "bound", "verdict")
}

/// A row: what it is, then a line for each figure.
pub fn row(row: &Row, runs: &[Measured]) -> String {
    let busy: Vec<Busy> = runs.iter().filter_map(|run| run.busy).collect();
    let mut text = format!("{}: {}", row.name, row.what);
    if !busy.is_empty() {
        let of = |part: fn(&Busy) -> f64| 100.0 * middle(busy.iter().map(part).collect());
        let (server, load) = (of(|busy| busy.server / busy.elapsed), of(|busy| busy.load / busy.elapsed));
        text.push_str(&format!(" (of one core: concentrator {server:.0} %, load {load:.0} %)"));
    }
    for (index, figure) in row.figures.iter().enumerate() {
        let values: Vec<f64> = runs.iter().filter_map(|run| run.values.get(index).copied()).collect();
        text.push('\n');
        text.push_str(&figure_line(figure, values));
    }
    text
}

fn figure_line(figure: &Figure, values: Vec<f64>) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let spread = format!("{} - {}", shown(least), shown(most));
    let median = middle(values);
    let bound = match figure.bound {
        Bound::AtLeast(bound) => format!(">= {}", shown(bound)),
        Bound::AtMost(bound) => format!("<= {}", shown(bound)),
        Bound::None => String::new(),
    };
    line(figure.name, &shown(median), &spread, &bound, &verdict(figure.bound, median))
}

fn line(name: &str, median: &str, spread: &str, bound: &str, verdict: &str) -> String {
    format!("  {name:38}{median:>12}  {spread:>23}{bound:>12}  {verdict}").trim_end().to_owned()
}

fn verdict(bound: Bound, value: f64) -> String {
    match bound {
        Bound::None => String::new(),
        Bound::AtLeast(bound) if value >= bound => "ok".to_owned(),
        Bound::AtMost(bound) if value <= bound => "ok".to_owned(),
        Bound::AtMost(0.0) => format!("MISSED by {}", shown(value)),
        Bound::AtLeast(bound) | Bound::AtMost(bound) => {
            format!("MISSED by {:.0} %", (value / bound - 1.0).abs() * 100.0)
        }
    }
}

/// The median; of an even number of values the mean of the middle ones.
pub fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    if values.len() % 2 == 1 { at(half) } else { f64::midpoint(at(half.saturating_sub(1)), at(half)) }
}

/// Three digits or more, thousands in groups.
pub fn shown(value: f64) -> String {
    if value.fract() == 0.0 && value < 100.0 {
        return format!("{value:.0}");
    }
    if value < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
