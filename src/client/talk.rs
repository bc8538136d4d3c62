//! A session step by step: say something, wait for the next transmission. For tests and single errands.

use smol::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::session::SessionError;
use crate::wire::{AclItem, CloseCode, Decoded, Transmission};

/// Bytes read at once.
const CHUNK_LEN: usize = 4096;

/// A session in the hands of its caller. Nothing is answered by itself, not even a ping.
pub struct Talk<S> {
    stream: S,
    input: Vec<u8>,
    /// Bytes of `input` that belong to the transmission handed out last.
    used: usize,
}

impl<S> Talk<S> {
    /// Goes on where the login ended.
    pub fn new(stream: S) -> Self {
        Self { stream, input: Vec::new(), used: 0 }
    }

    /// The connection, with what was read and not handed out lost.
    pub fn into_stream(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> Talk<S> {
    /// Waits for the next transmission; `None` at the end of the connection.
    pub async fn next(&mut self) -> Result<Option<Transmission<'_>>, SessionError> {
        self.input.drain(..self.used.min(self.input.len()));
        self.used = 0;
        // Decoded twice when complete: the first look only tells how long it is, the second borrows.
        loop {
            match Transmission::decode(&self.input)? {
                Decoded::Done(_, used) => {
                    self.used = used;
                    break;
                }
                Decoded::Need(_) => {
                    let mut chunk = [0; CHUNK_LEN];
                    let read = self.stream.read(&mut chunk).await?;
                    if read == 0 {
                        return Ok(None);
                    }
                    self.input.extend(chunk.iter().take(read));
                }
            }
        }
        match Transmission::decode(&self.input)? {
            Decoded::Done(transmission, _) => Ok(Some(transmission)),
            Decoded::Need(_) => Ok(None),
        }
    }
}

impl<S: AsyncWrite + Unpin> Talk<S> {
    /// Sends a transmission.
    pub async fn send(&mut self, transmission: &Transmission<'_>) -> Result<(), SessionError> {
        let mut bytes = Vec::with_capacity(transmission.wire_len());
        transmission.encode(&mut bytes);
        self.send_raw(&bytes).await
    }

    /// Sends bytes as they are, whatever they mean.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Says goodbye and ends the connection.
    pub async fn leave(mut self, code: CloseCode) -> Result<(), SessionError> {
        self.send(&Transmission::Close(code)).await?;
        Ok(self.stream.close().await?)
    }
}

/// Replaces the access list, as the central: true if the list is in force, false if the connection ended instead.
///
/// The concentrator says nothing to a list that it refuses, but the event in its log.
pub async fn upload_acl<S: AsyncRead + AsyncWrite + Unpin>(
    talk: &mut Talk<S>,
    items: &[AclItem],
) -> Result<bool, SessionError> {
    let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    Transmission::AclHead { count }.encode(&mut bytes);
    for item in items {
        bytes.extend_from_slice(&item.encode());
    }
    // Transmissions take effect in order, so the pong means that the list was worked through.
    Transmission::Ping.encode(&mut bytes);
    talk.send_raw(&bytes).await?;
    loop {
        let answer = match talk.next().await? {
            None | Some(Transmission::Close(_)) => return Ok(false),
            Some(Transmission::Pong) => return Ok(true),
            Some(Transmission::Ping) => Some(Transmission::Pong),
            Some(_) => None,
        };
        if let Some(answer) = answer {
            talk.send(&answer).await?;
        }
    }
}
