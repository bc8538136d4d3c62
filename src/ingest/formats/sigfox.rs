//! Sigfox callbacks. The body is the user's template: JSON, a form, or lines of `device;time;data;seqNumber`; values may
//! be quoted or not, and what is unknown may be the text `null`. What the body lacks may stand in the query.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::super::draft::{Data, Draft, Members, Read, wrong_payload};
use super::super::encoding::hex;
use super::super::fields::Fields;
use super::super::outcome::{Fault, Malformed, Unmappable};
use super::super::request::{Request, pairs};
use super::{COUNTER_MAX, Element, check_batch, key, upper};
use crate::wire::Format;

/// Hex digits of a device, and bytes of a message, at most.
const DEVICE_MAX: usize = 8;
const DATA_MAX: usize = 12;
const SECOND_US: i64 = 1_000_000;
/// Fields of a line, in their order; what stands behind them is not read.
const LINE: [&str; 4] = ["device", "time", "data", "seqNumber"];
/// What only the second delivery of a message has, half a minute later: how well it was received, and where.
const ADVANCED: [&str; 6] =
    ["lqi", "linkQuality", "operatorName", "countryCode", "duplicates", "computedLocation"];
/// What is said of the reception: `lat` and `lng` are the station's.
const RADIO: [&str; 6] = ["rssi", "snr", "avgSnr", "station", "lat", "lng"];

/// The fields of a form or of lines, each as an object of strings.
pub fn elements(text: &str) -> Result<Vec<Element<'static>>, Malformed> {
    let object = |fields: Vec<(&str, &str)>| {
        let mut members = Members::default();
        for (name, value) in fields {
            members.text(name, Some(value));
        }
        Element::Json(Cow::Owned(members.end()))
    };
    let text = text.trim();
    if text.starts_with(['{', '[']) {
        return Err(Malformed(Cow::Borrowed(
            "the body looks like JSON: its Content-Type must be application/json",
        )));
    }
    let is_lines = text.lines().next().is_some_and(|line| line.contains(';') && !line.contains('='));
    if is_lines {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        check_batch(lines.len())?;
        let line = |line: &&str| object(LINE.into_iter().zip(line.split(';').map(str::trim)).collect());
        return Ok(lines.iter().map(line).collect());
    }
    if !text.contains('=') {
        return Err(Malformed(Cow::Borrowed(
            "the body is neither JSON nor a form nor lines of device;time;data;seqNumber",
        )));
    }
    // Of a name that stands twice the first counts: an object must not have it twice.
    let mut fields = BTreeMap::new();
    for (name, value) in pairs(text) {
        fields.entry(name).or_insert(value);
    }
    Ok(vec![object(fields.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect())])
}

/// The fields of a body, then those of the query.
struct Both<'a> {
    body: Cow<'a, Fields<'a>>,
    request: &'a Request<'a>,
}

impl<'a> Both<'a> {
    fn text(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, Unmappable> {
        let known = |text: &Cow<'_, str>| text != "null" && !text.is_empty();
        match self.body.text(name)?.filter(known) {
            Some(text) => Ok(Some(text)),
            None => Ok(self.request.in_query(name).map(Cow::Owned).filter(known)),
        }
    }

    fn number(&self, name: &'static str, max: u64) -> Result<Option<u64>, Unmappable> {
        with_text(self.text(name)?, |fields| fields.number(name, max), name)
    }

    fn has(&self, name: &'static str) -> bool {
        self.body.raw(name).is_some_and(|value| value.get() != "\"null\"")
    }
}

/// Reads a text as the member of that name.
fn with_text<T>(
    text: Option<Cow<'_, str>>,
    read: impl Fn(&Fields<'_>) -> Result<Option<T>, Unmappable>,
    name: &str,
) -> Result<Option<T>, Unmappable> {
    let Some(text) = text else { return Ok(None) };
    let mut member = Members::default();
    member.text(name, Some(&text));
    read(&Fields::read(&member.end())?)
}

pub fn read<'a>(request: &'a Request<'a>, element: &'a Element<'a>) -> Result<Read<'a>, Unmappable> {
    let fields = Both { body: element.fields()?, request };
    let device = upper(fields.text("device")?);
    if let Some(device) = &device
        && (device.len() > DEVICE_MAX || !device.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        let sentence = format!("\"device\" must have 1 to {DEVICE_MAX} hex digits");
        return Err(Unmappable::new(Fault::Identity, sentence));
    }
    let is_advanced = ADVANCED.iter().any(|name| fields.has(name));
    // An empty message is one, too.
    let is_data = fields.has("data") || request.in_query("data").is_some();
    if !is_data && !is_advanced {
        for (field, event) in
            [("infoCode", "acknowledge"), ("batt", "status"), ("temp", "status"), ("severity", "error")]
        {
            if fields.has(field) {
                return Ok(Read::Ignored(event));
            }
        }
        return Err(Unmappable::missing("data"));
    }
    let data = fields.text("data")?;
    let bytes = hex(data.as_deref().unwrap_or_default())
        .filter(|bytes| bytes.len() <= DATA_MAX)
        .ok_or_else(|| wrong_payload(format!("\"data\" must be hex digits of at most {DATA_MAX} bytes")))?;
    let counter = fields.number("seqNumber", COUNTER_MAX)?;
    let time = fields.text("time")?;
    let time_us = with_text(time, |fields| fields.time_in("time", SECOND_US), "time")?;
    let seconds = time_us.map(|us| (us / SECOND_US).to_string());
    // Without its number: a device does not send the same twice in a second.
    let count =
        counter.map_or_else(|| format!("data {}", data.unwrap_or_default()), |number| number.to_string());
    let dedup = key([device.as_deref(), Some(count.as_str()), seconds.as_deref()]);
    let wants_downlink = matches!(fields.text("ack")?.as_deref(), Some("true" | "1"));
    let draft = Draft {
        identity: device,
        data: is_data.then_some(Data::Bytes(Format::Binary, bytes)),
        time_us,
        counter,
        radio: radio(&fields, if is_advanced { &ADVANCED } else { &RADIO })?,
        dedup,
        wants_downlink,
        ..Draft::default()
    };
    Ok(if is_advanced { Read::Merge(draft) } else { Read::Message(draft) })
}

/// What is said of the reception: numbers as numbers, whatever quotes the template put around them.
fn radio<'a>(fields: &Both<'_>, names: &[&'static str]) -> Result<Option<Cow<'a, str>>, Unmappable> {
    let mut radio = Members::default();
    for name in names {
        if let Some(value) = fields.body.raw(name).filter(|value| value.get().starts_with(['{', '['])) {
            radio.json(name, Some(value.get()));
        } else if let Some(text) = fields.text(name)? {
            let is_number = serde_json::from_str::<f64>(&text).is_ok_and(f64::is_finite);
            match is_number {
                true => radio.json(name, Some(&text)),
                false => radio.text(name, Some(&text)),
            }
        }
    }
    Ok((!radio.is_empty()).then(|| Cow::Owned(radio.end())))
}
