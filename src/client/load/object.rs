//! An object as load: answers with what it was asked, asks the central, keeps its telemetry token.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Instant;

use async_io::Timer;
use smol::lock::Semaphore;

use super::shared::Shared;
use super::{RECONNECT_AFTER, source};
use crate::client::connect::{Login, LoginError, Stream, login};
use crate::client::counters::Kind;
use crate::client::session::{End, Handler, Outbox, drive};
use crate::wire::{CloseCode, Format, Payload, RESPONSE_VALID, Transmission};

/// Answers that wait for their time at most; more are given at once.
const LATE_MAX: usize = 64;

/// What the load tells an object.
#[derive(Default)]
pub(super) struct Mailbox {
    ask: Cell<bool>,
    leave: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Mailbox {
    /// Sends a request to the central, unless the one before is still unanswered.
    pub(super) fn ask(&self) {
        self.ask.set(true);
        self.wake();
    }

    /// Says goodbye.
    pub(super) fn leave(&self) {
        self.leave.set(true);
        self.wake();
    }

    pub(super) fn leaves(&self) -> bool {
        self.leave.get()
    }

    /// Remembers whom to wake.
    pub(super) fn listen(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// Lives the object's life until it shall leave: logs in, works, comes back when thrown out.
pub(super) async fn live(shared: &Shared, index: usize, mailbox: &Mailbox, permits: &Semaphore) {
    let mut tried = false;
    loop {
        let permit = permits.acquire().await;
        if mailbox.leaves() {
            return;
        }
        let stream = log_in(shared, index).await;
        drop(permit);
        if let Ok(stream) = stream {
            shared.set_online(index, true);
            if !tried {
                shared.tried();
            }
            let mut object = Object::new(shared, index, mailbox);
            match drive(stream, &mut object).await {
                Ok(End::Left) => {}
                Ok(End::Closed(_) | End::Lost) => shared.counters.add(Kind::SessionLost, 1),
                Err(error) => shared.counters.fail(Kind::SessionLost, &error),
            }
            shared.set_online(index, false);
        } else if !tried {
            shared.tried();
        }
        tried = true;
        if mailbox.leaves() {
            return;
        }
        Timer::after(RECONNECT_AFTER).await;
    }
}

/// Logs in, counts and measures it.
pub(super) async fn log_in(shared: &Shared, index: usize) -> Result<Stream, LoginError> {
    let Some((uid, key)) = shared.target.objects.get(index) else {
        return Err(LoginError::NotAccepted);
    };
    let started = Instant::now();
    let stream = login(&Login {
        address: shared.target.sessions,
        local: source(shared.target.sessions, shared.plan.sources, index),
        tls: shared.target.tls.as_ref(),
        largest: 0,
        uid: *uid,
        key: *key,
        redirect_hosts: &[],
    })
    .await;
    match &stream {
        Ok(_) => {
            shared.counters.logins.record(started.elapsed());
            shared.counters.add(Kind::LoggedIn, 1);
        }
        Err(error @ LoginError::NotAccepted) => shared.counters.fail(Kind::LoginRefused, error),
        Err(error) => shared.counters.fail(Kind::LoginFailed, error),
    }
    stream
}

struct Object<'a> {
    shared: &'a Shared,
    index: usize,
    mailbox: &'a Mailbox,
    asked: Option<(u16, Instant)>,
    number: u16,
    late: VecDeque<Late>,
    timer: Option<Timer>,
}

/// An answer that waits for its time.
struct Late {
    due: Instant,
    number: u16,
    format: Format,
    data: Box<[u8]>,
}

impl<'a> Object<'a> {
    fn new(shared: &'a Shared, index: usize, mailbox: &'a Mailbox) -> Self {
        Self { shared, index, mailbox, asked: None, number: 0, late: VecDeque::new(), timer: None }
    }

    /// Gives the answers whose time has come.
    fn poll_late(&mut self, cx: &mut Context<'_>, out: &mut Outbox) {
        let now = Instant::now();
        while let Some(late) = self.late.front().filter(|late| late.due <= now) {
            if let Some(payload) = Payload::new(late.format, &late.data) {
                out.push(&answer(late.number, payload));
            }
            self.late.pop_front();
        }
        let Some(next) = self.late.front() else {
            return;
        };
        let timer = self.timer.get_or_insert_with(|| Timer::at(next.due));
        timer.set_at(next.due);
        if Pin::new(timer).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

fn answer(number: u16, payload: Payload<'_>) -> Transmission<'_> {
    Transmission::Response { uid: None, number, code: RESPONSE_VALID, payload }
}

impl Handler for Object<'_> {
    fn handle(&mut self, transmission: Transmission<'_>, out: &mut Outbox) {
        let counters = &self.shared.counters;
        match transmission {
            Transmission::Request { number, payload, .. } => {
                if self.shared.plan.answer_after.is_zero() || self.late.len() >= LATE_MAX {
                    out.push(&answer(number, payload));
                } else {
                    self.late.push_back(Late {
                        due: Instant::now() + self.shared.plan.answer_after,
                        number,
                        format: payload.format(),
                        data: payload.data().into(),
                    });
                }
            }
            Transmission::Response { number, code, .. } => {
                if let Some((_, sent)) = self.asked.take_if(|(asked, _)| *asked == number) {
                    counters.asks.record(sent.elapsed());
                    let kind = if code == RESPONSE_VALID { Kind::AskAnswered } else { Kind::AskFailed };
                    counters.add(kind, 1);
                } else {
                    counters.add(Kind::CallWrong, 1);
                }
            }
            Transmission::Token(token) => self.shared.set_token(self.index, token),
            _ => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Outbox) {
        self.mailbox.listen(cx);
        if self.mailbox.leaves() {
            out.leave(CloseCode::Maintenance);
            return;
        }
        if self.asked.is_none() && self.mailbox.ask.take() {
            self.number = self.number.wrapping_add(1);
            self.asked = Some((self.number, Instant::now()));
            out.push(&Transmission::Request {
                uid: None,
                number: self.number,
                payload: self.shared.payload(),
            });
            self.shared.counters.add(Kind::Asked, 1);
        }
        if !self.late.is_empty() {
            self.poll_late(cx, out);
        }
    }
}
