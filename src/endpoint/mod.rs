//! Sockets: TCP, UDP, HTTPS, the maintenance socket, webhook workers.
