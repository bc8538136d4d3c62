//! Queued commands on their way: from the API to the journal, from there to objects, and their answers back.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::auditing::{Deed, What};
use super::durable::NeverDurable;
use super::{CallAnswer, Hub, Lost, Turn};
use crate::delivery::commands::{self, Commands, Ended, Known, New, Once, Outcome};
use crate::journal::Seq;
use crate::journal::front::Ticket as Place;
use crate::journal::record::{Cause, Kind, Message, Record, State, Via};
use crate::journal::stamp::{Clock, MessageId};
use crate::router::{Command, SessionState, Ticket};
use crate::wire::{Format, GroupName, Payload, Uid};

/// How long an answer is waited for if a command has no deadline: as good as for ever, its session ends first.
const NO_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A command that is to be queued.
#[derive(Clone, PartialEq, Eq)]
pub struct NewCommand {
    /// The object that it is for.
    pub uid: Uid,
    /// How its payload is meant.
    pub format: Format,
    /// What is asked, at most 65,535 bytes.
    pub payload: Vec<u8>,
    /// How long it may wait.
    pub deadline: Option<Duration>,
    /// Takes the place of commands of the same name that were not sent yet.
    pub supersedes: Option<String>,
    /// Who sends it: the name of an API key.
    pub by: String,
    /// Under which key of its sender it is sent.
    pub once: Option<Once>,
}

/// Shows how long the payload is and none of it.
impl fmt::Debug for NewCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewCommand")
            .field("uid", &self.uid)
            .field("payload_len", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// Why a command is not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandRefusal {
    /// The access list does not have the object.
    UnknownObject,
    /// The object's group does not take such a payload.
    Payload,
    /// The same key was used for another command.
    Conflict,
    /// Too many wait already, or the journal takes nothing now.
    NoRoom,
}

/// The commands, and which of the router's calls are theirs.
#[derive(Debug)]
pub(super) struct CommandDesk {
    pub(super) commands: Commands,
    calls: HashMap<Ticket, (Uid, Seq)>,
    tickets: HashMap<Uid, Ticket>,
    /// Commands whose outcome the result webhook's workers have.
    offered: BTreeSet<Seq>,
    /// Objects whose command may be sent once its record is on flash.
    starts: VecDeque<(Place, Uid)>,
}

impl CommandDesk {
    pub(super) fn new(commands: Commands) -> Self {
        Self {
            commands,
            calls: HashMap::new(),
            tickets: HashMap::new(),
            offered: BTreeSet::new(),
            starts: VecDeque::new(),
        }
    }

    /// Whose call this is, if it is a command's. It is over.
    pub(super) fn take_call(&mut self, ticket: Ticket) -> Option<(Uid, Seq)> {
        let (uid, seq) = self.calls.remove(&ticket)?;
        self.tickets.remove(&uid);
        Some((uid, seq))
    }
}

impl Hub {
    /// Queues a command. The future resolves when it is on flash.
    pub fn queue_command(
        &self,
        new: NewCommand,
    ) -> Result<(MessageId, impl Future<Output = Result<(), NeverDurable>> + Send + use<>), CommandRefusal>
    {
        let mut turn = self.turn(Instant::now());
        let id = turn.queue_command(new)?;
        Ok((id, turn.core.log.wait_for_all()))
    }

    /// What a command asks, read from the journal because of [`super::Keeper::read_command`]; `None`: it could not be
    /// read now.
    pub fn give_command(&self, uid: Uid, seq: Seq, asked: Option<(Format, Vec<u8>)>) {
        self.turn(Instant::now()).send_command(uid, seq, asked);
    }

    /// What a command asks is not in the journal any more.
    pub fn lose_command(&self, seq: Seq) {
        let mut turn = self.turn(Instant::now());
        let (records, _) = turn.lose_commands(seq..=seq, Cause::Full, true);
        turn.note_commands(records, Vec::new());
    }

    /// How many commands wait for their object, or are under way.
    pub fn waiting_commands(&self) -> usize {
        super::lock(&self.core).desk.commands.waiting()
    }

