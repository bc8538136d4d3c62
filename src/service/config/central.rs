//! The back-end: `[central]` and its webhooks.

use std::path::PathBuf;
use std::time::Duration;

use super::Folders;
use super::reader::Table;
use super::secrets::{self, SecretKeys};
use super::units::{MIB, Url, duration, memory, name, url};
use crate::wire::AuthKey;

/// Largest answer of a webhook that is held in memory.
const WEBHOOK_BODY_MAX: u64 = 64 * MIB;

/// The back-end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Central {
    /// Its key: logs in its sessions, opens the API, and goes with webhooks.
    pub auth_key: AuthKey,
    /// Where it is called.
    pub webhooks: Webhooks,
}

/// Where the central is called; one that is `None` does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhooks {
    /// Takes requests of objects.
    pub request: Option<Url>,
    /// Takes telemetry.
    pub telemetry: Option<Url>,
    /// Takes the outcome of queued commands.
    pub result: Option<Url>,
    /// How long an answer is awaited.
    pub timeout: Duration,
    /// Bytes of the largest answer.
    pub max_body: usize,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

pub(super) fn read(mut table: Table<'_>, folders: &Folders) -> Option<Central> {
    let keys = SecretKeys { inline: "auth_key", file: "auth_key_file", default_file: Some("central.key") };
    let auth_key = secrets::read(&mut table, &keys, folders, |text| {
        AuthKey::parse(text).ok_or_else(|| "must be 32 hex digits".to_owned())
    });
    if auth_key.is_some_and(|key| key.is_weak()) {
        let key = if table.has("auth_key") { "auth_key" } else { "auth_key_file" };
        table.warning(key, "is a key that anybody can guess; make one with `iotsocketd init`");
    }
    let webhooks = read_webhooks(table.table("webhooks"), folders);
    table.finish();
    Some(Central { auth_key: auth_key?, webhooks })
}

fn read_webhooks(mut table: Table<'_>, folders: &Folders) -> Webhooks {
    let webhooks = Webhooks {
        request: outgoing_url(&mut table, "request"),
        telemetry: outgoing_url(&mut table, "telemetry"),
        result: outgoing_url(&mut table, "result"),
        timeout: table.read("timeout", Duration::from_secs(5), duration),
        max_body: table.read("max_body", 512 * 1024, memory(1..=WEBHOOK_BODY_MAX)),
        ca_file: read_ca_file(&mut table, folders),
    };
    table.finish();
    webhooks
}

/// Where certificates are that are trusted instead of the system's.
pub(super) fn read_ca_file(table: &mut Table<'_>, folders: &Folders) -> Option<PathBuf> {
    let path = folders.config.join(table.optional("ca_file", name)?);
    table.reads(&path);
    Some(path)
}

/// The URL of a webhook; a warning if others can listen.
pub(super) fn outgoing_url(table: &mut Table<'_>, key: &'static str) -> Option<Url> {
    let url = table.optional(key, url)?;
    if url.is_exposed() {
        table.warning(key, "goes over the network without TLS; use https://");
    }
    Some(url)
}
