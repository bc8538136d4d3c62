//! What each layer is told of the configuration.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::config::{
    self, ApiTls, CallRecords, Config, MessageKind, Right, SessionTls, SigningSecrets, Validation,
};
use crate::delivery::subscriber;
use crate::endpoint::http::ingest::Door;
use crate::endpoint::http::{api, auth};
use crate::endpoint::{admission, subscribers, tcp, webhook};
use crate::journal::record::Kind;
use crate::limits::DESCRIPTORS_KEPT;
use crate::sys::raise_open_files;
use crate::{router, session};

/// The router's part.
pub fn router(config: &Config) -> router::Settings {
    let groups = config.groups.iter().map(|(name, group)| {
        let group = router::Group {
            telemetry: group.telemetry,
            token_ttl: group.telemetry_token_ttl,
            validate: group.validate == Validation::Format,
            max_payload: group.max_payload,
            rate: group.rate.map_or(0, NonZeroU32::get),
            allow_from: group.allow_from.clone(),
        };
        (*name, group)
    });
    router::Settings {
        central_key: config.central.auth_key,
        request_timeout: config.sessions.request_timeout,
        keep_session: config.sessions.keep_session,
        webhook_timeout: config.central.webhooks.request.as_ref().map(|_| config.central.webhooks.timeout),
        calls: match config.journal.calls {
            CallRecords::All => router::CallRecords::All,
            CallRecords::Headers => router::CallRecords::Headers,
            CallRecords::Failed => router::CallRecords::Failed,
            CallRecords::None => router::CallRecords::None,
        },
        telemetry_allow_from: config.telemetry.allow_from.clone(),
        groups: groups.collect(),
    }
}

/// The TCP server's part.
pub fn tcp(config: &Config) -> tcp::Settings {
    tcp::Settings {
        session: session::Settings {
            tls_required: config.sessions.tls == SessionTls::Required,
            handshake_timeout: config.sessions.handshake_timeout,
            ping_interval: config.sessions.ping_interval,
        },
        allow_from: config.sessions.allow_from.clone(),
    }
}

/// Bounds of the TCP server.
pub fn session_limits(config: &Config) -> admission::Limits {
    admission::Limits {
        max_connections: connections(config, open_files()).sessions,
        max_unauthenticated: config.sessions.max_unauthenticated,
        max_unauthenticated_per_source: config.sessions.max_unauthenticated_per_source,
    }
}

/// Connections that each server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Sessions and who is about to log in.
    pub sessions: usize,
    /// Of the API.
    pub api: usize,
}

/// As configured, as far as so many descriptors go: there must be some left whoever connects, or the journal could not go on.
/// What there is is shared three to one.
pub fn connections(config: &Config, open_files: u64) -> Connections {
    let room = usize::try_from(open_files.saturating_sub(DESCRIPTORS_KEPT)).unwrap_or(usize::MAX);
    let api = config.api.max_connections.min(room / 4).max(1);
    Connections { sessions: config.sessions.max_connections.min(room.saturating_sub(api)).max(1), api }
}

/// The same if it is less than what is configured, which the operator should know.
pub fn bounded(config: &Config, open_files: u64) -> Option<Connections> {
    let configured =
        Connections { sessions: config.sessions.max_connections, api: config.api.max_connections };
    Some(connections(config, open_files)).filter(|bounded| *bounded != configured)
}

/// How many descriptors this process may have: what systems give that do not say is little.
pub fn open_files() -> u64 {
    raise_open_files().unwrap_or(1024)
}

/// The webhooks' part; the sentence says which file cannot be read.
pub fn webhooks(config: &Config) -> Result<webhook::Settings, String> {
    let webhooks = &config.central.webhooks;
    let url = |url: &Option<config::Url>| url.as_ref().map(|url| url.uri().to_string());
    Ok(webhook::Settings {
        request: url(&webhooks.request),
        telemetry: url(&webhooks.telemetry),
        result: url(&webhooks.result),
        timeout: webhooks.timeout,
        max_body: webhooks.max_body,
        ca_pem: webhooks.ca_file.as_ref().map(read).transpose()?,
        auth_key: config.central.auth_key,
    })
}

/// Who sends alerts; the sentence says what cannot be read.
pub fn alert_webhook(config: &Config) -> Result<Option<webhook::SignedClient>, String> {
    let of = |sentence: String| format!("alerts: {sentence}");
    let client = |webhook: &config::AlertWebhook| {
        let signed = webhook::Signed {
            uri: webhook.url.uri().clone(),
            secrets: secrets(&webhook.secrets)?,
            timeout: ALERT_TIMEOUT,
            ca_pem: webhook.ca_file.as_ref().map(read).transpose()?,
            allow_to: webhook.allow_to.clone(),
        };
        webhook::SignedClient::new(&signed).map_err(|error| error.to_string())
    };
    config.alerts.webhook.as_ref().map(client).transpose().map_err(of)
}

