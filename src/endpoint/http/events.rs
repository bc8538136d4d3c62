//! Messages as Server-Sent Events: one stream a client, from any place on, for as long as both like.
//!
//! A piece is made when the client has taken the one before, so a stream costs the memory of one piece; a client that
//! does not take it in time meets the connection's write deadline. The event's id is the message's number: a client that
//! comes back says the last one that it has, and misses nothing.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use smol::channel::Receiver;
use smol::future::FutureExt;
use smol::stream::{Stream, StreamExt};

use super::api::{Api, Settings};
use super::error::{ApiError, Cause};
use super::messages::{Follow, busy_pause};
use crate::hub::history::{History, HistoryError, MessageQuery, Page};

/// A silent stream says that it lives at least so often, so that nobody between takes it for dead; oftener where calls
/// are not held as long either.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// But never oftener than this.
const KEEP_ALIVE_MIN: Duration = Duration::from_millis(100);
/// The first words: how soon a browser comes back, in milliseconds.
const GREETING: &str = "retry: 1000\n\n";
/// A comment, which readers skip.
const COMMENT: &str = ":\n\n";

/// The body of a stream.
pub(super) type EventBody = StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

/// Where a stream stands.
struct Position {
    api: Arc<Api>,
    history: Arc<dyn History>,
    query: MessageQuery,
    settings: Arc<Settings>,
    /// Closed when the server drains.
    ending: Receiver<Infallible>,
    peer: IpAddr,
    has_greeted: bool,
}

/// The stream's body, or why there is none.
pub(super) async fn events(
    api: &Arc<Api>,
    follow: Follow,
    ending: Receiver<Infallible>,
    peer: IpAddr,
) -> Result<EventBody, ApiError> {
    let history = Arc::clone(api.history()?);
    let Follow { query, settings, .. } = follow.locate(history.as_ref()).await?;
    let start = Position { api: Arc::clone(api), history, query, settings, ending, peer, has_greeted: false };
    let pieces = smol::stream::unfold(start, Position::next_piece).map(|piece| Ok(Frame::data(piece)));
    Ok(StreamBody::new(Box::pin(pieces)))
}

impl Position {
    /// The next piece of text, or `None` at the stream's end.
    async fn next_piece(mut self) -> Option<(Bytes, Self)> {
        if !self.has_greeted {
            self.has_greeted = true;
            return Some((Bytes::from_static(GREETING.as_bytes()), self));
        }
        loop {
            // New settings may know the key no more: the client comes back and is judged anew.
            if self.ending.is_closed() || !Arc::ptr_eq(&self.settings, &self.api.settings()) {
                return None;
            }
            let page = match self.history.messages(self.query.clone()).await {
                Ok(page) => page,
                Err(HistoryError::Busy) => {
                    busy_pause().await;
                    continue;
                }
                Err(error) => {
                    self.api.refusals.note(Cause::Storage, &self.peer, &error);
                    return None;
                }
            };
            self.query.after = page.next.max(self.query.after);
            if !page.messages.is_empty() {
                return Some((text(&page).into(), self));
            }
            if !self.wait().await {
                return Some((Bytes::from_static(COMMENT.as_bytes()), self));
            }
        }
    }

    /// Whether there is something to look at: `false` if there was nothing for long.
    async fn wait(&self) -> bool {
        let silence = self.settings.max_wait.clamp(KEEP_ALIVE_MIN, KEEP_ALIVE);
        let more = async {
            self.history.wait_beyond(self.query.after).await;
            true
        };
        let drained = async {
            let _closed = self.ending.recv().await;
            true
        };
        let silent = async {
            Timer::after(silence).await;
            false
        };
        silent.or(drained).or(more).await
    }
}

fn text(page: &Page) -> String {
    let mut out = String::new();
    for message in &page.messages {
        out.push_str("id: ");
        out.push_str(&message.seq.to_string());
        // A message is one line.
        out.push_str("\ndata: ");
        message.write_json(&mut out);
        out.push_str("\n\n");
    }
    out
}
