//! A central over TCP as load: calls objects, takes telemetry, answers objects with what they asked.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use async_io::Timer;

use super::object::Mailbox;
use super::pace::{Next, Pace};
use super::shared::Shared;
use super::{RECONNECT_AFTER, source};
use crate::client::connect::{Login, LoginError, login};
use crate::client::counters::Kind;
use crate::client::session::{End, Handler, Outbox, drive};
use crate::wire::{
    AuthKey, CloseCode, Payload, RESPONSE_NOT_FOUND, RESPONSE_TIMED_OUT, RESPONSE_VALID, Transmission, Uid,
};

/// While no object is logged in, one is looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Lives the central's life until it shall leave.
pub(super) async fn live(shared: &Shared, key: AuthKey, mailbox: &Mailbox) {
    let mut tried = false;
    while !mailbox.leaves() {
        let stream = login(&Login {
            address: shared.target.sessions,
            local: source(shared.target.sessions, shared.plan.sources, 0),
            tls: shared.target.tls.as_ref(),
            largest: 0,
            uid: Uid::CENTRAL,
            key,
            redirect_hosts: &[],
        })
        .await;
        if !tried {
            tried = true;
            shared.tried();
        }
        match stream {
            Ok(stream) => {
                let mut central = Central::new(shared, mailbox);
                match drive(stream, &mut central).await {
                    Ok(End::Left) => return,
                    Ok(End::Closed(_) | End::Lost) => shared.counters.add(Kind::SessionLost, 1),
                    Err(error) => shared.counters.fail(Kind::SessionLost, &error),
                }
            }
            Err(error @ LoginError::NotAccepted) => shared.counters.fail(Kind::LoginRefused, &error),
            Err(error) => shared.counters.fail(Kind::LoginFailed, &error),
        }
        Timer::after(RECONNECT_AFTER).await;
    }
}

struct Central<'a> {
    shared: &'a Shared,
    mailbox: &'a Mailbox,
    /// One for each tracking number in use: what was called when.
    slots: Vec<Option<(Uid, Instant)>>,
    free: Vec<u16>,
    pace: Pace,
    timer: Timer,
}

impl<'a> Central<'a> {
    fn new(shared: &'a Shared, mailbox: &'a Mailbox) -> Self {
        let in_flight = u16::try_from(shared.plan.in_flight).unwrap_or(u16::MAX);
        Self {
            shared,
            mailbox,
            slots: vec![None; usize::from(in_flight)],
            free: (0..in_flight).rev().collect(),
            pace: Pace::new(shared.plan.rate, Instant::now()),
            timer: Timer::never(),
        }
    }

    fn take_answer(&mut self, uid: Option<Uid>, number: u16, code: u8, payload: Payload<'_>) {
        let counters = &self.shared.counters;
        let call = self.slots.get_mut(usize::from(number)).and_then(Option::take);
        let Some((called, sent)) = call else {
            counters.add(Kind::CallWrong, 1);
            return;
        };
        self.free.push(number);
        match code {
            RESPONSE_VALID if uid == Some(called) && payload == self.shared.payload() => {
                counters.calls.record(sent.elapsed());
                counters.add(Kind::Answered, 1);
            }
            RESPONSE_VALID => counters.add(Kind::CallWrong, 1),
            RESPONSE_NOT_FOUND => counters.add(Kind::CallNotFound, 1),
            RESPONSE_TIMED_OUT => counters.add(Kind::CallTimedOut, 1),
            _ => counters.add(Kind::CallOtherCode, 1),
        }
    }

    /// Calls as many objects as numbers and pace allow; says when to look again.
    fn call(&mut self, out: &mut Outbox) -> Next {
        let now = Instant::now();
        let mut called = 0;
        let next = loop {
            if self.free.is_empty() {
                break Next::Never;
            }
            match self.pace.take(now) {
                Next::Now => {}
                other => break other,
            }
            let Some(uid) = self.shared.next_online() else {
                break Next::At(now + LOOK_EVERY);
            };
            let Some(number) = self.free.pop() else {
                break Next::Never;
            };
            if let Some(slot) = self.slots.get_mut(usize::from(number)) {
                *slot = Some((uid, now));
            }
            let payload = self.shared.payload();
            out.push(&Transmission::Request { uid: Some(uid), number, payload });
            called += 1;
        };
        self.shared.counters.add(Kind::Called, called);
        next
    }
}

impl Handler for Central<'_> {
    fn handle(&mut self, transmission: Transmission<'_>, out: &mut Outbox) {
        match transmission {
            Transmission::Telemetry { .. } => self.shared.counters.add(Kind::TelemetryReceived, 1),
            Transmission::Response { uid, number, code, payload } => {
                self.take_answer(uid, number, code, payload);
            }
            Transmission::Request { uid, number, payload } => {
                out.push(&Transmission::Response { uid, number, code: RESPONSE_VALID, payload });
            }
            _ => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Outbox) {
        self.mailbox.listen(cx);
        if self.mailbox.leaves() {
            out.leave(CloseCode::Maintenance);
            return;
        }
        // The load wakes the mailbox when the work begins.
        if !self.shared.begun.is_open() {
            return;
        }
        if let Next::At(at) = self.call(out) {
            self.timer.set_at(at);
            if Pin::new(&mut self.timer).poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }
}
