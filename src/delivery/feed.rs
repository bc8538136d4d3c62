//! What a destination reads: the journal's tail in memory when it keeps up, pages from the medium when it was away.
//!
//! The same messages in the same order either way. Reading the medium takes time, so a page is asked for
//! ([`Feed::take_read`]) and comes later ([`Feed::give`]); until then there is nothing next.

use std::collections::VecDeque;

use crate::journal::Seq;
use crate::journal::front::Front;
use crate::journal::stored::Stored;

/// What there is to read from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The tail in memory.
    pub front: &'a Front,
    /// The number behind the last message that may be read.
    pub end: Seq,
}

/// A place in the journal.
#[derive(Debug, Default)]
pub struct Feed {
    next: Seq,
    page: VecDeque<Stored>,
    /// The page has everything that is wanted from `page_from` to below `page_to`.
    page_from: Seq,
    page_to: Seq,
    wanted: Option<Seq>,
    asked: Option<Seq>,
}

/// What a destination says of a message that it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// This one is next.
    Take,
    /// It is not for this destination, or not for the way that is open.
    Pass,
    /// It and all behind it must wait.
    Stop,
}

enum Place {
    Tail(Seq),
    Page,
}

impl Feed {
    /// Goes on from here; a page that was asked for elsewhere comes to nothing.
    pub fn go_to(&mut self, seq: Seq) {
        self.next = seq;
        self.wanted = None;
        self.asked = None;
    }

    /// The number of the message that comes next, or of one before it.
    pub fn position(&self) -> Seq {
        self.next
    }

    /// The next message that is taken, once; `None`: there is none, or the medium must be read first.
    pub fn next<'a>(
        &'a mut self,
        source: Source<'a>,
        judge: impl FnMut(&Stored) -> Judgement,
    ) -> Option<&'a Stored> {
        match self.find(source, judge)? {
            Place::Tail(seq) => source.front.get(seq),
            Place::Page => self.page.front(),
        }
    }

    fn find(&mut self, source: Source<'_>, mut judge: impl FnMut(&Stored) -> Judgement) -> Option<Place> {
        while self.next < source.end {
            let in_tail = self.next >= source.front.tail_start();
            let stored = if in_tail {
                // Whoever goes back to what was in it has to read it again.
                (self.page, self.page_from, self.page_to) = (VecDeque::new(), 0, 0);
                source.front.get(self.next)?
            } else if (self.page_from..self.page_to).contains(&self.next) {
                self.page_from = self.next;
                while self.page.front().is_some_and(|stored| stored.seq < self.next) {
                    self.page.pop_front();
                }
                let Some(stored) = self.page.front() else {
                    self.next = self.page_to.min(source.end);
                    continue;
                };
                if stored.seq >= source.end {
                    self.next = source.end;
                    return None;
                }
                stored
            } else {
                if self.asked != Some(self.next) {
                    self.wanted = Some(self.next);
                }
                return None;
            };
            let seq = stored.seq;
            match judge(stored) {
                Judgement::Stop => return None,
                Judgement::Pass => self.next = seq.saturating_add(1),
                Judgement::Take => {
                    self.next = seq.saturating_add(1);
                    return Some(if in_tail { Place::Tail(seq) } else { Place::Page });
                }
            }
        }
        None
    }

    /// From where the medium must be read, said once.
    pub fn take_read(&mut self) -> Option<Seq> {
        let from = self.wanted.take()?;
        self.asked = Some(from);
        Some(from)
    }

    /// A page from the medium: everything that is wanted from `from` to below `to`. `to` equal to `from`: reading
    /// failed, and is to be asked for again.
    pub fn give(&mut self, from: Seq, page: VecDeque<Stored>, to: Seq) {
        if self.asked == Some(from) {
            self.asked = None;
            (self.page, self.page_from, self.page_to) = (page, from, to);
        }
    }
}
