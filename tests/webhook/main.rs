//! The webhook pool against endpoints on loopback that behave, hang, lie, redirect, or never stop sending.
#![cfg(test)]

#[path = "../support/authority.rs"]
mod authority;
mod delivery;
mod misbehaving;
mod order;
mod over_tls;
mod support;
