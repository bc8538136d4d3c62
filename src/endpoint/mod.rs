//! Sockets: TCP, UDP, HTTPS, the maintenance socket, webhook and subscriber threads.

pub mod admission;
pub mod certificate;
pub mod crowd;
pub mod failures;
pub mod http;
mod local_requests;
pub mod maintenance;
pub mod refusals;
pub mod stream;
pub mod subscribers;
pub mod tcp;
pub mod tls;
pub mod udp;
pub mod validity;
pub mod webhook;
