//! Which numbers damage has taken: those between whole batches, and of whole segments those between their neighbours.

use super::Seq;
use super::catalog::{Catalog, SegmentInfo};
use super::medium::{Medium, MediumError};
use super::scan::{Found, Scanner};
use super::segment::DATA_START;
use super::writer::JUMP;

/// First and last numbers of what is lost in one segment, in order; what lies behind its last whole batch, too, if
/// `behind` is the first number of the segment behind it.
pub fn lost_in<M: Medium + ?Sized>(
    medium: &mut M,
    segment: &SegmentInfo,
    behind: Seq,
) -> Result<Vec<(Seq, Seq)>, MediumError> {
    let file = medium.open(&segment.name())?;
    let mut scanner = Scanner::new(file, segment.header.epoch, DATA_START, segment.end.offset);
    let (mut lost, mut next, mut is_whole) = (Vec::new(), segment.header.first_seq, true);
    let result = loop {
        match scanner.next(medium) {
            Ok(Found::Batch { head, .. }) => {
                // Numbers that are left out without damage were never given.
                if !is_whole {
                    lost.extend(between(next, head.first_seq));
                }
                (next, is_whole) = (head.next_seq(), true);
            }
            Ok(Found::Gap { .. }) => is_whole = false,
            Ok(Found::End { offset }) => {
                if offset < segment.end.offset {
                    lost.extend(between(next, behind));
                }
                break Ok(());
            }
            Err(error) => break Err(error),
        }
    };
    medium.close(file);
    result.map(|()| lost)
}

/// First and last numbers of what was in segments that are missing between others, in order. Those that were deleted are not.
pub fn lost_between(catalog: &Catalog, is_retired: impl Fn(u64) -> bool) -> impl Iterator<Item = (Seq, Seq)> {
    catalog.segments.windows(2).filter_map(move |pair| {
        let [before, after] = pair else { return None };
        let previous = after.header.previous.number;
        let is_explained = previous == before.number() || is_retired(previous);
        between(before.summary.next_seq, after.header.first_seq).filter(|_| !is_explained)
    })
}

/// From one number to before another. If as many are left out in one go, there was a jump among them.
fn between(first: Seq, behind: Seq) -> Option<(Seq, Seq)> {
    let count = behind.checked_sub(first)?;
    let count = count.checked_sub(JUMP).unwrap_or(count);
    (count > 0).then(|| (first, first + count - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{Memory, Rig};

    #[test]
    fn lost_numbers_are_those_of_the_damaged_batches() {
        let medium = Memory::default();
        let mut rig = Rig::open(&medium);
        rig.fill(40, 5);
        let catalog = rig.writer.catalog();
        let [first, second, third] = [0, 1, 2].map(|at| catalog.segments[at].clone());
        let behind = second.header.first_seq;
        assert_eq!(lost_in(&mut medium.clone(), &first, behind).unwrap(), []);
        // A batch in the middle, and the last one.
        medium.damage(&first.name(), |bytes| {
            let middle = first.end.offset as usize / 2;
            bytes[middle] ^= 1;
            bytes[first.end.offset as usize - 1] ^= 1;
        });
        let lost = lost_in(&mut medium.clone(), &first, behind).unwrap();
        let [(from, to), last] = lost.as_slice() else { panic!("{lost:?}") };
        assert_eq!((from % 5, to - from, *last), (1, 4, (behind - 5, behind - 1)));
        let stored = rig.stored();
        assert!(stored.iter().all(|seq| lost.iter().all(|(from, to)| !(from..=to).contains(&seq))));
        assert_eq!(stored.len() as u64 + 10, catalog.next_seq - 1);
        assert_eq!(lost_between(&catalog, |_| false).count(), 0);
        let mut without = catalog.clone();
        without.segments.remove(1);
        let numbers = (second.header.first_seq, third.header.first_seq - 1);
        assert_eq!(lost_between(&without, |_| false).collect::<Vec<_>>(), [numbers]);
        let is_retired = |number| number == second.number();
        assert_eq!(lost_between(&without, is_retired).count(), 0, "nor is what was deleted");
    }

    #[test]
    fn numbers_that_were_left_out_are_not_lost() {
        assert_eq!(between(5, 5), None);
        assert_eq!(between(6, 5), None);
        assert_eq!(between(5, 7), Some((5, 6)));
        assert_eq!(between(5, 5 + JUMP), None);
        assert_eq!(between(5, 7 + JUMP), Some((5, 6)));
    }
}
