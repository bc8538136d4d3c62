//! The table of routes: what stands at which path, what it asks of a key, of the method and of the header of a body.

use super::api::{BodySize, Head, Source};
use super::auth::Right;
use super::console::{self, Asset};
use super::error::{ApiError, Cause};
use super::steering::SteeringRoute;

/// A route that wants a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyRoute {
    Request,
    Acl,
    Command,
}

/// Everything that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Health,
    Ready,
    Metrics,
    Status,
    Objects,
    /// The UID, percent-encoded.
    Object(&'a str),
    Messages,
    Events,
    /// Whether the audit log is whole.
    Audit,
    /// The id, percent-encoded.
    Message(&'a str),
    Stream,
    /// The page of the console, or a file that it loads.
    Console(&'static Asset),
    /// The source's name, and what stands behind it and a slash.
    Ingest(&'a str, &'a str),
    /// The source's name.
    Remap(&'a str),
    Steering(SteeringRoute<'a>),
    Post(BodyRoute),
}

/// The route of a path.
pub(super) fn find(path: &str) -> Option<Route<'_>> {
    match path {
        "/request" => Some(Route::Post(BodyRoute::Request)),
        "/acl" => Some(Route::Post(BodyRoute::Acl)),
        "/v1/commands" => Some(Route::Post(BodyRoute::Command)),
        "/v1/objects" => Some(Route::Objects),
        "/v1/messages" => Some(Route::Messages),
        "/v1/audit" => Some(Route::Audit),
        "/v1/events" => Some(Route::Events),
        "/v1/stream" => Some(Route::Stream),
        "/v1/status" => Some(Route::Status),
        "/v1/deadletters" => Some(Route::Steering(SteeringRoute::List)),
        "/v1/deadletters/replay" => Some(Route::Steering(SteeringRoute::ReplayDead)),
        "/v1/deadletters/drop" => Some(Route::Steering(SteeringRoute::DropDead)),
        "/healthz" => Some(Route::Health),
        "/readyz" => Some(Route::Ready),
        "/metrics" => Some(Route::Metrics),
        other => {
            let one =
                |prefix| other.strip_prefix(prefix).filter(|name| !name.is_empty() && !name.contains('/'));
            let ingest = || {
                let rest = other.strip_prefix("/v1/ingest/")?;
                let (name, tail) = rest.split_once('/').unwrap_or((rest, ""));
                (!name.is_empty()).then_some(Route::Ingest(name, tail))
            };
            console::find(other)
                .map(Route::Console)
                .or_else(|| one("/v1/objects/").map(Route::Object))
                .or_else(|| one("/v1/messages/").map(Route::Message))
                .or_else(ingest)
                .or_else(|| one("/v1/remap/").map(Route::Remap))
                .or_else(|| one("/v1/replay/").map(SteeringRoute::Replay).map(Route::Steering))
        }
    }
}

/// Whether only a concentrator with a history has the route.
pub(super) fn is_of_history(route: &Route<'_>) -> bool {
    matches!(route, Route::Messages | Route::Events | Route::Audit | Route::Message(_) | Route::Stream)
}

/// Whether the route asks for no key.
pub(super) fn is_open(route: &Option<Route<'_>>, source: Source) -> bool {
    match route {
        Some(Route::Health | Route::Ready | Route::Console(_)) => true,
        Some(Route::Metrics) => match source {
            Source::Network(address) => address.to_canonical().is_loopback(),
            Source::Local => true,
        },
        _ => false,
    }
}

/// What a key needs to be used here.
pub(super) fn right(route: &Route<'_>) -> Option<Right> {
    match route {
        Route::Health | Route::Ready | Route::Console(_) => None,
        Route::Metrics | Route::Status | Route::Objects | Route::Object(_) => Some(Right::Read),
        Route::Messages | Route::Events | Route::Audit | Route::Message(_) | Route::Stream => {
            Some(Right::Read)
        }
        Route::Ingest(..) => Some(Right::Ingest),
        Route::Post(BodyRoute::Request | BodyRoute::Command) => Some(Right::Request),
        Route::Steering(SteeringRoute::List) => Some(Right::Read),
        Route::Post(BodyRoute::Acl) | Route::Remap(_) | Route::Steering(_) => Some(Right::Admin),
    }
}

/// Whether the route does something to the messages or objects of all groups: no key of some groups may.
pub(super) fn is_of_all_groups(route: &Route<'_>) -> bool {
    right(route) == Some(Right::Admin)
}

/// 405 unless the route has this method.
pub(super) fn check_method(route: &Route<'_>, method: &str) -> Result<(), ApiError> {
    let (allowed, header) = match route {
        Route::Steering(SteeringRoute::List) => (method == "GET" || method == "HEAD", "GET, HEAD"),
        Route::Post(_) | Route::Ingest(..) | Route::Remap(_) | Route::Steering(_) => {
            (method == "POST", "POST")
        }
        _ => (method == "GET" || method == "HEAD", "GET, HEAD"),
    };
    if allowed {
        return Ok(());
    }
    let sentence = format!("the method must be {header} here");
    Err(ApiError::new(Cause::Route, 405, sentence).with_header("allow", header))
}

/// What the header says about the body: there must be one, of a type that is taken, at most so large.
pub(super) fn check_body(
    head: &Head<'_>,
    is_taken: impl FnOnce(&[u8]) -> bool,
    limit: usize,
) -> Result<(), ApiError> {
    match head.body {
        BodySize::Absent => {
            return Err(ApiError::new(Cause::NoBody, 411, "a body with Content-Length is needed"));
        }
        BodySize::Known(0) => return Err(ApiError::new(Cause::NoBody, 400, "the body is empty")),
        BodySize::Known(_) | BodySize::Chunked => {}
    }
    if !is_taken(head.content_type.unwrap_or_default()) {
        return Err(ApiError::new(Cause::MediaType, 415, "Content-Type must be application/json"));
    }
    match head.body {
        BodySize::Known(length) if length > limit as u64 => Err(too_large(limit)),
        _ => Ok(()),
    }
}

/// Whether a Content-Type is that of JSON.
pub(super) fn is_json(content_type: &[u8]) -> bool {
    let media = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    media.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// 413: more than so many bytes.
pub fn too_large(limit: usize) -> ApiError {
    ApiError::new(Cause::TooLarge, 413, format!("the body is larger than {limit} bytes"))
}
