//! What is kept over everything that can happen to the process and its folder: the real program, its commands, its
//! files.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod archived;
mod backup;
mod blackbox;
mod nightly;
mod shelf;
mod stopped;
mod storage_test;
mod support_bundle;

use std::fs;
use std::path::Path;

use iotsocketd::wire::Format;
use serde_json::Value;
use support::{Device, Site, eventually};

/// A running site with an object, and so many of its messages on flash. Nobody wants them.
fn site_with(messages: usize) -> (Site, Device) {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.start();
    send(&site, pump, messages);
    (site, pump)
}

/// Sends so many messages more, and waits until all that were sent are on flash.
fn send(site: &Site, device: Device, messages: usize) {
    let before = stored(site);
    let (_object, token) = site.login_with_token(device);
    for number in 0..messages {
        site.telemetry(token, Format::Json, format!("[{number}]").as_bytes());
    }
    eventually("all of it is on flash", || stored(site) == before + messages);
}

/// How many messages of telemetry `/v1/messages` shows.
fn stored(site: &Site) -> usize {
    let reply = site.http().get("/v1/messages?kind=telemetry&limit=1000");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["messages"].as_array().unwrap().len()
}

/// The messages of telemetry, as `messages --json` prints them, without what became of them.
fn messages(site: &Site) -> Vec<(u64, String)> {
    let ran = site.run(&["messages", "--json", "--kind", "telemetry", "--limit", "1000"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let message = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        let shown = format!("{} {} {} {}", value["id"], value["time"], value["uid"], value["payload"]);
        (value["seq"].as_u64().unwrap(), shown)
    };
    ran.out.lines().map(message).collect()
}

/// Names and contents of all files below a folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.push((path.to_str().unwrap().to_owned(), fs::read(&path).unwrap_or_default()));
            }
        }
    }
    all.sort();
    all
}
