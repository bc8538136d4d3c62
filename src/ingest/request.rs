//! A request as values, and what else than its body may hold fields.

use std::borrow::Cow;

/// Headers that some format reads, in lower case; no other need be kept.
pub const HEADERS: [&str; 9] = [
    "idempotency-key",
    "x-soracom-imsi",
    "x-soracom-imei",
    "x-soracom-sim-id",
    "x-soracom-msisdn",
    "x-soracom-timestamp",
    "x-soracom-sigfox-device-id",
    "x-soracom-lora-device-id",
    "x-soracom-signature-version",
];

/// A request to a source.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What stands in the path behind the source's name and a slash, percent-encoded, or nothing.
    pub tail: &'a str,
    /// What stands behind the question mark, or nothing.
    pub query: &'a str,
    /// Names in lower case and values; those of [`HEADERS`].
    pub headers: &'a [(String, String)],
    /// The header's value.
    pub content_type: &'a str,
    /// The body.
    pub body: &'a [u8],
}

impl Request<'_> {
    /// The value of a header that is not empty.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// The first value of a name in the query, decoded.
    pub(super) fn in_query(&self, name: &str) -> Option<String> {
        pairs(self.query).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The last part of the path behind the source's name, decoded.
    pub(super) fn last_of_tail(&self) -> Option<Cow<'_, str>> {
        let last = self.tail.rsplit('/').next().filter(|last| !last.is_empty());
        last.map(|last| decode(last).unwrap_or(Cow::Borrowed(last)))
    }

    /// The media type without its parameters, in lower case.
    pub(super) fn media_type(&self) -> Cow<'_, str> {
        media_type(self.content_type)
    }
}

/// The media type that a Content-Type names, without its parameters, in lower case.
pub fn media_type(content_type: &str) -> Cow<'_, str> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    match media_type.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(media_type.to_ascii_lowercase()),
        false => Cow::Borrowed(media_type),
    }
}

/// Names and values of a query or of a posted form, decoded. What cannot be decoded stays as it is.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescape(name), unescape(value))
    })
}

fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    match decode(&spaced) {
        Some(Cow::Owned(decoded)) => Cow::Owned(decoded),
        Some(Cow::Borrowed(_)) => Cow::Owned(spaced),
        None => Cow::Borrowed(text),
    }
}

/// Undoes percent-encoding; `None` if it is broken or what it says is not UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let ([high, low], behind) = rest.split_first_chunk()?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        decoded.push(digit(*high)? << 4 | digit(*low)?);
        rest = behind;
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded_and_broken_escapes_stay() {
        let read: Vec<_> = pairs("a=1&b=x%20y+z&c&=d&%C3%A9=%2&f=%ff").collect();
        let texts: Vec<_> = read.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        assert_eq!(texts, [("a", "1"), ("b", "x y z"), ("c", ""), ("", "d"), ("é", "%2"), ("f", "%ff")]);
    }

    #[test]
    fn parts_of_a_request() {
        let headers = [("x-soracom-imsi".to_owned(), " 1 ".to_owned())];
        let request = Request {
            tail: "up/de%76-1",
            query: "event=up&event=join",
            headers: &headers,
            content_type: "Application/JSON; charset=utf-8",
            body: b"",
        };
        assert_eq!(request.last_of_tail().as_deref(), Some("dev-1"));
        assert_eq!(request.in_query("event").as_deref(), Some("up"));
        assert_eq!(request.header("x-soracom-imsi"), Some("1"));
        assert_eq!(request.media_type(), "application/json");
    }
}
