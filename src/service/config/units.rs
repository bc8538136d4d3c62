//! What single values look like: durations, sizes, rates, addresses, URLs, choices.
//!
//! Every function checks one TOML value and ends a sentence ("must be …") when it cannot be used.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use hyper::Uri;
use toml::de::DeValue;

use super::report::{choices, nearest};
use crate::net::Network;
use crate::wire::{GroupName, parse_hex};

/// Bytes of a KiB, MiB and GiB.
pub(super) const KIB: u64 = 1024;
pub(super) const MIB: u64 = 1024 * KIB;
pub(super) const GIB: u64 = 1024 * MIB;

/// Longest duration anybody can mean; keeps sums of times far from overflow.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);
pub(super) const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
pub(super) const SIZE_UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", KIB), ("MiB", MIB), ("GiB", GIB)];

/// Messages and requests a second; `None`: no limit.
pub type Rate = Option<NonZeroU32>;

/// An absolute http or https URL with a host, without user, password or fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(Uri);

/// A time of day, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
}

impl Url {
    /// Checks a URL; the sentence does not repeat it, as URLs may hold secrets.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| "must be a URL like https://host/path".to_owned())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("must be a URL that starts with https:// or http://".to_owned());
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err("must not hold a user name or password".to_owned());
        }
        if text.contains('#') {
            return Err("must not hold a fragment (#…), which is never sent".to_owned());
        }
        match uri.host() {
            Some(host) if !host.is_empty() => Ok(Self(uri)),
            _ => Err("must name a host".to_owned()),
        }
    }

    /// The URL.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// The URL of something in the folder that this one names; the query stays.
    pub fn below(&self, name: &str) -> Result<Uri, String> {
        let query = self.0.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut parts = self.0.clone().into_parts();
        let path = format!("{}{name}{query}", self.0.path());
        parts.path_and_query = Some(path.parse().map_err(|_| "no URL can name it".to_owned())?);
        Uri::from_parts(parts).map_err(|_| "no URL can name it".to_owned())
    }

    /// Whether it is sent without TLS to another machine, for all between to read.
    pub fn is_exposed(&self) -> bool {
        let host = self.0.host().unwrap_or_default().trim_matches(['[', ']']);
        let loopback = host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
        self.0.scheme_str() == Some("http") && !loopback
    }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "must be true or false".to_owned())
}

pub(super) fn text(value: &DeValue<'_>) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "must be a text in quotes".to_owned())
}

/// A text of 1 to 255 bytes without control characters.
pub(super) fn name(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    match !text.is_empty() && text.len() <= 255 && !text.chars().any(char::is_control) {
        true => Ok(text),
        false => Err("must be a text of 1 to 255 bytes without control characters".to_owned()),
    }
}

pub(super) fn group_name(value: &DeValue<'_>) -> Result<GroupName, String> {
    parse_group_name(&text(value)?)
}

/// Group names also stand as names of tables.
pub(super) fn parse_group_name(text: &str) -> Result<GroupName, String> {
    match GroupName::parse(text) {
        Ok(name) if name.as_str().is_empty() => Err("must have a name".to_owned()),
        Ok(name) => Ok(name),
        Err(error) => Err(format!("{error}: no group can have this name")),
    }
}

/// A whole number in these bounds.
pub(super) fn count(min: usize, max: usize) -> impl Fn(&DeValue<'_>) -> Result<usize, String> {
    move |value| {
        let number = value.as_integer().and_then(|integer| {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|n| usize::try_from(n).ok())
        });
        number
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| format!("must be a whole number from {min} to {max}"))
    }
}

/// A percentage from 1 to 100.
pub(super) fn percent(value: &DeValue<'_>) -> Result<u8, String> {
    let number = count(1, 100)(value)?;
    u8::try_from(number).map_err(|_| "must be a whole number from 1 to 100".to_owned())
}

