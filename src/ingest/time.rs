//! Times of networks: microseconds since 1970, and what is odd about them.

use jiff::Timestamp;

use super::outcome::Flag;

/// Before 2016 none of these networks was in use: an earlier time comes from a clock that was never set.
const EARLIEST_US: i64 = 1_451_606_400_000_000;
/// How far a network's clock may be ahead of ours.
const AHEAD_MAX_US: i64 = 300 * 1_000_000;
/// A message that is on its way for longer was held by its network, or by the device.
const LATE_US: i64 = 3_600 * 1_000_000;

/// RFC 3339, with its offset.
pub fn of_text(text: &str) -> Option<i64> {
    text.trim().parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
}

/// A number of units of so many microseconds; `None` outside of the calendar.
pub fn of_units(number: i64, unit_us: i64) -> Option<i64> {
    let us = number.checked_mul(unit_us)?;
    Timestamp::from_microsecond(us).ok()?;
    (us >= 0).then_some(us)
}

/// A number whose unit is told by its size: seconds, milliseconds, microseconds or nanoseconds since 1970.
pub fn of_number(number: i64) -> Option<i64> {
    const SECONDS_MAX: i64 = 100_000_000_000;
    match number {
        _ if number < SECONDS_MAX => of_units(number, 1_000_000),
        _ if number < SECONDS_MAX * 1_000 => of_units(number, 1_000),
        _ if number < SECONDS_MAX * 1_000_000 => of_units(number, 1),
        _ => of_units(number / 1_000, 1),
    }
}

/// RFC 3339 in UTC, with microseconds.
pub fn to_text(time_us: i64) -> Option<String> {
    Timestamp::from_microsecond(time_us).ok().map(|time| format!("{time:.6}"))
}

/// What is odd about a network's time at this moment; `None`: the machine does not know what time it is.
pub fn flag(time_us: i64, now_us: Option<i64>) -> Option<Flag> {
    if time_us < EARLIEST_US {
        return Some(Flag::UnsetTime);
    }
    let lead = time_us.saturating_sub(now_us?);
    match lead {
        _ if lead > AHEAD_MAX_US => Some(Flag::FutureTime),
        _ if lead < -LATE_US => Some(Flag::Backfill),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_287_162_000_000;

    #[test]
    fn texts_have_an_offset() {
        assert_eq!(of_text("2026-11-21T18:52:42Z"), Some(NOW));
        assert_eq!(of_text("2026-11-21T19:52:42.000+01:00"), Some(NOW));
        assert_eq!(of_text("2026-11-21T18:52:42.123456789Z"), Some(NOW + 123_456));
        for wrong in ["2026-11-21T18:52:42", "2026-11-21", "18:52", "", "yesterday"] {
            assert_eq!(of_text(wrong), None, "{wrong}");
        }
        assert_eq!(to_text(NOW).as_deref(), Some("2026-11-21T18:52:42.000000Z"));
    }

    #[test]
    fn the_size_of_a_number_tells_its_unit() {
        for factor in [1, 1_000, 1_000_000, 1_000_000_000] {
            assert_eq!(of_number(1_795_287_162 * factor), Some(NOW), "{factor}");
        }
        assert_eq!(of_number(0), Some(0));
        assert_eq!(of_number(-1), None);
        assert_eq!(of_units(i64::MAX, 1_000_000), None);
        assert_eq!(of_units(253_402_300_800, 1_000_000), None, "the year 10000");
    }

    #[test]
    fn odd_times_are_flagged_at_their_edges() {
        assert_eq!(flag(0, None), Some(Flag::UnsetTime));
        assert_eq!(flag(EARLIEST_US - 1, Some(NOW)), Some(Flag::UnsetTime));
        assert_eq!(flag(EARLIEST_US, Some(NOW)), Some(Flag::Backfill));
        assert_eq!(flag(NOW - LATE_US, Some(NOW)), None);
        assert_eq!(flag(NOW - LATE_US - 1, Some(NOW)), Some(Flag::Backfill));
        assert_eq!(flag(NOW + AHEAD_MAX_US, Some(NOW)), None);
        assert_eq!(flag(NOW + AHEAD_MAX_US + 1, Some(NOW)), Some(Flag::FutureTime));
        assert_eq!(flag(NOW + AHEAD_MAX_US + 1, None), None, "who does not know the time cannot tell");
    }
}