    /// Ends commands whose time is up; to be called every second.
    pub fn expire_commands(&self) {
        let mut turn = self.turn(Instant::now());
        let now = turn.core.log.stamp();
        let due = turn.core.desk.commands.next_deadline_us().is_some_and(|due| due <= now.wall_us);
        if due && now.clock == Clock::Synced {
            let (records, ended) = turn.core.desk.commands.expire(now.wall_us);
            for Ended { uid, seq, .. } in &ended {
                turn.abandon_command(*uid, *seq);
            }
            turn.note_commands(records, ended);
        }
    }

    /// The result webhook took the outcome of a command.
    pub fn result_delivered(&self, seq: Seq) {
        let mut turn = self.turn(Instant::now());
        turn.core.desk.offered.remove(&seq);
        let over = turn.core.desk.commands.result_delivered(seq);
        turn.note_commands(over.into_iter().collect(), Vec::new());
    }

    /// Hands outcomes to the result webhook that it was not given, because there was no room or the program started
    /// later; to be called every second.
    pub fn send_results(&self) {
        let mut turn = self.turn(Instant::now());
        let desk = &turn.core.desk;
        let ended = desk.commands.ended().filter(|ended| !desk.offered.contains(&ended.seq));
        let ended: Vec<_> = ended.collect();
        turn.send_results(ended);
    }
}

