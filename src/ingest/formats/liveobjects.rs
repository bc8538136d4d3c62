//! Orange Live Objects, one message or several in an array. What a LoRa device sent is in hex inside of the value.

use std::borrow::Cow;

use super::super::draft::{Data, Draft, Members, Read, fingerprint, wrong_payload};
use super::super::encoding::hex;
use super::super::fields::Fields;
use super::super::outcome::Unmappable;
use super::super::source::Source;
use super::{COUNTER_MAX, Element, PORT_MAX, key, upper};
use crate::wire::Format;

const LORA: &str = "lora";

pub fn read<'a>(source: &Source, element: &'a Element<'a>) -> Result<Read<'a>, Unmappable> {
    let fields = element.fields()?;
    let metadata = fields.object("metadata")?;
    let lora = metadata.object("network")?.object(LORA)?;
    let stream = fields.text("streamId")?;
    let urn = match source.identity() {
        "source" => metadata.text("source")?,
        _ => stream.clone(),
    };
    let is_lora = metadata.text("connector")?.as_deref() == Some(LORA)
        || urn.as_deref().is_some_and(|urn| urn.contains(":lora:"));
    let identity = urn.map(|urn| identity(urn, source));
    let identity = if is_lora { upper(identity) } else { identity };
    let value = fields.raw("value").ok_or_else(|| Unmappable::missing("value"))?;
    let data = match is_lora && value.get().starts_with('{') {
        true => of_lora(&fields.object("value")?, value)?,
        false => Data::Json(value),
    };
    let counter = lora.number("fcnt", COUNTER_MAX)?;
    let timestamp = fields.text("timestamp")?;
    // What tells two messages of one moment apart: the counter, or what they say.
    let count = counter.map_or_else(
        || fingerprint(value.get().as_bytes()).get(..32).unwrap_or_default().to_owned(),
        |counter| counter.to_string(),
    );
    Ok(Read::Message(Draft {
        dedup: key([stream.as_deref().or(identity.as_deref()), timestamp.as_deref(), Some(count.as_str())]),
        identity,
        data: Some(data),
        time_us: fields.time("timestamp")?,
        port: lora.number("port", PORT_MAX)?,
        counter,
        radio: metadata.raw("network").map(|value| Cow::Borrowed(value.get())),
        settings: settings(&fields, &metadata),
        decoded: is_lora.then_some(value),
        ..Draft::default()
    }))
}

/// The last part of a URN, unless the whole has an alias.
fn identity<'a>(urn: Cow<'a, str>, source: &Source) -> Cow<'a, str> {
    match urn.rsplit_once(':') {
        Some((_, last)) if source.aliases.get(&urn).is_none() => Cow::Owned(last.to_owned()),
        _ => urn,
    }
}

fn of_lora<'a>(members: &Fields<'a>, value: &'a serde_json::value::RawValue) -> Result<Data<'a>, Unmappable> {
    match members.string("payload")? {
        Some(text) => {
            let bytes =
                hex(&text).ok_or_else(|| wrong_payload("\"value.payload\" must be pairs of hex digits"))?;
            Ok(Data::Bytes(Format::Binary, bytes))
        }
        None => Ok(Data::Json(value)),
    }
}

fn settings<'a>(fields: &Fields<'a>, metadata: &Fields<'a>) -> Option<Cow<'a, str>> {
    let mut settings = Members::default();
    for name in ["model", "tags", "location"] {
        settings.json(name, fields.raw(name).map(|value| value.get()));
    }
    settings.json("connector", metadata.raw("connector").map(|value| value.get()));
    (!settings.is_empty()).then(|| Cow::Owned(settings.end()))
}
