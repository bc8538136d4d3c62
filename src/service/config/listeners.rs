//! What listens: `[tls]`, `[sessions]`, `[telemetry]`, `[api]` with its keys, `[maintenance]`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::Folders;
use super::groups::{Group, known_groups};
use super::reader::{Table, list};
use super::units::{MIB, count, duration, duration_or_zero, listen, memory, name, network, one_of, sha256};
use crate::net::AllowFrom;
use crate::wire::GroupName;

/// More connections than any gateway has descriptors for.
const CONNECTIONS_MAX: usize = 1_000_000;
/// Largest body that is held in memory.
const BODY_MAX: u64 = 64 * MIB;
/// A token and the head of an empty payload block: nothing shorter is a datagram of the protocol.
const DATAGRAM_MIN: u64 = 11;
/// Largest payload of UDP over IPv4.
const DATAGRAM_MAX: u64 = 65_507;

/// Certificate and key of both listeners, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub private_key: PathBuf,
}

/// TCP: objects and central.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sessions {
    /// Address and port.
    pub listen: SocketAddr,
    /// Whether a client may do without TLS.
    pub tls: SessionTls,
    /// Connections in all; above: OK = 0 and close.
    pub max_connections: usize,
    /// Connections that did not log in yet, in all.
    pub max_unauthenticated: usize,
    /// The same, from one source address.
    pub max_unauthenticated_per_source: usize,
    /// From accept to verdict.
    pub handshake_timeout: Duration,
    /// How long an answer is awaited.
    pub request_timeout: Duration,
    /// How long a session outlives its connection; zero: not at all.
    pub keep_session: Duration,
    /// A peer that is silent for two of these is gone.
    pub ping_interval: Duration,
    /// Who may connect.
    pub allow_from: AllowFrom,
}

/// Whether sessions use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionTls {
    /// A client that does not want TLS is refused.
    Required,
    /// The client chooses.
    Optional,
}

/// UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Address and port.
    pub listen: SocketAddr,
    /// Bytes of the largest datagram, token included.
    pub max_datagram: usize,
    /// Who may send.
    pub allow_from: AllowFrom,
}

/// HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Address and port.
    pub listen: SocketAddr,
    /// HTTPS or plain HTTP.
    pub tls: ApiTls,
    /// Connections in all.
    pub max_connections: usize,
    /// Connections from one source address that showed no key yet.
    pub max_unauthenticated_per_source: usize,
    /// Bytes of the largest body, except that of `/acl`.
    pub max_body: usize,
    /// Bytes of the largest body of `/acl`.
    pub max_acl: usize,
    /// Longest time that a call is held.
    pub max_wait: Duration,
    /// From accept, or the end of the last answer, to the end of the header.
    pub header_timeout: Duration,
    /// From the header to the end of the body.
    pub body_timeout: Duration,
    /// Who may connect.
    pub allow_from: AllowFrom,
    /// Keys besides the central's, which has every right.
    pub keys: Vec<ApiKey>,
}

/// Whether the API uses TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiTls {
    /// HTTPS only.
    Required,
    /// HTTP only.
    Off,
}

/// One key of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// What logs call it; no other key has the same.
    pub name: String,
    /// SHA-256 of the bearer token's text in lower case.
    pub sha256: [u8; 32],
    /// What it may do; none implies another.
    pub rights: BTreeSet<Right>,
    /// The groups it sees; empty: all.
    pub groups: BTreeSet<GroupName>,
    /// Where it may be used from.
    pub allow_from: AllowFrom,
}

/// What an API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Look.
    Read,
    /// Call objects.
    Request,
    /// Post messages of partner networks.
    Ingest,
    /// Replace the access list, and operations.
    Admin,
}

/// The local socket of the commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// The Unix socket.
    pub socket: PathBuf,
}

pub(super) fn read_tls(mut table: Table<'_>, folders: &Folders) -> TlsFiles {
    let mut file = |key, default: &str| table.read(key, default.to_owned(), name);
    let files = TlsFiles {
        certificate: folders.config.join(file("certificate", "tls/server.crt")),
        private_key: folders.secret(file("private_key", "tls/server.key")),
    };
    table.finish();
    files
}

