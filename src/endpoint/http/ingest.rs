//! `POST /v1/ingest/SOURCE`: what partner networks bring, mapped and handed to the intake.
//!
//! A [`Door`] is a source with the credentials that open it; a `Visit` is a request at a door before its body is there.
//! What is answered depends on each element: 200 means that all of it is on flash.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use subtle::ConstantTimeEq;

use super::api::Head;
use super::auth::{ApiKey, Right, sha256};
use super::error::{ApiError, Cause};
use super::reply::Reply;
use crate::endpoint::refusals::{self, Refusals};
use crate::hub::backend::Backend;
use crate::hub::intake::{Arrival, Intake, IntakeError, QUARANTINE_MAX, Receipt, RemapError};
use crate::hub::lock;
use crate::ingest::{self, Allowance, Fault, Flag, HEADERS, Kept, Mapped, Outcome, Request, Source};
use crate::journal::stamp::MessageId;
use crate::payload_json::write_string;
use crate::wire::GroupName;

/// The longest Basic credentials that are looked at, in bytes of base64.
const BASIC_MAX: usize = 1024;

/// Bytes of most answers to an element.
const MEMBERS_LEN: usize = 64;

/// What is told who sent more than a rate.
const AGAIN_SOON: (&str, &str) = ("retry-after", "1");

/// Every source by its name in the path.
pub type Doors = BTreeMap<String, Arc<Door>>;

/// A source, and who may bring something.
#[derive(Debug)]
pub struct Door {
    /// What its bodies are.
    pub source: Source,
    /// What Basic credentials are worth here: the right to ingest, at this door.
    basic: Option<Arc<ApiKey>>,
}

impl Door {
    /// A source that takes API keys and, if there are any, these Basic credentials: user and password.
    pub fn new(source: Source, basic: Option<(&str, &str)>) -> Self {
        let key = |(user, password)| {
            let hash = sha256(format!("{user}:{password}").as_bytes());
            let name = format!("basic:{}", source.name);
            Arc::new(ApiKey { rights: vec![Right::Ingest], ..ApiKey::unlimited(&name, hash) })
        };
        Self { basic: basic.map(key), source }
    }

    /// Whether messages may be brought from there; told to those only who may bring some: that there is such a source is
    /// nobody else's business.
    pub(super) fn check_source(&self, address: IpAddr) -> Result<(), ApiError> {
        if self.source.allow_from.allows(address) {
            return Ok(());
        }
        let sentence = format!(
            "this source address may not bring messages here: [ingest.{}] allow_from does not name it",
            self.source.name
        );
        Err(ApiError::new(Cause::SourceNetwork, 403, sentence))
    }

    /// The key that Basic credentials in an `Authorization` header stand for.
    pub(super) fn find(&self, authorization: &[u8]) -> Option<&Arc<ApiKey>> {
        let (scheme, credentials) = authorization.split_at_checked("basic ".len())?;
        let text = std::str::from_utf8(credentials).ok()?.trim();
        if !scheme.eq_ignore_ascii_case(b"basic ") || text.len() > BASIC_MAX {
            return None;
        }
        let presented = sha256(&ingest::base64(text)?);
        self.basic.as_ref().filter(|key| bool::from(presented.ct_eq(&key.sha256)))
    }
}

/// A request at a door, without its body.
pub(super) struct Visit {
    pub door: Arc<Door>,
    tail: String,
    query: String,
    content_type: String,
    headers: Vec<(String, String)>,
}

/// Shows nothing of what was sent.
impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").field("source", &self.door.source.name).finish_non_exhaustive()
    }
}

impl Visit {
    pub fn new(door: &Arc<Door>, tail: &str, head: &Head<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let known = |(name, _): &&(&str, &[u8])| HEADERS.contains(name);
        Self {
            door: Arc::clone(door),
            tail: tail.to_owned(),
            query: head.query.to_owned(),
            content_type: head.content_type.map(text).unwrap_or_default(),
            headers: head
                .headers
                .iter()
                .filter(known)
                .map(|(name, value)| ((*name).to_owned(), text(value)))
                .collect(),
        }
    }

    /// Whether a body of this type may be one of this source.
    pub fn takes(&self) -> bool {
        self.door.source.format.takes(&ingest::media_type(&self.content_type))
    }

