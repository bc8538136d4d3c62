//! The HTTPS API over real loopback sockets, with a hub that the tests play.
#![cfg(test)]

mod calls;
mod deadlines;
mod framing;
mod local;
mod over_tls;
mod refusals;
mod world;
