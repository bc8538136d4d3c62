//! Times as they are typed: "500ms", "10s", "5min", "1h".

use std::time::Duration;

/// Reads a whole number and its unit: ms, s, min or h.
pub fn parse_span(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "is not a time like 500ms, 10s, 5min or 1h";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or(WRONG)?;
    let number: u64 = number.parse().map_err(|_| WRONG)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(WRONG),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or(WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        assert_eq!(parse_span("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_span("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_span("2min"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_span("1h"), Ok(Duration::from_secs(3600)));
        for wrong in ["", "10", "s", "-1s", "1.5s", "1 s", "99999999999999999h"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
    }
}
