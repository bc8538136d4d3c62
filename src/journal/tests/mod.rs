//! The journal as a whole, over a medium in memory.

mod archive;
mod audit;
mod backup;
mod failures;
mod memory;
mod reading;
mod recovery;
mod retention;
mod rig;
mod thinning;
mod tracing;

use super::record::{Kind, Message, State, Via};
use crate::wire::{Format, GroupName, Uid};
pub use memory::Memory;
pub use rig::{Rig, stamp};

/// Telemetry to be delivered.
pub fn message<'a>(uid: &str, group: &str, payload: &'a [u8]) -> Message<'a> {
    Message {
        uid: Uid::parse(uid).unwrap(),
        group: GroupName::parse(group).unwrap(),
        kind: Kind::Telemetry,
        via: Via::Udp,
        format: Format::Binary,
        state: State::Waiting,
        source: None,
        network: None,
        payload: payload.into(),
    }
}
