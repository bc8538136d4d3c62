//! Other systems: `[ingest.NAME]` for what comes in, `[subscribers.NAME]` for what goes out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::Folders;
use super::central::outgoing_url;
use super::groups::{Group, known_group, known_groups};
use super::listeners::read_allow_from;
use super::reader::{Table, list};
use super::secrets::{self, Secret, SecretKeys, SigningSecrets};
use super::units::{
    KIB, MIB, Rate, Url, count, duration, duration_or_zero, memory, name, one_of, rate, text,
};
use crate::net::AllowFrom;
use crate::wire::GroupName;

/// The longest name: it stands in paths, logs and metrics.
const NAME_MAX: usize = 64;
const FORMATS: [(&str, IngestFormat); 9] = [
    ("plain", IngestFormat::Plain),
    ("sigfox", IngestFormat::Sigfox),
    ("tts", IngestFormat::Tts),
    ("chirpstack", IngestFormat::Chirpstack),
    ("thingpark", IngestFormat::Thingpark),
    ("1nce", IngestFormat::OneNce),
    ("soracom", IngestFormat::Soracom),
    ("liveobjects", IngestFormat::LiveObjects),
    ("generic", IngestFormat::Generic),
];
const KINDS: [(&str, MessageKind); 6] = [
    ("telemetry", MessageKind::Telemetry),
    ("request", MessageKind::Request),
    ("command", MessageKind::Command),
    ("access", MessageKind::Access),
    ("audit", MessageKind::Audit),
    ("event", MessageKind::Event),
];

/// A partner network that posts messages to `/v1/ingest/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// What its bodies look like.
    pub format: IngestFormat,
    /// Where a generic body holds what.
    pub map: Option<IngestMap>,
    /// Group of objects that the access list does not name.
    pub group: Option<GroupName>,
    /// Whether such objects may come in.
    pub objects: IngestObjects,
    /// Which of the network's identities is the UID; `None`: the format's usual one.
    pub uid: Option<String>,
    /// UIDs of identities that are longer than 16 bytes.
    pub aliases_file: Option<PathBuf>,
    /// Basic credentials beside API keys: user and password.
    pub basic: Option<(String, Secret)>,
    /// Where it may post from.
    pub allow_from: AllowFrom,
    /// Bytes of the largest body.
    pub max_body: usize,
    /// Messages of the whole network.
    pub rate: Rate,
}

/// Formats of partner networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestFormat {
    /// `{"UID", "Payload", "Format"}`.
    Plain,
    /// Sigfox callbacks.
    Sigfox,
    /// The Things Stack v3.
    Tts,
    /// ChirpStack v4.
    Chirpstack,
    /// Actility ThingPark.
    Thingpark,
    /// 1NCE OS.
    OneNce,
    /// Soracom Beam.
    Soracom,
    /// Orange Live Objects.
    LiveObjects,
    /// JSON of any shape, see [`IngestMap`].
    Generic,
}

/// JSON pointers into a generic body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestMap {
    /// The object's identity.
    pub uid: String,
    /// The payload.
    pub payload: String,
    /// The network's time.
    pub time: Option<String>,
}

/// Which identities a partner network may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestObjects {
    /// Any.
    Any,
    /// Those that the access list names.
    Listed,
}

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

pub(super) fn read_ingest(
    tables: Vec<(String, Table<'_>)>,
    groups: &BTreeMap<GroupName, Group>,
    folders: &Folders,
) -> BTreeMap<String, Ingest> {
    let mut sources = BTreeMap::new();
    for (source, mut table) in tables {
        check_name(&source, &table);
        let ingest = read_source(&mut table, groups, folders);
        table.finish();
        sources.insert(source, ingest);
    }
    sources
}

fn read_source(table: &mut Table<'_>, groups: &BTreeMap<GroupName, Group>, folders: &Folders) -> Ingest {
    let objects = [("any", IngestObjects::Any), ("listed", IngestObjects::Listed)];
    let ingest = Ingest {
        format: table.read("format", IngestFormat::Plain, one_of(&FORMATS)),
        map: read_map(table.table("map")),
        group: table.optional("group", known_group(groups)),
        objects: table.read("objects", IngestObjects::Any, one_of(&objects)),
        uid: table.optional("uid", name),
        aliases_file: table.optional("aliases_file", name).map(|file| folders.config.join(file)),
        basic: read_basic(table, folders),
        allow_from: read_allow_from(table),
        max_body: table.read("max_body", 64 * 1024, memory(KIB..=64 * MIB)),
        rate: table.read("rate", None, rate),
    };
    if ingest.format == IngestFormat::Generic && !table.has("map") {
        table.mistake("map", "is missing: format `generic` needs to know where uid and payload are");
    }
    if ingest.format != IngestFormat::Generic && table.has("map") {
        table.mistake("map", "belongs to format `generic` only");
    }
    if ingest.objects == IngestObjects::Any && !table.has("group") {
        table.mistake("group", "is missing: it is the group of objects that the access list does not name");
    }
    ingest
}

fn read_map(mut table: Table<'_>) -> Option<IngestMap> {
    if !table.exists() {
        return None;
    }
    let uid = table.required("uid", json_pointer);
    let payload = table.required("payload", json_pointer);
    let time = table.optional("time", json_pointer);
    table.finish();
    Some(IngestMap { uid: uid?, payload: payload?, time })
}

fn read_basic(table: &mut Table<'_>, folders: &Folders) -> Option<(String, Secret)> {
    let user = table.optional("basic_user", name);
    let keys = SecretKeys { inline: "basic_password", file: "basic_password_file", default_file: None };
    let password = secrets::read(table, &keys, &folders.config, None, secrets::password);
    let has_password = table.has(keys.inline) || table.has(keys.file);
    if user.as_ref().is_some_and(|user| user.contains(':')) {
        table.mistake("basic_user", "must not hold a colon");
    }
    if table.has("basic_user") && !has_password {
        table.mistake("basic_user", "needs `basic_password_file` beside it");
    }
    if has_password && !table.has("basic_user") {
        table.mistake("basic_user", "is missing beside its password");
    }
    user.zip(password)
}

pub(super) fn read_subscribers(
    tables: Vec<(String, Table<'_>)>,
    groups: &BTreeMap<GroupName, Group>,
    folders: &Folders,
) -> BTreeMap<String, Subscriber> {
    let mut subscribers = BTreeMap::new();
    for (name, mut table) in tables {
        check_name(&name, &table);
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
    let ca_file = table.optional("ca_file", name).map(|file| folders.config.join(file));
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
    })
}

/// `secret` or `secret_file` of what signs; one of them must be there.
pub(super) fn read_signing_secrets(table: &mut Table<'_>, folders: &Folders) -> Option<SigningSecrets> {
    let keys = SecretKeys { inline: "secret", file: "secret_file", default_file: None };
    let secrets = secrets::read(table, &keys, &folders.config, None, secrets::signing_secrets);
    if !table.has(keys.inline) && !table.has(keys.file) {
        table.mistake(keys.file, "is missing: webhooks are signed");
    }
    secrets
}

/// Names stand in paths, logs and metrics, so they are plain.
fn check_name(name: &str, table: &Table<'_>) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(plain) {
        table.mistake_here(format!("must be named with 1 to {NAME_MAX} letters, digits, `-` and `_`"));
    }
}

fn json_pointer(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    let pointer = text(value)?;
    match pointer.starts_with('/') {
        true => Ok(pointer),
        false => Err("must be a JSON pointer like \"/device/id\"".to_owned()),
    }
}
