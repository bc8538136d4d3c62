//! What was recorded, by sequence number, time, object, group and kind: pages, one message, and where a stream begins.

use std::fmt::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use smol::future::FutureExt;

use super::api::Settings;
use super::auth::ApiKey;
use super::error::{ApiError, Cause};
use super::query;
use super::reply::Reply;
use crate::hub::backend::Pending;
use crate::hub::history::{Found, History, HistoryError, Kind, MessageId, MessageQuery, Page, Which};
use crate::journal::Seq;

/// Messages of one page, at most and unless asked otherwise.
const PAGE_MAX: usize = 1000;
const PAGE_USUAL: usize = 100;
/// A page ends with the message that brings its payloads to so many bytes: as JSON that may be four times as many.
const PAGE_BYTES: usize = 1 << 20;
/// The same for one piece of a stream, which waits in memory for a slow reader.
const PIECE_MAX: usize = 100;
const PIECE_BYTES: usize = 32 * 1024;
/// What the answer calls a page's messages.
const MESSAGES: &str = "messages";
const EVENTS: &str = "events";
/// The JSON of a page without its messages, and of a message without its payload, roughly.
const PAGE_ROOM: usize = 48;
const MESSAGE_ROOM: usize = 320;
/// Bytes of JSON that are made in one turn.
const TURN_BYTES: usize = 64 * 1024;
/// Whoever waits anyway asks again after so long if too many others asked at once.
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// What is asked of the history.
#[derive(Debug)]
pub struct Recall {
    ask: Ask,
    /// What the answer calls them.
    list: &'static str,
    key: Arc<ApiKey>,
    /// How long the asker waits for the first message; zero: not at all.
    pub wait: Duration,
}

#[derive(Debug)]
enum Ask {
    Page(MessageQuery),
    One(Which),
    /// Whether the audit log is whole.
    Audit,
}

/// A stream that is asked for.
#[derive(Debug)]
pub struct Follow {
    pub(super) query: MessageQuery,
    /// The last message that the reader has, if it names it by its id.
    resume: Option<MessageId>,
    key: Arc<ApiKey>,
    /// Under which the key was judged.
    pub(super) settings: Arc<Settings>,
}

impl Recall {
    /// The page that a query asks for.
    pub(super) fn page(query: &str, key: &Arc<ApiKey>, max_wait: Duration) -> Result<Self, ApiError> {
        let mut asked = filters(query, key)?;
        asked.limit = query::count(query, "limit", PAGE_MAX)?.unwrap_or(PAGE_USUAL);
        asked.bytes = PAGE_BYTES;
        if let Some(last) = query::count(query, "last", PAGE_MAX)? {
            (asked.limit, asked.newest) = (last, true);
        }
        let wait = query::span(query, "wait")?.unwrap_or_default().min(max_wait);
        Ok(Self { ask: Ask::Page(asked), list: MESSAGES, key: Arc::clone(key), wait })
    }

    /// The page of alerts and operator events that a query asks for.
    pub(super) fn events(query: &str, key: &Arc<ApiKey>, max_wait: Duration) -> Result<Self, ApiError> {
        let mut recall = Self::page(query, key, max_wait)?;
        if let Ask::Page(asked) = &mut recall.ask {
            if asked.kind.is_some_and(|kind| kind != Kind::Event) {
                return Err(ApiError::content("the query's \"kind\" can only be event here"));
            }
            asked.kind = Some(Kind::Event);
        }
        Ok(Self { list: EVENTS, ..recall })
    }

    /// The judgement of the audit log.
    pub(super) fn audit(key: &Arc<ApiKey>) -> Self {
        Self { ask: Ask::Audit, list: MESSAGES, key: Arc::clone(key), wait: Duration::ZERO }
    }

    /// Whether it is for alerts and operator events.
    pub(super) fn is_of_events(&self) -> bool {
        self.list == EVENTS
    }