    fn request<'a>(&'a self, body: &'a [u8]) -> Request<'a> {
        Request {
            tail: &self.tail,
            query: &self.query,
            headers: &self.headers,
            content_type: &self.content_type,
            body,
        }
    }
}

/// What is counted of ingested messages besides refused requests; the names appear in status and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// In quarantine: what could not be mapped.
    Unmapped(Fault),
    /// Events of networks that carry nothing.
    Ignored,
    /// Second tries.
    Duplicate,
    /// Second deliveries that say more.
    Merged,
    /// Refused by the rules of a group.
    Refused,
    /// A network's time that lies ahead.
    FutureTime,
    /// A network's time of a clock that was never set.
    UnsetTime,
}

impl refusals::Cause for Note {
    const NAMES: &'static [&'static str] = &[
        "missing",
        "identity",
        "payload",
        "type",
        "range",
        "time",
        "kind",
        "not_listed",
        "ignored",
        "duplicate",
        "merged",
        "refused",
        "future_time",
        "unset_time",
    ];

    fn index(self) -> usize {
        let behind = Fault::ALL.len();
        match self {
            Self::Unmapped(fault) => fault as usize,
            Self::Ignored => behind,
            Self::Duplicate => behind + 1,
            Self::Merged => behind + 2,
            Self::Refused => behind + 3,
            Self::FutureTime => behind + 4,
            Self::UnsetTime => behind + 5,
        }
    }
}

/// What is kept between requests.
pub(super) struct Ingest {
    intake: Arc<dyn Intake>,
    /// By source; only configured ones.
    allowances: Mutex<HashMap<String, Allowance>>,
    begun: Instant,
    pub notes: Refusals<Note>,
}

impl Ingest {
    pub fn new(intake: Arc<dyn Intake>) -> Self {
        let notes = Refusals::new("ingest");
        Self { intake, allowances: Mutex::default(), begun: Instant::now(), notes }
    }

    /// What a whole body leads to.
    pub async fn take(
        &self,
        visit: &Visit,
        key: &ApiKey,
        backend: &dyn Backend,
        body: impl AsRef<[u8]>,
    ) -> Result<Reply, ApiError> {
        let source = &visit.door.source;
        let (arrivals, places) = self.read(visit, key, backend, body.as_ref())?;
        drop(body);
        let receipts = match arrivals.is_empty() {
            true => Vec::new(),
            false => self.intake.take(&source.name, arrivals).await.map_err(not_taken)?,
        };
        let mut receipts = receipts.into_iter();
        let results = places.into_iter().map(|place| self.result(place, &mut receipts)).collect();
        answer(results)
    }

    /// Maps what is in quarantine of a door's source.
    pub async fn remap(&self, door: &Door) -> Result<Reply, ApiError> {
        let remapped = self.intake.remap(&door.source).await;
        let failed = |error: RemapError| match error {
            RemapError::Intake(error) => not_taken(error),
            error => ApiError::new(Cause::Storage, 503, error.to_string()).with_header("retry-after", "5"),
        };
        remapped.map(|remapped| Reply::json(200, &remapped)).map_err(failed)
    }

