//! A made-up object with which a new version shows that it works. It stands in no access list, nobody else knows its key, and
//! it is gone afterwards.

use std::time::Duration;

use super::{Effects, Group, Router};
use crate::net::AllowFrom;
use crate::wire::{AuthKey, Uid};

/// Bytes of a payload that it needs.
const PAYLOAD_MAX: usize = 64;
/// Life of its tokens.
const TOKEN_TTL: Duration = Duration::from_secs(60);

/// The object.
#[derive(Debug)]
pub struct Probe {
    /// What it is called.
    pub uid: Uid,
    /// Its secret.
    pub key: AuthKey,
    /// Its rights.
    pub group: Group,
}

impl Router {
    /// There is such an object from now on, or none any more.
    pub(super) fn set_probe(&mut self, probe: Option<(Uid, AuthKey)>, effects: &mut impl Effects) {
        let group = Group {
            telemetry: true,
            token_ttl: TOKEN_TTL,
            validate: false,
            max_payload: PAYLOAD_MAX,
            rate: 0,
            allow_from: AllowFrom::default(),
        };
        let probe = probe.map(|(uid, key)| Box::new(Probe { uid, key, group }));
        if let Some(old) = std::mem::replace(&mut self.probe, probe) {
            self.revoke(old.uid, effects);
        }
    }
}