/// The subscribers; the sentence says what cannot be read.
pub fn subscribers(config: &Config) -> Result<BTreeMap<String, subscribers::Settings>, String> {
    let settings = |(name, subscriber): (&String, &config::Subscriber)| {
        let of = |sentence| format!("subscribers.{name}: {sentence}");
        let settings = subscribers::Settings {
            signed: webhook::Signed {
                uri: subscriber.url.uri().clone(),
                secrets: secrets(&subscriber.secrets).map_err(of)?,
                timeout: subscriber.timeout,
                ca_pem: subscriber.ca_file.as_ref().map(read).transpose().map_err(of)?,
                allow_to: subscriber.allow_to.clone(),
            },
            schedule: schedule(subscriber),
        };
        Ok((name.clone(), settings))
    };
    config.subscribers.iter().map(settings).collect()
}

fn schedule(subscriber: &config::Subscriber) -> subscriber::Settings {
    let kinds = subscriber.kinds.iter().map(|kind| match kind {
        MessageKind::Telemetry => Kind::Telemetry,
        MessageKind::Request => Kind::Request,
        MessageKind::Command => Kind::Command,
        MessageKind::Access => Kind::Access,
        MessageKind::Audit => Kind::Audit,
        MessageKind::Event => Kind::Event,
    });
    subscriber::Settings {
        filter: subscriber::Filter { groups: subscriber.groups.clone(), kinds: kinds.collect() },
        order: match subscriber.order {
            config::Order::Strict => subscriber::Order::Strict,
            config::Order::LiveFirst => subscriber::Order::LiveFirst,
        },
        batch_max: subscriber.batch_max,
        batch_wait: subscriber.batch_wait,
        max_rate: subscriber.max_rate,
        give_up: subscriber.give_up,
    }
}

/// What signs webhooks.
pub fn secrets(secrets: &SigningSecrets) -> Result<webhook::Secrets, String> {
    let texts = std::iter::once(&secrets.current).chain(&secrets.other).map(|secret| secret.expose());
    webhook::Secrets::parse(texts).ok_or_else(|| "a secret is not `whsec_` and base64".to_owned())
}

fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}

/// How long an attempt to send an alert may take.
const ALERT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an API client may take nothing of its answer.
const API_WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The API's part.
pub fn api(config: &Config) -> api::Settings {
    let keys = config.api.keys.iter().map(|key| auth::ApiKey {
        name: key.name.clone(),
        sha256: key.sha256,
        rights: key.rights.iter().map(right).collect(),
        groups: key.groups.iter().copied().collect(),
        allow_from: key.allow_from.clone(),
    });
    let doors = config.ingest.iter().map(|(name, ingest)| {
        let basic = ingest.basic.as_ref().map(|(user, password)| (user.as_str(), password.expose()));
        (name.clone(), Arc::new(Door::new(ingest.source.clone(), basic)))
    });
    api::Settings {
        ingest: doors.collect(),
        tls: config.api.tls == ApiTls::Required,
        allow_from: config.api.allow_from.clone(),
        keys: auth::Keys::new(config.environment.name(), &config.central.auth_key, keys),
        max_body: config.api.max_body,
        max_acl: config.api.max_acl,
        max_wait: config.api.max_wait,
        header_timeout: config.api.header_timeout,
        body_timeout: config.api.body_timeout,
        write_timeout: API_WRITE_TIMEOUT,
    }
}

fn right(right: &Right) -> auth::Right {
    match right {
        Right::Read => auth::Right::Read,
        Right::Request => auth::Right::Request,
        Right::Ingest => auth::Right::Ingest,
        Right::Admin => auth::Right::Admin,
    }
}

/// Bounds of the API.
pub fn api_limits(config: &Config) -> admission::Limits {
    admission::Limits {
        max_connections: connections(config, open_files()).api,
        // Every place may be taken by somebody who has shown no key yet: there are few places, and they make room.
        max_unauthenticated: config.api.max_connections,
        max_unauthenticated_per_source: config.api.max_unauthenticated_per_source,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::config::Given;
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_everything_else() {
        let text = "environment = 'test'\n[central]\nauth_key = '8f3c1d5e7a9b0c2d4e6f8091a2b3c4d5'\n";
        let examined = Config::parse(Path::new("/nonexistent/a.toml"), text.into(), Given::default());
        let config = examined.config.unwrap_or_else(|| panic!("{:?}", examined.mistakes));
        let configured = Connections { sessions: 5000, api: 256 };
        let needed = 5000 + 256 + DESCRIPTORS_KEPT;
        for (open_files, expected) in [
            (u64::MAX, configured),
            (needed, configured),
            (needed - 1, Connections { sessions: 4999, ..configured }),
            (DESCRIPTORS_KEPT + 64, Connections { sessions: 48, api: 16 }),
            (DESCRIPTORS_KEPT, Connections { sessions: 1, api: 1 }),
            (0, Connections { sessions: 1, api: 1 }),
        ] {
            assert_eq!(connections(&config, open_files), expected, "{open_files}");
            let less = (expected != configured).then_some(expected);
            assert_eq!(bounded(&config, open_files), less, "{open_files}");
        }
    }
}
