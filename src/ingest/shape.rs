//! The shape of a body: which members of which types it has, whatever their values. One alert a shape, not one a body.

use std::collections::BTreeSet;
use std::fmt;

use ring::digest::{SHA256, digest};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Paths of one shape; what has more is told by its first ones.
const PATHS_MAX: usize = 500;
/// Bytes of a path that count.
const PATH_MAX: usize = 200;
/// A member's name of so many hex digits is a value: somebody's identity.
const HEX_NAME_MIN: usize = 8;

/// A fingerprint of a shape: the same wherever and whenever it is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape([u8; 8]);

impl Shape {
    /// Of a text of JSON.
    pub fn of_json(text: &str) -> Self {
        let mut paths = BTreeSet::new();
        let mut json = serde_json::Deserializer::from_str(text);
        // What is too deep, or breaks off, has the shape of what stands before.
        let _complete = Walk { path: String::new(), paths: &mut paths }.deserialize(&mut json).is_ok();
        Self::of_lines(paths.iter().map(String::as_str))
    }

    /// Of what is not JSON, nor a form.
    pub fn of_bytes() -> Self {
        Self::of_lines(["bytes"].into_iter())
    }

    fn of_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let text: Vec<&str> = lines.collect();
        let hash = digest(&SHA256, text.join("\n").as_bytes());
        Self(hash.as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// Reads 16 hex digits, as they are printed.
    pub fn parse(text: &str) -> Option<Self> {
        crate::wire::parse_hex(text).map(Self)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Collects the paths of one value.
struct Walk<'p> {
    path: String,
    paths: &'p mut BTreeSet<String>,
}

impl Walk<'_> {
    fn note<E: Error>(self, kind: &str) -> Result<(), E> {
        if self.paths.len() >= PATHS_MAX {
            return Err(E::custom("enough"));
        }
        self.paths.insert(format!("{} {kind}", self.path));
        Ok(())
    }

    fn below(&mut self, name: &str) -> Walk<'_> {
        let mut path = format!("{}/", self.path);
        let room = PATH_MAX.saturating_sub(path.len());
        path.extend(plain_name(name).char_indices().take_while(|(at, _)| *at < room).map(|(_, c)| c));
        Walk { path, paths: self.paths }
    }
}

/// A name without what is a value in it.
fn plain_name(name: &str) -> &str {
    let is_identity = name.len() >= HEX_NAME_MIN && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    if is_identity || is_number { "#" } else { name }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.note("null")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.note("bool")
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.note("number")
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.note("number")
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.note("number")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.note("string")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self.below("[]"))?.is_some() {}
        self.note("array")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            map.next_value_seed(self.below(&name))?;
        }
        self.note("object")
    }
}

struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_order_do_not_change_a_shape_and_names_and_types_do() {
        let shape = Shape::of_json(r#"{"a":1,"b":[{"c":"x"}]}"#);
        for same in [r#"{"b":[{"c":"y"},{"c":""}],"a":-2.5}"#, " {\"a\":7,\n\"b\":[{\"c\":\"\"}]}"] {
            assert_eq!(Shape::of_json(same), shape, "{same}");
        }
        for other in [r#"{"a":"1","b":[{"c":"x"}]}"#, r#"{"a":1,"b":{"c":"x"}}"#, r#"{"a":1}"#, "null", "{"] {
            assert_ne!(Shape::of_json(other), shape, "{other}");
        }
        assert_eq!(Shape::parse(&shape.to_string()), Some(shape));
        // It is kept, and compared with what later versions make.
        assert_eq!(Shape::of_json("{}").to_string(), "2a598932760885d3");
    }

    #[test]
    fn identities_as_names_are_values() {
        let one = Shape::of_json(r#"{"0018B20000000AF1":{"t":1},"17":2}"#);
        assert_eq!(Shape::of_json(r#"{"0018b20000000af2":{"t":3},"18":2}"#), one);
        assert_ne!(Shape::of_json(r#"{"station":{"t":3},"18":2}"#), one);
    }

    #[test]
    fn endless_bodies_have_a_shape_too() {
        let members: Vec<String> = (0..PATHS_MAX * 2).map(|n| format!("\"x{n}y\":1")).collect();
        Shape::of_json(&format!("{{{}}}", members.join(",")));
        Shape::of_json(&"[".repeat(100_000));
        Shape::of_json(&format!("{{\"{}\":1}}", "é".repeat(PATH_MAX)));
    }
}
