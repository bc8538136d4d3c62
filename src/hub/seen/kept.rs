//! What is learned of objects, for the next run. Kept by a file of its own: it is too large for the journal's small state,
//! and losing an hour of it costs nothing but that hour.

use serde::{Deserialize, Serialize};

use super::habit::Habit;
use super::{Heard, Object, Seen};
use crate::wire::{GroupName, NAME_LEN, Uid};

/// Bytes of the checksum ahead of everything.
const CHECK_LEN: usize = 4;
const SECOND_US: f64 = 1e6;

/// What a file holds; a changed one is a variant more.
#[derive(Serialize, Deserialize)]
enum Versions {
    V1(Kept),
}

#[derive(Serialize, Deserialize)]
struct Kept {
    /// When it was taken, in microseconds since 1970, if the clock was right.
    taken_us: Option<i64>,
    objects: Vec<KeptObject>,
}

#[derive(Serialize, Deserialize)]
struct KeptObject {
    uid: [u8; NAME_LEN],
    habit: Habit,
    /// How long ago it said something, in seconds.
    gap: Option<f32>,
    /// When it was heard of, in microseconds since 1970.
    heard_us: Option<i64>,
}

/// All objects as they were at a moment.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) objects: Vec<Object>,
    pub(super) now: f64,
    /// What time that was, in microseconds since 1970, if the clock is right.
    pub taken_us: Option<i64>,
}

impl Snapshot {
    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let objects = self.objects.iter().map(|object| KeptObject {
            uid: object.uid.to_wire(),
            habit: object.habit,
            gap: object.said.map(|said| (self.now - said) as f32),
            heard_us: self.heard_us(object),
        });
        let version = Versions::V1(Kept { taken_us: self.taken_us, objects: objects.collect() });
        // Only running out of memory could fail here; everything is learned anew then.
        let body = postcard::to_stdvec(&version).unwrap_or_default();
        [&crc32c::crc32c(&body).to_le_bytes()[..], &body].concat()
    }

    fn heard_us(&self, object: &Object) -> Option<i64> {
        match object.heard? {
            Heard::Here(moment) => {
                Some(self.taken_us?.saturating_sub(((self.now - moment) * SECOND_US) as i64))
            }
            Heard::Before(us) => Some(us),
        }
    }
}

impl Seen {
    /// Goes on with what an earlier run learned of the objects that have a group; `false`: these are no such bytes. To be
    /// called at the start. `now_us`: microseconds since 1970, if the clock is right; `is_told`: it is told of this object
    /// that it is silent, and `is_out` that most are.
    pub fn restore(
        &mut self,
        bytes: &[u8],
        now_us: Option<i64>,
        group: impl Fn(Uid) -> Option<GroupName>,
        is_told: impl Fn(Uid) -> bool,
        is_out: bool,
    ) -> bool {
        let Some(Kept { taken_us, objects }) = decode(bytes) else { return false };
        let away_us = taken_us.zip(now_us).map(|(taken_us, now_us)| now_us.saturating_sub(taken_us));
        for kept in objects.into_iter().filter(|kept| kept.habit.is_sound()) {
            let Ok(uid) = Uid::from_wire(kept.uid) else { continue };
            let Some(group) = group(uid) else { continue };
            let is_told = is_told(uid);
            let Some((object, _)) = self.object(uid, group) else { return true };
            object.habit = kept.habit;
            if let Some(away_us) = away_us {
                object.habit.was_cut_off(away_us.max(0) as f64 / SECOND_US);
            }
            object.heard = object.heard.or(kept.heard_us.map(Heard::Before));
            // The time in which nothing ran is none in which anybody was silent.
            let gap = kept.gap.map(|gap| f64::from(gap).max(0.0));
            object.is_told = is_told && gap.is_some();
            let told_after = object.habit.silent_after().filter(|_| is_told).unwrap_or_default();
            object.said = object.said.or(gap.map(|gap| -gap.max(told_after)));
        }
        self.is_out = vec![is_out];
        true
    }
}

fn decode(bytes: &[u8]) -> Option<Kept> {
    let (check, body) = bytes.split_first_chunk::<CHECK_LEN>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*check) {
        return None;
    }
    let Versions::V1(kept) = postcard::from_bytes(body).ok()?;
    Some(kept)
}
