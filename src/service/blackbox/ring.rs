//! The black box's file: a ring of entries of one size, each with its own checksum.
//!
//! ```text
//! 128 bytes each   u32 CRC-32C of what follows, u8 version, u8 kind, u8 flags (1: the clock is right), u8 bytes of text,
//!                  u64 number, i64 wall clock and u64 time since the machine started (microseconds), u32 which start of
//!                  the machine, u32 zero, 88 bytes: 22 figures of u32, or a text
//! ```
//!
//! The place of an entry is its number modulo the places that there are, so no other bytes have to be written, and none
//! can be wrong. What a power cut tears fails its checksum and is left out. All integers are little endian.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::figures::Figures;
use crate::sys;

/// Bytes of an entry.
const LEN: usize = 128;
/// Entries: 72 hours of one every ten seconds, and a twelfth more for what happens.
pub(super) const PLACES: u64 = 72 * 360 + 72 * 30;
/// Bytes of the file.
const FILE_LEN: u64 = PLACES * LEN as u64;
const VERSION: u8 = 1;
const CLOCK_IS_RIGHT: u8 = 1;
/// Where the body begins.
const BODY: usize = 40;
const TEXT_MAX: usize = LEN - BODY;
/// Entries that are read at a time.
const READ: usize = 512;

const _: () = assert!(Figures::COUNT * 4 == TEXT_MAX);

/// What was noted at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// In the order of insertion, without gaps unless some are lost.
    pub number: u64,
    /// The wall clock, in microseconds since 1970.
    pub wall_us: i64,
    /// Whether the wall clock was right.
    pub is_right: bool,
    /// Microseconds since the machine started.
    pub mono_us: u64,
    /// Tells one start of the machine from the next.
    pub boot: u32,
    /// What.
    pub body: Body,
}

/// What an entry says. Kinds are only ever added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// How everything was.
    Figures(Figures),
    /// The program started: its version and environment.
    Started(String),
    /// It was asked to stop.
    Stopped,
    /// This alert came up.
    Raised(String),
    /// This alert is no longer up.
    Cleared(String),
}

/// The file, to write to.
#[derive(Debug)]
pub struct Ring {
    file: File,
    next: u64,
}

impl Ring {
    /// Opens the file, or makes it, and goes on behind the newest entry. Nobody else can while this is there: while a newer
    /// version takes over there are two processes.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another process writes to it"),
            TryLockError::Error(error) => error,
        })?;
        if file.metadata()?.len() != FILE_LEN {
            // A file system without reservations takes what comes.
            sys::reserve(file.as_fd(), FILE_LEN).or_else(|error| match error.kind() {
                io::ErrorKind::Unsupported => Ok(()),
                _ => Err(error),
            })?;
            file.set_len(FILE_LEN)?;
            file.sync_all()?;
        }
        let next = read(&file)?.last().map_or(1, |entry| entry.number + 1);
        Ok(Self { file, next })
    }

    /// Adds an entry; its number is given here. It is with the system then, and on the medium a while later.
    pub fn append(&mut self, mut entry: Entry) -> io::Result<()> {
        entry.number = self.next;
        let place = self.next % PLACES;
        self.file.write_all_at(&encode(&entry), place * LEN as u64)?;
        self.next += 1;
        Ok(())
    }

    /// Waits until all that was added is on the medium.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// All entries that can be read, in their order. A running program may write meanwhile.
pub fn load(path: &Path) -> io::Result<Vec<Entry>> {
    read(&File::open(path)?)
}

fn read(file: &File) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut chunk = vec![0; READ * LEN];
    let mut at = 0;
    loop {
        let mut filled = 0;
        while let Some(rest) = chunk.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        at += filled as u64;
        let whole = chunk.get(..filled).unwrap_or_default().as_chunks::<LEN>().0;
        entries.extend(whole.iter().filter_map(decode));
        if filled < READ * LEN || at >= FILE_LEN {
            break;
        }
    }
    entries.sort_unstable_by_key(|entry| entry.number);
    Ok(entries)
}

