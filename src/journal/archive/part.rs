//! One file of the archive while it is written, and while it is read back.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};
use ring::digest::{Context, SHA256};

use super::manifest::{FORMAT, Manifest, Share, day_name, hex};
use super::{ArchiveError, DAY_US, Wanted};
use crate::journal::Seq;
use crate::journal::catalog::Catalog;
use crate::journal::medium::{FileId, Medium, MediumError, Operation};
use crate::journal::reader::{Query, Reader};
use crate::journal::stored::Stored;

/// Messages, and bytes of their payloads, of one step.
const STEP_MESSAGES: usize = 500;
const STEP_BYTES: usize = 256 * 1024;
/// Bytes of the file that are read at a time: as plain text they may be a thousand times as many.
const CHUNK: usize = 16 * 1024;

/// Makes a line of a message, without its end.
pub(super) type Render<'a> = &'a dyn Fn(Stored, &Catalog) -> String;

/// A message as it is in the file.
struct Line {
    segment: u64,
    seq: Seq,
    line: String,
}

/// The messages of a file, page by page.
#[derive(Debug)]
pub(super) struct Pages {
    wanted: Wanted,
    catalog: Catalog,
    next: Option<Seq>,
}

impl Pages {
    pub(super) fn new(wanted: Wanted, catalog: Catalog) -> Self {
        let next = wanted.segments.iter().map(|source| source.from).min();
        Self { wanted, catalog, next }
    }

    /// From the start again.
    pub(super) fn again(&self) -> Self {
        Self::new(self.wanted.clone(), self.catalog.clone())
    }

    pub(super) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The next messages as lines; `None` behind the last.
    fn read<S: Medium>(
        &mut self,
        reader: &mut Reader<S>,
        render: Render<'_>,
    ) -> Result<Option<Vec<Line>>, ArchiveError> {
        let Some(from) = self.next else { return Ok(None) };
        let below = self.wanted.segments.iter().map(|source| source.below).max().unwrap_or(0);
        let from_us = self.wanted.day.saturating_mul(DAY_US);
        let query = Query {
            below,
            from_us,
            below_us: from_us.saturating_add(DAY_US),
            groups: vec![self.wanted.group],
            limit: STEP_MESSAGES,
            bytes_max: STEP_BYTES,
            ..Query::from(from)
        };
        let page = reader.read(&self.catalog, &query)?;
        self.next = page.next;
        let mut lines = Vec::new();
        for stored in page.messages {
            let seq = stored.seq;
            let mut sources = self.wanted.segments.iter();
            // Between them may be some whose turn was before.
            let source = sources.find(|source| (source.from..source.below).contains(&seq));
            let Some(source) = source else { continue };
            let mut line = render(stored, &self.catalog);
            line.push('\n');
            lines.push(Line { segment: source.segment, seq, line });
        }
        Ok(Some(lines))
    }
}

/// A file that is written.
pub(super) struct Writing {
    pub file: FileId,
    at: u64,
    gzip: GzEncoder<Vec<u8>>,
    file_hash: Context,
    content_hash: Context,
    content_bytes: u64,
    seqs: Option<(Seq, Seq)>,
    shares: Vec<Share>,
}

impl Writing {
    pub(super) fn new(file: FileId, wanted: &Wanted) -> Self {
        let shares = wanted.segments.iter().map(|source| Share { segment: source.segment, messages: 0 });
        Self {
            file,
            at: 0,
            gzip: GzEncoder::new(Vec::new(), Compression::default()),
            file_hash: Context::new(&SHA256),
            content_hash: Context::new(&SHA256),
            content_bytes: 0,
            seqs: None,
            shares: shares.collect(),
        }
    }

    /// Writes some messages; whether there are more.
    pub(super) fn step<S: Medium, T: Medium>(
        &mut self,
        pages: &mut Pages,
        reader: &mut Reader<S>,
        medium: &mut T,
        render: Render<'_>,
    ) -> Result<bool, ArchiveError> {
        let Some(lines) = pages.read(reader, render)? else { return Ok(false) };
        for Line { segment, seq, line } in lines {
            self.gzip.write_all(line.as_bytes()).map_err(|error| failed(Operation::Write, &error))?;
            self.content_hash.update(line.as_bytes());
            self.content_bytes += line.len() as u64;
            self.seqs = Some((self.seqs.map_or(seq, |(first, _)| first), seq));
            let share = self.shares.iter_mut().find(|share| share.segment == segment);
            share.into_iter().for_each(|share| share.messages += 1);
        }
        self.put(medium)?;
        Ok(true)
    }

