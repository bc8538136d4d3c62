//! A history that the test writes.

use std::future::poll_fn;
use std::sync::Mutex;
use std::task::{Poll, Waker};
use std::time::Duration;

use iotsocketd::hub::backend::Pending;
use iotsocketd::hub::history::{
    AuditReport, Clock, Found, Gone, History, HistoryError, Kind, MessageId, MessageQuery, MessageView,
    Outcome, Page, State, TraceEvent, Via, Which,
};
use iotsocketd::wire::{Format, GroupName, Uid};

/// The moment of message 1; each is a second behind the one before.
pub const FIRST_US: i64 = 1_795_287_162_000_000;

#[derive(Default)]
struct Inner {
    messages: Vec<MessageView>,
    wakers: Vec<Waker>,
    failure: Option<HistoryError>,
    left: u64,
    gone: u64,
    is_stuck: bool,
    pages: usize,
}

/// Everything in it counts as being on flash.
#[derive(Default)]
pub struct FakeHistory(std::sync::Arc<Mutex<Inner>>);

/// Message `seq`: objects "o0" to "o2" take turns, the last is in Stations; every fifth is an event without a group.
pub fn message(seq: u64) -> MessageView {
    let object = seq % 3;
    let is_event = seq.is_multiple_of(5);
    let name = |text: &str| GroupName::parse(text).unwrap();
    MessageView {
        id: id(seq),
        seq,
        time_us: FIRST_US + (i64::try_from(seq).unwrap() - 1) * 1_000_000,
        clock: Clock::Corrected,
        kind: if is_event { Kind::Event } else { Kind::Telemetry },
        uid: Uid::parse(&format!("o{object}")).unwrap(),
        group: if is_event { name("") } else { name(if object == 2 { "Stations" } else { "Devices" }) },
        via: Via::Udp,
        format: Format::Json,
        payload: format!("{{\"n\":{seq}}}").into_bytes(),
        state: State::Waiting,
        source: None,
        network: None,
        trace: None,
    }
}

/// The id of message `seq`.
pub fn id(seq: u64) -> MessageId {
    MessageId::parse(&format!("01930a2b-4c5d-7000-8000-{seq:012x}")).unwrap()
}

fn matches(query: &MessageQuery, message: &MessageView) -> bool {
    message.seq > query.after
        && query.uid.is_none_or(|uid| uid == message.uid)
        && query.groups.as_ref().is_none_or(|groups| groups.contains(&message.group))
        && query.kind.is_none_or(|kind| kind == message.kind)
        && query.from_us.is_none_or(|from| message.time_us >= from)
        && query.to_us.is_none_or(|to| message.time_us < to)
}

impl FakeHistory {
    /// Puts these behind what is there.
    pub fn append(&self, messages: impl IntoIterator<Item = MessageView>) {
        let mut inner = self.0.lock().unwrap();
        inner.messages.extend(messages);
        inner.wakers.drain(..).for_each(Waker::wake);
    }

    /// Puts so many behind what is there, made by [`message`].
    pub fn grow(&self, count: u64) {
        let last = self.0.lock().unwrap().messages.last().map_or(0, |message| message.seq);
        self.append((last + 1..=last + count).map(message));
    }

    /// From now on it gives nothing but this.
    pub fn fail(&self, failure: HistoryError) {
        self.0.lock().unwrap().failure = Some(failure);
    }

    /// Up to `left` nothing is known any more, up to `gone` only that they are gone.
    pub fn lose(&self, left: u64, gone: u64) {
        let mut inner = self.0.lock().unwrap();
        (inner.left, inner.gone) = (left, gone);
    }

    /// From now on it gives what it has again.
    pub fn recover(&self) {
        self.0.lock().unwrap().failure = None;
    }

    /// From now on it does not answer.
    pub fn hang(&self) {
        self.0.lock().unwrap().is_stuck = true;
    }

    /// How often it was asked for a page.
    pub fn pages(&self) -> usize {
        self.0.lock().unwrap().pages
    }

    /// Returns when it was asked for another page than these.
    pub fn await_asked(&self, pages: usize, patience: Duration) {
        let begun = std::time::Instant::now();
        while self.pages() == pages {
            assert!(begun.elapsed() < patience, "nobody asks");
            std::thread::yield_now();
        }
    }

    /// Returns when somebody waits for more.
    pub fn await_waiting(&self, patience: Duration) {
        let begun = std::time::Instant::now();
        while self.0.lock().unwrap().wakers.is_empty() {
            assert!(begun.elapsed() < patience, "nobody waits");
            std::thread::yield_now();
        }
    }
}

impl Inner {
    fn page(&self, query: &MessageQuery) -> Page {
        let matching = || self.messages.iter().filter(|message| matches(query, message));
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let mut is_full = false;
        let mut take = |message: &MessageView| {
            if !is_full {
                bytes += message.payload.len();
                messages.push(message.clone());
                is_full = bytes >= query.bytes || messages.len() >= query.limit;
            }
        };
        if query.newest {
            matching().rev().for_each(&mut take);
            messages.reverse();
            is_full = false;
        } else {
            matching().for_each(&mut take);
        }
        let end = self.messages.last().map_or(0, |message| message.seq);
        let next = messages.last().filter(|_| is_full).map_or(end, |message| message.seq);
        Page { messages, next }
    }
}

impl History for FakeHistory {
    fn messages(&self, query: MessageQuery) -> Pending<Result<Page, HistoryError>> {
        let mut inner = self.0.lock().unwrap();
        inner.pages += 1;
        if inner.is_stuck {
            return Box::pin(std::future::pending());
        }
        let page = inner.failure.clone().map_or_else(|| Ok(inner.page(&query)), Err);
        Box::pin(async { page })
    }

    fn message(&self, which: Which) -> Pending<Result<Found, HistoryError>> {
        let inner = self.0.lock().unwrap();
        let is_it = |message: &&MessageView| match which {
            Which::Id(id) => message.id == id,
            Which::Seq(seq) => message.seq == seq,
        };
        let mut found = inner.messages.iter().find(is_it).cloned();
        if let Some(message) = &mut found {
            let (time_us, to) = (message.time_us, Some("central".to_owned()));
            message.trace = Some(vec![
                TraceEvent::new(Outcome::Received, time_us),
                TraceEvent { to, attempt: Some(2), ..TraceEvent::new(Outcome::Sent, time_us) },
            ]);
        }
        let found = match found {
            Some(message) if message.seq <= inner.left => Found::Left,
            Some(message) if message.seq <= inner.gone => Found::Gone(Gone {
                id: Some(message.id),
                seq: message.seq,
                state: State::Dropped,
                trace: message.trace.unwrap_or_default(),
            }),
            Some(message) => Found::Message(Box::new(message)),
            None => Found::Nothing,
        };
        let result = inner.failure.clone().map_or(Ok(found), Err);
        Box::pin(async { result })
    }

    fn verify_audit(&self) -> Pending<Result<AuditReport, HistoryError>> {
        Box::pin(async { Ok(AuditReport { records: 3, ..AuditReport::default() }) })
    }

    fn wait_beyond(&self, seq: u64) -> Pending<()> {
        let inner = self.0.clone();
        Box::pin(poll_fn(move |context| {
            let mut inner = inner.lock().unwrap();
            if inner.messages.last().is_some_and(|message| message.seq > seq) {
                return Poll::Ready(());
            }
            inner.wakers.push(context.waker().clone());
            Poll::Pending
        }))
    }
}
