//! Refusals of the API: a status, a sentence that names what is wrong, and the cause it is counted under.

use std::borrow::Cow;

use super::reply::Reply;
use crate::endpoint::refusals;

/// Why a request was refused or a connection ended early; the names appear in status and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// 403: the source's network may not use the API, or not this key.
    SourceNetwork,
    /// 401.
    Key,
    /// 404 or 405.
    Route,
    /// 403: the key lacks the right.
    Right,
    /// 404: no such object or message, or none that the key sees.
    Object,
    /// 415.
    MediaType,
    /// 411, or 400 for an empty body.
    NoBody,
    /// 400: what the body or the query says.
    Content,
    /// 413.
    TooLarge,
    /// 408.
    SlowBody,
    /// 502: the object's answer is not what its format says.
    Answer,
    /// 503: the access list could not be written, or the journal not read.
    Storage,
    /// A head that can be understood in two ways: Content-Length beside Transfer-Encoding, two keys, no Host.
    Framing,
    /// What the HTTP parser refused.
    Parser,
    /// The header, or the next one, did not come in time.
    SlowHeader,
    /// The answer was not taken in time.
    SlowReader,
    /// The TLS handshake failed or did not end in time.
    Handshake,
    /// No place: authenticated connections hold them all.
    Full,
    /// Pushed out by a newcomer before it showed a key.
    PushedOut,
    /// The listener could not accept.
    Accept,
    /// 429: more than a source may send.
    Rate,
    /// 422 or 429: the rules of the object's group.
    Group,
}

impl refusals::Cause for Cause {
    const NAMES: &'static [&'static str] = &[
        "source_network",
        "key",
        "route",
        "right",
        "object",
        "media_type",
        "no_body",
        "content",
        "too_large",
        "slow_body",
        "answer",
        "storage",
        "framing",
        "parser",
        "slow_header",
        "slow_reader",
        "handshake",
        "full",
        "pushed_out",
        "accept",
        "rate",
        "group",
    ];

    fn index(self) -> usize {
        self as usize
    }
}

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Counted under this.
    pub cause: Cause,
    /// HTTP status.
    pub status: u16,
    /// Tells the caller what to change. Holds no secret.
    pub sentence: Cow<'static, str>,
    /// A header that the status calls for.
    pub header: Option<(&'static str, &'static str)>,
}

impl ApiError {
    /// A refusal without a header of its own.
    pub fn new(cause: Cause, status: u16, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self { cause, status, sentence: sentence.into(), header: None }
    }

    /// 400: what the caller wrote is wrong.
    pub fn content(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Cause::Content, 400, sentence)
    }

    /// The same refusal with a header.
    pub fn with_header(self, name: &'static str, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// What the caller gets: `{"error": "…"}`.
    pub fn reply(&self) -> Reply {
        #[derive(serde::Serialize)]
        struct Body<'a> {
            error: &'a str,
        }
        let mut reply = Reply::json(self.status, &Body { error: &self.sentence });
        reply.header = self.header;
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::refusals::Cause as _;

    #[test]
    fn every_cause_has_its_name() {
        assert_eq!(Cause::NAMES.len(), Cause::Group.index() + 1);
        assert_eq!(Cause::NAMES[Cause::SlowReader.index()], "slow_reader");
        assert_eq!(Cause::NAMES[Cause::Storage.index()], "storage");
    }

    #[test]
    fn the_body_is_json_whatever_the_sentence_holds() {
        let reply = ApiError::content("\"UID\" \"a\nb\" is unknown").reply();
        assert_eq!(
            (reply.status, &reply.body[..]),
            (400, &br#"{"error":"\"UID\" \"a\nb\" is unknown"}"#[..])
        );
    }
}
