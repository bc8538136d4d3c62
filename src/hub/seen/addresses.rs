//! Whether an object speaks from two addresses in turn. One that moves on to another address does not, nor one that comes
//! back once in a while.

use std::net::IpAddr;

use crate::net::canonical;

/// So often an object must have gone back to the address before the last one, ...
pub const RETURNS: u8 = 6;
/// ... within this time, or within so many of its usual intervals, up to a day. In seconds.
pub const WINDOW: f64 = 3600.0;
const WINDOW_INTERVALS: f64 = 8.0;
const WINDOW_MAX: f64 = 86_400.0;

/// Which way it speaks: each may have an address of its own, as behind some networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By sessions.
    Tcp,
    /// By datagrams.
    Udp,
}

/// The last two addresses of a way, as digests; 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Track {
    last: u16,
    before: u16,
    returns: u8,
}

/// What is remembered of one object's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Addresses {
    tcp: Track,
    udp: Track,
    /// When the first of the returns was, in whole seconds.
    since: i32,
}

impl Addresses {
    /// It spoke from there at this moment. Whether it speaks from two addresses in turn; told once for each time that it
    /// was found.
    pub fn heard(&mut self, way: Way, source: IpAddr, now: f64, usual: Option<f64>) -> bool {
        let window = (usual.unwrap_or_default() * WINDOW_INTERVALS).clamp(WINDOW, WINDOW_MAX);
        let Self { tcp, udp, since } = self;
        let (digest, seconds) = (digest(source), now as i32);
        let track = match way {
            Way::Tcp => &mut *tcp,
            Way::Udp => &mut *udp,
        };
        if track.last == digest {
            return false;
        }
        let is_return = track.before == digest;
        track.before = std::mem::replace(&mut track.last, digest);
        if !is_return {
            return false;
        }
        track.returns += 1;
        let returns = track.returns;
        if f64::from(seconds) - f64::from(*since) > window || (tcp.returns + udp.returns) == 1 {
            *since = seconds;
            (tcp.returns, udp.returns) = (u8::from(way == Way::Tcp), u8::from(way == Way::Udp));
            return false;
        }
        if returns >= RETURNS {
            (tcp.returns, udp.returns) = (0, 0);
            return true;
        }
        false
    }
}

/// Of an IPv4 address, or of the /64 of an IPv6 address: within it devices change their address by themselves. Two of the
/// same digest are taken for one, which hides what one time in many thousands would have been told.
fn digest(source: IpAddr) -> u16 {
    let network = match canonical(source) {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    };
    // Fibonacci hashing: the upper bits depend on all.
    let mixed = network.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    (mixed as u16).max(1)
}
