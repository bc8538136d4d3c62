//! `{"UID", "Payload", "Format"}`, as the API has it everywhere.

use super::super::draft::{Data, Draft, Read, fingerprint, wrong_payload};
use super::super::outcome::{Fault, Unmappable};
use super::super::request::Request;
use super::super::source::Source;
use super::Element;
use crate::payload_json;
use crate::wire::Format;

pub fn read<'a>(
    source: &Source,
    request: &Request<'_>,
    element: &'a Element<'a>,
    text: &str,
) -> Result<Read<'a>, Unmappable> {
    let fields = element.fields()?;
    let named = source.uid.as_deref().map(|name| fields.text(name)).transpose()?.flatten();
    let identity = match named {
        Some(identity) => Some(identity),
        None => fields.string("UID")?,
    };
    let format = fields.string("Format")?.ok_or_else(|| Unmappable::missing("Format"))?;
    let format = Format::from_name(&format).ok_or_else(|| {
        Unmappable::new(Fault::Kind, "\"Format\" must be \"JSON\", \"ASCII\", \"UTF8\" or \"BINARY\"")
    })?;
    // A JSON payload may be null, so it is not enough that there is a value.
    let data = match fields.raw("Payload") {
        Some(value) => {
            payload_json::from_json(format, value).map_err(|error| wrong_payload(error.to_string()))?
        }
        None if format == Format::Json && fields.names().any(|name| name == "Payload") => b"null".to_vec(),
        None => return Err(Unmappable::missing("Payload")),
    };
    // Elements of one batch share the header; each is told from the others by what it says.
    let dedup =
        request.header("idempotency-key").map(|key| format!("{key}:{}", fingerprint(text.as_bytes())));
    Ok(Read::Message(Draft { identity, data: Some(Data::Bytes(format, data)), dedup, ..Draft::default() }))
}
