//! A source's settings: which network it is, and how its messages become ours.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::net::AllowFrom;
use crate::wire::{GroupName, Uid};

/// Identities of one table of aliases.
pub const ALIASES_MAX: usize = 20_000;
/// Bytes of a file of aliases.
pub const ALIASES_FILE_MAX: usize = ALIASES_MAX * 200;

/// Settings of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name in the path, in logs, and on its messages.
    pub name: String,
    /// What its bodies look like.
    pub format: NetworkFormat,
    /// Where a generic body holds what.
    pub map: Option<Map>,
    /// Group of objects that the access list does not name.
    pub group: Option<GroupName>,
    /// Whether such objects may come in.
    pub objects: Objects,
    /// Which of the network's identities is the UID, one of [`NetworkFormat::identities`]; for `plain` the member that holds
    /// it if there is one. `None`: the usual one.
    pub uid: Option<String>,
    /// UIDs of identities.
    pub aliases: Aliases,
    /// Where it may post from.
    pub allow_from: AllowFrom,
    /// Bytes of the largest body.
    pub max_body: usize,
    /// Messages a second of the whole network; 0: no limit.
    pub rate: u32,
}

impl Source {
    /// A source of this format with the usual settings: any object comes in.
    pub fn new(name: &str, format: NetworkFormat) -> Self {
        Self {
            name: name.to_owned(),
            format,
            map: None,
            group: None,
            objects: Objects::Any,
            uid: None,
            aliases: Aliases::default(),
            allow_from: AllowFrom::default(),
            max_body: 64 * 1024,
            rate: 0,
        }
    }

    /// The identity that is the UID, as [`NetworkFormat::identities`] writes it.
    pub(super) fn identity(&self) -> &str {
        self.uid.as_deref().or_else(|| self.format.identities().first().copied()).unwrap_or_default()
    }
}

/// Formats of partner networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkFormat {
    /// `{"UID", "Payload", "Format"}`.
    Plain,
    /// Sigfox callbacks.
    Sigfox,
    /// The Things Stack v3.
    Tts,
    /// ChirpStack v4.
    Chirpstack,
    /// Actility ThingPark.
    Thingpark,
    /// 1NCE OS.
    OneNce,
    /// Soracom Beam.
    Soracom,
    /// Orange Live Objects.
    LiveObjects,
    /// JSON of any shape, see [`Map`].
    Generic,
}

impl NetworkFormat {
    /// Every format by its name in the configuration.
    pub const NAMES: [(&'static str, Self); 9] = [
        ("plain", Self::Plain),
        ("sigfox", Self::Sigfox),
        ("tts", Self::Tts),
        ("chirpstack", Self::Chirpstack),
        ("thingpark", Self::Thingpark),
        ("1nce", Self::OneNce),
        ("soracom", Self::Soracom),
        ("liveobjects", Self::LiveObjects),
        ("generic", Self::Generic),
    ];

    /// Identities of this network that may be the UID, the usual one first. Those of `plain` and `generic` have no names of
    /// their own.
    pub fn identities(self) -> &'static [&'static str] {
        match self {
            Self::Plain | Self::Generic => &[],
            Self::Sigfox => &["device"],
            Self::Tts => &["dev_eui", "device_id"],
            Self::Chirpstack => &["dev_eui", "device_name"],
            Self::Thingpark => &["dev_eui"],
            Self::OneNce => &["imsi", "iccid", "ip"],
            Self::Soracom => &["imsi", "imei", "sim_id", "msisdn", "sigfox_device_id", "lora_device_id"],
            Self::LiveObjects => &["stream_id", "source"],
        }
    }

    /// The identity that a configuration means, however it writes it: `dev_eui`, `devEui`, `DevEUI`.
    pub fn identity(self, written: &str) -> Option<&'static str> {
        let plain = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
        self.identities().iter().find(|name| plain(name) == plain(written)).copied()
    }

    /// Whether a body of this media type may be one of this format. JSON is one of every format.
    pub fn takes(self, media_type: &str) -> bool {
        match self {
            Self::Soracom => true,
            Self::Sigfox => {
                ["application/json", "application/x-www-form-urlencoded", "text/plain"].contains(&media_type)
            }
            _ => media_type == "application/json",
        }
    }
}

/// Which identities a source may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objects {
    /// Any.
    Any,
    /// Those that the access list names.
    Listed,
}

/// JSON pointers into a generic body, or into each element of one that is an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// The object's identity.
    pub uid: String,
    /// The payload.
    pub payload: String,
    /// What the payload is written in.
    pub encoding: Encoding,
    /// The network's time: text with an offset, or a number since 1970 whose unit is told by its size.
    pub time: Option<String>,
    /// What is the same for every delivery of a message, and for no other message.
    pub id: Option<String>,
    /// The port.
    pub port: Option<String>,
    /// The counter.
    pub counter: Option<String>,
}

