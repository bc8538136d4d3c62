//! What a format read of an element, and the message that is made of it.

use std::borrow::Cow;
use std::fmt::Write as _;

use ring::digest::{SHA256, digest};
use serde_json::value::RawValue;

use super::outcome::{Fault, Flag, Mapped, Outcome, Unmappable};
use super::source::Source;
use super::time;
use crate::payload_json::{self, JSON_DEPTH_MAX, write_string};
use crate::wire::{Format, PAYLOAD_DATA_MAX, Uid};

/// Bytes of what a network says about a message; of more, `radio`, `settings` and `decoded` are left out.
const NETWORK_MAX: usize = 48 * 1024;
/// Bytes of the text that tells a second delivery; a longer one is hashed.
const DEDUP_MAX: usize = 128;
/// Bytes of what most networks say about a message besides their own JSON.
const MEMBERS_LEN: usize = 256;
/// Characters of an identity that are told.
const IDENTITY_SHOWN: usize = 64;

/// What a format makes of an element.
#[derive(Debug)]
pub enum Read<'a> {
    Message(Draft<'a>),
    Merge(Draft<'a>),
    Ignored(&'static str),
}

/// A message as its network brought it.
#[derive(Debug, Default)]
pub struct Draft<'a> {
    /// In its canonical form: hex in upper case.
    pub identity: Option<Cow<'a, str>>,
    pub data: Option<Data<'a>>,
    pub time_us: Option<i64>,
    pub port: Option<u64>,
    pub counter: Option<u64>,
    /// JSON.
    pub radio: Option<Cow<'a, str>>,
    /// JSON.
    pub settings: Option<Cow<'a, str>>,
    pub decoded: Option<&'a RawValue>,
    pub flags: Vec<Flag>,
    pub dedup: Option<String>,
    pub wants_downlink: bool,
}

/// What the device sent.
#[derive(Debug)]
pub enum Data<'a> {
    Bytes(Format, Vec<u8>),
    /// Decoded by the network.
    Json(&'a RawValue),
}

impl Read<'_> {
    /// The outcome for a source, at this time.
    pub fn finish(self, source: &Source, now_us: Option<i64>) -> Result<Outcome, Unmappable> {
        match self {
            Self::Message(draft) if draft.data.is_none() => {
                Err(Unmappable::new(Fault::Missing, "there is no payload"))
            }
            Self::Message(draft) => draft.finish(source, now_us).map(Outcome::Message),
            Self::Merge(draft) => draft.finish(source, now_us).map(Outcome::Merge),
            Self::Ignored(event) => Ok(Outcome::Ignored(event)),
        }
    }
}

impl Draft<'_> {
    fn finish(mut self, source: &Source, now_us: Option<i64>) -> Result<Mapped, Unmappable> {
        let identity = self.identity.take().ok_or_else(|| missing_identity(source))?;
        let uid = uid_of(&identity, source)?;
        let has_data = self.data.is_some();
        let (format, payload) = match self.data.take() {
            Some(Data::Bytes(format, bytes)) => (format, bytes),
            Some(Data::Json(value)) => {
                let payload = payload_json::from_json(Format::Json, value);
                (Format::Json, payload.map_err(|mistake| wrong_payload(mistake.to_string()))?)
            }
            None => (Format::Binary, Vec::new()),
        };
        if payload.len() > PAYLOAD_DATA_MAX {
            return Err(wrong_payload(format!("the payload is longer than {PAYLOAD_DATA_MAX} bytes")));
        }
        if let Some(flag) = self.time_us.and_then(|time_us| time::flag(time_us, now_us))
            && !self.flags.contains(&flag)
        {
            self.flags.push(flag);
        }
        self.dedup = self.dedup.map(bounded);
        let device = (identity != uid.as_str()).then_some(identity.as_ref());
        let network = self.network(device);
        let Self { time_us, flags, dedup, wants_downlink, .. } = self;
        Ok(Mapped { uid, format, payload, has_data, network, time_us, flags, dedup, wants_downlink })
    }

    /// What the network says, as JSON of at most [`NETWORK_MAX`] bytes.
    fn network(&mut self, device: Option<&str>) -> String {
        let text = self.write_network(device);
        // Each part of it is JSON already, so only its nesting can be too much: one level is the whole.
        let is_too_deep = |part: &str| payload_json::is_deeper(part, JSON_DEPTH_MAX - 1);
        if text.len() <= NETWORK_MAX && !self.parts().into_iter().flatten().any(is_too_deep) {
            debug_assert!(payload_json::is_valid(Format::Json, text.as_bytes()), "{text}");
            return text;
        }
        (self.radio, self.settings, self.decoded) = (None, None, None);
        self.flags.push(Flag::Cut);
        self.write_network(device)
    }

    /// Radio, settings, and what was decoded: JSON of the network's own.
    fn parts(&self) -> [Option<&str>; 3] {
        [self.radio.as_deref(), self.settings.as_deref(), self.decoded.map(RawValue::get)]
    }

    fn write_network(&self, device: Option<&str>) -> String {
        let parts = self.parts();
        let len = parts.iter().flatten().map(|part| part.len()).sum::<usize>();
        let [radio, settings, decoded] = parts;
        let mut object = Members(String::with_capacity(len + MEMBERS_LEN));
        object.text("device", device);
        object.number("port", self.port);
        object.number("counter", self.counter);
        object.text("time", self.time_us.and_then(time::to_text).as_deref());
        object.json("radio", radio);
        object.json("settings", settings);
        object.json("decoded", decoded);
        let flags: Vec<_> = self.flags.iter().map(|flag| format!("\"{}\"", flag.name())).collect();
        let flags = (!flags.is_empty()).then(|| format!("[{}]", flags.join(",")));
        object.json("flags", flags.as_deref());
        object.text("dedup", self.dedup.as_deref());
        object.end()
    }
}