pub(super) fn read_sessions(mut table: Table<'_>) -> Sessions {
    let tls = [("required", SessionTls::Required), ("optional", SessionTls::Optional)];
    let sessions = Sessions {
        listen: table.read("listen", everywhere(50505), listen),
        tls: table.read("tls", SessionTls::Required, one_of(&tls)),
        max_connections: table.read("max_connections", 5000, count(1, CONNECTIONS_MAX)),
        max_unauthenticated: table.read("max_unauthenticated", 1024, count(1, CONNECTIONS_MAX)),
        max_unauthenticated_per_source: table.read(
            "max_unauthenticated_per_source",
            256,
            count(1, CONNECTIONS_MAX),
        ),
        handshake_timeout: table.read("handshake_timeout", seconds(10), duration),
        request_timeout: table.read("request_timeout", seconds(10), duration),
        keep_session: table.read("keep_session", seconds(60), duration_or_zero),
        ping_interval: table.read("ping_interval", seconds(60), duration),
        allow_from: read_allow_from(&mut table),
    };
    if sessions.tls == SessionTls::Optional && !sessions.listen.ip().is_loopback() {
        table.warning("tls", "lets clients on the network do without TLS: payloads travel in the clear");
    }
    table.finish();
    sessions
}

pub(super) fn read_telemetry(mut table: Table<'_>) -> Telemetry {
    let telemetry = Telemetry {
        listen: table.read("listen", everywhere(50505), listen),
        max_datagram: table.read("max_datagram", 4096, memory(DATAGRAM_MIN..=DATAGRAM_MAX)),
        allow_from: read_allow_from(&mut table),
    };
    table.finish();
    telemetry
}

pub(super) fn read_api(mut table: Table<'_>, groups: &BTreeMap<GroupName, Group>) -> Api {
    let tls = [("required", ApiTls::Required), ("off", ApiTls::Off)];
    let api = Api {
        listen: table.read("listen", everywhere(443), listen),
        tls: table.read("tls", ApiTls::Required, one_of(&tls)),
        max_connections: table.read("max_connections", 256, count(1, CONNECTIONS_MAX)),
        max_unauthenticated_per_source: table.read(
            "max_unauthenticated_per_source",
            256,
            count(1, CONNECTIONS_MAX),
        ),
        max_body: table.read("max_body", 512 * 1024, memory(1..=BODY_MAX)),
        max_acl: table.read("max_acl", 4 * 1024 * 1024, memory(1..=BODY_MAX)),
        max_wait: table.read("max_wait", seconds(30), duration),
        header_timeout: table.read("header_timeout", seconds(10), duration),
        body_timeout: table.read("body_timeout", seconds(20), duration),
        allow_from: read_allow_from(&mut table),
        keys: read_keys(table.tables("key"), groups),
    };
    if api.tls == ApiTls::Off && !api.listen.ip().is_loopback() {
        table.warning("tls", "sends keys and payloads over the network in the clear");
    }
    table.finish();
    api
}

fn read_keys(tables: Vec<Table<'_>>, groups: &BTreeMap<GroupName, Group>) -> Vec<ApiKey> {
    let rights = [
        ("read", Right::Read),
        ("request", Right::Request),
        ("ingest", Right::Ingest),
        ("admin", Right::Admin),
    ];
    let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
    let mut keys = Vec::new();
    for mut table in tables {
        let name = table.required("name", name);
        let sha256 = table.required("sha256", sha256);
        let has_rights = table.has("rights");
        let rights: BTreeSet<Right> =
            list(&mut table, "rights", one_of(&rights)).unwrap_or_default().into_iter().collect();
        let groups = known_groups(&mut table, groups);
        let allow_from = read_allow_from(&mut table);
        if !has_rights {
            table.mistake("rights", "is missing: a key without rights is good for nothing");
        } else if rights.is_empty() {
            table.mistake("rights", "must name one right at least");
        }
        if name.as_ref().is_some_and(|name| !names.insert(name.clone())) {
            table.mistake("name", "is the name of another key already");
        }
        if sha256.is_some_and(|sha256| !hashes.insert(sha256)) {
            table.mistake("sha256", "is the same key as another one");
        }
        table.finish();
        if let (Some(name), Some(sha256)) = (name, sha256) {
            keys.push(ApiKey { name, sha256, rights, groups, allow_from });
        }
    }
    keys
}

pub(super) fn read_maintenance(mut table: Table<'_>, folders: &Folders) -> Maintenance {
    let folder = folders.given.runtime.as_ref().unwrap_or(&folders.state);
    let socket = folder.join(table.read("socket", "maintenance.sock".to_owned(), name));
    table.finish();
    Maintenance { socket }
}

/// `allow_from` of any table.
pub(super) fn read_allow_from(table: &mut Table<'_>) -> AllowFrom {
    AllowFrom(list(table, "allow_from", network).unwrap_or_default())
}

fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
