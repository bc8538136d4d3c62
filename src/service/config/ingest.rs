//! Partner networks that post messages: `[ingest.NAME]`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroU32;
use std::path::Path;

use toml::de::DeValue;

use super::Folders;
use super::groups::{Group, known_group};
use super::listeners::read_allow_from;
use super::partners::check_name;
use super::reader::Table;
use super::report::{choices, nearest};
use super::secrets::{self, Secret, SecretKeys};
use super::units::{KIB, MIB, memory, name, one_of, rate, text};
use crate::ingest::{
    ALIASES_FILE_MAX, Aliases, Encoding, Map, NetworkFormat, Objects, Source, check_pointer,
};
use crate::wire::GroupName;

/// Mistakes of a file of aliases that are told one by one.
const ALIAS_MISTAKES: usize = 20;

/// A partner network that posts messages to `/v1/ingest/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// What its bodies are and what becomes of them.
    pub source: Source,
    /// Basic credentials beside API keys: user and password.
    pub basic: Option<(String, Secret)>,
}

pub(super) fn read(
    tables: Vec<(String, Table<'_>)>,
    groups: &BTreeMap<GroupName, Group>,
    folders: &Folders,
) -> BTreeMap<String, Ingest> {
    let mut sources = BTreeMap::new();
    for (source, mut table) in tables {
        check_name(&source, &table);
        let ingest = Ingest {
            source: read_source(&source, &mut table, groups, folders),
            basic: read_basic(&mut table, folders),
        };
        table.finish();
        sources.insert(source, ingest);
    }
    sources
}

fn read_source(
    source: &str,
    table: &mut Table<'_>,
    groups: &BTreeMap<GroupName, Group>,
    folders: &Folders,
) -> Source {
    let objects = [("any", Objects::Any), ("listed", Objects::Listed)];
    let format = table.read("format", NetworkFormat::Plain, one_of(&NetworkFormat::NAMES));
    let source = Source {
        name: source.to_owned(),
        format,
        map: read_map(table.table("map")),
        group: table.optional("group", known_group(groups)),
        objects: table.read("objects", Objects::Any, one_of(&objects)),
        uid: table.optional("uid", identity(format)),
        aliases: read_aliases(table, folders),
        allow_from: read_allow_from(table),
        max_body: table.read("max_body", 64 * 1024, memory(KIB..=64 * MIB)),
        rate: table.read("rate", None, rate).map_or(0, NonZeroU32::get),
    };
    if format == NetworkFormat::Generic && !table.has("map") {
        table.mistake("map", "is missing: format `generic` needs to know where uid and payload are");
    }
    if format != NetworkFormat::Generic && table.has("map") {
        table.mistake("map", "belongs to format `generic` only");
    }
    if source.objects == Objects::Any && !table.has("group") {
        table.mistake("group", "is missing: it is the group of objects that the access list does not name");
    }
    source
}

/// Which identity is the UID, as far as the format has several.
fn identity(format: NetworkFormat) -> impl Fn(&DeValue<'_>) -> Result<String, String> {
    move |value| {
        let written = name(value)?;
        let names = || format.identities().iter().copied();
        match (format, format.identity(&written)) {
            (NetworkFormat::Plain, _) => Ok(written),
            (NetworkFormat::Generic, _) => Err("stands in `map` for format `generic`".to_owned()),
            (_, Some(known)) => Ok(known.to_owned()),
            (_, None) => {
                let mut sentence = format!("must be {}", choices(names()));
                if let Some(meant) = nearest(&written, names()) {
                    sentence.push_str(&format!("; did you mean `{meant}`?"));
                }
                Err(sentence)
            }
        }
    }
}

fn read_map(mut table: Table<'_>) -> Option<Map> {
    if !table.exists() {
        return None;
    }
    let uid = table.required("uid", json_pointer);
    let payload = table.required("payload", json_pointer);
    let encoding = table.read("encoding", Encoding::Json, one_of(&Encoding::NAMES));
    let [time, id, port, counter] =
        ["time", "id", "port", "counter"].map(|key| table.optional(key, json_pointer));
    table.finish();
    Some(Map { uid: uid?, payload: payload?, encoding, time, id, port, counter })
}

fn json_pointer(value: &DeValue<'_>) -> Result<String, String> {
    let pointer = text(value)?;
    match check_pointer(&pointer) {
        true => Ok(pointer),
        false => Err("must be a JSON pointer like \"/device/id\"".to_owned()),
    }
}

fn read_aliases(table: &mut Table<'_>, folders: &Folders) -> Aliases {
    let Some(file) = table.optional("aliases_file", name) else { return Aliases::default() };
    let path = folders.config.join(file);
    table.reads(&path);
    let mistakes = match read_text(&path).map(|text| Aliases::parse(&text)) {
        Ok(Ok(aliases)) => return aliases,
        Ok(Err(mistakes)) => mistakes,
        Err(mistake) => vec![mistake],
    };
    let more = mistakes.len().saturating_sub(ALIAS_MISTAKES);
    for mistake in mistakes.iter().take(ALIAS_MISTAKES) {
        table.mistake("aliases_file", format!("{}: {mistake}", path.display()));
    }
    if more > 0 {
        table.mistake("aliases_file", format!("{}: {more} more are wrong", path.display()));
    }
    Aliases::default()
}

fn read_text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut text = String::new();
    let read = file.take(ALIASES_FILE_MAX as u64 + 1).read_to_string(&mut text);
    let len = read.map_err(|error| format!("cannot be read: {error}"))?;
    match len <= ALIASES_FILE_MAX {
        true => Ok(text),
        false => Err(format!("is longer than {ALIASES_FILE_MAX} bytes")),
    }
}