/// A duration of at least 1 ms.
pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration, String> {
    match duration_or_zero(value)? {
        Duration::ZERO => Err("must be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

/// A duration that may be zero, "0s".
pub(super) fn duration_or_zero(value: &DeValue<'_>) -> Result<Duration, String> {
    // What is no text is told the same as a text that is no duration.
    parse_duration(value.as_str().unwrap_or_default())
}

/// A duration as users write it, in the configuration and behind options: "10s", "100ms", "60min", "12h", "60d".
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a duration like \"10s\", \"100ms\", \"60min\", \"12h\" or \"60d\"".to_owned();
    let millis = with_unit(text, &DURATION_UNITS).ok_or_else(wrong)?;
    let duration = Duration::from_millis(millis);
    (duration <= DURATION_MAX).then_some(duration).ok_or_else(|| "must be at most 100 years".to_owned())
}

/// A size in these bounds, in bytes.
pub(super) fn size(bounds: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Result<u64, String> {
    move |value| {
        let wrong = || "must be a size like \"512B\", \"4KiB\", \"1MiB\" or \"2GiB\"".to_owned();
        let bytes = with_unit(value.as_str().ok_or_else(wrong)?, &SIZE_UNITS).ok_or_else(wrong)?;
        match bounds.contains(&bytes) {
            true => Ok(bytes),
            false => {
                Err(format!("must be from {} to {}", print_size(*bounds.start()), print_size(*bounds.end())))
            }
        }
    }
}

/// A size in these bounds that is held in memory.
pub(super) fn memory(bounds: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Result<usize, String> {
    let size = size(bounds);
    move |value| usize::try_from(size(value)?).map_err(|_| "is more than this machine can hold".to_owned())
}

/// A rate, "100/s"; zero is no limit.
pub(super) fn rate(value: &DeValue<'_>) -> Result<Rate, String> {
    let number = value.as_str().and_then(|text| text.strip_suffix("/s")).and_then(digits);
    let number = number.and_then(|number| u32::try_from(number).ok());
    number.map(NonZeroU32::new).ok_or_else(|| "must be a rate like \"100/s\" (\"0/s\": no limit)".to_owned())
}

/// An address and port to listen on; port 0 would be another one at each start.
pub(super) fn listen(value: &DeValue<'_>) -> Result<SocketAddr, String> {
    let address: Option<SocketAddr> = value.as_str().and_then(|text| text.parse().ok());
    match address {
        Some(address) if address.port() == 0 => Err("must have a port from 1 to 65535".to_owned()),
        Some(address) => Ok(address),
        None => Err("must be an IP address and port like \"0.0.0.0:50505\" or \"[::]:50505\"".to_owned()),
    }
}

pub(super) fn ip(value: &DeValue<'_>) -> Result<IpAddr, String> {
    let address = value.as_str().and_then(|text| text.parse().ok());
    address.ok_or_else(|| "must be an IP address".to_owned())
}

pub(super) fn network(value: &DeValue<'_>) -> Result<Network, String> {
    text(value)?.parse().map_err(|error| format!("{error}"))
}

pub(super) fn url(value: &DeValue<'_>) -> Result<Url, String> {
    Url::parse(&text(value)?)
}

/// SHA-256 as 64 hex digits of either case.
pub(super) fn sha256(value: &DeValue<'_>) -> Result<[u8; 32], String> {
    value.as_str().and_then(parse_hex).ok_or_else(|| "must be 64 hex digits".to_owned())
}

/// "HH:MM".
pub(super) fn time_of_day(value: &DeValue<'_>) -> Result<TimeOfDay, String> {
    let two_digits = |text: &str| (text.len() == 2).then(|| digits(text)).flatten();
    let parsed = value.as_str().and_then(|text| text.split_once(':')).and_then(|(hour, minute)| {
        let hour = two_digits(hour).filter(|hour| *hour < 24)?;
        let minute = two_digits(minute).filter(|minute| *minute < 60)?;
        Some(TimeOfDay { hour: u8::try_from(hour).ok()?, minute: u8::try_from(minute).ok()? })
    });
    parsed.ok_or_else(|| "must be a time of day like \"03:15\"".to_owned())
}

/// One of these words.
pub(super) fn one_of<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Result<T, String> {
    move |value| {
        let text = value.as_str().unwrap_or_default();
        if let Some((_, meant)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*meant);
        }
        let names = || words.iter().map(|(word, _)| *word);
        let mut sentence = format!("must be {}", choices(names()));
        if let Some(meant) = nearest(text, names()) {
            sentence.push_str(&format!("; did you mean `{meant}`?"));
        }
        Err(sentence)
    }
}

/// Digits and one of the units; nothing between, no sign, no fraction.
pub(super) fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(split)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits(number)?.checked_mul(*factor)
}

/// `u64::from_str` would also take a leading plus.
fn digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

fn print_size(bytes: u64) -> String {
    let unit = SIZE_UNITS.iter().rev().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    let (name, factor) = unit.copied().unwrap_or(("B", 1));
    format!("{}{name}", bytes / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses one TOML value and checks it.
    fn check<T>(text: &str, parse: impl Fn(&DeValue<'_>) -> Result<T, String>) -> Result<T, String> {
        parse(DeValue::parse(text).unwrap().get_ref())
    }

    #[test]
    fn durations() {
        let millis = |text| check(text, duration_or_zero).ok().map(|duration| duration.as_millis());
        assert_eq!(millis("\"100ms\""), Some(100));
        assert_eq!(millis("\"0s\""), Some(0));
        assert_eq!(millis("\"60min\""), Some(3_600_000));
        assert_eq!(millis("\"12h\""), Some(43_200_000));
        assert_eq!(millis("\"60d\""), Some(5_184_000_000));
        assert_eq!(millis("\"36500d\""), Some(3_153_600_000_000));
        for wrong in ["10", "\"10\"", "\"10 s\"", "\"-1s\"", "\"+1s\"", "\"1.5s\"", "\"s\"", "\"\"", "\"1S\""]
        {
            assert_eq!(millis(wrong), None, "{wrong}");
        }
        for wrong in ["\"36501d\"", "\"99999999999999999999s\"", "\"18446744073709551615d\""] {
            assert_eq!(millis(wrong), None, "{wrong}");
        }
        assert!(check("\"0s\"", duration).is_err());
        assert!(check("\"1ms\"", duration).is_ok());
    }

    #[test]
    fn sizes_at_their_edges() {
        let within = |text| check(text, size(11..=65_507));
        assert_eq!(within("\"11B\""), Ok(11));
        assert_eq!(within("\"4KiB\""), Ok(4096));
        assert_eq!(within("\"65507B\""), Ok(65_507));
        assert_eq!(within("\"10B\"").unwrap_err(), "must be from 11B to 65507B");
        assert!(within("\"65508B\"").is_err());
        assert!(within("\"4KB\"").is_err());
        assert!(within("4096").is_err());
        assert!(check("\"20000000000GiB\"", size(0..=u64::MAX)).is_err());
        assert_eq!(check("\"2GiB\"", size(1..=2 * GIB)), Ok(2 * GIB));
        assert_eq!(check("\"3GiB\"", size(KIB..=2 * GIB)).unwrap_err(), "must be from 1KiB to 2GiB");
    }

    #[test]
    fn rates() {
        assert_eq!(check("\"0/s\"", rate), Ok(None));
        assert_eq!(check("\"5/s\"", rate), Ok(NonZeroU32::new(5)));
        assert_eq!(check("\"4294967295/s\"", rate), Ok(NonZeroU32::new(u32::MAX)));
        for wrong in ["5", "\"5\"", "\"5/min\"", "\"-5/s\"", "\"4294967296/s\""] {
            assert!(check(wrong, rate).is_err(), "{wrong}");
        }
    }

    #[test]
    fn counts_at_their_edges_and_in_every_base() {
        assert_eq!(check("1", count(1, 9)), Ok(1));
        assert_eq!(check("9", count(1, 9)), Ok(9));
        assert_eq!(check("0x9", count(1, 9)), Ok(9));
        for wrong in ["0", "10", "-1", "1.0", "\"1\"", "99999999999999999999"] {
            assert!(check(wrong, count(1, 9)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_to_listen_on() {
        assert!(check("\"127.0.0.1:1\"", listen).is_ok());
        assert!(check("\"[::]:65535\"", listen).is_ok());
        assert_eq!(check("\"0.0.0.0:0\"", listen).unwrap_err(), "must have a port from 1 to 65535");
        for wrong in ["\"0.0.0.0:65536\"", "\"0.0.0.0\"", "\"localhost:1\"", "443"] {
            assert!(check(wrong, listen).is_err(), "{wrong}");
        }
    }

    #[test]
    fn urls() {
        let exposed = |text| Url::parse(text).map(|url| url.is_exposed());
        assert_eq!(exposed("https://central.example/request"), Ok(false));
        assert_eq!(exposed("http://central.example/request"), Ok(true));
        assert_eq!(exposed("http://localhost:8080/"), Ok(false));
        assert_eq!(exposed("http://127.1.2.3/"), Ok(false));
        assert_eq!(exposed("http://[::1]:80/x"), Ok(false));
        assert_eq!(exposed("http://localhost.example/"), Ok(true));
        for wrong in
            ["", "/path", "ftp://host/", "host:80", "https://", "https://user:secret@host/", "https://h/#f"]
        {
            let sentence = exposed(wrong).unwrap_err();
            assert!(!sentence.contains("secret"), "{sentence}");
        }
    }

    #[test]
    fn a_file_in_a_folder_has_its_name_before_the_query() {
        let below = |text| Url::parse(text).unwrap().below("a.b").unwrap().to_string();
        assert_eq!(below("https://host/backups/"), "https://host/backups/a.b");
        assert_eq!(below("https://host:1/b/?sig=x%2F"), "https://host:1/b/a.b?sig=x%2F");
    }

    #[test]
    fn times_of_day() {
        assert_eq!(check("\"03:15\"", time_of_day), Ok(TimeOfDay { hour: 3, minute: 15 }));
        assert_eq!(check("\"23:59\"", time_of_day), Ok(TimeOfDay { hour: 23, minute: 59 }));
        for wrong in ["\"24:00\"", "\"03:60\"", "\"3:15\"", "\"0315\"", "03:15:00", "\"+3:15\""] {
            assert!(check(wrong, time_of_day).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_near_word_is_suggested() {
        let words = one_of(&[("required", 1), ("optional", 2)]);
        assert_eq!(check("\"optional\"", &words), Ok(2));
        assert_eq!(
            check("\"requierd\"", &words).unwrap_err(),
            "must be `required` or `optional`; did you mean `required`?"
        );
        assert_eq!(check("true", &words).unwrap_err(), "must be `required` or `optional`");
    }

    #[test]
    fn group_names_have_1_to_16_bytes() {
        assert!(check("\"0123456789abcdef\"", group_name).is_ok());
        assert!(check("\"0123456789abcdefg\"", group_name).is_err());
        assert!(check("\"\"", group_name).is_err());
    }
}
