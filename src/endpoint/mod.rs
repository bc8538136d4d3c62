//! Sockets: TCP, UDP, HTTPS, the maintenance socket, webhook workers.

pub mod admission;
pub mod tls;
