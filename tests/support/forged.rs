//! What is written into the journal of a stopped concentrator, as nobody who uses it could.

use std::time::{SystemTime, UNIX_EPOCH};

use iotsocketd::journal::front::{Bounds, Front};
use iotsocketd::journal::record::{Kind, Message, Record, State, Via};
use iotsocketd::journal::stamp::{Clock, Stamp};
use iotsocketd::journal::writer::{Settings, Writer};
use iotsocketd::service::disk::Disk;
use iotsocketd::wire::{Format, GroupName, Uid};

use super::Site;

/// Appended before they are committed.
const TOGETHER: u64 = 1_000;

fn open(site: &Site, now: Stamp) -> Writer<Disk> {
    let settings = Settings {
        segment_len: 8 << 20,
        fresh_id: [1; 16],
        seed: 7,
        boot_id: [2; 16],
        environment: *b"test\0\0\0\0\0\0\0\0\0\0\0\0",
        now,
        restored: false,
    };
    Writer::open(Disk::new(&site.path("state/journal")), &settings).unwrap().0
}

/// A record that is no message.
pub fn record(site: &Site, record: &Record<'_>) {
    let now = Stamp { mono_us: 1, wall_us: 1_800_000_000_000_000, clock: Clock::Unsynced };
    open(site, now).note(now, std::slice::from_ref(record)).unwrap();
}

/// So many messages of ten objects that a source brought just now, each with a key of its own.
pub fn brought(site: &Site, source: &str, count: u64) {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let wall_us = i64::try_from(since_1970.as_micros()).unwrap();
    let now = Stamp { mono_us: 1, wall_us, clock: Clock::Synced };
    let mut writer = open(site, now);
    let bounds = Bounds { pending_max: 16 << 20, tail_max: 1 << 20 };
    let mut front = Front::new(writer.start(), bounds);
    for number in 0..count {
        let network = format!("{{\"dedup\":\"forged {number}\"}}");
        let message = Message {
            uid: Uid::parse(&format!("Forged{}", number % 10)).unwrap(),
            group: GroupName::parse("Devices").unwrap(),
            kind: Kind::Telemetry,
            via: Via::Ingest,
            format: Format::Utf8,
            state: State::Waiting,
            source: Some(source.into()),
            network: Some(network.as_bytes().into()),
            payload: b"forged"[..].into(),
        };
        front.append(message, now).unwrap();
        if number % TOGETHER == TOGETHER - 1 || number == count - 1 {
            while let Some(batch) = front.take_batch() {
                let committed = writer.commit(&batch).unwrap();
                front.committed(&batch);
                if committed.turned {
                    writer.upkeep().unwrap();
                }
            }
        }
    }
}
