//! Keys of one environment at the concentrators of another one.

use crate::audit::has;
use crate::support::{Http, Reply, Site, eventually};

/// A change of the configuration, in force. Nobody tries a key meanwhile: of each source one refusal a minute is recorded.
fn change<T>(site: &Site, change: impl FnOnce() -> T) -> T {
    let reloads = || site.log().matches("event=configuration_reloaded").count();
    let before = reloads();
    let changed = change();
    eventually("it is taken up", || reloads() > before);
    changed
}

/// Makes a key as its operator does.
fn add_key(site: &Site, words: &[&str]) -> String {
    let ran = change(site, || site.run(&[&["apikey", "add"], words].concat()));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let token = ran.out.trim().to_owned();
    let digits = token.rsplit('-').next().unwrap();
    site.keep_secret(digits.to_owned());
    token
}

fn get(site: &Site, token: &str, path: &str) -> Reply {
    Http::open(site.api(), site.roots(), Some(token.to_owned())).unwrap().get(path)
}

fn works(site: &Site, token: &str) {
    assert_eq!(get(site, token, "/v1/status").status, 200);
}

/// Both environments are named to the caller and to who looks at the log and the audit; the key is not.
fn refused(site: &Site, token: &str, theirs: &str, ours: &str) {
    let reply = get(site, token, "/v1/status");
    assert_eq!(reply.status, 401);
    let sentence = reply.json()["error"].as_str().unwrap().to_owned();
    let words = [&format!("\"{theirs}\""), &format!("\"{ours}\""), "made for it"];
    assert!(words.iter().all(|word| sentence.contains(*word)), "{sentence}");
    eventually("it is in the audit log", || has(site, "refused", "", &sentence));
    let audit = site.run(&["audit"]).out;
    assert!(audit.contains(&sentence), "{audit}");
    let line = format!("cause=key peer=127.0.0.1 count=1 detail={sentence:?}");
    assert!(site.log().contains(&line), "{line} in {}", site.log());
}

#[test]
fn an_api_key_of_another_environment_is_refused_by_name_though_its_configuration_was_copied() {
    let (production, staging) = (Site::of("production"), Site::of("staging"));
    production.start();
    staging.start();
    let token = add_key(&staging, &["erp", "--rights", "read,request"]);
    works(&staging, &token);
    let tables = staging.read("iotsocketd.toml");
    let copied = tables.split_once("\n[[api.key]]\nname = \"erp\"").unwrap().1;
    production.append(&format!("[[api.key]]\nname = \"erp\"{copied}"));
    // An old key without a mark goes on working wherever it is configured.
    let old = "00ff".repeat(16);
    let hash = ring::digest::digest(&ring::digest::SHA256, old.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    for site in [&production, &staging] {
        site.keep_secret(old.clone());
        let table = format!("[[api.key]]\nname = \"old\"\nsha256 = \"{hash}\"\nrights = [\"read\"]\n");
        change(site, || site.append(&table));
        works(site, &old);
    }
    refused(&production, &token, "staging", "production");
    // One that the other one never heard of gets the same sentence.
    let unknown = add_key(&production, &["grafana", "--rights", "read"]);
    works(&production, &unknown);
    refused(&staging, &unknown, "production", "staging");
    works(&staging, &token);
}

#[test]
fn a_key_that_cannot_be_made_changes_nothing() {
    let site = Site::started();
    let reader = add_key(&site, &["reader", "--rights", "read", "--groups", "Devices, Stations"]);
    assert!(reader.starts_with("iotsocketd-test-") && reader.len() == 80, "{}", reader.len());
    works(&site, &reader);
    let before = site.read("iotsocketd.toml");
    for (words, why) in [
        (&["reader", "--rights", "read"][..], "is the name of another key already"),
        (&["x", "--rights", "write"], "must be"),
        (&["x", "--rights", "read", "--groups", "Pumps"], "Pumps"),
        (&["", "--rights", "read"], "name"),
        (&["x\ny", "--rights", "read"], "plain text"),
    ] {
        let ran = site.run(&[&["apikey", "add"], words].concat());
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{words:?}");
        assert!(ran.err.contains(why) && ran.err.lines().count() == 1, "{words:?}: {}", ran.err);
    }
    assert_eq!(site.read("iotsocketd.toml"), before);
}
