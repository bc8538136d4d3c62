//! Actility ThingPark: one object, `DevEUI_uplink`, whose numbers may be strings and whose time has the local offset.

use std::borrow::Cow;

use super::super::draft::{Data, Draft, Members, Read, wrong_payload};
use super::super::encoding::hex;
use super::super::fields::Fields;
use super::super::outcome::{Fault, Flag, Unmappable};
use super::super::request::Request;
use super::{COUNTER_MAX, Element, PORT_MAX, key, upper};
use crate::wire::Format;

const UPLINK: &str = "DevEUI_uplink";
/// What every other event begins with.
const EVENT: &str = "DevEUI_";

pub fn read<'a>(request: &'a Request<'a>, element: &'a Element<'a>) -> Result<Read<'a>, Unmappable> {
    let whole = element.fields()?;
    if whole.raw(UPLINK).is_none() {
        let is_event = whole.names().any(|name| name.starts_with(EVENT) && name != UPLINK);
        return match is_event {
            true => Ok(Read::Ignored("event")),
            false => Err(Unmappable::missing(UPLINK)),
        };
    }
    let uplink = whole.object(UPLINK)?;
    let identity = match uplink.text("DevEUI")? {
        Some(eui) => Some(eui),
        None => request.in_query("LrnDevEui").map(Cow::Owned),
    };
    let identity = upper(identity);
    let payload = uplink.text("payload_hex")?;
    let decoded = uplink.raw("payload");
    let data = match payload {
        Some(text) => {
            let bytes =
                hex(&text).ok_or_else(|| wrong_payload("\"payload_hex\" must be pairs of hex digits"))?;
            Data::Bytes(Format::Binary, bytes)
        }
        None if uplink.raw("payload_hex").is_none() && decoded.is_some() => {
            decoded.map_or(Data::Bytes(Format::Binary, Vec::new()), Data::Json)
        }
        None => Data::Bytes(Format::Binary, Vec::new()),
    };
    let time_us = match uplink.time("Time")? {
        Some(time_us) => Some(time_us),
        // The plus of an offset may come out of the query as a space.
        None => {
            request.in_query("Time").and_then(|text| super::super::time::of_text(&text.replace(' ', "+")))
        }
    };
    let counter = uplink.number("FCntUp", COUNTER_MAX)?;
    let mic = uplink.text("mic_hex")?;
    let count = counter.map(|counter| counter.to_string());
    // Held by a base station: the order stays that of arrival.
    let is_late = uplink.flag("Late").map_err(|_| Unmappable::new(Fault::Type, "\"Late\" must be 0 or 1"))?;
    Ok(Read::Message(Draft {
        dedup: key([identity.as_deref(), count.as_deref(), mic.as_deref()]),
        identity,
        data: Some(data),
        time_us,
        port: uplink.number("FPort", PORT_MAX)?,
        counter,
        radio: radio(&uplink)?,
        settings: members(&uplink, &["SpFact", "SubBand", "Channel", "ADRbit", "MType", "FCntDn"]),
        decoded,
        flags: if is_late { vec![Flag::Backfill] } else { Vec::new() },
        wants_downlink: false,
    }))
}

/// Every base station that heard it, or the best one.
fn radio<'a>(uplink: &Fields<'a>) -> Result<Option<Cow<'a, str>>, Unmappable> {
    let all = uplink.object("Lrrs")?;
    if let Some(stations) = all.raw("Lrr") {
        return Ok(Some(Cow::Borrowed(stations.get())));
    }
    Ok(members(uplink, &["Lrrid", "LrrRSSI", "LrrSNR", "LrrLAT", "LrrLON", "DevLrrCnt"]))
}

fn members<'a>(fields: &Fields<'a>, names: &[&str]) -> Option<Cow<'a, str>> {
    let mut members = Members::default();
    for name in names {
        members.json(name, fields.raw(name).map(|value| value.get()));
    }
    (!members.is_empty()).then(|| Cow::Owned(members.end()))
}
