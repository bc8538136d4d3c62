//! What each layer is told of the configuration.

use std::num::NonZeroU32;

use super::config::{Config, OnFull, SessionTls, Validation};
use crate::endpoint::{admission, tcp, webhook};
use crate::{journal, router, session};

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
        telemetry_allow_from: config.telemetry.allow_from.clone(),
        groups: groups.collect(),
    }
}

/// What happens to messages when there is no room.
pub fn on_full(config: &Config) -> journal::OnFull {
    match config.journal.on_full {
        OnFull::DropOldest => journal::OnFull::DropOldest,
        OnFull::RefuseNew => journal::OnFull::RefuseNew,
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
        max_connections: config.sessions.max_connections,
        max_unauthenticated: config.sessions.max_unauthenticated,
        max_unauthenticated_per_source: config.sessions.max_unauthenticated_per_source,
    }
}

/// The webhooks' part; the sentence says which file cannot be read.
pub fn webhooks(config: &Config) -> Result<webhook::Settings, String> {
    let webhooks = &config.central.webhooks;
    let url = |url: &Option<super::config::Url>| url.as_ref().map(|url| url.uri().to_string());
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
    };
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
