//! The members of a JSON object, read as networks write them: numbers may be strings, what is null is not there.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::outcome::{Fault, Unmappable};
use super::time;

/// The members of an object, each still as its text, by their names.
#[derive(Debug, Clone, Default)]
pub struct Fields<'a>(Vec<(Name<'a>, &'a RawValue)>);

/// A name that is not copied unless it has to be unescaped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Members that most objects have room for.
const MEMBERS: usize = 16;

/// A type that a member of a wrong type should have.
fn wrong_type(name: &str, wanted: &str) -> Unmappable {
    Unmappable::new(Fault::Type, format!("\"{name}\" must be {wanted}"))
}

impl<'a> Fields<'a> {
    /// The members of the object that a text is.
    pub fn read(text: &'a str) -> Result<Self, Unmappable> {
        // What the error would say more holds the value: it is somebody's data.
        serde_json::from_str(text).map_err(|_| {
            Unmappable::new(Fault::Type, "the body must be a JSON object whose members stand once")
        })
    }

    /// A member's value, unless it is null.
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.any(name).filter(|value| value.get() != "null")
    }

    /// A member's value, which may be null.
    pub fn any(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(Name(other), _)| other == name).map(|(_, value)| *value)
    }

    /// The first of these members that is there.
    pub fn first_of(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().find(|name| self.raw(name).is_some()).copied()
    }

    /// The names of all members.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(Name(name), _)| name.as_ref())
    }

    /// The members of a member; none if it is not there.
    pub fn object(&self, name: &str) -> Result<Self, Unmappable> {
        match self.raw(name) {
            Some(value) => serde_json::from_str(value.get()).map_err(|_| wrong_type(name, "an object")),
            None => Ok(Self::default()),
        }
    }

    /// The elements of a member; none if it is not there.
    pub fn list(&self, name: &str) -> Result<Vec<&'a RawValue>, Unmappable> {
        match self.raw(name) {
            Some(value) => serde_json::from_str(value.get()).map_err(|_| wrong_type(name, "an array")),
            None => Ok(Vec::new()),
        }
    }

    /// A string or, as its digits, a number; an empty one is as good as none.
    pub fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, Unmappable> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        let text = text_of(value).ok_or_else(|| wrong_type(name, "a string"))?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// A string, which may be empty.
    pub fn string(&self, name: &str) -> Result<Option<Cow<'a, str>>, Unmappable> {
        let string = |value: &'a RawValue| text_of(value).filter(|_| value.get().starts_with('"'));
        match self.raw(name) {
            Some(value) => string(value).map(Some).ok_or_else(|| wrong_type(name, "a string")),
            None => Ok(None),
        }
    }

    /// A whole number from 0 to `max`, or a string of one.
    pub fn number(&self, name: &str, max: u64) -> Result<Option<u64>, Unmappable> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let number = whole(&text).ok_or_else(|| wrong_type(name, "a whole number"))?;
        let in_range = u64::try_from(number).ok().filter(|number| *number <= max);
        in_range.map(Some).ok_or_else(|| {
            Unmappable::new(Fault::Range, format!("\"{name}\" must be a number from 0 to {max}"))
        })
    }

    /// A truth value, as itself, as a string or as 0 or 1.
    pub fn flag(&self, name: &str) -> Result<bool, Unmappable> {
        match self.text(name)?.as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(wrong_type(name, "true or false")),
        }
    }

    /// A time as text with an offset.
    pub fn time(&self, name: &str) -> Result<Option<i64>, Unmappable> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        time::of_text(&text).map(Some).ok_or_else(|| no_time(name))
    }

    /// A time as a number of units of so many microseconds, or as a string of one.
    pub fn time_in(&self, name: &str, unit_us: i64) -> Result<Option<i64>, Unmappable> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let number = whole(&text).and_then(|number| i64::try_from(number).ok());
        number.and_then(|number| time::of_units(number, unit_us)).map(Some).ok_or_else(|| no_time(name))
    }
}

