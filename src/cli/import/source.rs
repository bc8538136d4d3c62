//! The Python concentrator's config.json: what its values are called here.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::Failure;
use crate::cli::template::{Template, quote};
use crate::wire::AuthKey;

/// Keys that tune the other program's insides.
const WITHOUT_COUNTERPART: [&str; 6] = [
    "/PoolThreadsCount",
    "/TCPServer/SlotsSize",
    "/TCPServer/Backlog",
    "/HTTPServer/SlotsSize",
    "/HTTPServer/Backlog",
    "/Central/WebHooks/HTTPBufferSize",
];
/// Whole numbers: where they stand there, their section and key here, and how they are written.
const NUMBERS: [(&str, &str, &str, Unit); 9] = [
    ("/KeepSessionSec", "sessions", "keep_session", Unit::Seconds),
    ("/TCPServer/SlotsCount", "sessions", "max_connections", Unit::None),
    ("/TCPServer/ReqTimeoutSec", "sessions", "request_timeout", Unit::Seconds),
    ("/UDPServer/DatagramMaxSize", "telemetry", "max_datagram", Unit::Bytes),
    ("/HTTPServer/SlotsCount", "api", "max_connections", Unit::None),
    ("/HTTPServer/MaxContentLength", "api", "max_body", Unit::Bytes),
    ("/HTTPServer/MaxSecWaitResponse", "api", "max_wait", Unit::Seconds),
    ("/Central/WebHooks/MaxContentLength", "central.webhooks", "max_body", Unit::Bytes),
    ("/Central/WebHooks/MaxSecWaitResponse", "central.webhooks", "timeout", Unit::Seconds),
];
const LISTENERS: [(&str, &str); 3] =
    [("TCPServer", "sessions"), ("UDPServer", "telemetry"), ("HTTPServer", "api")];
const WEBHOOKS: [(&str, &str); 2] =
    [("/Central/WebHooks/Request", "request"), ("/Central/WebHooks/Telemetry", "telemetry")];

/// How a whole number is written here.
#[derive(Clone, Copy)]
enum Unit {
    None,
    Seconds,
    Bytes,
}

/// A config.json.
pub(super) struct Source {
    file: PathBuf,
    root: Value,
    /// The central's key.
    pub central_key: AuthKey,
    /// The certificate of its TCP server.
    pub certificate: PathBuf,
    /// The private key of its TCP server.
    pub private_key: PathBuf,
    /// What the user should know, one sentence each.
    pub notes: Vec<String>,
}

impl Source {
    /// Reads the file, and what cannot be missing.
    pub(super) fn read(file: &Path) -> Result<Self, Failure> {
        let wrong = |sentence: String| Failure::Failed(format!("{}: {sentence}", file.display()));
        let text = fs::read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let root: Value =
            serde_json::from_slice(&text).map_err(|error| wrong(format!("is not JSON: {error}")))?;
        let text = |pointer: &str| match root.pointer(pointer) {
            Some(Value::String(text)) => Ok(text.as_str()),
            _ => Err(wrong(format!("{} must be a text", dotted(pointer)))),
        };
        let key = AuthKey::parse(text("/Central/AuthKey")?)
            .ok_or_else(|| wrong("Central.AuthKey must be 32 hex digits".to_owned()))?;
        // The other program finds them from where it is started: beside its configuration.
        let beside = |name: &str| file.with_file_name("").join(name);
        let certificate = beside(text("/TCPServer/SSLCrtFilename")?);
        let private_key = beside(text("/TCPServer/SSLKeyFilename")?);
        Ok(Self {
            file: file.to_path_buf(),
            central_key: key,
            certificate,
            private_key,
            notes: Vec::new(),
            root,
        })
    }

