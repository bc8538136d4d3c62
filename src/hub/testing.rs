//! A hub for unit tests, on a journal that takes nothing: nobody would commit it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::keeping::Log;
use super::subscribers::Wanted;
use super::{Hub, Keeper, Keeping, Urgency};
use crate::journal::Seq;
use crate::journal::front::{Bounds, Front, Takes, Ticket};
use crate::journal::record::Record;
use crate::journal::stamp::{Clock, JournalId, Stamp};
use crate::journal::state::Small;
use crate::journal::writer::Start;
use crate::net::AllowFrom;
use crate::router::access::AccessList;
use crate::router::{CallRecords, Settings};
use crate::wire::{AuthKey, KEY_LEN, Uid};

struct Nobody;

impl Keeper for Nobody {
    fn ring(&self, _: Urgency) {}

    fn read(&self, _: Seq, _: Seq) {}

    fn read_for(&self, _: &str, _: Wanted) {}

    fn read_command(&self, _: Uid, _: Seq) {}

    fn stamp(&self) -> Stamp {
        Stamp { mono_us: 0, wall_us: 0, clock: Clock::Synced }
    }
}

/// Where a new journal appends.
pub fn front() -> Front {
    let start = Start { journal: JournalId([1; 16]), next_seq: 1, boot: 1, floor_us: 0, batch_max: 1 << 20 };
    Front::new(start, Bounds { pending_max: 1 << 20, tail_max: 1 << 20 })
}

/// Appends a record without a number.
pub fn note(front: &mut Front, id: u64) -> Ticket {
    front.note(&Record::Settled { id }, Nobody.stamp()).unwrap()
}

/// The hub's side of a journal.
pub(super) fn log() -> Log {
    Log::new(keeping(&Small::default()))
}

fn keeping(small: &Small) -> Keeping<'_> {
    Keeping { front: front(), small, keeper: Arc::new(Nobody), durable_only: false }
}

/// Settings without a group.
pub fn settings() -> Settings {
    Settings {
        central_key: AuthKey([1; KEY_LEN]),
        request_timeout: Duration::from_secs(60),
        keep_session: Duration::from_secs(60),
        webhook_timeout: None,
        calls: CallRecords::None,
        telemetry_allow_from: AllowFrom::default(),
        groups: HashMap::new(),
    }
}

/// The same on a journal that takes everything, which nobody commits.
pub fn hub_that_records(settings: Settings, access: AccessList) -> Arc<Hub> {
    let small = Small::default();
    Hub::new(settings, access, keeping(&small), false, false)
}

/// A hub with nobody connected and no webhooks.
pub fn hub(settings: Settings, access: AccessList) -> Arc<Hub> {
    let small = Small::default();
    let mut keeping = keeping(&small);
    keeping.front.set_takes(Takes::Nothing);
    Hub::new(settings, access, keeping, false, false)
}
