//! The manifest of a file of the archive, and their names.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::DAY_US;
use crate::journal::Seq;
use crate::wire::GroupName;

/// The version that is written here.
pub(super) const FORMAT: u32 = 1;

/// What lies beside each file of the archive. Fields may be added; none is ever taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub format: u32,
    /// The journal that it came from, in hex digits.
    pub journal: String,
    /// As in the file's name.
    pub day: String,
    pub group: String,
    pub part: u32,
    /// The file that it is about.
    pub file: String,
    pub messages: u64,
    pub first_seq: Seq,
    pub last_seq: Seq,
    /// Of the file.
    pub bytes: u64,
    pub sha256: String,
    /// Of what `zcat` makes of it.
    pub content_bytes: u64,
    pub content_sha256: String,
    pub segments: Vec<Share>,
}

/// Messages that came from one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Share {
    pub segment: u64,
    pub messages: u64,
}

/// `2026-11-21`, of days since 1970.
pub(super) fn day_name(day: i64) -> String {
    let nearest = if day < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    let start = jiff::Timestamp::from_microsecond(day.saturating_mul(DAY_US)).unwrap_or(nearest);
    start.strftime("%Y-%m-%d").to_string()
}

/// Days since 1970 of a name.
pub(super) fn day_of(name: &str) -> Option<i64> {
    let start: jiff::Timestamp = format!("{name}T00:00:00Z").parse().ok()?;
    Some(start.as_microsecond().div_euclid(DAY_US))
}

/// The name of a file without its ending: letters and digits of the group stay, each other byte is `-` and two hex
/// digits.
pub(super) fn stem(day: i64, group: GroupName, part: u32) -> String {
    let mut name = day_name(day) + ".";
    for byte in group.as_str().bytes() {
        if byte.is_ascii_alphanumeric() {
            name.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            _ = write!(name, "-{byte:02x}");
        }
    }
    if part > 1 {
        _ = write!(name, ".{part}");
    }
    name
}

/// Hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_groups_have_names_of_their_own() {
        for (day, name) in [(0, "1970-01-01"), (20_413, "2025-11-21"), (-1, "1969-12-31")] {
            assert_eq!((day_name(day).as_str(), day_of(name)), (name, Some(day)));
        }
        assert_eq!(day_of("2025-13-21"), None);
        let stem = |group, part| stem(0, GroupName::parse(group).unwrap(), part);
        assert_eq!(stem("Devices", 1), "1970-01-01.Devices");
        assert_eq!(stem("Devices", 12), "1970-01-01.Devices.12");
        assert_eq!(stem("a.2/é-", 1), "1970-01-01.a-2e2-2f-c3-a9-2d");
        assert!(day_name(i64::MAX).starts_with("9999"));
    }
}
