//! What the kernel says of the machine's heat and voltage, and what the start of an image left to be told.
//!
//! Temperatures are millidegrees in `class/thermal/thermal_zone*/temp`. A supply that gives too little is a 1 in
//! `class/hwmon/hwmon*/in*_lcrit_alarm`, as the Raspberry Pi's firmware driver (`rpi_volt`) and others have it.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::hub::alerts::Rule;

/// Where the start of an image leaves what is wrong.
pub const IMAGE: &str = "/run/iotsocketd-machine/alerts";
/// Bytes of one sentence at most, and how many there may be.
const SENTENCE_MAX: u64 = 1000;
const SUBJECTS_MAX: usize = 8;

/// The kernel's files below a folder, `/sys` but for tests.
#[derive(Debug)]
pub struct Machine {
    thermal: PathBuf,
    hwmon: PathBuf,
}

impl Machine {
    /// That of the kernel whose files are there.
    pub fn new(sys: &Path) -> Self {
        Self { thermal: sys.join("class/thermal"), hwmon: sys.join("class/hwmon") }
    }

    /// The highest temperature of all zones, in millidegrees; `None`: there are no sensors.
    pub fn hottest(&self) -> Option<i64> {
        let zones = entries(&self.thermal, |name| name.starts_with("thermal_zone"));
        zones.into_iter().filter_map(|zone| number(&zone.join("temp"))).max()
    }

    /// Whether a supply's voltage is below what it must have.
    pub fn is_under_voltage(&self) -> bool {
        let sensors = entries(&self.hwmon, |name| name.starts_with("hwmon"));
        let is_alarm = |name: &str| name.starts_with("in") && name.ends_with("_lcrit_alarm");
        sensors.iter().flat_map(|sensor| entries(sensor, is_alarm)).any(|alarm| number(&alarm) == Some(1))
    }
}

/// What the start of an image found wrong, until the next one: a file for each subject, with a sentence in it.
pub fn told_by_the_image(folder: &Path) -> Vec<(Rule, String, String)> {
    let files = entries(folder, |_| true).into_iter().filter_map(|file| {
        let mut text = String::new();
        File::open(&file).ok()?.take(SENTENCE_MAX).read_to_string(&mut text).ok()?;
        let subject = file.file_name()?.to_str()?.to_owned();
        Some((Rule::Gateway, subject, text.trim().to_owned()))
    });
    files.take(SUBJECTS_MAX).collect()
}

/// What lies in a folder under such a name; nothing if it cannot be read.
fn entries(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    let found = found.filter(|entry| entry.file_name().to_str().is_some_and(&is_wanted));
    found.map(|entry| entry.path()).collect()
}

fn number(file: &Path) -> Option<i64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let file = root.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn the_hottest_zone_counts_and_one_that_cannot_be_read_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::new(folder.path());
        assert_eq!(machine.hottest(), None);
        write(folder.path(), "class/thermal/thermal_zone0/temp", "45321\n");
        write(folder.path(), "class/thermal/thermal_zone1/temp", "81000\n");
        write(folder.path(), "class/thermal/thermal_zone2/temp", "unknown\n");
        write(folder.path(), "class/thermal/cooling_device0/temp", "99000\n");
        assert_eq!(machine.hottest(), Some(81_000));
    }

    #[test]
    fn what_the_image_says_is_told_by_its_subject_and_never_without_end() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(told_by_the_image(&folder.path().join("none")), []);
        write(folder.path(), "data", "it was made new\n");
        let told = (Rule::Gateway, "data".to_owned(), "it was made new".to_owned());
        assert_eq!(told_by_the_image(folder.path()), [told]);
        write(folder.path(), "data", &"x".repeat(5000));
        assert_eq!(told_by_the_image(folder.path())[0].2.len() as u64, SENTENCE_MAX);
        (0..20).for_each(|number| write(folder.path(), &number.to_string(), "x"));
        assert_eq!(told_by_the_image(folder.path()).len(), SUBJECTS_MAX);
    }

    #[test]
    fn one_alarm_of_a_supply_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::new(folder.path());
        assert!(!machine.is_under_voltage());
        write(folder.path(), "class/hwmon/hwmon0/temp1_crit_alarm", "1\n");
        write(folder.path(), "class/hwmon/hwmon1/in0_lcrit_alarm", "0\n");
        assert!(!machine.is_under_voltage());
        write(folder.path(), "class/hwmon/hwmon1/in0_lcrit_alarm", "1\n");
        assert!(machine.is_under_voltage());
    }
}
