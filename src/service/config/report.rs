//! What is wrong with a configuration: every mistake, each at its place, all of them at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::hub::file_stamp::{Stamp, stamp};

/// Files that were read, each as it was right before.
pub type Files = BTreeMap<PathBuf, Stamp>;

/// One thing that is wrong, or doubtful, and where: `file:line:column: key: sentence`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// Line and column, both from 1, the column in characters. `None`: the file as a whole.
    pub place: Option<(usize, usize)>,
    /// The key, dotted from the top: `sessions.listen`. Empty: the file as a whole.
    pub key: String,
    /// What is wrong, in lower case and without a secret.
    pub sentence: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.sentence)
    }
}

/// Collects mistakes and warnings while one file is read.
#[derive(Debug)]
pub(super) struct Report<'a> {
    file: &'a Path,
    text: &'a str,
    found: RefCell<Found>,
}

/// What a [`Report`] collected, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The file cannot be used.
    pub mistakes: Vec<Mistake>,
    /// The file can be used, and somebody should know.
    pub warnings: Vec<Mistake>,
    /// What else was read, or was to be read.
    pub files: Files,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, found: RefCell::default() }
    }

    /// Notes that the value of `key` at these bytes cannot be used.
    pub(super) fn mistake(&self, at: Range<usize>, key: &str, sentence: impl Into<String>) {
        let mistake = self.note(at, key, sentence.into());
        self.found.borrow_mut().mistakes.push(mistake);
    }

    /// Notes that the value of `key` at these bytes can be used and should be looked at.
    pub(super) fn warning(&self, at: Range<usize>, key: &str, sentence: impl Into<String>) {
        let warning = self.note(at, key, sentence.into());
        self.found.borrow_mut().warnings.push(warning);
    }

    /// Notes a file that is about to be read.
    pub(super) fn reads(&self, path: &Path) {
        self.found.borrow_mut().files.insert(path.to_path_buf(), stamp(path));
    }

    pub(super) fn finish(self) -> Found {
        let mut found = self.found.into_inner();
        found.mistakes.sort_by_key(|mistake| mistake.place);
        found.warnings.sort_by_key(|warning| warning.place);
        found
    }

    fn note(&self, at: Range<usize>, key: &str, sentence: String) -> Mistake {
        let place = Some(line_and_column(self.text, at.start));
        Mistake { file: self.file.to_path_buf(), place, key: key.to_owned(), sentence }
    }
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The candidate that was most likely meant: at most a third of its letters differ.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The words as a list for a sentence: `a`, `b` or `c`.
pub(super) fn choices<'c>(words: impl IntoIterator<Item = &'c str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut above: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (line, letter) in from.chars().enumerate() {
        let mut next = vec![line + 1];
        for (column, target) in to.iter().enumerate() {
            let cell = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut best = (cell(&next, column) + 1)
                .min(cell(&row, column + 1) + 1)
                .min(cell(&row, column) + usize::from(letter != *target));
            let swapped = column > 0 && previous == Some(*target) && to.get(column - 1) == Some(&letter);
            if swapped {
                best = best.min(cell(&above, column - 1) + 1);
            }
            next.push(best);
        }
        above = std::mem::replace(&mut row, next);
        previous = Some(letter);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(edit_distance("listen", "listen"), 0);
        assert_eq!(edit_distance("lisen", "listen"), 1);
        assert_eq!(edit_distance("litsen", "listen"), 1);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", ""), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        let words = ["listen", "max_connections", "tls"];
        assert_eq!(nearest("litsen", words), Some("listen"));
        assert_eq!(nearest("max_conections", words), Some("max_connections"));
        assert_eq!(nearest("tsl", words), Some("tls"));
        assert_eq!(nearest("colour", words), None);
    }

    #[test]
    fn places_count_characters_from_one() {
        assert_eq!(line_and_column("a = 1", 0), (1, 1));
        assert_eq!(line_and_column("# é\nbé = 1", 9), (2, 4));
        assert_eq!(line_and_column("a", 99), (1, 2));
    }

    #[test]
    fn choices_read_as_a_sentence() {
        assert_eq!(choices(["a"]), "`a`");
        assert_eq!(choices(["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
