//! Rights and limits of objects: `[groups.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::listeners::read_allow_from;
use super::reader::{Table, list};
use super::storage::{JOURNAL_SIZE_MIN, ON_EXPIRY, OnExpiry};
use super::units::{KIB, Rate, boolean, duration, group_name, memory, one_of, parse_group_name, rate, size};
use crate::net::AllowFrom;
use crate::wire::GroupName;

/// What the objects of a group may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Whether they get tokens for telemetry.
    pub telemetry: bool,
    /// How long a token is valid.
    pub telemetry_token_ttl: Duration,
    /// Whether payloads are looked into.
    pub validate: Validation,
    /// Bytes of the largest payload; 64 KiB: whatever the protocol can carry.
    pub max_payload: usize,
    /// Messages and requests of one object.
    pub rate: Rate,
    /// How long messages are kept; `None`: as the journal says.
    pub retention: Option<Duration>,
    /// What then becomes of them; `None`: as the journal says.
    pub on_expiry: Option<OnExpiry>,
    /// Bytes that the group may take in the journal; `None`: as the journal says.
    pub max_size: Option<u64>,
    /// Where they may come from.
    pub allow_from: AllowFrom,
}

/// Whether payloads are looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// Payloads are passed on as they are.
    Off,
    /// Payloads that are not what their format says are refused and counted.
    Format,
}

pub(super) fn read(tables: Vec<(String, Table<'_>)>) -> BTreeMap<GroupName, Group> {
    let mut groups = BTreeMap::new();
    for (name, mut table) in tables {
        let name = parse_group_name(&name).map_err(|sentence| table.mistake_here(sentence));
        let group = read_group(&mut table);
        if let Ok(name) = name
            && groups.insert(name, group).is_some()
        {
            table.mistake_here("is the same name as another group's");
        }
        table.finish();
    }
    groups
}

fn read_group(table: &mut Table<'_>) -> Group {
    let validation = [("off", Validation::Off), ("format", Validation::Format)];
    Group {
        telemetry: table.read("telemetry", true, boolean),
        telemetry_token_ttl: table.read("telemetry_token_ttl", Duration::from_secs(3600), duration),
        validate: table.read("validate", Validation::Off, one_of(&validation)),
        max_payload: table.read("max_payload", 64 * 1024, memory(1..=64 * KIB)),
        rate: table.read("rate", None, rate),
        retention: table.optional("retention", duration),
        on_expiry: table.optional("on_expiry", one_of(&ON_EXPIRY)),
        max_size: table.optional("max_size", size(JOURNAL_SIZE_MIN..=u64::MAX)),
        allow_from: read_allow_from(table),
    }
}

/// `groups` of an API key or subscriber: every name must be a configured group.
pub(super) fn known_groups(
    table: &mut Table<'_>,
    groups: &BTreeMap<GroupName, Group>,
) -> BTreeSet<GroupName> {
    list(table, "groups", known_group(groups)).unwrap_or_default().into_iter().collect()
}

/// The name of a configured group.
pub(super) fn known_group(
    groups: &BTreeMap<GroupName, Group>,
) -> impl Fn(&toml::de::DeValue<'_>) -> Result<GroupName, String> {
    move |value| {
        let name = group_name(value)?;
        match groups.contains_key(&name) {
            true => Ok(name),
            false => Err(unknown_group(name, groups)),
        }
    }
}

fn unknown_group(name: GroupName, groups: &BTreeMap<GroupName, Group>) -> String {
    match super::nearest(name.as_str(), groups.keys().map(GroupName::as_str)) {
        Some(meant) => format!("names a group `{name}` that is not configured; did you mean `{meant}`?"),
        None => format!("names a group `{name}` that is not configured; add a table [groups.{name}]"),
    }
}