impl Turn<'_> {
    fn queue_command(&mut self, new: NewCommand) -> Result<MessageId, CommandRefusal> {
        let NewCommand { uid, format, payload, deadline, supersedes, by, once } = new;
        let core = &mut *self.core;
        let now = core.log.stamp();
        let journal = core.log.front.journal();
        match once.and_then(|once| core.desk.commands.known(&once, now.wall_us)) {
            Some(Known::Same(seq, at_us)) => return Ok(MessageId::new(at_us, seq, journal)),
            Some(Known::Other) => return Err(CommandRefusal::Conflict),
            None => {}
        }
        let asked = Payload::new(format, &payload).ok_or(CommandRefusal::Payload)?;
        let group = core.router.group_of(uid).ok_or(CommandRefusal::UnknownObject)?;
        core.router.may_be_asked(uid, asked).map_err(|_| CommandRefusal::Payload)?;
        core.desk.commands.has_room(uid).map_err(|_| CommandRefusal::NoRoom)?;
        if !core.log.front.takes_notes() {
            return Err(CommandRefusal::NoRoom);
        }
        let message = Message {
            uid,
            group,
            kind: Kind::Command,
            via: Via::Https,
            format,
            state: State::Waiting,
            source: None,
            network: None,
            payload: payload.as_slice().into(),
        };
        let seq = core.log.append(message).map_err(|_| CommandRefusal::NoRoom)?;
        // What was just appended is in memory.
        let at_us = core.log.front.get(seq).map_or(now.wall_us, |stored| stored.stamp.wall_us);
        let deadline_us =
            deadline.map(|wait| at_us.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)));
        let new = New { uid, once, now_us: at_us, deadline_us, supersedes };
        let (records, ended) = core.desk.commands.accept(seq, new);
        self.note_commands(records, ended);
        let id = MessageId::new(at_us, seq, journal);
        let detail = format!("id {id}");
        self.audit(Deed { who: &by, uid: Some(uid), ..Deed::own(What::Command, &detail) });
        let core = &mut *self.core;
        core.desk.starts.push_back((core.log.front.newest(), uid));
        Ok(id)
    }

    /// Records up to this place are on flash: objects that are there get what was queued for them.
    pub(super) fn start_durable_commands(&mut self, durable: Place) {
        while self.core.desk.starts.front().is_some_and(|(place, _)| *place <= durable)
            && let Some((_, uid)) = self.core.desk.starts.pop_front()
        {
            if self.core.router.session_state(uid) == SessionState::Live {
                self.start_command(uid);
            }
        }
    }

    /// The object has a session: its next command is read from the journal, and sent when it comes.
    pub(super) fn start_command(&mut self, uid: Uid) {
        let core = &mut *self.core;
        if let Some(seq) = core.desk.commands.next(uid) {
            core.log.read_command(uid, seq);
        }
    }

    /// The object's session is over: what was under way waits for the next.
    pub(super) fn stop_command(&mut self, uid: Uid) {
        if let Some(seq) = self.core.desk.commands.put_back(uid) {
            self.abandon_command(uid, seq);
        }
    }

    /// What these commands ask leaves the journal, or did: they end. Gives what is to be recorded of it.
    pub(super) fn lose_commands(
        &mut self,
        numbers: RangeInclusive<Seq>,
        cause: Cause,
        even_under_way: bool,
    ) -> (Vec<Record<'static>>, Lost) {
        let commands = &mut self.core.desk.commands;
        let (records, ended) = commands.lost(numbers, cause, even_under_way);
        let lost = records.iter().filter_map(|record| match record {
            Record::Command { seq, .. } => Some((*seq, GroupName::NONE)),
            _ => None,
        });
        let lost = Lost { destination: commands::NAME.to_owned(), numbers: lost.collect() };
        self.send_results(ended);
        (records, lost)
    }

    fn abandon_command(&mut self, uid: Uid, seq: Seq) {
        let ticket = self.core.desk.tickets.get(&uid).copied();
        if let Some(ticket) = ticket.filter(|ticket| self.core.desk.calls.get(ticket) == Some(&(uid, seq))) {
            self.core.desk.take_call(ticket);
            self.handle(Command::HttpAbandoned { ticket });
        }
    }

    fn send_command(&mut self, uid: Uid, seq: Seq, asked: Option<(Format, Vec<u8>)>) {
        let core = &mut *self.core;
        if !core.desk.commands.is_under_way(uid, seq) {
            return;
        }
        let is_live = core.router.session_state(uid) == SessionState::Live;
        let Some((format, payload)) = asked.filter(|_| is_live) else {
            // It stays queued: the journal may be readable another time.
            core.desk.commands.put_back(uid);
            return;
        };
        let now = core.log.stamp();
        let Some((deadline_us, record)) = core.desk.commands.sent(seq, now.wall_us) else { return };
        let left = deadline_us.map(|deadline_us| {
            Duration::from_micros(u64::try_from(deadline_us.saturating_sub(now.wall_us)).unwrap_or(0))
        });
        let wait = left.unwrap_or(NO_DEADLINE).min(NO_DEADLINE);
        let ticket = core.fresh_id();
        core.desk.calls.insert(ticket, (uid, seq));
        core.desk.tickets.insert(uid, ticket);
        self.note_commands(vec![record], Vec::new());
        let payload = Payload::new(format, &payload).unwrap_or(Payload::EMPTY);
        let deadline = self.now + wait;
        self.handle(Command::HttpRequest { ticket, uid, payload, deadline });
    }

    /// The router answered the call of a command.
    pub(super) fn command_answered(&mut self, uid: Uid, seq: Seq, answer: CallAnswer) {
        if answer.made_here {
            // Not handed over, or no answer in time: its own time is looked after elsewhere.
            self.core.desk.commands.put_back(uid);
            return;
        }
        let outcome = Outcome::answered(answer.code, answer.format, answer.payload);
        let (records, ended) = self.core.desk.commands.answered(seq, outcome);
        self.note_commands(records, ended);
        self.start_command(uid);
    }

    /// The result webhook was configured or taken out.
    pub(super) fn set_result_webhook(&mut self, has_webhook: bool) {
        let over = self.core.desk.commands.set_webhook(has_webhook);
        self.note_commands(over, Vec::new());
    }

    fn note_commands(&mut self, records: Vec<Record<'static>>, ended: Vec<Ended>) {
        if !records.is_empty() {
            self.core.log.note(&records);
        }
        self.send_results(ended);
    }

    fn send_results(&mut self, ended: Vec<Ended>) {
        let Some(webhooks) = self.hub.webhooks.get() else { return };
        let core = &mut *self.core;
        let journal = core.log.front.journal();
        for Ended { seq, uid, at_us, outcome } in ended {
            if webhooks.result(uid, seq, MessageId::new(at_us, seq, journal), &outcome) {
                core.desk.offered.insert(seq);
            }
        }
    }
}
