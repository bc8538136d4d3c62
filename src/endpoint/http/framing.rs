//! What a head says about where its request ends, whom it is for and who asks: what could be understood in two ways is
//! refused, as another party on the way may understand it in the other.

use hyper::Version;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, TRANSFER_ENCODING};
use hyper::http::request::Parts;

use super::error::{ApiError, Cause};
use super::guarded::Watch;

/// Refuses a head that is not clear.
pub(super) fn check(head: &Parts, watch: &Watch) -> Result<(), ApiError> {
    let refused = |status, sentence| Err(ApiError::new(Cause::Framing, status, sentence));
    let count = |name: HeaderName| head.headers.get_all(name).iter().count();
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if watch.has_stray_content_length() {
            return refused(400, "a request must not have both Content-Length and Transfer-Encoding");
        }
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return refused(501, "the only Transfer-Encoding that is taken is \"chunked\", once");
        }
    }
    match count(HOST) {
        1 => {}
        0 if head.version != Version::HTTP_11 => {}
        _ => return refused(400, "a request must have one Host header"),
    }
    if count(AUTHORIZATION) > 1 {
        return refused(400, "a request must not have more than one Authorization header");
    }
    Ok(())
}
