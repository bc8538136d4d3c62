//! What is posted, read strictly: every mistake is a sentence that names its field.
//!
//! Fields that are not known are ignored, as the specification's own clients send some; a known one that
//! stands twice is refused. Payloads are taken as text and handed on unchanged.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::error::ApiError;
use crate::limits::ACL_ITEMS_MAX;
use crate::payload_json;
use crate::wire::{AclItem, AuthKey, Format, GroupName, Uid};

/// Characters of an offending value that are told.
const VALUE_SHOWN: usize = 64;

/// What `POST /request` asks.
#[derive(PartialEq, Eq)]
pub struct CallRequest {
    /// The object.
    pub uid: Uid,
    /// How long the caller waits; not above the configured maximum.
    pub timeout: Duration,
    /// What the payload is.
    pub format: Format,
    /// At most 65,535 bytes.
    pub payload: Vec<u8>,
}

/// What `POST /v1/commands` asks.
pub struct CommandRequest {
    /// The object.
    pub uid: Uid,
    /// What the payload is.
    pub format: Format,
    /// At most 65,535 bytes.
    pub payload: Vec<u8>,
    /// How long it may wait.
    pub deadline: Option<Duration>,
    /// Which earlier commands it takes the place of.
    pub supersedes: Option<String>,
}

#[derive(Deserialize)]
struct RawCommand<'a> {
    #[serde(rename = "UID", borrow)]
    uid: &'a RawValue,
    #[serde(rename = "Deadline", borrow, default)]
    deadline: Option<&'a RawValue>,
    #[serde(rename = "Supersedes", borrow, default)]
    supersedes: Option<&'a RawValue>,
    #[serde(rename = "Payload", borrow)]
    payload: &'a RawValue,
    #[serde(rename = "Format", borrow)]
    format: &'a RawValue,
}

#[derive(Deserialize)]
struct RawCall<'a> {
    #[serde(rename = "UID", borrow)]
    uid: &'a RawValue,
    #[serde(rename = "Timeout", borrow, default)]
    timeout: Option<&'a RawValue>,
    #[serde(rename = "Payload", borrow)]
    payload: &'a RawValue,
    #[serde(rename = "Format", borrow)]
    format: &'a RawValue,
}

#[derive(Deserialize)]
struct RawItem<'a> {
    #[serde(rename = "GroupName", borrow)]
    group: &'a RawValue,
    #[serde(rename = "UID", borrow)]
    uid: &'a RawValue,
    #[serde(rename = "AuthKey", borrow)]
    key: &'a RawValue,
}

/// Reads the body of `POST /request`.
pub fn call_request(body: &[u8], max_wait: Duration) -> Result<CallRequest, ApiError> {
    let text = utf8(body)?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(ApiError::content(
            "the body must be a JSON object with \"UID\", \"Payload\" and \"Format\"",
        ));
    }
    let raw: RawCall<'_> = parse(text)?;
    let uid = object(raw.uid)?;
    let timeout = match raw.timeout {
        None => max_wait,
        Some(raw) => seconds(raw.get())
            .ok_or_else(|| ApiError::content("\"Timeout\" must be a whole number of seconds above 0"))?
            .min(max_wait),
    };
    let (format, payload) = payload(raw.format, raw.payload)?;
    Ok(CallRequest { uid, timeout, format, payload })
}

/// Reads the body of `POST /v1/commands`.
pub fn command_request(body: &[u8]) -> Result<CommandRequest, ApiError> {
    let text = utf8(body)?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(ApiError::content(
            "the body must be a JSON object with \"UID\", \"Payload\" and \"Format\"",
        ));
    }
    let raw: RawCommand<'_> = parse(text)?;
    let deadline = raw.deadline.map(|raw| {
        seconds(raw.get())
            .ok_or_else(|| ApiError::content("\"Deadline\" must be a whole number of seconds above 0"))
    });
    let supersedes = raw.supersedes.map(|raw| {
        string(raw).map(Cow::into_owned).ok_or_else(|| ApiError::content("\"Supersedes\" must be a string"))
    });
    let (format, payload) = payload(raw.format, raw.payload)?;
    Ok(CommandRequest {
        uid: object(raw.uid)?,
        format,
        payload,
        deadline: deadline.transpose()?,
        supersedes: supersedes.transpose()?,
    })
}

