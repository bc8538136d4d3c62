//! The configuration: one strict TOML file, read into checked values.
//!
//! [`Config::load`] reports every mistake of the file at once, each with its line, column and key.
//! What it returns needs no further checks: paths are absolute, secrets are read, names exist.
//! `report` collects mistakes, `reader` walks the document, `units` checks single values, `secrets`
//! reads secret files; each other file holds a few of the sections, types on top.
//! `config/iotsocketd.toml` shows every key; a test holds it against this module.

mod central;
pub mod changes;
mod groups;
mod ingest;
mod listeners;
mod operations;
mod partners;
mod reader;
mod redacted;
mod report;
mod secrets;
mod stated;
mod storage;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

pub use central::{Central, Webhooks};
pub use groups::{Group, Validation};
pub use ingest::Ingest;
pub use listeners::{Api, ApiKey, ApiTls, Maintenance, Right, SessionTls, Sessions, Telemetry, TlsFiles};
pub use operations::{AlertWebhook, Alerts, ImageAddress, ImageNetwork, Time, TimeTrust, Upgrade};
pub use partners::{MessageKind, Order, Subscriber};
pub use redacted::redacted;
pub use report::{Files, Mistake, nearest};
pub use secrets::{Secret, SigningSecrets, check_environment, check_mode, environment_mark};
pub use stated::Stated;
pub use storage::{Access, Backup, CallRecords, CopyTo, Journal, OnExpiry, OnFull};
pub use units::{Rate, TimeOfDay, Url, parse_duration};

use crate::hub::file_stamp::stamp;
use crate::wire::GroupName;
use reader::Table;
use report::{Found, Report};
use units::one_of;

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/iotsocketd/iotsocketd.toml";
/// The state folder, if the configuration names none.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/iotsocketd";

/// The whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What this installation is for; marked on state, backups and keys, and compared.
    pub environment: Environment,
    /// Folder of everything that changes; made if missing.
    pub state_dir: PathBuf,
    /// Certificate and key of both listeners.
    pub tls: TlsFiles,
    /// TCP: objects and central.
    pub sessions: Sessions,
    /// UDP.
    pub telemetry: Telemetry,
    /// HTTPS, with its keys.
    pub api: Api,
    /// The back-end: its key and its webhooks.
    pub central: Central,
    /// The local socket of the commands.
    pub maintenance: Maintenance,
    /// Rights of objects, by group.
    pub groups: BTreeMap<GroupName, Group>,
    /// Partner networks that post messages, by name in the path.
    pub ingest: BTreeMap<String, Ingest>,
    /// Systems that are handed messages, by name.
    pub subscribers: BTreeMap<String, Subscriber>,
    /// The access list.
    pub access: Access,
    /// What is kept of messages and calls, and how long.
    pub journal: Journal,
    /// Who is told when something is wrong.
    pub alerts: Alerts,
    /// Copies of the state.
    pub backup: Backup,
    /// Signed new versions.
    pub upgrade: Upgrade,
    /// Wall time.
    pub time: Time,
    /// Network of the image; `iotsocketd` itself does not touch it.
    pub network: ImageNetwork,
    /// Which keys stand in the file.
    pub stated: Stated,
}

/// What an installation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Real objects.
    Production,
    /// The rehearsal of production.
    Staging,
    /// Anything else.
    Test,
}

/// Folders that systemd gives a service.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Gone when the service stops.
    pub runtime: Option<PathBuf>,
    /// Secrets, one file each (`LoadCredential=`).
    pub credentials: Option<PathBuf>,
}

impl Given {
    /// What this process was given.
    pub fn to_this_process() -> Self {
        // A list when the unit names several folders; ours names one.
        let runtime = std::env::var_os("RUNTIME_DIRECTORY");
        let runtime = runtime.and_then(|list| std::env::split_paths(&list).next());
        Self { runtime, credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from) }
    }
}

/// Folders that relative paths start at, and what secrets in them are for.
struct Folders {
    config: PathBuf,
    state: PathBuf,
    given: Given,
    environment: Environment,
}

