//! Secrets: in the configuration itself, or in files of their own that nobody else may read.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reader::Table;
use super::report::Report;
use super::units::text;
use super::{Environment, Folders};

/// Bytes of a secret file; more is not a secret file.
const SECRET_FILE_MAX: u64 = 16 * 1024;
/// Keys of the configuration that hold a secret in plain text.
const INLINE_KEYS: [&str; 3] = ["auth_key", "secret", "basic_password"];
/// What a line of a secret file starts with that says where the secret belongs.
const ENVIRONMENT_MARK: &str = "# environment:";

/// A text that is never printed: `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// The one or, while rotating, two secrets that sign webhooks (`whsec_` and base64, Standard Webhooks).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningSecrets {
    /// Signs first.
    pub current: Secret,
    /// Signs too, until every receiver knows the other one.
    pub other: Option<Secret>,
}

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// The two keys of one secret: inline, and the name of its file.
pub(super) struct SecretKeys {
    pub inline: &'static str,
    pub file: &'static str,
    /// The file that is read when neither key stands in the configuration.
    pub default_file: Option<&'static str>,
}

/// Reads a secret wherever it stands; `None` if there is none, or none that can be used (reported).
pub(super) fn read<T>(
    table: &mut Table<'_>,
    keys: &SecretKeys,
    folders: &Folders,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    let inline = table.optional(keys.inline, text);
    let file = table.optional(keys.file, text);
    let (file, key) = match (inline, file) {
        (Some(_), Some(_)) => {
            table.mistake(keys.file, format!("stands beside `{}`; keep one of the two", keys.inline));
            return None;
        }
        (Some(secret), None) => {
            return parse(&secret).map_err(|sentence| table.mistake(keys.inline, sentence)).ok();
        }
        (None, Some(file)) => (file, keys.file),
        // A key of the wrong type was reported already, and means that the default is not wanted.
        (None, None) if table.has(keys.inline) || table.has(keys.file) => return None,
        (None, None) => (keys.default_file?.to_owned(), keys.file),
    };
    let path = folders.secret(file);
    table.reads(&path);
    let parsed = read_file(&path, folders.environment)
        .and_then(|secret| parse(&secret).map_err(|sentence| format!("{}: {sentence}", path.display())));
    parsed.map_err(|sentence| table.mistake(key, sentence)).ok()
}

/// The lines of a secret file that are not comments.
fn read_file(path: &Path, environment: Environment) -> Result<String, String> {
    let name = path.display();
    let failed = |error| format!("{name} cannot be read: {error}");
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    check_mode(path, &metadata)?;
    let mut text = String::new();
    file.take(SECRET_FILE_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > SECRET_FILE_MAX {
        return Err(format!("{name} is too long to be a secret"));
    }
    check_environment(&text, environment).map_err(|sentence| format!("{name} {sentence}"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// Refuses a secret file that group or others may read.
pub fn check_mode(path: &Path, metadata: &Metadata) -> Result<(), String> {
    if metadata.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(format!("{0} can be read by others; run `chmod 600 {0}`", path.display()))
}

/// The line that says where a secret belongs.
pub fn environment_mark(environment: Environment) -> String {
    format!("{ENVIRONMENT_MARK} {}", environment.name())
}

/// Refuses a secret that is marked for another environment; one without a mark belongs anywhere.
pub fn check_environment(text: &str, environment: Environment) -> Result<(), String> {
    let marks = text.lines().filter_map(|line| line.trim().strip_prefix(ENVIRONMENT_MARK));
    match marks.map(str::trim).find(|mark| *mark != environment.name()) {
        Some(mark) => Err(format!(
            "is marked for environment `{}`, this configuration is `{}`: give it a secret of its own",
            mark.escape_debug(),
            environment.name()
        )),
        None => Ok(()),
    }
}

/// One or two `whsec_` lines.
pub(super) fn signing_secrets(text: &str) -> Result<SigningSecrets, String> {
    let mut secrets = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(signing_secret);
    match (secrets.next(), secrets.next(), secrets.next()) {
        (Some(current), other, None) => Ok(SigningSecrets { current: current?, other: other.transpose()? }),
        _ => Err("must be one line, or two while rotating".to_owned()),
    }
}

fn signing_secret(line: &str) -> Result<Secret, String> {
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    let digits = line.strip_prefix("whsec_").map(|rest| rest.trim_end_matches('='));
    match digits {
        // 32 digits are the 24 bytes that the specification asks for at least, 86 its 64 at most.
        Some(digits) if (32..=86).contains(&digits.len()) && digits.bytes().all(base64) => {
            Ok(Secret(line.to_owned()))
        }
        _ => Err("must be `whsec_` and 24 to 64 bytes in base64".to_owned()),
    }
}

/// A password: one line that is not empty.
pub(super) fn password(text: &str) -> Result<Secret, String> {
    match !text.is_empty() && !text.chars().any(char::is_control) {
        true => Ok(Secret(text.to_owned())),
        false => Err("must be one line of text".to_owned()),
    }
}

/// A configuration with secrets inside is a secret file itself.
pub(super) fn warn_if_exposed(document: &Spanned<DeTable<'_>>, path: &Path, report: &Report<'_>) {
    let Ok(metadata) = path.metadata() else { return };
    if check_mode(path, &metadata).is_ok() {
        return;
    }
    let mut tables = vec![(String::new(), document.get_ref())];
    while let Some((prefix, table)) = tables.pop() {
        for (key, value) in table.iter() {
            match value.get_ref() {
                DeValue::Table(inner) => tables.push((format!("{prefix}{}.", key.get_ref()), inner)),
                DeValue::String(_) if INLINE_KEYS.contains(&key.get_ref().as_ref()) => {
                    let sentence = format!(
                        "is a secret in a file that others can read; run `chmod 600 {}`",
                        path.display()
                    );
                    report.warning(value.span(), &format!("{prefix}{}", key.get_ref()), sentence);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        assert_eq!(format!("{:?}", password("hunter2").unwrap()), "Secret(hidden)");
    }

    #[test]
    fn signing_secrets_one_or_two() {
        let one = format!("whsec_{}", "a".repeat(32));
        let two = format!("{one}\nwhsec_{}=\n", "B/+9".repeat(20));
        assert!(signing_secrets(&one).unwrap().other.is_none());
        assert!(signing_secrets(&two).unwrap().other.is_some());
        let long = format!("whsec_{}", "a".repeat(87));
        let three = format!("{one}\n{one}\n{one}");
        for wrong in ["", "whsec_", "whsec_short", "secret", &long, &three, &format!("{one}\nx")] {
            assert!(signing_secrets(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_marked_for_another_environment_is_refused() {
        let marked = format!("{}\nabc\n", environment_mark(Environment::Test));
        assert!(check_environment(&marked, Environment::Test).is_ok());
        assert!(check_environment(&marked, Environment::Production).unwrap_err().contains("`test`"));
        assert!(check_environment("abc\n", Environment::Production).is_ok());
    }
}
