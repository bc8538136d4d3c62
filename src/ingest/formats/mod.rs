//! One file a format: what an element of a body says. Field names are the networks' own.

mod chirpstack;
mod generic;
mod liveobjects;
mod one_nce;
mod plain;
mod sigfox;
mod soracom;
mod thingpark;
mod tts;

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::BATCH_MAX;
use super::draft::Read;
use super::fields::Fields;
use super::outcome::{Fault, Malformed, Unmappable};
use super::request::Request;
use super::source::{NetworkFormat, Source};

/// A part of a body that is a message by itself.
#[derive(Debug)]
pub enum Element<'a> {
    /// An object of JSON whose members were read already, and its text.
    Object(Fields<'a>, &'a str),
    /// A value of JSON, or fields of a form as an object.
    Json(Cow<'a, str>),
    /// What the device sent, as it is.
    Raw(&'a [u8]),
}

impl<'a> Element<'a> {
    /// The members of the object that it is.
    fn fields(&'a self) -> Result<Cow<'a, Fields<'a>>, Unmappable> {
        match self {
            Self::Object(fields, _) => Ok(Cow::Borrowed(fields)),
            Self::Json(text) => Fields::read(text).map(Cow::Owned),
            Self::Raw(_) => Err(not_json()),
        }
    }
}

/// The port of a message, at most.
const PORT_MAX: u64 = 255;
/// A counter of messages, at most; most networks have 16 or 32 bits.
const COUNTER_MAX: u64 = u32::MAX as u64;

/// Cuts a body into its elements: those of an array, or the whole.
pub fn elements<'a>(source: &Source, request: &Request<'a>) -> Result<Vec<Element<'a>>, Malformed> {
    let media_type = request.media_type();
    match source.format {
        NetworkFormat::Soracom if media_type != "application/json" => Ok(vec![Element::Raw(request.body)]),
        // What a device sent is one message, whatever it is.
        NetworkFormat::Soracom => {
            let whole: &RawValue = json(text(request.body)?)?;
            Ok(vec![Element::Json(Cow::Borrowed(whole.get()))])
        }
        NetworkFormat::Sigfox if media_type != "application/json" => sigfox::elements(text(request.body)?),
        _ => {
            let body = text(request.body)?;
            // Most bodies are one object, which is gone through once. What is wrong with others is found below.
            if let Ok(fields) = Fields::read(body) {
                return Ok(vec![Element::Object(fields, body.trim_ascii())]);
            }
            let whole: &RawValue = json(body)?;
            if !whole.get().starts_with('[') {
                return Ok(vec![Element::Json(Cow::Borrowed(whole.get()))]);
            }
            let parts: Vec<&RawValue> = json(whole.get())?;
            check_batch(parts.len())?;
            Ok(parts.into_iter().map(|part| Element::Json(Cow::Borrowed(part.get()))).collect())
        }
    }
}

/// The element that was kept of a request as its body.
pub fn element<'a>(request: &Request<'a>) -> Element<'a> {
    match std::str::from_utf8(request.body) {
        Ok(text) if request.media_type() == "application/json" => Element::Json(Cow::Borrowed(text.trim())),
        _ => Element::Raw(request.body),
    }
}

/// What an element says.
pub fn read<'a>(
    source: &'a Source,
    request: &'a Request<'a>,
    element: &'a Element<'a>,
) -> Result<Read<'a>, Unmappable> {
    let text = match element {
        Element::Object(_, text) => text,
        Element::Json(text) => text.as_ref(),
        Element::Raw(bytes) if source.format == NetworkFormat::Soracom => {
            return soracom::read_raw(source, request, bytes);
        }
        Element::Raw(_) => return Err(not_json()),
    };
    match source.format {
        NetworkFormat::Plain => plain::read(source, request, element, text),
        NetworkFormat::Sigfox => sigfox::read(request, element),
        NetworkFormat::Tts => tts::read(source, request, element),
        NetworkFormat::Chirpstack => chirpstack::read(source, request, element),
        NetworkFormat::Thingpark => thingpark::read(request, element),
        NetworkFormat::OneNce => one_nce::read(source, element),
        NetworkFormat::Soracom => soracom::read_json(source, request, text),
        NetworkFormat::LiveObjects => liveobjects::read(source, element),
        NetworkFormat::Generic => generic::read(source, request, text),
    }
}

fn not_json() -> Unmappable {
    Unmappable::new(Fault::Kind, "the body is not JSON")
}

fn text(body: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(body).map_err(|_| Malformed(Cow::Borrowed("the body is not UTF-8")))
}

fn json<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, Malformed> {
    serde_json::from_str(text)
        .map_err(|error| Malformed(Cow::Owned(format!("the body is not JSON: {error}"))))
}

fn check_batch(len: usize) -> Result<(), Malformed> {
    match len {
        0 => Err(Malformed(Cow::Borrowed("the batch is empty"))),
        1..=BATCH_MAX => Ok(()),
        _ => Err(Malformed(Cow::Owned(format!("the batch has {len} elements, more than {BATCH_MAX}")))),
    }
}

/// Hex identities are compared in upper case.
fn upper(identity: Option<Cow<'_, str>>) -> Option<Cow<'_, str>> {
    identity.map(|text| match text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        true => Cow::Owned(text.to_ascii_uppercase()),
        false => text,
    })
}

/// The parts of a key with a mark between that none of them holds; `None` if one is missing.
fn key<const N: usize>(parts: [Option<&str>; N]) -> Option<String> {
    let parts: Option<Vec<String>> = parts
        .into_iter()
        .map(|part| part.map(|text| text.replace('\\', "\\\\").replace(':', "\\:")))
        .collect();
    parts.map(|parts| parts.join(":"))
}
