//! The units as systemd reads them, and the program as systemd would run it. There need not be a systemd as process 1: its
//! tools judge the units, `systemd-socket-activate` passes sockets in, and a small supervisor stands in for the rest.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod activation;
mod supervisor;
mod units;
mod update;
mod watchdog;
