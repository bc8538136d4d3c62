//! Any head on any route, with any body: an answer of a status that is documented, and never one without the right to it.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use iotsocketd::endpoint::http::Reply;
use iotsocketd::endpoint::http::api::{Api, BodySize, Decision, Head, Source};
use iotsocketd::wire::AuthKey;

use super::api_json::{Echo, api_of};

const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get"];
const PATHS: [&str; 22] = [
    "/request",
    "/acl",
    "/v1/commands",
    "/v1/objects",
    "/v1/objects/",
    "/v1/messages",
    "/v1/messages/",
    "/v1/audit",
    "/v1/events",
    "/v1/stream",
    "/v1/status",
    "/v1/deadletters",
    "/v1/deadletters/replay",
    "/v1/deadletters/drop",
    "/v1/ingest/",
    "/v1/remap/",
    "/v1/replay/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/",
    "",
];
const TYPES: [Option<&str>; 4] =
    [None, Some("application/json"), Some("text/plain"), Some("application/json; charset=utf-8")];

thread_local! {
    static API: (Api, Arc<Echo>) = api_of(AuthKey([1; 16]));
}

/// Four bytes choose; up to line breaks come the rest of the path, the query and a header; then the body.
pub fn http(data: &[u8]) {
    let Some(([method, path, kind, flags], rest)) = data.split_first_chunk() else { return };
    let mut parts = rest.splitn(4, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (tail, query, header, body) = (part(), part(), part(), part());
    let (Ok(tail), Ok(query)) = (std::str::from_utf8(tail), std::str::from_utf8(query)) else { return };
    let path = format!("{}{tail}", PATHS[usize::from(*path) % PATHS.len()]);
    let bearer = b"Bearer 01010101010101010101010101010101";
    let is_allowed = flags & 1 == 1;
    let length = u64::from_be_bytes([*flags; 8]);
    let head = Head {
        method: METHODS[usize::from(*method) % METHODS.len()],
        path: &path,
        query,
        authorization: if is_allowed { Some(&bearer[..]) } else { Some(header) },
        content_type: TYPES[usize::from(*kind) % TYPES.len()].map(str::as_bytes),
        last_event_id: (flags & 2 != 0).then_some(header),
        headers: &[("x-soracom-imsi", header)],
        body: match flags >> 2 & 3 {
            0 => BodySize::Absent,
            1 => BodySize::Chunked,
            2 => BodySize::Known(length),
            _ => BodySize::Known(body.len() as u64),
        },
    };
    API.with(|(api, echo)| {
        let judged = api.judge(&head, Source::Network([127, 0, 0, 1].into()));
        assert!(is_allowed || judged.key.is_none() || header == &bearer[..], "a key from nowhere");
        match judged.outcome {
            Ok(Decision::Reply(reply)) => check(&reply, 200..=299),
            Err(error) => check(&error.reply(), 400..=599),
            Ok(Decision::Body(expected)) => {
                assert!(is_allowed || header == &bearer[..], "a body for nobody");
                if body.len() <= expected.limit
                    && let Poll::Ready(outcome) =
                        pin!(api.finish(expected, body)).poll(&mut Context::from_waker(Waker::noop()))
                {
                    check(&outcome.unwrap_or_else(|error| error.reply()), 200..=599);
                }
                echo.take();
            }
            Ok(Decision::Recall(_) | Decision::Follow(_) | Decision::Act(_)) => {
                assert!(is_allowed || header == &bearer[..], "the history for nobody");
            }
        }
    });
}

fn check(reply: &Reply, statuses: std::ops::RangeInclusive<u16>) {
    assert!(statuses.contains(&reply.status), "{reply:?}");
    if reply.status >= 400 {
        assert!(reply.body.starts_with(b"{\"error\":\""), "{reply:?}");
    }
}
