//! What is written to the medium, and how long it bears that.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::hub::status::Wear;
use crate::sys;

/// How often the whole of a medium can be written: what cheap cards bear.
const REWRITES: f64 = 1_000.0;
/// Bytes that the medium writes inside for each that it gets.
const AMPLIFICATION: f64 = 4.0;
/// An average over less tells nothing about a day.
const TIME_MIN: Duration = Duration::from_secs(3600);
/// With less payload recorded, what is written for it tells nothing.
const PAYLOAD_MIN: u64 = 1 << 20;
const DAY: f64 = 86_400.0;
const YEAR_DAYS: f64 = 365.25;
/// What the kernel counts in, whatever the medium's own sectors are.
const SECTOR: u64 = 512;

/// Where the kernel tells of a medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium(PathBuf);

/// What the kernel tells of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Told {
    /// Bytes of the whole medium, with all its partitions.
    total: Option<u64>,
    /// Bytes that everybody wrote to it since the machine started.
    written: Option<u64>,
    life_used: Option<u8>,
    reserve: Option<&'static str>,
}

/// What the program did since its start.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// How long ago that was.
    pub uptime: Duration,
    /// Bytes of payload that it recorded.
    pub payload: u64,
}

impl Medium {
    /// That below a folder; `None`: the kernel has no block device for it. `sys` is `/sys` but for tests.
    pub fn below(sys: &Path, folder: &Path) -> Option<Self> {
        let device = fs::metadata(folder).ok()?.dev();
        Self::of_device(sys, libc::major(device), libc::minor(device))
    }

    fn of_device(sys: &Path, major: u32, minor: u32) -> Option<Self> {
        let block = fs::canonicalize(sys.join(format!("dev/block/{major}:{minor}"))).ok()?;
        // A partition lies in its medium's folder.
        match block.join("partition").exists() {
            true => block.parent().map(|medium| Self(medium.to_owned())),
            false => Some(Self(block)),
        }
    }

    fn read(&self) -> Told {
        let text = |name: &str| fs::read_to_string(self.0.join(name)).ok();
        let sectors = |text: &str| text.parse::<u64>().ok()?.checked_mul(SECTOR);
        Told {
            total: text("size").and_then(|size| sectors(size.trim())),
            // The seventh number is sectors written.
            written: text("stat").and_then(|stat| sectors(stat.split_whitespace().nth(6)?)),
            life_used: text("device/life_time").and_then(|text| life_used(&text)),
            reserve: text("device/pre_eol_info").and_then(|text| reserve(&text)),
        }
    }
}

/// How it is: a file system of so many bytes, on this medium, after this work.
pub fn wear(work: Work, total: u64, medium: Option<&Medium>) -> Option<Wear> {
    let written = written(&fs::read_to_string("/proc/self/io").ok()?)?;
    let told = medium.map(Medium::read).unwrap_or_default();
    Some(judge(work, sys::since_boot(), total, written, told))
}

fn judge(work: Work, since_boot: Duration, total: u64, written: u64, told: Told) -> Wear {
    let a_day = |bytes: u64, time: Duration| {
        (time >= TIME_MIN).then(|| (bytes as f64 / time.as_secs_f64() * DAY) as u64)
    };
    let per_day = a_day(written, work.uptime);
    // Other programs wear it out, too.
    let medium_per_day = told.written.and_then(|bytes| a_day(bytes, since_boot));
    let left = 1.0 - f64::from(told.life_used.unwrap_or_default()) / 100.0;
    let total = told.total.filter(|total| *total > 0).unwrap_or(total);
    let years = per_day
        .max(medium_per_day)
        .filter(|per_day| *per_day > 0 && total > 0)
        .map(|per_day| total as f64 * REWRITES * left / (per_day as f64 * AMPLIFICATION) / YEAR_DAYS);
    Wear {
        written_bytes: written,
        written_per_day_bytes: per_day,
        medium_written_per_day_bytes: medium_per_day,
        write_amplification: (work.payload >= PAYLOAD_MIN).then(|| written as f64 / work.payload as f64),
        life_used_percent: told.life_used,
        reserve: told.reserve,
        years_left: years,
    }
}

/// From the kernel's account of the process.
fn written(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
}

