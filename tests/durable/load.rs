//! Objects that send numbered telemetry.

use std::net::UdpSocket;

use iotsocketd::wire::{Format, Payload, Token};

use crate::support::{Device, Site};

/// An object whose messages say who sent them and how many it sent before.
pub struct Object {
    name: String,
    device: Device,
    token: Option<Token>,
    socket: UdpSocket,
    /// The number of its next message.
    pub next: u64,
}

impl Object {
    /// One of the access list.
    pub fn new(site: &Site, name: &str) -> Self {
        Self::of_group(site, name, "Devices")
    }

    /// One of the access list in this group.
    pub fn of_group(site: &Site, name: &str, group: &str) -> Self {
        let device = site.device(name, group);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(site.sessions()).unwrap();
        Self { name: name.to_owned(), device, token: None, socket, next: 0 }
    }

    /// Whether it has a token.
    pub fn is_logged_in(&self) -> bool {
        self.token.is_some()
    }

    /// Logs in, takes a token and leaves.
    pub fn log_in(&mut self, site: &Site) {
        self.token = Some(site.login_with_token(self.device).1);
    }

    /// The same if the concentrator lives so long.
    pub fn try_log_in(&mut self, site: &Site) -> bool {
        let Ok(mut peer) = site.try_login(self.device) else { return false };
        let Some(crate::support::Said::Token(token)) = peer.next_within(crate::support::PATIENCE) else {
            return false;
        };
        self.token = Some(token);
        true
    }

    /// Sends its next message, made longer by so many bytes.
    pub fn send(&mut self, padding: usize) {
        let text = format!("{}/{}/{}", self.name, self.next, ".".repeat(padding));
        self.next += 1;
        let payload = Payload::new(Format::Utf8, text.as_bytes()).unwrap();
        let token = self.token.unwrap();
        let datagram = [&token.0, payload.encode_head().as_slice(), text.as_bytes()].concat();
        // Nobody may be there any more.
        let _refused = self.socket.send(&datagram);
    }
}

/// Who sent a message, and how many it sent before.
pub fn told(payload: &str) -> (&str, u64) {
    let mut parts = payload.split('/');
    (parts.next().unwrap(), parts.next().unwrap().parse().unwrap())
}
