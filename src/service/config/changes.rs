//! Which keys of the configuration changed, by their names: for the audit log, so nothing of what they say.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::{Api, Config};

/// The keys in which the two differ, or a table of which something changed that does not stand in the file itself; tables
/// with names that came or went.
pub fn changes(before: &Config, after: &Config) -> Vec<String> {
    let own_api = |config: &Config| Api { keys: Vec::new(), ..config.api.clone() };
    let mut changed = Vec::new();
    for (name, is_same) in [
        ("environment", before.environment == after.environment),
        ("state_dir", before.state_dir == after.state_dir),
        ("tls", before.tls == after.tls),
        ("sessions", before.sessions == after.sessions),
        ("telemetry", before.telemetry == after.telemetry),
        ("api", own_api(before) == own_api(after)),
        ("central", before.central == after.central),
        ("maintenance", before.maintenance == after.maintenance),
        ("access", before.access == after.access),
        ("journal", before.journal == after.journal),
        ("alerts", before.alerts == after.alerts),
        ("backup", before.backup == after.backup),
        ("upgrade", before.upgrade == after.upgrade),
        ("time", before.time == after.time),
        ("network", before.network == after.network),
    ] {
        if !is_same {
            changed.extend(keys_in(name, "api.key", before, after));
        }
    }
    // Which keys may do what is told by their names.
    let keys = |config: &Config| -> BTreeMap<String, _> {
        config.api.keys.iter().map(|key| (key.name.clone(), key.clone())).collect()
    };
    let inside = |name: &str| keys_in(name, "", before, after);
    named("api.key", &keys(before), &keys(after), inside, &mut changed);
    named("groups", &before.groups, &after.groups, inside, &mut changed);
    named("ingest", &before.ingest, &after.ingest, inside, &mut changed);
    named("subscribers", &before.subscribers, &after.subscribers, inside, &mut changed);
    changed
}

/// Of this key or table, which differs, the keys that do, but for those in `without`.
fn keys_in(name: &str, without: &str, before: &Config, after: &Config) -> Vec<String> {
    let keys = after.stated.differing(&before.stated, name, without);
    match keys.is_empty() {
        // A file that it names says something else, or a default does.
        true => vec![name.to_owned()],
        false => keys.into_iter().map(str::to_owned).collect(),
    }
}

fn named<K: Ord + Display, V: PartialEq>(
    table: &str,
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    inside: impl Fn(&str) -> Vec<String>,
    changed: &mut Vec<String>,
) {
    let gone = before.keys().filter(|name| !after.contains_key(name));
    changed.extend(gone.map(|name| format!("{table}.{name} removed")));
    for (name, value) in after {
        match before.get(name) {
            None => changed.push(format!("{table}.{name} added")),
            Some(old) if old != value => changed.extend(inside(&format!("{table}.{name}"))),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::service::config::Given;

    fn config(toml: &str) -> Config {
        let key = "[central]\nauth_key = \"20112233445566778899aabbccddeeff\"\n";
        let text = format!("{toml}\n{key}").into_bytes();
        let examined = Config::parse(Path::new("/etc/x/iotsocketd.toml"), text, Given::default());
        assert!(examined.mistakes.is_empty(), "{:?}", examined.mistakes);
        examined.config.unwrap()
    }

    #[test]
    fn what_changed_is_named_and_nothing_of_what_it_says() {
        let sha = |digit: char| digit.to_string().repeat(64);
        let key = |name: &str, digit: char| {
            format!("[[api.key]]\nname = \"{name}\"\nsha256 = \"{}\"\nrights = [\"read\"]\n", sha(digit))
        };
        let before = format!(
            "{}{}[groups.A]\n[groups.B]\n[journal]\nmax_size = \"2GiB\"",
            key("x", '1'),
            key("y", '2')
        );
        let after = format!("{}{}[groups.A]\nrate = \"5/s\"\n[groups.C]\n", key("y", '3'), key("z", '4'));
        assert_eq!(
            changes(&config(&before), &config(&after)),
            [
                "journal.max_size",
                "api.key.x removed",
                "api.key.y.sha256",
                "api.key.z added",
                "groups.B removed",
                "groups.A.rate",
                "groups.C added"
            ]
        );
        let more = "[api]\nmax_body = \"2MiB\"\n[central.webhooks]\nrequest = \"http://127.0.0.1/x\"\n\
                    [journal]\nmax_size = '2GiB'";
        assert_eq!(
            changes(&config("[journal]\nmax_size = \"2GiB\""), &config(more)),
            ["api.max_body", "central.webhooks.request"],
            "another way to write the same is no change"
        );
        assert_eq!(changes(&config(&before), &config(&before)), Vec::<String>::new());
    }
}
