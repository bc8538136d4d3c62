//! Walks a parsed TOML document key by key, so that every mistake is found, not only the first.
//!
//! A [`Table`] knows which keys were asked for; what is left over when it is finished is unknown.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Report, nearest};

/// One table of the document, or its absence (then every key has its default).
pub(super) struct Table<'a> {
    entries: Option<&'a DeTable<'a>>,
    span: Range<usize>,
    path: String,
    asked: Vec<&'static str>,
    report: &'a Report<'a>,
}

/// One value and where it stands.
#[derive(Clone)]
pub(super) struct Item<'a> {
    /// The value.
    pub value: &'a DeValue<'a>,
    span: Range<usize>,
    path: String,
    report: &'a Report<'a>,
}

/// Turns a value into a checked one, or says in a sentence's end what it must be ("must be …").
pub(super) trait Parse<T>: Fn(&DeValue<'_>) -> Result<T, String> {}
impl<T, F: Fn(&DeValue<'_>) -> Result<T, String>> Parse<T> for F {}

impl<'a> Table<'a> {
    pub(super) fn root(document: &'a Spanned<DeTable<'a>>, report: &'a Report<'a>) -> Self {
        Self { entries: Some(document.get_ref()), span: 0..0, path: String::new(), asked: Vec::new(), report }
    }

    /// Whether the table stands in the file.
    pub(super) fn exists(&self) -> bool {
        self.entries.is_some()
    }

    /// Whether a key stands in the table, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(key))
    }

    /// Asks for a key.
    pub(super) fn item(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.asked.push(key);
        let value = self.entries?.get(key)?;
        Some(Item {
            value: value.get_ref(),
            span: value.span(),
            path: join(&self.path, key),
            report: self.report,
        })
    }

    /// The checked value of a key, or its default.
    pub(super) fn read<T>(&mut self, key: &'static str, default: T, parse: impl Parse<T>) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// The checked value of a key that may be missing.
    pub(super) fn optional<T>(&mut self, key: &'static str, parse: impl Parse<T>) -> Option<T> {
        self.item(key)?.parse(parse)
    }

    /// The checked value of a key without which its table makes no sense.
    pub(super) fn required<T>(&mut self, key: &'static str, parse: impl Parse<T>) -> Option<T> {
        match self.item(key) {
            Some(item) => item.parse(parse),
            None => {
                self.mistake(key, "is missing");
                None
            }
        }
    }

    /// A table inside this one; an absent one is empty.
    pub(super) fn table(&mut self, key: &'static str) -> Self {
        match self.item(key) {
            Some(item) => item.table(),
            None => self.absent(join(&self.path, key)),
        }
    }

    /// The tables of a key that holds tables named by the user, in the order of their names.
    pub(super) fn named_tables(&mut self, key: &'static str) -> Vec<(String, Self)> {
        let table = self.table(key);
        let Some(entries) = table.entries else { return Vec::new() };
        entries
            .iter()
            .map(|(name, value)| {
                let item = Item {
                    value: value.get_ref(),
                    span: name.span(),
                    path: join(&table.path, name.get_ref()),
                    report: self.report,
                };
                (name.get_ref().clone().into_owned(), item.table())
            })
            .collect()
    }

    /// The tables of a key that is an array of tables (`[[key]]`).
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Self> {
        let Some(item) = self.item(key) else { return Vec::new() };
        match item.value {
            DeValue::Array(_) => item.elements().into_iter().map(Item::table).collect(),
            _ => {
                item.mistake(format!("must be an array of tables, [[{}]]", item.path));
                Vec::new()
            }
        }
    }

    /// Notes a mistake at a key of this table, or at the table if the key is not there.
    pub(super) fn mistake(&self, key: &str, sentence: impl Into<String>) {
        self.report.mistake(self.span_of(key), &join(&self.path, key), sentence);
    }

    /// Notes a mistake of the table itself, such as its name.
    pub(super) fn mistake_here(&self, sentence: impl Into<String>) {
        self.report.mistake(self.span.clone(), &self.path, sentence);
    }

    /// Notes a warning at a key of this table, or at the table if the key is not there.
    pub(super) fn warning(&self, key: &str, sentence: impl Into<String>) {
        self.report.warning(self.span_of(key), &join(&self.path, key), sentence);
    }

    /// Notes a file that this table names and that is about to be read.
    pub(super) fn reads(&self, path: &Path) {
        self.report.reads(path);
    }

    /// Reports what nobody asked for.
    pub(super) fn finish(self) {
        for (name, _) in self.entries.into_iter().flat_map(|entries| entries.iter()) {
            let key: &str = name.get_ref();
            if self.asked.contains(&key) {
                continue;
            }
            let sentence = match nearest(key, self.asked.iter().copied()) {
                Some(meant) => format!("is not a key of the configuration; did you mean `{meant}`?"),
                None => "is not a key of the configuration".to_owned(),
            };
            self.report.mistake(name.span(), &join(&self.path, key), sentence);
        }
    }

    fn absent(&self, path: String) -> Self {
        Self { entries: None, span: self.span.clone(), path, asked: Vec::new(), report: self.report }
    }

    fn span_of(&self, key: &str) -> Range<usize> {
        let entry = self.entries.and_then(|entries| entries.get(key));
        entry.map_or_else(|| self.span.clone(), Spanned::span)
    }
}

impl<'a> Item<'a> {
    /// The checked value; a mistake is reported here.
    pub(super) fn parse<T>(&self, parse: impl Parse<T>) -> Option<T> {
        parse(self.value).map_err(|sentence| self.mistake(sentence)).ok()
    }

    /// The value as a table; anything else is a mistake and read as an absent table.
    fn table(self) -> Table<'a> {
        let entries = match self.value {
            DeValue::Table(entries) => Some(entries),
            _ => {
                self.mistake("must be a table");
                None
            }
        };
        Table { entries, span: self.span, path: self.path, asked: Vec::new(), report: self.report }
    }

    /// The elements of an array; anything else is a mistake and read as an empty one.
    pub(super) fn elements(&self) -> Vec<Self> {
        let DeValue::Array(values) = self.value else {
            self.mistake("must be a list in square brackets");
            return Vec::new();
        };
        let element = |value: &'a Spanned<DeValue<'a>>| Item {
            value: value.get_ref(),
            span: value.span(),
            path: self.path.clone(),
            report: self.report,
        };
        values.iter().map(element).collect()
    }

    pub(super) fn mistake(&self, sentence: impl Into<String>) {
        self.report.mistake(self.span.clone(), &self.path, sentence);
    }
}

/// A list of checked values, every bad element reported at its own place.
pub(super) fn list<T>(table: &mut Table<'_>, key: &'static str, parse: impl Parse<T>) -> Option<Vec<T>> {
    let item = table.item(key)?;
    Some(item.elements().iter().filter_map(|element| element.parse(&parse)).collect())
}

/// `path.key`, the key quoted as TOML would want it.
fn join(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let key = match !key.is_empty() && key.chars().all(bare) {
        true => Cow::Borrowed(key),
        false => Cow::Owned(format!("{key:?}")),
    };
    match path {
        "" => key.into_owned(),
        _ => format!("{path}.{key}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::service::config::units;

    #[test]
    fn every_mistake_is_reported_at_its_own_place_in_the_order_of_the_file() {
        let text = "flag = 1\nlost = 2\n[inner]\nnumber = \"x\"\nnumbr = 3\n";
        let report = Report::new(Path::new("f.toml"), text);
        let document = DeTable::parse(text).unwrap();
        let mut root = Table::root(&document, &report);
        assert!(root.read("flag", true, units::boolean));
        let mut inner = root.table("inner");
        assert_eq!(inner.read("number", 7, units::count(1, 9)), 7);
        inner.finish();
        root.finish();
        let lines: Vec<String> = report.finish().mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "f.toml:1:8: flag: must be true or false",
                "f.toml:2:1: lost: is not a key of the configuration",
                "f.toml:4:10: inner.number: must be a whole number from 1 to 9",
                "f.toml:5:1: inner.numbr: is not a key of the configuration; did you mean `number`?",
            ]
        );
    }

    #[test]
    fn what_should_be_a_table_or_a_list_and_is_not() {
        let text = "a = 1\nb = 2\nc = [1]\nd = 3\n";
        let report = Report::new(Path::new("f.toml"), text);
        let document = DeTable::parse(text).unwrap();
        let mut root = Table::root(&document, &report);
        assert!(!root.table("a").exists());
        assert!(root.tables("b").is_empty());
        assert_eq!(root.tables("c").len(), 1);
        assert_eq!(list(&mut root, "d", units::boolean), Some(Vec::new()));
        root.finish();
        assert_eq!(report.finish().mistakes.len(), 4);
    }

    #[test]
    fn keys_are_quoted_where_toml_needs_it() {
        assert_eq!(join("groups", "Devices"), "groups.Devices");
        assert_eq!(join("groups", "a b"), "groups.\"a b\"");
        assert_eq!(join("groups", ""), "groups.\"\"");
    }
}
