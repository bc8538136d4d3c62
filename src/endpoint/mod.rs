//! Sockets: TCP, UDP, HTTPS, the maintenance socket, webhook workers.

pub mod payload_json;