    fn put<T: Medium>(&mut self, medium: &mut T) -> Result<(), MediumError> {
        let bytes = std::mem::take(self.gzip.get_mut());
        self.file_hash.update(&bytes);
        medium.write_at(self.file, self.at, &bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Whether there was nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.seqs.is_none()
    }

    /// Writes the end, and gives the manifest, as far as it does not depend on its name.
    pub(super) fn finish<T: Medium>(
        mut self,
        wanted: &Wanted,
        journal: String,
        medium: &mut T,
    ) -> Result<Manifest, ArchiveError> {
        self.gzip.try_finish().map_err(|error| failed(Operation::Write, &error))?;
        self.put(medium)?;
        let (first_seq, last_seq) = self.seqs.unwrap_or_default();
        Ok(Manifest {
            format: FORMAT,
            journal,
            day: day_name(wanted.day),
            group: wanted.group.as_str().to_owned(),
            part: 1,
            file: String::new(),
            messages: self.shares.iter().map(|share| share.messages).sum(),
            first_seq,
            last_seq,
            bytes: self.at,
            sha256: hex(self.file_hash.finish().as_ref()),
            content_bytes: self.content_bytes,
            content_sha256: hex(self.content_hash.finish().as_ref()),
            segments: self.shares,
        })
    }
}

/// A file that is read back, beside the journal that it was made of.
pub(super) struct Checking {
    pub file: FileId,
    pub manifest: Manifest,
    at: u64,
    gzip: GzDecoder<Vec<u8>>,
    /// Bytes of the decoder's output that are compared.
    compared: usize,
    file_hash: Context,
    content_hash: Context,
    messages: u64,
}

impl Checking {
    pub(super) fn new(file: FileId, manifest: Manifest) -> Self {
        Self {
            file,
            manifest,
            at: 0,
            gzip: GzDecoder::new(Vec::new()),
            compared: 0,
            file_hash: Context::new(&SHA256),
            content_hash: Context::new(&SHA256),
            messages: 0,
        }
    }

    /// Compares some messages; whether there are more.
    pub(super) fn step<S: Medium, T: Medium>(
        &mut self,
        pages: &mut Pages,
        reader: &mut Reader<S>,
        medium: &mut T,
        render: Render<'_>,
    ) -> Result<bool, ArchiveError> {
        let Some(lines) = pages.read(reader, render)? else {
            return self.finish(medium).map(|()| false);
        };
        for Line { line, .. } in lines {
            while self.held().len() < line.len() {
                if !self.fill(medium)? {
                    return Err(self.differs());
                }
            }
            if self.held().get(..line.len()) != Some(line.as_bytes()) {
                return Err(self.differs());
            }
            self.content_hash.update(line.as_bytes());
            self.compared += line.len();
            self.messages += 1;
        }
        let compared = std::mem::take(&mut self.compared);
        self.gzip.get_mut().drain(..compared);
        Ok(true)
    }

    fn held(&self) -> &[u8] {
        self.gzip.get_ref().get(self.compared..).unwrap_or_default()
    }

    /// Reads some more of the file; whether there was any.
    fn fill<T: Medium>(&mut self, medium: &mut T) -> Result<bool, ArchiveError> {
        let mut bytes = vec![0; CHUNK];
        let read = medium.read_at(self.file, self.at, &mut bytes)?;
        bytes.truncate(read);
        self.at += read as u64;
        self.file_hash.update(&bytes);
        self.gzip.write_all(&bytes).and_then(|()| self.gzip.flush()).map_err(|_| self.differs())?;
        Ok(read > 0)
    }

    /// Nothing more is in the file, and all sums are as they were.
    fn finish<T: Medium>(&mut self, medium: &mut T) -> Result<(), ArchiveError> {
        while self.fill(medium)? {}
        let is_whole = self.gzip.try_finish().is_ok() && self.held().is_empty();
        let sums =
            (hex(self.file_hash.clone().finish().as_ref()), hex(self.content_hash.clone().finish().as_ref()));
        let manifest = &self.manifest;
        let same = (self.at, self.messages) == (manifest.bytes, manifest.messages)
            && sums == (manifest.sha256.clone(), manifest.content_sha256.clone());
        if is_whole && same { Ok(()) } else { Err(self.differs()) }
    }

    fn differs(&self) -> ArchiveError {
        ArchiveError::Differs(self.manifest.file.clone())
    }
}

/// What compresses into memory does not fail, but says that it could.
fn failed(operation: Operation, error: &std::io::Error) -> MediumError {
    MediumError::Failed { operation, code: 0, sentence: error.to_string() }
}
