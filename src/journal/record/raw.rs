//! Records as they lie in a batch.

use super::Record;
use crate::journal::codec;

/// The first byte of a message.
const MESSAGE: u8 = 0;

/// Appends what stays of a message that is gone from its place: it has its number, and is nothing else.
pub fn encode_gone(since_us: u64, into: &mut Vec<u8>) {
    let mut body = Vec::new();
    codec::put_varint(since_us, &mut body);
    body.push(MESSAGE);
    codec::put_varint(body.len() as u64, into);
    into.extend(body);
}

/// One record as it lies in a batch.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a> {
    /// Microseconds since the batch began.
    pub since_us: u64,
    /// All its bytes.
    pub bytes: &'a [u8],
    body: &'a [u8],
}

impl<'a> Raw<'a> {
    /// Whether it has a sequence number: told without reading it.
    pub fn is_numbered(&self) -> bool {
        self.body.first() == Some(&MESSAGE)
    }

    /// Whose message it is, as text: told without reading it.
    pub fn uid(&self) -> Option<&'a [u8]> {
        let [MESSAGE, len, rest @ ..] = self.body else { return None };
        rest.get(..usize::from(*len))
    }

    /// The record; `None` if it is of a kind that this version does not know, or a message that is gone.
    pub fn decode(&self) -> Option<Record<'a>> {
        postcard::take_from_bytes(self.body).ok().map(|(record, _)| record)
    }
}

/// The records of a batch, one after the other. Ends early where the bytes make no sense, which their checksum rules out.
#[derive(Debug, Clone)]
pub struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    /// Over the payload of a batch.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        let (len, rest) = codec::take_varint(self.0)?;
        let (behind, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        let (since_us, body) = codec::take_varint(behind)?;
        let bytes = self.0.get(..self.0.len() - rest.len())?;
        self.0 = rest;
        Some(Raw { since_us, bytes, body })
    }
}