    /// What somebody who has every right asks for by a path and query of the API.
    pub fn local(target: &str) -> Result<Self, ApiError> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let key = Arc::new(ApiKey::unlimited("local", [0; 32]));
        if path == "/v1/audit" {
            return Ok(Self::audit(&key));
        }
        match path.strip_prefix("/v1/messages").map(|rest| rest.strip_prefix('/').ok_or(rest)) {
            Some(Ok(id)) => Self::one(id, &key),
            Some(Err("")) => Self::page(query, &key, Duration::ZERO),
            _ => Err(ApiError::new(Cause::Route, 404, "there is no such path: ask for /v1/messages")),
        }
    }

    /// The one message that a path names.
    pub(super) fn one(encoded: &str, key: &Arc<ApiKey>) -> Result<Self, ApiError> {
        let text = query::decode(encoded);
        let which = text.and_then(|text| {
            let seq = query::number(&text).map(Which::Seq);
            seq.or_else(|| MessageId::parse(&text).map(Which::Id))
        });
        let which = which.ok_or_else(|| {
            ApiError::content("the id in the path must be a message's \"id\", 36 characters, or its \"seq\"")
        })?;
        Ok(Self { ask: Ask::One(which), list: MESSAGES, key: Arc::clone(key), wait: Duration::ZERO })
    }

    /// The answer. A page that is empty is held until there is something to give, or until `enough` resolves.
    pub async fn answer(
        self,
        history: &dyn History,
        enough: impl Future<Output = ()>,
    ) -> Result<Reply, ApiError> {
        let mut query = match self.ask {
            Ask::Page(query) => query,
            Ask::Audit => {
                let report = history.verify_audit().await.map_err(unreadable)?;
                return Ok(Reply::json(200, &report));
            }
            Ask::One(which) => {
                let mut text = String::new();
                // Of what is gone nobody knows the group: only who sees all may know of it.
                match history.message(which).await.map_err(unreadable)? {
                    Found::Message(message) if self.key.sees(message.group) => message.write_json(&mut text),
                    Found::Gone(gone) if self.key.groups.is_empty() => gone.write_json(&mut text),
                    Found::Foreign => return Err(foreign()),
                    Found::Left if self.key.groups.is_empty() => return Err(left()),
                    _ => return Err(unknown_message()),
                }
                return Ok(Reply::json_text(200, text));
            }
        };
        let mut enough = pin!(enough);
        loop {
            let asked = history.messages(query.clone()).await;
            let again: Pending<()> = match &asked {
                Ok(page) if page.messages.is_empty() => {
                    // What was looked through needs no second look. It never goes backwards, whatever lies ahead.
                    query.after = query.after.max(page.next);
                    history.wait_beyond(query.after)
                }
                Err(HistoryError::Busy) => Box::pin(busy_pause()),
                _ => return page_reply(self.list, asked, query.after).await,
            };
            let is_over = async {
                enough.as_mut().await;
                true
            };
            let is_worth_a_look = async {
                again.await;
                false
            };
            if self.wait.is_zero() || is_over.or(is_worth_a_look).await {
                return page_reply(self.list, asked, query.after).await;
            }
        }
    }
}

/// While others are served.
pub(super) async fn busy_pause() {
    Timer::after(BUSY_PAUSE).await;
}

/// `{"messages": […], "next": …}`, or with another name for the list. It may be long: whoever else has work on this thread gets a turn now and then.
async fn page_reply(list: &str, asked: Result<Page, HistoryError>, after: Seq) -> Result<Reply, ApiError> {
    let page = asked.map_err(unreadable)?;
    let room: usize = page.messages.iter().map(|message| MESSAGE_ROOM + message.payload.len()).sum();
    let mut out = String::with_capacity(PAGE_ROOM + room);
    // Writing into a string cannot fail.
    let _written = write!(out, "{{\"{list}\":[");
    let mut turn = TURN_BYTES;
    for (index, message) in page.messages.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        message.write_json(&mut out);
        if out.len() > turn {
            turn = out.len() + TURN_BYTES;
            smol::future::yield_now().await;
        }
    }
    let _written = write!(out, "],\"next\":{}}}", page.next.max(after));
    Ok(Reply::json_text(200, out))
}

