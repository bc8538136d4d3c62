//! Soracom Beam: the body is what the device sent, who it is stands in the headers.

use std::borrow::Cow;

use super::super::draft::{Data, Draft, Members, Read, fingerprint};
use super::super::encoding::base64;
use super::super::fields::{Fields, no_time};
use super::super::outcome::Unmappable;
use super::super::request::Request;
use super::super::source::Source;
use super::super::{fields, time};
use super::key;
use crate::wire::Format;

const MILLISECOND_US: i64 = 1_000;

/// A body of any other media type than JSON: text is UTF-8, the rest are bytes.
pub fn read_raw<'a>(source: &Source, request: &'a Request<'a>, bytes: &[u8]) -> Result<Read<'a>, Unmappable> {
    let is_text = request.media_type().starts_with("text/") && std::str::from_utf8(bytes).is_ok();
    let format = if is_text { Format::Utf8 } else { Format::Binary };
    draft(source, request, Data::Bytes(format, bytes.to_vec()), bytes)
}

/// JSON as it is, unless it is Beam's own wrapping of a datagram: an object of one member, `payload` in base64.
pub fn read_json<'a>(
    source: &Source,
    request: &'a Request<'a>,
    text: &'a str,
) -> Result<Read<'a>, Unmappable> {
    let value: &serde_json::value::RawValue = serde_json::from_str(text)
        .map_err(|_| Unmappable::new(super::super::outcome::Fault::Type, "the body is not JSON"))?;
    let data = match wrapped(text) {
        Some(bytes) => Data::Bytes(Format::Binary, bytes),
        None => Data::Json(value),
    };
    draft(source, request, data, text.as_bytes())
}

fn wrapped(text: &str) -> Option<Vec<u8>> {
    let fields = Fields::read(text).ok().filter(|fields| fields.names().count() == 1)?;
    base64(fields.string("payload").ok()??.as_ref())
}

fn draft<'a>(
    source: &Source,
    request: &'a Request<'a>,
    data: Data<'a>,
    body: &[u8],
) -> Result<Read<'a>, Unmappable> {
    let header = |name: &str| request.header(&format!("x-soracom-{}", name.replace('_', "-")));
    let identity = header(source.identity());
    let time_us = match header("timestamp") {
        Some(text) => {
            let number = fields::whole(text).and_then(|number| i64::try_from(number).ok());
            let time_us = number.and_then(|number| time::of_units(number, MILLISECOND_US));
            Some(time_us.ok_or_else(|| no_time("x-soracom-timestamp"))?)
        }
        None => None,
    };
    let hash = fingerprint(body);
    let mut radio = Members::default();
    for name in ["imsi", "imei", "sim_id", "msisdn"] {
        radio.text(name, header(name));
    }
    Ok(Read::Message(Draft {
        dedup: key([identity, header("timestamp"), hash.get(..32)]),
        identity: identity.map(Cow::Borrowed),
        data: Some(data),
        time_us,
        radio: (!radio.is_empty()).then(|| Cow::Owned(radio.end())),
        ..Draft::default()
    }))
}
