//! Schedules of delivery as values: windows, retries, breakers. No sockets, no clock.

pub mod central;
