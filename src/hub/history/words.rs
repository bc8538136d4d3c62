//! The words that a message is described with.

use std::fmt;

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Data of an object that nobody answers.
    Telemetry,
    /// A call, with its outcome.
    Request,
    /// A queued command.
    Command,
    /// A change of the access list.
    Access,
    /// Who did what to the concentrator.
    Audit,
    /// Something that operators should know.
    Event,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Telemetry, Self::Request, Self::Command, Self::Access, Self::Audit, Self::Event];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Request => "request",
            Self::Command => "command",
            Self::Access => "access",
            Self::Audit => "audit",
            Self::Event => "event",
        }
    }
}

/// Which way a message came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// A session.
    Tcp,
    /// A datagram.
    Udp,
    /// The API.
    Https,
    /// A partner's network.
    Ingest,
    /// The concentrator itself.
    Local,
}

impl Via {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Https => "https",
            Self::Ingest => "ingest",
            Self::Local => "local",
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is kept; nobody has to get it.
    Stored,
    /// It is to be delivered.
    Waiting,
    /// Its destination has it.
    Delivered,
    /// Its destination, or the policy, did not want it.
    Refused,
    /// Its time was up.
    Expired,
    /// It had to make room.
    Dropped,
    /// Given up after all attempts.
    Dead,
}

impl State {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
            Self::Dead => "dead",
        }
    }
}

/// What a time is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The machine did not know the time, and does not yet.
    Unsynced,
    /// The machine knew the time.
    Synced,
    /// The machine did not know the time when the message came; it learnt it since.
    Corrected,
}

impl Clock {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsynced => "unsynced",
            Self::Synced => "synced",
            Self::Corrected => "corrected",
        }
    }
}

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It came in.
    Received,
    /// It is on flash.
    Stored,
    /// It was handed to a destination.
    Sent,
    /// A destination has it.
    Delivered,
    /// A destination, or the policy, did not want it.
    Refused,
    /// Its time was up.
    Expired,
    /// It had to make room.
    Dropped,
}

impl Outcome {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Stored => "stored",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
        }
    }
}

/// The id of a message, a UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(u128);

impl MessageId {
    /// Reads the form that [`fmt::Display`] writes, hex digits of either case.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return None;
        }
        let mut value = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if [8, 13, 18, 23].contains(&at) {
                if *byte != b'-' {
                    return None;
                }
            } else {
                value = value << 4 | u128::from(char::from(*byte).to_digit(16)?);
            }
        }
        Some(Self(value))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |shift: u32, bits: u32| self.0 >> shift & ((1 << bits) - 1);
        let [a, b, c, d, e] = [part(96, 32), part(80, 16), part(64, 16), part(48, 16), part(0, 48)];
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let text = "01930a2b-4c5d-7abc-8def-0123456789ab";
        assert_eq!(MessageId::parse(text).unwrap().to_string(), text);
        assert_eq!(MessageId::parse(&text.to_uppercase()), MessageId::parse(text));
        for wrong in ["", &text[1..], &text.replace('-', "0"), &text.replacen('0', "g", 1), "é"] {
            assert_eq!(MessageId::parse(wrong), None, "{wrong}");
        }
    }
}
