//! Other systems that are handed messages: `[subscribers.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::Folders;
use super::central::{outgoing_url, read_ca_file};
use super::groups::{Group, known_groups};
use super::reader::{Table, list};
use super::secrets::{self, SecretKeys, SigningSecrets};
use super::units::{Rate, Url, count, duration, duration_or_zero, network, one_of, rate};
use crate::delivery::{central, commands};
use crate::limits::SUBSCRIBERS_MAX;
use crate::net::Network;
use crate::wire::GroupName;

/// The longest name: it stands in paths, logs and metrics.
const NAME_MAX: usize = 64;
const KINDS: [(&str, MessageKind); 6] = [
    ("telemetry", MessageKind::Telemetry),
    ("request", MessageKind::Request),
    ("command", MessageKind::Command),
    ("access", MessageKind::Access),
    ("audit", MessageKind::Audit),
    ("event", MessageKind::Event),
];

/// A system that is handed messages by signed webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber {
    /// Where.
    pub url: Url,
    /// What signs.
    pub secrets: SigningSecrets,
    /// Of which groups; empty: all.
    pub groups: BTreeSet<GroupName>,
    /// Which messages.
    pub kinds: BTreeSet<MessageKind>,
    /// What comes first after an outage.
    pub order: Order,
    /// Messages of one call.
    pub batch_max: usize,
    /// How long a batch may wait to fill.
    pub batch_wait: Duration,
    /// Messages.
    pub max_rate: Rate,
    /// How long an answer is awaited.
    pub timeout: Duration,
    /// After how long a message is dead; `None`: never.
    pub give_up: Option<Duration>,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Private networks that the URL's name may lead to.
    pub allow_to: Vec<Network>,
}

/// Kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageKind {
    /// From an object, without an answer.
    Telemetry,
    /// A call.
    Request,
    /// A queued call.
    Command,
    /// A change of the access list.
    Access,
    /// Who did what.
    Audit,
    /// Of the concentrator itself.
    Event,
}

/// What comes first after an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The oldest.
    Strict,
    /// The newest, the rest in a share of the rate.
    LiveFirst,
}

pub(super) fn read_subscribers(
    tables: Vec<(String, Table<'_>)>,
    groups: &BTreeMap<GroupName, Group>,
    folders: &Folders,
) -> BTreeMap<String, Subscriber> {
    let mut subscribers = BTreeMap::new();
    for (number, (name, mut table)) in tables.into_iter().enumerate() {
        check_name(&name, &table);
        if name == central::NAME || name == commands::NAME {
            table.mistake_here("must have another name: this one is a destination's already".to_owned());
        }
        if number == SUBSCRIBERS_MAX {
            table.mistake_here(format!("is one too many: {SUBSCRIBERS_MAX} subscribers are the most"));
        }
        let subscriber = read_subscriber(&mut table, groups, folders);
        table.finish();
        subscribers.extend(subscriber.map(|subscriber| (name, subscriber)));
    }
    subscribers
}

fn read_subscriber(
    table: &mut Table<'_>,
    groups: &BTreeMap<GroupName, Group>,
    folders: &Folders,
) -> Option<Subscriber> {
    let order = [("strict", Order::Strict), ("live-first", Order::LiveFirst)];
    let url = outgoing_url(table, "url");
    if !table.has("url") {
        table.mistake("url", "is missing");
    }
    let secrets = read_signing_secrets(table, folders);
    let groups = known_groups(table, groups);
    let kinds = list(table, "kinds", one_of(&KINDS));
    if kinds.as_ref().is_some_and(Vec::is_empty) {
        table.mistake("kinds", "must name one kind at least");
    }
    let kinds = kinds.unwrap_or_else(|| vec![MessageKind::Telemetry]);
    let order = table.read("order", Order::Strict, one_of(&order));
    let batch_max = table.read("batch_max", 1, count(1, 10_000));
    let batch_wait = table.read("batch_wait", Duration::ZERO, duration_or_zero);
    let max_rate = table.read("max_rate", None, rate);
    let timeout = table.read("timeout", Duration::from_secs(10), duration);
    let give_up = table.read("give_up", Duration::ZERO, duration_or_zero);
    let ca_file = read_ca_file(table, folders);
    let allow_to = list(table, "allow_to", network).unwrap_or_default();
    Some(Subscriber {
        url: url?,
        secrets: secrets?,
        groups,
        kinds: kinds.into_iter().collect(),
        order,
        batch_max,
        batch_wait,
        max_rate,
        timeout,
        give_up: (!give_up.is_zero()).then_some(give_up),
        ca_file,
        allow_to,
    })
}

/// `secret` or `secret_file` of what signs; one of them must be there.
pub(super) fn read_signing_secrets(table: &mut Table<'_>, folders: &Folders) -> Option<SigningSecrets> {
    let keys = SecretKeys { inline: "secret", file: "secret_file", default_file: None };
    let secrets = secrets::read(table, &keys, folders, secrets::signing_secrets);
    if !table.has(keys.inline) && !table.has(keys.file) {
        table.mistake(keys.file, "is missing: webhooks are signed");
    }
    secrets
}

/// Names stand in paths, logs and metrics, so they are plain.
pub(super) fn check_name(name: &str, table: &Table<'_>) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(plain) {
        table.mistake_here(format!("must be named with 1 to {NAME_MAX} letters, digits, `-` and `_`"));
    }
}