    /// The elements that go to the intake, and the place of each element in the answer.
    fn read(
        &self,
        visit: &Visit,
        key: &ApiKey,
        backend: &dyn Backend,
        body: &[u8],
    ) -> Result<(Vec<Arrival>, Vec<Place>), ApiError> {
        let source = &visit.door.source;
        let request = visit.request(body);
        let is_listed = |uid| backend.group_of(uid).is_some();
        let outcomes = ingest::map(source, &request, &is_listed, self.intake.now_us())
            .map_err(|malformed| ApiError::content(malformed.0))?;
        let mut arrivals = Vec::new();
        let mut places = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            match outcome {
                Outcome::Message(mapped) => {
                    let group = group(source, key, backend.group_of(mapped.uid))?;
                    places.push(Place::of(&mapped));
                    arrivals.push(Arrival::Message { group, mapped });
                }
                Outcome::Merge(mapped) => {
                    let group = group(source, key, backend.group_of(mapped.uid))?;
                    places.push(Place::of(&mapped));
                    arrivals.push(Arrival::Merge { group, mapped });
                }
                Outcome::Ignored(event) => places.push(Place::Ignored(event)),
                Outcome::Unmapped(unmapped) => {
                    if unmapped.raw.len() > QUARANTINE_MAX {
                        let sentence =
                            format!("{}, and it is too large to be kept for later", unmapped.sentence);
                        return Err(ApiError::new(Cause::TooLarge, 413, sentence));
                    }
                    let kept = Kept::new(&request, &unmapped, &key.groups);
                    places.push(Place::Unmapped(unmapped.fault, kept.sentence.clone()));
                    arrivals.push(Arrival::Quarantine { group: source.group, kept, raw: unmapped.raw });
                }
            }
        }
        self.check_rate(source, places.len())?;
        Ok((arrivals, places))
    }

    fn check_rate(&self, source: &Source, messages: usize) -> Result<(), ApiError> {
        if source.rate == 0 {
            return Ok(());
        }
        let now_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut allowances = lock(&self.allowances);
        let allowance = allowances.entry(source.name.clone()).or_default();
        match allowance.take(messages, source.rate, now_us) {
            true => Ok(()),
            false => {
                let sentence = format!("more than {} messages a second: try again later", source.rate);
                Err(ApiError::new(Cause::Rate, 429, sentence).with_header(AGAIN_SOON.0, AGAIN_SOON.1))
            }
        }
    }

    /// The result of one element; counts it.
    fn result(&self, place: Place, receipts: &mut impl Iterator<Item = Receipt>) -> Result<Done, ApiError> {
        let (flags, waits, is_known_again, unmapped) = match place {
            Place::Ignored(event) => {
                self.notes.count(Note::Ignored);
                let members = format!("\"ignored\":\"{event}\"");
                return Ok(Done { members, waits: false, is_known_again: true });
            }
            Place::Mapped { flags, waits, is_known_again } => (flags, waits, is_known_again, None),
            // Copies of it are one message once it can be mapped.
            Place::Unmapped(fault, sentence) => (Vec::new(), false, true, Some((fault, sentence))),
        };
        // Whoever takes gives a receipt for each; one that is missing is no proof.
        let receipt = receipts.next().ok_or_else(|| not_taken(IntakeError::Busy))?;
        for flag in &flags {
            match flag {
                Flag::FutureTime => self.notes.count(Note::FutureTime),
                Flag::UnsetTime => self.notes.count(Note::UnsetTime),
                _ => {}
            }
        }
        let mut members = match receipt {
            Receipt::Taken(id) | Receipt::Quarantined(id) => with_id(id, ""),
            Receipt::Duplicate(id) => {
                self.notes.count(Note::Duplicate);
                with_id(id, ",\"duplicate\":true")
            }
            Receipt::Merged(id) => {
                self.notes.count(Note::Merged);
                with_id(id, ",\"merged\":true")
            }
            Receipt::Refused(sentence) => {
                self.notes.note(Note::Refused, &"none", &sentence);
                return Err(ApiError::new(Cause::Group, 422, sentence));
            }
            Receipt::TooFast(sentence) => {
                self.notes.note(Note::Refused, &"none", &sentence);
                return Err(
                    ApiError::new(Cause::Group, 429, sentence).with_header(AGAIN_SOON.0, AGAIN_SOON.1)
                );
            }
        };
        if let Some((fault, sentence)) = unmapped {
            self.notes.note(Note::Unmapped(fault), &"none", &sentence);
            let _written = write!(members, ",\"quarantined\":\"{}\",\"reason\":", fault.name());
            write_string(&mut members, &sentence);
        }
        if !flags.is_empty() {
            let names: Vec<_> = flags.iter().map(|flag| format!("\"{}\"", flag.name())).collect();
            let _written = write!(members, ",\"flags\":[{}]", names.join(","));
        }
        Ok(Done { members, waits, is_known_again })
    }
}