/// What a generic payload is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// It is the JSON value itself.
    Json,
    /// It is the text of a string.
    Text,
    /// A string of hex digits.
    Hex,
    /// A string in base64.
    Base64,
}

impl Encoding {
    /// Every encoding by its name in the configuration.
    pub const NAMES: [(&'static str, Self); 4] =
        [("json", Self::Json), ("text", Self::Text), ("hex", Self::Hex), ("base64", Self::Base64)];
}

/// Whether a text is a JSON pointer to something inside of a value (RFC 6901).
pub fn check_pointer(pointer: &str) -> bool {
    let escapes_are_known = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    pointer.starts_with('/') && escapes_are_known
}

/// UIDs by the identities of a network; those that are longer than a UID need one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aliases(HashMap<String, Uid>);

impl Aliases {
    /// Reads `{"identity": "UID"}`. Gives every mistake as a sentence.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let Pairs(pairs) = serde_json::from_str(text)
            .map_err(|error| vec![format!("is not a JSON object of strings: {error}")])?;
        let mut mistakes = Vec::new();
        if pairs.len() > ALIASES_MAX {
            mistakes.push(format!("has {} identities, more than {ALIASES_MAX}", pairs.len()));
        }
        let mut aliases = HashMap::new();
        for (identity, name) in pairs {
            let shown = identity.escape_debug();
            match Uid::parse(&name) {
                Ok(uid) if uid.is_central() => mistakes.push(format!("\"{shown}\": the UID is empty")),
                Ok(uid) if aliases.insert(plain_case(&identity).into_owned(), uid).is_some() => {
                    mistakes.push(format!("\"{shown}\" stands twice"));
                }
                Ok(_) => {}
                Err(error) => mistakes.push(format!("\"{shown}\": the UID {error}")),
            }
        }
        if mistakes.is_empty() { Ok(Self(aliases)) } else { Err(mistakes) }
    }

    /// The UID of an identity. Hex digits are found in either case.
    pub fn get(&self, identity: &str) -> Option<Uid> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(plain_case(identity).as_ref()).copied()
    }
}

/// Hex digits in lower case, everything else as it is.
fn plain_case(identity: &str) -> Cow<'_, str> {
    match identity.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Cow::Owned(identity.to_ascii_lowercase()),
        false => Cow::Borrowed(identity),
    }
}

struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Vec<(String, String)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Strings).map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_known_however_they_are_written() {
        for written in ["dev_eui", "devEui", "DevEUI", "dev-eui"] {
            assert_eq!(NetworkFormat::Chirpstack.identity(written), Some("dev_eui"));
        }
        assert_eq!(NetworkFormat::Sigfox.identity("dev_eui"), None);
        assert_eq!(NetworkFormat::Soracom.identity("sim-id"), Some("sim_id"));
    }

    #[test]
    fn aliases_are_read_whole_or_not_at_all() {
        let aliases =
            Aliases::parse(r#"{"8988228066602000001":"tracker-1","00aB":"x","Boiler":"y"}"#).unwrap();
        assert_eq!(aliases.get("8988228066602000001").unwrap().as_str(), "tracker-1");
        assert_eq!(
            ["00AB", "00ab", "00Ab"].map(|identity| aliases.get(identity).unwrap().as_str().to_owned()),
            ["x"; 3]
        );
        assert_eq!((aliases.get("Boiler").is_some(), aliases.get("boiler")), (true, None));
        assert_eq!(aliases.get("8988"), None);
        let mistakes =
            Aliases::parse(r#"{"a":"","b":"12345678901234567","c":"x","c":"y","d":"z"}"#).unwrap_err();
        assert_eq!(mistakes.len(), 3);
        for (mistake, part) in
            mistakes.iter().zip(["\"a\": the UID is empty", "\"b\": the UID", "\"c\" stands"])
        {
            assert!(mistake.starts_with(part), "{mistake}");
        }
        for wrong in ["", "[]", r#"{"a":1}"#, r#"{"a":"b"}x"#] {
            assert_eq!(Aliases::parse(wrong).unwrap_err().len(), 1, "{wrong}");
        }
    }

    #[test]
    fn a_table_has_at_most_20000_aliases() {
        let table = |n: usize| {
            let pairs: Vec<_> = (0..n).map(|n| format!("\"{n}\":\"x\"")).collect();
            format!("{{{}}}", pairs.join(","))
        };
        assert!(Aliases::parse(&table(ALIASES_MAX)).is_ok());
        assert!(Aliases::parse(&table(ALIASES_MAX + 1)).unwrap_err()[0].contains("20001"));
    }

    #[test]
    fn pointers_start_with_a_slash_and_know_two_escapes() {
        assert!(["/", "/a", "/a/0", "/a~1b/~0"].into_iter().all(check_pointer));
        assert!(!["", "a", "a/b", "/a~", "/a~2"].into_iter().any(check_pointer));
    }
}