fn read_basic(table: &mut Table<'_>, folders: &Folders) -> Option<(String, Secret)> {
    let user = table.optional("basic_user", name);
    let keys = SecretKeys { inline: "basic_password", file: "basic_password_file", default_file: None };
    let password = secrets::read(table, &keys, folders, secrets::password);
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Config, Given};
    use super::*;

    /// What is wrong with these sections, and the sources that were read.
    fn examine(text: &str, aliases: &str) -> (Vec<String>, BTreeMap<String, Ingest>) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("aliases.json"), aliases).unwrap();
        let text = format!("[central]\nauth_key = \"8f3c1d5e7a9b0c2d4e6f8091a2b3c4d5\"\n[groups.G]\n{text}");
        let found = Config::parse(&folder.path().join("f.toml"), text.into_bytes(), Given::default());
        let prefix = format!("{}/", folder.path().display());
        let line = |mistake: &super::super::Mistake| mistake.to_string().replace(&prefix, "");
        (found.mistakes.iter().map(line).collect(), found.config.unwrap().ingest)
    }

    #[test]
    fn a_source_is_read_with_its_aliases_and_its_map() {
        let (mistakes, sources) = examine(
            "[ingest.a]\nformat = \"chirpstack\"\ngroup = \"G\"\nuid = \"devEui\"\naliases_file = \"aliases.json\"\n\
             rate = \"7/s\"\n[ingest.b]\nformat = \"generic\"\nobjects = \"listed\"\n\
             map = { uid = \"/d\", payload = \"/p\", encoding = \"hex\", id = \"/n\" }\n",
            r#"{"0018b20000000af1":"tracker"}"#,
        );
        assert_eq!(mistakes, [""; 0]);
        let a = &sources["a"].source;
        assert_eq!((a.name.as_str(), a.uid.as_deref(), a.rate), ("a", Some("dev_eui"), 7));
        assert_eq!(a.aliases.get("0018B20000000AF1").unwrap().as_str(), "tracker");
        let map = sources["b"].source.map.as_ref().unwrap();
        assert_eq!((map.encoding, map.id.as_deref(), &map.time), (Encoding::Hex, Some("/n"), &None));
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        let (mistakes, _) = examine(
            "[ingest.a]\nformat = \"tts\"\ngroup = \"G\"\nuid = \"dev_euy\"\naliases_file = \"aliases.json\"\n\
             [ingest.b]\nformat = \"generic\"\nobjects = \"listed\"\nuid = \"x\"\naliases_file = \"none.json\"\n\
             map = { uid = \"/a~b\", payload = \"/p\", encoding = \"bin\", when = \"/t\" }\n\
             [ingest.c]\nformat = \"tss\"\ngroup = \"H\"\n",
            r#"{"a":"","b":"12345678901234567"}"#,
        );
        let wanted = [
            "7:7: ingest.a.uid: must be `dev_eui` or `device_id`; did you mean `dev_eui`?",
            "8:16: ingest.a.aliases_file: aliases.json: \"a\": the UID is empty",
            "8:16: ingest.a.aliases_file: aliases.json: \"b\": the UID is longer",
            "12:7: ingest.b.uid: stands in `map`",
            "13:16: ingest.b.aliases_file: none.json: cannot be read",
            "14:15: ingest.b.map.uid: must be a JSON pointer",
            "14:50: ingest.b.map.encoding: must be `json`",
            "14:57: ingest.b.map.when: is not a key",
            "16:10: ingest.c.format: must be `plain`",
            "17:9: ingest.c.group: names a group `H`",
        ];
        assert_eq!(mistakes.len(), wanted.len(), "{mistakes:#?}");
        for (mistake, part) in mistakes.iter().zip(wanted) {
            assert!(mistake.starts_with(&format!("f.toml:{part}")), "{mistake}");
        }
    }

    #[test]
    fn only_the_first_wrong_aliases_are_told_one_by_one() {
        let wrong: Vec<_> = (0..30).map(|n| format!("\"{n}\":\"\"")).collect();
        let text = "[ingest.a]\ngroup = \"G\"\naliases_file = \"aliases.json\"\n";
        let (mistakes, _) = examine(text, &format!("{{{}}}", wrong.join(",")));
        assert_eq!(mistakes.len(), ALIAS_MISTAKES + 1);
        assert!(mistakes.iter().any(|line| line.ends_with("10 more are wrong")), "{mistakes:#?}");
    }
}
