//! Schedules of delivery as values: windows, retries, breakers. No sockets, no clock.

pub mod books;
mod breaker;
pub mod central;
pub mod commands;
pub mod cursor;
pub mod feed;
pub mod lanes;
mod queue;
pub mod subscriber;
