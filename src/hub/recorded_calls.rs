//! Calls that wait, as their bytes in the journal.
//!
//! Variants, and fields of their structs, are added at the end only: what an older version wrote stays readable. A
//! record that a newer one wrote may not be.

use serde::{Deserialize, Serialize};

use super::recording::Clocks;
use crate::router::{About, PendingCall, Serial, Waits, Way};
use crate::wire::{Format, NAME_LEN, Uid};

/// A [`PendingCall`] by the wall clock.
#[derive(Serialize, Deserialize)]
enum Stored {
    ToObject {
        object: Name,
        number: u16,
        central_number: u16,
        about: StoredAbout,
        waits: Option<StoredWaits>,
    },
    ToCentral {
        object: Name,
        number: u16,
        way: StoredWay,
        about: StoredAbout,
        waits: Option<StoredWaits>,
    },
    Answer {
        to: Name,
        waits: StoredWaits,
    },
}

type Name = [u8; NAME_LEN];

#[derive(Serialize, Deserialize)]
enum StoredWay {
    Session,
    Webhook,
}

#[derive(Serialize, Deserialize)]
struct StoredAbout {
    started_us: i64,
    deadline_us: i64,
    /// As on the wire.
    format: u8,
}

#[derive(Serialize, Deserialize)]
struct StoredWaits {
    position: Serial,
    bytes: Box<[u8]>,
}

/// The bytes of a call.
pub fn encode(call: PendingCall, clocks: Clocks) -> Vec<u8> {
    let about = |about: About| StoredAbout {
        started_us: clocks.to_wall(about.started),
        deadline_us: clocks.to_wall(about.deadline),
        format: about.format.nibble(),
    };
    let waits = |Waits { position, bytes }| StoredWaits { position, bytes };
    let stored = match call {
        PendingCall::ToObject { object, number, central_number, about: known, waits: queued } => {
            Stored::ToObject {
                object: object.to_wire(),
                number,
                central_number,
                about: about(known),
                waits: queued.map(waits),
            }
        }
        PendingCall::ToCentral { object, number, way, about: known, waits: queued } => Stored::ToCentral {
            object: object.to_wire(),
            number,
            way: match way {
                Way::Session => StoredWay::Session,
                Way::Webhook => StoredWay::Webhook,
            },
            about: about(known),
            waits: queued.map(waits),
        },
        PendingCall::Answer { to, waits: queued } => {
            Stored::Answer { to: to.to_wire(), waits: waits(queued) }
        }
    };
    // Only running out of memory could fail here; what is empty is not believed.
    postcard::to_stdvec(&stored).unwrap_or_default()
}

/// The call of these bytes; `None` if they are of another version.
pub fn decode(bytes: &[u8], clocks: Clocks) -> Option<PendingCall> {
    let about = |about: StoredAbout| {
        Some(About {
            started: clocks.to_instant(about.started_us),
            deadline: clocks.to_instant(about.deadline_us),
            format: Format::from_nibble(about.format).ok()?,
        })
    };
    let waits = |StoredWaits { position, bytes }| Waits { position, bytes };
    Some(match postcard::from_bytes(bytes).ok()? {
        Stored::ToObject { object, number, central_number, about: known, waits: queued } => {
            PendingCall::ToObject {
                object: Uid::from_wire(object).ok()?,
                number,
                central_number,
                about: about(known)?,
                waits: queued.map(waits),
            }
        }
        Stored::ToCentral { object, number, way, about: known, waits: queued } => PendingCall::ToCentral {
            object: Uid::from_wire(object).ok()?,
            number,
            way: match way {
                StoredWay::Session => Way::Session,
                StoredWay::Webhook => Way::Webhook,
            },
            about: about(known)?,
            waits: queued.map(waits),
        },
        Stored::Answer { to, waits: queued } => {
            PendingCall::Answer { to: Uid::from_wire(to).ok()?, waits: waits(queued) }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn calls_come_back_as_they_were() {
        let clocks = Clocks { now: Instant::now(), wall_us: 1_795_287_162_000_000 };
        let object = Uid::parse("o").unwrap();
        let about = About {
            started: clocks.now - Duration::from_millis(3),
            deadline: clocks.now + Duration::from_secs(9),
            format: Format::Json,
        };
        let waits = Waits { position: 1 << 50, bytes: [0x30, 0xff, 0x80].into() };
        let calls = [
            PendingCall::ToObject { object, number: 0, central_number: 65_535, about, waits: None },
            PendingCall::ToObject { object, number: 7, central_number: 7, about, waits: Some(waits.clone()) },
            PendingCall::ToCentral { object, number: 1, way: Way::Webhook, about, waits: None },
            PendingCall::ToCentral {
                object,
                number: 1,
                way: Way::Session,
                about,
                waits: Some(waits.clone()),
            },
            PendingCall::Answer { to: Uid::CENTRAL, waits },
        ];
        for call in calls {
            let bytes = encode(call.clone(), clocks);
            assert_eq!(decode(&bytes, clocks), Some(call));
            assert_eq!(decode(&bytes[..bytes.len() - 1], clocks), None);
        }
        assert_eq!(decode(&[], clocks), None);
    }

    /// What is on flash today is read by every later version.
    #[test]
    fn the_bytes_stay_as_they_are() {
        let clocks = Clocks { now: Instant::now(), wall_us: 1_000 };
        let about = About {
            started: clocks.now,
            deadline: clocks.now + Duration::from_micros(24),
            format: Format::Json,
        };
        let waits = Some(Waits { position: 300, bytes: [1, 2].into() });
        let object = Uid::parse("o").unwrap();
        let call = PendingCall::ToObject { object, number: 5, central_number: 6, about, waits };
        let head = [&[0; 16][..], b"o", &[5, 6]].concat();
        assert_eq!(
            encode(call, clocks),
            [&head, &[0xd0, 0x0f, 0x80, 0x10, 0x0a, 1, 0xac, 2, 2, 1, 2][..]].concat()
        );
    }
}
