//! The console as people see it: in a real Chromium without a window, driven over the WebDriver protocol.
//!
//! Needs Debian's packages `chromium` and `chromium-driver`, and fails without them. Screenshots of every view go to
//! `target/console`, to be looked at.
#![cfg(test)]

mod keyboard;
mod login;
mod looks;
mod real;
mod stage;
mod tail;

// The history that the tests of the API play, too.
#[path = "../http_api/fake_history.rs"]
#[expect(dead_code, reason = "the tests of the API let it fail and hang")]
mod fake_history;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/webdriver.rs"]
mod webdriver;
