//! The configuration without its secrets, for somebody else to look at.
//!
//! What may be shown is listed; every other text is left out, and so are comments. So a key that nobody thought of shows
//! nothing. Numbers are shown, but for keys that look like secrets: whoever forgets the quotes shows nothing either.

use std::fmt::Write as _;

use toml::de::{DeTable, DeValue};

use super::units::{DURATION_UNITS, SIZE_UNITS, with_unit};

/// Keys whose texts hold no secret: words, names, networks, addresses and paths.
const OPEN: [&str; 47] = [
    "address",
    "aliases_file",
    "allow_from",
    "allow_to",
    "archive_dir",
    "at",
    "auth_key_file",
    "basic_password_file",
    "ca_file",
    "calls",
    "certificate",
    "counter",
    "dir",
    "dns",
    "encoding",
    "environment",
    "file",
    "format",
    "gateway",
    "group",
    "groups",
    "hostname",
    "id",
    "kinds",
    "led",
    "listen",
    "name",
    "network",
    "ntp",
    "objects",
    "on_expiry",
    "on_full",
    "order",
    "payload",
    "port",
    "private_key",
    "public_key_file",
    "rights",
    "secret_file",
    "socket",
    "state_dir",
    "time",
    "tls",
    "trust",
    "uid",
    "validate",
    "reach",
];
/// Keys whose texts are where something is. Paths and queries may let whoever knows them in: only the host is shown.
const PLACES: [&str; 6] = ["copy_to", "request", "result", "telemetry", "url", "webhook"];
/// What is part of the names of keys that hold secrets.
const SECRET_PARTS: [&str; 5] = ["key", "password", "secret", "token", "user"];
/// In the place of what is not shown.
const REMOVED: &str = "\"(removed)\"";

/// The text of a configuration file, one `path.key = value` a line. What is no TOML shows nothing.
pub fn redacted(text: &str) -> String {
    let Ok(document) = DeTable::parse(text) else { return "# it is not TOML\n".to_owned() };
    let mut out = String::new();
    add(&mut out, "", document.get_ref());
    out
}

fn add(out: &mut String, path: &str, table: &DeTable<'_>) {
    for (name, value) in table {
        let name: &str = name.get_ref();
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match value.get_ref() {
            DeValue::Table(inside) => add(out, &path, inside),
            // Writing into a string cannot fail.
            value => _ = writeln!(out, "{} = {}", path.escape_debug(), shown(name, value)),
        }
    }
}

fn shown(key: &str, value: &DeValue<'_>) -> String {
    match value {
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Integer(number) if !is_secret(key) => number.as_str().to_owned(),
        DeValue::String(text) if OPEN.contains(&key) || is_amount(text) => {
            format!("\"{}\"", text.escape_debug())
        }
        DeValue::String(text) if PLACES.contains(&key) => place(text),
        DeValue::Array(elements) => {
            let elements: Vec<_> = elements.iter().map(|element| shown(key, element.get_ref())).collect();
            format!("[{}]", elements.join(", "))
        }
        DeValue::Table(inside) => {
            let mut lines = String::new();
            add(&mut lines, "", inside);
            format!("{{ {} }}", lines.lines().collect::<Vec<_>>().join(", "))
        }
        _ => REMOVED.to_owned(),
    }
}

fn is_secret(key: &str) -> bool {
    key == "sha256" || SECRET_PARTS.iter().any(|part| key.contains(part))
}

/// A time, a size or a rate.
fn is_amount(text: &str) -> bool {
    let rate = text.strip_suffix("/s").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    rate || with_unit(text, &DURATION_UNITS).or_else(|| with_unit(text, &SIZE_UNITS)).is_some()
}

fn place(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        // A folder.
        return format!("\"{}\"", text.escape_debug());
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("\"{scheme}://{}/…\"", host.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of everything that may stand in a file only these are left out; a new key has to be put on one of the lists.
    #[test]
    fn every_key_is_known_to_be_a_secret_or_not() {
        const SECRET: [&str; 6] =
            ["auth_key", "basic_password", "basic_user", "secret", "sha256", "ssh_keys"];
        let shipped = include_str!("../../../config/iotsocketd.toml");
        let lines = shipped.lines().map(|line| line.trim_start_matches('#'));
        let settings = lines.filter_map(|line| line.split_once(" = ")).filter(|(key, _)| !key.contains(' '));
        let mut texts = 0;
        for (key, value) in settings {
            let value = value.split("  # ").next().unwrap_or_default();
            if !value.starts_with(['"', '[']) || is_amount(value.trim_matches('"')) {
                continue;
            }
            texts += 1;
            let lists = [OPEN.contains(&key), PLACES.contains(&key), SECRET.contains(&key)];
            assert_eq!(lists.iter().filter(|on| **on).count(), 1, "{key}: on one of the lists");
        }
        assert!(texts > 40);
    }

    #[test]
    fn what_is_not_known_is_left_out_and_places_lose_their_paths() {
        let text = r#"
            # s3cr3t
            unknown = "s3cr3t"
            basic_password = 4711
            secret = [4711]
            environment = "test"
            [central]
            auth_key = "s3cr3t"
            [central.webhooks]
            telemetry = "https://host:8443/hook/s3cr3t?s3cr3t"
            timeout = "5s"
            [backup]
            copy_to = "https://store.example/?sig=s3cr3t"
            keep = 7
            [groups.Devices]
            telemetry = true
            rate = "50/s"
            [[api.key]]
            name = "grafana"
            sha256 = "s3cr3t"
            rights = ["read"]
            [network]
            ssh_keys = ["s3cr3t", "s3cr3t"]
            hostname = 'a"b'
        "#;
        let out = redacted(text);
        assert!(!out.contains("s3cr3t") && !out.contains("4711"), "{out}");
        for line in [
            "environment = \"test\"\n",
            "unknown = \"(removed)\"\n",
            "central.webhooks.telemetry = \"https://host:8443/…\"\n",
            "central.webhooks.timeout = \"5s\"\n",
            "backup.copy_to = \"https://store.example/…\"\n",
            "backup.keep = 7\n",
            "groups.Devices.telemetry = true\n",
            "groups.Devices.rate = \"50/s\"\n",
            "network.ssh_keys = [\"(removed)\", \"(removed)\"]\n",
            "network.hostname = \"a\\\"b\"\n",
        ] {
            assert!(out.contains(line), "{line}: {out}");
        }
        assert!(out.contains("name = \"grafana\", rights = [\"read\"], sha256 = \"(removed)\""), "{out}");
        assert_eq!(redacted("x = [s3cr3t"), "# it is not TOML\n");
        assert_eq!(place("https://user:s3cr3t@host/"), "\"https://host/…\"");
    }
}
