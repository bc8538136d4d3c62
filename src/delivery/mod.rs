//! Schedules of delivery as values: windows, retries, breakers. No sockets, no clock.

mod breaker;
pub mod central;
pub mod lanes;
mod queue;
