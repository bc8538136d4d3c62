//! Paths and queries: percent-encoding, and values that are refused by name.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;

use super::error::ApiError;
use crate::wire::{GroupName, Uid};

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

/// Digits only: `parse` alone would take a sign.
pub fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A whole number from 1 to `max`; the name left out: none.
pub fn count(query: &str, name: &str, max: usize) -> Result<Option<usize>, ApiError> {
    let Some(text) = value(query, name)? else {
        return Ok(None);
    };
    let count = number(&text).and_then(|number| usize::try_from(number).ok());
    count.filter(|count| (1..=max).contains(count)).map(Some).ok_or_else(|| {
        ApiError::content(format!("\"{name}\" in the query must be a whole number from 1 to {max}"))
    })
}

/// A length of time with its unit, as in the configuration; the name left out: none.
pub fn span(query: &str, name: &str) -> Result<Option<Duration>, ApiError> {
    let Some(text) = value(query, name)? else {
        return Ok(None);
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at_checked(digits).unwrap_or_default();
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "min" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let whole = (!digits.is_empty()).then(|| digits.parse().unwrap_or(u64::MAX));
    // One too long for the machine is as good as the longest.
    whole
        .zip(millis)
        .map(|(whole, millis)| Some(Duration::from_millis(whole.saturating_mul(millis))))
        .ok_or_else(|| {
            ApiError::content(format!("\"{name}\" in the query must be a time like 500ms, 20s or 1min"))
        })
}

/// A moment in microseconds since 1970; the name left out or empty: none.
pub fn time(query: &str, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = value(query, name)?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    // The plus of an offset, typed as it is, comes out of a query as a space.
    let moment = text.replace(' ', "+").parse::<Timestamp>();
    moment.map(|moment| Some(moment.as_microsecond())).map_err(|_| {
        ApiError::content(format!(
            "\"{name}\" in the query must be a time with its offset as in RFC 3339, like 2026-11-21T18:52:42Z"
        ))
    })
}

/// A group; the name left out or empty: none.
pub fn group(query: &str, name: &str) -> Result<Option<GroupName>, ApiError> {
    match value(query, name)?.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => GroupName::parse(&text)
            .map(Some)
            .map_err(|error| ApiError::content(format!("\"{name}\" in the query {error}"))),
    }
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

    fn assert_refused<T: std::fmt::Debug>(result: Result<T, ApiError>, name: &str, text: &str) {
        let error = result.expect_err(text);
        assert!(error.status == 400 && error.sentence.contains(&format!("\"{name}\"")), "{text}");
    }

    #[test]
    fn counts_are_whole_numbers_in_their_range() {
        assert_eq!(count("", "limit", 1000).unwrap(), None);
        assert_eq!(count("limit=1000", "limit", 1000).unwrap(), Some(1000));
        for bad in ["0", "1001", "-1", "+1", "1.0", "", "x", "99999999999999999999999"] {
            assert_refused(count(&format!("limit={bad}"), "limit", 1000), "limit", bad);
        }
    }

    #[test]
    fn spans_have_a_unit() {
        let span = |text: &str| span(&format!("wait={text}"), "wait");
        for (text, seconds) in
            [("0s", 0.0), ("500ms", 0.5), ("20s", 20.0), ("2min", 120.0), ("1h", 3600.0), ("1d", 86_400.0)]
        {
            assert_eq!(span(text).unwrap().unwrap().as_secs_f64(), seconds, "{text}");
        }
        assert!(span("99999999999999999999999s").unwrap().unwrap().as_secs() > 1 << 50);
        for bad in ["", "20", "s", "-1s", "1.5s", "1 s", "1w", "é"] {
            assert_refused(span(bad), "wait", bad);
        }
    }

    #[test]
    fn times_have_an_offset() {
        let time = |text: &str| time(&format!("from={text}"), "from");
        for same in [
            "2026-11-21T18:52:42.5Z",
            "2026-11-21T19:52:42.5+01:00",
            "2026-11-21T19%3A52%3A42.500%2B01:00",
            "2026-11-21T17:52:42.5-01:00",
        ] {
            assert_eq!(time(same).unwrap(), Some(1_795_287_162_500_000), "{same}");
        }
        assert_eq!(time("").unwrap(), None);
        for bad in ["yesterday", "2026-11-21", "2026-11-21T18:52:42", "2026-13-21T18:52:42Z", "0", "é"] {
            assert_refused(time(bad), "from", bad);
        }
    }

    #[test]
    fn groups_have_at_most_16_bytes() {
        assert_eq!(group("group=a%20b", "group").unwrap(), Some(GroupName::parse("a b").unwrap()));
        assert_eq!(group("group=", "group").unwrap(), None);
        assert_refused(group("group=12345678901234567", "group"), "group", "too long");
    }

    #[test]
    fn uids_have_at_most_16_bytes() {
        assert_eq!(uid("after=caf%C3%A9", "after").unwrap(), Some(Uid::parse("café").unwrap()));
        assert_eq!(uid("after=", "after").unwrap(), None);
        assert!(uid("after=12345678901234567", "after").unwrap_err().sentence.contains("\"after\""));
    }
}
