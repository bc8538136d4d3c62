//! The API as functions of values: who may do what, and what it gives. No socket is known here; the HTTPS
//! server and the maintenance socket both call it.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::acts::Act;
use super::auth::{ApiKey, Keys};
use super::body::{self, CallRequest};
use super::error::{ApiError, Cause};
use super::ingest::{Doors, Ingest, Visit};
use super::messages::{Follow, Recall};
use super::reply::Reply;
use super::routes::{self, BodyRoute, Route};
use super::{commands, metrics, query, steering};
use crate::endpoint::refusals::Refusals;
use crate::hub::CallAnswer;
use crate::hub::access_keeper::ReplaceError;
use crate::hub::backend::{Backend, ObjectView};
use crate::hub::heartbeats::Heartbeats;
use crate::hub::history::History;
use crate::hub::intake::Intake;
use crate::hub::status::Status;
use crate::net::AllowFrom;
use crate::payload_json;
use crate::wire::Uid;

/// Objects of one page, at most and unless asked otherwise.
pub const PAGE_MAX: usize = 1000;

/// What the configuration says about the API. May change while it runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether connections are HTTPS; else plain HTTP.
    pub tls: bool,
    /// Networks that may use the API at all.
    pub allow_from: AllowFrom,
    /// Who may.
    pub keys: Keys,
    /// Partner networks that may bring messages.
    pub ingest: Doors,
    /// Bytes of a body at most, except that of `/acl`.
    pub max_body: usize,
    /// Bytes of the body of `/acl` at most.
    pub max_acl: usize,
    /// Longest time that a call is held.
    pub max_wait: Duration,
    /// For the TLS handshake; then from the end of one answer to the end of the next header.
    pub header_timeout: Duration,
    /// From the header to the end of the body.
    pub body_timeout: Duration,
    /// For the client to take an answer.
    pub write_timeout: Duration,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The network.
    Network(IpAddr),
    /// The local socket, which only the service's group may open: every right.
    Local,
}

/// The size of a request's body as its header states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodySize {
    /// Neither a length nor chunks.
    Absent,
    /// Content-Length.
    Known(u64),
    /// Chunks: known when they have been read.
    Chunked,
}

/// A request without its body.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// "GET", "POST", …
    pub method: &'a str,
    /// Still percent-encoded.
    pub path: &'a str,
    /// What stands behind the question mark, or nothing.
    pub query: &'a str,
    /// The header's value.
    pub authorization: Option<&'a [u8]>,
    /// The header's value.
    pub content_type: Option<&'a [u8]>,
    /// The header's value.
    pub last_event_id: Option<&'a [u8]>,
    /// Headers that networks put fields in, by their names in lower case; for `/v1/ingest` only.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// What follows.
    pub body: BodySize,
}

/// What a head leads to.
#[derive(Debug)]
pub struct Judgement {
    /// The key that was shown, if it is one of ours.
    pub key: Option<Arc<ApiKey>>,
    /// What to do next.
    pub outcome: Result<Decision, ApiError>,
}

/// What to do next.
#[derive(Debug)]
pub enum Decision {
    /// Answer with this.
    Reply(Reply),
    /// Read the body, then [`Api::finish`].
    Body(Expected),
    /// Ask the history: [`Api::recall`].
    Recall(Recall),
    /// Ask the history for everything from now on.
    Follow(Follow),
    /// Do it: [`Act::run`].
    Act(Act),
}

/// A body that is awaited.
#[derive(Debug)]
pub struct Expected {
    pub(super) route: Awaited,
    key: Arc<ApiKey>,
    pub(super) source: Source,
    settings: Arc<Settings>,
    /// Bytes at most.
    pub limit: usize,
}

/// What a body is awaited for.
#[derive(Debug)]
pub(super) enum Awaited {
    Request,
    Acl,
    /// With its Idempotency-Key.
    Command(Option<String>),
    Ingest(Box<Visit>),
}

/// The API.
pub struct Api {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) history: Option<Arc<dyn History>>,
    pub(super) ingest: Option<Ingest>,
    settings: Mutex<Arc<Settings>>,
    /// Counted by cause.
    pub refusals: Refusals<Cause>,
    local: Arc<ApiKey>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}

impl Api {
    /// The API over this hub, without the routes of the history.
    pub fn new(backend: Arc<dyn Backend>, settings: Settings) -> Self {
        Self {
            backend,
            history: None,
            ingest: None,
            settings: Mutex::new(Arc::new(settings)),
            refusals: Refusals::new("api"),
            local: Arc::new(ApiKey::unlimited("local", [0; 32])),
        }
    }

