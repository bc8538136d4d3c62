//! A copy of a running journal as one file; proving that it can be restored; restoring it.
//!
//! # Layout
//!
//! ```text
//! 16 bytes   "IOTSBKUP", u32 version, u32 zero
//! entries    u8 kind (1 segment, 2 other file), u8 bytes of the name, name, u64 length, u32 CRC-32C, the bytes
//! end        u8 0, u64 segments, u64 messages, u64 first number, u64 next number, 32 bytes SHA-256 of all before
//! ```
//!
//! The copy is of one catalog: what was acknowledged when it was made, whatever is appended meanwhile. It gets its name
//! only when it is whole and synced. A copy counts as good once [`verify`] restored it somewhere and read all of it.

mod copy;

use std::fmt;

use ring::digest::{Context, SHA256};

pub use copy::Copy;

use super::Seq;
use super::catalog::Catalog;
use super::error::JournalError;
use super::medium::{FileId, Medium, MediumError};
use super::recovery::recover;
use super::scrub::scrub;
use super::segment;

const MAGIC: [u8; 8] = *b"IOTSBKUP";
const VERSION: u32 = 1;
const SEGMENT: u8 = 1;
const OTHER: u8 = 2;
const END: u8 = 0;
/// Bytes that are copied at a time.
const CHUNK: usize = 256 * 1024;
/// Bytes of another file at most: the access list and the configuration are far smaller.
const OTHER_MAX: u64 = 64 * 1024 * 1024;
/// What a copy in the making ends with.
const PART: &str = ".part";

/// What a copy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// Segments.
    pub segments: u64,
    /// Messages.
    pub messages: u64,
    /// The number of the first.
    pub first_seq: Seq,
    /// The number behind the last.
    pub next_seq: Seq,
}

/// A file that goes along with the journal.
#[derive(Clone, PartialEq, Eq)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Shows none of the bytes: they hold keys.
impl fmt::Debug for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Other({:?}, {} bytes)", self.name, self.bytes.len())
    }
}

/// Why there is no copy, or no restoring it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupError {
    /// The file is no backup, or damaged.
    Damaged,
    /// A segment was deleted before the copy began: it is to be begun again with a newer catalog.
    Changed,
    /// A file is shorter than what was acknowledged.
    Short,
    /// It was made by a newer version.
    NewerFormat(u32),
    /// What was read back is not what was copied.
    Differs,
    /// The place to restore to is not empty.
    NotEmpty,
    /// A name is too long.
    Name,
    /// One of the two places failed.
    Medium(MediumError),
    /// What was restored cannot be opened.
    Journal(JournalError),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("the file is no backup or is damaged: take another one"),
            Self::Changed => f.write_str("a part of the journal was deleted meanwhile: try again"),
            Self::Short => f.write_str(
                "a file of the journal lacks bytes that were in it: check the medium of the journal",
            ),
            Self::NewerFormat(version) => {
                write!(
                    f,
                    "the backup has format {version}, this version reads up to {VERSION}: use the one that made it"
                )
            }
            Self::Differs => {
                f.write_str("what was read back is not what was copied: check the medium of the backup")
            }
            Self::NotEmpty => f.write_str("the folder to restore to is not empty: move away what is in it"),
            Self::Name => f.write_str("a file's name is longer than 255 bytes"),
            Self::Medium(_) => f.write_str("reading or writing failed"),
            Self::Journal(_) => f.write_str("what was restored cannot be opened"),
        }
    }
}

impl std::error::Error for BackupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Medium(error) => Some(error),
            Self::Journal(error) => Some(error),
            _ => None,
        }
    }
}

impl From<MediumError> for BackupError {
    fn from(error: MediumError) -> Self {
        Self::Medium(error)
    }
}

/// Copies what the catalog has, and these other files, to a new file of this name.
pub fn backup<S: Medium + ?Sized, T: Medium + ?Sized>(
    source: &mut S,
    catalog: &Catalog,
    others: &[Other],
    target: &mut T,
    name: &str,
) -> Result<Contents, BackupError> {
    let mut copy = Copy::begin(source, catalog, others)?;
    let part = format!("{name}{PART}");
    // One that was interrupted.
    match target.remove(&part) {
        Ok(()) | Err(MediumError::NotFound) => {}
        Err(error) => return Err(error.into()),
    }
    let file = target.create(&part, 0)?;
    let mut at = 0;
    let written = loop {
        match copy.next_piece() {
            Ok(None) => break Ok(()),
            Ok(Some(bytes)) => {
                if let Err(error) = target.write_at(file, at, &bytes) {
                    break Err(error.into());
                }
                at += bytes.len() as u64;
            }
            Err(error) => break Err(error),
        }
    };
    let synced = written.and_then(|()| Ok(target.sync(file)?));
    target.close(file);
    let finished = synced.and_then(|()| {
        target.rename(&part, name)?;
        Ok(target.sync_folder()?)
    });
    if finished.is_err() {
        _ = target.remove(&part);
    }
    finished.map(|()| copy.contents())
}

/// Reads one file front to back, and hashes it.
struct Input<'a, M: ?Sized> {
    medium: &'a mut M,
    file: FileId,
    at: u64,
    hash: Context,
}