impl Follow {
    /// The stream that a query asks for; `last_event_id` is the header's value, which a reader that comes back sends.
    pub(super) fn new(
        query: &str,
        last_event_id: Option<&[u8]>,
        key: &Arc<ApiKey>,
        settings: &Arc<Settings>,
    ) -> Result<Self, ApiError> {
        let mut asked = filters(query, key)?;
        (asked.limit, asked.bytes) = (PIECE_MAX, PIECE_BYTES);
        let last = last_event_id.map_or(Ok(""), |value| std::str::from_utf8(value).map(str::trim));
        let mut resume = None;
        match last {
            Ok("") => {}
            Ok(text) => match (query::number(text), MessageId::parse(text)) {
                (Some(seq), _) => asked.after = seq,
                (None, Some(id)) => resume = Some(id),
                (None, None) => return Err(bad_last_event_id()),
            },
            Err(_) => return Err(bad_last_event_id()),
        }
        Ok(Self { query: asked, resume, key: Arc::clone(key), settings: Arc::clone(settings) })
    }

    /// Finds the place of the message that the reader has.
    pub(super) async fn locate(mut self, history: &dyn History) -> Result<Self, ApiError> {
        if let Some(id) = self.resume.take() {
            self.query.after = match history.message(Which::Id(id)).await.map_err(unreadable)? {
                Found::Message(message) if self.key.sees(message.group) => message.seq,
                Found::Gone(gone) if self.key.groups.is_empty() => gone.seq,
                _ => return Err(unknown_message()),
            };
        }
        Ok(self)
    }
}

/// What page and stream have in common. What is empty is not asked for.
fn filters(query: &str, key: &ApiKey) -> Result<MessageQuery, ApiError> {
    let mut asked = MessageQuery::all(PAGE_USUAL, PAGE_BYTES);
    asked.after = seq(query)?;
    asked.uid = query::uid(query, "uid")?;
    asked.groups = match query::group(query, "group")? {
        Some(group) => Some(Vec::from_iter(key.sees(group).then_some(group))),
        // A key without groups sees all of them.
        None => Some(key.groups.clone()).filter(|groups| !groups.is_empty()),
    };
    asked.kind = kind(query)?;
    asked.from_us = query::time(query, "from")?;
    asked.to_us = query::time(query, "to")?;
    Ok(asked)
}

fn seq(query: &str) -> Result<Seq, ApiError> {
    let Some(text) = query::value(query, "after")? else { return Ok(0) };
    query::number(&text).ok_or_else(|| {
        ApiError::content("\"after\" in the query must be a whole number, a message's \"seq\" or 0")
    })
}

fn kind(query: &str) -> Result<Option<Kind>, ApiError> {
    let Some(text) = query::value(query, "kind")?.filter(|text| !text.is_empty()) else { return Ok(None) };
    Kind::ALL.into_iter().find(|kind| kind.name() == text).map(Some).ok_or_else(|| {
        let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        ApiError::content(format!("\"kind\" in the query must be one of {}", names.join(", ")))
    })
}

fn bad_last_event_id() -> ApiError {
    ApiError::content("\"Last-Event-ID\" must be a message's \"seq\" or \"id\"")
}

fn left() -> ApiError {
    let sentence = "the message is no longer in the journal: it had been kept long enough or made room, and what became \
                    of it is not remembered any more";
    ApiError::new(Cause::Object, 404, sentence)
}

fn foreign() -> ApiError {
    let sentence =
        "this id was given by another concentrator, or in another environment: ask there, or compare the id";
    ApiError::new(Cause::Object, 404, sentence)
}

fn unknown_message() -> ApiError {
    ApiError::new(
        Cause::Object,
        404,
        "there is no message with this id or number, or none that this key may see",
    )
}

fn unreadable(error: HistoryError) -> ApiError {
    let after = match error {
        HistoryError::Busy => "1",
        HistoryError::Storage(_) => "5",
    };
    ApiError::new(Cause::Storage, 503, error.to_string()).with_header("retry-after", after)
}
