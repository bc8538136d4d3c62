//! The bytes of a copy, piece by piece, for whoever takes them: a file, or somebody on the other end of a socket.

use std::collections::VecDeque;
use std::fmt;

use ring::digest::{Context, SHA256};

use super::{BackupError, CHUNK, Contents, END, MAGIC, OTHER, Other, SEGMENT, VERSION};
use crate::journal::catalog::{self, Catalog, SegmentInfo, tail_block};
use crate::journal::medium::{FileId, Medium, MediumError};
use crate::journal::segment::HEADER_LEN;

/// Bytes of the end: its kind, four numbers, SHA-256.
const END_LEN: u64 = 1 + 4 * 8 + 32;

/// A copy in the making.
pub struct Copy<S: Medium> {
    source: S,
    open: Vec<FileId>,
    pieces: VecDeque<Piece>,
    contents: Contents,
    hash: Context,
}

/// What comes next.
enum Piece {
    Bytes(Vec<u8>),
    /// A part of a segment, which is read when its turn comes.
    Range {
        file: FileId,
        from: u64,
        to: u64,
    },
    /// What was in it all, and the checksum.
    End,
}

impl<S: Medium> fmt::Debug for Copy<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Copy({:?})", self.contents)
    }
}

impl<S: Medium> Copy<S> {
    /// Begins a copy of what the catalog has, and of these other files. Everything is opened now, so that segments that
    /// are deleted while it lasts are in it all the same.
    ///
    /// [`BackupError::Changed`] if one is gone already, or another than it was: there is a newer catalog then.
    pub fn begin(source: S, catalog: &Catalog, others: &[Other]) -> Result<Self, BackupError> {
        let contents = Contents {
            segments: catalog.segments.len() as u64,
            messages: catalog.segments.iter().map(|segment| segment.summary.messages).sum(),
            first_seq: catalog.first_seq(),
            next_seq: catalog.next_seq,
        };
        let pieces = VecDeque::new();
        let mut copy = Self { source, open: Vec::new(), pieces, contents, hash: Context::new(&SHA256) };
        copy.put([MAGIC.as_slice(), &VERSION.to_le_bytes(), &[0; 4]].concat());
        for Other { name, bytes } in others {
            copy.put(entry(OTHER, name, bytes.len() as u64, crc32c::crc32c(bytes))?);
            copy.put(bytes.clone());
        }
        for segment in &catalog.segments {
            let file = copy.source.open(&segment.name()).map_err(|error| match error {
                MediumError::NotFound => BackupError::Changed,
                error => BackupError::Medium(error),
            })?;
            copy.open.push(file);
            if catalog::written_once_more(&mut copy.source, file, segment)?.is_some() {
                return Err(BackupError::Changed);
            }
            copy.put_segment(file, segment)?;
        }
        copy.pieces.push_back(Piece::End);
        Ok(copy)
    }

    /// A segment's bytes up to its end, then its header again: as if it were not sealed, so that what happens to its
    /// file meanwhile does not matter.
    fn put_segment(&mut self, file: FileId, segment: &SegmentInfo) -> Result<(), BackupError> {
        let end = segment.end.offset;
        let header = segment.header.encode();
        let tail = tail_block(&header, None);
        let len = end + tail.len() as u64;
        self.put(entry(SEGMENT, &segment.name(), len, crc32c::crc32c(&header))?);
        // From memory, in case the first one is the damaged one.
        self.put(header.to_vec());
        self.pieces.push_back(Piece::Range { file, from: HEADER_LEN as u64, to: end });
        self.put(tail);
        Ok(())
    }

    fn put(&mut self, bytes: Vec<u8>) {
        self.pieces.push_back(Piece::Bytes(bytes));
    }

    /// The next bytes of it; `None` behind the last. After an error it is not whole, and never will be.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        let bytes = match self.pieces.pop_front() {
            None => return Ok(None),
            Some(Piece::Bytes(bytes)) => bytes,
            Some(Piece::Range { file, from, to }) => {
                let len = usize::try_from(to.saturating_sub(from)).unwrap_or(CHUNK).min(CHUNK);
                let mut bytes = vec![0; len];
                if self.source.read_at(file, from, &mut bytes)? < len {
                    return Err(BackupError::Short);
                }
                let next = from + len as u64;
                if next < to {
                    self.pieces.push_front(Piece::Range { file, from: next, to });
                }
                bytes
            }
            Some(Piece::End) => {
                let Contents { segments, messages, first_seq, next_seq } = self.contents;
                let mut bytes = vec![END];
                for number in [segments, messages, first_seq, next_seq] {
                    bytes.extend(number.to_le_bytes());
                }
                self.hash.update(&bytes);
                bytes.extend(self.hash.clone().finish().as_ref());
                return Ok(Some(bytes));
            }
        };
        self.hash.update(&bytes);
        Ok(Some(bytes))
    }

    /// Bytes that are still to come.
    pub fn rest_len(&self) -> u64 {
        let len = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Range { from, to, .. } => to.saturating_sub(*from),
            Piece::End => END_LEN,
        };
        self.pieces.iter().map(len).sum()
    }

    /// What is in it once it is whole.
    pub fn contents(&self) -> Contents {
        self.contents
    }
}

impl<S: Medium> Drop for Copy<S> {
    fn drop(&mut self) {
        for file in self.open.drain(..) {
            self.source.close(file);
        }
    }
}

fn entry(kind: u8, name: &str, len: u64, crc: u32) -> Result<Vec<u8>, BackupError> {
    let name_len = u8::try_from(name.len()).map_err(|_| BackupError::Name)?;
    let mut bytes = vec![kind, name_len];
    bytes.extend(name.as_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend(crc.to_le_bytes());
    Ok(bytes)
}
