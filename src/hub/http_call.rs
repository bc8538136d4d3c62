//! A call over HTTP while it waits for its answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::{Hub, lock};
use crate::router::{Answer, Ticket};
use crate::wire::Format;

/// The answer to an HTTP call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallAnswer {
    /// The response code.
    pub code: u8,
    /// How the payload is meant.
    pub format: Format,
    /// The payload's data.
    pub payload: Vec<u8>,
    /// Whether the concentrator made the answer, not the object.
    pub made_here: bool,
}

impl From<Answer<'_>> for CallAnswer {
    fn from(answer: Answer<'_>) -> Self {
        Self {
            code: answer.code,
            format: answer.payload.format(),
            payload: answer.payload.data().to_vec(),
            made_here: answer.made_here,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    answer: Option<CallAnswer>,
    waker: Option<Waker>,
}

/// Where the hub puts the answer.
#[derive(Debug, Default)]
pub struct Slot(Mutex<State>);

impl Slot {
    /// Puts the answer in; gives the caller's waker.
    pub fn fill(&self, answer: CallAnswer) -> Option<Waker> {
        let mut state = lock(&self.0);
        state.answer = Some(answer);
        state.waker.take()
    }
}

/// Resolves with the answer. Dropped before that, it abandons the call.
#[derive(Debug)]
pub struct HttpCall {
    pub(super) hub: Arc<Hub>,
    pub(super) ticket: Ticket,
    pub(super) slot: Arc<Slot>,
    pub(super) done: bool,
}

impl Future for HttpCall {
    type Output = CallAnswer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<CallAnswer> {
        let answer = {
            let mut state = lock(&self.slot.0);
            if state.answer.is_none() {
                state.waker = Some(context.waker().clone());
            }
            state.answer.take()
        };
        match answer {
            Some(answer) => {
                self.done = true;
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for HttpCall {
    fn drop(&mut self) {
        if !self.done {
            self.hub.abandon(self.ticket);
        }
    }
}
