//! What damage has taken is told, written off, and booked: found at the start, by readers, and when books are looked at.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::delivery::central;
use crate::hub::recording::Told;
use crate::hub::{Hub, lock};
use crate::journal::Seq;
use crate::journal::lost::{lost_between, lost_in};
use crate::journal::record::{Cause, Gone, Moment, Record};
use crate::journal::recovery::Damage;
use crate::journal::stamp::Stamp;
use crate::journal::state::Small;
use crate::journal::writer::Writer;
use crate::logfmt::Quoted;
use crate::service::disk::Disk;
use crate::wire::GroupName;

/// What was noticed and not looked at yet.
#[derive(Debug, Default)]
pub struct Noticed(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Segments that were looked at, or are to be.
    known: BTreeSet<u64>,
    fresh: Vec<u64>,
    /// By how much less waits of a group than the books say, because of damage.
    to_book: Vec<(GroupName, i128)>,
}

impl Noticed {
    /// Damage was found; whether it was not known.
    pub fn notice<'a>(&self, damaged: impl IntoIterator<Item = &'a Damage>) -> bool {
        let mut inner = lock(&self.0);
        let before = inner.fresh.len();
        for Damage { segment, .. } in damaged {
            if inner.known.insert(*segment) {
                inner.fresh.push(*segment);
            }
        }
        inner.fresh.len() > before
    }

    /// What the books are to be told.
    pub fn book(&self, lines: Vec<(GroupName, i128)>) {
        lock(&self.0).to_book = lines;
    }

    /// Whether there is nothing to be recorded.
    pub fn is_empty(&self) -> bool {
        let inner = lock(&self.0);
        inner.fresh.is_empty() && inner.to_book.is_empty()
    }

    /// What is to be recorded of what was noticed since the last time, besides the books, and told; `None`: nothing was.
    pub fn take(
        &self,
        writer: &mut Writer<Disk>,
        hub: &Hub,
        now: Stamp,
    ) -> Option<(Vec<Record<'static>>, Vec<Told>)> {
        let (fresh, to_book) = {
            let mut inner = lock(&self.0);
            (std::mem::take(&mut inner.fresh), std::mem::take(&mut inner.to_book))
        };
        if fresh.is_empty() && to_book.is_empty() {
            return None;
        }
        let mut records = hub.book_damaged(&to_book);
        let mut told: Vec<Told> = Vec::new();
        // What is in memory yet is delivered from there.
        let in_memory = hub.look(|glance| glance.front.tail_start());
        for (from, to) in if fresh.is_empty() { Vec::new() } else { lost(writer, &fresh) } {
            let to = to.min(in_memory.saturating_sub(1));
            if to < from || is_known(writer.small(), from, to) {
                continue;
            }
            let count = to - from + 1;
            log::error!("event=messages_lost count={count} first={from} last={to} reason=damage");
            records.extend(hub.write_off(from, to, &[], Cause::Damaged).records);
            let at = Some(Moment { boot: writer.start().boot, stamp: now });
            let destination = central::NAME.to_owned();
            records.push(Record::Gone(Gone { from, to, count, cause: Cause::Damaged, destination, at }));
            let lost = Told {
                destination: central::NAME.to_owned(),
                cause: Cause::Damaged,
                numbers: (from, to),
                groups: [(GroupName::NONE, count)].into(),
            };
            if !told.iter_mut().any(|before| before.take_up(&lost)) {
                told.push(lost);
            }
        }
        Some((records, told))
    }
}

/// Numbers that are gone with these segments, and with segments that are missing.
fn lost(writer: &mut Writer<Disk>, damaged: &[u64]) -> Vec<(Seq, Seq)> {
    let catalog = writer.catalog();
    let mut lost: Vec<_> = lost_between(&catalog, |number| writer.small().is_retired(number)).collect();
    for (at, segment) in catalog.segments.iter().enumerate() {
        if !damaged.contains(&segment.number()) {
            continue;
        }
        let behind = catalog.segments.get(at + 1).map(|next| next.header.first_seq);
        let behind = behind.unwrap_or(segment.summary.next_seq);
        match lost_in(writer.medium(), segment, behind) {
            Ok(found) => lost.extend(found),
            Err(error) => log::error!("event=journal_unreadable error={}", Quoted(error)),
        }
    }
    lost
}

fn is_known(small: &Small, from: Seq, to: Seq) -> bool {
    small.gone().iter().any(|gone| gone.cause == Cause::Damaged && gone.from <= from && to <= gone.to)
}

/// How many of what is known to be lost are not in the books of the central yet.
pub fn unbooked(small: &Small) -> u64 {
    let lost =
        small.gone().iter().filter(|gone| gone.cause == Cause::Damaged).map(|gone| gone.count).sum::<u64>();
    let tallies =
        small.tallies().filter(|(_, name, cause, _)| *name == central::NAME && *cause == Cause::Damaged);
    lost.saturating_sub(tallies.map(|(.., count)| count).sum())
}