fn object(raw: &RawValue) -> Result<Uid, ApiError> {
    let uid = string(raw).ok_or_else(|| ApiError::content("\"UID\" must be a string"))?;
    let uid =
        Uid::parse(&uid).map_err(|error| ApiError::content(format!("\"UID\" {} {error}", shown(&uid))))?;
    if uid.is_central() {
        return Err(ApiError::content("\"UID\" must not be empty: the empty UID is the central's own"));
    }
    Ok(uid)
}

fn payload(format: &RawValue, payload: &RawValue) -> Result<(Format, Vec<u8>), ApiError> {
    let format = string(format)
        .and_then(|name| Format::from_name(&name))
        .ok_or_else(|| ApiError::content("\"Format\" must be \"JSON\", \"ASCII\", \"UTF8\" or \"BINARY\""))?;
    let payload =
        payload_json::from_json(format, payload).map_err(|mistake| ApiError::content(mistake.to_string()))?;
    Ok((format, payload))
}

/// Reads the body of `POST /acl`. Whether the groups exist and no UID stands twice is the access list's business.
pub fn access_list(body: &[u8]) -> Result<Vec<AclItem>, ApiError> {
    let text = utf8(body)?;
    if !text.trim_ascii_start().starts_with('[') {
        return Err(ApiError::content(
            "the body must be a JSON array of {\"GroupName\", \"UID\", \"AuthKey\"}",
        ));
    }
    let raw: Vec<&RawValue> = parse(text)?;
    if raw.len() > ACL_ITEMS_MAX {
        return Err(ApiError::content(format!(
            "the list has {} items, more than {ACL_ITEMS_MAX}",
            raw.len()
        )));
    }
    raw.into_iter().enumerate().map(|(index, item)| access_item(index, item.get())).collect()
}

fn access_item(index: usize, text: &str) -> Result<AclItem, ApiError> {
    let refused = |what: String| ApiError::content(format!("item {index}: {what}"));
    if !text.starts_with('{') {
        return Err(refused("must be an object with \"GroupName\", \"UID\" and \"AuthKey\"".to_owned()));
    }
    let raw: RawItem<'_> = serde_json::from_str(text).map_err(|error| refused(without_place(&error)))?;
    let name = |field: &str, raw: &RawValue| {
        string(raw).map(Cow::into_owned).ok_or_else(|| refused(format!("\"{field}\" must be a string")))
    };
    let group = name("GroupName", raw.group)?;
    let uid = name("UID", raw.uid)?;
    let too_long = |field: &str, value: &str, error| refused(format!("\"{field}\" {} {error}", shown(value)));
    let item = AclItem {
        group: GroupName::parse(&group).map_err(|error| too_long("GroupName", &group, error))?,
        uid: Uid::parse(&uid).map_err(|error| too_long("UID", &uid, error))?,
        // The value of a key is never told.
        key: string(raw.key)
            .and_then(|hex| AuthKey::parse(&hex))
            .ok_or_else(|| refused("\"AuthKey\" must be a string of 32 hex digits".to_owned()))?,
    };
    if item.uid.is_central() {
        return Err(refused("\"UID\" \"\" is empty: the empty UID is the central's".to_owned()));
    }
    Ok(item)
}