fn encode(entry: &Entry) -> [u8; LEN] {
    let (kind, text) = match &entry.body {
        Body::Figures(_) => (0, ""),
        Body::Started(text) => (1, text.as_str()),
        Body::Stopped => (2, ""),
        Body::Raised(name) => (3, name.as_str()),
        Body::Cleared(name) => (4, name.as_str()),
    };
    // Cut at a letter.
    let text = (0..=TEXT_MAX.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(LEN);
    bytes.extend([0; 4]);
    // No text is longer than the rest of an entry, so its length is a byte.
    bytes.extend([VERSION, kind, u8::from(entry.is_right) * CLOCK_IS_RIGHT, text.len() as u8]);
    bytes.extend(entry.number.to_le_bytes());
    bytes.extend(entry.wall_us.to_le_bytes());
    bytes.extend(entry.mono_us.to_le_bytes());
    bytes.extend(entry.boot.to_le_bytes());
    bytes.extend([0; 4]);
    match &entry.body {
        Body::Figures(figures) => bytes.extend(figures.0.iter().flat_map(|figure| figure.to_le_bytes())),
        _ => bytes.extend(text.as_bytes()),
    }
    bytes.resize(LEN, 0);
    let mut whole = [0; LEN];
    whole.copy_from_slice(&bytes);
    if let Some((crc, rest)) = whole.split_first_chunk_mut() {
        *crc = crc32c::crc32c(rest).to_le_bytes();
    }
    whole
}

fn decode(bytes: &[u8; LEN]) -> Option<Entry> {
    let (crc, rest) = bytes.split_first_chunk()?;
    if crc32c::crc32c(rest) != u32::from_le_bytes(*crc) {
        return None;
    }
    let ([version, kind, flags, text_len], rest) = rest.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (wall_us, rest) = rest.split_first_chunk()?;
    let (mono_us, rest) = rest.split_first_chunk()?;
    let (boot, rest) = rest.split_first_chunk()?;
    let body = rest.get(4..)?;
    let text = || String::from_utf8(body.get(..usize::from(*text_len))?.to_vec()).ok();
    let body = match kind {
        0 => {
            let mut figures = Figures::default();
            for (figure, bytes) in figures.0.iter_mut().zip(body.as_chunks::<4>().0) {
                *figure = u32::from_le_bytes(*bytes);
            }
            Body::Figures(figures)
        }
        1 => Body::Started(text()?),
        2 => Body::Stopped,
        3 => Body::Raised(text()?),
        4 => Body::Cleared(text()?),
        _ => return None,
    };
    (*version == VERSION).then_some(Entry {
        number: u64::from_le_bytes(*number),
        wall_us: i64::from_le_bytes(*wall_us),
        is_right: flags & CLOCK_IS_RIGHT != 0,
        mono_us: u64::from_le_bytes(*mono_us),
        boot: u32::from_le_bytes(*boot),
        body,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::thorough::every;

    fn entry(body: Body) -> Entry {
        Entry { number: 0, wall_us: 1_795_305_600_000_000, is_right: true, mono_us: 7, boot: 0xabcd, body }
    }

    fn figures(value: u32) -> Body {
        Body::Figures(Figures([value; Figures::COUNT]))
    }

    fn file() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blackbox");
        (folder, path)
    }

    /// A program that another test of this process starts just when it was given back holds the lock, too, until it runs.
    fn open(path: &Path) -> Ring {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match Ring::open(path) {
                Err(error) if error.to_string().contains("another process") && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                opened => return opened.unwrap(),
            }
        }
    }

    #[test]
    fn entries_come_back_in_their_order_over_restarts() {
        let (_folder, path) = file();
        let long = "é".repeat(60);
        let bodies = [
            Body::Started("1.0 test".to_owned()),
            figures(3),
            Body::Raised("disk".to_owned()),
            Body::Cleared(long.clone()),
            Body::Stopped,
        ];
        for body in bodies.clone() {
            // Opened anew each time, as restarts do.
            open(&path).append(entry(body)).unwrap();
        }
        let read = load(&path).unwrap();
        assert_eq!(read.iter().map(|entry| entry.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(read[1], Entry { number: 2, ..entry(figures(3)) });
        assert_eq!(read[3].body, Body::Cleared(long[..TEXT_MAX].to_owned()), "cut at a letter");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), FILE_LEN);
    }

    /// Three days and a half, of which the last three are there; the file does not grow.
    #[test]
    fn the_oldest_make_room() {
        let (_folder, path) = file();
        let mut ring = open(&path);
        for number in 0..PLACES + 1000 {
            ring.append(entry(figures(number as u32))).unwrap();
        }
        let read = load(&path).unwrap();
        assert_eq!(read.len() as u64, PLACES);
        assert_eq!((read[0].number, read.last().unwrap().number), (1001, PLACES + 1000));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), FILE_LEN);
        drop(ring);
        let mut ring = open(&path);
        ring.append(entry(Body::Stopped)).unwrap();
        assert_eq!(load(&path).unwrap().last().unwrap().number, PLACES + 1001);
    }

    /// Every way in which a write may have been cut: the entries around it stay, and it goes on.
    #[test]
    fn what_is_torn_is_left_out() {
        let (_folder, path) = file();
        let mut ring = open(&path);
        for number in 0..10 {
            // No byte of it is a zero.
            ring.append(entry(figures(0x0101_0101 + number))).unwrap();
        }
        drop(ring);
        let good = std::fs::read(&path).unwrap();
        let newest = 10 * LEN;
        for cut in every(0..LEN) {
            let mut torn = good.clone();
            // The place held an older entry, or nothing.
            torn[newest + cut..newest + LEN].fill(0);
            std::fs::write(&path, &torn).unwrap();
            let left = load(&path).unwrap();
            assert_eq!(left.len(), 9, "{cut}");
            assert_eq!(open(&path).next, 10, "{cut}");
        }
        for at in every(0..LEN) {
            let mut flipped = good.clone();
            flipped[3 * LEN + at] ^= 1;
            std::fs::write(&path, &flipped).unwrap();
            let left = load(&path).unwrap();
            assert!(left.len() == 9 && left.iter().all(|entry| entry.number != 3), "{at}");
        }
    }

    #[test]
    fn nobody_else_writes_to_it_and_everybody_may_read_it() {
        let (_folder, path) = file();
        let mut ring = open(&path);
        ring.append(entry(Body::Stopped)).unwrap();
        assert!(Ring::open(&path).unwrap_err().to_string().contains("another process"));
        assert_eq!(load(&path).unwrap().len(), 1);
        drop(ring);
        assert_eq!(open(&path).next, 2);
    }

    #[test]
    fn a_file_of_anything_is_taken_over() {
        let (_folder, path) = file();
        for bytes in [Vec::new(), vec![0xff; 1000], vec![0; FILE_LEN as usize + 5]] {
            std::fs::write(&path, bytes).unwrap();
            let mut ring = open(&path);
            ring.append(entry(Body::Stopped)).unwrap();
            assert_eq!(load(&path).unwrap().len(), 1);
        }
    }
}
