//! What leaves the journal, and what is recorded for that: who never gets which messages, and how far everybody is.

use std::time::Instant;

use super::Hub;
use super::recording::Told;
use crate::delivery::{central, commands};
use crate::journal::Seq;
use crate::journal::record::{Cause, Kind, Record};
use crate::journal::state::CursorState;
use crate::wire::GroupName;

/// Messages that a destination never gets, by number.
#[derive(Debug)]
pub struct Lost {
    /// Its name.
    pub destination: String,
    /// Their numbers, in order, and groups.
    pub numbers: Vec<(Seq, GroupName)>,
}

/// What follows from messages that leave the journal.
#[derive(Debug)]
pub struct WrittenOff {
    /// Who does not get which.
    pub lost: Vec<Lost>,
    /// What is to be recorded before they leave.
    pub records: Vec<Record<'static>>,
}

impl Hub {
    /// The messages from `first` to `last` are leaving the journal: these. Gives what nobody gets any more;
    /// [`Hub::take_progress`] has the record of the books, which goes before they do.
    pub fn write_off(
        &self,
        first: Seq,
        last: Seq,
        messages: &[(Seq, GroupName, Kind)],
        cause: Cause,
    ) -> WrittenOff {
        let mut turn = self.turn(Instant::now());
        let telemetry = messages.iter().filter(|(_, _, kind)| *kind == Kind::Telemetry);
        let telemetry: Vec<_> = telemetry.map(|(seq, group, _)| (*seq, *group)).collect();
        let numbers = turn.core.central.write_off(first, last, &telemetry, cause);
        let mut lost = vec![Lost { destination: central::NAME.to_owned(), numbers }];
        lost.extend(turn.core.subscribers.write_off(first, last, messages, cause));
        let (records, commands) = turn.lose_commands(first..=last, cause, false);
        lost.push(commands);
        lost.retain(|lost| !lost.numbers.is_empty());
        turn.ask_for_subscribers();
        WrittenOff { lost, records }
    }

    /// The messages of a group from `first` to `last` are leaving the journal, and no others: these. As
    /// [`Hub::write_off`].
    pub fn thin(
        &self,
        first: Seq,
        last: Seq,
        group: GroupName,
        messages: &[(Seq, Kind)],
        cause: Cause,
    ) -> WrittenOff {
        let mut turn = self.turn(Instant::now());
        let of_kind = |wanted: Kind| messages.iter().filter(move |(_, kind)| *kind == wanted);
        let telemetry: Vec<_> = of_kind(Kind::Telemetry).map(|(seq, _)| *seq).collect();
        let numbers = turn.core.central.thin(first, last, group, &telemetry, cause);
        let mut lost = vec![Lost { destination: central::NAME.to_owned(), numbers }];
        lost.extend(turn.core.subscribers.thin(first, last, group, messages, cause));
        let mut records = Vec::new();
        for (seq, _) in of_kind(Kind::Command) {
            let (ended, commands) = turn.lose_commands(*seq..=*seq, cause, false);
            records.extend(ended);
            lost.push(commands);
        }
        lost.retain(|lost| !lost.numbers.is_empty());
        turn.ask_for_subscribers();
        WrittenOff { lost, records }
    }

    /// Less of these groups waits than the books say, because the medium lost it; or more, because it lost what was counted
    /// as delivered before it counted as received. Gives what is to be recorded besides the books.
    pub fn book_damaged(&self, lines: &[(GroupName, i128)]) -> Vec<Record<'static>> {
        let mut core = super::lock(&self.core);
        let mut records = Vec::new();
        for (group, less) in lines {
            let count = u64::try_from(less.unsigned_abs()).unwrap_or(u64::MAX);
            if *less > 0 {
                core.central.lost(*group, count);
            } else {
                (0..count).for_each(|_| core.central.received(*group));
                *core.log.recorded.entry(Kind::Telemetry).or_default() += count;
                records.push(Record::Received { group: *group, kind: Kind::Telemetry, add: count });
            }
        }
        records
    }

    /// Tells operators of messages that went before they were in the archive.
    pub fn tell_unarchived(&self, count: u64, first: Seq, last: Seq) {
        let message = super::recording::unarchived_message(count, first, last);
        self.turn(Instant::now()).core.log.append_or_count(message);
    }

    /// Nothing below this number is in the journal any more.
    pub fn left_below(&self, oldest: Seq) {
        self.turn(Instant::now()).core.subscribers.left_below(oldest);
    }

    /// Tells operators of messages that are gone, as a message.
    pub fn tell_gone(&self, told: &Told) {
        self.turn(Instant::now()).core.log.append_or_count(told.message());
    }

    /// What destinations got and what they never will, to be recorded now, while nothing from `end` on is on flash and no
    /// batch with progress is on its way there.
    pub fn take_progress(&self, end: Seq) -> Vec<Record<'static>> {
        let mut core = super::lock(&self.core);
        let super::Core { log, central, subscribers, .. } = &mut *core;
        let mut progress = subscribers.take_progress_ahead(Instant::now(), log);
        if central.has_progress() {
            progress.extend(central.take_progress_before(end, log.front.from(end)));
        }
        progress
    }

    /// What was taken by [`Hub::take_progress`] could not be recorded.
    pub fn take_back(&self, progress: &[Record<'_>]) {
        super::lock(&self.core).take_back(progress);
    }

    /// How far destinations are, by what is on flash: everything before `end`.
    pub fn places(&self, end: Seq) -> Vec<(String, CursorState)> {
        let core = super::lock(&self.core);
        let commands = CursorState { up_to: end.saturating_sub(1), holes: core.desk.commands.needed(end) };
        let central = (central::NAME.to_owned(), core.central.place_before(end));
        let own = [central, (commands::NAME.to_owned(), commands)];
        own.into_iter().chain(core.subscribers.places(end)).collect()
    }
}

impl super::Core {
    /// Progress that was taken could not be recorded.
    pub(super) fn take_back(&mut self, progress: &[Record<'_>]) {
        self.central.take_back(progress);
        self.subscribers.take_back(progress);
    }
}
