//! What is written to the medium under test, and whether it kept it.
//!
//! A file of places of one size, overwritten round and round like the journal's segments: number n lies in place n modulo
//! the places there are, and what it holds follows from the run and n. Each is flushed before it counts. So at any moment
//! every place but the next has one content that it must have, whatever happens to the power.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::hub::own_file;
use crate::sys;

/// Bytes of a place: what flash is written in, at least.
pub(super) const PLACE: usize = 4096;
/// Places: 64 MiB, many erase blocks of any card.
pub(super) const PLACES: u64 = 16_384;
const MAGIC: &[u8; 8] = b"IOTSTEST";
const FILE: &str = "storage-test.data";
/// Numbers that are named when they are lost.
const NAMED_MAX: usize = 5;

/// What is written to.
pub(super) trait Medium {
    /// Writes a place.
    fn write(&mut self, place: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all that was written is on the medium, or so it says.
    fn flush(&mut self) -> io::Result<()>;
    /// Reads a place; `false`: it never was.
    fn read(&mut self, place: u64, into: &mut [u8]) -> io::Result<bool>;
}

/// A file of a folder of the medium.
pub(super) struct Card(File);

impl Card {
    /// Makes the file if it is missing, or opens it.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let path = Self::path(folder);
        let options = &mut OpenOptions::new();
        let file = own_file::open(&path, options.read(true).write(true).create(true).truncate(false))?;
        let len = PLACES * PLACE as u64;
        if file.metadata()?.len() != len {
            sys::reserve(file.as_fd(), len).or_else(|error| match error.kind() {
                io::ErrorKind::Unsupported => file.set_len(len),
                _ => Err(error),
            })?;
            file.sync_all()?;
            File::open(folder)?.sync_all()?;
        }
        Ok(Self(file))
    }

