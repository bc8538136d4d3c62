//! 1NCE OS: telemetry of a device one by one, events of the network in arrays.

use std::borrow::Cow;

use super::super::draft::{Data, Draft, Members, Read, wrong_payload};
use super::super::encoding::base64;
use super::super::fields::Fields;
use super::super::outcome::{Fault, Unmappable};
use super::super::source::Source;
use super::Element;
use crate::wire::Format;

const MILLISECOND_US: i64 = 1_000;
const EVENTS: [(&str, &str); 4] = [
    ("LIFECYCLE", "lifecycle"),
    ("LOCATION", "location"),
    ("ERROR", "error"),
    ("TEST_MESSAGE", "test_message"),
];
/// Members that only the stream of the network's own events and usage records has.
const STREAM: [(&str, &str); 4] =
    [("event_type", "event"), ("event_source", "event"), ("traffic_type", "usage"), ("volume", "usage")];

pub fn read<'a>(source: &Source, element: &'a Element<'a>) -> Result<Read<'a>, Unmappable> {
    let fields = element.fields()?;
    let Some(kind) = fields.text("type")? else {
        let stream = STREAM.into_iter().find(|(member, _)| fields.raw(member).is_some());
        return stream.map(|(_, event)| Read::Ignored(event)).ok_or_else(|| Unmappable::missing("type"));
    };
    if kind != "TELEMETRY_DATA" {
        let event = EVENTS.into_iter().find(|(name, _)| *name == kind);
        let unknown = || Unmappable::new(Fault::Kind, "\"type\" is none that is known");
        return event.map(|(_, event)| Read::Ignored(event)).ok_or_else(unknown);
    }
    let device = fields.object("device")?;
    let identity = device.text(source.identity())?;
    let payload = fields.object("payload")?;
    let mut radio = Members::default();
    radio.json("source", fields.raw("source").map(|value| value.get()));
    radio.json("ip", device.raw("ip").map(|value| value.get()));
    radio.json("iccid", device.raw("iccid").map(|value| value.get()));
    Ok(Read::Message(Draft {
        identity,
        data: Some(data(&payload)?),
        time_us: fields.time_in("received", MILLISECOND_US)?,
        radio: (!radio.is_empty()).then(|| Cow::Owned(radio.end())),
        dedup: fields.text("id")?.map(Cow::into_owned),
        ..Draft::default()
    }))
}

/// JSON as it is; everything else is a string of base64.
fn data<'a>(payload: &Fields<'a>) -> Result<Data<'a>, Unmappable> {
    let value = payload.raw("value").ok_or_else(|| Unmappable::missing("payload.value"))?;
    let kind = payload.text("type")?.unwrap_or_default();
    if kind.eq_ignore_ascii_case("JSON") || value.get().starts_with(['{', '[']) {
        return Ok(Data::Json(value));
    }
    let text = payload.string("value")?.unwrap_or_default();
    let bytes = base64(&text).ok_or_else(|| wrong_payload("\"payload.value\" must be base64"))?;
    Ok(Data::Bytes(Format::Binary, bytes))
}
