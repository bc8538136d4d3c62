//! A light on the machine that shows how things stand, by the kernel's files in `class/leds/NAME`.
//!
//! The kernel's `timer` trigger blinks by itself. Where there is none the light is on while an alert is up. README has the
//! table of patterns.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::hub::alerts::Weight;
use crate::logfmt::Quoted;

/// Milliseconds on and off.
type Blink = (u32, u32);
/// All is well.
const WELL: Blink = (50, 2950);
/// An alert is up.
const SOON: Blink = (1000, 1000);
/// Something is lost, or about to be.
const NOW: Blink = (100, 100);

/// The light, if there is one.
#[derive(Debug, Default)]
pub struct Led {
    /// What was shown last, and where; not shown again until it changes, whether it worked or not.
    shown: Option<(PathBuf, Option<Weight>)>,
}

impl Led {
    /// Shows this on the light of this name, below `/sys` or wherever the kernel's files are. `None`: no light.
    pub fn show(&mut self, sys: &Path, name: Option<&str>, weight: Option<Weight>) {
        let wanted = name.map(|name| (sys.join("class/leds").join(name), weight));
        if self.shown == wanted {
            return;
        }
        if self.shown.as_ref().map(|(folder, _)| folder) != wanted.as_ref().map(|(folder, _)| folder) {
            self.put_out();
        }
        if let Some((folder, weight)) = &wanted
            && let Err(error) = blink(folder, *weight)
        {
            // Most machines have no such light; the log says so once for each pattern.
            log::debug!("event=led_not_shown led={} error={}", Quoted(folder.display()), Quoted(error));
        }
        self.shown = wanted;
    }

    /// Puts the light out: nobody looks any more.
    pub fn put_out(&mut self) {
        if let Some((folder, _)) = self.shown.take() {
            // One that is not there is out.
            let _out = fs::write(folder.join("trigger"), "none");
            let _out = fs::write(folder.join("brightness"), "0");
        }
    }
}

fn blink(folder: &Path, weight: Option<Weight>) -> io::Result<()> {
    let (on, off) = match weight {
        None => WELL,
        Some(Weight::Soon) => SOON,
        Some(Weight::Now) => NOW,
    };
    // Its files are there once the trigger is set.
    if fs::write(folder.join("trigger"), "timer").is_ok() && folder.join("delay_on").exists() {
        fs::write(folder.join("delay_on"), on.to_string())?;
        return fs::write(folder.join("delay_off"), off.to_string());
    }
    fs::write(folder.join("brightness"), if weight.is_some() { "1" } else { "0" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn light(root: &Path, files: &[&str]) -> PathBuf {
        let folder = root.join("class/leds/ACT");
        fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|file| fs::write(folder.join(file), "").unwrap());
        folder
    }

    #[test]
    fn it_blinks_as_much_as_it_presses_and_goes_out() {
        let root = tempfile::tempdir().unwrap();
        let folder = light(root.path(), &["trigger", "delay_on", "delay_off", "brightness"]);
        let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
        let mut led = Led::default();
        for (weight, on, off) in
            [(None, "50", "2950"), (Some(Weight::Soon), "1000", "1000"), (Some(Weight::Now), "100", "100")]
        {
            led.show(root.path(), Some("ACT"), weight);
            assert_eq!(
                (read("trigger"), read("delay_on"), read("delay_off")),
                ("timer".into(), on.into(), off.into())
            );
        }
        fs::write(folder.join("delay_on"), "mine").unwrap();
        led.show(root.path(), Some("ACT"), Some(Weight::Now));
        assert_eq!(read("delay_on"), "mine", "nothing is written while nothing changes");
        led.put_out();
        assert_eq!((read("trigger"), read("brightness")), ("none".into(), "0".into()));
    }

    #[test]
    fn a_light_that_cannot_blink_is_on_while_an_alert_is_up() {
        let root = tempfile::tempdir().unwrap();
        let folder = light(root.path(), &["brightness"]);
        fs::create_dir(folder.join("trigger")).unwrap();
        let read = || fs::read_to_string(folder.join("brightness")).unwrap();
        let mut led = Led::default();
        led.show(root.path(), Some("ACT"), None);
        assert_eq!(read(), "0");
        led.show(root.path(), Some("ACT"), Some(Weight::Soon));
        assert_eq!(read(), "1");
        // Another light, or none, from a changed configuration.
        led.show(root.path(), None, Some(Weight::Soon));
        assert_eq!(read(), "0");
    }

    #[test]
    fn without_a_light_nothing_happens() {
        let root = tempfile::tempdir().unwrap();
        let mut led = Led::default();
        led.show(root.path(), Some("ACT"), None);
        led.put_out();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
