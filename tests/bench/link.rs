//! A client of the peers, as little of one as the benchmark needs: MQTT 3.1.1 and NATS over one connection.
//!
//! What is said is collected and goes out in one write before the next read, as in the load on our own program.

use std::net::{SocketAddr, TcpStream};
use std::ops::Range;

use iotsocketd::client::{Stream, Tls, open};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{mqtt, nats};

/// Bytes that a read takes at most.
const READ_LEN: usize = 16 * 1024;

/// What a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// MQTT 3.1.1.
    Mqtt,
    /// NATS, text.
    Nats,
}

/// What a peer said; the ranges are places of [`Link::bytes`], good until the next call of [`Link::next`].
#[derive(Debug, Clone)]
pub enum Event {
    /// A message: where it is to be answered (NATS only, or empty), and what it is.
    Message { reply: Range<usize>, payload: Range<usize> },
    /// The message of this number is taken (MQTT, QoS 1).
    Taken(u16),
    /// What was asked before is done: connected, subscribed.
    Done,
    /// It asks whether we live.
    Ping,
    /// Nothing of interest.
    Noise,
}

/// What decoding came to: an event and the bytes that it took; `None` if there is more to come.
pub type Decoded = Result<Option<(Event, usize)>, String>;

/// A connection on which a client is logged in.
pub struct Link {
    stream: Stream,
    language: Language,
    out: Vec<u8>,
    input: Vec<u8>,
    used: usize,
    filled: usize,
}

impl Link {
    /// Connects and logs in as `name`. A client that does not stay `clean` finds what was queued for it while it was away
    /// (MQTT only).
    pub async fn open(
        language: Language,
        address: SocketAddr,
        tls: Option<&Tls>,
        name: &str,
        clean: bool,
    ) -> Result<Self, String> {
        let mut socket = open(address, None).await.map_err(told)?;
        if language == Language::Nats {
            // The server speaks first, in clear text; TLS starts behind its line.
            let mut byte = [0];
            while byte != *b"\n" {
                socket.read_exact(&mut byte).await.map_err(told)?;
            }
        }
        let stream = Stream::start_tls(socket, tls).await.map_err(told)?;
        let (out, input) = (Vec::new(), Vec::new());
        let mut link = Self { stream, language, out, input, used: 0, filled: 0 };
        match language {
            Language::Mqtt => mqtt::connect(&mut link.out, name, clean),
            Language::Nats => nats::connect(&mut link.out, name, tls.is_some()),
        }
        link.done().await?;
        Ok(link)
    }

    /// Subscribes, and waits until that is in force; `sure`: with acknowledgements (MQTT only).
    pub async fn subscribe(&mut self, subject: &str, sure: bool) -> Result<(), String> {
        match self.language {
            Language::Mqtt => mqtt::subscribe(&mut self.out, subject, sure),
            Language::Nats => nats::subscribe(&mut self.out, subject),
        }
        self.done().await
    }

    /// Says a message that nobody acknowledges.
    pub fn publish(&mut self, subject: &str, reply: &str, payload: &[u8]) {
        publish(self.language, &mut self.out, subject, reply, payload);
    }

    /// Says a message and waits until the peer has taken it: QoS 1, or the acknowledgement of JetStream at `reply`, to
    /// which this connection is subscribed.
    pub async fn hand_over(
        &mut self,
        subject: &str,
        reply: &str,
        payload: &[u8],
        number: u16,
    ) -> Result<(), String> {
        match self.language {
            Language::Mqtt => mqtt::publish_sure(&mut self.out, subject, payload, number),
            Language::Nats => nats::publish(&mut self.out, subject, reply, payload),
        }
        loop {
            match self.next().await? {
                Event::Taken(taken) if taken == number => return Ok(()),
                Event::Message { payload, .. } => return nats::is_stored(self.bytes(payload)),
                Event::Taken(_) => return Err("another message was acknowledged".to_owned()),
                Event::Done | Event::Ping | Event::Noise => {}
            }
        }
    }

    /// Has NATS keep what comes to these subjects on files.
    pub async fn make_stream(&mut self, name: &str, subjects: &str) -> Result<(), String> {
        self.subscribe(name, false).await?;
        nats::make_stream(&mut self.out, name, subjects, name);
        loop {
            if let Event::Message { payload, .. } = self.next().await? {
                return nats::is_stored(self.bytes(payload));
            }
        }
    }

    /// What comes next. What was said goes out before anything is waited for.
    pub async fn next(&mut self) -> Result<Event, String> {
        loop {
            let bytes = self.input.get(self.used..self.filled).unwrap_or_default();
            let decoded = match self.language {
                Language::Mqtt => mqtt::decode(bytes, self.used),
                Language::Nats => nats::decode(bytes, self.used),
            };
            if let Some((event, len)) = decoded? {
                self.used += len;
                match event {
                    Event::Ping => self.out.extend_from_slice(nats::PONG),
                    Event::Noise => {}
                    event => return Ok(event),
                }
            } else {
                self.flush().await?;
                self.read().await?;
            }
        }
    }

    /// These bytes of what came.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.input.get(range).unwrap_or_default()
    }

    /// Sends what was said.
    pub async fn flush(&mut self) -> Result<(), String> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await.map_err(told)?;
            self.stream.flush().await.map_err(told)?;
            self.out.clear();
        }
        Ok(())
    }

    /// The socket of a connection in clear text, for who writes from a thread of its own.
    pub fn into_socket(self) -> Result<TcpStream, String> {
        let Stream::Plain(socket) = self.stream else {
            return Err("a connection under TLS is no bare socket".to_owned());
        };
        let socket = socket.into_inner().map_err(told)?;
        socket.set_nonblocking(false).map_err(told)?;
        Ok(socket)
    }

    async fn read(&mut self) -> Result<(), String> {
        self.input.copy_within(self.used..self.filled, 0);
        self.filled -= self.used;
        self.used = 0;
        if self.input.len() < self.filled + READ_LEN {
            self.input.resize(self.filled + READ_LEN, 0);
        }
        let room = self.input.get_mut(self.filled..).unwrap_or_default();
        match self.stream.read(room).await.map_err(told)? {
            0 => Err("the peer closed the connection".to_owned()),
            len => {
                self.filled += len;
                Ok(())
            }
        }
    }

    async fn done(&mut self) -> Result<(), String> {
        while !matches!(self.next().await?, Event::Done) {}
        // Thousands may be held: an idle one keeps no room.
        if self.used == self.filled {
            (self.input, self.used, self.filled) = (Vec::new(), 0, 0);
        }
        Ok(())
    }
}

/// The bytes of a message that nobody acknowledges.
pub fn publish(language: Language, out: &mut Vec<u8>, subject: &str, reply: &str, payload: &[u8]) {
    match language {
        Language::Mqtt => mqtt::publish(out, subject, payload),
        Language::Nats => nats::publish(out, subject, reply, payload),
    }
}

fn told(error: impl std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