/// A JSON object that is written member by member; what is `None` is left out.
#[derive(Debug, Default)]
pub struct Members(String);

impl Members {
    pub fn json(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.name(name);
            self.0.push_str(value);
        }
    }

    pub fn text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.name(name);
            write_string(&mut self.0, value);
        }
    }

    pub fn number(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.name(name);
            // Writing into a string cannot fail.
            let _written = write!(self.0, "{value}");
        }
    }

    fn name(&mut self, name: &str) {
        if self.0.is_empty() {
            self.0.reserve(MEMBERS_LEN);
        }
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        write_string(&mut self.0, name);
        self.0.push(':');
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn end(mut self) -> String {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        self.0
    }
}

/// SHA-256 in hex.
pub fn fingerprint(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn wrong_payload(sentence: impl Into<Cow<'static, str>>) -> Unmappable {
    Unmappable::new(Fault::Payload, sentence)
}

fn bounded(dedup: String) -> String {
    if dedup.len() <= DEDUP_MAX { dedup } else { fingerprint(dedup.as_bytes()) }
}

fn missing_identity(source: &Source) -> Unmappable {
    match source.identity() {
        "" => Unmappable::new(Fault::Missing, "the object's identity is missing"),
        name => Unmappable::new(Fault::Missing, format!("the object's identity, {name}, is missing")),
    }
}

fn uid_of(identity: &str, source: &Source) -> Result<Uid, Unmappable> {
    if let Some(uid) = source.aliases.get(identity) {
        return Ok(uid);
    }
    let refused = |why: String| {
        let shown: String = identity.chars().take(IDENTITY_SHOWN).flat_map(char::escape_debug).collect();
        Unmappable::new(Fault::Identity, format!("the identity \"{shown}\" {why}"))
    };
    if identity.chars().any(char::is_control) {
        return Err(refused("holds control characters".to_owned()));
    }
    match Uid::parse(identity) {
        Ok(uid) if uid.is_central() => Err(missing_identity(source)),
        Ok(uid) => Ok(uid),
        Err(error) => Err(refused(format!("{error}: aliases_file can give it a shorter one"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::{Aliases, NetworkFormat};
    use super::*;

    fn source() -> Source {
        Source::new("net", NetworkFormat::Generic)
    }

    fn draft(identity: &str) -> Draft<'_> {
        let data = Some(Data::Bytes(Format::Binary, vec![1]));
        Draft { identity: Some(identity.into()), data, ..Draft::default() }
    }

    #[test]
    fn identities_have_at_most_16_bytes_or_an_alias() {
        let of = |identity: &str, source: &Source| draft(identity).finish(source, None);
        assert_eq!(of("0018B20000000AF1", &source()).unwrap().uid.as_str(), "0018B20000000AF1");
        let long = of("8988228066602000001", &source()).unwrap_err();
        assert_eq!(long.fault, Fault::Identity);
        assert!(long.sentence.contains("aliases_file"), "{}", long.sentence);
        for wrong in ["a\nb", "\0a"] {
            assert_eq!(of(wrong, &source()).unwrap_err().fault, Fault::Identity);
        }
        assert_eq!(of("", &source()).unwrap_err().fault, Fault::Missing);
        let aliases = Aliases::parse(r#"{"8988228066602000001":"tracker"}"#).unwrap();
        let mapped = of("8988228066602000001", &Source { aliases, ..source() }).unwrap();
        assert_eq!(
            (mapped.uid.as_str(), mapped.network.as_str()),
            ("tracker", r#"{"device":"8988228066602000001"}"#)
        );
    }

    #[test]
    fn what_the_network_says_is_bounded() {
        let with = |len: usize| {
            let radio = format!("\"{}\"", "x".repeat(len));
            let draft = Draft { radio: Some(radio.into()), port: Some(2), ..draft("a") };
            draft.finish(&source(), None).unwrap()
        };
        let room = NETWORK_MAX - r#"{"port":2,"radio":""}"#.len();
        assert_eq!(with(room).network.len(), NETWORK_MAX);
        assert_eq!(with(room + 1).network, r#"{"port":2,"flags":["cut"]}"#);
        let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
        let deep = Draft { radio: Some(deep.into()), ..draft("a") }.finish(&source(), None).unwrap();
        assert_eq!(deep.flags, [Flag::Cut]);
    }

    #[test]
    fn a_long_key_is_hashed() {
        let with = |len: usize| {
            Draft { dedup: Some("k".repeat(len)), ..draft("a") }
                .finish(&source(), None)
                .unwrap()
                .dedup
                .unwrap()
        };
        assert_eq!(with(DEDUP_MAX).len(), DEDUP_MAX);
        assert_eq!(with(DEDUP_MAX + 1).len(), 64);
    }

    #[test]
    fn payloads_have_at_most_65535_bytes() {
        let with = |len: usize| {
            let data = Some(Data::Bytes(Format::Binary, vec![0; len]));
            Draft { data, ..draft("a") }.finish(&source(), None)
        };
        assert!(with(PAYLOAD_DATA_MAX).is_ok());
        assert_eq!(with(PAYLOAD_DATA_MAX + 1).unwrap_err().fault, Fault::Payload);
    }
}