    /// Takes every value over that has a counterpart, and notes what has none.
    pub(super) fn fill(&mut self, template: &mut Template) -> Result<(), Failure> {
        for (server, section) in LISTENERS {
            if let Some(address) = self.listen(server)? {
                template.set(section, "listen", &quote(&address.to_string()))?;
            }
        }
        // A webhook's numbers without a webhook would open its table for nothing.
        let has_webhook = WEBHOOKS.iter().any(|(pointer, _)| self.root.pointer(pointer).is_some());
        for (pointer, section, key, unit) in NUMBERS {
            if (has_webhook || section != "central.webhooks")
                && let Some(number) = self.number(pointer)?
            {
                let value = match unit {
                    Unit::None => number.to_string(),
                    Unit::Seconds => quote(&format!("{number}s")),
                    Unit::Bytes => quote(&format!("{number}B")),
                };
                template.set(section, key, &value)?;
            }
        }
        for (pointer, key) in WEBHOOKS {
            match self.root.pointer(pointer) {
                Some(Value::String(url)) => template.set("central.webhooks", key, &quote(url))?,
                None | Some(Value::Null) => {}
                Some(_) => return Err(self.wrong(pointer, "must be a text")),
            }
        }
        let groups = self.groups()?;
        template.set_groups(&groups)?;
        self.note_differences();
        Ok(())
    }

    fn listen(&self, server: &str) -> Result<Option<SocketAddr>, Failure> {
        let (address, port) = (format!("/{server}/Addr"), format!("/{server}/Port"));
        let Some(host) = self.root.pointer(&address) else { return Ok(None) };
        let ip: Option<IpAddr> = match host.as_str() {
            Some("localhost") => Some(IpAddr::from([127, 0, 0, 1])),
            other => other.and_then(|text| text.parse().ok()),
        };
        let ip = ip.ok_or_else(|| self.wrong(&address, "must be an IP address"))?;
        let number = self.number(&port)?.and_then(|number| u16::try_from(number).ok());
        let number = number.ok_or_else(|| self.wrong(&port, "must be a port"))?;
        Ok(Some(SocketAddr::new(ip, number)))
    }

    fn number(&self, pointer: &str) -> Result<Option<u64>, Failure> {
        match self.root.pointer(pointer) {
            None => Ok(None),
            Some(value) => value
                .as_u64()
                .filter(|number| *number > 0)
                .map(Some)
                .ok_or_else(|| self.wrong(pointer, "must be a whole number above zero")),
        }
    }

    /// The groups as tables of ours.
    fn groups(&mut self) -> Result<Vec<String>, Failure> {
        let Some(Value::Object(groups)) = self.root.get("Groups") else {
            return Err(self.wrong("/Groups", "must be an object"));
        };
        let mut tables = Vec::new();
        for (name, options) in groups {
            // There, a group without the option has no telemetry.
            let telemetry = options.get("Telemetry").and_then(Value::as_bool).unwrap_or(false);
            let mut table = format!("[groups.{}]\ntelemetry = {telemetry}", quote(name));
            match options.get("TelemetryTokenExpMin").map(Value::as_u64) {
                Some(Some(minutes)) if minutes > 0 => {
                    table.push_str(&format!("\ntelemetry_token_ttl = \"{minutes}min\""));
                }
                Some(_) => {
                    let pointer = format!("/Groups/{name}/TelemetryTokenExpMin");
                    return Err(self.wrong(&pointer, "must be a whole number above zero"));
                }
                None if telemetry => self.notes.push(format!(
                    "group {name:?} had telemetry tokens that never expire; here they do after 60min"
                )),
                None => {}
            }
            tables.push(table);
        }
        Ok(tables)
    }

    fn note_differences(&mut self) {
        let text = |pointer: &str| self.root.pointer(pointer).and_then(Value::as_str);
        let differs = [("SSLCrtFilename", "certificate"), ("SSLKeyFilename", "key")].map(|(key, what)| {
            let (tcp, http) = (text(&format!("/TCPServer/{key}")), text(&format!("/HTTPServer/{key}")));
            (http.is_some() && http != tcp).then_some(what)
        });
        let differs: Vec<_> = differs.into_iter().flatten().collect();
        let left: Vec<_> =
            WITHOUT_COUNTERPART.into_iter().filter(|pointer| self.root.pointer(pointer).is_some()).collect();
        if !differs.is_empty() {
            let what = differs.join(" and ");
            self.notes
                .push(format!("the HTTP server's own {what} was left out: here both servers share one"));
        }
        if !left.is_empty() {
            let left: Vec<_> = left.into_iter().map(dotted).collect();
            self.notes.push(format!("not needed here and left out: {}", left.join(", ")));
        }
    }

    fn wrong(&self, pointer: &str, sentence: &str) -> Failure {
        Failure::Failed(format!("{}: {} {sentence}", self.file.display(), dotted(pointer)))
    }
}

/// `Central.AuthKey` for `/Central/AuthKey`.
fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}