impl<M: Medium + ?Sized> Input<'_, M> {
    fn take(&mut self, into: &mut [u8]) -> Result<(), BackupError> {
        if self.medium.read_at(self.file, self.at, into)? < into.len() {
            return Err(BackupError::Damaged);
        }
        self.hash.update(into);
        self.at += into.len() as u64;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        let mut bytes = [0; N];
        self.take(&mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u64, BackupError> {
        self.array().map(u64::from_le_bytes)
    }
}

/// Reads all of a copy and checks it, without restoring it anywhere: what it holds, and the other files.
pub fn check<S: Medium + ?Sized>(source: &mut S, name: &str) -> Result<(Contents, Vec<Other>), BackupError> {
    let file = source.open(name)?;
    let read = read::<S, S>(source, file, None);
    source.close(file);
    read
}

/// Restores a copy into `scratch`, which is to be empty, and reads all of it: what it holds and
/// the other files, if it is good.
pub fn verify<S: Medium + ?Sized, T: Medium + ?Sized>(
    source: &mut S,
    name: &str,
    scratch: &mut T,
) -> Result<(Contents, Vec<Other>), BackupError> {
    let (contents, others) = restore(source, name, scratch)?;
    let recovered = recover(scratch).map_err(BackupError::Journal)?;
    let mut messages = recovered.segments.iter().map(|segment| segment.summary.messages).sum::<u64>();
    let mut next_seq = recovered.next_seq();
    if let Some(last) = &recovered.last {
        messages += u64::from(last.head.numbered);
        next_seq = last.head.next_seq();
    }
    for segment in &recovered.segments {
        if !scrub(scratch, segment)?.is_empty() {
            return Err(BackupError::Differs);
        }
    }
    // Segments may be missing that were deleted while it was made; their number is in the copy.
    let report = &recovered.report;
    let same = recovered.segments.len() as u64 == contents.segments
        && messages == contents.messages
        && next_seq == contents.next_seq
        && report.damaged.is_empty()
        && report.set_aside.is_empty();
    if same { Ok((contents, others)) } else { Err(BackupError::Differs) }
}

/// Restores a copy into an empty place; gives what it holds, and the other files, which are not written anywhere. The
/// journal is to be opened with `restored` then. After an error the place is to be emptied.
pub fn restore<S: Medium + ?Sized, T: Medium + ?Sized>(
    source: &mut S,
    name: &str,
    target: &mut T,
) -> Result<(Contents, Vec<Other>), BackupError> {
    if !target.list()?.is_empty() {
        return Err(BackupError::NotEmpty);
    }
    let file = source.open(name)?;
    // First all of it is read and checked, then anything is written.
    let restored = read::<S, T>(source, file, None).and_then(|_| read(source, file, Some(target)));
    source.close(file);
    let restored = restored?;
    target.sync_folder()?;
    Ok(restored)
}

fn read<S: Medium + ?Sized, T: Medium + ?Sized>(
    source: &mut S,
    file: FileId,
    mut target: Option<&mut T>,
) -> Result<(Contents, Vec<Other>), BackupError> {
    let mut input = Input { medium: source, file, at: 0, hash: Context::new(&SHA256) };
    if input.array()? != MAGIC {
        return Err(BackupError::Damaged);
    }
    let version = u32::from_le_bytes(input.array()?);
    let _zero: [u8; 4] = input.array()?;
    match version {
        VERSION => {}
        _ if version > VERSION => return Err(BackupError::NewerFormat(version)),
        _ => return Err(BackupError::Damaged),
    }
    let mut others = Vec::new();
    loop {
        let [kind] = input.array()?;
        if kind == END {
            break;
        }
        let [name_len] = input.array()?;
        let mut name = vec![0; name_len.into()];
        input.take(&mut name)?;
        let name = String::from_utf8(name).map_err(|_| BackupError::Damaged)?;
        let len = input.number()?;
        let crc = u32::from_le_bytes(input.array()?);
        match kind {
            SEGMENT if segment::number(&name).is_some() => {
                read_segment(&mut input, &name, len, target.as_deref_mut())?;
            }
            OTHER if len <= OTHER_MAX => {
                let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
                input.take(&mut bytes)?;
                if crc32c::crc32c(&bytes) != crc {
                    return Err(BackupError::Damaged);
                }
                others.push(Other { name, bytes });
            }
            _ => return Err(BackupError::Damaged),
        }
    }
    let contents = Contents {
        segments: input.number()?,
        messages: input.number()?,
        first_seq: input.number()?,
        next_seq: input.number()?,
    };
    let hash = input.hash.clone().finish();
    let told: [u8; 32] = input.array()?;
    let is_end = input.medium.read_at(file, input.at, &mut [0])? == 0;
    if hash.as_ref() != told || !is_end { Err(BackupError::Damaged) } else { Ok((contents, others)) }
}

fn read_segment<S: Medium + ?Sized, T: Medium + ?Sized>(
    input: &mut Input<'_, S>,
    name: &str,
    len: u64,
    target: Option<&mut T>,
) -> Result<(), BackupError> {
    let mut chunk = vec![0; CHUNK];
    let mut output = match target {
        Some(target) => {
            let file = target.create(name, 0)?;
            Some((target, file))
        }
        None => None,
    };
    let mut at = 0;
    let mut result = Ok(());
    while at < len && result.is_ok() {
        let wanted = usize::try_from(len - at).unwrap_or(CHUNK).min(CHUNK);
        let Some(into) = chunk.get_mut(..wanted) else { return Err(BackupError::Damaged) };
        result = input.take(into);
        if let (Some((target, file)), Ok(())) = (&mut output, &result) {
            result = target.write_at(*file, at, into).map_err(BackupError::from);
        }
        at += wanted as u64;
    }
    if let Some((target, file)) = output {
        result = result.and_then(|()| Ok(target.sync(file)?));
        target.close(file);
    }
    result
}
