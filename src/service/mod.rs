//! Building, starting, reloading and draining the concentrator; its configuration.

pub mod certificate;
pub mod config;
