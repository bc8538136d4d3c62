//! A newer version takes the place of the running one: the real program over real sockets. New versions are small scripts that
//! become the program, or something worse.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod bad;
mod good;
mod system;
mod under_load;
