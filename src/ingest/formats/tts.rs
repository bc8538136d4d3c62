//! The Things Stack v3. Fields that are zero are left out, and with a field mask almost any other, too: identities may
//! then stand in the path or the query, where templates of the webhook put them.

use std::borrow::Cow;

use super::super::draft::{Data, Draft, Members, Read, wrong_payload};
use super::super::encoding::base64;
use super::super::fields::Fields;
use super::super::outcome::{Fault, Flag, Unmappable};
use super::super::request::Request;
use super::super::source::Source;
use super::{COUNTER_MAX, Element, PORT_MAX, key, upper};
use crate::wire::Format;

/// Events that bring nothing of an object's, by their members.
const EVENTS: [&str; 8] = [
    "join_accept",
    "downlink_ack",
    "downlink_nack",
    "downlink_queued",
    "downlink_sent",
    "downlink_failed",
    "location_solved",
    "service_data",
];
/// What begins the correlation id that is the same for every delivery of a message.
const UPLINK_ID: &str = "as:up:";

pub fn read<'a>(
    source: &Source,
    request: &'a Request<'a>,
    element: &'a Element<'a>,
) -> Result<Read<'a>, Unmappable> {
    let fields = element.fields()?;
    let (name, is_normalized) = match fields.first_of(&["uplink_message", "uplink_normalized"]) {
        Some(name) => (name, name == "uplink_normalized"),
        None => {
            return match fields.first_of(&EVENTS) {
                Some(event) => Ok(Read::Ignored(event)),
                None => Err(Unmappable::new(
                    Fault::Kind,
                    "there is no \"uplink_message\", and no event that is known",
                )),
            };
        }
    };
    let uplink = fields.object(name)?;
    let ids = fields.object("end_device_ids")?;
    let wants_eui = source.identity() == "dev_eui";
    let identity = match wants_eui {
        true => upper(identity(&ids, request, "dev_eui", &["devEUI", "dev_eui"])?),
        false => identity(&ids, request, "device_id", &["devID", "deviceID", "device_id"])?,
    };
    let counter = uplink.number("f_cnt", COUNTER_MAX)?.unwrap_or(0);
    let decoded = uplink.raw("decoded_payload").or_else(|| uplink.raw("normalized_payload"));
    let data = match uplink.string("frm_payload")? {
        Some(text) => {
            let bytes = base64(&text).ok_or_else(|| wrong_payload("\"frm_payload\" must be base64"))?;
            Data::Bytes(Format::Binary, bytes)
        }
        // An empty payload is left out, and so is a masked one; then there is what was decoded.
        None => decoded.map_or(Data::Bytes(Format::Binary, Vec::new()), Data::Json),
    };
    let time_us = match fields.time("received_at")? {
        Some(time_us) => Some(time_us),
        None => uplink.time("received_at")?,
    };
    let session = uplink.text("session_key_id")?;
    let by_counter = key([identity.as_deref(), session.as_deref(), Some(counter.to_string().as_str())]);
    let draft = Draft {
        identity,
        data: Some(data),
        time_us,
        port: Some(uplink.number("f_port", PORT_MAX)?.unwrap_or(0)),
        counter: Some(counter),
        radio: uplink.raw("rx_metadata").map(|value| Cow::Borrowed(value.get())),
        settings: settings(&uplink)?,
        decoded,
        flags: if fields.flag("simulated")? { vec![Flag::Simulated] } else { Vec::new() },
        dedup: uplink_id(&fields)?.or(by_counter),
        wants_downlink: false,
    };
    Ok(if is_normalized { Read::Merge(draft) } else { Read::Message(draft) })
}

/// From the body, the query by these names, or the end of the path.
fn identity<'a>(
    ids: &Fields<'a>,
    request: &'a Request<'a>,
    member: &str,
    in_query: &[&str],
) -> Result<Option<Cow<'a, str>>, Unmappable> {
    if let Some(identity) = ids.text(member)? {
        return Ok(Some(identity));
    }
    let query = in_query.iter().find_map(|name| request.in_query(name)).filter(|text| !text.is_empty());
    Ok(query.map(Cow::Owned).or_else(|| request.last_of_tail()))
}

fn uplink_id(fields: &Fields<'_>) -> Result<Option<String>, Unmappable> {
    let ids = fields.list("correlation_ids")?;
    let texts = ids.iter().filter_map(|id| super::super::fields::text_of(id));
    Ok(texts.into_iter().find(|id| id.starts_with(UPLINK_ID)).map(Cow::into_owned))
}

/// What else is known of the transmission.
fn settings<'a>(uplink: &Fields<'a>) -> Result<Option<Cow<'a, str>>, Unmappable> {
    let mut settings = Members::default();
    for name in ["settings", "confirmed", "consumed_airtime", "locations", "network_ids"] {
        settings.json(name, uplink.raw(name).map(|value| value.get()));
    }
    Ok((!settings.is_empty()).then(|| Cow::Owned(settings.end())))
}
