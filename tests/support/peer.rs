//! An object or a central, step by step.

use std::time::{Duration, Instant};

use async_io::Timer;
use iotsocketd::client::{SessionError, Stream, Talk, upload_acl};
use iotsocketd::wire::{AclItem, CloseCode, Format, Payload, Token, Transmission, Uid};
use smol::future::FutureExt as _;

use super::PATIENCE;

/// A transmission that the concentrator sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Ping,
    Pong,
    Request {
        uid: Option<Uid>,
        number: u16,
        format: Format,
        data: Vec<u8>,
    },
    Response {
        uid: Option<Uid>,
        number: u16,
        code: u8,
        format: Format,
        data: Vec<u8>,
    },
    Token(Token),
    Telemetry {
        uid: Uid,
        format: Format,
        data: Vec<u8>,
    },
    Close(u8),
    Acl,
    /// The connection ended.
    End,
}

/// A peer with a session.
pub struct Peer {
    talk: Talk<Stream>,
}

/// A request in UTF-8.
pub fn request(uid: Option<Uid>, number: u16, data: &[u8]) -> Transmission<'_> {
    Transmission::Request { uid, number, payload: Payload::new(Format::Utf8, data).unwrap() }
}

/// A response in UTF-8.
pub fn response(uid: Option<Uid>, number: u16, code: u8, data: &[u8]) -> Transmission<'_> {
    Transmission::Response { uid, number, code, payload: Payload::new(Format::Utf8, data).unwrap() }
}

impl Peer {
    pub fn new(stream: Stream) -> Self {
        Self { talk: Talk::new(stream) }
    }

    /// The next transmission; pings are answered on the way.
    pub fn next(&mut self) -> Said {
        self.next_within(PATIENCE).unwrap_or_else(|| panic!("nothing came"))
    }

    /// The same, or `None` if nothing comes.
    pub fn next_within(&mut self, time: Duration) -> Option<Said> {
        let end = Instant::now() + time;
        loop {
            match self.next_raw(end) {
                Some(Said::Ping) => {
                    let _may_be_closing = self.try_send(&Transmission::Pong);
                }
                said => return said,
            }
        }
    }

    /// The next transmission, pings too.
    pub fn next_raw(&mut self, end: Instant) -> Option<Said> {
        let next = async {
            Some(match self.talk.next().await {
                Ok(Some(transmission)) => owned(transmission),
                Ok(None) | Err(SessionError::Io(_)) => Said::End,
                Err(error) => panic!("{error}"),
            })
        };
        smol::block_on(next.or(async {
            Timer::at(end).await;
            None
        }))
    }

    /// The token, which must come now.
    pub fn token(&mut self) -> Token {
        match self.next() {
            Said::Token(token) => token,
            other => panic!("{other:?} instead of a token"),
        }
    }

    /// The number and data of the request that must come now.
    pub fn request(&mut self) -> (u16, Vec<u8>) {
        match self.next() {
            Said::Request { number, data, .. } => (number, data),
            other => panic!("{other:?} instead of a request"),
        }
    }

    /// Number, code and data of the response that must come now.
    pub fn response(&mut self) -> (u16, u8, Vec<u8>) {
        match self.next() {
            Said::Response { number, code, data, .. } => (number, code, data),
            other => panic!("{other:?} instead of a response"),
        }
    }

    /// The telemetry that must come now.
    pub fn telemetry(&mut self) -> (Uid, Vec<u8>) {
        match self.next() {
            Said::Telemetry { uid, data, .. } => (uid, data),
            other => panic!("{other:?} instead of telemetry"),
        }
    }

    /// The goodbye that must come now, with the end of the connection behind it.
    pub fn closed(&mut self) -> u8 {
        let code = match self.next() {
            Said::Close(code) => code,
            other => panic!("{other:?} instead of a goodbye"),
        };
        assert_eq!(self.next(), Said::End);
        code
    }

    /// Asserts that the session lives, and that nothing else came before.
    pub fn is_alive(&mut self) {
        self.send(&Transmission::Ping);
        assert_eq!(self.next(), Said::Pong);
    }

    pub fn send(&mut self, transmission: &Transmission<'_>) {
        self.try_send(transmission).unwrap();
    }

    pub fn try_send(&mut self, transmission: &Transmission<'_>) -> Result<(), SessionError> {
        smol::block_on(self.talk.send(transmission))
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        smol::block_on(self.talk.send_raw(bytes)).unwrap();
    }

    /// Answers the request that must come now.
    pub fn answer(&mut self, code: u8, data: &[u8]) -> Vec<u8> {
        let (number, asked) = self.request();
        self.send(&response(None, number, code, data));
        asked
    }

    /// Asks the other side and gives code and data of the answer.
    pub fn ask(&mut self, uid: Option<Uid>, number: u16, data: &[u8]) -> (u8, Vec<u8>) {
        self.send(&request(uid, number, data));
        let (answered, code, data) = self.response();
        assert_eq!(answered, number);
        (code, data)
    }

    /// Uploads an access list as the central; whether it was worked through.
    pub fn upload(&mut self, items: &[AclItem]) -> bool {
        smol::block_on(upload_acl(&mut self.talk, items)).unwrap()
    }

    /// Says goodbye and goes.
    pub fn leave(self, code: CloseCode) {
        smol::block_on(self.talk.leave(code)).unwrap();
    }

    /// The same peer with so many bytes of room to receive: what it does not read soon waits with the concentrator.
    /// What was received before and not taken is lost.
    pub fn with_room(self, bytes: usize) -> Self {
        let stream = self.talk.into_stream();
        let socket = match &stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        socket2::SockRef::from(socket).set_recv_buffer_size(bytes).unwrap();
        Self::new(stream)
    }
}

fn owned(transmission: Transmission<'_>) -> Said {
    match transmission {
        Transmission::Ping => Said::Ping,
        Transmission::Pong => Said::Pong,
        Transmission::Request { uid, number, payload } => {
            Said::Request { uid, number, format: payload.format(), data: payload.data().to_vec() }
        }
        Transmission::Response { uid, number, code, payload } => {
            Said::Response { uid, number, code, format: payload.format(), data: payload.data().to_vec() }
        }
        Transmission::Token(token) => Said::Token(token),
        Transmission::Telemetry { uid, payload } => {
            Said::Telemetry { uid, format: payload.format(), data: payload.data().to_vec() }
        }
        Transmission::Close(code) => Said::Close(code.byte()),
        Transmission::AclHead { .. } => Said::Acl,
    }
}
