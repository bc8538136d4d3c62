//! Paths and queries: percent-encoding, and values that are refused by name.

use std::borrow::Cow;

use super::error::ApiError;
use crate::wire::Uid;

/// Undoes percent-encoding; `None` if it is broken or what it says is not UTF-8.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
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

/// The value of a name in a query, decoded; `+` is a space.
pub fn value(query: &str, name: &str) -> Result<Option<String>, ApiError> {
    let mut found = None;
    for pair in query.split('&') {
        let (key, text) = pair.split_once('=').unwrap_or((pair, ""));
        if decode(key).as_deref() != Some(name) {
            continue;
        }
        let text = text.replace('+', " ");
        let text = decode(&text).ok_or_else(|| {
            ApiError::content(format!("\"{name}\" in the query is not percent-encoded UTF-8"))
        })?;
        if found.replace(text.into_owned()).is_some() {
            return Err(ApiError::content(format!("\"{name}\" stands twice in the query")));
        }
    }
    Ok(found)
}

/// A whole number from 1 to `max`; without the name: `otherwise`.
pub fn limit(query: &str, max: usize, otherwise: usize) -> Result<usize, ApiError> {
    let Some(text) = value(query, "limit")? else {
        return Ok(otherwise);
    };
    // Digits only: `parse` alone would take a sign.
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    number.filter(|number| (1..=max).contains(number)).ok_or_else(|| {
        ApiError::content(format!("\"limit\" in the query must be a whole number from 1 to {max}"))
    })
}

/// A UID; the name left out or empty: none.
pub fn uid(query: &str, name: &str) -> Result<Option<Uid>, ApiError> {
    match value(query, name)? {
        None => Ok(None),
        Some(text) => Uid::parse(&text)
            .map(|uid| Some(uid).filter(|uid| !uid.is_central()))
            .map_err(|error| ApiError::content(format!("\"{name}\" in the query {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone_or_refused() {
        assert_eq!(decode("a%2Fb%c3%A9").as_deref(), Some("a/bé"));
        assert_eq!(decode("a+b").as_deref(), Some("a+b"));
        for broken in ["%", "%2", "%zz", "%ff", "a%+1"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    #[test]
    fn values_are_found_and_their_names_told() {
        assert_eq!(value("a=1&b=x%20y+z&c", "b").unwrap().as_deref(), Some("x y z"));
        assert_eq!(value("a=1", "b").unwrap(), None);
        assert_eq!(value("c", "c").unwrap().as_deref(), Some(""));
        for query in ["b=%ff", "b=1&b=2"] {
            assert!(value(query, "b").unwrap_err().sentence.contains("\"b\""));
        }
    }

    #[test]
    fn limits_are_whole_numbers_in_their_range() {
        assert_eq!(limit("", 1000, 100).unwrap(), 100);
        assert_eq!(limit("limit=1000", 1000, 100).unwrap(), 1000);
        for bad in ["0", "1001", "-1", "+1", "1.0", "", "x", "99999999999999999999999"] {
            let error = limit(&format!("limit={bad}"), 1000, 100).unwrap_err();
            assert!(error.status == 400 && error.sentence.contains("\"limit\""), "{bad}");
        }
    }

    #[test]
    fn uids_have_at_most_16_bytes() {
        assert_eq!(uid("after=caf%C3%A9", "after").unwrap(), Some(Uid::parse("café").unwrap()));
        assert_eq!(uid("after=", "after").unwrap(), None);
        assert!(uid("after=12345678901234567", "after").unwrap_err().sentence.contains("\"after\""));
    }
}