impl Folders {
    /// Where a secret is: among the service's credentials if there is one of that name, else where the path says.
    fn secret(&self, path: impl AsRef<Path>) -> PathBuf {
        let credential = self.given.credentials.as_ref().zip(path.as_ref().file_name());
        let credential = credential.map(|(folder, name)| folder.join(name)).filter(|path| path.is_file());
        credential.unwrap_or_else(|| self.config.join(path))
    }
}

impl Environment {
    const WORDS: [(&'static str, Self); 3] =
        [("production", Self::Production), ("staging", Self::Staging), ("test", Self::Test)];

    /// The word of the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Staging => "staging",
            Self::Test => "test",
        }
    }

    /// The environment of a word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(word, _)| *word == name).map(|(_, environment)| *environment)
    }
}

/// What stands in a configuration file, right or wrong.
#[derive(Debug)]
pub struct Examined {
    /// The configuration, with defaults in the place of what is wrong; `None` if there is too little of it.
    pub config: Option<Config>,
    /// What the installation is for; `None` if the file does not say it in a way that can be understood.
    pub environment: Option<Environment>,
    /// What is wrong.
    pub mistakes: Vec<Mistake>,
    /// What is doubtful.
    pub warnings: Vec<Mistake>,
    /// The file and those of secrets, aliases and certificates that it names, each as it was right before it was read: when
    /// one of them is another, all is to be read again.
    pub files: Files,
}

impl Examined {
    fn unreadable(path: &Path, sentence: String) -> Self {
        let mistake = Mistake { file: path.to_path_buf(), place: None, key: String::new(), sentence };
        let (mistakes, warnings, files) = (vec![mistake], Vec::new(), Files::new());
        Self { config: None, environment: None, mistakes, warnings, files }
    }

    /// The configuration and warnings, or every mistake.
    pub fn into_config(self) -> Result<(Config, Vec<Mistake>), Vec<Mistake>> {
        let Self { config, mistakes, warnings, .. } = self;
        config.filter(|_| mistakes.is_empty()).map(|config| (config, warnings)).ok_or(mistakes)
    }
}

impl Config {
    /// Reads a configuration file and the files of secrets and aliases that it names.
    ///
    /// Gives the configuration and warnings, or every mistake.
    pub fn load(path: &Path) -> Result<(Self, Vec<Mistake>), Vec<Mistake>> {
        Self::examine(path).into_config()
    }

    /// Reads a configuration file and the files of secrets and aliases that it names, and keeps what could be read beside what is wrong.
    pub fn examine(path: &Path) -> Examined {
        let seen = stamp(path);
        let mut examined = match std::fs::read(path) {
            Ok(text) => Self::parse(path, text, Given::to_this_process()),
            Err(error) => Examined::unreadable(path, format!("cannot be read: {error}")),
        };
        examined.files.insert(path.to_path_buf(), seen);
        examined
    }

    /// As [`Config::examine`], with the file's text and the service's folders as arguments.
    pub fn parse(path: &Path, text: Vec<u8>, given: Given) -> Examined {
        let Ok(text) = String::from_utf8(text) else {
            return Examined::unreadable(path, "is not UTF-8".to_owned());
        };
        let absolute = match std::path::absolute(path) {
            Ok(absolute) => absolute,
            Err(error) => return Examined::unreadable(path, error.to_string()),
        };
        let report = Report::new(path, &text);

        let (document, errors) = DeTable::parse_recoverable(&text);
        let (config, environment) = if errors.is_empty() {
            let mut root = Table::root(&document, &report);
            let environment = read_environment(&mut root);
            let stated = Stated::of(document.get_ref());
            let config =
                read(root, environment, absolute.parent(), given).map(|config| Config { stated, ..config });
            secrets::warn_if_exposed(&document, path, &report);
            (config, Some(environment))
        } else {
            // What the parser guessed behind a syntax error would only give mistakes that are none.
            for error in errors {
                report.mistake(error.span().unwrap_or(0..0), "", format!("is not TOML: {}", error.message()));
            }
            (None, None)
        };
        let Found { mistakes, warnings, files } = report.finish();
        let environment = environment.filter(|_| mistakes.iter().all(|mistake| mistake.key != "environment"));
        Examined { config, environment, mistakes, warnings, files }
    }
}