fn hex(word: &str) -> Option<u8> {
    u8::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

/// Two numbers in tenths of the life, rounded up, for two kinds of memory; 0: not told.
fn life_used(text: &str) -> Option<u8> {
    let tenths = text.split_whitespace().filter_map(hex);
    tenths.max().filter(|tenths| *tenths > 0).map(|tenths| tenths.min(10) * 10)
}

/// Of the blocks that stand in for worn ones: 1 normal, 2 four fifths are used, 3 nine tenths.
fn reserve(text: &str) -> Option<&'static str> {
    match hex(text.trim())? {
        1 => Some("normal"),
        2 => Some("low"),
        3 => Some("urgent"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work = Work { uptime: Duration::from_secs(86_400), payload: 0 };

    fn alone(work: Work, total: u64, written: u64, life_used: Option<u8>) -> Wear {
        judge(work, Duration::ZERO, total, written, Told { life_used, ..Told::default() })
    }

    #[test]
    fn the_forecast_goes_by_what_was_written_and_what_is_left() {
        let fresh = alone(WORK, 32_000_000_000, 8_000_000_000, None);
        assert_eq!(fresh.written_per_day_bytes, Some(8_000_000_000));
        let years = fresh.years_left.unwrap();
        assert!((years - 1_000.0 / YEAR_DAYS).abs() < 1e-9, "{years}");
        let worn = alone(WORK, 32_000_000_000, 8_000_000_000, Some(50)).years_left.unwrap();
        assert!((worn - years / 2.0).abs() < 1e-9, "{worn}");
        // Another program writes four times as much, to a medium of which this file system is a half.
        let told = Told { total: Some(64_000_000_000), written: Some(64_000_000_000), ..Told::default() };
        let shared = judge(WORK, 2 * WORK.uptime, 32_000_000_000, 8_000_000_000, told);
        assert_eq!(shared.medium_written_per_day_bytes, Some(32_000_000_000));
        assert!((shared.years_left.unwrap() - years / 2.0).abs() < 1e-9);
    }

    #[test]
    fn without_enough_to_go_by_there_is_no_forecast() {
        let work = |uptime| Work { uptime, ..WORK };
        let short = alone(work(TIME_MIN - Duration::from_millis(1)), 1, 1000, None);
        assert_eq!((short.written_bytes, short.written_per_day_bytes, short.years_left), (1000, None, None));
        assert!(alone(work(TIME_MIN), 1, 1000, None).years_left.is_some());
        assert_eq!(alone(work(TIME_MIN), 0, 1000, None).years_left, None);
        assert_eq!(alone(work(TIME_MIN), 1, 0, None).years_left, None);
        let amplified = |payload| alone(Work { payload, ..WORK }, 1, 3 << 20, None).write_amplification;
        assert_eq!((amplified(PAYLOAD_MIN - 1), amplified(2 << 20)), (None, Some(1.5)));
    }

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(written("rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n"), Some(4096));
        assert_eq!(written(""), None);
        let used = ["0x01 0x02\n", "0x0b 0x01", "0x00 0x00", "", "x"].map(life_used);
        assert_eq!(used, [Some(20), Some(100), None, None, None]);
        let reserves = ["0x01\n", "0x02", "0x03", "0x00", "", "2"].map(reserve);
        assert_eq!(reserves, [Some("normal"), Some("low"), Some("urgent"), None, None, None]);
    }

    /// As an eMMC of a Raspberry Pi shows it: a partition in its medium's folder, reached by a link.
    #[test]
    fn a_partition_leads_to_its_medium() {
        let folder = tempfile::tempdir().unwrap();
        let sys = folder.path();
        let medium = sys.join("devices/mmc/block/mmcblk0");
        fs::create_dir_all(medium.join("mmcblk0p2")).unwrap();
        fs::create_dir_all(medium.join("device")).unwrap();
        fs::create_dir_all(sys.join("dev/block")).unwrap();
        for (name, number) in [("mmcblk0", "179:0"), ("mmcblk0/mmcblk0p2", "179:2")] {
            let target = sys.join("devices/mmc/block").join(name);
            std::os::unix::fs::symlink(target, sys.join("dev/block").join(number)).unwrap();
        }
        let write = |name: &str, text: &str| fs::write(medium.join(name), text).unwrap();
        write("mmcblk0p2/partition", "2\n");
        write("size", "61071360\n");
        write("stat", "  100 0 5000 70 200 0 4096 90 0 80 160 0 0 0 0\n");
        write("device/life_time", "0x03 0x01\n");
        write("device/pre_eol_info", "0x02\n");
        let whole = Medium::of_device(sys, 179, 0).unwrap();
        assert_eq!(Medium::of_device(sys, 179, 2), Some(whole.clone()));
        let expected = Told {
            total: Some(61_071_360 * 512),
            written: Some(4096 * 512),
            life_used: Some(30),
            reserve: Some("low"),
        };
        assert_eq!(whole.read(), expected);
        assert_eq!(Medium::of_device(sys, 8, 1), None);
        fs::remove_dir_all(medium.join("device")).unwrap();
        assert_eq!(whole.read(), Told { life_used: None, reserve: None, ..expected });
    }
}
