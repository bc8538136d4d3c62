//! What time it is, and whether the machine knows.
//!
//! A gateway without a clock chip starts somewhere in the past. Its wall clock counts once the kernel says that it is
//! synchronised (`[time] trust = "auto"`), or always, if the configuration says so. It never goes back behind the day on
//! which this version was made: no message can be older than the program that took it.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::journal::stamp::{Clock, Stamp};
use crate::service::config::TimeTrust;
use crate::sys;

/// When this version was made, in microseconds since 1970: 2026-11-22. Moved with each release.
const MADE_US: i64 = 1_795_305_600_000_000;
/// How long what the kernel says of its clock is believed, in microseconds since the machine started.
const BELIEVED_US: u64 = 1_000_000;

/// Made by iotsocketd-clock.service when the clock is right: the service itself may not ask the kernel.
const SYNCHRONISED: &str = "/run/iotsocketd-clock/synchronised";

/// The machine's clocks.
#[derive(Debug)]
pub struct WallClock {
    trust_always: AtomicBool,
    is_set: AtomicBool,
    /// When the kernel was asked last.
    asked_us: AtomicU64,
}

impl WallClock {
    /// The clocks, trusted like this.
    pub fn new(trust: TimeTrust) -> Self {
        Self {
            trust_always: AtomicBool::new(trust == TimeTrust::Always),
            is_set: AtomicBool::new(is_synchronised()),
            asked_us: AtomicU64::new(0),
        }
    }

    /// Changes when the wall clock counts as right.
    pub fn set_trust(&self, trust: TimeTrust) {
        self.trust_always.store(trust == TimeTrust::Always, Ordering::Relaxed);
    }

    /// Now.
    pub fn stamp(&self) -> Stamp {
        let mono_us = u64::try_from(sys::since_boot().as_micros()).unwrap_or(u64::MAX);
        let asked_us = self.asked_us.load(Ordering::Relaxed);
        if mono_us.saturating_sub(asked_us) >= BELIEVED_US {
            self.asked_us.store(mono_us, Ordering::Relaxed);
            self.is_set.store(is_synchronised(), Ordering::Relaxed);
        }
        let is_set = self.is_set.load(Ordering::Relaxed) || self.trust_always.load(Ordering::Relaxed);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_us = i64::try_from(wall.as_micros()).unwrap_or(i64::MAX);
        Stamp {
            mono_us,
            wall_us: wall_us.max(MADE_US),
            // A clock before the day on which the program was made is not right, whatever anybody says.
            clock: if is_set && wall_us >= MADE_US { Clock::Synced } else { Clock::Unsynced },
        }
    }

    /// The wall clock in microseconds since 1970, if it is right.
    pub fn right_us(&self) -> Option<i64> {
        let now = self.stamp();
        (now.clock == Clock::Synced).then_some(now.wall_us)
    }
}

fn is_synchronised() -> bool {
    sys::clock_is_synchronised().unwrap_or_else(|| Path::new(SYNCHRONISED).exists())
}

/// Where the service's unit says it: it lets us see processes only in /proc.
const BOOT_ID: &str = "IOTSOCKETD_BOOT_ID";

/// The kernel's name for this start of the machine; `None` where there is none.
pub fn boot_id() -> Option<[u8; 16]> {
    let told = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    parse_id(&told.or_else(|| std::env::var(BOOT_ID).ok())?)
}

fn parse_id(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> =
        text.trim().bytes().filter_map(|byte| char::from(byte).to_digit(16)?.try_into().ok()).collect();
    let bytes: Vec<u8> =
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |sum, digit| sum << 4 | digit)).collect();
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_never_go_back_and_trust_is_as_configured() {
        let clock = WallClock::new(TimeTrust::Always);
        let (first, second) = (clock.stamp(), clock.stamp());
        assert!(first.mono_us <= second.mono_us && first.wall_us >= MADE_US);
        assert_eq!(clock.right_us().is_some(), first.clock == Clock::Synced);
        clock.set_trust(TimeTrust::Auto);
        assert_eq!(clock.stamp().clock == Clock::Synced, is_synchronised());
    }

    #[test]
    fn the_kernel_names_its_start() {
        assert_ne!(boot_id().unwrap(), [0; 16]);
        assert_eq!(boot_id(), boot_id());
        assert_eq!(parse_id("0123456789abcdef0123456789ABCDEF\n").unwrap()[7..9], [0xef, 0x01]);
        assert_eq!(parse_id("0123"), None);
    }
}