/// Where a concentrator has what commands need of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Its state folder.
    pub state_dir: PathBuf,
    /// The socket of the commands.
    pub socket: PathBuf,
    /// Where its backups are.
    pub backups: PathBuf,
}

impl Places {
    /// Of a configuration file of which nothing else is looked at, right or wrong, and no secret is read. The sentence says
    /// why they cannot be known.
    pub fn read(path: &Path) -> Result<Self, String> {
        let failed = |error: &dyn fmt::Display| format!("{}: cannot be read: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        let absolute = std::path::absolute(path).map_err(|error| failed(&error))?;
        let report = Report::new(path, &text);
        let (document, _errors) = DeTable::parse_recoverable(&text);
        let mut root = Table::root(&document, &report);
        let folders =
            read_folders(&mut root, Environment::Production, absolute.parent(), Given::to_this_process());
        let socket = listeners::read_maintenance(root.table("maintenance"), &folders).socket;
        let backups = storage::read_backup(root.table("backup"), &folders).dir;
        let needed = ["state_dir", "maintenance.socket", "backup.dir"];
        let mistakes = report.finish().mistakes;
        match mistakes.iter().find(|mistake| needed.contains(&mistake.key.as_str())) {
            Some(mistake) => Err(mistake.to_string()),
            None => Ok(Self { state_dir: folders.state, socket, backups }),
        }
    }
}

fn read_folders(
    root: &mut Table<'_>,
    environment: Environment,
    folder: Option<&Path>,
    given: Given,
) -> Folders {
    let state = root.read("state_dir", DEFAULT_STATE_DIR.to_owned(), units::name);
    let config = folder.unwrap_or(Path::new("/")).to_path_buf();
    Folders { state: config.join(state), config, given, environment }
}

fn read_environment(root: &mut Table<'_>) -> Environment {
    root.read("environment", Environment::Production, one_of(&Environment::WORDS))
}

/// Reads every section. `None` only where something without a default is missing, which is reported.
fn read(
    mut root: Table<'_>,
    environment: Environment,
    folder: Option<&Path>,
    given: Given,
) -> Option<Config> {
    let folders = read_folders(&mut root, environment, folder, given);

    let tls = listeners::read_tls(root.table("tls"), &folders);
    let sessions = listeners::read_sessions(root.table("sessions"));
    let telemetry = listeners::read_telemetry(root.table("telemetry"));
    let maintenance = listeners::read_maintenance(root.table("maintenance"), &folders);
    let central = central::read(root.table("central"), &folders);
    let groups = groups::read(root.named_tables("groups"));
    let api = listeners::read_api(root.table("api"), &groups);
    let ingest = ingest::read(root.named_tables("ingest"), &groups, &folders);
    let subscribers = partners::read_subscribers(root.named_tables("subscribers"), &groups, &folders);
    let access = storage::read_access(root.table("access"), &folders);
    let journal = storage::read_journal(root.table("journal"), &folders);
    let alerts = operations::read_alerts(root.table("alerts"), &folders);
    let backup = storage::read_backup(root.table("backup"), &folders);
    let upgrade = operations::read_upgrade(root.table("upgrade"), &folders);
    let time = operations::read_time(root.table("time"));
    let network = operations::read_network(root.table("network"));
    root.finish();
    Some(Config {
        environment,
        state_dir: folders.state,
        tls,
        sessions,
        telemetry,
        api,
        central: central?,
        maintenance,
        groups,
        ingest,
        subscribers,
        access,
        journal,
        alerts,
        backup,
        upgrade,
        time,
        network,
        stated: Stated::default(),
    })
}

#[cfg(test)]
mod tests;
