//! JSON of any shape: pointers of the configuration say where what is.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::draft::{Data, Draft, Members, Read, wrong_payload};
use super::super::encoding::{base64, hex};
use super::super::fields::{Fields, no_time, whole};
use super::super::outcome::{Fault, Unmappable};
use super::super::request::Request;
use super::super::source::{Encoding, Source};
use super::super::time;
use super::COUNTER_MAX;
use crate::wire::Format;

pub fn read<'a>(source: &Source, request: &Request<'_>, text: &'a str) -> Result<Read<'a>, Unmappable> {
    let map = source.map.as_ref().ok_or_else(|| Unmappable::new(Fault::Kind, "the source has no map"))?;
    let whole = value(text)?;
    // Identities are read as other formats' members are.
    let member = |pointer: &str| {
        let mut member = Members::default();
        member.json(pointer, find(whole, pointer).map(RawValue::get));
        member.end()
    };
    let identity = Fields::read(&member(&map.uid))?.text(&map.uid)?.map(|text| Cow::Owned(text.into_owned()));
    let number = |pointer: &Option<String>| match pointer {
        Some(pointer) => Fields::read(&member(pointer))?.number(pointer, COUNTER_MAX),
        None => Ok(None),
    };
    let id = match &map.id {
        Some(pointer) => Fields::read(&member(pointer))?.text(pointer)?.map(|text| text.into_owned()),
        None => request.header("idempotency-key").map(str::to_owned),
    };
    let payload = find(whole, &map.payload).ok_or_else(|| Unmappable::missing(&map.payload))?;
    let time_us = match &map.time {
        Some(pointer) => read_time(&Fields::read(&member(pointer))?, pointer)?,
        None => None,
    };
    Ok(Read::Message(Draft {
        dedup: id.map(|id| format!("{}:{id}", identity.as_deref().unwrap_or_default())),
        identity,
        data: Some(data(payload, map.encoding, &map.payload)?),
        time_us,
        port: number(&map.port)?,
        counter: number(&map.counter)?,
        ..Draft::default()
    }))
}

fn value(text: &str) -> Result<&RawValue, Unmappable> {
    serde_json::from_str(text).map_err(|_| Unmappable::new(Fault::Type, "the body is not JSON"))
}

fn data<'a>(value: &'a RawValue, encoding: Encoding, name: &str) -> Result<Data<'a>, Unmappable> {
    let text = || match super::super::fields::text_of(value).filter(|_| value.get().starts_with('"')) {
        Some(text) => Ok(text),
        None => Err(wrong_payload(format!("\"{name}\" must be a string"))),
    };
    match encoding {
        Encoding::Json => Ok(Data::Json(value)),
        Encoding::Text => Ok(Data::Bytes(Format::Utf8, text()?.into_owned().into_bytes())),
        Encoding::Hex => hex(&text()?)
            .map(|bytes| Data::Bytes(Format::Binary, bytes))
            .ok_or_else(|| wrong_payload(format!("\"{name}\" must be pairs of hex digits"))),
        Encoding::Base64 => base64(&text()?)
            .map(|bytes| Data::Bytes(Format::Binary, bytes))
            .ok_or_else(|| wrong_payload(format!("\"{name}\" must be base64"))),
    }
}

fn read_time(fields: &Fields<'_>, name: &str) -> Result<Option<i64>, Unmappable> {
    let Some(text) = fields.text(name)? else { return Ok(None) };
    let time_us = match whole(&text) {
        Some(number) => i64::try_from(number).ok().and_then(time::of_number),
        None => time::of_text(&text),
    };
    time_us.map(Some).ok_or_else(|| no_time(name))
}

/// What a JSON pointer leads to.
fn find<'a>(value: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    let mut here = value;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        here = match here.get().starts_with('[') {
            true => {
                let elements: Vec<&RawValue> = serde_json::from_str(here.get()).ok()?;
                let is_index = token == "0" || !token.starts_with('0');
                elements.get(token.parse::<usize>().ok().filter(|_| is_index)?).copied()?
            }
            false => Fields::read(here.get()).ok()?.any(&token)?,
        };
    }
    Some(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_lead_through_objects_and_arrays() {
        let text = r#"{"a":[{"b/c":{"~":1}},null],"":2,"01":3}"#;
        let at = |pointer| find(value(text).unwrap(), pointer).map(RawValue::get);
        assert_eq!(at("/a/0/b~1c/~0"), Some("1"));
        assert_eq!(at("/a/1"), Some("null"));
        assert_eq!(at("/"), Some("2"));
        assert_eq!(at("/01"), Some("3"));
        for nothing in ["/a/2", "/a/00", "/a/-", "/b", "/a/0/b"] {
            assert_eq!(at(nothing), None, "{nothing}");
        }
    }
}