/// What an element came to before the intake has it.
enum Place {
    Mapped { flags: Vec<Flag>, waits: bool, is_known_again: bool },
    Unmapped(Fault, String),
    Ignored(&'static str),
}

impl Place {
    fn of(mapped: &Mapped) -> Self {
        let (flags, waits) = (mapped.flags.clone(), mapped.wants_downlink);
        Self::Mapped { flags, waits, is_known_again: mapped.dedup.is_some() }
    }
}

/// What is answered of an element.
struct Done {
    /// Of its JSON object.
    members: String,
    /// Whether its device waits for a downlink, of which there is none.
    waits: bool,
    /// Whether a second try of it would be known.
    is_known_again: bool,
}

/// The members that say under which id it is known, and more of them.
fn with_id(id: MessageId, more: &str) -> String {
    let mut members = String::with_capacity(MEMBERS_LEN);
    // Writing into a string cannot fail.
    let _written = write!(members, "\"id\":\"{id}\"");
    members.push_str(more);
    members
}

/// One element is answered by itself, several by a list. Whoever posts a list knows one answer for all of it: if an object
/// of it sent too fast, the list is asked for once more, unless that would bring something else twice.
fn answer(results: Vec<Result<Done, ApiError>>) -> Result<Reply, ApiError> {
    let mut results = results.into_iter();
    let (first, second) = (results.next(), results.next());
    let Some(second) = second else {
        return match first {
            // What a network takes for a downlink must not be there.
            Some(Ok(done)) if done.waits => Ok(Reply::json_text(204, Vec::new())),
            Some(Ok(done)) => Ok(Reply::json_text(200, ["{", &done.members, "}"].concat())),
            Some(Err(error)) => Err(error),
            None => Ok(Reply::json_text(200, *b"{}")),
        };
    };
    let mut text = String::from("{\"results\":[");
    let (mut is_too_fast, mut is_known_again) = (false, true);
    for (index, result) in first.into_iter().chain([second]).chain(results).enumerate() {
        text.push_str(if index == 0 { "{" } else { ",{" });
        match result {
            Ok(done) => {
                is_known_again &= done.is_known_again;
                text.push_str(&done.members);
            }
            Err(error) => {
                is_too_fast |= error.status == 429;
                text.push_str("\"error\":");
                write_string(&mut text, &error.sentence);
            }
        }
        text.push('}');
    }
    text.push_str("]}");
    match is_too_fast && is_known_again {
        true => Ok(Reply { header: Some(AGAIN_SOON), ..Reply::json_text(429, text) }),
        false => Ok(Reply::json_text(200, text)),
    }
}

/// The group of an object that comes in: its own, or the source's.
fn group(source: &Source, key: &ApiKey, listed: Option<GroupName>) -> Result<GroupName, ApiError> {
    let unknown = || ApiError::new(Cause::Object, 404, "the access list does not name this object");
    let group = listed.or(source.group).ok_or_else(unknown)?;
    if key.sees(group) {
        return Ok(group);
    }
    Err(ApiError::new(Cause::Right, 403, format!("this key may not bring messages of the group `{group}`")))
}

fn not_taken(error: IntakeError) -> ApiError {
    let seconds = match error {
        IntakeError::Starting | IntakeError::Searching | IntakeError::Busy => "1",
        IntakeError::Full | IntakeError::ReadOnly => "30",
    };
    ApiError::new(Cause::Storage, 503, error.to_string()).with_header("retry-after", seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::refusals::Cause as _;
    use crate::ingest::NetworkFormat;

    #[test]
    fn every_note_has_its_name() {
        for fault in Fault::ALL {
            assert_eq!(Note::NAMES[Note::Unmapped(fault).index()], fault.name());
        }
        assert_eq!(Note::NAMES.len(), Note::UnsetTime.index() + 1);
        assert_eq!(Note::NAMES[Note::Ignored.index()], "ignored");
    }

    #[test]
    fn basic_credentials_open_their_own_door_only() {
        let door = Door::new(Source::new("net", NetworkFormat::Plain), Some(("net", "sesame:x")));
        assert_eq!(door.find(b"Basic bmV0OnNlc2FtZTp4").unwrap().rights, [Right::Ingest]);
        assert!(door.find(b"basic  bmV0OnNlc2FtZTp4 ").is_some());
        let long = format!("Basic {}", "A".repeat(BASIC_MAX + 4));
        for wrong in
            ["", "Basic", "Basic ", "Basic bmV0OnNlc2FtZQ==", "Bearer bmV0OnNlc2FtZTp4", "Basic ?", &long]
        {
            assert!(door.find(wrong.as_bytes()).is_none(), "{wrong}");
        }
        let open = Door::new(Source::new("net", NetworkFormat::Plain), None);
        assert!(open.find(b"Basic Og==").is_none());
        assert!(!format!("{door:?}").contains("sesame"));
    }
}
