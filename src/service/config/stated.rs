//! Which keys stand in the file, each with a digest of what it says: enough to tell which of them changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher};

use toml::de::{DeTable, DeValue};

/// The keys of a file, with the names of their tables in front; those of an array of tables by what it calls itself.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Stated(BTreeMap<String, u64>);

/// Not the digests: what is short could be guessed by them.
impl fmt::Debug for Stated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Stated {
    pub(super) fn of(document: &DeTable<'_>) -> Self {
        let mut stated = Self::default();
        stated.add_all("", document);
        stated
    }

    /// The keys of this name or in the table of this name that the two do not state alike, but for those in `without`.
    pub fn differing<'a>(&'a self, other: &'a Self, name: &str, without: &str) -> BTreeSet<&'a str> {
        let is_in =
            |key: &str, table: &str| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
        let both = self.0.keys().chain(other.0.keys()).map(String::as_str);
        both.filter(|key| *key == name || is_in(key, name))
            .filter(|key| without.is_empty() || !is_in(key, without))
            .filter(|key| self.0.get(*key) != other.0.get(*key))
            .collect()
    }

    fn add_all(&mut self, path: &str, table: &DeTable<'_>) {
        for (key, value) in table.iter() {
            let key = key.get_ref();
            let path = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
            self.add(path, value.get_ref());
        }
    }

    fn add(&mut self, path: String, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => self.add_all(&path, table),
            DeValue::Array(values)
                if values.iter().any(|value| matches!(value.get_ref(), DeValue::Table(_))) =>
            {
                for value in values.iter() {
                    let DeValue::Table(table) = value.get_ref() else { continue };
                    let name = match table.get("name").map(|name| name.get_ref()) {
                        Some(DeValue::String(name)) => name.as_ref(),
                        _ => "",
                    };
                    self.add_all(&format!("{path}.{name}"), table);
                }
            }
            _ => {
                let mut hasher = DefaultHasher::new();
                digest(value, &mut hasher);
                self.0.insert(path, hasher.finish());
            }
        }
    }
}

/// What it says, however it is written and wherever it stands.
fn digest(value: &DeValue<'_>, hasher: &mut DefaultHasher) {
    match value {
        DeValue::String(text) => text.hash(hasher),
        DeValue::Integer(number) => number.as_str().hash(hasher),
        DeValue::Float(number) => number.as_str().hash(hasher),
        DeValue::Boolean(flag) => flag.hash(hasher),
        DeValue::Datetime(time) => time.to_string().hash(hasher),
        DeValue::Array(values) => values.iter().for_each(|value| digest(value.get_ref(), hasher)),
        DeValue::Table(table) => table.iter().for_each(|(key, value)| {
            key.get_ref().hash(hasher);
            digest(value.get_ref(), hasher);
        }),
    }
}
