//! The table for people: `RESULTS.md`.

use std::fmt::Write as _;

use super::contests::{Contest, Entry, Good, Wanted};
use super::row::Measured;
use super::table::{middle, shown};

/// What stands in the line of a target that is not reached.
const MISSED: &str = "missed";

/// What a contest came to: ours, then the peers in their order; medians of the figures.
pub struct Result {
    pub contest: &'static Contest,
    medians: Vec<Vec<f64>>,
}

impl Result {
    /// `runs`: for each program, ours first, what its runs came to.
    pub fn new(contest: &'static Contest, runs: &[Vec<Measured>]) -> Self {
        let of = |runs: &Vec<Measured>| {
            let values =
                |index: usize| runs.iter().filter_map(|run| run.values.get(index).copied()).collect();
            (0..contest.figures.len()).map(|index| middle(values(index))).collect()
        };
        Self { contest, medians: runs.iter().map(of).collect() }
    }

    fn own(&self) -> &[f64] {
        self.medians.first().map_or(&[], Vec::as_slice)
    }

    fn peers(&self) -> impl Iterator<Item = (&'static Entry, Wanted, &[f64])> {
        let medians = self.medians.iter().skip(1).map(Vec::as_slice);
        self.contest.peers.iter().zip(medians).map(|((entry, wanted), values)| (entry, *wanted, values))
    }

    /// The contest as a table of its own.
    pub fn table(&self) -> String {
        let names: Vec<&str> = self.contest.figures.iter().map(|figure| figure.name).collect();
        let mut text = format!("### {}\n\n", self.contest.what);
        let _never = writeln!(text, "| program | {} | how |", names.join(" | "));
        let _never = writeln!(text, "|---|{}---|", "--:|".repeat(names.len()));
        let line = |entry: &Entry, cells: Vec<String>| {
            format!("| {} | {} | {} |\n", entry.who, cells.join(" | "), entry.how)
        };
        text += &line(&self.contest.own, self.own().iter().copied().map(shown).collect());
        for (entry, _, values) in self.peers() {
            let cells = self.contest.figures.iter().zip(self.own().iter().zip(values));
            let cells = cells.map(|(figure, (own, value))| match ratio(figure.good, *own, *value) {
                Some(ratio) => format!("{} (×{})", shown(*value), shown(ratio)),
                None => shown(*value),
            });
            text += &line(entry, cells.collect());
        }
        text
    }

    /// Where our time goes, if a target is missed.
    fn reason(&self) -> Option<String> {
        let is_missed = self.verdicts().contains(MISSED);
        is_missed.then(|| format!("- {}: {}.\n", self.contest.name, self.contest.profile))
    }

    /// Lines of the summary: the figure that is judged, beside each peer.
    pub fn verdicts(&self) -> String {
        let mut text = String::new();
        let (Some(figure), Some(own)) = (self.contest.figures.first(), self.own().first()) else {
            return text;
        };
        for (entry, wanted, values) in self.peers() {
            let Some(ratio) = values.first().and_then(|value| ratio(figure.good, *own, *value)) else {
                continue;
            };
            let _never = writeln!(
                text,
                "| {} | {} | {}, {} | ×{} | {} | {} |",
                self.contest.name,
                figure.name,
                entry.who,
                entry.how,
                shown(ratio),
                target(wanted),
                verdict(wanted, ratio),
            );
        }
        text
    }
}

/// The whole page; `missing`: a line about each contest that could not be measured.
pub fn page(head: &str, results: &[Result], missing: &str) -> String {
    let verdicts: String = results.iter().map(Result::verdicts).collect();
    let reasons: String = results.iter().filter_map(Result::reason).collect();
    let tables: Vec<String> = results.iter().map(Result::table).collect();
    format!(
        "# Results\n\n{head}\n\n\
         ×2 means that iotsocketd is twice as good as the program of that line: twice the rate, or half the time or memory.\n\n\
         ## Targets\n\n| contest | figure | beside | ours | target | verdict |\n|---|---|---|--:|--:|---|\n{verdicts}\n{reasons}{missing}\n\
         ## Figures\n\n{}",
        tables.join("\n")
    )
}

/// How many times as good ours is.
fn ratio(good: Good, own: f64, other: f64) -> Option<f64> {
    match good {
        Good::More => Some(own / other),
        Good::Less => Some(other / own),
        Good::Neither => None,
    }
}

fn target(wanted: Wanted) -> String {
    match wanted {
        Wanted::Ahead => "above ×1".to_owned(),
        Wanted::Share(share) => format!("×{share} or more"),
    }
}

fn verdict(wanted: Wanted, ratio: f64) -> String {
    let (is_met, bound) = match wanted {
        Wanted::Ahead => (ratio > 1.0, 1.0),
        Wanted::Share(share) => (ratio >= share, share),
    };
    if is_met { "met".to_owned() } else { format!("{MISSED} by {:.0} %", (1.0 - ratio / bound) * 100.0) }
}
