//! Reading a whole segment to see whether all of it can still be read: every byte but those behind the end of one that
//! is not sealed, which may be anything.

use super::catalog::{self, SegmentInfo, tail_block};
use super::medium::{FileId, Medium, MediumError};
use super::recovery::Damage;
use super::scan::{Found, Scanner};
use super::segment::{DATA_START, HEADER_LEN, TAIL_LEN};

/// Reads everything of a segment; the stretches that are damaged.
pub fn scrub<M: Medium + ?Sized>(medium: &mut M, segment: &SegmentInfo) -> Result<Vec<Damage>, MediumError> {
    let file = medium.open(&segment.name())?;
    let found = read(medium, file, segment);
    medium.close(file);
    found
}

fn read<M: Medium + ?Sized>(
    medium: &mut M,
    file: FileId,
    segment: &SegmentInfo,
) -> Result<Vec<Damage>, MediumError> {
    let damage = |from, to| Damage { segment: segment.number(), from, to };
    let mut damaged = Vec::new();
    let end = segment.end.offset;
    let header = segment.header.encode();
    if catalog::read(medium, file, 0, HEADER_LEN)? != header {
        damaged.push(damage(0, DATA_START));
    }
    // One byte more: nothing is behind it.
    let tail_at = segment.file_len.saturating_sub(TAIL_LEN as u64);
    let trailer = segment.trailer.map(|trailer| trailer.encode(segment.header.epoch));
    if catalog::read(medium, file, tail_at, TAIL_LEN + 1)? != tail_block(&header, trailer) {
        damaged.push(damage(tail_at, segment.file_len));
    }
    let around = damaged.len();
    let mut scanner = Scanner::new(file, segment.header.epoch, DATA_START, end);
    let (mut chain, mut data_crc) = (segment.header.previous.crc, 0);
    loop {
        match scanner.next(medium)? {
            Found::Batch { offset, head, bytes } => {
                // Behind a gap the batch before is not known.
                if head.chain != chain && damaged.len() == around {
                    damaged.push(damage(offset, offset));
                }
                chain = head.crc;
                data_crc = crc32c::crc32c_append(data_crc, bytes);
            }
            Found::Gap { from, to } => damaged.push(damage(from, to)),
            Found::End { offset } => {
                if offset < end {
                    damaged.push(damage(offset, end));
                }
                break;
            }
        }
    }
    if let Some(trailer) = &segment.trailer {
        for which in 0..trailer.parts.len() {
            if catalog::read_part(medium, file, trailer, which)?.is_none() {
                damaged.push(damage(end, segment.file_len));
            }
        }
        if end + trailer.footer_len() != tail_at {
            damaged.push(damage(end, tail_at));
        }
        if damaged.len() == around && trailer.data_crc != data_crc {
            damaged.push(damage(DATA_START, end));
        }
    }
    Ok(damaged)
}
