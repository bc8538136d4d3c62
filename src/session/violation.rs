//! Every rule of a session that can be broken, each with its close code, its counter and its sentence.

use std::fmt;

use crate::wire::{CloseCode, WireError};

/// A broken rule. The peer must act, unless the sentence says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Violation {
    /// The bytes are no transmission.
    Wire(WireError),
    /// The initiation names a version other than ours.
    WrongVersion(u8),
    /// The client did not ask for TLS where the configuration requires it.
    TlsRequired,
    /// Accept to verdict took too long.
    HandshakeTimeout,
    /// Nothing heard for two ping intervals.
    PeerSilent,
    /// An object named a UID (RTE): it may speak for itself only.
    ObjectSentUid,
    /// An object sent an access list.
    ObjectSentAcl,
    /// An object sent a telemetry token.
    ObjectSentToken,
    /// An object sent identified telemetry.
    ObjectSentTelemetry,
    /// The central sent a request or response without the object's UID.
    CentralWithoutUid,
    /// The central sent a telemetry token.
    CentralSentToken,
    /// The central sent telemetry.
    CentralSentTelemetry,
    /// An access list longer than we take.
    TooManyAclItems(u32),
}

impl Violation {
    /// The code of the close transmission, for a session that is live.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::PeerSilent => CloseCode::ResourcesFreed,
            _ => CloseCode::ProtocolError,
        }
    }

    /// The name under which it is counted.
    pub fn counter(self) -> &'static str {
        match self {
            Self::Wire(WireError::UnknownType(_)) => "unknown_type",
            Self::Wire(WireError::UnknownFormat(_)) => "unknown_format",
            Self::Wire(WireError::UnknownOption(_)) => "unknown_option",
            Self::Wire(WireError::MisplacedRte) => "misplaced_rte",
            Self::Wire(WireError::NotUtf8) => "uid_not_utf8",
            Self::Wire(
                WireError::LengthMismatch | WireError::UnknownVerdict(_) | WireError::UnknownRule(_),
            ) => "malformed",
            Self::WrongVersion(_) => "wrong_version",
            Self::TlsRequired => "tls_required",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::PeerSilent => "peer_silent",
            Self::ObjectSentUid => "object_sent_uid",
            Self::ObjectSentAcl => "object_sent_acl",
            Self::ObjectSentToken => "object_sent_token",
            Self::ObjectSentTelemetry => "object_sent_telemetry",
            Self::CentralWithoutUid => "central_without_uid",
            Self::CentralSentToken => "central_sent_token",
            Self::CentralSentTelemetry => "central_sent_telemetry",
            Self::TooManyAclItems(_) => "too_many_acl_items",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(error) => write!(f, "{error}"),
            Self::WrongVersion(version) => write!(f, "protocol version {version} is not spoken here"),
            Self::TlsRequired => f.write_str("the client must ask for TLS"),
            Self::HandshakeTimeout => f.write_str("the client took too long to prove itself"),
            Self::PeerSilent => f.write_str("nothing heard for two ping intervals"),
            Self::ObjectSentUid => f.write_str("an object must not name a UID"),
            Self::ObjectSentAcl => f.write_str("an object must not send an access list"),
            Self::ObjectSentToken => f.write_str("an object must not send a telemetry token"),
            Self::ObjectSentTelemetry => f.write_str("an object must send telemetry by datagram"),
            Self::CentralWithoutUid => f.write_str("the central must name the object's UID"),
            Self::CentralSentToken => f.write_str("the central must not send a telemetry token"),
            Self::CentralSentTelemetry => f.write_str("the central must not send telemetry"),
            Self::TooManyAclItems(count) => {
                write!(f, "an access list of {count} items is longer than is taken")
            }
        }
    }
}

/// The end of a session by a broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End(pub Violation);

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for End {}