fn utf8(body: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(body).map_err(|_| ApiError::content("the body is not UTF-8"))
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ApiError> {
    serde_json::from_str(text).map_err(|error| {
        let mut sentence =
            if error.is_data() { without_place(&error) } else { format!("the body is not JSON: {error}") };
        sentence = sentence.replace('`', "\"");
        ApiError::content(sentence)
    })
}

/// The error without its place in the text: it names a field, which says more.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string().replace('`', "\"");
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

/// The text of a JSON string; `None` for other values and for half of a surrogate pair.
fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let text = raw.get();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { owned(text).map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

fn owned<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// A whole number above 0 written with digits only. One too large for the machine is as good as the largest.
fn seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = text.parse().unwrap_or(u64::MAX);
    (seconds > 0).then_some(Duration::from_secs(seconds))
}

fn shown(value: &str) -> String {
    let mut shown: String = value.chars().take(VALUE_SHOWN).flat_map(char::escape_debug).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_WAIT: Duration = Duration::from_secs(30);
    const KEY: &str = "00112233445566778899AABBCCDDEEFF";

    fn call(text: &str) -> Result<CallRequest, String> {
        call_request(text.as_bytes(), MAX_WAIT).map_err(|error| {
            assert_eq!(error.status, 400);
            error.sentence.into_owned()
        })
    }

    fn refused(text: &str) -> String {
        call(text).err().unwrap_or_else(|| panic!("accepted: {text}"))
    }

    #[test]
    fn a_request_is_read_and_its_json_handed_on_unchanged() {
        let request =
            call(r#" {"Format":"JSON","More":[1],"Payload": {"b":1.50,  "a":1e400},"UID":"Obj\u0054est"} "#)
                .unwrap();
        assert_eq!(request.uid.as_str(), "ObjTest");
        assert_eq!(request.payload, br#"{"b":1.50,  "a":1e400}"#);
        assert_eq!((request.format, request.timeout), (Format::Json, MAX_WAIT));
    }

    #[test]
    fn the_timeout_is_a_whole_number_above_zero_and_capped() {
        let with =
            |timeout: &str| format!(r#"{{"UID":"a","Timeout":{timeout},"Payload":[],"Format":"BINARY"}}"#);
        assert_eq!(call(&with("7")).unwrap().timeout, Duration::from_secs(7));
        for long in ["31", "99999999999999999999999999"] {
            assert_eq!(call(&with(long)).unwrap().timeout, MAX_WAIT);
        }
        for bad in ["0", "-1", "1.0", "1e1", "\"5\"", "true", "[]", "-0"] {
            assert!(refused(&with(bad)).contains("\"Timeout\""), "{bad}");
        }
    }

    #[test]
    fn each_mistake_names_its_field() {
        for (text, field) in [
            (r#"{"Payload":1,"Format":"JSON"}"#, "UID"),
            (r#"{"UID":"a","Format":"JSON"}"#, "Payload"),
            (r#"{"UID":"a","Payload":1}"#, "Format"),
            (r#"{"UID":1,"Payload":1,"Format":"JSON"}"#, "UID"),
            (r#"{"UID":"","Payload":1,"Format":"JSON"}"#, "UID"),
            (r#"{"UID":"\u0000","Payload":1,"Format":"JSON"}"#, "UID"),
            (r#"{"UID":"12345678901234567","Payload":1,"Format":"JSON"}"#, "UID"),
            (r#"{"UID":"\ud800","Payload":1,"Format":"JSON"}"#, "UID"),
            (r#"{"UID":"a","Payload":1,"Format":"json"}"#, "Format"),
            (r#"{"UID":"a","Payload":1,"Format":5}"#, "Format"),
            (r#"{"UID":"a","Payload":[256],"Format":"BINARY"}"#, "Payload"),
            (r#"{"UID":"a","UID":"b","Payload":1,"Format":"JSON"}"#, "UID"),
            (r#"{"UID":"a","Payload":1,"Payload":1,"Format":"JSON"}"#, "Payload"),
            (r#"{"UID":"a","Timeout":1,"Timeout":1,"Payload":1,"Format":"JSON"}"#, "Timeout"),
        ] {
            assert!(refused(text).contains(&format!("\"{field}\"")), "{text}: {}", refused(text));
        }
    }

    #[test]
    fn what_is_not_one_json_object_is_refused() {
        for text in
            ["", "null", "[\"a\",1,1,\"JSON\"]", "{", "{}x", r#"{"UID":"a","Payload":1,"Format":"JSON"} x"#]
        {
            refused(text);
        }
        assert!(call_request(b"{\"UID\":\"\xff\"}", MAX_WAIT).err().unwrap().sentence.contains("UTF-8"));
    }

    #[test]
    fn payloads_may_be_nested_60_deep_but_not_129() {
        let with = |n: usize| {
            format!(r#"{{"UID":"a","Payload":{}{},"Format":"JSON"}}"#, "[".repeat(n), "]".repeat(n))
        };
        assert_eq!(call(&with(60)).unwrap().payload.len(), 120);
        assert!(refused(&with(129)).contains("\"Payload\""));
        assert!(refused(&with(100_000)).contains("\"Payload\""));
    }

    #[test]
    fn an_access_list_is_read() {
        let text = format!(r#"[{{"GroupName":"Devices","UID":"ObjTest","AuthKey":"{KEY}"}}]"#);
        let items = access_list(text.as_bytes()).unwrap();
        assert_eq!(items.len(), 1);
        assert_eq!((items[0].uid.as_str(), items[0].group.as_str()), ("ObjTest", "Devices"));
        assert_eq!(items[0].key, AuthKey::parse(KEY).unwrap());
        assert_eq!(access_list(b"[]").unwrap(), []);
    }

    #[test]
    fn a_wrong_item_is_told_by_index_field_and_value_but_never_its_key() {
        let good = format!(r#"{{"GroupName":"G","UID":"a","AuthKey":"{KEY}"}}"#);
        for (item, parts) in [
            (
                r#"{"GroupName":"G","UID":"12345678901234567","AuthKey":"KEY"}"#,
                ["\"UID\"", "\"12345678901234567\""],
            ),
            (r#"{"GroupName":"12345678901234567","UID":"a","AuthKey":"KEY"}"#, ["\"GroupName\"", "7\""]),
            (r#"{"GroupName":"G","UID":"","AuthKey":"KEY"}"#, ["\"UID\"", "\"\""]),
            (r#"{"GroupName":"G","UID":7,"AuthKey":"KEY"}"#, ["\"UID\"", "string"]),
            (r#"{"GroupName":"G","UID":"a","AuthKey":"deadbeefKEY"}"#, ["\"AuthKey\"", "32 hex"]),
            (r#"{"GroupName":"G","UID":"a"}"#, ["\"AuthKey\"", "missing"]),
            (r#"{"GroupName":"G","UID":"a","UID":"b","AuthKey":"KEY"}"#, ["\"UID\"", "duplicate"]),
            (r#"["G","a","KEY"]"#, ["object", "\"UID\""]),
        ] {
            let text = format!("[{good},{}]", item.replace("KEY", KEY));
            let sentence = access_list(text.as_bytes()).unwrap_err().sentence;
            assert!(sentence.starts_with("item 1: "), "{sentence}");
            assert!(parts.iter().all(|part| sentence.contains(part)), "{sentence}");
            assert!(!sentence.contains("deadbeef") && !sentence.contains(KEY), "{sentence}");
        }
    }

    #[test]
    fn a_list_has_at_most_20000_items() {
        let item = format!(r#"{{"GroupName":"G","UID":"a","AuthKey":"{KEY}"}}"#);
        let list = |n: usize| format!("[{}]", vec![item.as_str(); n].join(","));
        assert_eq!(access_list(list(ACL_ITEMS_MAX).as_bytes()).unwrap().len(), ACL_ITEMS_MAX);
        assert!(access_list(list(ACL_ITEMS_MAX + 1).as_bytes()).unwrap_err().sentence.contains("20001"));
    }
}
