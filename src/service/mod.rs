//! Building, starting, reloading and draining the concentrator; its configuration.

pub mod config;
