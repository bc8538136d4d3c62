//! ChirpStack v4, JSON. Fields that have their default are left out; the time is the gateway's, which may never have known
//! it. The event is in the query.

use std::borrow::Cow;

use super::super::draft::{Data, Draft, Members, Read, wrong_payload};
use super::super::encoding::base64;
use super::super::fields::Fields;
use super::super::outcome::{Fault, Flag, Unmappable};
use super::super::request::Request;
use super::super::source::Source;
use super::{COUNTER_MAX, Element, PORT_MAX, key, upper};
use crate::wire::Format;

/// Events that bring nothing of an object's. A retransmission comes as a `log`.
const EVENTS: [&str; 7] = ["join", "status", "ack", "txack", "log", "location", "integration"];
/// Members that only an uplink has, for a body whose query was lost.
const OF_UPLINK: [&str; 5] = ["data", "object", "fCnt", "fPort", "rxInfo"];
/// Members of version 3.
const OF_V3: [&str; 3] = ["devEUI", "applicationID", "objectJSON"];

pub fn read<'a>(
    source: &Source,
    request: &Request<'_>,
    element: &'a Element<'a>,
) -> Result<Read<'a>, Unmappable> {
    let fields = element.fields()?;
    let event = request.in_query("event");
    match event.as_deref() {
        Some("up") => {}
        Some(event) => {
            let known = EVENTS.into_iter().find(|known| *known == event);
            let unknown = || Unmappable::new(Fault::Kind, "\"event\" in the query is none that is known");
            return known.map(Read::Ignored).ok_or_else(unknown);
        }
        None if fields.first_of(&OF_UPLINK).is_some() => {}
        None => return Err(Unmappable::new(Fault::Kind, "\"event\" is missing in the query")),
    }
    if fields.raw("deviceInfo").is_none() && fields.first_of(&OF_V3).is_some() {
        return Err(Unmappable::new(Fault::Kind, "this is what ChirpStack v3 sends: v4 is needed"));
    }
    let device = fields.object("deviceInfo")?;
    let eui = upper(device.text("devEui")?);
    let identity = match source.identity() {
        "device_name" => device.text("deviceName")?,
        _ => eui.clone(),
    };
    let counter = fields.number("fCnt", COUNTER_MAX)?.unwrap_or(0);
    let decoded = fields.raw("object");
    let data = match fields.string("data")? {
        Some(text) => {
            let bytes = base64(&text).ok_or_else(|| wrong_payload("\"data\" must be base64"))?;
            Data::Bytes(Format::Binary, bytes)
        }
        None => decoded.map_or(Data::Bytes(Format::Binary, Vec::new()), Data::Json),
    };
    let address = fields.text("devAddr")?;
    let by_counter = || key([eui.as_deref(), address.as_deref(), Some(counter.to_string().as_str())]);
    let dedup = fields.text("deduplicationId")?.map(Cow::into_owned).or_else(by_counter);
    // The payload is for the join server alone.
    let is_encrypted = fields.raw("joinServerContext").is_some();
    Ok(Read::Message(Draft {
        identity,
        data: Some(data),
        time_us: fields.time("time")?,
        port: Some(fields.number("fPort", PORT_MAX)?.unwrap_or(0)),
        counter: Some(counter),
        radio: fields.raw("rxInfo").map(|value| Cow::Borrowed(value.get())),
        settings: settings(&fields),
        decoded,
        flags: if is_encrypted { vec![Flag::Encrypted] } else { Vec::new() },
        dedup,
        wants_downlink: false,
    }))
}

fn settings<'a>(fields: &Fields<'a>) -> Option<Cow<'a, str>> {
    let mut settings = Members::default();
    for name in ["txInfo", "dr", "adr", "confirmed", "regionConfigId"] {
        settings.json(name, fields.raw(name).map(|value| value.get()));
    }
    (!settings.is_empty()).then(|| Cow::Owned(settings.end()))
}