/// The text of a string, a number or a truth value.
pub fn text_of(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get();
    let inner = match text.strip_prefix('"') {
        None if text.starts_with(['{', '[']) => return None,
        None => return Some(Cow::Borrowed(text)),
        Some(inner) => inner.strip_suffix('"')?,
    };
    match inner.contains('\\') {
        true => serde_json::from_str(text).ok().map(Cow::Owned),
        false => Some(Cow::Borrowed(inner)),
    }
}

/// A whole number; some languages have no other than those with a fraction, which is zero then.
pub fn whole(text: &str) -> Option<i128> {
    let text = text.trim();
    let (digits, fraction) = text.split_once('.').unwrap_or((text, ""));
    let signless = digits.strip_prefix('-').unwrap_or(digits);
    let is_whole = !signless.is_empty()
        && signless.bytes().all(|byte| byte.is_ascii_digit())
        && fraction.bytes().all(|byte| byte == b'0');
    // One that is too long is out of any range, not no number.
    let saturated = if digits.starts_with('-') { i128::MIN } else { i128::MAX };
    is_whole.then(|| digits.parse().unwrap_or(saturated))
}

pub fn no_time(name: &str) -> Unmappable {
    Unmappable::new(Fault::Time, format!("\"{name}\" is no time"))
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members).map(Fields)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Name<'de>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(MEMBERS);
        while let Some(member) = map.next_entry::<Name<'de>, &RawValue>()? {
            members.push(member);
        }
        members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        // Which of the two is meant, nobody can tell.
        match members.windows(2).any(|pair| matches!(pair, [(one, _), (other, _)] if one == other)) {
            true => Err(A::Error::custom("a member stands twice")),
            false => Ok(members),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields<'_> {
        Fields::read(text).unwrap()
    }

    #[test]
    fn numbers_may_be_strings_and_null_is_nothing() {
        let read = fields(r#"{"a":7,"b":"8","c":"9.0","d":null,"e":"","f":true,"g":"1"}"#);
        let number = |name| read.number(name, 9).unwrap();
        assert_eq!(["a", "b", "c", "d", "e", "x"].map(number), [Some(7), Some(8), Some(9), None, None, None]);
        assert_eq!(["f", "g", "d"].map(|name| read.flag(name).unwrap()), [true, true, false]);
        assert_eq!(read.text("a").unwrap().as_deref(), Some("7"));
        assert_eq!(read.string("e").unwrap().as_deref(), Some(""));
        assert_eq!(read.string("a").unwrap_err().fault, Fault::Type);
    }

    #[test]
    fn what_is_out_of_range_is_not_what_is_no_number() {
        let read = fields(
            r#"{"a":10,"b":-1,"c":1.5,"d":"x","e":99999999999999999999999999999999999999999999,"f":[1]}"#,
        );
        let fault = |name| read.number(name, 9).unwrap_err().fault;
        assert_eq!(["a", "b", "e"].map(fault), [Fault::Range; 3]);
        assert_eq!(["c", "d", "f"].map(fault), [Fault::Type; 3]);
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_and_only_objects_are_read() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, "[]", "1", "{", ""] {
            assert_eq!(Fields::read(text).unwrap_err().fault, Fault::Type, "{text}");
        }
        let told = Fields::read("\"door code 4711\"").unwrap_err().sentence;
        assert!(!told.contains("4711"), "{told}");
    }

    #[test]
    fn times_are_text_or_numbers() {
        let read =
            fields(r#"{"a":"2026-11-21T18:52:42Z","b":"1795287162","c":1795287162,"d":"soon","e":-5}"#);
        let at = Some(1_795_287_162_000_000);
        assert_eq!(read.time("a").unwrap(), at);
        assert_eq!(["b", "c"].map(|name| read.time_in(name, 1_000_000).unwrap()), [at, at]);
        assert_eq!(read.time("d").unwrap_err().fault, Fault::Time);
        assert_eq!(read.time_in("e", 1).unwrap_err().fault, Fault::Time);
    }

    #[test]
    fn strings_are_unescaped_and_half_a_surrogate_pair_is_none() {
        let read = fields(r#"{"a":"\u00e9","b":"\ud800"}"#);
        assert_eq!(read.text("a").unwrap().as_deref(), Some("é"));
        assert_eq!(read.text("b").unwrap_err().fault, Fault::Type);
    }
}
