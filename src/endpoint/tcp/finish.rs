//! The end of a connection: what was not handed over goes back to the router, and the peer is told why.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use async_io::Async;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::live::{Live, SessionEnd};
use super::{TcpCause, TcpServer, until};
use crate::endpoint::stream::{Metered, Stream};
use crate::logfmt::Quoted;
use crate::router::Ending;
use crate::wire::{CloseCode, InitiationReply, Transmission, verdict_byte};

/// How long a peer may take to hear our last words.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of a peer that are read and dropped after our last words. Closing with bytes unread would make the system
/// reset the connection, and our last words could be lost.
const LINGER_BYTES_MAX: usize = 256 * 1024;

impl TcpServer {
    pub(super) async fn finish(&self, live: Live, end: SessionEnd) {
        let Live { mut stream, writer, outbox, origin, source, .. } = live;
        let (ending, last_word, reason) = self.judge(&end, &source);
        let may_speak = !writer.is_mid_record();
        let passed_on = {
            // Within the turn: an answer that another thread queued in between would be lost.
            let mut turn = self.hub.turn(Instant::now());
            let unsent = writer.into_unsent(&outbox);
            let passed_on = unsent.len();
            turn.disconnected(origin, ending, unsent);
            passed_on
        };
        log::info!(
            "event=session_closed uid={} source={source} reason={reason} kept={} unsent={passed_on}",
            Quoted(origin.uid.as_str()),
            ending == Ending::Kept
        );
        if let Some(code) = last_word.filter(|_| may_speak) {
            until(Instant::now() + GOODBYE_TIMEOUT, say_goodbye(&mut stream, code)).await;
        }
    }

    /// What becomes of the session, what the peer is told, and the reason for the log.
    fn judge(
        &self,
        end: &SessionEnd,
        source: &dyn std::fmt::Display,
    ) -> (Ending, Option<CloseCode>, &'static str) {
        let by_code = |code: CloseCode| if code.keeps_session() { Ending::Kept } else { Ending::Ended };
        match end {
            SessionEnd::Broken => (Ending::Kept, None, "broken"),
            SessionEnd::PeerClosed(code) => (by_code(*code), None, "peer_closed"),
            SessionEnd::Ordered(code) => (by_code(*code), Some(*code), "closed_here"),
            SessionEnd::Stalled => {
                self.refusals.note(TcpCause::Stalled, source, &"the peer takes nothing");
                (Ending::Ended, Some(CloseCode::TooMany), "stalled")
            }
            SessionEnd::Violation(violation) => {
                self.refusals.note(TcpCause::Violation(*violation), source, violation);
                let code = violation.close_code();
                (by_code(code), Some(code), violation.counter())
            }
        }
    }
}

async fn say_goodbye(stream: &mut Stream, code: CloseCode) -> io::Result<()> {
    stream.write_all(&Transmission::Close(code).encode_head()).await?;
    stream.flush().await?;
    stream.close().await?;
    drain(stream).await
}

/// Tells a client that its login is refused, and closes.
pub async fn refuse(stream: &mut Stream) {
    let told = async {
        stream.write_all(&[verdict_byte(false)]).await?;
        stream.flush().await
    };
    let told: io::Result<()> = told.await;
    if told.is_ok() {
        linger(stream).await;
    }
}

/// Tells a client that there is no place for it, whatever it has to say.
pub async fn turn_away(io: Async<TcpStream>) {
    let mut stream = Stream::Plain(Metered::new(io));
    let told = stream.write_all(&InitiationReply::REFUSED);
    if until(Instant::now() + GOODBYE_TIMEOUT, told).await.is_some_and(|told| told.is_ok()) {
        linger(&mut stream).await;
    }
}

/// Closes our side and waits a moment for the peer's.
pub async fn linger(stream: &mut Stream) {
    let closing = async {
        stream.close().await?;
        drain(stream).await
    };
    until(Instant::now() + GOODBYE_TIMEOUT, closing).await;
}

async fn drain(stream: &mut Stream) -> io::Result<()> {
    let mut dropped = 0;
    let mut buffer = [0; 256];
    while dropped < LINGER_BYTES_MAX {
        match stream.read(&mut buffer).await? {
            0 => break,
            len => dropped += len,
        }
    }
    Ok(())
}
