//! What the program writes to its medium, and how long the medium bears that.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::hub::status::Wear;

/// How often the whole of a medium can be written: what cheap cards bear.
const REWRITES: f64 = 1_000.0;
/// Bytes that the medium writes inside for each that it gets.
const AMPLIFICATION: f64 = 4.0;
/// An average over less tells nothing about a day.
const UPTIME_MIN: Duration = Duration::from_secs(3600);
const DAY: f64 = 86_400.0;
const YEAR_DAYS: f64 = 365.25;

/// Where the kernel tells how much of the life of the medium below this folder is used. Only eMMC does.
pub fn life_time_file(folder: &Path) -> Option<PathBuf> {
    let device = fs::metadata(folder).ok()?.dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    let block = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    // A partition lies in its medium's folder.
    block.ancestors().take(2).map(|folder| folder.join("device/life_time")).find(|file| file.exists())
}

/// The state of a medium of so many bytes, after so long.
pub fn wear(uptime: Duration, total: u64, life_time: Option<&Path>) -> Option<Wear> {
    let written = written(&fs::read_to_string("/proc/self/io").ok()?)?;
    let life_used = life_time.and_then(|file| life_used(&fs::read_to_string(file).ok()?));
    Some(judge(uptime, total, written, life_used))
}

fn judge(uptime: Duration, total: u64, written: u64, life_used: Option<u8>) -> Wear {
    let per_day = (uptime >= UPTIME_MIN).then(|| written as f64 / uptime.as_secs_f64() * DAY);
    let left = 1.0 - f64::from(life_used.unwrap_or_default()) / 100.0;
    let years = per_day
        .filter(|per_day| *per_day > 0.0 && total > 0)
        .map(|per_day| total as f64 * REWRITES * left / (per_day * AMPLIFICATION) / YEAR_DAYS);
    Wear {
        written_bytes: written,
        written_per_day_bytes: per_day.map(|per_day| per_day as u64),
        life_used_percent: life_used,
        years_left: years,
    }
}

/// From the kernel's account of the process.
fn written(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
}

/// Two numbers in tenths of the life, rounded up, for two kinds of memory; 0: not told.
fn life_used(text: &str) -> Option<u8> {
    let tenths =
        text.split_whitespace().filter_map(|word| u8::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    tenths.max().filter(|tenths| *tenths > 0).map(|tenths| tenths.min(10) * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forecast_goes_by_what_was_written_and_what_is_left() {
        let day = Duration::from_secs(86_400);
        let fresh = judge(day, 32_000_000_000, 8_000_000_000, None);
        assert_eq!(fresh.written_per_day_bytes, Some(8_000_000_000));
        let years = fresh.years_left.unwrap();
        assert!((years - 1_000.0 / YEAR_DAYS).abs() < 1e-9, "{years}");
        let worn = judge(day, 32_000_000_000, 8_000_000_000, Some(50)).years_left.unwrap();
        assert!((worn - years / 2.0).abs() < 1e-9, "{worn}");
    }

    #[test]
    fn without_enough_to_go_by_there_is_no_forecast() {
        let short = judge(UPTIME_MIN - Duration::from_millis(1), 1, 1, None);
        assert_eq!((short.written_bytes, short.written_per_day_bytes, short.years_left), (1, None, None));
        assert!(judge(UPTIME_MIN, 1, 1, None).years_left.is_some());
        assert_eq!(judge(UPTIME_MIN, 0, 1, None).years_left, None);
        assert_eq!(judge(UPTIME_MIN, 1, 0, None).years_left, None);
    }

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(written("rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n"), Some(4096));
        assert_eq!(written(""), None);
        let used = ["0x01 0x02\n", "0x0b 0x01", "0x00 0x00", "", "x"].map(life_used);
        assert_eq!(used, [Some(20), Some(100), None, None, None]);
    }
}