    /// Opens the file of a run that is over, as the medium has it; `None`: there is none.
    pub(super) fn look(folder: &Path) -> io::Result<Option<Self>> {
        match own_file::open(&Self::path(folder), OpenOptions::new().read(true).write(true)) {
            Ok(file) => {
                sys::drop_cache(file.as_fd())?;
                Ok(Some(Self(file)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the file is.
    pub(super) fn path(folder: &Path) -> PathBuf {
        folder.join(FILE)
    }
}

impl Medium for Card {
    fn write(&mut self, place: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, place * PLACE as u64)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn read(&mut self, place: u64, into: &mut [u8]) -> io::Result<bool> {
        match self.0.read_exact_at(into, place * PLACE as u64) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }
}

/// Writes a number and has it flushed: when this returns it may be acknowledged.
pub(super) fn put(medium: &mut impl Medium, run: u64, number: u64) -> io::Result<()> {
    medium.write(number % PLACES, &content(run, number))?;
    medium.flush()
}

/// What a place holds after a number of a run: no two are alike, and none can be packed to less.
fn content(run: u64, number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PLACE);
    bytes.extend(MAGIC);
    bytes.extend(run.to_le_bytes());
    bytes.extend(number.to_le_bytes());
    let mut word = run ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < PLACE {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// What became of what was acknowledged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Numbers that were looked at: the newest, as many as there are places.
    pub checked: u64,
    /// Places with what was there before: the write was acknowledged and never made.
    pub missing: u64,
    /// Places with anything else: torn, or overwritten by the medium.
    pub damaged: u64,
    /// The first few of them.
    pub named: Vec<u64>,
}

impl Verdict {
    /// Whether everything is there.
    pub(super) fn is_kept(&self) -> bool {
        self.missing + self.damaged == 0
    }
}

/// Looks at everything of a run that must be there if `last` was acknowledged.
pub(super) fn check(medium: &mut impl Medium, run: u64, last: u64) -> io::Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut found = vec![0; PLACE];
    // The next one may have been on its way to the place of the oldest.
    let first = (last + 2).saturating_sub(PLACES).max(1);
    for number in first..=last {
        verdict.checked += 1;
        let there = medium.read(number % PLACES, &mut found)?;
        if there && found == content(run, number) {
            continue;
        }
        let before = number.checked_sub(PLACES).filter(|before| *before > 0);
        let is_old = match before {
            Some(before) => found == content(run, before),
            None => !there || !found.starts_with(MAGIC) || of_another_run(&found, run),
        };
        match is_old {
            true => verdict.missing += 1,
            false => verdict.damaged += 1,
        }
        if verdict.named.len() < NAMED_MAX {
            verdict.named.push(number);
        }
    }
    Ok(verdict)
}

fn of_another_run(found: &[u8], run: u64) -> bool {
    found.get(MAGIC.len()..MAGIC.len() + 8) != Some(&run.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A card with a cache. An honest one empties it at a flush.
    #[derive(Default)]
    struct Played {
        flash: BTreeMap<u64, Vec<u8>>,
        cache: Vec<(u64, Vec<u8>)>,
        lies: bool,
    }

    impl Played {
        /// The power fails: of what is in the cache only the first so many bytes get to flash.
        fn cut(&mut self, mut left: usize) {
            for (place, bytes) in self.cache.drain(..) {
                let whole = self.flash.entry(place).or_insert_with(|| vec![0; PLACE]);
                let len = bytes.len().min(left);
                whole[..len].copy_from_slice(&bytes[..len]);
                left -= len;
            }
        }
    }

    impl Medium for Played {
        fn write(&mut self, place: u64, bytes: &[u8]) -> io::Result<()> {
            self.cache.push((place, bytes.to_vec()));
            Ok(())
        }

        fn flush(&mut self) -> io::Result<()> {
            if !self.lies {
                self.cut(usize::MAX);
            }
            Ok(())
        }

        fn read(&mut self, place: u64, into: &mut [u8]) -> io::Result<bool> {
            let Some(bytes) = self.flash.get(&place) else { return Ok(false) };
            into.copy_from_slice(bytes);
            Ok(true)
        }
    }

    const RUN: u64 = 0x1234_5678_9abc_def0;

    #[test]
    fn an_honest_card_keeps_everything_wherever_the_power_fails() {
        for cut in [0, 1, 512, PLACE - 1, PLACE] {
            let mut card = Played::default();
            (1..=100).for_each(|number| put(&mut card, RUN, number).unwrap());
            // One that was not acknowledged.
            card.write(101, &content(RUN, 101)).unwrap();
            card.cut(cut);
            let verdict = check(&mut card, RUN, 100).unwrap();
            assert!(verdict.is_kept() && verdict.checked == 100, "{cut}: {verdict:?}");
        }
    }

    #[test]
    fn a_card_that_lies_is_found_out() {
        let mut card = Played::default();
        (1..=50).for_each(|number| put(&mut card, RUN, number).unwrap());
        card.lies = true;
        (51..=100).for_each(|number| put(&mut card, RUN, number).unwrap());
        // Forty get to flash, and half of another one.
        card.cut(40 * PLACE + PLACE / 2);
        let verdict = check(&mut card, RUN, 100).unwrap();
        let expected = Verdict { checked: 100, missing: 9, damaged: 1, named: vec![91, 92, 93, 94, 95] };
        assert_eq!(verdict, expected);
    }

    #[test]
    fn what_was_flushed_long_ago_must_be_there_too() {
        let mut card = Played::default();
        let last = PLACES + 100;
        (1..=last).for_each(|number| put(&mut card, RUN, number).unwrap());
        let verdict = check(&mut card, RUN, last).unwrap();
        assert_eq!(verdict, Verdict { checked: PLACES - 1, ..Verdict::default() });
        // The card lost another erase block with it, and rolled one place back.
        card.flash.get_mut(&7000).unwrap()[4000] ^= 1;
        card.flash.insert(50, content(RUN, 50));
        let verdict = check(&mut card, RUN, last).unwrap();
        assert_eq!((verdict.damaged, verdict.missing, verdict.named), (1, 1, vec![7000, PLACES + 50]));
        // The place of the next write is nobody's.
        card.flash.insert((last + 1) % PLACES, vec![0; PLACE]);
        assert_eq!(check(&mut card, RUN, last).unwrap().checked, PLACES - 1);
        assert_eq!(check(&mut card, RUN, last).unwrap().damaged, 1);
    }
}
