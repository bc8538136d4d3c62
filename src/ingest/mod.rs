//! What partner networks post, made into messages: pure functions of a request, a source's settings and the time.
//!
//! [`map`] reads a body as its source's format says, one file of `formats` each, and gives an [`Outcome`] for every
//! element of it. A [`Mapped`] message has a UID, what the device sent, and what the network says about it as JSON.
//! [`Seen`] knows which messages came before, [`Allowance`] how many messages a source may still send; [`Kept`] is what has
//! to be kept of a request that cannot be mapped, so that it can be mapped later ([`map_kept`]), and [`Shape`] what it looks
//! like.
//!
//! # How a network's second try is known
//!
//! Most networks send again what was not answered in time. Each format names what tells two deliveries of one message
//! from two messages (see [`Mapped::dedup`]); that text is part of the network's JSON, member `dedup`, and so is kept
//! with the message. [`dedup_of_stored`] takes it out again: at a start the newest messages of the journal are gone
//! through and put into [`Seen`]. A message without such a text is never taken for another one.
//!
//! # Times
//!
//! The order of messages is the order of their arrival; the network's own time is data. One that cannot be (1970, a
//! gateway that never knew the time, the future) is given as it came and marked by a [`Flag`]; only what is no time at all
//! leads to the quarantine.

mod bloom;
mod draft;
mod encoding;
mod fields;
mod formats;
mod kept;
mod link;
mod outcome;
mod rate;
mod request;
mod seen;
mod shape;
mod source;
mod time;

pub use bloom::Between;
pub use encoding::base64;
pub use kept::Kept;
pub use link::Link;
pub use outcome::{Fault, Flag, Malformed, Mapped, Outcome, Unmapped};
pub use rate::Allowance;
pub use request::{HEADERS, Request, media_type};
pub use seen::{Recalled, SEEN_MARGIN_US, SEEN_US, Seen, dedup_of_stored};
pub use shape::Shape;
pub use source::{
    ALIASES_FILE_MAX, ALIASES_MAX, Aliases, Encoding, Map, NetworkFormat, Objects, Source, check_pointer,
};

use crate::wire::Uid;
use formats::Element;
use outcome::Unmappable;

/// Elements of one body at most: the largest batch that a network is known to send.
pub const BATCH_MAX: usize = 3_000;

/// Maps a request, an outcome for each element of its body in their order.
///
/// `is_listed` says which objects the access list names, for sources that take no others. `now_us` is the time in
/// microseconds since 1970, `None` while the machine does not know it. What is not even what its media type says, and a
/// batch of more than [`BATCH_MAX`], is malformed as a whole.
pub fn map(
    source: &Source,
    request: &Request<'_>,
    is_listed: &dyn Fn(Uid) -> bool,
    now_us: Option<i64>,
) -> Result<Vec<Outcome>, Malformed> {
    let elements = formats::elements(source, request)?;
    let outcomes = elements.iter().map(|element| map_element(source, request, element, is_listed, now_us));
    Ok(outcomes.collect())
}

/// Maps an element that was kept, as the source is now; `now_us` is when it came. One element stays one, even if it is an
/// array itself.
pub fn map_kept(
    source: &Source,
    kept: &Kept,
    raw: &[u8],
    is_listed: &dyn Fn(Uid) -> bool,
    now_us: Option<i64>,
) -> Outcome {
    let request = kept.request(raw);
    map_element(source, &request, &formats::element(&request), is_listed, now_us)
}

fn map_element(
    source: &Source,
    request: &Request<'_>,
    element: &Element<'_>,
    is_listed: &dyn Fn(Uid) -> bool,
    now_us: Option<i64>,
) -> Outcome {
    let admit = |outcome: Outcome| match &outcome {
        Outcome::Message(mapped) | Outcome::Merge(mapped)
            if source.objects == Objects::Listed && !is_listed(mapped.uid) =>
        {
            let sentence = format!("the access list does not name the object `{}`", mapped.uid);
            Err(Unmappable::new(Fault::NotListed, sentence))
        }
        _ => Ok(outcome),
    };
    formats::read(source, request, element)
        .and_then(|read| read.finish(source, now_us))
        .and_then(admit)
        .unwrap_or_else(|unmappable| unmapped(unmappable, element))
}

fn unmapped(Unmappable { fault, sentence }: Unmappable, element: &Element<'_>) -> Outcome {
    let (raw, shape, is_json) = match element {
        Element::Object(_, text) => (text.as_bytes(), Shape::of_json(text), true),
        Element::Json(text) => (text.as_bytes(), Shape::of_json(text), true),
        Element::Raw(bytes) => (*bytes, Shape::of_bytes(), false),
    };
    Outcome::Unmapped(Unmapped { fault, sentence, shape, raw: raw.to_vec(), is_json })
}