    /// Where the beats of the loop that accepts its callers are counted.
    pub fn heartbeats(&self) -> Option<&Heartbeats> {
        self.backend.heartbeats()
    }

    /// The same with the routes of this history.
    pub fn with_history(self, history: Arc<dyn History>) -> Self {
        Self { history: Some(history), ..self }
    }

    /// The same with the sources of partner networks, whose messages go there.
    pub fn with_intake(self, intake: Arc<dyn Intake>) -> Self {
        Self { ingest: Some(Ingest::new(intake)), ..self }
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes up new settings; requests that are under way keep theirs.
    pub fn set_settings(&self, settings: Settings) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Judges everything before the body, in the order that callers may rely on: source network, key, route,
    /// right, unknown object; then what the header says about the body: its presence, its type, its length.
    pub fn judge(&self, head: &Head<'_>, source: Source) -> Judgement {
        let settings = self.settings();
        let route = routes::find(head.path);
        let mut key = None;
        let outcome = self.judge_head(head, source, route, settings, &mut key);
        self.audit(head, source, route, key.as_deref(), &outcome);
        Judgement { key, outcome }
    }

    fn judge_head(
        &self,
        head: &Head<'_>,
        source: Source,
        route: Option<Route<'_>>,
        settings: Arc<Settings>,
        key: &mut Option<Arc<ApiKey>>,
    ) -> Result<Decision, ApiError> {
        let forbidden = |what| ApiError::new(Cause::SourceNetwork, 403, what);
        if let Source::Network(address) = source
            && !settings.allow_from.allows(address)
        {
            return Err(forbidden(
                "this source address may not use the API: [api] allow_from does not name it",
            ));
        }
        let door = match &route {
            Some(Route::Ingest(name, _) | Route::Remap(name)) => settings.ingest.get(*name),
            _ => None,
        };
        if !routes::is_open(&route, source) {
            let of_door = |value| door.and_then(|door| door.find(value));
            let found = match (source, head.authorization) {
                (Source::Local, _) => Some(&self.local),
                (Source::Network(_), Some(value)) => settings.keys.find(value)?.or_else(|| of_door(value)),
                (Source::Network(_), None) => None,
            };
            let found = found.ok_or_else(|| unauthorized(&route))?;
            *key = Some(Arc::clone(found));
            if let Source::Network(address) = source
                && !found.allow_from.allows(address)
            {
                return Err(forbidden("this key may not be used from this source address"));
            }
        }
        let route = route.ok_or_else(nothing_here)?;
        if self.history.is_none() && routes::is_of_history(&route) {
            return Err(no_history());
        }
        if self.ingest.is_none() && matches!(route, Route::Ingest(..) | Route::Remap(_)) {
            return Err(no_intake());
        }
        routes::check_method(&route, head.method)?;
        // Only open routes come here without a key, and they ask for no right.
        let Some(key) = key.as_ref() else {
            return Ok(Decision::Reply(self.open_reply(&route)));
        };
        if let Some(right) = routes::right(&route)
            && !key.rights.contains(&right)
        {
            let sentence = format!("this key lacks the right \"{}\"", right.name());
            return Err(ApiError::new(Cause::Right, 403, sentence));
        }
        if routes::is_of_all_groups(&route) && !key.groups.is_empty() {
            let sentence =
                "a key limited to groups may not do what concerns all of them: use one without groups";
            return Err(ApiError::new(Cause::Right, 403, sentence));
        }
        match route {
            Route::Health | Route::Ready | Route::Metrics | Route::Console(_) => {
                Ok(Decision::Reply(self.open_reply(&route)))
            }
            Route::Status => {
                self.check_that_it_turns()?;
                Ok(Decision::Reply(Reply::json(200, &self.status())))
            }
            Route::Objects => self.objects(head.query, key).map(Decision::Reply),
            Route::Object(uid) => self.object(uid, key).map(Decision::Reply),
            Route::Messages => Recall::page(head.query, key, settings.max_wait).map(Decision::Recall),
            Route::Events => Recall::events(head.query, key, settings.max_wait).map(Decision::Recall),
            Route::Audit => Ok(Decision::Recall(Recall::audit(key))),
            Route::Message(id) => Recall::one(id, key).map(Decision::Recall),
            Route::Stream => {
                Follow::new(head.query, head.last_event_id, key, &settings).map(Decision::Follow)
            }
            Route::Post(route) => {
                let limit = match route {
                    BodyRoute::Request | BodyRoute::Command => settings.max_body,
                    BodyRoute::Acl => settings.max_acl,
                };
                routes::check_body(head, routes::is_json, limit)?;
                let route = match route {
                    BodyRoute::Request => Awaited::Request,
                    BodyRoute::Acl => Awaited::Acl,
                    BodyRoute::Command => Awaited::Command(commands::idempotency_key(head.headers)?),
                };
                Ok(Decision::Body(Expected { route, key: Arc::clone(key), source, settings, limit }))
            }
            Route::Steering(route) => steering::read(route, head.query, &*self.backend),
            Route::Remap(_) => Ok(Decision::Act(Act::Remap(Arc::clone(door.ok_or_else(unknown_source)?)))),
            Route::Ingest(_, tail) => {
                let door = door.ok_or_else(unknown_source)?;
                if let Source::Network(address) = source {
                    door.check_source(address)?;
                }
                let visit = Box::new(Visit::new(door, tail, head));
                let limit = visit.door.source.max_body;
                routes::check_body(head, |_| visit.takes(), limit)?;
                let (key, settings) = (Arc::clone(key), Arc::clone(&settings));
                Ok(Decision::Body(Expected { route: Awaited::Ingest(visit), key, source, settings, limit }))
            }
        }
    }

    /// What a whole body leads to. Dropping the future abandons the call.
    pub async fn finish(&self, expected: Expected, body: impl AsRef<[u8]>) -> Result<Reply, ApiError> {
        match expected.route {
            Awaited::Request => {
                let request = body::call_request(body.as_ref(), expected.settings.max_wait)?;
                self.check_sees(&expected.key, request.uid)?;
                let CallRequest { uid, timeout, format, payload } = request;
                let answer = self.backend.call(uid, format, payload, timeout);
                // While the call is held only the call itself is.
                drop((body, expected));
                answer_reply(&answer.await)
            }
            Awaited::Command(once) => {
                let command = commands::read(body.as_ref(), &expected.key.name, once.as_deref())?;
                self.check_known(&expected.key, command.uid)?;
                let queued = self.backend.queue_command(command);
                drop(body);
                commands::reply(queued.await)
            }
            Awaited::Acl => {
                let items = body::access_list(body.as_ref())?;
                let replaced = self.backend.replace_access(items);
                drop((body, expected));
                match replaced.await {
                    Ok(()) => Ok(Reply::json_text(200, Vec::new())),
                    Err(ReplaceError::Storage(error)) => {
                        let error = ApiError::new(Cause::Storage, 503, error.to_string());
                        Err(error.with_header("retry-after", "5"))
                    }
                    // The list itself is wrong; the sentence names item, field and value, never a key.
                    Err(error) => Err(ApiError::content(error.to_string())),
                }
            }
            Awaited::Ingest(visit) => {
                let ingest = self.ingest.as_ref().ok_or_else(no_intake)?;
                let taken = ingest.take(&visit, &expected.key, self.backend.as_ref(), body).await;
                taken.inspect_err(|error| self.audit_visit(&visit, expected.source, error))
            }
        }
    }

    /// What the history says. A page that may wait for its first message waits until `enough` resolves at most.
    pub async fn recall(&self, recall: Recall, enough: impl Future<Output = ()>) -> Result<Reply, ApiError> {
        let is_of_events = recall.is_of_events();
        let mut reply = recall.answer(self.history()?.as_ref(), enough).await?;
        if is_of_events {
            // As of now: what is up may have changed while the caller waited.
            reply.add_member("alerts", &self.backend.status().alerts);
        }
        Ok(reply)
    }

    pub(super) fn history(&self) -> Result<&Arc<dyn History>, ApiError> {
        self.history.as_ref().ok_or_else(no_history)
    }

    /// What the concentrator is doing, the API's own refusals included.
    pub fn status(&self) -> Status {
        let mut status = self.backend.status();
        self.refusals.add_to(&mut status.refusals);
        if let Some(ingest) = &self.ingest {
            ingest.notes.add_to(&mut status.refusals);
        }
        status
    }

    /// Who asks what it does is told so rather than kept waiting with everybody else.
    fn check_that_it_turns(&self) -> Result<(), ApiError> {
        let stopped = self.heartbeats().map(Heartbeats::stopped).unwrap_or_default();
        if stopped.is_empty() {
            return Ok(());
        }
        let sentence = format!("it hangs, and has to be started again: {stopped} stopped turning");
        Err(ApiError::new(Cause::Storage, 503, sentence))
    }

    fn open_reply(&self, route: &Route<'_>) -> Reply {
        match route {
            Route::Metrics => {
                let mut reply = Reply::text(200, metrics::text(&self.status()));
                reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
                reply
            }
            Route::Ready => match self.backend.ready() {
                Ok(()) => Reply::text(200, "ready"),
                Err(word) => Reply { header: Some(("retry-after", "1")), ..Reply::text(503, word) },
            },
            Route::Console(asset) => asset.reply(),
            _ => Reply::text(200, "ok"),
        }
    }

    fn objects(&self, query: &str, key: &ApiKey) -> Result<Reply, ApiError> {
        #[derive(Serialize)]
        struct Page {
            objects: Vec<ObjectView>,
            next: Option<String>,
        }
        let after = query::uid(query, "after")?;
        let limit = query::count(query, "limit", PAGE_MAX)?.unwrap_or(PAGE_MAX);
        // One more than asked for tells whether another page follows.
        let mut objects = self.backend.objects(after, limit + 1, &key.groups);
        let more = objects.len() > limit;
        objects.truncate(limit);
        let next = objects.last().filter(|_| more).map(|last| last.uid.clone());
        Ok(Reply::json(200, &Page { objects, next }))
    }

    fn object(&self, encoded: &str, key: &ApiKey) -> Result<Reply, ApiError> {
        let uid =
            query::decode(encoded).and_then(|text| Uid::parse(&text).ok()).ok_or_else(unknown_object)?;
        self.check_sees(key, uid)?;
        self.backend.object(uid).map(|object| Reply::json(200, &object)).ok_or_else(unknown_object)
    }

    /// A command is for an object of the access list.
    fn check_known(&self, key: &ApiKey, uid: Uid) -> Result<(), ApiError> {
        let sees = self.backend.group_of(uid).is_some_and(|group| key.sees(group));
        if sees { Ok(()) } else { Err(unknown_object()) }
    }

    /// A key of some groups does not learn which other objects there are. For a key of all groups an unknown
    /// object is no error here: a call to it is answered by code 0xA0.
    fn check_sees(&self, key: &ApiKey, uid: Uid) -> Result<(), ApiError> {
        let sees = key.groups.is_empty() || self.backend.group_of(uid).is_some_and(|group| key.sees(group));
        if sees {
            return Ok(());
        }
        self.audit_unseen(key);
        Err(unknown_object())
    }
}

fn unauthorized(route: &Option<Route<'_>>) -> ApiError {
    // Whether a source has Basic credentials, or is there at all, is not told to strangers.
    let schemes = match route {
        Some(Route::Ingest(..)) => "Bearer, Basic realm=\"ingest\"",
        _ => "Bearer",
    };
    ApiError::new(
        Cause::Key,
        401,
        "an Authorization header with \"Bearer\" and the central's key or an API key is needed",
    )
    .with_header("www-authenticate", schemes)
}

fn unknown_source() -> ApiError {
    ApiError::new(Cause::Object, 404, "no source of this name is configured")
}

pub(super) fn no_intake() -> ApiError {
    ApiError::new(Cause::Route, 404, "this concentrator takes no messages of partner networks yet")
}

pub(super) fn no_history() -> ApiError {
    ApiError::new(Cause::Route, 404, "this concentrator keeps no history yet")
}

fn nothing_here() -> ApiError {
    ApiError::new(Cause::Route, 404, "there is nothing at this path")
}

fn unknown_object() -> ApiError {
    ApiError::new(Cause::Object, 404, "\"UID\" names no object that this key may see")
}

fn answer_reply(answer: &CallAnswer) -> Result<Reply, ApiError> {
    // The bytes around the payload, and room for JSON as it is; arrays of bytes reserve for themselves.
    let mut text = String::with_capacity(64 + answer.payload.len());
    let (_, name) = if answer.made_here {
        // An answer made here has no payload, whatever the format.
        (write!(text, "{{\"Code\":{},\"Payload\":null", answer.code), "JSON")
    } else {
        let begun = write!(text, "{{\"Code\":{},\"Payload\":", answer.code);
        payload_json::write_json(&mut text, answer.format, &answer.payload).map_err(|error| {
            ApiError::new(Cause::Answer, 502, format!("the object's answer is not what it says: {error}"))
        })?;
        (begun, answer.format.name())
    };
    text.push_str(",\"Format\":\"");
    text.push_str(name);
    text.push_str("\"}");
    Ok(Reply::json_text(200, text))
}
